"""Statements that take too long: what was cancelled is read again in smaller parts, on whichever node it was."""

import time
from collections.abc import Callable, Sequence
from typing import Any, LiteralString

import pytest

from replcheck.audit import reading
from replcheck.errors import StatementCancelled
from replcheck.events import DatabasePlanned
from replcheck.lab.cluster import LabCluster
from replcheck.model.outcome import Verdict
from replcheck.postgres.catalog import Relation, read_relations
from replcheck.postgres.digests import LAST_BLOCK
from replcheck.postgres.session import Session
from tests.staged import (
    Background,
    at,
    audit,
    between_plan_and_read,
    make_slow_tables,
    newest_only,
    session_on,
    until,
    value,
)

pytestmark = newest_only
BLOCKS = 700
"""More than is read in one statement, and large for the lab's buffers, so that it is swept."""
Ranges = Sequence[tuple[int, int]]


@pytest.fixture
def large(cluster: LabCluster, database: str) -> str:
    """A database with a table of one row a block, and a small one."""
    with session_on(cluster.primary, database, autocommit=True) as connection:
        connection.execute("create table large (id int, filler text)")
        connection.execute("alter table large alter column filler set storage plain")
        grow(connection, BLOCKS)
        connection.execute("create table small as select g as id from generate_series(1, 300) g")
    cluster.catch_up()
    assert value(cluster.primary, "select pg_relation_size('large') / 8192", dbname=database) == BLOCKS
    return database


def grow(connection: Any, rows: int) -> None:
    connection.execute("insert into large select g, repeat('x', 5000) from generate_series(1, %s) g", [rows])


Slow = Callable[[Session, Relation, Ranges], bool]


class Cancelled:
    """Has servers end statements that a test calls too slow, and keeps what was asked of each node."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, whole: Slow, sweep: Slow, ranges: Slow) -> None:
        self.asked: list[tuple[str, str, str, Ranges]] = []
        for name, slow in (("digest_whole", whole), ("digest_sweep", sweep), ("digest_ranges", ranges)):
            monkeypatch.setattr(reading, name, self._or_cancelled(name, slow))
        # What is read together with others is read by itself once the server has ended that.
        monkeypatch.setattr("replcheck.audit.work.MOST_TOGETHER", 1)

    def _or_cancelled(self, name: str, slow: Slow) -> Callable[..., Any]:
        original = getattr(reading, name)

        async def statement(session: Session, relation: Relation, how: object, *more: Any) -> Any:
            ranges = more[0] if name == "digest_ranges" else ()
            self.asked.append((name, session.node, relation.name, ranges))
            if slow(session, relation, ranges):
                raise StatementCancelled("too slow", node=session.node, sqlstate="57014")
            return await original(session, relation, how, *more)

        return statement

    def count(self, statement: str, node: str, relation: str) -> int:
        return sum((name, where, what) == (statement, node, relation) for name, where, what, _ in self.asked)

    def ranges(self, node: str, relation: str) -> list[tuple[int, int]]:
        return [one for _, where, what, ranges in self.asked if (where, what) == (node, relation) for one in ranges]


def never(*_: object) -> bool:
    return False


def on(node: str, relation: str) -> Slow:
    return lambda session, what, _: (session.node, what.name) == (node, relation)


@pytest.mark.parametrize("node", ["primary", "standby1"])
def test_a_relation_whose_one_statement_was_cancelled_is_read_by_ranges(
    cluster: LabCluster, large: str, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    cancelled = Cancelled(monkeypatch, whole=on(node, "small"), sweep=on(node, "large"), ranges=never)
    run = audit(cluster, large)
    run.assert_consistent()
    assert (run.relation("large").rows, run.relation("small").rows) == (BLOCKS, 300)
    for statement, relation in (("digest_sweep", "large"), ("digest_whole", "small")):
        # A replica alone may have met a recovery conflict, which need not come again.
        most = 1 if node == "primary" else 2
        assert cancelled.count(statement, node, relation) <= most, "what takes too long is tried again and again"
        assert cancelled.ranges("standby2", relation)


@pytest.mark.parametrize("node", ["primary", "standby1"])
def test_ranges_that_were_cancelled_are_halved_until_they_are_quick_enough(
    cluster: LabCluster, large: str, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    def more_than_200_blocks(session: Session, relation: Relation, ranges: Ranges) -> bool:
        blocks = sum(min(end, BLOCKS) - min(first, BLOCKS) for first, end in ranges)
        return session.node == node and blocks > 200

    cancelled = Cancelled(monkeypatch, whole=never, sweep=on(node, "large"), ranges=more_than_200_blocks)
    monkeypatch.setattr("replcheck.audit.pace._SLOW_PARTS", 1)
    run = audit(cluster, large)
    run.assert_consistent()
    assert run.relation("large").rows == BLOCKS
    widths = {end - first for first, end in cancelled.ranges(node, "large") if end != LAST_BLOCK}
    assert {BLOCKS, BLOCKS // 2, BLOCKS // 4} <= widths


def test_a_relation_that_grew_far_beyond_its_plan_is_read_to_its_end(
    cluster: LabCluster, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies beyond the planned blocks is one range without an end, too much for one statement."""
    grown = 4 * BLOCKS

    def grow_and_wait() -> None:
        with session_on(cluster.primary, large, autocommit=True) as connection:
            [(began,)] = connection.execute("select clock_timestamp()").fetchall()
            grow(connection, grown - BLOCKS)
        cluster.catch_up()
        # The snapshots of the plan, which do not see the new rows, are given back then.
        old: Callable[[], Any] = lambda: value(cluster.primary, "select clock_timestamp() - %s > '1.2s'", began)  # noqa: E731
        until(old, "the plan's snapshots are old")

    def far_beyond(session: Session, relation: Relation, ranges: Ranges) -> bool:
        blocks = sum(max(0, min(end, grown) - first) for first, end in ranges)
        return relation.name == "large" and session.node == "primary" and blocks > 1.5 * BLOCKS

    cancelled = Cancelled(monkeypatch, whole=never, sweep=on("primary", "large"), ranges=far_beyond)
    run = audit(cluster, large, at(DatabasePlanned, grow_and_wait), max_snapshot_age_s=1.0)
    assert run.relation("large").rows == grown
    assert run.relation("large").verdict is run.verdict is Verdict.CONSISTENT
    tails = sorted({first for first, end in cancelled.ranges("primary", "large") if end == LAST_BLOCK})
    assert tails[0] == BLOCKS, "it was planned at its former size"
    assert len(tails) > 1, "its end was not cut"


# --- somebody waits ---


def test_a_long_read_gives_way_to_whoever_waits_for_its_lock_and_is_done_in_parts(
    cluster: LabCluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_slow_tables(cluster.primary, database, ["slow"], rows=60, seconds=4.0, row_bytes=6000)
    cluster.catch_up()
    asked = Cancelled(monkeypatch, whole=never, sweep=never, ranges=never)
    waited: list[float] = []
    reading: LiteralString = (
        "select count(*) from pg_locks where relation = 'slow'::regclass and mode = 'AccessShareLock' and granted"
    )

    def change_the_table() -> None:
        until(lambda: value(cluster.primary, reading, dbname=database), "it is being read")
        with session_on(cluster.primary, database, autocommit=True) as connection:
            began = time.monotonic()
            connection.execute("lock table slow in access exclusive mode; select 1")
            waited.append(time.monotonic() - began)

    beside: list[Background] = []
    run = audit(
        cluster, database, between_plan_and_read("slow", lambda: beside.append(Background(change_the_table))), jobs=1
    )
    beside[0].join()
    run.assert_consistent()
    assert run.relation("slow").rows == 60
    assert waited[0] < 3, "the change waited for the whole read, and everybody behind it"
    assert asked.count("digest_whole", "primary", "slow") == 1
    assert len(asked.ranges("primary", "slow")) > 1


# --- planning ---


def test_a_database_whose_relations_can_never_be_listed_is_given_up_and_said_to_be_unchecked(
    cluster: LabCluster, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    async def cancelled(session: Session, oids: Sequence[int] | None = None, **details: Any) -> dict[int, Relation]:
        nonlocal tried
        if session.node != "primary":
            return await read_relations(session, oids, **details)
        tried += 1
        assert tried < 100, "it is tried without end"
        raise StatementCancelled("a lock was not granted", node="primary", sqlstate="55P03")

    monkeypatch.setattr("replcheck.audit.worker.read_relations", cancelled)
    run = audit(cluster, large)
    assert 1 < tried <= 30
    assert run.result.relations == ()
    assert {(note.database, note.relation, note.node, note.code) for note in run.result.not_checked} == {
        (large, None, name, "unfinished") for name in ("standby1", "standby2")
    }
    assert run.verdict is Verdict.UNCHECKED
    assert run.seconds < 60
