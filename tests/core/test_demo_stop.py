"""A wish to stop outlives the loops that it is passed on to: a signal never ends the process under its servers."""

import asyncio
import os
import signal

import pytest

from replcheck.errors import Interrupted
from replcheck.runs.demo_stop import StopWish


async def passed(wish, number=None):
    stop = asyncio.Event()
    with wish.passed_on(stop):
        if number is not None:
            os.kill(os.getpid(), number)
            await asyncio.wait_for(stop.wait(), 5)
    return stop.is_set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_behind_a_loop_is_still_a_wish(number):
    told = []
    with StopWish(told.append, "the drill").on_signals() as wish:
        assert asyncio.run(passed(wish)) is False
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted, match=number.name):
            wish.obey()
    assert told == [f"{number.name}: removing the servers"]


def test_a_signal_within_a_loop_stops_it_and_what_follows():
    with StopWish(lambda _: None).on_signals() as wish:
        assert asyncio.run(passed(wish, signal.SIGTERM)) is True
        assert asyncio.run(passed(wish)) is True
        with pytest.raises(Interrupted):
            wish.obey()
