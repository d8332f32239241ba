"""One node takes over from another, the rest follow, and the ledger tells whether an acknowledged commit was lost."""

import time
from pathlib import Path

import pytest

from replcheck.errors import LabError
from replcheck.lab.backups import ARCHIVING, archive_all, begin_archive
from replcheck.lab.cluster import LabCluster
from replcheck.lab.failover import fail_over, switch_over
from replcheck.lab.faults import apply_fault, heal
from replcheck.lab.ledger import Ledger, LedgerLoad
from tests.conftest import MakeCluster

STREAMING = "select status from pg_stat_wal_receiver"


@pytest.fixture
def lab(make_cluster: MakeCluster, newest_major: int) -> LabCluster:
    return make_cluster(major=newest_major)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def test_after_a_failover_the_others_follow_and_the_old_primary_can_be_copied_anew(lab: LabCluster) -> None:
    done = fail_over(lab, "standby2")
    assert (done.old, done.new) == ("primary", "standby2")
    assert lab.primary.name == "standby2"
    assert not lab.node("primary").running
    assert lab.node("standby1").execute(STREAMING) == [("streaming",)]
    assert heal(lab) == ["node primary was copied anew from its upstream"]
    assert lab.node("primary").is_standby
    lab.primary.execute("create table after_failover ()")
    lab.catch_up()
    assert LabCluster.from_state(lab.state).upstream("primary") == "standby2"


def test_a_failover_knows_that_the_primary_was_down_already(lab: LabCluster) -> None:
    lab.primary.kill()
    assert fail_over(lab, "standby1").was_down
    heal(lab)
    assert not fail_over(lab, "standby2").was_down


def test_a_switch_over_loses_nothing_and_leaves_nobody_behind(lab: LabCluster, ledger: Ledger) -> None:
    with LedgerLoad(lab, ledger) as load:
        load.wait_for(50)
        assert switch_over(lab).old == "primary"
        load.wait_for(50)
    assert lab.node("primary").execute(STREAMING) == [("streaming",)]
    found = ledger.audit(lab.primary)
    assert (found.acknowledged >= 100, found.lost) == (True, ())
    lab.catch_up()
    assert ledger.audit(lab.node("primary")).lost == ()


def test_a_failover_of_a_synchronous_cluster_loses_no_acknowledged_commit(lab: LabCluster, ledger: Ledger) -> None:
    for node in lab.nodes.values():
        node.configure(synchronous_standby_names="ANY 1 (*)")
        node.reload()
    with LedgerLoad(lab, ledger) as load:
        load.wait_for(100)
        fail_over(lab)
        load.wait_for(100)
    found = ledger.audit(lab.primary)
    assert found.acknowledged >= 200
    assert found.lost == ()


def test_the_ledger_tells_what_a_failover_to_a_standby_that_was_behind_has_lost(
    lab: LabCluster, ledger: Ledger
) -> None:
    with LedgerLoad(lab, ledger) as load:
        load.wait_for(50)
        lab.catch_up()
        for standby in ("standby1", "standby2"):
            apply_fault(lab, "cut-connection", node=standby)
        load.wait_for(50)
        fail_over(lab)
        load.wait_for(20)
    found = ledger.audit(lab.primary)
    assert len(found.lost) >= 50
    assert found.acknowledged - len(found.lost) >= 70


def test_a_commit_that_was_never_acknowledged_is_not_called_lost(lab: LabCluster, ledger: Ledger) -> None:
    with LedgerLoad(lab, ledger) as load:
        load.wait_for(5)
    lab.primary.execute("insert into lab_ledger values ('nobody', 1)")
    ledger.note("somebody", 7)
    found = ledger.audit(lab.primary)
    assert (found.lost, found.unacknowledged) == ((("somebody", 7),), 1)


def test_what_is_no_ledger_is_refused(lab: LabCluster, ledger: Ledger) -> None:
    with pytest.raises(LabError, match="there is no ledger"):
        ledger.entries()
    ledger.path.write_text("one two three\n")
    with pytest.raises(LabError, match="is no ledger"):
        ledger.entries()


def test_nobody_takes_over_who_cannot(lab: LabCluster) -> None:
    with pytest.raises(LabError, match="no running standby"):
        fail_over(lab, "primary")
    assert lab.primary.running
    lab.primary.kill()
    with pytest.raises(LabError, match="does not run"):
        switch_over(lab)
    for standby in lab.standbys:
        standby.kill()
    with pytest.raises(LabError, match="has no running standby"):
        fail_over(lab)


def test_the_standby_that_received_most_takes_over(lab: LabCluster) -> None:
    apply_fault(lab, "cut-connection", node="standby1")
    lab.primary.execute("create table later ()")
    lab.catch_up(only="standby2")
    assert fail_over(lab).new == "standby2"


def test_a_frozen_stream_still_says_that_it_streams_and_brings_nothing(lab: LabCluster) -> None:
    apply_fault(lab, "freeze-stream")
    lab.primary.execute("create table later ()")
    lab.catch_up(only="standby2")
    time.sleep(0.2)
    assert lab.node("standby1").execute(STREAMING) == [("streaming",)]
    assert lab.node("standby1").execute("select to_regclass('later')") == [(None,)]
    heal(lab)
    lab.catch_up()


def test_a_frozen_server_goes_on_when_it_is_healed(lab: LabCluster) -> None:
    apply_fault(lab, "hang-server")
    lab.primary.execute("create table later ()")
    heal(lab)
    lab.catch_up()
    assert lab.node("standby1").execute("select to_regclass('later')::text") == [("later",)]


def test_a_server_that_somebody_killed_is_started_when_it_is_healed(lab: LabCluster) -> None:
    lab.node("standby1").kill()
    assert heal(lab) == ["node standby1 was started again"]
    lab.wait_streaming()
    lab.primary.kill()
    assert heal(lab, "primary") == ["node primary was started again"]
    assert heal(lab) == []


def test_an_archive_can_be_broken_and_healed(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = make_cluster(major=newest_major, standbys=1, settings=ARCHIVING)
    with pytest.raises(LabError, match="has no archive"):
        apply_fault(cluster, "break-archive")
    folder = begin_archive(cluster)
    apply_fault(cluster, "break-archive")
    deadline = time.monotonic() + 30
    while cluster.primary.execute("select failed_count > 0 from pg_stat_archiver") != [(True,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    heal(cluster)
    for _ in range(2):
        cluster.primary.execute("select pg_logical_emit_message(true, 'test', '')")
        archive_all(cluster, folder)
        switch_over(cluster)
