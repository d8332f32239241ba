"""Samples become spans, and spans grow longer with age: no change is lost, and the worst that was seen stays."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from replcheck.model.live import NodeState
from replcheck.model.spanning import SpanBuilder, Spans, thinned
from replcheck.model.spans import GAP_S
from tests.core.lives import WELL, at, span, view

LOST = {**WELL, "db3": NodeState.LOST}
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.5, 1.0, 1.0, 1.0, 7.0, 59.0, 61.0, 500.0]),
        st.sampled_from([WELL, WELL, WELL, LOST, {**WELL, "db2": NodeState.DETACHED}]),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=80,
)


def built(*views, builder=None):
    """Return all spans of some views."""
    builder = builder or SpanBuilder()
    spans = Spans()
    for each in views:
        spans += builder.take(each)
    return spans + builder.rest()


def of(spans, node):
    return [span for span in spans.nodes if span.node == node]


def state_at(spans, moment):
    """Return which states the spans show at a moment."""
    return {span.state for span in spans if span.began_at <= moment <= span.ended_at}


def test_a_span_lasts_ten_seconds_at_most():
    spans = of(built(*(view(second) for second in range(25))), "db2")
    assert [(span.began_at, span.ended_at, span.samples) for span in spans] == [
        (at(0), at(9), 10),
        (at(10), at(19), 10),
        (at(20), at(24), 5),
    ]


def test_a_change_of_state_begins_a_new_span_of_that_node_alone():
    spans = built(view(0), view(1), view(2, LOST), view(3, LOST), view(4))
    assert [(span.state, span.began_at) for span in of(spans, "db3")] == [
        (NodeState.STREAMING, at(0)),
        (NodeState.LOST, at(2)),
        (NodeState.STREAMING, at(4)),
    ]
    assert len(of(spans, "db2")) == 1
    assert [(span.min_running_copies, span.began_at) for span in spans.watch] == [(3, at(0)), (2, at(2)), (3, at(4))]


def test_a_new_history_a_new_host_and_a_new_count_of_failures_begin_one_too():
    for changes in ({"timeline": 2}, {"host": "other"}, {"checksum_failures": 1}, {"replay_paused": True}):
        first = view(0)
        second = view(1)
        second = replace(second, nodes=tuple(replace(node, **changes) for node in second.nodes))
        assert len(of(built(first, second), "db2")) == 2, changes


def test_a_copy_that_gave_no_new_answer_is_not_seen_once_more():
    stale = view(1)
    stale = replace(stale, nodes=tuple(replace(node, answered_at=at(0)) for node in stale.nodes))
    [found] = of(built(view(0), stale, view(2)), "db2")
    assert (found.samples, found.longest_gap_s) == (2, 2.0)


def test_a_node_that_answers_nothing_is_seen_so_with_every_look():
    [found] = of(built(*(view(second, LOST) for second in range(5))), "db3")
    assert (found.samples, found.ended_at) == (5, at(4))


def test_nothing_is_joined_over_a_time_in_which_nothing_watched():
    apart = [span("db2", 0, 9), span("db2", 9 + GAP_S + 1, 80)]
    assert thinned(apart, 3600) == apart
    near = [span("db2", 0, 9), span("db2", 9 + GAP_S, 80)]
    [joined] = thinned(near, 3600)
    assert joined.longest_gap_s == GAP_S


def test_the_worst_lag_stays():
    [joined] = thinned([span("db2", 0, 9, max_lag_bytes=None), span("db2", 10, 19, max_lag_bytes=7)], 60)
    assert (joined.max_lag_bytes, joined.samples, joined.ended_at) == (7, 20, at(19))


def test_spans_are_joined_within_one_part_of_the_clock_only():
    minute = thinned([span("db2", second, second + 9) for second in range(0, 180, 10)], 60)
    assert [(span.began_at, span.ended_at) for span in minute] == [
        (at(0), at(59)),
        (at(60), at(119)),
        (at(120), at(179)),
    ]
    assert thinned(minute, 60) == minute


@given(STEPS)
def test_thinning_loses_no_change_and_no_worst_value(steps):
    second, views = 0.0, []
    for pause, states, lag in steps:
        second += pause
        views.append(view(second, states, lag=lag))
    fine = built(*views)
    for resolution_s in (60, 3600):
        coarse = fine.thinned(resolution_s)
        assert coarse.thinned(resolution_s) == coarse
        for node in WELL:
            before, after = of(fine, node), of(coarse, node)
            assert sum(span.samples for span in before) == sum(span.samples for span in after) == len(views)
            for seen, states in ((seen, states) for seen, (_, states, _) in zip(views, steps, strict=True)):
                assert states[node] in state_at(after, seen.at)
            changes = [one.state for one in before if one.began_at]
            assert _edges(changes) == _edges([one.state for one in after])
            assert max((s.max_lag_bytes or 0) for s in before) == max((s.max_lag_bytes or 0) for s in after)
            assert _largest_gap(before) == _largest_gap(after)
            assert all((later.began_at >= earlier.ended_at) for earlier, later in pairwise(after))


def _edges(states):
    return [state for number, state in enumerate(states) if number == 0 or states[number - 1] is not state]


def _largest_gap(spans):
    """Return the longest time in which a node was not seen, by its spans alone."""
    between = [(b.began_at - a.ended_at).total_seconds() for a, b in pairwise(spans)]
    return max([*between, *(span.longest_gap_s for span in spans)])
