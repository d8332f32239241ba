"""The one table of outcomes, and the order in which they win."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from replcheck.model.outcome import ExitStatus, Outcome, Verdict, worst, worst_verdict

OUTCOMES = st.sampled_from(Outcome)


def test_exit_statuses_are_the_published_ones():
    assert {outcome.value: int(outcome.exit_status) for outcome in Outcome} == {
        "proven": 0,
        "partial": 1,
        "refuted": 2,
        "unchecked": 3,
    }


def test_verdicts_stand_for_the_published_outcomes():
    assert {verdict.value: verdict.outcome.value for verdict in Verdict} == {
        "consistent": "proven",
        "inconclusive": "partial",
        "diverged": "refuted",
        "unchecked": "unchecked",
    }


def test_refuted_beats_unchecked_beats_partial_beats_proven():
    order = [Outcome.REFUTED, Outcome.UNCHECKED, Outcome.PARTIAL, Outcome.PROVEN]
    for better, lesser in itertools.combinations(order, 2):
        assert worst([lesser, better]) is better


def test_nothing_looked_at_is_unchecked():
    assert worst([]) is Outcome.UNCHECKED
    assert worst_verdict([]) is Verdict.UNCHECKED


@given(st.lists(OUTCOMES, min_size=1), st.lists(OUTCOMES, min_size=1))
def test_the_worst_does_not_depend_on_order_or_grouping(some, others):
    assert worst(some + others) is worst(others + some) is worst([worst(some), worst(others)])


@given(st.lists(st.sampled_from(Verdict), min_size=1))
def test_proven_only_where_everything_is(verdicts):
    assert (worst_verdict(verdicts) is Verdict.CONSISTENT) == all(found is Verdict.CONSISTENT for found in verdicts)


def test_every_outcome_has_an_exit_status_of_its_own():
    assert {outcome.exit_status for outcome in Outcome} == set(ExitStatus)
