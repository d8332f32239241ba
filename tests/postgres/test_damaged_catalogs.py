"""Catalogs of one database that one node cannot read: that database is named for it, and no other suffers."""

from collections.abc import Sequence
from random import Random

import pytest

from replcheck.errors import StatementFailed
from replcheck.lab.cluster import LabCluster
from replcheck.lab.pages import HEADER_SIZE, PAGE_SIZE, with_bounds
from replcheck.lab.rows import prepared
from replcheck.lab.surgery import Site, describe, heap, settle, stopped
from replcheck.model.audit import DifferenceKind
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Verdict
from replcheck.postgres.catalog import read_tokens
from replcheck.postgres.session import Session
from replcheck.report.verdict import sentence
from tests.conftest import MakeCluster
from tests.staged import Staged, audit, targets_of, value

WARDS = ("north", "south", "west")
DAMAGED = "south"


@pytest.fixture
def wards(make_cluster: MakeCluster, newest_major: int) -> LabCluster:
    """A cluster with three databases of 60 tables, each with a sequence."""
    cluster = make_cluster(major=newest_major)
    for database in WARDS:
        cluster.create_database(database)
        cluster.primary.execute(
            "do $$ begin for i in 1..60 loop execute format('create table t%s as select g as id from"
            " generate_series(1, 20) g', i); end loop; create sequence ticket; end $$",
            dbname=database,
        )
    cluster.catch_up()
    return cluster


def break_pages(cluster: LabCluster, node: str, catalog: str, *, first: bool = False) -> None:
    """Make a page of a catalog of one database unreadable on a node: the first, or the last, which is the users'."""
    site = Site(cluster=cluster, node=cluster.node(node), database=DAMAGED, relation=catalog, rng=Random(0))
    stored = prepared(site)
    with stopped(site):
        files = heap(site, stored)
        block = 0 if first else files.blocks - 1
        files.write(block, with_bounds(files.read(block), lower=PAGE_SIZE - 1, upper=HEADER_SIZE))
        for cached in (cluster.node(node).data_dir / stored.path).parent.glob("pg_internal.init*"):
            cached.unlink()


def audited(cluster: LabCluster, targets: Sequence[NodeTarget] | None = None) -> Staged:
    return audit(cluster, "", targets=targets, databases=WARDS, jobs=2)


def verdicts(run: Staged, database: str) -> dict[str, set[Verdict]]:
    found: dict[str, set[Verdict]] = {}
    for relation in run.result.relations:
        if relation.database == database:
            for replica in relation.replicas:
                found.setdefault(replica.node, set()).add(replica.verdict)
    return found


def assert_only_that_database_suffers(run: Staged, node: str) -> None:
    assert run.verdict is Verdict.DIVERGED
    assert {(found.database, found.node, found.kind) for found in run.result.divergences} == {
        (DAMAGED, node, DifferenceKind.UNREADABLE)
    }
    for database in WARDS:
        if database != DAMAGED:
            assert verdicts(run, database) == {name: {Verdict.CONSISTENT} for name in ("standby1", "standby2")}
    assert {(note.database, note.node) for note in run.result.not_checked} <= {(DAMAGED, node)}


@pytest.mark.parametrize(
    ("catalog", "first"),
    [
        ("pg_catalog.pg_class", False),
        ("pg_catalog.pg_attribute", False),
        ("pg_catalog.pg_class", True),
        ("pg_catalog.pg_attribute", True),
        ("pg_catalog.pg_proc", True),
        ("pg_catalog.pg_namespace", True),
    ],
)
def test_a_damaged_catalog_of_a_standby_costs_that_database_alone(wards: LabCluster, catalog: str, first: bool) -> None:
    break_pages(wards, "standby1", catalog, first=first)
    run = audited(wards)
    assert_only_that_database_suffers(run, "standby1")
    assert verdicts(run, DAMAGED)["standby2"] == {Verdict.CONSISTENT}
    [found] = run.result.divergences
    assert (found.relation, found.sqlstate) == (catalog, "XX001")
    assert verdicts(run, DAMAGED)["standby1"] == {Verdict.UNCHECKED}
    assert run.replica("standby1").verdict is Verdict.DIVERGED
    assert run.replica("standby2").verdict is Verdict.CONSISTENT
    assert run.replica("standby1").reason == "it cannot read the catalogs of database south"
    assert run.result.odd_node == "standby1"
    assert sentence(run.result).startswith("standby1 is not a copy of primary: ")


def test_a_catalog_whose_file_is_missing_costs_that_database_alone(wards: LabCluster) -> None:
    site = Site(
        cluster=wards, node=wards.node("standby1"), database=DAMAGED, relation="pg_catalog.pg_enum", rng=Random(0)
    )
    stored = describe(site, "pg_catalog.pg_enum")
    settle(site, None)
    with stopped(site):
        heap(site, stored).unlink()
    run = audited(wards)
    assert_only_that_database_suffers(run, "standby1")
    assert {(found.relation, found.sqlstate) for found in run.result.divergences} == {("pg_catalog.pg_enum", "58P01")}


@pytest.mark.parametrize("first", [False, True])
def test_with_a_single_replica_the_primary_shows_that_it_can_be_read(wards: LabCluster, first: bool) -> None:
    break_pages(wards, "standby1", "pg_catalog.pg_class", first=first)
    run = audited(wards, [target for target in targets_of(wards) if target.name != "standby2"])
    assert run.verdict is Verdict.DIVERGED
    assert [(found.database, found.relation, found.node) for found in run.result.divergences] == [
        (DAMAGED, "pg_catalog.pg_class", "standby1")
    ]
    assert run.result.odd_node is None
    assert verdicts(run, "west") == verdicts(run, "north") == {"standby1": {Verdict.CONSISTENT}}


@pytest.mark.parametrize("first", [False, True])
def test_where_the_primary_cannot_read_its_own_it_is_the_broken_copy(wards: LabCluster, first: bool) -> None:
    break_pages(wards, "primary", "pg_catalog.pg_class", first=first)
    run = audited(wards)
    assert [(found.database, found.relation, found.node) for found in run.result.divergences] == [
        (DAMAGED, "pg_catalog.pg_class", "primary")
    ]
    assert run.verdict is Verdict.DIVERGED
    assert run.result.odd_node == "primary"
    for database in ("north", "west"):
        assert verdicts(run, database) == {name: {Verdict.CONSISTENT} for name in ("standby1", "standby2")}
    assert {(note.database, note.code) for note in run.result.not_checked} == {(DAMAGED, "catalog_damage")}


def test_what_nobody_can_read_is_unchecked_and_accuses_nobody(wards: LabCluster) -> None:
    for node in ("standby1", "standby2", "primary"):
        break_pages(wards, node, "pg_catalog.pg_class")
    run = audited(wards)
    assert run.result.divergences == ()
    assert run.verdict is Verdict.UNCHECKED
    assert {note.database for note in run.result.not_checked} == {DAMAGED}
    assert verdicts(run, "west") == {name: {Verdict.CONSISTENT} for name in ("standby1", "standby2")}


def fail_to_read_definitions(monkeypatch: pytest.MonkeyPatch, cluster: LabCluster, node: str, times: int) -> None:
    """Have a node fail so often to read what relations are made of, in one database and after the plan."""
    oid, left = value(cluster.primary, "select oid::int8 from pg_database where datname = %s", DAMAGED), [times]

    async def read(session: Session, oids: Sequence[int]) -> dict[int, int]:
        [(here,)] = await session.fetch("select oid::int8 from pg_database where datname = current_database()")
        if (session.node, here) == (node, oid) and left[0]:
            left[0] -= 1
            detail = f'invalid page in block 3 of relation "base/{oid}/1249"'
            raise StatementFailed(f"refused: {detail}", node=node, sqlstate="XX001", detail=detail, block=3)
        return await read_tokens(session, oids)

    monkeypatch.setattr("replcheck.audit.worker.read_tokens", read)


@pytest.mark.parametrize("node", ["standby1", "primary"])
def test_damage_that_shows_after_the_plan_costs_that_database_alone(
    wards: LabCluster, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    fail_to_read_definitions(monkeypatch, wards, node, times=1000)
    run = audited(wards)
    assert [(found.database, found.relation, found.node) for found in run.result.divergences] == [
        (DAMAGED, "pg_catalog.pg_attribute", node)
    ]
    for database in ("north", "west"):
        assert verdicts(run, database) == {name: {Verdict.CONSISTENT} for name in ("standby1", "standby2")}
    assert {(note.database, note.code) for note in run.result.not_checked} <= {
        (DAMAGED, "catalog_damage"),
        (DAMAGED, "sequence_unread"),
    }


@pytest.mark.parametrize("node", ["standby1", "primary"])
def test_catalogs_that_could_not_be_read_once_accuse_nobody(
    wards: LabCluster, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    fail_to_read_definitions(monkeypatch, wards, node, times=1)
    audited(wards).assert_consistent()
