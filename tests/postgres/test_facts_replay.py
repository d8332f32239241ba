"""Replay that stands still, lags or is in the way: no audit hangs on it, and none takes it for divergence."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Flag
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


def test_wal_behind_the_last_end_of_a_transaction_is_not_waited_for_at_all(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    """A standby that shows every transaction as ended has all that matters, whenever the rest will be flushed."""
    settings = {"autovacuum": "off", "bgwriter_lru_maxpages": "0", "wal_writer_delay": "10s"}
    cluster = make_cluster(major=newest_major, settings=settings)
    primary = cluster.primary
    primary.execute("create table visit as select g as id from generate_series(1, 500) g")
    cluster.catch_up()
    with session_on(primary, "postgres") as connection, _wal_writer_stopped(primary):
        connection.execute("insert into visit values (0)")
        assert value(primary, _TAIL) > 0
        run = audit(cluster, "postgres", replay_wait_s=5.0)
        assert value(primary, _TAIL) > 0
    run.assert_consistent()
    assert run.exact


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


@pytest.mark.long
def test_a_standby_that_is_always_a_few_seconds_behind_a_steady_load_is_left_behind(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    """It replays whatever it is waited for, but by then the primary has gone on: it is not chased without end."""
    cluster = make_cluster(major=newest_major, standbys=1)
    cluster.primary.execute("create table visit as select g as id from generate_series(1, 500) g")
    cluster.primary.execute("create table load (id int)")
    cluster.add_standby("late", recovery_min_apply_delay="3s")
    cluster.catch_up()
    ended = Flag()

    def write() -> None:
        with session_on(cluster.primary, "postgres", autocommit=True) as connection:
            while not ended.wait(0.01):
                connection.execute("insert into load values (1)")

    load = Background(write)
    try:
        run = audit(cluster, "postgres", tables=("visit",), replay_wait_s=6.0, align_budget_s=0.5)
    finally:
        ended.set()
        load.join()
    assert run.replica("late").verdict is Verdict.INCONCLUSIVE
    assert "delayed on purpose" in run.replica("late").reason
    assert "bytes of WAL behind" in run.replica("late").reason
    assert int(run.replica("late").reason.split(": ")[1].split()[0]) > 0
    assert run.on("late", "visit") is Verdict.INCONCLUSIVE
    assert run.replica("standby1").verdict is Verdict.CONSISTENT
    assert run.verdict is Verdict.INCONCLUSIVE
    assert run.result.divergences == ()
    assert run.seconds < 60


# --- recovery conflicts ---


@pytest.fixture
def without_feedback(make_cluster: MakeCluster, newest_major: int) -> LabCluster:
    """A cluster whose standby does not tell the primary what it still needs."""
    cluster = make_cluster(
        major=newest_major,
        standbys=1,
        feedback=False,
        settings={"max_standby_streaming_delay": "-1", "autovacuum": "off"},
    )
    cluster.primary.execute("create table hot as select g as id, 0 as hits from generate_series(1, 1000) g")
    cluster.catch_up()
    return cluster


def _conflicts(standby: LocalServer) -> int:
    count: int = value(standby, "select sum(confl_snapshot) from pg_stat_database_conflicts")
    return count


def _begin_conflict(cluster: LabCluster) -> None:
    """Remove rows that a standby's snapshot may still see, and let replay wait for it no longer.

    The primary's aligned snapshot protects those rows for as long as it lives: it is lost first.
    """
    lanes: LiteralString = "from pg_stat_activity where application_name like 'replcheck lane%'"
    cluster.primary.execute(f"select pg_terminate_backend(pid) {lanes}")
    until(lambda: value(cluster.primary, f"select count(*) {lanes}") == 0, "the primary's snapshot is gone")
    standby = cluster.standbys[0]
    standby.configure(max_standby_streaming_delay="20ms")
    standby.reload()
    until(lambda: value(standby, "show max_standby_streaming_delay") == "20ms", "the limit is in force")
    cluster.primary.execute("update hot set hits = hits + 1")
    cluster.primary.execute("vacuum hot")


def _stands_still(standby: LocalServer) -> bool:
    """Whether replay does not move for a second although there is WAL to replay."""
    behind: LiteralString = (
        "select case when pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
        " then pg_last_wal_replay_lsn()::text else '' end"
    )
    position = value(standby, behind)
    time.sleep(1)
    return bool(position) and value(standby, behind) == position


def test_a_recovery_conflict_between_two_chunks_is_survived(without_feedback: LabCluster) -> None:
    standby = without_feedback.standbys[0]

    def provoke() -> None:
        _begin_conflict(without_feedback)
        until(lambda: _conflicts(standby) > 0, "a recovery conflict")

    run = audit(without_feedback, "postgres", at(ChunkCompared, provoke))
    run.assert_consistent()
    assert run.relation("hot").rows == 1000


@pytest.mark.long
def test_a_recovery_conflict_inside_a_chunk_is_survived(without_feedback: LabCluster) -> None:
    """The chunk is read in a savepoint, where a conflict ends the whole session."""
    make_slow_tables(without_feedback.primary, "postgres", ["slow"], rows=20, seconds=1.5)
    without_feedback.catch_up()
    standby, beside = without_feedback.standbys[0], []
    reading: LiteralString = (
        "select coalesce(min(pid), 0) from pg_stat_activity where application_name like 'replcheck lane%'"
        " and state = 'active' and query like '%slow%' and backend_xmin is not null"
    )

    def provoke_while_reading() -> None:
        until(lambda: value(standby, reading), "the chunk is being read")
        pid = value(standby, reading)
        # Held where it is, so that it cannot be done before the conflict has come.
        os.kill(pid, signal.SIGSTOP)
        try:
            _begin_conflict(without_feedback)
            until(lambda: _stands_still(standby), "replay waits for the reader")
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: _conflicts(standby) > 0, "a recovery conflict")

    run = audit(
        without_feedback,
        "postgres",
        between_plan_and_read("slow", lambda: beside.append(Background(provoke_while_reading))),
    )
    beside[0].join()
    run.assert_consistent()
    assert run.relation("slow").rows == 20
    assert len(run.told(NodeWentAway)) == len(run.told(NodeCameBack))


def test_a_relation_that_takes_longer_than_a_standby_snapshot_lives_is_read_in_parts(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    cluster = make_cluster(
        major=newest_major, standbys=1, feedback=False, settings={"max_standby_streaming_delay": "2s"}
    )
    make_slow_tables(cluster.primary, "postgres", ["slow"], rows=40, seconds=2.0, row_bytes=6000)
    cluster.catch_up()
    assert value(cluster.primary, "select pg_relation_size('slow') / 8192") == 40
    run = audit(cluster, "postgres")
    run.assert_consistent()
    assert run.relation("slow").rows == 40
