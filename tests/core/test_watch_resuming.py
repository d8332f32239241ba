"""A new watch goes on where an earlier one ended: nothing is told twice, what changed between them is told."""

from dataclasses import replace
from datetime import timedelta

import pytest

from replcheck.check.outages import outages
from replcheck.model.live import ClusterView, EventKind, NodeState, SilenceCode, Slot
from replcheck.model.plain import to_plain
from replcheck.model.shape import from_plain
from replcheck.model.wal import Lsn
from replcheck.watch.limits import WatchLimits
from replcheck.watch.topology import begin
from tests.core.watched import (
    BEGUN,
    NODES,
    Watch,
    archiver,
    detached,
    healthy,
    kinds,
    only,
    primary,
    sample,
    second,
    sender,
    silence,
    standby,
)

LIMITS = WatchLimits(copies=3, lag_bytes=100, recovery_age_s=60)


def resumed(watch):
    """Return a watch that begins with what is stored of another one."""
    stored = from_plain(ClusterView, to_plain(watch.state.view))
    return Watch(LIMITS, state=begin("clinic", NODES, earlier=stored, limits=LIMITS))


def test_a_healthy_cluster_is_watched_on_without_a_word():
    watch = Watch(LIMITS)
    watch.see(healthy(0))
    after = resumed(watch)
    after.see(healthy(5))
    assert [event.kind for event in after.told] == [EventKind.WATCH_BEGAN]
    assert after.node("db2").since == watch.node("db2").since


def test_the_time_in_which_nothing_watched_is_told():
    watch = Watch(LIMITS)
    watch.see(healthy(0))
    event = only(resumed(watch).see(healthy(300)), EventKind.WATCH_GAP)
    assert (event.began_at, event.seconds) == (second(0.01), 300.0)


def test_nodes_whose_first_answer_is_awaited_after_a_long_time_are_neither_gone_nor_made_anew():
    watch = Watch(LIMITS)
    watch.see(healthy(0))
    after = resumed(watch)
    old = Lsn(800_000)
    after.see(sample(600, standby(600, "db2", lsn=900_000, oldest_wal=old)))
    others = (
        primary(600.1, lsn=900_000, oldest_wal=old),
        standby(600.1, "db3", lsn=900_000, oldest_wal=old),
    )
    after.see(sample(600.1, *others))
    assert after.kinds() == [EventKind.WATCH_GAP]


def test_a_server_that_ran_on_while_nothing_watched_was_not_made_anew_though_its_old_wal_is_recycled():
    watch = Watch(LIMITS)
    watch.see(healthy(0), sample(1, primary(1), silence(1, "db2"), standby(1, "db3")))
    after = resumed(watch)
    back = standby(600, "db2", lsn=900_000, oldest_wal=Lsn(800_000))
    after.see(sample(600, primary(600, lsn=900_000), back, standby(600, "db3", lsn=900_000)))
    assert after.kinds() == [EventKind.WATCH_GAP, EventKind.NODE_BACK, EventKind.COPIES_BACK]


def test_a_copy_that_was_made_anew_while_nothing_watched_took_at_most_that_time():
    watch = Watch(LIMITS)
    watch.see(healthy(0), *(sample(at, primary(at), silence(at, "db2"), standby(at, "db3")) for at in (1, 2)))
    after = resumed(watch)
    made = standby(600, "db2", lsn=900_000, oldest_wal=Lsn(800_000), started_at=second(500))
    told = after.see(sample(600, primary(600, lsn=900_000), made, standby(600, "db3", lsn=900_000)))
    event = only(told, EventKind.COPY_RECREATED)
    assert (event.began_at, event.seconds, event.unseen_s) == (second(1.01), 599.0, 598.0)
    assert event.what.endswith("at most 9min 59s after it was lost: for 9min 58s of that nobody watched")


def test_a_copy_that_was_lost_while_nothing_watched_may_have_been_gone_since_it_was_last_seen():
    watch = Watch(LIMITS)
    watch.see(healthy(0))
    after = resumed(watch)
    after.see(sample(600, primary(600), silence(600, "db2"), standby(600, "db3")))
    after.see(sample(601, primary(601), silence(601, "db2"), standby(601, "db3")))
    made = standby(660, "db2", lsn=900_000, oldest_wal=Lsn(800_000), started_at=second(650))
    told = after.see(sample(660, primary(660, lsn=900_000), made, standby(660, "db3", lsn=900_000)))
    event = only(told, EventKind.COPY_RECREATED)
    assert (event.began_at, event.seconds, event.unseen_s) == (second(0), 660.01, 600.01)


def troubled(at):
    """Return a sample with much that is wrong."""
    lost = Slot(name="spare", logical=False, active=False, retained_bytes=None, wal_status="lost")
    failing = archiver(failed=1, last_failed="000000010000000000000002", last_failed_at=second(-5))
    return sample(
        at,
        primary(at, slots=(lost,), archiver=failing),
        detached(at, lsn=500, replay_paused=True, checksum_failures=2),
        silence(at, "db3"),
    )


def test_nothing_that_was_told_before_is_told_again():
    watch = Watch(LIMITS)
    watch.see(healthy(0), troubled(1), troubled(2), troubled(3))
    assert len(set(watch.kinds())) == len(watch.kinds()) == 8
    after = resumed(watch)
    after.see(troubled(4), troubled(5), troubled(6))
    assert after.kinds() == []


def test_what_is_well_again_is_told_after_a_restart():
    watch = Watch(LIMITS)
    watch.see(healthy(0), troubled(1), troubled(2), troubled(3))
    after = resumed(watch)
    after.see(healthy(9), healthy(10))
    assert set(after.kinds()) == {
        EventKind.NODE_BACK,
        EventKind.LAG_BACK,
        EventKind.REPLAY_RESUMED,
        EventKind.ARCHIVE_WORKING,
        EventKind.COPIES_BACK,
    }
    assert {event.node for event in after.told if event.kind is EventKind.NODE_BACK} == {"db2", "db3"}


def test_a_promotion_that_nothing_watched_is_found_with_how_long_nobody_is_known_to_have_written():
    watch = Watch(LIMITS)
    watch.see(healthy(0))
    after = resumed(watch)
    told = after.see(sample(30, silence(30, "db1"), primary(30, "db2", timeline=2, promoted_lsn=Lsn(1000))))
    assert only(told, EventKind.PROMOTED).node == "db2"
    event = only(told, EventKind.SWITCHED_OVER)
    assert (event.began_at, event.seconds, event.detail) == (second(0), 30.0, "db1")


def test_an_old_primary_that_rejoins_after_a_restart_is_known_as_one():
    watch = Watch(LIMITS)
    watch.see(healthy(0), sample(1, silence(1, "db1"), primary(1, "db2", timeline=2)))
    after = resumed(watch)
    later = BEGUN + timedelta(seconds=20)
    told = after.see(sample(30, standby(30, "db1", timeline=2, started_at=later), primary(30, "db2", timeline=2)))
    assert EventKind.REJOINED in kinds(told)


def test_a_promotion_that_was_taken_back_while_nothing_watched_leaves_the_cluster_to_its_old_primary():
    watch = Watch(LIMITS)
    both = (sample(at, primary(at), primary(at, "db2", timeline=2), standby(at, "db3")) for at in (1, 2, 3))
    watch.see(healthy(0), *both)
    after = resumed(watch)
    made = standby(600, "db2", started_at=second(500))
    after.see(sample(600, primary(600), made, standby(600, "db3")))
    assert after.state.view is not None
    assert after.state.view.primary == "db1"
    assert EventKind.SPLIT_BRAIN_OVER in after.kinds()


def test_a_found_standby_is_not_found_again():
    spare = (sender("db2"), sender("db3"), sender("spare"))
    watch = Watch(LIMITS)
    watch.see(*(sample(n, primary(n, senders=spare), standby(n), standby(n, "db3")) for n in range(4)))
    assert EventKind.NODE_FOUND in watch.kinds()
    after = resumed(watch)
    after.see(*(sample(n, primary(n, senders=spare), standby(n), standby(n, "db3")) for n in range(5, 9)))
    assert after.kinds() == []
    assert after.node("spare").state is NodeState.STREAMING


def test_nodes_that_are_configured_no_more_are_forgotten():
    watch = Watch(LIMITS)
    watch.see(healthy(0))
    assert watch.state.view is not None
    state = begin("clinic", NODES[1:], earlier=watch.state.view, limits=LIMITS)
    after = Watch(LIMITS, state=state)
    after.see(sample(1, standby(1), standby(1, "db3")), sample(2, standby(2), standby(2, "db3")))
    assert after.state.view is not None
    assert [node.node for node in after.state.view.nodes] == ["db2", "db3"]


@pytest.mark.parametrize("cluster", ["other"])
def test_the_view_of_another_cluster_is_not_taken_over(cluster):
    watch = Watch(LIMITS)
    watch.see(healthy(0))
    assert watch.state.view is not None
    foreign = replace(watch.state.view, cluster=cluster)
    assert begin("clinic", NODES, earlier=foreign) == begin("clinic", NODES)


def cascade(at, *, lsn, stuck=1000):
    """Return a sample in which db2 is detached and db3, which streams from it, gets nothing."""
    return sample(
        at,
        primary(at, lsn=lsn, next_xid=at, oldest_xid=at),
        detached(at, lsn=stuck, senders=(sender("db3"),)),
        standby(at, "db3", lsn=stuck),
    )


def test_a_standby_that_was_stuck_stays_so_after_a_restart_until_it_receives_something():
    watch = Watch(LIMITS)
    watch.see(healthy(0), *(cascade(at, lsn=100_000 * at) for at in range(1, 40)))
    assert watch.node("db3").state is NodeState.DETACHED
    after = resumed(watch)
    for at in range(43, 400):
        after.see(cascade(at, lsn=100_000 * at))
        assert after.node("db3").state is NodeState.DETACHED
    assert [event for event in after.told if event.node == "db3"] == []
    assert "has received nothing for 6min" in after.node("db3").reason
    told = after.see(cascade(400, lsn=100_000 * 400, stuck=2000))
    assert [(event.kind, event.node) for event in told if event.node == "db3"] == [(EventKind.NODE_BACK, "db3")]


def test_a_standby_that_was_stuck_stays_so_while_its_primary_is_restarted():
    watch = Watch(LIMITS)
    watch.see(healthy(0), *(cascade(at, lsn=100_000 * at) for at in range(1, 40)))
    watch.see(*(sample(at, silence(at, "db1"), detached(at), standby(at, "db3")) for at in range(40, 45)))
    watch.see(*(cascade(at, lsn=100_000 * at) for at in range(45, 60)))
    assert EventKind.NODE_BACK not in {event.kind for event in watch.told if event.node == "db3"}


def test_a_standby_that_was_detached_streams_again_at_once_where_there_was_nothing_to_receive():
    watch = Watch(LIMITS)
    watch.see(healthy(0), *(sample(at, primary(at), detached(at), standby(at, "db3")) for at in (1, 2, 3)))
    after = resumed(watch)
    told = after.see(healthy(5))
    assert (EventKind.NODE_BACK, "db2") in {(event.kind, event.node) for event in told}


def test_a_primary_that_died_while_nothing_watched_is_told_as_lost_with_its_last_answer():
    watch = Watch(LIMITS)
    watch.see(healthy(0))
    after = resumed(watch)
    told = after.see(sample(30, silence(30, "db1"), detached(30), detached(30, "db3")))
    event = only(told, EventKind.PRIMARY_LOST)
    assert (event.node, event.began_at) == ("db1", second(0))
    assert after.node("db1").state is NodeState.LOST
    assert [(outage.node, outage.began_at, outage.ended_at) for outage in outages(after.told)] == [
        ("db1", second(0), None)
    ]


@pytest.mark.parametrize("gap", [20, 300])
def test_a_switch_over_is_timed_over_any_number_of_restarts(gap):
    watch = Watch(LIMITS)
    watch.see(healthy(0))
    for number in (1, 2, 3):
        watch = resumed(watch)
        at = number * gap
        watch.see(sample(at, silence(at, "db1"), detached(at), detached(at, "db3")))
    watch = resumed(watch)
    told = watch.see(sample(4 * gap, silence(4 * gap, "db1"), primary(4 * gap, "db2", timeline=2)))
    event = only(told, EventKind.SWITCHED_OVER)
    assert (event.began_at, event.seconds, event.detail) == (second(0), 4.0 * gap, "db1")
    assert EventKind.PRIMARY_LOST not in kinds(told)


def test_nothing_is_lost_yet_while_a_new_watch_reaches_no_node_at_all():
    watch = Watch(LIMITS)
    watch.see(healthy(0))
    after = resumed(watch)
    unreached = [silence(30, node) for node in ("db1", "db2", "db3")]
    assert EventKind.PRIMARY_LOST not in kinds(after.see(sample(30, *unreached)))
    after.see(healthy(31))
    assert after.kinds() == [EventKind.COPIES_SHORT, EventKind.COPIES_BACK]


def test_a_node_whose_first_answer_takes_long_is_not_lost_yet():
    watch = Watch(LIMITS)
    watch.see(healthy(0))
    after = resumed(watch)
    after.see(sample(30, standby(30), standby(30, "db3"), silence(30, "db1", SilenceCode.TIMEOUT)))
    assert EventKind.PRIMARY_LOST not in after.kinds()
    after.see(*(sample(at, standby(at), silence(at, "db1", SilenceCode.TIMEOUT)) for at in (31, 32, 33, 34)))
    assert only(after.told, EventKind.PRIMARY_LOST).node == "db1"


def test_an_old_primary_that_is_gone_after_it_was_taken_over_from_makes_no_outage():
    watch = Watch(LIMITS)
    watch.see(healthy(0))
    after = resumed(watch)
    after.see(sample(30, primary(30, "db2", timeline=2), standby(30, "db3", timeline=2)))
    after.see(*(sample(at, silence(at, "db1"), primary(at, "db2", timeline=2)) for at in range(31, 40)))
    assert only(after.told, EventKind.STANDBY_LOST).what.startswith("old primary db1")
    assert [outage.successor for outage in outages(after.told)] == ["db2"]


def test_a_switch_over_that_a_restart_cut_off_is_told_once_with_the_times_that_the_first_watch_saw():
    watch = Watch(LIMITS)
    watch.see(healthy(0), healthy(1), sample(4, primary(4, "db2", timeline=2, promoted_lsn=Lsn(1050))))
    assert EventKind.PROMOTED in watch.kinds()
    assert EventKind.SWITCHED_OVER not in watch.kinds()
    after = resumed(watch)
    told = after.see(sample(20, primary(20, "db2", timeline=2, lsn=1200)))
    assert EventKind.SWITCHED_OVER not in kinds(told)  # whether the old primary still writes is not known yet
    after.see(*(sample(at, silence(at, "db1"), primary(at, "db2", timeline=2, lsn=1200)) for at in range(21, 30)))
    event = only(after.told, EventKind.SWITCHED_OVER)
    assert (event.node, event.detail, event.began_at, event.seconds) == ("db2", "db1", second(1), 3.0)
    assert (event.timeline, event.lsn) == (2, Lsn(1050))
    again = resumed(after)
    again.see(*(sample(at, silence(at, "db1"), primary(at, "db2", timeline=2, lsn=1200)) for at in range(31, 35)))
    assert EventKind.SWITCHED_OVER not in again.kinds()


def test_what_the_old_primary_wrote_before_a_restart_and_nobody_took_over_is_still_told():
    watch = Watch(LIMITS)
    watch.see(healthy(0), sample(1, primary(1, lsn=9000), primary(1, "db2", timeline=2, promoted_lsn=Lsn(1050))))
    after = resumed(watch)
    told = after.see(sample(5, silence(5, "db1"), primary(5, "db2", timeline=2, lsn=1200)))
    assert only(told, EventKind.WAL_LEFT_BEHIND).size_bytes == 9000 - 1050


def test_a_switch_over_between_nodes_that_are_configured_no_more_is_not_recalled():
    watch = Watch(LIMITS)
    watch.see(healthy(0), sample(1, primary(1, "db2", timeline=2, promoted_lsn=Lsn(1050))))
    after = Watch(LIMITS, state=begin("clinic", NODES[1:], earlier=watch.state.view, limits=LIMITS))
    after.see(sample(5, primary(5, "db2", timeline=2, lsn=1200)))
    assert EventKind.SWITCHED_OVER not in after.kinds()
