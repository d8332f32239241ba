"""Nodes that go away, come back or are made anew; how many copies run; whom only a sender shows."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from replcheck.model.live import EventKind, NodeState, Receiver, SilenceCode
from replcheck.model.wal import Lsn
from replcheck.watch.limits import WatchLimits
from replcheck.watch.topology import begin
from tests.core.watched import (
    BEGUN,
    NODES,
    SEGMENT,
    Watch,
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

THREE = WatchLimits(copies=3)


def without(at, node, code=SilenceCode.UNREACHABLE):
    """Return a healthy sample in which one node is silent."""
    whole = healthy(at)
    answers = tuple(answer for answer in whole.answers if answer.node != node)
    return replace(whole, answers=answers, silences=(silence(at, node, code),))


def test_a_healthy_cluster_tells_nothing_but_that_the_watch_began():
    watch = Watch(THREE)
    watch.see(*map(healthy, range(100)))
    assert [event.kind for event in watch.told] == [EventKind.WATCH_BEGAN]
    assert watch.state.view is not None
    assert watch.state.view.running_copies == 3


def test_a_lost_standby_is_told_once_with_its_last_answer():
    watch = Watch()
    watch.see(healthy(0), without(1, "db2"), without(2, "db2"))
    event = only(watch.told, EventKind.STANDBY_LOST)
    assert (event.node, event.at, event.began_at) == ("db2", second(1.01), second(0))
    assert watch.kinds() == [EventKind.STANDBY_LOST]


def test_a_node_that_comes_back_was_away_since_its_first_silence():
    watch = Watch()
    watch.see(healthy(0), without(1, "db2"), without(2, "db2"))
    event = only(watch.see(healthy(4)), EventKind.NODE_BACK)
    assert (event.node, event.began_at, event.seconds) == ("db2", second(1), 3.01)


def test_a_node_that_flaps_is_told_ever_more_rarely():
    watch = Watch(THREE)
    for number in range(600):
        watch.see(without(number, "db2") if number % 2 else healthy(number))
    assert len(watch.told) < 30
    watch.see(*map(healthy, range(600, 900)))
    assert watch.told[-1].kind in {EventKind.NODE_BACK, EventKind.COPIES_BACK}
    assert "it came and went" in only(watch.told[-2:], EventKind.NODE_BACK).what


def test_a_node_that_refuses_the_role_is_out_of_sight_and_not_lost():
    watch = Watch(THREE)
    watch.see(healthy(0), without(1, "db2", SilenceCode.REFUSED))
    assert watch.kinds() == [EventKind.OUT_OF_SIGHT]
    assert watch.node("db2").state is NodeState.UNSURE


def test_a_node_out_of_sight_that_then_is_lost_is_told_as_lost_too():
    watch = Watch()
    watch.see(healthy(0), without(1, "db2", SilenceCode.REFUSED), without(2, "db2"))
    assert watch.kinds() == [EventKind.OUT_OF_SIGHT, EventKind.STANDBY_LOST]


def test_a_node_that_never_answered_is_out_of_sight():
    watch = Watch()
    watch.see(without(0, "db3"), without(1, "db3"))
    assert watch.kinds() == [EventKind.OUT_OF_SIGHT]
    assert watch.node("db3").state is NodeState.UNSEEN


def test_a_server_that_starts_is_told_as_lost_until_it_answers():
    watch = Watch()
    watch.see(healthy(0), without(1, "db2", SilenceCode.STARTING))
    assert watch.node("db2").state is NodeState.STARTING
    assert kinds(watch.see(healthy(2))) == [EventKind.NODE_BACK]


def test_a_node_that_is_awaited_keeps_what_it_was():
    watch = Watch()
    watch.see(healthy(0), sample(1, primary(1), standby(1)))
    assert watch.kinds() == []
    assert watch.node("db3").state is NodeState.STREAMING


def test_a_standby_is_detached_once_two_answers_show_it_while_the_primary_answers():
    watch = Watch()
    watch.see(healthy(0), sample(1, primary(1), detached(1), standby(1, "db3")))
    assert watch.kinds() == []
    assert watch.node("db2").state is NodeState.DETACHED
    watch.see(sample(2, primary(2), detached(2), standby(2, "db3")))
    assert only(watch.told, EventKind.STANDBY_DETACHED).node == "db2"
    event = only(watch.see(healthy(3)), EventKind.NODE_BACK)
    assert "streams again" in event.what


def test_standbys_of_a_primary_that_is_lost_are_not_told_as_detached():
    watch = Watch()
    watch.see(healthy(0))
    for number in range(1, 20):
        watch.see(sample(number, silence(number, "db1"), detached(number), detached(number, "db3")))
    assert watch.kinds() == [EventKind.PRIMARY_LOST]


def test_a_standby_whose_receiver_stands_still_while_the_primary_writes_is_detached():
    watch = Watch(WatchLimits(stuck_s=10))
    for number in range(20):
        answers = (primary(number, lsn=1000 + number, next_xid=number, oldest_xid=number), standby(number))
        watch.see(sample(number, *answers, standby(number, "db3", lsn=1000 + number)))
    event = only(watch.told, EventKind.STANDBY_DETACHED)
    assert (event.node, "received nothing" in event.what) == ("db2", True)


def test_a_standby_is_not_stuck_after_one_look_of_a_watch_that_asks_rarely():
    watch = Watch(WatchLimits().asked_every(20))
    for number in (0, 20, 40):
        answers = (primary(number, lsn=1000 + number, next_xid=number, oldest_xid=number), standby(number))
        watch.see(sample(number, *answers, standby(number, "db3", lsn=1000 + number)))
        assert watch.node("db2").state is NodeState.STREAMING
    for number in (60, 80):
        answers = (primary(number, lsn=1000 + number, next_xid=number, oldest_xid=number), standby(number))
        watch.see(sample(number, *answers, standby(number, "db3", lsn=1000 + number)))
    assert only(watch.told, EventKind.STANDBY_DETACHED).node == "db2"


def test_a_standby_restarted_under_a_quiet_primary_is_not_stuck_once_it_has_replayed_all():
    watch = Watch(WatchLimits(stuck_s=10))
    watch.see(*(sample(at, _wrote(at, 20_000_000 + at), standby(at, lsn=20_000_000 + at)) for at in range(5)))
    # What it tells as received is the start of a WAL file now, until something new is written.
    back: dict[str, Any] = {"lsn": SEGMENT, "replayed_lsn": Lsn(20_000_004)}
    for at in range(5, 60):
        watch.see(sample(at, primary(at, lsn=20_000_004, next_xid=4, oldest_xid=4), standby(at, **back)))
        assert watch.node("db2").state is NodeState.STREAMING
    assert EventKind.STANDBY_DETACHED not in watch.kinds()


def test_a_stream_that_falls_silent_after_a_restart_is_seen_although_what_it_had_was_replayed():
    watch = Watch(WatchLimits(stuck_s=10))
    watch.see(*(sample(at, _wrote(at, 20_000_000 + at), standby(at, lsn=20_000_000 + at)) for at in range(5)))
    back: dict[str, Any] = {"lsn": SEGMENT, "replayed_lsn": Lsn(20_000_004)}
    watch.see(*(sample(at, _wrote(at, 20_000_000 + at), standby(at, **back)) for at in range(5, 20)))
    assert only(watch.told, EventKind.STANDBY_DETACHED).node == "db2"
    watch.see(*(sample(at, silence(at, "db1"), standby(at, **back)) for at in range(20, 25)))
    assert watch.node("db2").state is NodeState.DETACHED


def _wrote(at, lsn):
    return primary(at, lsn=lsn, next_xid=at, oldest_xid=at)


def test_a_standby_of_an_idle_primary_is_never_stuck():
    watch = Watch(WatchLimits(stuck_s=10))
    watch.see(*map(healthy, range(100)))
    assert watch.kinds() == []


def test_a_receiver_that_may_not_be_seen_is_neither_good_nor_bad():
    receiver = Receiver(status=None, host="", port=None, last_message_at=None)
    watch = Watch(THREE)
    watch.see(
        *(sample(n, primary(n), standby(n, receiver=receiver, timeline=None), standby(n, "db3")) for n in range(5))
    )
    assert watch.kinds() == []
    assert watch.node("db2").state is NodeState.UNSURE
    assert "pg_monitor" in watch.node("db2").reason


def test_too_few_copies_are_told_with_how_long_there_were_too_few():
    watch = Watch(THREE)
    watch.see(healthy(0), without(10, "db2"))
    assert "2 of the 3 copies" in only(watch.told, EventKind.COPIES_SHORT).what
    event = only(watch.see(healthy(15)), EventKind.COPIES_BACK)
    assert (event.began_at, event.seconds) == (second(10.01), 5.0)


def test_a_standby_that_has_only_new_wal_was_made_anew():
    watch = Watch()
    watch.see(healthy(0), without(1, "db2"))
    made = standby(31, lsn=5000, oldest_wal=Lsn(4096), started_at=BEGUN + timedelta(seconds=30))
    told = watch.see(sample(31, primary(31, lsn=5000), made, standby(31, "db3", lsn=5000)))
    event = only(told, EventKind.COPY_RECREATED)
    assert (event.node, event.began_at, event.seconds) == ("db2", second(1.01), 30.0)


def test_a_standby_that_stood_at_the_end_of_a_wal_file_and_has_only_later_ones_was_made_anew():
    watch = Watch()
    idle = (primary(0, lsn=4096), standby(0, lsn=4096), standby(0, "db3", lsn=4096))
    watch.see(sample(0, *idle), without(1, "db2"))
    made = standby(31, lsn=5000, oldest_wal=Lsn(4096), started_at=BEGUN + timedelta(seconds=30))
    told = watch.see(sample(31, primary(31, lsn=5000), made, standby(31, "db3", lsn=5000)))
    assert only(told, EventKind.COPY_RECREATED).node == "db2"


def test_a_standby_that_still_has_its_old_wal_only_came_back():
    watch = Watch()
    watch.see(healthy(0), without(1, "db2"))
    back = standby(31, lsn=5000, oldest_wal=Lsn(0), started_at=BEGUN + timedelta(seconds=30))
    told = watch.see(sample(31, primary(31, lsn=5000), back, standby(31, "db3", lsn=5000)))
    assert kinds(told) == [EventKind.NODE_BACK]


def test_a_standby_that_ran_on_out_of_sight_was_not_made_anew_though_its_old_wal_is_recycled():
    watch = Watch()
    watch.see(healthy(0), without(1, "db2"))
    back = standby(3600, lsn=900_000, oldest_wal=Lsn(800_000))
    told = watch.see(sample(3600, primary(3600, lsn=900_000), back, standby(3600, "db3", lsn=900_000)))
    assert EventKind.COPY_RECREATED not in kinds(told)


def test_a_standby_that_was_started_after_a_base_backup_was_seen_was_made_anew():
    watch = Watch()
    copying = primary(3, senders=(sender("pg_basebackup", state="backup", replayed_lsn=None),))
    watch.see(healthy(0), without(1, "db2"), sample(3, copying, standby(3, "db3")))
    told = watch.see(sample(5, primary(5), standby(5, started_at=second(4)), standby(5, "db3")))
    assert only(told, EventKind.COPY_RECREATED).node == "db2"


def test_a_node_that_had_strayed_and_streams_again_was_made_anew():
    watch = Watch()
    watch.see(healthy(0), sample(1, primary(1), standby(1, system_identifier="1"), standby(1, "db3")))
    assert kinds(watch.told[1:]) == [EventKind.STRAYED]
    assert only(watch.see(healthy(9)), EventKind.COPY_RECREATED).seconds == 8.0


def test_a_silent_node_that_the_primary_still_sends_to_is_told_so():
    watch = Watch()
    feeding = primary(1, senders=(sender("db2"),))
    watch.see(healthy(0), sample(1, feeding, silence(1, "db2"), standby(1, "db3")))
    assert watch.node("db2").reason.endswith("while db1 still sends to it")


def fed(at, *applications, **changes):
    senders = tuple(sender(application, **changes) for application in ("db2", "db3", *applications))
    return sample(at, primary(at, senders=senders), standby(at), standby(at, "db3"))


def test_a_standby_that_nobody_configured_is_found_by_its_sender():
    watch = Watch()
    watch.see(*(fed(number, "spare", address="10.0.0.9") for number in range(4)))
    event = only(watch.told, EventKind.NODE_FOUND)
    assert (event.node, "10.0.0.9" in event.what) == ("spare@10.0.0.9", True)
    found = watch.node("spare@10.0.0.9")
    assert (found.configured, found.state, found.upstream) == (False, NodeState.STREAMING, "db1")


def test_a_found_standby_that_no_sender_shows_any_more_is_lost_and_forgotten_after_an_hour():
    watch = Watch()
    watch.see(*(fed(number, "spare") for number in range(4)), fed(5))
    assert watch.node("spare").state is NodeState.LOST
    watch.see(fed(3_700), fed(3_701))
    assert watch.state.view is not None
    assert [node.node for node in watch.state.view.nodes] == ["db1", "db2", "db3"]


def test_a_backup_a_subscriber_and_a_wal_receiver_are_no_standbys():
    watch = Watch()
    others = (
        sender("pg_basebackup", state="backup"),
        sender("subscription", logical=True),
        sender("pg_receivewal", replayed_lsn=None),
        sender("", state=None, replayed_lsn=None),
    )
    for number in range(5):
        watch.see(sample(number, primary(number, senders=others), standby(number), standby(number, "db3")))
    assert watch.kinds() == []


def test_ever_new_names_of_senders_are_bounded():
    watch = Watch()
    for number in range(1_000):
        watch.see(fed(number, *(f"spare{number // 3}_{each}" for each in range(5))))
    assert len(watch.told) < 100
    assert len(watch.state.members.found) < 100


def test_standbys_that_give_no_name_are_known_by_their_address():
    watch = Watch()
    nameless = (sender("walreceiver", address="10.0.0.2"), sender("walreceiver", address="10.0.0.3"))
    for number in range(3):
        watch.see(sample(number, primary(number, senders=nameless), standby(number), standby(number, "db3")))
    assert (watch.node("db2").upstream, watch.node("db3").upstream) == ("db1", "db1")
    assert watch.kinds() == []


def test_a_standby_that_was_stuck_before_the_watch_began_is_detached():
    watch = Watch(WatchLimits(stuck_s=10))
    for number in range(20):
        lsn = 900_000 + 9_000 * number
        answers = (primary(number, lsn=lsn, next_xid=number, oldest_xid=number), standby(number))
        watch.see(sample(number, *answers, standby(number, "db3", lsn=lsn)))
    event = only(watch.told, EventKind.STANDBY_DETACHED)
    assert (event.node, event.at) == ("db2", second(11.01))


def test_a_primary_that_is_idle_since_the_watch_began_has_not_flushed_its_last_page_and_makes_nobody_stuck():
    watch = Watch(WatchLimits(stuck_s=10))
    for number in range(26):
        answers = (primary(number, lsn=1200, next_xid=7, oldest_xid=7), standby(number), standby(number, "db3"))
        watch.see(sample(number, *answers))
    assert watch.kinds() == []


def test_the_loss_of_a_found_standby_is_told_and_so_is_its_return():
    watch = Watch()
    watch.see(*(fed(number, "spare") for number in range(4)), fed(5))
    assert watch.kinds() == [EventKind.NODE_FOUND]
    watch.see(fed(6), fed(7))
    lost = only(watch.told, EventKind.STANDBY_LOST)
    assert (lost.node, lost.at, lost.began_at) == ("spare", second(6.01), second(5.01))
    back = only(watch.see(fed(9, "spare")), EventKind.NODE_BACK)
    assert (back.node, back.seconds) == ("spare", 4.0)


def test_a_found_standby_that_is_forgotten_is_told():
    watch = Watch()
    watch.see(*(fed(number, "spare") for number in range(4)), fed(5), fed(6), fed(3_700))
    assert only(watch.told, EventKind.NODE_FORGOTTEN).node == "spare"
    assert watch.kinds().count(EventKind.NODE_FORGOTTEN) == 1


def test_found_standbys_are_not_told_as_lost_while_who_shows_them_is_silent():
    watch = Watch()
    watch.see(*(fed(number, "spare") for number in range(4)))
    watch.see(*(sample(n, silence(n, "db1"), detached(n), detached(n, "db3")) for n in range(4, 9)))
    assert watch.node("spare").state is NodeState.UNSURE
    watch.see(*(fed(number, "spare") for number in range(9, 12)))
    assert [event.kind for event in watch.told if event.node == "spare"] == [EventKind.NODE_FOUND]


def test_a_found_standby_that_follows_the_new_primary_is_never_lost():
    watch = Watch()
    watch.see(*(fed(number, "spare") for number in range(4)))
    watch.see(sample(4, silence(4, "db1"), detached(4), detached(4, "db3")))
    for number in range(5, 9):
        senders = (sender("db3"), sender("spare")) if number > 5 else ()
        new = primary(number, "db2", timeline=2, promoted_lsn=Lsn(1000), senders=senders)
        watch.see(sample(number, silence(number, "db1"), new, standby(number, "db3", timeline=2)))
    assert watch.node("spare").upstream == "db2"
    assert [event.kind for event in watch.told if event.node == "spare"] == [EventKind.NODE_FOUND]


def test_a_standby_that_another_cluster_feeds_is_none_of_this_one():
    watch = Watch(THREE)
    for number in range(6):
        stranger = primary(number, "db3", system_identifier="1", senders=(sender("spare"),))
        watch.see(sample(number, primary(number, senders=(sender("db2"),)), standby(number), stranger))
    assert EventKind.NODE_FOUND not in watch.kinds()
    assert watch.state.view is not None
    assert watch.state.view.running_copies == 2


def test_a_found_standby_of_a_strayed_primary_is_no_running_copy():
    watch = Watch()
    watch.see(healthy(0))
    for number in range(1, 8):
        old = primary(number, senders=(sender("spare"),))
        new = primary(number, "db2", timeline=2, promoted_lsn=Lsn(1000))
        watch.see(sample(number, old, new, standby(number, "db3", timeline=2)))
    assert watch.node("spare").state is NodeState.STRAYED
    assert EventKind.COPY_RECREATED not in watch.kinds()
    assert watch.state.view is not None
    assert watch.state.view.running_copies == 2


def written(number):
    """Return how far a busy primary has written."""
    return 100_000 * (number + 1)


def busy(number, **changes):
    """Return a sample of a busy primary with a found standby that its sender shows so."""
    lsn = written(number)
    senders = (sender("db2"), sender("db3"), sender("spare", **changes))
    head = primary(number, lsn=lsn, next_xid=number, oldest_xid=number, senders=senders)
    return sample(number, head, standby(number, lsn=lsn), standby(number, "db3", lsn=lsn))


def test_a_found_standby_whose_replay_stands_still_lags_behind():
    watch = Watch(WatchLimits(lag_s=30))
    for number in range(60):
        watch.see(busy(number, flushed_lsn=Lsn(written(number)), replayed_lsn=Lsn(written(5))))
    assert watch.node("spare").lag_bytes == 100_000 * 54
    event = only(watch.told, EventKind.LAG_OVER)
    assert (event.node, event.at) == ("spare", second(45.01))


def test_a_found_standby_that_receives_nothing_is_detached():
    watch = Watch(WatchLimits(stuck_s=10))
    for number in range(30):
        watch.see(busy(number, flushed_lsn=Lsn(written(2)), replayed_lsn=Lsn(written(2))))
    assert only(watch.told, EventKind.STANDBY_DETACHED).node == "spare"


def test_a_found_standby_that_told_its_replay_a_while_ago_is_not_behind():
    watch = Watch(WatchLimits(lag_s=1))
    for number in range(30):
        at = number // 10 * 10
        watch.see(busy(number, flushed_lsn=Lsn(written(number)), replayed_lsn=Lsn(written(at))))
    assert EventKind.LAG_OVER not in watch.kinds()


@pytest.mark.parametrize("name", ["db1", "walreceiver"])
def test_a_sender_that_may_feed_a_configured_node_shows_no_further_copy(name):
    watch = Watch()
    for number in range(6):
        answers = (
            primary(number, senders=(sender(name), sender(name))),
            standby(number, cluster_name="db1"),
            standby(number, "db3", cluster_name="db1"),
        )
        watch.see(sample(number, *answers))
    assert watch.kinds() == []
    assert watch.state.view is not None
    assert [node.node for node in watch.state.view.nodes] == ["db1", "db2", "db3"]


def test_an_unnamed_standby_of_a_primary_that_is_watched_alone_is_found():
    watch = Watch(state=begin("clinic", NODES[:1]))
    watch.see(*(sample(number, primary(number, senders=(sender("db1"),))) for number in range(4)))
    assert only(watch.told, EventKind.NODE_FOUND).node == "standby"
