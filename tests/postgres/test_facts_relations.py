"""Relations that change under an audit: definitions, rewrites and locks, each at the worst moment."""

from dataclasses import dataclass
from functools import partial
from typing import LiteralString

import pytest

from replcheck.errors import StatementFailed
from replcheck.events import ChunkCompared, DatabasePlanned, Event, RelationStarted
from replcheck.lab.cluster import LabCluster
from replcheck.model.outcome import Verdict
from replcheck.postgres.catalog import Relation
from replcheck.postgres.digests import PartDigests, RowHash, digest_together, digest_whole
from replcheck.postgres.local import LocalConnection
from replcheck.postgres.session import Session
from tests.staged import (
    Background,
    Staged,
    at,
    audit,
    between_plan_and_read,
    make_slow_tables,
    newest_only,
    pause,
    resume,
    session_on,
    until,
    value,
)

pytestmark = newest_only
ROWS = 300


@pytest.fixture
def records(cluster: LabCluster, database: str) -> str:
    """A database with a table of every kind of column whose definition can change, replayed everywhere."""
    with session_on(cluster.primary, database, autocommit=True) as connection:
        connection.execute("create type mood as enum ('calm', 'upset')")
        connection.execute("create type place as (street text, city text)")
        connection.execute("create domain code as varchar(20)")
        connection.execute(
            "create table record (id int primary key, label varchar(20), feeling mood, home place, moods mood[],"
            " homes place[], number int, spare text, amount int)"
        )
        connection.execute(
            "insert into record select g, 'r' || g, 'calm', row('s' || g, 'c')::place, array['calm', 'upset']::mood[],"
            " array[row('s', 'c')::place], g, 'spare', g from generate_series(1, %s) g",
            [ROWS],
        )
        connection.execute("create materialized view summary as select id, number from record")
        connection.execute("create table other as select g as id from generate_series(1, 100) g")
    cluster.catch_up()
    return database


# --- changes of definition between the plan and the read ---

DEFINITIONS: dict[str, tuple[LiteralString, ...]] = {
    "a column added": ("alter table record add column extra text default 'filled'",),
    "a column dropped": ("alter table record drop column spare",),
    "a column dropped and added again": (
        "alter table record drop column spare",
        "alter table record add column spare text default 'other'",
    ),
    "a column renamed": ("alter table record rename column spare to other",),
    "two columns that change names": (
        "alter table record rename column label to passing",
        "alter table record rename column spare to label",
        "alter table record rename column passing to spare",
    ),
    "varchar to text": ("alter table record alter column label type text",),
    "a longer varchar": ("alter table record alter column label type varchar(40)",),
    "varchar to a domain": ("alter table record alter column label type code",),
    "an enum label renamed": ("alter type mood rename value 'calm' to 'serene'",),
    "an enum label renamed and back": (
        "alter type mood rename value 'calm' to 'serene'",
        "alter type mood rename value 'serene' to 'calm'",
    ),
    "an enum label added": ("alter type mood add value 'angry' before 'upset'",),
    "an attribute of a composite renamed": ("alter type place rename attribute city to town",),
    "the table renamed": ("alter table record rename to archive",),
    "the table in another schema": ("create schema elsewhere", "alter table record set schema elsewhere"),
    "the table renamed, another in its place": (
        "alter table record rename to archive",
        "create table record (id int, label text)",
    ),
}
each_definition = pytest.mark.parametrize("what", DEFINITIONS)


def _run(cluster: LabCluster, database: str, statements: tuple[LiteralString, ...]) -> None:
    with session_on(cluster.primary, database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@each_definition
def test_a_redefinition_replayed_between_plan_and_read_is_neither_divergence_nor_blindness(
    cluster: LabCluster, records: str, what: str
) -> None:
    def redefine() -> None:
        _run(cluster, records, DEFINITIONS[what])
        cluster.catch_up()

    run = audit(cluster, records, between_plan_and_read("record", redefine))
    run.assert_consistent()
    relation = next(relation for relation in run.result.relations if relation.name in ("record", "archive"))
    assert relation.rows == ROWS
    assert _times_read(run, "record", "archive") >= 2, "what was read under the old definition does not count"


@each_definition
def test_a_redefinition_that_reaches_the_replicas_after_the_read_is_no_divergence(
    cluster: LabCluster, records: str, what: str
) -> None:
    """The nodes answer by two definitions, under snapshots that see the same transactions."""

    def redefine_on_the_primary() -> None:
        for standby in cluster.standbys:
            pause(standby)
        _run(cluster, records, DEFINITIONS[what])

    def let_the_replicas_follow() -> None:
        for standby in cluster.standbys:
            resume(standby)

    try:
        run = audit(
            cluster,
            records,
            between_plan_and_read("record", redefine_on_the_primary),
            at(ChunkCompared, let_the_replicas_follow, relation="record"),
        )
    finally:
        let_the_replicas_follow()
    assert run.result.divergences == ()
    assert run.result.not_checked == ()
    assert run.verdict is Verdict.CONSISTENT
    assert _times_read(run, "record", "archive") >= 2


def _times_read(run: Staged, *names: str) -> int:
    labels = {f"{schema}.{name}" for schema in ("public", "elsewhere") for name in names}
    return sum(event.relation in labels for event in run.told(ChunkCompared))


def test_a_table_dropped_between_plan_and_read_is_told_and_nothing_else_suffers(
    cluster: LabCluster, records: str
) -> None:
    def drop() -> None:
        _run(cluster, records, ("drop table record cascade",))
        cluster.catch_up()

    run = audit(cluster, records, between_plan_and_read("record", drop))
    assert run.result.divergences == ()
    assert run.on("standby1", "other") is run.on("standby2", "other") is Verdict.CONSISTENT
    assert "record" not in {relation.name for relation in run.result.relations}
    assert {(note.code, note.by_design) for note in run.result.not_checked} == {("dropped", True)}


_UNSENDABLE: tuple[LiteralString, ...] = (
    # What is stored is an empty array of aclitem, which cannot be sent: nothing in the catalog tells that this fails.
    "create type odd",
    "create function odd_in(cstring, oid, int) returns odd language internal immutable strict as 'array_in'",
    "create function odd_out(odd) returns cstring language internal immutable strict as 'array_out'",
    "create function odd_send(odd) returns bytea language internal immutable strict as 'array_send'",
    "create type odd (input = odd_in, output = odd_out, send = odd_send, like = bytea)",
    "create cast (bytea as odd) without function",
    "create table oddity as select decode('0000000000000000' || '09040000', 'hex')::odd as held",
)


def test_a_column_whose_type_always_fails_is_refused_with_that_reason_and_soon(
    cluster: LabCluster, records: str
) -> None:
    """Its SQLSTATE is the one of a statement whose relation was redefined, but nothing was."""
    _run(cluster, records, _UNSENDABLE)
    cluster.catch_up()
    run = audit(cluster, records)
    assert {(note.relation, note.code) for note in run.result.not_checked} == {("public.oddity", "sqlstate_42883")}
    assert {note.node for note in run.result.not_checked} == {"standby1", "standby2"}
    assert run.relation("oddity").verdict is Verdict.UNCHECKED
    assert run.relation("record").verdict is run.relation("other").verdict is Verdict.CONSISTENT
    assert run.result.divergences == ()
    assert run.seconds < 20


def test_a_replica_that_alone_fails_to_read_a_column_is_refused_alone_and_soon(
    cluster: LabCluster, records: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing_on_standby1(session: Session, relation: Relation, how: RowHash) -> PartDigests:
        if session.node == "standby1" and relation.name == "record":
            raise StatementFailed("refused a statement (SQLSTATE XX000)", node="standby1", sqlstate="XX000")
        return await digest_whole(session, relation, how)

    async def failing_with_others(session: Session, statement: bytes) -> list[PartDigests]:
        if session.node == "standby1" and b'"record"' in statement:
            raise StatementFailed("refused a statement (SQLSTATE XX000)", node="standby1", sqlstate="XX000")
        return await digest_together(session, statement)

    monkeypatch.setattr("replcheck.audit.reading.digest_whole", failing_on_standby1)
    monkeypatch.setattr("replcheck.audit.reading.digest_together", failing_with_others)
    run = audit(cluster, records)
    assert {(note.relation, note.node, note.code) for note in run.result.not_checked} == {
        ("public.record", "standby1", "sqlstate_XX000")
    }
    assert run.on("standby1", "record") is Verdict.UNCHECKED
    assert run.replica("standby2").verdict is Verdict.CONSISTENT
    assert run.result.divergences == ()
    assert run.seconds < 20


# --- rewrites: an old snapshot sees an empty or reordered heap, on all nodes alike ---


@dataclass(frozen=True)
class Rewrite:
    statements: tuple[LiteralString, ...]
    relation: str = "record"
    rows: int = ROWS


REWRITES = {
    "truncated and loaded again": Rewrite(
        (
            "create temporary table kept as select * from record",
            "begin",
            "truncate record",
            "insert into record select * from kept",
            "commit",
        )
    ),
    "truncated": Rewrite(("truncate record",), rows=0),
    "vacuumed in full": Rewrite(("delete from record where id <= 100", "vacuum full record"), rows=ROWS - 100),
    "clustered": Rewrite(
        ("update record set number = -number where id % 7 = 0", "cluster record using record_pkey"),
    ),
    "refreshed": Rewrite(
        ("update record set number = -number", "refresh materialized view summary"), relation="summary"
    ),
    "rewritten by a type": Rewrite(("alter table record alter column amount type bigint",)),
    "rewritten by a default": Rewrite(("alter table record add column stamp float default random()",)),
    "given another access path": Rewrite(("alter table record set unlogged", "alter table record set logged")),
}
each_rewrite = pytest.mark.parametrize("what", REWRITES)


@each_rewrite
def test_a_rewrite_replayed_between_plan_and_read_voids_the_chunk(cluster: LabCluster, records: str, what: str) -> None:
    rewrite = REWRITES[what]

    def do() -> None:
        _run(cluster, records, rewrite.statements)
        cluster.catch_up()

    run = audit(cluster, records, between_plan_and_read(rewrite.relation, do))
    assert run.result.divergences == ()
    assert run.relation(rewrite.relation).rows == rewrite.rows, "an empty heap was taken for the relation"
    assert run.relation(rewrite.relation).verdict is Verdict.CONSISTENT
    assert run.verdict is Verdict.CONSISTENT
    first, *later = [e for e in run.told(ChunkCompared) if e.relation == f"public.{rewrite.relation}"]
    assert first.verdict is Verdict.INCONCLUSIVE
    assert later[-1].verdict is Verdict.CONSISTENT


@each_rewrite
def test_a_rewrite_after_the_read_voids_what_was_read(cluster: LabCluster, records: str, what: str) -> None:
    rewrite = REWRITES[what]

    def do() -> None:
        _run(cluster, records, rewrite.statements)
        cluster.catch_up()

    run = audit(cluster, records, at(ChunkCompared, do, relation=rewrite.relation))
    run.assert_consistent()
    assert run.relation(rewrite.relation).rows == rewrite.rows
    assert _times_read(run, rewrite.relation) >= 2


@pytest.mark.parametrize("what", ["truncated and loaded again", "vacuumed in full", "rewritten by a type"])
def test_a_rewrite_that_reaches_the_replicas_after_the_read_voids_the_chunk(
    cluster: LabCluster, records: str, what: str
) -> None:
    rewrite = REWRITES[what]

    def rewrite_on_the_primary() -> None:
        for standby in cluster.standbys:
            pause(standby)
        _run(cluster, records, rewrite.statements)

    def let_the_replicas_follow() -> None:
        for standby in cluster.standbys:
            resume(standby)

    try:
        run = audit(
            cluster,
            records,
            between_plan_and_read(rewrite.relation, rewrite_on_the_primary),
            at(ChunkCompared, let_the_replicas_follow, relation=rewrite.relation),
        )
    finally:
        let_the_replicas_follow()
    assert run.result.divergences == ()
    assert run.relation(rewrite.relation).rows == rewrite.rows
    assert run.verdict is Verdict.CONSISTENT


def test_a_relation_rewritten_without_end_is_given_up_as_inconclusive(cluster: LabCluster, records: str) -> None:
    def rewrite(event: Event) -> None:
        if isinstance(event, ChunkCompared) and event.relation == "public.record":
            _run(cluster, records, ("vacuum full record",))

    run = audit(cluster, records, every=rewrite, settle_budget_s=2.0)
    assert run.result.divergences == ()
    assert run.relation("record").verdict is Verdict.INCONCLUSIVE
    assert run.relation("other").verdict is Verdict.CONSISTENT
    assert {note.code for note in run.result.not_checked} == {"redefined"}


# --- locks ---

_LOCKS: LiteralString = """
    select coalesce(array_agg(distinct l.relation::regclass::text), '{}')
    from pg_locks l join pg_stat_activity a using (pid)
    where a.application_name like 'replcheck%' and a.datname = current_database()
        and l.relation >= 16384 and l.locktype = 'relation'"""


def _locked(cluster: LabCluster, database: str) -> dict[str, list[str]]:
    return {name: value(node, _LOCKS, dbname=database) for name, node in cluster.nodes.items()}


def test_no_lock_on_a_relation_outlives_its_chunk_on_any_node(cluster: LabCluster, records: str) -> None:
    found: list[dict[str, list[str]]] = []

    def look(event: Event) -> None:
        if isinstance(event, DatabasePlanned | RelationStarted | ChunkCompared):
            found.append(_locked(cluster, records))

    run = audit(cluster, records, every=look)
    run.assert_consistent()
    assert len(found) >= 7
    assert all(locked == {"primary": [], "standby1": [], "standby2": []} for locked in found)


def test_locks_of_a_running_chunk_are_seen_where_one_looks_for_them(cluster: LabCluster, database: str) -> None:
    """The twin of the test above: its query would find a lock."""
    make_slow_tables(cluster.primary, database, ["slow"], rows=20, seconds=3)
    cluster.catch_up()
    watcher: list[Background] = []

    def watch() -> None:
        for node in cluster.nodes.values():
            until(lambda node=node: "slow" in value(node, _LOCKS, dbname=database), "the lock of the running chunk")  # type: ignore[misc]

    run = audit(cluster, database, between_plan_and_read("slow", lambda: watcher.append(Background(watch))))
    watcher[0].join()
    run.assert_consistent()


def test_a_ddl_statement_waits_for_one_chunk_at_most(cluster: LabCluster, database: str) -> None:
    names = ["slow1", "slow2", "slow3"]
    make_slow_tables(cluster.primary, database, names, rows=20, seconds=0.6)
    cluster.catch_up()
    labels = {f"public.{name}" for name in names}
    queued: list[Background] = []

    def lock(name: str) -> None:
        with session_on(cluster.primary, database) as connection:
            connection.execute(f"lock table {name} in access exclusive mode")

    def queue(event: Event) -> None:
        if getattr(event, "relation", None) not in labels:
            return
        if isinstance(event, RelationStarted):
            queued.append(Background(partial(lock, event.relation)))
        elif isinstance(event, ChunkCompared):
            # The snapshot is still held; the audit does not go on before this returns.
            assert queued[-1].finished.wait(20), "the lock of a chunk outlived it"

    run = audit(cluster, database, every=queue)
    for waiting in queued:
        waiting.join()
    assert run.verdict is Verdict.CONSISTENT
    assert len(queued) == len(labels)


def test_a_locked_relation_is_put_off_and_others_are_read_meanwhile(cluster: LabCluster, records: str) -> None:
    with session_on(cluster.primary, records) as connection:
        run = audit(
            cluster,
            records,
            between_plan_and_read("record", lambda: _lock_everywhere(cluster, records, connection)),
            at(ChunkCompared, connection.commit, relation="other"),
            settle_budget_s=300.0,
        )
    run.assert_consistent()
    assert run.relation("record").rows == ROWS
    read = [event.relation for event in run.told(ChunkCompared)]
    assert read.index("public.record") < read.index("public.other") < len(read) - 1 - read[::-1].index("public.record")
    put_off = next(event for event in run.told(ChunkCompared) if event.relation == "public.record")
    assert put_off.verdict is Verdict.INCONCLUSIVE
    assert put_off.elapsed_s < 10


def _lock_everywhere(cluster: LabCluster, database: str, connection: LocalConnection) -> None:
    connection.execute("lock table record in access exclusive mode")
    # The lock reaches the standbys with the next write of its transaction's WAL to disk.
    _run(cluster, database, ("create table if not exists flushed ()",))
    held: LiteralString = (
        "select count(*) from pg_locks where relation = 'record'::regclass and mode = 'AccessExclusiveLock' and granted"
    )
    for node in cluster.nodes.values():
        until(lambda node=node: value(node, held, dbname=database) == 1, f"the lock is held on {node.name}")  # type: ignore[misc]


@pytest.mark.long
def test_a_relation_locked_for_good_is_inconclusive_and_says_so(cluster: LabCluster, records: str) -> None:
    with session_on(cluster.primary, records) as connection:
        connection.execute("lock table other in access exclusive mode")
        run = audit(cluster, records, settle_budget_s=1.0)
    assert run.verdict is Verdict.INCONCLUSIVE
    assert run.relation("other").verdict is Verdict.INCONCLUSIVE
    assert run.relation("record").verdict is Verdict.CONSISTENT
    assert {note.code for note in run.result.not_checked} == {"locked"}
