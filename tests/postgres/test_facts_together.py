"""Small relations that are read in one round trip: trouble with one of them is told of that one, and costs no other."""

from typing import Any, LiteralString

import pytest

from replcheck.audit import reading
from replcheck.audit.work import MOST_TOGETHER
from replcheck.errors import StatementFailed
from replcheck.events import ChunkCompared, Event, RelationStarted
from replcheck.lab.cluster import LabCluster
from replcheck.lab.faults import apply_fault
from replcheck.model.outcome import Verdict
from replcheck.postgres import digests
from replcheck.postgres.digests import PartDigests, digest_together
from replcheck.postgres.session import Session
from tests.conftest import MakeCluster
from tests.staged import Act, Staged, at, audit, between_plan_and_read, newest_only, session_on, value

pytestmark = newest_only
COUNT = 12
ROWS = 20
ONE = "t5"
OTHERS = [f"t{number}" for number in range(COUNT) if f"t{number}" != ONE]


@pytest.fixture
def tables(cluster: LabCluster, database: str) -> str:
    """A database of tables of one block each."""
    make_tables(cluster, database)
    return database


def make_tables(cluster: LabCluster, database: str) -> None:
    with session_on(cluster.primary, database, autocommit=True) as connection:
        for number in range(COUNT):
            connection.execute(f"create table t{number} as select g as id, 'v' || g as v from generate_series(1, 20) g")
    cluster.catch_up()


def read(cluster: LabCluster, database: str, *acts: Act, **options: Any) -> Staged:
    """Audit the tables, and no large objects."""
    return audit(cluster, database, *acts, tables=("public.*",), **options)


class Asked:
    """What was asked for together: of each node, how many relations at once and whether it answered."""

    def __init__(self) -> None:
        self.answered: dict[str, list[int]] = {}
        self.refused: dict[str, list[str | None]] = {}

    async def digest_together(self, session: Session, statement: bytes) -> list[PartDigests]:
        try:
            found = await digest_together(session, statement)
        except StatementFailed as error:
            self.refused.setdefault(session.node, []).append(error.sqlstate)
            raise
        self.answered.setdefault(session.node, []).append(len(found))
        return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    watched = Asked()
    # On a busy machine the server would end some of these reads, and each table would be read by itself.
    monkeypatch.setattr(digests, "SOON_OVER", "SELECT pg_catalog.set_config('statement_timeout', '20s', true)")
    monkeypatch.setattr(reading, "digest_together", watched.digest_together)
    return watched


def do(cluster: LabCluster, database: str, *statements: LiteralString) -> None:
    with session_on(cluster.primary, database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)
    cluster.catch_up()


def assert_others_proven(run: Staged) -> None:
    for name in OTHERS:
        assert run.relation(name).verdict is Verdict.CONSISTENT
        assert run.relation(name).rows == ROWS
    assert {divergence.relation for divergence in run.result.divergences} <= {f"public.{ONE}"}
    assert {note.relation for note in run.result.not_checked} <= {f"public.{ONE}"}


def times_read(run: Staged, name: str) -> int:
    return sum(event.relation == f"public.{name}" for event in run.told(ChunkCompared))


def test_small_relations_are_read_in_one_round_trip_of_each_node(
    cluster: LabCluster, tables: str, asked: Asked
) -> None:
    run = read(cluster, tables)
    run.assert_consistent()
    assert asked.answered == {name: [COUNT] for name in cluster.nodes}
    assert {relation.rows for relation in run.result.relations} == {ROWS}
    assert COUNT <= MOST_TOGETHER


_LOCKS: LiteralString = """
    select count(*) from pg_locks l join pg_stat_activity a using (pid)
    where a.application_name like 'replcheck%' and a.datname = current_database()
        and l.relation >= 16384 and l.locktype = 'relation'"""


def test_their_locks_are_gone_when_the_first_of_them_is_compared(
    cluster: LabCluster, tables: str, asked: Asked
) -> None:
    held: list[int] = []

    def look(event: Event) -> None:
        if isinstance(event, RelationStarted | ChunkCompared):
            held.extend(value(node, _LOCKS, dbname=tables) for node in cluster.nodes.values())

    read(cluster, tables, every=look).assert_consistent()
    assert asked.answered["primary"] == [COUNT]
    assert len(held) == 2 * COUNT * len(cluster.nodes)
    assert set(held) == {0}


def test_their_locks_are_gone_where_one_was_refused(cluster: LabCluster, tables: str, asked: Asked) -> None:
    held: list[int] = []

    def look(event: Event) -> None:
        if isinstance(event, ChunkCompared):
            held.extend(value(node, _LOCKS, dbname=tables) for node in cluster.nodes.values())

    run = read(
        cluster,
        tables,
        between_plan_and_read(ONE, lambda: do(cluster, tables, "alter table t5 rename to t5x")),
        every=look,
    )
    assert run.verdict is Verdict.CONSISTENT
    assert asked.refused["primary"] == ["42P01"]
    assert held
    assert set(held) == {0}


def test_one_that_is_locked_is_put_off_and_the_others_are_proven_meanwhile(
    cluster: LabCluster, tables: str, asked: Asked
) -> None:
    with session_on(cluster.primary, tables) as connection:
        run = read(
            cluster,
            tables,
            between_plan_and_read(ONE, lambda: connection.execute("lock table t5 in access exclusive mode")),
            at(ChunkCompared, connection.commit, relation="t11"),
            settle_budget_s=300.0,
        )
    run.assert_consistent()
    assert asked.refused["primary"][0] in ("55P03", "57014")
    put_off = next(event for event in run.told(ChunkCompared) if event.relation == f"public.{ONE}")
    assert put_off.verdict is Verdict.INCONCLUSIVE
    assert {name: times_read(run, name) for name in OTHERS} == dict.fromkeys(OTHERS, 1)


def test_one_that_is_dropped_is_told_and_the_others_are_proven(cluster: LabCluster, tables: str, asked: Asked) -> None:
    run = read(cluster, tables, between_plan_and_read(ONE, lambda: do(cluster, tables, "drop table t5")))
    assert_others_proven(run)
    assert ONE not in {relation.name for relation in run.result.relations}
    assert {(note.code, note.by_design) for note in run.result.not_checked} == {("dropped", True)}
    assert run.verdict is Verdict.CONSISTENT
    assert asked.refused


def test_one_that_is_made_unlogged_is_on_no_replica_by_design(cluster: LabCluster, tables: str, asked: Asked) -> None:
    run = read(cluster, tables, between_plan_and_read(ONE, lambda: do(cluster, tables, "alter table t5 set unlogged")))
    assert_others_proven(run)
    assert ONE not in {relation.name for relation in run.result.relations}
    assert {(note.code, note.by_design) for note in run.result.not_checked} == {("unlogged", True)}
    assert run.verdict is Verdict.CONSISTENT
    assert asked.refused["standby1"] == ["0A000"]


def test_one_that_is_unlogged_for_a_while_is_proven_in_the_end(cluster: LabCluster, tables: str, asked: Asked) -> None:
    run = read(
        cluster,
        tables,
        between_plan_and_read(ONE, lambda: do(cluster, tables, "alter table t5 set unlogged")),
        at(ChunkCompared, lambda: do(cluster, tables, "alter table t5 set logged"), relation=OTHERS[-1]),
    )
    assert_others_proven(run)
    assert run.relation(ONE).rows == ROWS
    run.assert_consistent()


@pytest.mark.parametrize(
    "statements",
    [
        ("alter table t5 rename to t5x",),
        ("alter table t5 rename to t5x", "create table t5 as select 1 as id, 'other' as v"),
        ("alter table t5 rename column v to w",),
    ],
)
def test_one_that_is_renamed_is_read_under_its_new_name(
    cluster: LabCluster, tables: str, asked: Asked, statements: tuple[LiteralString, ...]
) -> None:
    run = read(cluster, tables, between_plan_and_read(ONE, lambda: do(cluster, tables, *statements)))
    assert run.result.divergences == ()
    assert run.verdict is Verdict.CONSISTENT
    renamed = next(found for found in run.result.relations if found.name == ("t5x" if "t5x" in statements[0] else ONE))
    assert renamed.rows == ROWS
    for name in OTHERS:
        assert (run.relation(name).verdict, run.relation(name).rows) == (Verdict.CONSISTENT, ROWS)


@pytest.mark.parametrize("rows", [0, 7])
def test_one_that_is_truncated_is_read_again_under_newer_snapshots(
    cluster: LabCluster, tables: str, asked: Asked, rows: int
) -> None:
    """Every node shows the old snapshot an empty heap, and all of them agree."""
    fill: LiteralString = "begin; truncate t5; insert into t5 select g, 'new' from generate_series(1, 7) g; commit"
    statement: LiteralString = fill if rows else "truncate t5"
    run = read(cluster, tables, between_plan_and_read(ONE, lambda: do(cluster, tables, statement)))
    run.assert_consistent()
    assert_others_proven(run)
    assert run.relation(ONE).rows == rows
    assert times_read(run, ONE) >= 2
    assert asked.answered["primary"] == [COUNT], "nothing refuses to read it: its file node alone tells"


UNSENDABLE: tuple[LiteralString, ...] = (
    "create type odd",
    "create function odd_in(cstring, oid, int) returns odd language internal immutable strict as 'array_in'",
    "create function odd_out(odd) returns cstring language internal immutable strict as 'array_out'",
    "create function odd_send(odd) returns bytea language internal immutable strict as 'array_send'",
    "create type odd (input = odd_in, output = odd_out, send = odd_send, like = bytea)",
    "create cast (bytea as odd) without function",
    "drop table t5",
    "create table t5 as select decode('0000000000000000' || '09040000', 'hex')::odd as held",
)


def test_one_whose_type_always_fails_is_refused_alone(cluster: LabCluster, tables: str, asked: Asked) -> None:
    do(cluster, tables, *UNSENDABLE)
    run = read(cluster, tables)
    assert_others_proven(run)
    assert {(note.relation, note.code) for note in run.result.not_checked} == {(f"public.{ONE}", "sqlstate_42883")}
    assert run.relation(ONE).verdict is run.verdict is Verdict.UNCHECKED
    assert run.result.divergences == ()
    assert asked.refused
    assert run.seconds < 20


@pytest.mark.parametrize(
    ("fault", "kind"), [("flip-row-bytes", "changed"), ("lose-row", "missing"), ("break-page-header", "unreadable")]
)
def test_one_that_is_corrupt_on_one_standby_is_named_there_and_nowhere_else(
    make_cluster: MakeCluster, major: int, asked: Asked, fault: str, kind: str
) -> None:
    cluster = make_cluster(major=major)
    make_tables(cluster, "postgres")
    apply_fault(cluster, fault, node="standby2", database="postgres", relation=f"public.{ONE}")
    run = read(cluster, "postgres")
    assert_others_proven(run)
    assert run.verdict is Verdict.DIVERGED
    assert (run.on("standby1", ONE), run.on("standby2", ONE)) == (Verdict.CONSISTENT, Verdict.DIVERGED)
    found = {(divergence.relation, divergence.node) for divergence in run.result.divergences}
    assert found == {(f"public.{ONE}", "standby2")}
    assert {divergence.kind.value for divergence in run.result.divergences} == {kind}
    assert run.result.odd_node == "standby2"
    assert run.replica("standby1").verdict is Verdict.CONSISTENT
