"""Promotions, switch-overs, split brain: told once, with the times of the samples that show them."""

from datetime import timedelta

from replcheck.model.live import EventKind, NodeState, Severity, SilenceCode
from replcheck.model.wal import Lsn
from replcheck.watch.scene import Watched
from replcheck.watch.topology import begin
from tests.core.watched import (
    BEGUN,
    NODES,
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

LATER = BEGUN + timedelta(seconds=100)


def promoted(at, node="db2", *, lsn=1100, **changes):
    return primary(at, node, lsn=lsn, **({"timeline": 2, "promoted_lsn": Lsn(1050)} | changes))


def test_a_promotion_names_the_new_timeline_and_where_it_left_the_old_one():
    watch = Watch()
    watch.see(healthy(0), sample(1, silence(1, "db1"), detached(1), detached(1, "db3")))
    event = only(watch.see(sample(2, promoted(2))), EventKind.PROMOTED)
    assert (event.node, event.timeline, event.lsn, event.at) == ("db2", 2, Lsn(1050), second(2.01))


def test_a_switch_over_is_timed_from_the_last_sample_that_could_write_to_the_first_that_could_again():
    watch = Watch()
    watch.see(healthy(0), healthy(1), sample(2, silence(2, "db1"), detached(2)))
    event = only(watch.see(sample(5, silence(5, "db1"), promoted(5))), EventKind.SWITCHED_OVER)
    assert (event.node, event.detail, event.began_at, event.seconds) == ("db2", "db1", second(1), 4.0)


def test_a_switch_over_is_told_once_the_old_primary_is_seen_not_to_write():
    watch = Watch()
    watch.see(healthy(0))
    told = watch.see(sample(1, promoted(1)))
    assert [event.kind for event in told] == [EventKind.PROMOTED]
    told = watch.see(sample(2.5, silence(2.5, "db1", SilenceCode.TIMEOUT)))
    assert {event.kind for event in told} == {EventKind.PRIMARY_LOST, EventKind.SWITCHED_OVER}
    assert only(told, EventKind.SWITCHED_OVER).seconds == 1.0


def test_a_loss_that_is_seen_after_the_promotion_is_still_one_of_the_primary():
    watch = Watch()
    watch.see(healthy(0), sample(1, promoted(1)))
    assert only(watch.see(sample(2, silence(2, "db1"))), EventKind.PRIMARY_LOST).node == "db1"


def test_a_promotion_that_no_sample_of_the_standby_preceded_shows_in_the_timeline():
    watch = Watch()
    watch.see(sample(0, primary(0)), sample(1, silence(1, "db1")))
    assert only(watch.see(sample(2, promoted(2))), EventKind.PROMOTED).timeline == 2


def test_a_primary_that_comes_back_on_a_newer_timeline_of_its_own_was_promoted():
    watch = Watch()
    watch.see(healthy(0), sample(1, silence(1, "db1")))
    told = watch.see(sample(3, promoted(3, "db1", started_at=LATER)))
    assert only(told, EventKind.PROMOTED).node == "db1"
    assert only(told, EventKind.SWITCHED_OVER).seconds == 3.0


def test_the_same_answers_again_tell_nothing():
    watch = Watch()
    samples = [healthy(0), sample(1, silence(1, "db1")), sample(2, promoted(2), silence(2, "db1"))]
    watch.see(*samples)
    assert watch.see(*samples) == []


def test_an_answer_that_comes_late_is_passed_over():
    watch = Watch()
    watch.see(healthy(0), sample(3, promoted(3), silence(3, "db1")))
    assert watch.see(sample(2, standby(2))) == []
    assert watch.node("db2").state is NodeState.PRIMARY


def test_two_primaries_are_a_split_brain_once_both_answered_twice():
    watch = Watch()
    watch.see(healthy(0))
    assert EventKind.SPLIT_BRAIN not in [e.kind for e in watch.see(sample(1, primary(1), promoted(1)))]
    told = watch.see(sample(2, primary(2), promoted(2)))
    assert only(told, EventKind.SPLIT_BRAIN).detail == "db1, db2"
    assert watch.state.view is not None
    assert watch.state.view.split_brain
    assert watch.state.view.primary is None
    assert watch.node("db1").state is NodeState.STRAYED


def test_a_primary_that_died_before_the_other_one_answered_is_no_split_brain():
    watch = Watch()
    watch.see(healthy(0), healthy(1))
    # db1 is awaited: its last answer is old, and db2 has taken over meanwhile.
    watch.see(sample(2, promoted(2)), sample(3, promoted(3)), sample(3.5, silence(3.5, "db1")))
    assert EventKind.SPLIT_BRAIN not in watch.kinds()


def test_a_split_brain_is_over_when_one_of_the_two_is_gone():
    watch = Watch()
    watch.see(healthy(0), sample(1, primary(1), promoted(1)), sample(2, primary(2), promoted(2)))
    told = watch.see(sample(5, silence(5, "db1"), promoted(5)))
    over = only(told, EventKind.SPLIT_BRAIN_OVER)
    assert (over.began_at, over.seconds) == (second(2.01), 3.0)
    assert only(told, EventKind.SWITCHED_OVER).seconds == 0.0


def test_one_server_under_two_names_is_no_split_brain_and_one_copy():
    watch = Watch()
    twice = [
        sample(number, primary(number), primary(number, "db2", own_port=5432), standby(number, "db3"))
        for number in range(3)
    ]
    watch.see(*twice)
    assert EventKind.SPLIT_BRAIN not in watch.kinds()
    assert watch.node("db2").state is NodeState.UNSURE
    assert watch.state.view is not None
    assert watch.state.view.running_copies == 2


def test_another_cluster_under_a_nodes_name_is_foreign_and_no_rival():
    watch = Watch()
    for number in range(3):
        watch.see(sample(number, primary(number), primary(number, "db2", system_identifier="1", timeline=9)))
    assert watch.kinds() == [EventKind.STRAYED]
    assert watch.node("db2").state is NodeState.FOREIGN
    assert watch.state.view is not None
    assert watch.state.view.primary == "db1"


def test_a_foreign_node_that_answers_first_does_not_make_the_cluster_its_own():
    watch = Watch()
    watch.see(sample(0, stranger(0)), sample(1, primary(1), standby(1), stranger(1)))
    assert watch.node("db1").state is NodeState.PRIMARY
    assert watch.node("db3").state is NodeState.FOREIGN
    watch.see(sample(2, silence(2, "db1"), silence(2, "db2"), stranger(2)))
    assert watch.node("db3").state is NodeState.FOREIGN


def stranger(at):
    return standby(at, "db3", system_identifier="1")


def test_an_old_primary_that_streams_from_the_new_one_has_rejoined():
    watch = Watch()
    watch.see(healthy(0), sample(1, silence(1, "db1")), sample(2, promoted(2)))
    told = watch.see(sample(9, standby(9, "db1", lsn=1100, timeline=2, started_at=LATER), promoted(9)))
    assert only(told, EventKind.REJOINED).node == "db1"
    assert watch.see(sample(10, standby(10, "db1", lsn=1100, timeline=2, started_at=LATER), promoted(10))) == []


def test_an_old_primary_that_wrote_beyond_the_switch_has_strayed():
    watch = Watch()
    watch.see(healthy(0, lsn=1070), sample(1, silence(1, "db1")), sample(2, promoted(2)))
    told = watch.see(sample(9, detached(9, "db1", lsn=1070, started_at=LATER), promoted(9)))
    assert only(told, EventKind.STRAYED).node == "db1"
    assert "timeline 2 began at 0/41A" in watch.node("db1").reason


def test_an_old_primary_that_stopped_before_the_switch_is_only_detached():
    watch = Watch()
    watch.see(healthy(0), sample(1, silence(1, "db1")), sample(2, promoted(2)))
    watch.see(sample(9, detached(9, "db1", lsn=1050, started_at=LATER), promoted(9)))
    assert watch.node("db1").state is NodeState.DETACHED


def taken_back(at):
    """Return what is seen after db2, which was promoted beside its primary, was copied anew from it."""
    return sample(at, primary(at), standby(at, "db2", started_at=LATER), standby(at, "db3"))


def test_a_promotion_that_was_taken_back_leaves_the_cluster_to_its_old_primary():
    watch = Watch()
    watch.see(healthy(0), *(sample(at, primary(at), promoted(at), standby(at, "db3")) for at in (1, 2, 3)))
    assert only(watch.told, EventKind.SPLIT_BRAIN).detail == "db1, db2"
    told = watch.see(taken_back(9), taken_back(10))
    assert watch.state.view is not None
    assert (watch.state.view.primary, watch.state.view.timeline) == ("db1", 1)
    assert [watch.node(name).state for name in ("db2", "db3")] == [NodeState.STREAMING] * 2
    assert only(told, EventKind.REJOINED).node == "db2"
    assert EventKind.SPLIT_BRAIN_OVER in kinds(told)
    assert EventKind.SWITCHED_OVER not in watch.kinds()
    # The others ran on: that the timeline was given up made no new copies of them.
    assert EventKind.COPY_RECREATED not in {event.kind for event in told if event.node != "db2"}


def test_an_old_primary_that_comes_back_alone_does_not_take_the_cluster_back():
    watch = Watch()
    watch.see(healthy(0), sample(1, silence(1, "db1"), promoted(1), standby(1, "db3", timeline=2)))
    watch.see(sample(9, primary(9, started_at=LATER), silence(9, "db2"), detached(9, "db3")))
    assert watch.state.view is not None
    assert watch.state.view.last_primary == "db2"
    assert watch.node("db1").state is NodeState.STRAYED


def test_two_standbys_that_were_promoted_are_told_both():
    watch = Watch()
    watch.see(healthy(0), sample(1, silence(1, "db1")))
    watch.see(sample(2, promoted(2), promoted(2, "db3")), sample(3, promoted(3), promoted(3, "db3")))
    assert [event.node for event in watch.told if event.kind is EventKind.PROMOTED] == ["db2", "db3"]
    assert only(watch.told, EventKind.SPLIT_BRAIN).detail == "db2, db3"


def test_a_promotion_on_an_old_timeline_does_not_take_the_cluster_with_it():
    watch = Watch()
    watch.see(healthy(0), sample(1, silence(1, "db1"), promoted(1)), sample(2, promoted(2, timeline=3)))
    watch.see(sample(3, promoted(3, timeline=3), promoted(3, "db3", timeline=2)))
    assert watch.state.view is not None
    assert watch.state.view.last_primary == "db2"
    assert watch.node("db3").state is NodeState.STRAYED


def test_a_standby_that_starts_as_a_primary_without_a_new_timeline_is_told_too():
    watch = Watch()
    watch.see(healthy(0), sample(1, silence(1, "db1"), silence(1, "db2")))
    told = watch.see(sample(5, primary(5, "db2", started_at=LATER), silence(5, "db1")))
    assert only(told, EventKind.PROMOTED).timeline == 1
    assert only(told, EventKind.SWITCHED_OVER).seconds == 5.0
    assert watch.state.view is not None
    assert watch.state.view.primary == "db2"


def test_a_primary_whose_own_timeline_rises_was_promoted_even_where_a_newer_one_is_known():
    watch = Watch()
    watch.see(healthy(0), sample(1, silence(1, "db1"), promoted(1, timeline=3)))
    told = watch.see(sample(9, promoted(9, "db1", timeline=2, started_at=LATER)))
    assert only(told, EventKind.PROMOTED).node == "db1"


def test_a_split_brain_on_one_timeline_leaves_the_copies_of_one_primary():
    watch = Watch(state=begin("clinic", [*NODES, Watched(name="db4")]))
    watch.see(sample(0, primary(0), standby(0), standby(0, "db3"), standby(0, "db4")))
    for at in (1, 2, 3, 4):
        rival = promoted(at, "db3", senders=(sender("db4"),))
        follows = standby(at, "db4", lsn=1100, timeline=2)
        watch.see(sample(at, silence(at, "db1"), promoted(at), rival, follows))
    assert watch.state.view is not None
    assert watch.state.view.running_copies == 1
    assert [watch.node(name).state for name in ("db2", "db3", "db4")] == [
        NodeState.PRIMARY,
        NodeState.STRAYED,
        NodeState.STRAYED,
    ]
    assert "db3" in watch.node("db4").reason


def written(at, lsn, xid, **changes):
    """Return a sample of a primary that has written so far and given out so many ids."""
    return sample(at, primary(at, lsn=lsn, next_xid=xid, oldest_xid=xid, **changes), standby(at))


def failed_over(watch, at, *, began_at):
    return watch.see(sample(at, silence(at, "db1"), promoted(at, promoted_lsn=Lsn(began_at))))


def test_wal_that_a_switch_over_left_behind_is_told_as_commits_that_may_be_lost():
    watch = Watch()
    watch.see(written(0, 1000, 7), written(1, 401_000, 11))
    told = failed_over(watch, 3, began_at=1000)
    event = only(told, EventKind.WAL_LEFT_BEHIND)
    assert (event.node, event.detail, event.size_bytes, event.lsn) == ("db1", "db2", 400_000, Lsn(1000))
    assert event.severity is Severity.CRITICAL
    assert "commits may be lost" in event.what


def test_housekeeping_that_was_not_taken_over_is_no_loss():
    watch = Watch()
    watch.see(written(0, 1000, 7), written(1, 1200, 7), written(2, 9000, 7))
    assert EventKind.WAL_LEFT_BEHIND not in kinds(failed_over(watch, 4, began_at=1100))


def test_an_orderly_switch_over_leaves_nothing_behind():
    watch = Watch()
    watch.see(written(0, 1000, 7), written(1, 5000, 9))
    assert EventKind.WAL_LEFT_BEHIND not in kinds(failed_over(watch, 3, began_at=5120))


def test_what_an_old_primary_wrote_beside_the_new_one_is_left_behind():
    watch = Watch()
    watch.see(written(0, 1000, 7))
    for at in (1, 2, 3):
        old = primary(at, lsn=1000 + 90_000 * at, next_xid=7 + at, oldest_xid=7 + at)
        watch.see(sample(at, old, promoted(at)))
    assert EventKind.WAL_LEFT_BEHIND not in watch.kinds()
    told = watch.see(sample(4, silence(4, "db1"), promoted(4)))
    assert only(told, EventKind.WAL_LEFT_BEHIND).size_bytes == 269_950
