"""Databases that are dropped, renamed or put in another's place: none is ever taken for another, and none is missed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from replcheck.audit.handles import NodeHandle
from replcheck.audit.shortfalls import DATABASE_RENAMED
from replcheck.errors import DatabaseMissing
from replcheck.events import DatabasePlanned
from replcheck.lab.cluster import LabCluster
from replcheck.model.outcome import Verdict
from replcheck.postgres.session import Session
from tests.staged import Staged, at, audit, between_plan_and_read, newest_only, until, value

pytestmark = newest_only
ROWS = 40


@dataclass(frozen=True)
class Pair:
    """Two databases, audited in this order; the second is the one that something happens to."""

    cluster: LabCluster
    first: str
    second: str

    @property
    def other_name(self) -> str:
        return f"{self.second}_before"

    def drop(self) -> None:
        self.cluster.drop_database(self.second)
        self.cluster.catch_up()

    def rename(self) -> None:
        primary = self.cluster.primary
        # A new connection may come in before the name is gone.
        until(self._renamed, f"{self.second} has another name")
        assert value(primary, "select count(*) from pg_database where datname = %s", self.other_name) == 1
        self.cluster.catch_up()

    def _renamed(self) -> bool:
        primary = self.cluster.primary
        primary.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [self.second])
        if value(primary, "select count(*) from pg_stat_activity where datname = %s", self.second):
            return False
        primary.execute(f"alter database {self.second} rename to {self.other_name}")
        return True

    def swap(self) -> None:
        """Put another database in its place, whose tables look the same from outside."""
        self.rename()
        fill(self.cluster, self.cluster.create_database(self.second), rows=ROWS + 1)


def fill(cluster: LabCluster, database: str, *, rows: int = ROWS) -> None:
    cluster.primary.execute(f"create table visit as select g as id from generate_series(1, {rows}) g", dbname=database)
    cluster.primary.execute("create sequence ticket", dbname=database)
    cluster.catch_up()


@pytest.fixture
def pair(cluster: LabCluster, database: str) -> Iterator[Pair]:
    made = Pair(cluster, database, cluster.create_database(f"{database}_second"))
    for name in (made.first, made.second):
        fill(cluster, name)
    yield made
    for name in (made.second, made.other_name):
        cluster.drop_database(name)


def first_is_proven(run: Staged, pair: Pair) -> bool:
    [visit] = [found for found in run.result.relations if (found.database, found.name) == (pair.first, "visit")]
    return (visit.verdict, visit.rows) == (Verdict.CONSISTENT, ROWS)


def before_its_turn(pair: Pair, do: Callable[[], object]) -> Staged:
    """Audit both databases, and act when the first is planned: both were listed before."""
    return audit(pair.cluster, pair.first, at(DatabasePlanned, do), databases=(pair.first, pair.second))


def in_its_turn(pair: Pair, do: Callable[[], object]) -> Staged:
    """Audit the second database alone, and act when its snapshots are open and its table is planned."""
    return audit(pair.cluster, pair.second, between_plan_and_read("visit", do))


def test_a_database_dropped_before_its_turn_is_told_and_changes_no_outcome(pair: Pair) -> None:
    run = before_its_turn(pair, pair.drop)
    assert [(note.database, note.relation, note.code, note.by_design) for note in run.result.not_checked] == [
        (pair.second, None, "dropped", True)
    ]
    assert run.verdict is Verdict.CONSISTENT
    assert {found.database for found in run.result.relations} == {pair.first}
    assert first_is_proven(run, pair)


def test_shared_catalogs_are_compared_in_the_next_database_when_the_first_is_dropped(pair: Pair) -> None:
    first = pair.cluster.create_database(f"{pair.first}_0")
    databases = (first, pair.second)
    assert sorted(databases) == list(databases)

    def drop() -> None:
        pair.cluster.drop_database(first)

    try:
        act = at(DatabasePlanned, drop)
        run = audit(pair.cluster, first, act, databases=databases, tables=("pg_catalog.pg_authid", "public.visit"))
    finally:
        pair.cluster.drop_database(first)
    assert [(note.database, note.code, note.by_design) for note in run.result.not_checked] == [(first, "dropped", True)]
    assert {(found.database, found.name) for found in run.result.relations} == {
        (pair.second, "pg_authid"),
        (pair.second, "visit"),
    }
    assert run.verdict is Verdict.CONSISTENT


@pytest.mark.parametrize("what", ["renamed", "renamed, another in its place"])
def test_a_database_renamed_before_its_turn_is_unchecked_and_no_other_is_taken_for_it(pair: Pair, what: str) -> None:
    run = before_its_turn(pair, pair.rename if what == "renamed" else pair.swap)
    assert {(note.database, note.relation, note.node, note.code) for note in run.result.not_checked} == {
        (pair.second, None, name, "no_database") for name in ("standby1", "standby2")
    }
    assert {note.reason for note in run.result.not_checked} == {f"the whole database: {DATABASE_RENAMED.reason}"}
    assert run.verdict is Verdict.UNCHECKED
    assert {found.database for found in run.result.relations} == {pair.first}
    assert run.result.divergences == ()
    assert first_is_proven(run, pair)


def test_a_database_dropped_in_its_turn_is_told_and_nothing_is_said_of_its_relations(pair: Pair) -> None:
    run = in_its_turn(pair, pair.drop)
    assert [(note.database, note.relation, note.code, note.by_design) for note in run.result.not_checked] == [
        (pair.second, None, "dropped", True),
        (None, None, "nothing_compared", False),
    ]
    assert run.verdict is Verdict.INCONCLUSIVE
    assert run.result.relations == ()
    assert run.result.divergences == ()
    assert run.seconds < 20


@pytest.mark.parametrize("what", ["renamed", "renamed, another in its place"])
def test_a_database_renamed_in_its_turn_is_unchecked_and_no_other_is_compared_with_it(pair: Pair, what: str) -> None:
    """The standbys' sessions stay in the database whatever its name; the primary's would enter the other one."""
    run = in_its_turn(pair, pair.rename if what == "renamed" else pair.swap)
    assert {relation.verdict for relation in run.result.relations} == {Verdict.UNCHECKED}
    assert {relation.name for relation in run.result.relations} >= {"visit", "ticket"}
    assert {note.code for note in run.result.not_checked} == {"no_database", "sequence_unread"}
    assert all(DATABASE_RENAMED.reason in note.reason for note in run.result.not_checked)
    assert not any(note.by_design for note in run.result.not_checked)
    assert run.verdict is Verdict.UNCHECKED
    assert {replica.verdict for replica in run.result.replicas} == {Verdict.UNCHECKED}
    assert run.result.divergences == ()
    assert run.seconds < 20


def test_a_replica_without_the_database_is_unchecked_and_the_other_is_proven(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = NodeHandle.open

    async def not_on_standby1(self: NodeHandle, database: str | None, purpose: str) -> Session:
        if (self.name, database) == ("standby1", pair.second):
            raise DatabaseMissing("no such database", node="standby1")
        return await opened(self, database, purpose)

    monkeypatch.setattr(NodeHandle, "open", not_on_standby1)
    run = audit(pair.cluster, pair.first, databases=(pair.first, pair.second))
    assert {(note.database, note.node, note.code) for note in run.result.not_checked} == {
        (pair.second, "standby1", code) for code in ("no_database", "sequence_unread")
    }
    verdicts = {(found.database, found.name): found for found in run.result.relations}
    assert {replica.node: replica.verdict for replica in verdicts[pair.second, "visit"].replicas} == {
        "standby1": Verdict.UNCHECKED,
        "standby2": Verdict.CONSISTENT,
    }
    assert run.replica("standby1").verdict is run.verdict is Verdict.UNCHECKED
    assert run.replica("standby2").verdict is Verdict.CONSISTENT
    assert run.result.divergences == ()
    assert first_is_proven(run, pair)
