"""Where a standby's sequence stands that nobody moves: exactly where the primary has logged ahead to."""

import os
import signal
from random import Random
from typing import LiteralString

import pytest

from replcheck.lab.cluster import LabCluster
from replcheck.lab.pages import line_pointers, tuple_bytes, with_bytes
from replcheck.lab.surgery import Site, describe, heap, settle, stopped
from replcheck.model.audit import RelationReport
from replcheck.model.outcome import Verdict
from replcheck.postgres.server import LocalServer
from tests.conftest import MakeCluster
from tests.staged import Staged, audit, session_on, value


def run_on_primary(cluster: LabCluster, *statements: LiteralString) -> None:
    for statement in statements:
        cluster.primary.execute(statement)
    cluster.catch_up()


def verdicts(report: RelationReport) -> dict[str, Verdict]:
    return {replica.node: replica.verdict for replica in report.replicas}


def assert_proven(run: Staged) -> None:
    run.assert_consistent()
    assert set(verdicts(run.relation("ticket")).values()) == {Verdict.CONSISTENT}


@pytest.fixture
def quiet(make_cluster: MakeCluster, newest_major: int) -> LabCluster:
    """A cluster where nobody but a test writes, with a sequence from which five values were taken."""
    cluster = make_cluster(major=newest_major, settings={"autovacuum": "off", "bgwriter_lru_maxpages": "0"})
    run_on_primary(
        cluster,
        "create table visit as select 1 as id",
        "create sequence ticket",
        "select nextval('ticket') from generate_series(1, 5)",
    )
    return cluster


def state_of(server: LocalServer) -> tuple[int, int, bool]:
    [found] = server.execute("select last_value, log_cnt, is_called from ticket")
    return found


def set_on_standby(cluster: LabCluster, last_value: int) -> None:
    """Put another value into the sequence's file on standby1."""
    site = Site(cluster=cluster, node=cluster.node("standby1"), database="postgres", relation=None, rng=Random(0))
    stored = describe(site, "public.ticket")
    settle(site, None)
    with stopped(site):
        files = heap(site, stored)
        page = files.read(0)
        [pointer] = line_pointers(page)
        at_value = pointer.offset + tuple_bytes(page, pointer)[22]
        files.write(0, with_bytes(page, at_value, last_value.to_bytes(8, "little", signed=True)))


def test_a_standby_stands_where_the_primary_has_logged_ahead_to(quiet: LabCluster) -> None:
    assert state_of(quiet.primary) == (5, 28, True)
    assert state_of(quiet.node("standby1")) == (33, 0, True)
    assert_proven(audit(quiet, "postgres"))


@pytest.mark.parametrize("wrong", [5, *(pytest.param(wrong, marks=pytest.mark.long) for wrong in (32, 34, 36))])
def test_a_sequence_near_what_was_logged_ahead_is_no_copy_where_the_primarys_stands_still(
    quiet: LabCluster, wrong: int
) -> None:
    set_on_standby(quiet, wrong)
    assert state_of(quiet.node("standby1")) == (wrong, 0, True)
    run = audit(quiet, "postgres")
    assert [(found.relation, found.node) for found in run.result.divergences] == [("public.ticket", "standby1")]
    assert verdicts(run.relation("ticket")) == {"standby1": Verdict.DIVERGED, "standby2": Verdict.CONSISTENT}


def test_a_standby_copied_while_values_are_logged_ahead_is_consistent(quiet: LabCluster) -> None:
    """Its page is the primary's own, not what the WAL holds."""
    quiet.primary.execute("checkpoint")
    quiet.add_standby("copied")
    assert state_of(quiet.node("copied")) == state_of(quiet.primary) == (5, 28, True)
    assert_proven(audit(quiet, "postgres"))
    run_on_primary(quiet, "select nextval('ticket')")
    assert_proven(audit(quiet, "postgres"))


def test_values_taken_in_a_transaction_whose_wal_is_not_flushed_yet_accuse_no_standby(
    quiet: LabCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not flushed is not sent, and nothing flushes it before the transaction ends."""
    monkeypatch.setattr("replcheck.audit.sequences._WRITTEN_S", 3.0)
    writer = value(quiet.primary, "select pid from pg_stat_activity where backend_type = 'walwriter'")
    with session_on(quiet.primary, "postgres") as connection:
        os.kill(writer, signal.SIGSTOP)
        try:
            connection.execute("select nextval('ticket') from generate_series(1, 40)")
            assert value(quiet.primary, "select pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()") > 0
            run = audit(quiet, "postgres", replay_wait_s=1.0)
            assert state_of(quiet.primary)[0] == 45
            assert state_of(quiet.node("standby1")) == (33, 0, True), "nothing was flushed meanwhile"
        finally:
            os.kill(writer, signal.SIGCONT)
    assert run.result.divergences == ()
    assert verdicts(run.relation("ticket")) == dict.fromkeys(("standby1", "standby2"), Verdict.INCONCLUSIVE)
    assert "not written out" in next(note.reason for note in run.result.not_checked)


@pytest.mark.long
def test_the_wal_of_a_primary_at_rest_is_waited_for_however_little_time_a_replica_has_to_replay(
    quiet: LabCluster,
) -> None:
    """Nobody commits, so it is written out only when the background writer logs what runs, every 15 s."""
    assert_proven(audit(quiet, "postgres"))  # what a first reader writes would fill pages, which are written out
    with session_on(quiet.primary, "postgres") as connection:
        connection.execute("select nextval('ticket') from generate_series(1, 40)")
        assert value(quiet.primary, "select pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()") > 0
        assert_proven(audit(quiet, "postgres", replay_wait_s=0.5))
