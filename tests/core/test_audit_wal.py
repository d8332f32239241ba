"""Waiting for replay, on a clock of the test's own: what counts as reached, what does not, and when it is given up."""

import asyncio
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from replcheck.model.wal import Lsn
from replcheck.postgres.wal import ReplayWait, wait_replayed

DELAY_S = 0.2
"""wal_writer_delay."""


class Standby:
    """A standby and its primary's flush position as functions of time; a sleep moves the time."""

    def __init__(
        self,
        replayed: Callable[[float], int],
        flushed: Callable[[float], int],
        *,
        received: Callable[[float], int] | None = None,
        starved: bool = False,
        paused: bool = False,
    ) -> None:
        self.now = 1_000.0
        self._replayed, self._flushed, self._received = replayed, flushed, received or replayed
        self._starved, self._paused = starved, paused

    @property
    def elapsed(self) -> float:
        return self.now - 1_000.0

    async def fetch(self, _statement: object, _parameters: object = None) -> list[tuple[Any, ...]]:
        return [(self._received(self.elapsed), self._replayed(self.elapsed), self._paused, self._starved)]

    async def flush(self) -> Lsn:
        return Lsn(self._flushed(self.elapsed))

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def wait(
        self, target: int, timeout_s: float = 30.0, enough: Callable[[float], bool] = lambda _: False
    ) -> ReplayWait:
        session: Any = self

        async def will_do() -> bool:
            return enough(self.elapsed)

        return asyncio.run(
            wait_replayed(
                session,
                Lsn(target),
                enough=will_do,
                primary_flush=self.flush,
                writer_delay=DELAY_S,
                timeout_s=timeout_s,
                clock=lambda: self.now,
                sleep=self.sleep,
            )
        )


def fixed(value: int) -> Callable[[float], int]:
    return lambda _: value


def test_a_position_that_was_replayed_is_reached_at_once():
    standby = Standby(fixed(500), fixed(500))
    assert standby.wait(500).reached
    assert standby.elapsed == 0


def test_a_position_that_is_replayed_later_is_reached_then():
    standby = Standby(lambda elapsed: int(elapsed * 100), fixed(10_000))
    outcome = standby.wait(250)
    assert outcome.reached
    assert outcome.state.replayed >= 250
    assert 2.5 <= standby.elapsed < 2.7


def test_what_was_replayed_can_be_enough_before_the_position_is_reached():
    standby = Standby(fixed(100), fixed(100))
    assert standby.wait(250, enough=lambda _: True).reached
    assert standby.elapsed == 0
    standby = Standby(fixed(100), fixed(10_000))
    assert standby.wait(250, enough=lambda elapsed: elapsed > 2).reached
    assert 2 < standby.elapsed < 2.2


def test_a_replica_that_never_gets_there_is_given_up_in_time():
    standby = Standby(fixed(100), fixed(10_000))
    outcome = standby.wait(250, timeout_s=5.0)
    assert not outcome.reached
    assert outcome.state.replayed == 100
    assert 5.0 <= standby.elapsed < 5.3


def test_the_tail_of_a_quiet_primary_counts_as_reached_after_three_writer_delays():
    standby = Standby(fixed(100), fixed(100))
    outcome = standby.wait(250)
    assert outcome.reached
    assert outcome.state.replayed == 100
    assert 3 * DELAY_S < standby.elapsed < 5 * DELAY_S


def test_three_writer_delays_count_from_when_both_began_to_stand_still():
    for replayed, flushed in (
        (lambda elapsed: 100 + (elapsed > 2), fixed(101)),
        (lambda elapsed: 100 + min(int(elapsed * 20), 40), lambda elapsed: 100 + min(int(elapsed * 20), 40)),
    ):
        standby = Standby(replayed, flushed)
        assert standby.wait(250).reached
        assert 2 + 3 * DELAY_S < standby.elapsed < 2 + 5 * DELAY_S


def test_a_primary_that_flushes_on_is_not_quiet():
    standby = Standby(lambda elapsed: 100 + int(elapsed * 10), lambda elapsed: 100 + int(elapsed * 10))
    assert not standby.wait(10_000, timeout_s=10.0).reached


def test_wal_that_was_flushed_and_is_not_replayed_is_no_quiet_tail():
    assert not Standby(fixed(100), fixed(101)).wait(250, timeout_s=10.0).reached


def test_a_flush_position_inside_a_record_needs_only_be_received_where_replay_waits_for_more():
    standby = Standby(fixed(90), fixed(100), received=fixed(100), starved=True)
    assert standby.wait(250).reached
    assert standby.elapsed > 3 * DELAY_S


def test_a_replica_that_has_not_received_all_or_is_at_work_or_paused_has_not_replayed_all():
    for standby in (
        Standby(fixed(90), fixed(100), received=fixed(99), starved=True),
        Standby(fixed(90), fixed(100), received=fixed(100), starved=False),
        Standby(fixed(90), fixed(100), received=fixed(100), starved=True, paused=True),
    ):
        assert not standby.wait(250, timeout_s=10.0).reached


def test_a_short_timeout_leaves_no_room_for_the_quiet_tail():
    assert not Standby(fixed(100), fixed(100)).wait(250, timeout_s=3 * DELAY_S).reached


TIMES = st.integers(0, 40).map(lambda tenths: tenths / 10)


@given(
    commits=st.lists(st.tuples(st.integers(1, 250), st.integers(0, 5)), max_size=5),
    lag=TIMES,
    later=st.lists(st.tuples(TIMES, st.integers(251, 400)), max_size=3),
)
def test_no_commit_is_ever_taken_for_a_quiet_tail(commits, lag, later):
    """Each commit up to the target is flushed within three writer delays, and replayed `lag` seconds later."""
    flushes = [(tenths / 10, lsn) for lsn, tenths in commits] + later

    def flushed(elapsed: float) -> int:
        return max((lsn for at, lsn in flushes if at <= elapsed), default=0)

    standby = Standby(lambda elapsed: flushed(elapsed - lag), flushed)
    if standby.wait(250).reached:
        assert flushed(standby.elapsed - lag) >= max((lsn for lsn, _ in commits), default=0)


@given(lag=TIMES, at=TIMES, timeout_s=st.integers(1, 60))
def test_every_wait_ends(lag, at, timeout_s):
    standby = Standby(lambda elapsed: 200 if elapsed > at + lag else 100, lambda elapsed: 200 if elapsed > at else 100)
    standby.wait(250, timeout_s=float(timeout_s))
    assert standby.elapsed <= timeout_s + 0.2
