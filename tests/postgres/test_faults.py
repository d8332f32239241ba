"""Every fault that the lab can plant, on real servers: the audit names what was broken, where, and nothing else."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from replcheck.audit.options import Level
from replcheck.errors import NodeUnfit, NodeUnreachable
from replcheck.lab.cluster import LabCluster
from replcheck.lab.faults import FAULTS, apply_fault, heal
from replcheck.lab.planted import PlantedFault
from replcheck.model.audit import AuditResult, DifferenceKind, Divergence
from replcheck.model.outcome import ExitStatus, Verdict
from replcheck.postgres.server import LocalServer
from replcheck.report.verdict import outcome_of
from tests.auditing import divergences_of, notes_of, parts_of, relation_of, run_audit_of, targets_of
from tests.conftest import MakeCluster
from tests.labs import majors

BROKEN = "standby2"
HEALTHY = "standby1"
DATABASE = "postgres"
SEED = 11

ROW_FAULTS = (
    *("flip-row-bytes", "lose-row", "hide-row", "invent-row", "swap-rows", "zero-page", "lost-write", "truncate-file"),
    *("corrupt-toast", "sequence-behind"),
)
"""Faults that nothing but a comparison notices."""
UNREADABLE_FAULTS = ("flip-page-bytes", "break-page-header", "missing-file", "lose-toast-chunk")
DELAYS = {
    "pause-replay": "its replay is paused",
    "cut-connection": "it receives no WAL",
    "delay-apply": "it is delayed on purpose",
}
"""Faults that hold a standby back, with what the audit says of them."""
ABSENCES = ("kill-server", "stop-server")
PROMOTIONS = ("promote", "split-brain")
ON_EVERY_MAJOR = ("flip-row-bytes", "lose-row", "lost-write", "zero-page")

SHARED_CATALOG = "pg_catalog.pg_shdescription"
LARGE_ROWS = 60_000
"""Enough for a relation that is read in one sweep, cut into parts."""
_TABLE = """
    create table planted.{name} (id int primary key, content text, weight numeric, scan bytea) with (fillfactor = 90);
    alter table planted.{name} alter column scan set storage external;
    insert into planted.{name}
    select i, 'content ' || md5(i::text), i * 0.5,
           case when i % 50 = 0 then decode(repeat(md5(i::text), 300), 'hex') end
    from generate_series(1, {rows}) i
"""


def table_of(fault: str) -> str:
    return f"planted.{fault.replace('-', '_')}"


def make_tables(server: LocalServer, faults: Iterable[str]) -> None:
    """Make a relation for each fault, and one that no fault touches; one is large."""
    server.execute("create schema planted")
    for fault in ("none", *faults):
        if fault == "sequence-behind":
            server.execute(f"create sequence {table_of(fault)}")
            server.execute("select setval(%s, 5000)", [table_of(fault)])
            continue
        rows = LARGE_ROWS if fault == "flip-row-bytes" else 1500
        for statement in _TABLE.format(name=fault.replace("-", "_"), rows=rows).split(";"):
            server.execute(statement)
    # Rows hinted and frozen now leave nothing for an audit's reads, or a vacuum, to write later.
    server.execute("vacuum (freeze, analyze)")
    server.execute("checkpoint")


def exit_status(result: AuditResult) -> ExitStatus:
    return outcome_of(result).exit_status


def found_by(result: AuditResult) -> list[str]:
    """Return what the audit accuses, in words for a failing assertion."""
    return [f"{found.node} {found.relation} {found.kind.value} {found.count}" for found in result.divergences]


def covers(divergence: Divergence, block: int, offset: int | None) -> bool:
    """Return whether the divergence names a tuple position, or a tuple of a block."""
    for found in divergence.ranges:
        first, last = (found.first_block, found.first_offset), (found.last_block, found.last_offset)
        if offset is None and first[0] <= block <= last[0]:
            return True
        if offset is not None and first <= (block, offset) <= last:
            return True
    return False


def assert_found(result: AuditResult, planted: PlantedFault, *, node: str | None = None) -> None:
    """Check that the audit found the fault as it was predicted, of the node it was done to and of no other."""
    assert planted.relation is not None
    mine = [found for found in result.divergences if found.relation == planted.relation]
    assert mine, f"{planted.fault} was missed: {result.verdict} {found_by(result)} {result.not_checked}"
    assert {found.node for found in mine} == {node or planted.node}
    assert {found.database for found in mine} == {planted.database}
    kinds = {found.kind for found in mine}
    assert planted.kind in kinds
    assert kinds <= {planted.kind} | planted.also
    main = next(found for found in mine if found.kind is planted.kind)
    assert main.sqlstate == planted.sqlstate
    assert not main.capped
    if planted.rows is not None:
        assert main.count == planted.rows
    if planted.block is not None:
        assert all(covers(found, planted.block, None) for found in mine)
        assert covers(main, planted.block, planted.offset)
    if planted.offset is not None and planted.rows == 1:
        assert [str(ctids) for ctids in main.ranges] == [f"({planted.block},{planted.offset})"]
    if planted.sqlstate is not None and planted.block is not None and planted.fault != "lose-toast-chunk":
        assert main.block == planted.block


def assert_only_accused(result: AuditResult, planted: PlantedFault, healthy: str = HEALTHY) -> None:
    """Check the relation's verdict on each replica."""
    assert planted.relation is not None
    schema, name = parts_of(planted.relation)
    relation = relation_of(result, f"{schema}.{name}")
    verdicts = {replica.node: replica.verdict for replica in relation.replicas}
    assert verdicts == {healthy: Verdict.CONSISTENT, planted.node: Verdict.DIVERGED}
    assert relation.verdict is Verdict.DIVERGED


def assert_shown(cluster: LabCluster, result: AuditResult) -> None:
    """Check that the queries of a report show the rows that they are about, where these can be read."""
    for found in result.divergences:
        if found.kind is not DifferenceKind.UNREADABLE:
            has_them = BROKEN if found.kind is DifferenceKind.EXTRA else "primary"
            assert len(cluster.nodes[has_them].execute(found.query, dbname=DATABASE)) >= found.count


def assert_consistent(result: AuditResult) -> None:
    assert found_by(result) == []
    assert result.verdict is Verdict.CONSISTENT, (result.not_checked, result.findings)
    assert exit_status(result) is ExitStatus.PROVEN
    assert result.odd_node is None
    assert {replica.verdict for replica in result.replicas} == {Verdict.CONSISTENT}


@dataclass(frozen=True, slots=True)
class Wounded:
    """A cluster one of whose standbys has every fault of its rows at once, each in a relation of its own."""

    cluster: LabCluster
    before: AuditResult
    planted: dict[str, PlantedFault]


@pytest.fixture(scope="module")
def wounded(clusters_root: Path, newest_major: int) -> Iterator[Wounded]:
    faults = (*ROW_FAULTS, *UNREADABLE_FAULTS)
    with LabCluster.create(clusters_root, name=f"wounded_{os.getpid()}", major=newest_major) as cluster:
        make_tables(cluster.primary, faults)
        cluster.primary.execute("comment on role postgres is 'superuser'")
        cluster.primary.execute("vacuum (freeze) pg_shdescription")
        cluster.catch_up()
        before, _ = run_audit_of(cluster)
        planted = {
            fault: apply_fault(cluster, fault, node=BROKEN, relation=table_of(fault), seed=SEED) for fault in faults
        }
        cluster.catch_up()
        yield Wounded(cluster, before, planted)


def test_before_anything_is_broken_everything_is_consistent(wounded: Wounded) -> None:
    assert_consistent(wounded.before)


@pytest.mark.parametrize("fault", [*ROW_FAULTS, *UNREADABLE_FAULTS])
def test_a_fault_is_found_where_it_was_planted_and_nowhere_else(wounded: Wounded, fault: str) -> None:
    planted = wounded.planted[fault]
    result, _ = run_audit_of(wounded.cluster, databases=(DATABASE,), tables=(table_of(fault), "planted.none"))
    assert_found(result, planted)
    assert_only_accused(result, planted)
    assert {found.relation for found in result.divergences} == {planted.relation}
    assert relation_of(result, "planted.none").verdict is Verdict.CONSISTENT
    assert exit_status(result) is ExitStatus.REFUTED
    assert {replica.node.name: replica.verdict for replica in result.replicas} == {
        HEALTHY: Verdict.CONSISTENT,
        BROKEN: Verdict.DIVERGED,
    }
    assert_shown(wounded.cluster, result)
    # A sequence is compared with each replica by its bounds: that says of nobody that he stands alone.
    assert result.odd_node == (None if fault == "sequence-behind" else BROKEN)


@pytest.mark.parametrize("level", ["fast", "strong"])
def test_every_level_finds_what_was_broken(wounded: Wounded, level: str) -> None:
    faults = ("flip-row-bytes", "lose-row", "swap-rows", "zero-page", "corrupt-toast", "break-page-header")
    tables = tuple(table_of(fault) for fault in faults)
    result, _ = run_audit_of(
        wounded.cluster, databases=(DATABASE,), tables=(*tables, "planted.none"), level=Level(level)
    )
    for fault in faults:
        assert_found(result, wounded.planted[fault])
        assert_only_accused(result, wounded.planted[fault])
    assert relation_of(result, "planted.none").verdict is Verdict.CONSISTENT


@pytest.mark.parametrize("jobs", [1, 3])
def test_all_faults_are_found_in_one_audit_of_everything(wounded: Wounded, jobs: int) -> None:
    result, _ = run_audit_of(wounded.cluster, jobs=jobs)
    for planted in wounded.planted.values():
        assert_found(result, planted)
        assert_only_accused(result, planted)
    assert {found.relation for found in result.divergences} == {one.relation for one in wounded.planted.values()}
    assert {found.node for found in result.divergences} == {BROKEN}
    others = [relation for relation in result.relations if relation.verdict is not Verdict.DIVERGED]
    assert {relation.verdict for relation in others} == {Verdict.CONSISTENT}


def test_with_a_single_replica_nobody_is_called_odd(wounded: Wounded) -> None:
    targets = [target for target in targets_of(wounded.cluster) if target.name != HEALTHY]
    result, _ = run_audit_of(wounded.cluster, targets=targets, databases=(DATABASE,), tables=("planted.lose_row",))
    assert_found(result, wounded.planted["lose-row"])
    assert result.odd_node is None


def test_the_healthy_standby_alone_is_consistent(wounded: Wounded) -> None:
    targets = [target for target in targets_of(wounded.cluster) if target.name != BROKEN]
    result, _ = run_audit_of(wounded.cluster, targets=targets)
    assert_consistent(result)


VERSIONS = [
    pytest.param(
        major,
        checksums,
        id=f"pg{major}-{'checksums' if checksums else 'no_checksums'}",
        marks=() if checksums == bool(number % 2) else pytest.mark.long,
    )
    for number, major in enumerate(majors())
    for checksums in (True, False)
]
"""Each major; with checksums or without in turn, the other for the long run (the newest has them above)."""


@pytest.mark.parametrize(("major", "checksums"), VERSIONS)
def test_a_broken_standby_is_found_and_a_healed_one_is_consistent(
    make_cluster: MakeCluster, major: int, checksums: bool
) -> None:
    cluster = make_cluster(major=major, checksums=checksums)
    faults = (*ON_EVERY_MAJOR, *(() if checksums else ("flip-page-bytes",)))
    make_tables(cluster.primary, faults)
    cluster.catch_up()
    before, _ = run_audit_of(cluster)
    assert_consistent(before)
    planted = [apply_fault(cluster, fault, node=BROKEN, relation=table_of(fault), seed=SEED) for fault in faults]
    cluster.catch_up()
    result, _ = run_audit_of(cluster, databases=(DATABASE,))
    for one in planted:
        assert_found(result, one)
        assert_only_accused(result, one)
    assert {found.relation for found in result.divergences} == {one.relation for one in planted}
    assert result.odd_node == BROKEN
    assert exit_status(result) is ExitStatus.REFUTED
    heal(cluster)
    cluster.catch_up()
    after, _ = run_audit_of(cluster, databases=(DATABASE,))
    assert_consistent(after)


def test_where_the_primary_is_the_broken_copy_it_is_named(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = make_cluster(major=newest_major)
    faults = ("flip-on-primary", "lose-row", "invent-row", "zero-page", "break-page-header")
    make_tables(cluster.primary, faults)
    cluster.catch_up()
    planted = [apply_fault(cluster, fault, node="primary", relation=table_of(fault), seed=SEED) for fault in faults]
    cluster.catch_up()
    result, _ = run_audit_of(cluster, databases=(DATABASE,))
    assert result.odd_node == "primary"
    assert exit_status(result) is ExitStatus.REFUTED
    # Of the node that stands alone is told what it lacks or has too much, not what the replicas do.
    for one in planted:
        assert_found(result, one.seen_from_replicas())
    assert {found.relation for found in result.divergences} == {one.relation for one in planted}
    targets = targets_of(cluster)[:2]
    alone, _ = run_audit_of(cluster, targets=targets, databases=(DATABASE,))
    assert alone.odd_node is None
    for one in planted:
        assert_found(alone, one, node="primary" if one.kind is DifferenceKind.UNREADABLE else HEALTHY)


@pytest.mark.parametrize(
    "relation", ["pg_catalog.pg_description", "pg_catalog.pg_largeobject", "planted.ledger_1", "planted.totals"]
)
def test_rows_are_missed_in_every_kind_of_relation(shaken: LabCluster, relation: str) -> None:
    planted = apply_fault(shaken, "lose-row", node=BROKEN, relation=relation, seed=SEED)
    shaken.catch_up()
    result, _ = run_audit_of(shaken, databases=(DATABASE,))
    assert_found(result, planted)
    assert {found.relation for found in result.divergences} == {planted.relation}
    assert result.odd_node == BROKEN
    recover(shaken)


@pytest.fixture
def shaken(shaken_by_all: LabCluster) -> Iterator[LabCluster]:
    """A cluster whose standby2 is held back, lost or promoted, and healed again after each test, failed ones too."""
    yield shaken_by_all
    heal(shaken_by_all)


@pytest.fixture(scope="module")
def shaken_by_all(clusters_root: Path, newest_major: int) -> Iterator[LabCluster]:
    """The same, for all of them."""
    with LabCluster.create(clusters_root, name=f"shaken_{os.getpid()}", major=newest_major) as cluster:
        make_tables(cluster.primary, ("index-mismatch", "split-brain"))
        for statement in (
            "create table planted.ledger (id int, entry text) partition by hash (id)",
            "create table planted.ledger_0 partition of planted.ledger for values with (modulus 2, remainder 0)",
            "create table planted.ledger_1 partition of planted.ledger for values with (modulus 2, remainder 1)",
            "insert into planted.ledger select i, md5(i::text) from generate_series(1, 1000) i",
            "create materialized view planted.totals as select id % 10, count(*) from planted.ledger group by 1",
            "select lo_from_bytea(0, decode(repeat('ab', 3000), 'hex')) from generate_series(1, 20)",
            "vacuum (freeze)",
        ):
            cluster.primary.execute(statement)
        cluster.catch_up()
        yield cluster


def recover(cluster: LabCluster) -> None:
    """Heal the cluster and show that the audit agrees."""
    heal(cluster)
    cluster.catch_up()
    result, _ = run_audit_of(cluster, databases=(DATABASE,))
    assert_consistent(result)


@pytest.mark.parametrize("fault", DELAYS)
def test_a_standby_that_is_held_back_is_inconclusive_and_accused_of_nothing(shaken: LabCluster, fault: str) -> None:
    apply_fault(shaken, fault, node=BROKEN)
    shaken.primary.execute("update planted.none set weight = weight + 1 where id <= 10")
    result, _ = run_audit_of(shaken, databases=(DATABASE,), replay_wait_s=1.5)
    assert found_by(result) == []
    assert result.odd_node is None
    verdicts = {replica.node.name: replica.verdict for replica in result.replicas}
    assert verdicts == {HEALTHY: Verdict.CONSISTENT, BROKEN: Verdict.INCONCLUSIVE}
    assert exit_status(result) is ExitStatus.PARTIAL
    [note] = [note for note in result.not_checked if not note.by_design]
    assert (note.node, note.code) == (BROKEN, "left_behind")
    assert DELAYS[fault] in note.reason
    assert note.hint
    recover(shaken)


@pytest.mark.parametrize("fault", ABSENCES)
def test_a_standby_that_is_away_is_an_error_that_names_it(shaken: LabCluster, fault: str) -> None:
    targets = targets_of(shaken)
    apply_fault(shaken, fault, node=BROKEN)
    with pytest.raises(NodeUnreachable) as refused:
        run_audit_of(shaken, targets=targets, databases=(DATABASE,))
    assert refused.value.node == BROKEN
    result, _ = run_audit_of(shaken, databases=(DATABASE,))
    assert_consistent(result)
    recover(shaken)


@pytest.mark.parametrize("fault", PROMOTIONS)
def test_a_standby_that_was_promoted_is_no_copy(shaken: LabCluster, fault: str) -> None:
    before = targets_of(shaken)
    relation = table_of(fault) if fault == "split-brain" else None
    apply_fault(shaken, fault, node=BROKEN, relation=relation)
    with pytest.raises(NodeUnfit, match="was given as a replica, but it is a primary") as refused:
        run_audit_of(shaken, targets=before, databases=(DATABASE,))
    assert refused.value.node == BROKEN
    result, _ = run_audit_of(
        shaken, targets=[target for target in before if target.name != BROKEN], databases=(DATABASE,)
    )
    assert_consistent(result)
    recover(shaken)


def test_an_index_is_no_part_of_the_proof(shaken: LabCluster) -> None:
    planted = apply_fault(shaken, "index-mismatch", node=BROKEN, relation=table_of("index-mismatch"), seed=SEED)
    shaken.catch_up()
    result, _ = run_audit_of(shaken, databases=(DATABASE,))
    assert planted.kind is None
    assert_consistent(result)
    assert notes_of(result, "index_mismatch") == []
    assert divergences_of(result, "index_mismatch") == []
    recover(shaken)


def test_every_fault_is_audited() -> None:
    audited = {*ROW_FAULTS, *UNREADABLE_FAULTS, *DELAYS, *ABSENCES, *PROMOTIONS, "index-mismatch", "flip-on-primary"}
    assert audited == set(FAULTS) - {"break-archive", "freeze-stream", "hang-server"}
