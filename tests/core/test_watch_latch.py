"""Conditions that come and go are told at their edges, and ever more rarely where they flap."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from replcheck.watch.latch import OFF, Edge, duration_s, step
from tests.core.watched import BEGUN


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 30)), max_size=200))
def test_edges_take_turns(looks):
    latch, at, edges = OFF, BEGUN, []
    for holds, passed_s in looks:
        at += timedelta(seconds=passed_s)
        latch, edge = step(latch, holds, at)
        edges += [edge] if edge else []
        assert latch.told == (bool(edges) and edges[-1] is Edge.BEGAN)
    assert edges == [Edge.BEGAN if number % 2 == 0 else Edge.ENDED for number in range(len(edges))]


@given(st.lists(st.booleans(), max_size=50))
def test_a_condition_that_stays_over_is_told_to_be_over_in_the_end(looks):
    latch, at = OFF, BEGUN
    for holds in looks:
        at += timedelta(seconds=1)
        latch, _ = step(latch, holds, at)
    for _ in range(1_000):
        at += timedelta(seconds=1)
        latch, _ = step(latch, False, at)
    assert latch == OFF


def test_a_day_of_flapping_tells_a_bounded_number_of_edges():
    latch, edges = OFF, 0
    for number in range(86_400):
        latch, edge = step(latch, number % 3 == 0, BEGUN + timedelta(seconds=number))
        edges += edge is not None
    assert edges < 40
    assert len(latch.times) <= 16


def test_how_long_it_lasted_is_counted_to_when_it_was_over_not_to_when_that_was_told():
    latch, _ = step(OFF, True, BEGUN)
    latch, _ = step(latch, False, BEGUN + timedelta(seconds=1))
    latch, _ = step(latch, True, BEGUN + timedelta(seconds=2))
    held, edge = step(latch, False, BEGUN + timedelta(seconds=3))
    assert edge is None
    _, edge = step(held, False, BEGUN + timedelta(seconds=10))
    assert edge is Edge.ENDED
    assert duration_s(held, BEGUN + timedelta(seconds=10)) == 1.0
