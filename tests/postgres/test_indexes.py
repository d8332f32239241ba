"""`--indexes` on real servers: broken indexes are found and named, sound ones are not, what was not asked is told."""

import asyncio
import itertools
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from replcheck.audit.auditor import audit_cluster
from replcheck.audit.cluster import Cluster
from replcheck.audit.digest import new_hasher
from replcheck.audit.index_checks import NodeChecker
from replcheck.audit.index_verdicts import IndexState
from replcheck.audit.options import AuditOptions
from replcheck.audit.preflight import connect_nodes
from replcheck.events import Event, IndexChecked, IndexesListed
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.lab.faults import apply_fault, heal
from replcheck.lab.schema import create_schema
from replcheck.lab.workload import MixedWorkload
from replcheck.model.audit import AuditResult, DifferenceKind, IndexReport
from replcheck.model.outcome import ExitStatus, Outcome, Verdict
from replcheck.postgres.amcheck import Amcheck, IndexFault, check_index, read_indexes
from replcheck.postgres.catalog import read_relations
from replcheck.postgres.local import connect
from replcheck.postgres.session import Session
from replcheck.report.verdict import outcome_of, sentence
from tests.auditing import run_audit_of, server_errors, targets_of
from tests.commands import run_command
from tests.conftest import MakeCluster
from tests.labs import majors

GRANT = f"grant execute on function {{}}.bt_index_check(regclass, boolean) to {AUDIT_ROLE}"
TABLES = (
    "create table entry (id int primary key, word text, scan text)",
    (
        "insert into entry select i, md5(i::text), case when i % 100 = 0 then repeat(md5(i::text), 400) end"
        " from generate_series(1, 3000) i"
    ),
    "create index entry_word on entry (word)",
    "create index entry_upper on entry (upper(word)) where id > 100",
    "create index entry_hash on entry using hash (word)",
    "create unlogged table passing (id int primary key)",
    "alter table entry alter column scan set storage external",
)


def prepare(cluster: LabCluster, database: str, *, schema: str = "public") -> None:
    """Make tables with indexes, and amcheck with the grant that the audit's role needs."""
    for statement in (
        *TABLES,
        f'create extension amcheck schema "{schema}"',
        GRANT.format(f'"{schema}"'),
        f'grant usage on schema "{schema}" to {AUDIT_ROLE}',
    ):
        cluster.primary.execute(statement, [], database)
    cluster.catch_up()


def audit(cluster: LabCluster, database: str, **options: Any) -> AuditResult:
    result, _ = run_audit_of(cluster, databases=(database,), indexes=True, **options)
    return result


def index_of(result: AuditResult, name: str) -> IndexReport:
    [found] = [index for index in result.indexes if index.name == name]
    return found


def verdicts(index: IndexReport) -> dict[str, Verdict]:
    return {node.node: node.verdict for node in index.nodes}


def status(result: AuditResult) -> ExitStatus:
    return outcome_of(result).exit_status


def test_sound_indexes_are_checked_on_every_node(cluster: LabCluster, database: str) -> None:
    cluster.primary.execute('create schema "amcheck""s"', [], database)
    prepare(cluster, database, schema='amcheck""s')
    with server_errors(cluster) as logged:
        result, events = run_audit_of(cluster, databases=(database,), indexes=True)
    assert status(result) is ExitStatus.PROVEN, sentence(result)
    nodes = {"primary", "standby1", "standby2"}
    assert all(verdicts(index) == dict.fromkeys(nodes, Verdict.CONSISTENT) for index in result.indexes)
    names = {index.name for index in result.indexes}
    assert {"public.entry_pkey", "public.entry_word", "public.entry_upper"} <= names
    assert "pg_catalog.pg_class_oid_index" in names
    [toast] = [index for index in result.indexes if index.relation == "public.entry" and "pg_toast" in index.name]
    assert toast.verdict is Verdict.CONSISTENT
    [hashed] = [note for note in result.not_checked if note.code == "index_method"]
    assert (hashed.relation, hashed.by_design, hashed.node) == ("public.entry_hash", True, None)
    assert not any("passing" in name for name in names)
    checked = {(event.index, event.node) for event in events if isinstance(event, IndexChecked)}
    assert checked == {(name, node) for name in names for node in nodes}
    assert [event.indexes for event in events if isinstance(event, IndexesListed)] == [len(names)]
    assert f"{len(names)} indexes match their tables on every node" in sentence(result)
    assert logged == []


def test_only_tables_in_scope_have_their_indexes_checked(cluster: LabCluster, database: str) -> None:
    prepare(cluster, database)
    cluster.primary.execute("create table other (id int primary key)", [], database)
    result = audit(cluster, database, tables=("public.*",), excludes=("public.other",))
    assert {index.relation for index in result.indexes} == {"public.entry"}
    result, _ = run_audit_of(cluster, databases=(database,), tables=("public.*",))
    assert result.indexes == ()
    assert not result.scope.indexes


@pytest.mark.parametrize(
    ("statements", "reason", "hint"),
    [
        ((), "not installed", "CREATE EXTENSION amcheck; GRANT EXECUTE ON FUNCTION"),
        (("create extension amcheck",), "may not run", 'GRANT EXECUTE ON FUNCTION "public"."bt_index_check"'),
        (("create extension amcheck version '1.0'",), "too old", "ALTER EXTENSION amcheck UPDATE; GRANT"),
    ],
    ids=["no extension", "no grant", "old extension"],
)
def test_what_was_asked_and_cannot_be_done_is_unchecked(
    cluster: LabCluster, database: str, statements: tuple[str, ...], reason: str, hint: str
) -> None:
    for statement in (*TABLES, *statements):
        cluster.primary.execute(statement, [], database)
    result = audit(cluster, database, catalogs=False)
    assert status(result) is ExitStatus.UNCHECKED
    notes = [note for note in result.not_checked if not note.by_design]
    assert {(note.node, note.code, note.database) for note in notes} == {
        (name, "amcheck", database) for name in ("primary", "standby1", "standby2")
    }
    for note in notes:
        assert reason in note.reason
        assert hint in note.hint
        assert f"In database {database}: " in note.hint
    assert all(index.verdict is Verdict.UNCHECKED for index in result.indexes)
    assert all(relation.verdict is Verdict.CONSISTENT for relation in result.relations)
    # The SQL of the hint is all that it takes.
    for statement in notes[0].hint.partition(": ")[2].split("; "):
        cluster.primary.execute(statement.rstrip(";"), [], database)
    cluster.catch_up()
    assert status(audit(cluster, database, catalogs=False)) is ExitStatus.PROVEN


def test_the_command_ends_with_status_3_and_the_sql_that_is_missing(
    cluster: LabCluster, database: str, tmp_path: Path
) -> None:
    dsns = {name: cluster.audit_dsn(name, database) for name in ("primary", "standby1")}
    ended = run_command(
        *("audit", "--primary", dsns["primary"], "--replica", dsns["standby1"], "--indexes", "--no-store"),
        *("--database", database, "--quiet"),
        home=tmp_path,
    )
    assert ended.status == 3, ended
    assert "UNCHECKED" in ended.out
    assert "CREATE EXTENSION amcheck; GRANT EXECUTE ON FUNCTION" in " ".join(ended.out.split())


def test_without_indexes_in_scope_nothing_is_asked_for(cluster: LabCluster, database: str) -> None:
    cluster.primary.execute("create table plain (id int)", [], database)
    cluster.catch_up()
    result = audit(cluster, database, tables=("public.plain",))
    assert status(result) is ExitStatus.PROVEN


def test_an_invalid_index_is_told_and_accuses_nobody(cluster: LabCluster, database: str) -> None:
    prepare(cluster, database)
    cluster.primary.execute("create table twice (id int)", [], database)
    cluster.primary.execute("insert into twice values (1), (1)", [], database)
    with pytest.raises(Exception, match="23505"):
        cluster.primary.execute("create unique index concurrently twice_once on twice (id)", [], database)
    cluster.catch_up()
    result = audit(cluster, database, catalogs=False)
    assert status(result) is ExitStatus.PROVEN
    [finding] = [found for found in result.findings if found.code == "invalid_index"]
    assert "public.twice_once" in finding.what
    assert not [index for index in result.indexes if index.name == "public.twice_once"]


def test_an_index_whose_functions_fail_is_unchecked_and_tells_no_value(cluster: LabCluster, database: str) -> None:
    prepare(cluster, database)
    for statement in (
        "create function public.picky(int) returns int language sql immutable as 'select 100 / ($1 - 7)'",
        "create table odd (id int)",
        "create index odd_picky on odd (public.picky(id))",
        "insert into odd values (8)",
        (
            "create or replace function public.picky(int) returns int language plpgsql immutable as"
            " $$begin raise exception 'canary %', $1; end$$"
        ),
    ):
        cluster.primary.execute(statement, [], database)
    cluster.catch_up()
    result = audit(cluster, database, catalogs=False)
    assert status(result) is ExitStatus.UNCHECKED
    notes = [note for note in result.not_checked if note.relation == "public.odd_picky"]
    assert {(note.node, note.code) for note in notes} == {
        (name, "index_refused") for name in ("primary", "standby1", "standby2")
    }
    assert all("P0001" in note.reason for note in notes)
    assert "canary" not in repr(result)
    assert index_of(result, "public.entry_pkey").verdict is Verdict.CONSISTENT


@pytest.fixture(
    scope="module", params=[pytest.param(v, marks=[] if v == majors()[0] else pytest.mark.long) for v in majors()]
)
def broken(clusters_root, request: pytest.FixtureRequest) -> Iterator[LabCluster]:
    """A cluster whose indexes tests break, healed after each."""
    with LabCluster.create(clusters_root, name=f"indexes_{os.getpid()}_{request.param}", major=request.param) as made:
        prepare(made, "postgres")
        made.primary.execute("vacuum (freeze)")
        made.catch_up()
        yield made


def test_an_index_that_lost_an_entry_on_one_standby_is_found_there_and_nowhere_else(broken: LabCluster) -> None:
    apply_fault(broken, "index-mismatch", node="standby2", relation="public.entry", seed=3)
    result = audit(broken, "postgres", catalogs=False)
    assert status(result) is ExitStatus.REFUTED
    [found] = result.divergences
    assert (found.kind, found.node, found.relation) == (DifferenceKind.INDEX, "standby2", "public.entry")
    assert found.sqlstate == "XX001"
    assert "index public.entry_pkey does not know the row at ctid (" in found.what
    [place] = found.ranges
    [(known,)] = broken.nodes["standby2"].execute(
        "select count(*) from public.entry where ctid = %s::tid", [str(place)]
    )
    assert known == 1
    assert found.query.endswith(f"WHERE ctid = '{place}';")
    assert result.odd_node == "standby2"
    states = {replica.node.name: (replica.verdict, replica.reason) for replica in result.replicas}
    assert states == {"standby1": (Verdict.CONSISTENT, ""), "standby2": (Verdict.DIVERGED, "1 index is broken")}
    assert verdicts(index_of(result, "public.entry_pkey")) == {
        "primary": Verdict.CONSISTENT, "standby1": Verdict.CONSISTENT, "standby2": Verdict.DIVERGED
    }  # fmt: skip
    assert [index.name for index in result.indexes if index.verdict is not Verdict.CONSISTENT] == ["public.entry_pkey"]
    assert all(relation.verdict is Verdict.CONSISTENT for relation in result.relations)
    heal(broken)
    broken.catch_up()
    assert status(audit(broken, "postgres", catalogs=False)) is ExitStatus.PROVEN


def test_a_missing_and_an_unreadable_index_file_are_found(broken: LabCluster) -> None:
    [(path,)] = broken.primary.execute("select pg_relation_filepath('public.entry_word')")
    [(other,)] = broken.primary.execute("select pg_relation_filepath('public.entry_upper')")
    standby = broken.nodes["standby1"]
    broken.primary.execute("checkpoint")
    broken.catch_up()
    standby.execute("checkpoint")
    standby.stop()
    (standby.data_dir / path).unlink()
    with (standby.data_dir / other).open("r+b") as file:
        file.seek(8192 + 100)
        file.write(b"\xff" * 64)
    standby.start()
    try:
        result = audit(broken, "postgres", catalogs=False)
    finally:
        broken.copy_anew("standby1")
    indexes = [found for found in result.divergences if found.kind is DifferenceKind.INDEX]
    assert {(found.node, found.sqlstate, found.what.split()[1]) for found in indexes} == {
        ("standby1", "XX002", "public.entry_word"),
        ("standby1", "XX001", "public.entry_upper"),
    }
    assert all("is damaged" in found.what for found in indexes)
    # No query on a table can be planned while the file of an index of it is missing.
    others = [found for found in result.divergences if found not in indexes]
    assert {(found.node, found.relation, found.kind) for found in others} <= {
        ("standby1", "public.entry", DifferenceKind.UNREADABLE)
    }


def test_an_index_that_is_broken_everywhere_refutes_the_run_and_accuses_no_copy(broken: LabCluster) -> None:
    # One that was built while its function said otherwise: the same wrong index on every node.
    for statement in (
        "create function public.lower_case(text) returns text language sql immutable as 'select lower($1)'",
        "create table liar (word text)",
        "insert into liar values ('A'), ('B')",
        "create index liar_word on liar (public.lower_case(word))",
        "create or replace function public.lower_case(text) returns text language sql immutable as 'select upper($1)'",
    ):
        broken.primary.execute(statement)
    broken.catch_up()
    result = audit(broken, "postgres", catalogs=False)
    assert status(result) is ExitStatus.REFUTED
    assert result.divergences == ()
    [finding] = [found for found in result.findings if found.code == "index_broken"]
    assert (finding.node, finding.outcome) == (None, Outcome.REFUTED)
    assert "public.liar_word does not know the row at ctid (0,1), on every node" in finding.what
    assert {replica.verdict for replica in result.replicas} == {Verdict.CONSISTENT}
    assert set(verdicts(index_of(result, "public.liar_word")).values()) == {Verdict.DIVERGED}
    assert "the rows are those of primary, but" in sentence(result)
    broken.primary.execute("drop table liar")
    broken.primary.execute("drop function public.lower_case(text)")
    broken.catch_up()


@pytest.fixture
def endless(broken: LabCluster) -> Iterator[LabCluster]:
    """The same with an index on an expression that sleeps, so that its check takes for ever."""
    for statement in (
        "create function public.slow(int) returns int language sql immutable as 'select $1'",
        "create table slow (id int)",
        "insert into slow values (1)",
        "create index slow_slow on slow (public.slow(id))",
        (
            "create or replace function public.slow(int) returns int language plpgsql immutable as"
            " $$begin perform pg_sleep(300); return $1; end$$"
        ),
    ):
        broken.primary.execute(statement)
    broken.catch_up()
    yield broken
    broken.primary.execute("drop table if exists slow")
    broken.primary.execute("drop function public.slow(int)")
    broken.catch_up()


def test_a_check_yields_to_whoever_waits_for_its_lock(endless: LabCluster) -> None:
    assert asyncio.run(_alter_meanwhile(endless)) < 30


async def _alter_meanwhile(cluster: LabCluster) -> float:
    """Audit until stopped; meanwhile alter the table that is being checked, and return how many seconds that took."""
    stop, events = asyncio.Event(), list[Event]()
    audit_ = asyncio.create_task(
        audit_cluster(
            targets_of(cluster),
            AuditOptions(databases=("postgres",), tables=("public.slow",), indexes=True),
            run_id="test",
            cluster="test",
            emit=events.append,
            stop=stop,
        )
    )
    checking = "select 1 from pg_stat_activity where application_name = 'replcheck indexes' and wait_event = 'PgSleep'"
    while not await asyncio.to_thread(cluster.primary.execute, checking):
        assert not audit_.done()
        await asyncio.sleep(0.05)
    clock = asyncio.get_running_loop().time
    began = clock()
    await asyncio.to_thread(cluster.primary.execute, "alter table slow add column more int")
    took = clock() - began
    stop.set()
    result = await asyncio.wait_for(audit_, 60)
    assert result.stopped
    assert outcome_of(result) is Outcome.UNCHECKED
    assert any(note.code == "stopped" and "indexes not checked" in note.reason for note in result.not_checked)
    return took


def test_a_check_that_takes_too_long_is_cut_off_by_the_server(endless: LabCluster) -> None:
    result = audit(endless, "postgres", tables=("public.slow",), index_timeout_s=1.0)
    assert status(result) is ExitStatus.UNCHECKED
    assert {(note.node, note.code) for note in result.not_checked} == {
        (name, "index_timeout") for name in ("primary", "standby1", "standby2")
    }


def test_healthy_indexes_under_a_load_are_accused_of_nothing(broken: LabCluster) -> None:
    create_schema(broken.primary, "postgres", patients=300)
    with MixedWorkload(broken, seed=4, rate=120, patients=300) as load:
        load.wait_for(100)
        result = audit(broken, "postgres")
    assert result.divergences == ()
    assert not [found for found in result.findings if found.outcome is Outcome.REFUTED]
    assert not [index for index in result.indexes if index.verdict is Verdict.DIVERGED]
    assert sum(index.verdict is Verdict.CONSISTENT for index in result.indexes) > 150


@contextmanager
def busy_queue(cluster: LabCluster) -> Iterator[None]:
    """Work through a queue: rows are taken at one end and put in at the other, and index entries are marked dead.

    After a checkpoint, full page images carry these marks to a standby, whose snapshots may still see the rows.
    """
    stop, primary = threading.Event(), cluster.primary

    def work() -> None:
        with connect(primary.dsn(), node=primary.name) as connection:
            connection.execute("set enable_seqscan = off")
            for turn in itertools.count():
                if stop.is_set():
                    return
                connection.execute(
                    "delete from queue where id in (select id from queue order by id limit 20 for update skip locked)"
                )
                connection.execute(
                    "insert into queue select (select max(id) from queue) + i, repeat('x', 100)"
                    " from generate_series(1, 20) i on conflict do nothing"
                )
                connection.execute("select count(*) from queue where id < (select min(id) + 200 from queue)")
                if turn % 50 == 0:
                    connection.execute("checkpoint")

    with ThreadPoolExecutor() as pool:
        working = [pool.submit(work) for _ in range(3)]
        try:
            yield
        finally:
            stop.set()
            for each in working:
                each.result(timeout=60)


@pytest.mark.long
def test_a_standby_without_feedback_is_accused_of_no_row_that_its_primary_has_forgotten(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    """There amcheck by itself reports a sound index in about every second look."""
    cluster = make_cluster(major=newest_major, standbys=1, feedback=False)
    for statement in (
        "create table queue (id bigint primary key, content text) with (fillfactor = 50)",
        "insert into queue select i, repeat('x', 100) from generate_series(1, 200000) i",
        "create extension amcheck",
        GRANT.format("public"),
    ):
        cluster.primary.execute(statement)
    cluster.catch_up()
    with busy_queue(cluster):
        states, looks = asyncio.run(_check_on_standby(cluster, within_s=60))
    assert [state for state in states if state.fault is not None] == []
    assert {state.lack.code for state in states if state.lack is not None} <= {"index_unsteady", "locked"}
    if max(looks) == 1:
        pytest.skip("amcheck reported no sound index this time, so that there was nothing to look at again")


async def _check_on_standby(cluster: LabCluster, *, within_s: float) -> tuple[list[IndexState], list[int]]:
    """Check the queue's index again and again, on the standby alone, until several reports were looked at again."""
    states, deadline = list[IndexState](), time.monotonic() + within_s
    async with _standby_checks(cluster) as (check, events):
        while time.monotonic() < deadline and sum(event.looks > 1 for event in _checks(events)) < 5:
            states += await check()
    return states, [event.looks for event in _checks(events)]


Check = Callable[[], Awaitable[list[IndexState]]]


@asynccontextmanager
async def _standby_checks(cluster: LabCluster) -> AsyncIterator[tuple[Check, list[Event]]]:
    """Return what checks the queue's index on the standby alone, and what is told of it.

    The primary's own check would hold back what it marks dead meanwhile.
    """
    events, options = list[Event](), AuditOptions(indexes=True)
    nodes = await connect_nodes(targets_of(cluster), options, events.append)
    audited = Cluster(
        primary=nodes[0],
        replicas={"standby1": nodes[1]},
        hasher=new_hasher(options.level),
        options=options,
        emit=events.append,
    )
    control = await nodes[0].control()
    tables = {oid: found for oid, found in (await read_relations(control)).items() if found.name == "queue"}
    indexes = [index for index in (await read_indexes(control, list(tables))).values() if not index.toast]

    async def check() -> list[IndexState]:
        checker = NodeChecker(nodes[1], "postgres", audited)
        await checker.check(indexes, tables)
        await checker.close()
        assert checker.lack is None
        return list(checker.states.values())

    try:
        yield check, events
    finally:
        await asyncio.gather(*(node.close() for node in nodes))


def _checks(events: list[Event]) -> list[IndexChecked]:
    return [event for event in events if isinstance(event, IndexChecked)]


# --- entries that the primary has marked dead ---


class Forgetful:
    """A primary that deletes rows and marks their index entries dead, which a page image carries to the standby."""

    def __init__(self, cluster: LabCluster) -> None:
        self._cluster = cluster
        self._turn = 0
        for statement in (
            "create table queue (id int, content text)",
            "create index queue_id on queue (id)",
            # One page with room for more: a full one would be pruned, and a standby's snapshot would hold that up.
            "insert into queue select i, 'x' from generate_series(1, 100) i",
            "create extension amcheck",
            GRANT.format("public"),
            "vacuum (freeze) queue",
        ):
            cluster.primary.execute(statement)
        cluster.catch_up()

    def forget(self) -> None:
        """Delete five rows, mark their entries dead by looking for them, and write the page that they lie on."""
        first = 5 + 10 * self._turn
        self._turn += 1
        primary = self._cluster.primary
        primary.execute("delete from queue where id between %s and %s", [first, first + 4])
        primary.execute("checkpoint")
        with connect(primary.dsn(), node="primary") as connection:
            connection.execute("set enable_seqscan = off; set enable_bitmapscan = off")
            for _ in range(2):
                connection.execute("select count(content) from queue where id between %s and %s", [first, first + 4])
            connection.execute("insert into queue values (%s, 'y')", [first])
        self._cluster.catch_up()


@pytest.fixture
def forgetful(make_cluster: MakeCluster, newest_major: int) -> tuple[LabCluster, Forgetful]:
    cluster = make_cluster(
        major=newest_major, standbys=1, feedback=False, settings={"autovacuum": "off", "full_page_writes": "on"}
    )
    return cluster, Forgetful(cluster)


def test_amcheck_by_itself_reports_a_sound_index_of_a_standby(forgetful: tuple[LabCluster, Forgetful]) -> None:
    """The fact that the second look must honour: its snapshot still sees rows whose entries are marked dead."""
    cluster, primary = forgetful
    standby = cluster.standbys[0]
    with connect(standby.dsn(), node=standby.name, autocommit=False) as connection:
        connection.execute("set transaction isolation level repeatable read")
        connection.execute("select 1")
        primary.forget()
        with pytest.raises(Exception, match="lacks matching index tuple"):
            connection.execute("select bt_index_check('queue_id', true)")
    standby.execute("select bt_index_check('queue_id', true)")


async def test_such_a_report_is_looked_at_again_while_the_primary_keeps_the_entries(
    forgetful: tuple[LabCluster, Forgetful], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, primary = forgetful
    reports: list[IndexFault | None] = []

    async def check(session: Session, amcheck: Amcheck, index_oid: int) -> IndexFault | None:
        """Check under a snapshot that is as old as that of a check which takes long."""
        await session.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await session.fetch("SELECT 1")
        await asyncio.to_thread(primary.forget)
        try:
            reports.append(await check_index(session, amcheck, index_oid))
        finally:
            await session.rollback()
        return reports[-1]

    monkeypatch.setattr("replcheck.audit.index_checks.check_index", check)
    async with _standby_checks(cluster) as (check_all, _):
        states = await check_all()
    assert [report.sqlstate if report else None for report in reports] == ["XX001", None, None]
    assert states == [IndexState()]
