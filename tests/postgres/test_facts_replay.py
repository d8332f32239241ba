"""Replay that stands still, lags or is in the way: no audit hangs on it, and none takes it for divergence."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import LiteralString

import pytest

from replcheck.events import ChunkCompared, NodeCameBack, NodeWentAway
from replcheck.lab.cluster import LabCluster
from replcheck.model.outcome import Verdict
from replcheck.postgres.server import LocalServer
from tests.conftest import MakeCluster
from tests.staged import (
    Background,
    at,
    audit,
    between_plan_and_read,
    make_slow_tables,
    newest_only,
    paused,
    session_on,
    until,
    value,
)


@pytest.fixture
def visits(cluster: LabCluster, database: str) -> str:
    """A database with a table, replayed everywhere."""
    cluster.primary.execute("create table visit as select g as id from generate_series(1, 500) g", dbname=database)
    cluster.catch_up()
    return database


# --- a quiet primary ---

_TAIL: LiteralString = "select pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()"


@contextmanager
def _wal_writer_stopped(primary: LocalServer) -> Iterator[None]:
    pid = value(primary, "select pid from pg_stat_activity where backend_type = 'walwriter'")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("flushed", ["to the end of a record", "to the end of a page"])
def test_a_quiet_primary_with_an_idle_writer_does_not_hold_up_the_audit(
    make_cluster: MakeCluster, newest_major: int, flushed: str
) -> None:
    """WAL that no commit has flushed is not sent: waiting for it would last until somebody commits."""
    cluster = make_cluster(major=newest_major, settings={"autovacuum": "off", "bgwriter_lru_maxpages": "0"})
    primary = cluster.primary
    primary.execute("create table visit as select g as id from generate_series(1, 500) g")
    cluster.catch_up()
    with session_on(primary, "postgres") as connection:
        if flushed == "to the end of a page":
            connection.execute("insert into visit select g from generate_series(1, 1000) g")
            # The WAL writer writes whole pages, so that the last record sent is in parts on both sides of the end.
            at_page: LiteralString = (
                "select (pg_current_wal_flush_lsn() - '0/0') % 8192 = 0"
                " and pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()"
            )
            until(lambda: value(primary, at_page), "whole pages are flushed")
            with _wal_writer_stopped(primary):
                assert value(primary, at_page)
                run = audit(cluster, "postgres", replay_wait_s=20.0)
                assert value(primary, _TAIL) > 0
        else:
            cluster.catch_up()
            with _wal_writer_stopped(primary):
                connection.execute("insert into visit values (0)")
                assert value(primary, _TAIL) > 0
                run = audit(cluster, "postgres", replay_wait_s=20.0)
                assert value(primary, _TAIL) > 0
    run.assert_consistent()
    assert run.exact
    assert run.seconds < 20


# --- replay that stands still, or lags ---


@newest_only
def test_a_standby_whose_replay_is_paused_is_inconclusive_with_its_distance(cluster: LabCluster, visits: str) -> None:
    standby = cluster.node("standby1")
    with paused(standby):
        cluster.primary.execute("insert into visit select g from generate_series(1, 100) g", dbname=visits)
        run = audit(cluster, visits)
        assert value(standby, "select pg_get_wal_replay_pause_state()") == "paused", "an audit changes nothing"
    assert run.replica("standby1").verdict is Verdict.INCONCLUSIVE
    assert "paused" in run.replica("standby1").reason
    assert "bytes of WAL behind" in run.replica("standby1").reason
    assert run.on("standby1", "visit") is Verdict.INCONCLUSIVE
    assert run.replica("standby2").verdict is Verdict.CONSISTENT
    assert run.verdict is Verdict.INCONCLUSIVE
    assert run.result.divergences == ()
    assert run.seconds < 30
    audit(cluster, visits).assert_consistent()


@pytest.mark.long
def test_replay_paused_in_the_middle_leaves_the_rest_inconclusive(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = make_cluster(major=newest_major)
    make_slow_tables(cluster.primary, "postgres", [f"slow{number}" for number in range(8)], rows=10, seconds=0.4)
    cluster.catch_up()
    standby = cluster.node("standby1")

    def pause_and_write() -> None:
        standby.execute("select pg_wal_replay_pause()")
        cluster.primary.execute("create table later as select 1 as id")

    run = audit(cluster, "postgres", at(ChunkCompared, pause_and_write), max_snapshot_age_s=1.0)
    assert run.result.divergences == ()
    assert run.replica("standby1").verdict is Verdict.INCONCLUSIVE
    assert run.replica("standby2").verdict is Verdict.CONSISTENT


def test_a_standby_delayed_on_purpose_is_inconclusive_with_its_distance(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    cluster = make_cluster(major=newest_major, standbys=1)
    cluster.add_standby("late", recovery_min_apply_delay="1h")
    cluster.primary.execute("create table visit as select g as id from generate_series(1, 500) g")
    cluster.catch_up(only="standby1")
    run = audit(cluster, "postgres", replay_wait_s=2.0)
    assert run.replica("late").verdict is Verdict.INCONCLUSIVE
    assert "delayed on purpose" in run.replica("late").reason
    assert "bytes of WAL behind" in run.replica("late").reason
    assert run.replica("standby1").verdict is Verdict.CONSISTENT
    assert run.result.divergences == ()
    assert run.seconds < 30


# --- recovery conflicts ---


@pytest.fixture
def without_feedback(make_cluster: MakeCluster, newest_major: int) -> LabCluster:
    """A cluster whose standby cancels whoever holds up its replay for a moment."""
    cluster = make_cluster(
        major=newest_major,
        standbys=1,
        feedback=False,
        settings={"max_standby_streaming_delay": "20ms", "autovacuum": "off"},
    )
    cluster.primary.execute("create table hot as select g as id, 0 as hits from generate_series(1, 1000) g")
    make_slow_tables(cluster.primary, "postgres", ["slow"], rows=20, seconds=2.0)
    cluster.primary.execute("create table other as select g as id from generate_series(1, 100) g")
    cluster.catch_up()
    return cluster


def _conflicts(standby: LocalServer) -> int:
    count: int = value(standby, "select sum(confl_snapshot) from pg_stat_database_conflicts")
    return count


def _provoke(cluster: LabCluster) -> Callable[[], None]:
    """Return what removes rows that a standby's snapshot may still see, and waits until that cancelled somebody.

    The primary's aligned snapshot protects those rows for as long as it lives: it is lost first.
    """
    lanes: LiteralString = "from pg_stat_activity where application_name like 'replcheck lane%'"

    def provoke() -> None:
        before = _conflicts(cluster.standbys[0])
        cluster.primary.execute(f"select pg_terminate_backend(pid) {lanes}")
        until(lambda: value(cluster.primary, f"select count(*) {lanes}") == 0, "the primary's snapshot is gone")
        cluster.primary.execute("update hot set hits = hits + 1")
        cluster.primary.execute("vacuum hot")
        cluster.catch_up()
        until(lambda: _conflicts(cluster.standbys[0]) > before, "a recovery conflict")

    return provoke


def test_a_recovery_conflict_between_two_chunks_is_survived(without_feedback: LabCluster) -> None:
    run = audit(without_feedback, "postgres", at(ChunkCompared, _provoke(without_feedback)))
    run.assert_consistent()
    assert run.relation("hot").rows == 1000


def test_a_recovery_conflict_inside_a_chunk_is_survived(without_feedback: LabCluster) -> None:
    """The chunk is read in a savepoint, where a conflict ends the whole session."""
    standby, beside = without_feedback.standbys[0], []

    def provoke_while_reading() -> None:
        reading: LiteralString = (
            "select exists (select from pg_stat_activity where application_name like 'replcheck lane%'"
            " and state = 'active' and query like '%slow%' and backend_xmin is not null)"
        )

        def work() -> None:
            until(lambda: value(standby, reading), "the chunk is being read")
            _provoke(without_feedback)()

        beside.append(Background(work))

    run = audit(without_feedback, "postgres", between_plan_and_read("slow", provoke_while_reading))
    beside[0].join()
    run.assert_consistent()
    assert run.relation("slow").rows == 20
    assert len(run.told(NodeWentAway)) == len(run.told(NodeCameBack))
