"""Where a replica's sequence may stand, against a model of nextval() as the server implements it."""

from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from replcheck.audit.sequences import (
    LOGGED_AHEAD,
    Bracket,
    SequenceVerdict,
    _confirmed,
    _Outside,
    _weigh,
    failed,
    judge,
)
from replcheck.errors import NodeLost, StatementCancelled, StatementFailed
from replcheck.model.outcome import Verdict
from replcheck.postgres.sequences import SequenceState
from tests.core.proofs import FIRST_OID, relation

CHANCES = st.builds(Random, st.integers(0, 2**32))


def state(last_value: int = 100, **changes) -> SequenceState:
    made = SequenceState(
        last_value=last_value,
        log_count=0,
        called=True,
        increment=1,
        minimum=1,
        maximum=(1 << 63) - 1,
        cache=1,
        cycles=False,
    )
    return replace(made, **changes)


@dataclass
class Counter:
    """A sequence on a primary (`now`), and what its WAL last said of it (`logged`), which a replica shows."""

    now: SequenceState
    logged: SequenceState

    def nextval(self, *, checkpointed: bool) -> bool:
        """Move on as nextval_internal does (PostgreSQL source, commands/sequence.c); False where it would fail."""
        old, value, fetched = self.now, self.now.last_value, 0
        fetch, log, log_it = old.cache, old.log_count, False
        last = value
        if not old.called:
            fetched, fetch = 1, fetch - 1
        if log < fetch or not old.called or checkpointed:
            fetch = log = fetch + LOGGED_AHEAD
            log_it = True
        while fetch:
            following = value + old.increment
            if not old.minimum <= following <= old.maximum:
                if fetched > 0:
                    break
                if not old.cycles:
                    return False
                following = old.minimum if old.increment > 0 else old.maximum
            value = following
            fetch -= 1
            if fetched < old.cache:
                log -= 1
                fetched += 1
                last = value
        if log_it:
            self.logged = replace(old, last_value=value, called=True, log_count=0)
        self.now = replace(old, last_value=last, called=True, log_count=log - fetch)
        return True

    def setval(self, value: int, *, called: bool) -> None:
        self.now = self.logged = replace(self.now, last_value=value, called=called, log_count=0)


@st.composite
def sequences(draw, *, cycles: bool = False) -> Counter:
    increment = draw(st.sampled_from([1, 2, 7, 50, -1, -3, -40]))
    span = draw(st.sampled_from([300, 1_000_000])) if cycles else 1 << 40
    start = draw(st.integers(-100, 100))
    minimum, maximum = (start, start + span) if increment > 0 else (start - span, start)
    begun = state(
        start,
        called=False,
        increment=increment,
        minimum=minimum,
        maximum=maximum,
        cache=draw(st.sampled_from([1, 1, 5, 40])),
        cycles=cycles,
    )
    return Counter(begun, begun)


def move(counter: Counter, chance: Random, most: int = 60) -> None:
    for _ in range(chance.randint(0, most)):
        counter.nextval(checkpointed=chance.random() < 0.1)


@given(sequences(), CHANCES)
def test_a_replica_that_replayed_the_first_reading_is_inside(counter, chance):
    move(counter, chance)
    before = counter.now
    move(counter, chance)
    replica = counter.logged
    move(counter, chance)
    assert judge(before, replica, counter.now) is Bracket.INSIDE


@given(sequences(), CHANCES)
def test_a_sequence_nobody_moves_is_inside_with_what_was_logged_ahead(counter, chance):
    move(counter, chance)
    assert judge(counter.now, counter.logged, counter.now) is Bracket.INSIDE


@given(sequences(cycles=True), CHANCES)
def test_a_cycling_sequence_is_never_outside(counter, chance):
    move(counter, chance, 400)
    before = counter.now
    move(counter, chance, 400)
    replica = counter.logged
    move(counter, chance, 400)
    assume(before != counter.now or replica == counter.logged)
    assert judge(before, replica, counter.now) is not Bracket.OUTSIDE


@given(sequences(), st.integers(1, 10**9), st.booleans(), CHANCES)
def test_a_sequence_set_forward_is_inside(counter, distance, called, chance):
    move(counter, chance)
    before = counter.now
    counter.setval(before.last_value + distance * before.increment, called=called)
    replica = counter.logged
    move(counter, chance)
    assert judge(before, replica, counter.now) is Bracket.INSIDE


@given(sequences(), st.integers(1, 10**9), st.booleans(), CHANCES)
def test_a_sequence_set_back_is_looked_at_again(counter, distance, called, chance):
    move(counter, chance)
    before = counter.now
    chosen = chance.choice([before, counter.logged])
    counter.setval(before.last_value - distance * before.increment, called=called)
    assert judge(before, chosen, counter.now) is Bracket.UNSTEADY
    assert judge(before, counter.logged, counter.now) is Bracket.UNSTEADY


def test_a_page_that_was_copied_before_a_failover_stands_where_the_new_primary_goes_on():
    promoted, copied = state(264), state(250, log_count=14)
    assert judge(promoted, copied, promoted) is Bracket.INSIDE
    assert judge(promoted, copied, state(265, log_count=32)) is Bracket.INSIDE
    for broken in (state(249, log_count=14), state(250, log_count=13), state(250)):
        assert judge(promoted, broken, promoted) is Bracket.OUTSIDE


@given(sequences(), st.integers(1, 10**9), st.booleans(), CHANCES)
def test_a_replica_off_by_more_than_what_is_logged_ahead_is_outside(counter, distance, forward, chance):
    move(counter, chance)
    before = counter.now
    move(counter, chance)
    after = counter.now
    ahead = LOGGED_AHEAD + 2 * after.cache
    steps = distance + ahead if forward else -distance
    start = after if forward else before
    # A sequence that was not called yet gives its value itself, so one step back from it may be the same place.
    assume(before.called)
    replica = replace(start, last_value=start.last_value + steps * start.increment, log_count=0)
    assert judge(before, replica, after) is Bracket.OUTSIDE


@pytest.mark.parametrize("increment", [1, 5, -1, -5])
def test_the_edges_of_a_bracket(increment):
    before, after = (
        state(100, increment=increment, minimum=-9999),
        state(100 + 3 * increment, increment=increment, minimum=-9999),
    )
    last = 3 + LOGGED_AHEAD + 1
    for steps, expected in (
        (-1, Bracket.OUTSIDE),
        (0, Bracket.INSIDE),
        (last, Bracket.INSIDE),
        (last + 1, Bracket.OUTSIDE),
    ):
        replica = replace(before, last_value=100 + steps * increment)
        assert judge(before, replica, after) is expected


def test_a_value_that_was_not_given_out_yet_lies_one_step_before_one_that_was():
    unused, used = state(1, called=False), state(1)
    assert judge(unused, unused, unused) is Bracket.INSIDE
    assert judge(used, unused, used) is Bracket.OUTSIDE
    assert judge(unused, used, unused) is Bracket.NEAR


def test_a_copied_page_and_a_replayed_record_are_the_same_place():
    held = state(100, log_count=32)
    assert judge(held, held, held) is Bracket.INSIDE
    assert judge(held, state(132), held) is Bracket.INSIDE
    assert judge(held, state(100), held) is Bracket.NEAR


@given(sequences(), st.integers(-40, 40).filter(bool), CHANCES)
def test_a_replica_anywhere_but_where_the_primary_has_logged_to_is_near_or_outside(counter, steps, chance):
    move(counter, chance)
    still = counter.now
    replica = replace(counter.logged, last_value=counter.logged.last_value + steps * still.increment)
    assert judge(still, replica, still) in (Bracket.NEAR, Bracket.OUTSIDE)
    assert judge(still, replace(counter.logged, called=not still.called), still) in (Bracket.NEAR, Bracket.OUTSIDE)


def test_a_sequence_logged_further_ahead_than_usual_is_inside():
    held = state(100, log_count=500)
    assert judge(held, state(600), held) is Bracket.INSIDE
    assert judge(held, state(601), held) is Bracket.OUTSIDE


def test_a_cycling_sequence_that_moved_is_looked_at_again_where_it_is_outside():
    before, after = state(10, cycles=True), state(20, cycles=True)
    assert judge(before, state(900, cycles=True), after) is Bracket.UNSTEADY
    assert judge(before, state(900, cycles=True), before) is Bracket.OUTSIDE


@pytest.mark.parametrize(
    "change", [{"increment": 2}, {"minimum": 0}, {"maximum": 5000}, {"cache": 9}, {"cycles": True}]
)
def test_a_replica_that_counts_otherwise_is_outside_where_nobody_altered_the_sequence(change):
    assert judge(state(), state(**change), state()) is Bracket.OUTSIDE
    assert judge(state(), state(**change), state(101)) is Bracket.UNSTEADY
    assert judge(state(), state(**change), state(**change)) is Bracket.UNSTEADY


def refused(sqlstate: str, detail: str = "") -> StatementFailed:
    return StatementFailed("refused", node="db2", sqlstate=sqlstate, detail=detail)


def verdict_of(before, replica, after) -> Verdict | None:
    found = _weigh(before, replica, after)
    return None if found is None else found.verdict


def test_one_look_at_states_gives_the_verdict_of_the_bracket():
    assert verdict_of(state(), state(), state()) is Verdict.CONSISTENT
    assert verdict_of(state(), state(5), state()) is Verdict.DIVERGED
    assert verdict_of(state(), state(5), state(3)) is None


def test_a_sequence_that_only_the_primary_has_is_divergence():
    for gone in (None, refused("42P01"), refused("3F000")):
        assert verdict_of(state(), gone, state()) is Verdict.DIVERGED


def test_a_sequence_that_a_node_had_no_time_to_read_is_looked_at_again():
    cancelled = StatementCancelled("cancelled", node="db2", sqlstate="57014")
    assert verdict_of(cancelled, state(), state()) is None
    assert verdict_of(state(), cancelled, state()) is None
    assert verdict_of(state(), state(), cancelled) is None


def looks_until_confirmed(*brackets: tuple[SequenceState, SequenceState]) -> int | None:
    """Return how many looks at a replica outside these brackets make it believed; None where they do not."""
    outside: dict[int, _Outside] = {}
    for number, (before, after) in enumerate(brackets, 1):
        if _confirmed(outside, FIRST_OID, before, state(-5000), after):
            return number
    return None


def test_a_replica_outside_is_believed_at_the_second_look_where_nobody_moves_the_sequence():
    assert looks_until_confirmed(*[(state(), state())] * 6) == 2


@pytest.mark.parametrize("increment", [1, -1])
def test_a_replica_outside_is_believed_after_four_looks_at_a_sequence_that_moves_one_way(increment):
    moving = [
        (state(10 * look * increment, increment=increment), state((10 * look + 5) * increment, increment=increment))
        for look in range(6)
    ]
    assert looks_until_confirmed(*moving) == 4


def test_a_replica_outside_is_never_believed_where_the_sequence_goes_hither_and_thither():
    assert looks_until_confirmed(*[(state(5), state(10)), (state(3), state(8))] * 3) is None


def near_looks_until_confirmed(*looks: tuple[SequenceState, SequenceState]) -> int | None:
    """Return how many looks at a primary that stands still and a replica near it make it believed."""
    outside: dict[int, _Outside] = {}
    for number, (still, shown) in enumerate(looks, 1):
        if _confirmed(outside, FIRST_OID, still, shown, still):
            return number
    return None


def test_a_replica_near_is_believed_only_after_looks_between_which_nothing_moved():
    assert near_looks_until_confirmed(*[(state(100), state(110))] * 6) == 5
    assert near_looks_until_confirmed(*[(state(100), state(110)), (state(100), state(111))] * 6) is None
    assert near_looks_until_confirmed(*[(state(100), state(110)), (state(101), state(110))] * 6) is None


def test_a_damaged_sequence_on_a_replica_is_divergence_and_any_other_refusal_is_unchecked():
    assert verdict_of(state(), refused("XX001"), state()) is Verdict.DIVERGED
    assert verdict_of(state(), refused("XX000", "invalid page in block 0"), state()) is Verdict.DIVERGED
    assert verdict_of(state(), refused("XX000"), state()) is Verdict.UNCHECKED
    assert verdict_of(state(), refused("42501"), state()) is Verdict.UNCHECKED
    assert verdict_of(refused("42501"), state(), state()) is Verdict.UNCHECKED
    assert verdict_of(state(), state(), refused("XX001")) is Verdict.UNCHECKED


def test_a_refusal_keeps_its_sqlstate():
    found = _weigh(state(), refused("XX001"), state())
    assert found == SequenceVerdict(verdict=Verdict.DIVERGED, reason="refused", sqlstate="XX001")


def test_sequences_of_a_node_that_failed_are_unchecked():
    verdicts = failed(NodeLost("gone", node="db2"), [relation(1), relation(2)])
    assert verdicts == {oid: SequenceVerdict(verdict=Verdict.UNCHECKED, reason="gone") for oid in (1, 2)}
