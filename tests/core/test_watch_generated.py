"""No order and no loss of samples raises an event twice, misses a promotion or invents a split brain."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from replcheck.model.live import EventKind, NodeState
from replcheck.model.node import NodeRole
from replcheck.watch.limits import WatchLimits
from tests.core.watched import BEGUN, Watch
from tests.core.worlds import lives, received

LIMITS = WatchLimits(copies=3, lag_s=5)
TURNS = {
    EventKind.COPIES_SHORT: (EventKind.COPIES_BACK,),
    EventKind.SPLIT_BRAIN: (EventKind.SPLIT_BRAIN_OVER,),
    EventKind.REPLAY_PAUSED: (EventKind.REPLAY_RESUMED,),
    EventKind.LAG_OVER: (EventKind.LAG_BACK,),
}
LOSSES = {EventKind.PRIMARY_LOST, EventKind.STANDBY_LOST}


def fed(samples):
    watch = Watch(LIMITS)
    watch.see(*samples)
    return watch


def shown(samples):
    """Return the promotions that some sample shows: node and timeline of each primary beyond the first timeline."""
    answers = [answer for each in samples for answer in each.answers if answer.role is NodeRole.PRIMARY]
    return {(answer.node, answer.timeline) for answer in answers if answer.timeline != 1}


@given(lives())
def test_every_promotion_that_a_sample_shows_is_told_once(life):
    watch = fed(life.samples)
    told = Counter((event.node, event.timeline) for event in watch.told if event.kind is EventKind.PROMOTED)
    assert set(told.values()) <= {1}
    assert set(told) == shown(life.samples)


@given(st.data())
def test_whatever_is_lost_or_late_every_promotion_that_still_shows_is_told_once(data):
    life = data.draw(lives())
    arrived = [life.samples[0], *data.draw(received(life))]
    watch = fed(arrived)
    told = Counter((event.node, event.timeline) for event in watch.told if event.kind is EventKind.PROMOTED)
    assert set(told.values()) <= {1}
    assert set(told) == shown(in_time(arrived))


def in_time(arrived):
    """Return the samples without the results of a node that come after newer ones of it."""
    newest = {}
    kept = []
    for each in arrived:
        answers = []
        for result in (*each.answers, *each.silences):
            if result.at > newest.get(result.node, BEGUN - timedelta(days=1)):
                newest[result.node] = result.at
                answers += [result] if result in each.answers else []
        kept.append(replace(each, answers=tuple(answers)))
    return kept


@given(st.data())
def test_a_promotion_that_never_was_is_never_told(data):
    life = data.draw(lives())
    watch = fed(data.draw(received(life)))
    told = {(event.node, event.timeline) for event in watch.told if event.kind is EventKind.PROMOTED}
    assert told <= {(node, timeline) for node, timeline, _ in life.world.reigns}


@given(st.data())
def test_conditions_are_told_in_turns(data):
    watch = fed(data.draw(received(data.draw(lives()))))
    for began, over in TURNS.items():
        for node in (None, "db1", "db2", "db3"):
            kinds = [event.kind for event in watch.told if event.node == node and event.kind in {began, *over}]
            assert kinds == [began if number % 2 == 0 else over[0] for number in range(len(kinds))], began


@given(st.data())
def test_no_node_is_lost_twice_without_coming_back(data):
    watch = fed(data.draw(received(data.draw(lives()))))
    for node in ("db1", "db2", "db3"):
        away = 0
        for event in watch.told:
            if event.node == node and event.kind in LOSSES:
                away += 1
                assert away == 1
            if event.node == node and event.kind is EventKind.NODE_BACK:
                away = 0


@given(st.data())
def test_a_split_brain_is_told_only_where_two_servers_took_writes_at_once(data):
    life = data.draw(lives())
    watch = fed(data.draw(received(life)))
    if not life.world.both_at:
        assert EventKind.SPLIT_BRAIN not in watch.kinds()


@given(lives())
def test_a_split_brain_that_two_samples_in_a_row_show_is_told(life):
    watch = fed(life.samples)
    rivals = [
        {(answer.node, answer.started_at) for answer in each.answers if answer.role is NodeRole.PRIMARY}
        for each in life.samples
    ]
    if any(len(first & then) > 1 for first, then in pairwise(rivals)):
        assert EventKind.SPLIT_BRAIN in watch.kinds()


@given(st.data())
def test_folding_the_same_samples_again_tells_nothing(data):
    arrived = data.draw(received(data.draw(lives())))
    watch = fed(arrived)
    before = len(watch.told)
    watch.see(*arrived)
    assert len(watch.told) == before


@given(st.data())
def test_the_view_holds_together(data):
    watch = fed(data.draw(received(data.draw(lives()))))
    view = watch.state.view
    if view is None:
        return
    states = {node.node: node.state for node in view.nodes}
    assert set(states) == {"db1", "db2", "db3"}
    assert view.primary is None or states[view.primary] is NodeState.PRIMARY
    assert not (view.primary and view.split_brain)
    for node in view.nodes:
        assert node.lag_s is None or node.lag_s >= 0
        assert node.lag_bytes is None or node.lag_bytes >= 0
        assert node.since <= view.at


@given(lives())
def test_a_switch_over_lasted_from_the_last_write_to_the_first(life):
    watch = fed(life.samples)
    for event in watch.told:
        if event.kind is EventKind.SWITCHED_OVER:
            assert event.began_at is not None
            assert event.seconds is not None
            last = [
                answer.at
                for each in life.samples
                for answer in each.answers
                if answer.node == event.detail and answer.role is NodeRole.PRIMARY and answer.at <= event.at
            ]
            assert event.seconds >= 0
            assert event.began_at in last


@settings(max_examples=20)
@given(st.data())
def test_an_event_is_never_older_than_the_one_before(data):
    watch = fed(data.draw(received(data.draw(lives()))))
    times = [event.at for event in watch.told]
    assert times == sorted(times)
