"""A closed gate holds every lane, and the audit's clock stands still only while it holds all of them."""

import asyncio

from replcheck.audit.gate import Gate
from replcheck.events import HeldStill, Waited


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def gate_at(clock):
    gate, told = Gate(monotonic=clock), []
    gate.tell(told.append)
    return gate, told


def test_it_is_open_until_somebody_closes_it_and_closed_until_everybody_opened_it():
    gate, _ = gate_at(Clock())
    assert not gate.closed
    gate.close("user", "paused")
    gate.close("limits", "db2 is 80MB of WAL behind")
    assert gate.why == "paused; db2 is 80MB of WAL behind"
    gate.open("user")
    assert gate.closed
    gate.open("limits")
    assert not gate.closed


def test_what_it_held_is_told_once_and_counted():
    clock = Clock()
    gate, told = gate_at(clock)
    gate.close("limits", "db2 is 80MB of WAL behind")
    clock.now += 1
    gate.close("limits", "db2 is 81MB of WAL behind")
    clock.now += 2
    gate.open("limits")
    assert [type(event) for event in told] == [HeldStill, Waited]
    assert told[1].elapsed_s == 3
    assert gate.held == {"limits": 3}


def test_who_listens_late_hears_that_it_is_closed():
    gate, told = Gate(monotonic=Clock()), []
    gate.close("file", "pause exists")
    gate.tell(told.append)
    assert [event.reason for event in told] == ["pause exists"]


def test_the_same_key_closes_and_opens_it():
    gate, _ = gate_at(Clock())
    gate.toggle("paused")
    assert gate.closed
    gate.toggle("paused")
    assert not gate.closed


def test_the_clock_stands_still_only_while_every_lane_waits():
    clock = Clock()
    gate, _ = gate_at(clock)

    async def hold() -> list[float]:
        seen = []
        gate.enter()
        gate.enter()
        gate.close("user", "paused")
        clock.now += 1
        seen.append(gate.clock())
        first = asyncio.create_task(gate.wait_open())
        await asyncio.sleep(0)
        clock.now += 10
        seen.append(gate.clock())
        second = asyncio.create_task(gate.wait_open())
        await asyncio.sleep(0)
        clock.now += 1000
        seen.append(gate.clock())
        gate.open("user")
        await asyncio.gather(first, second)
        clock.now += 5
        seen.append(gate.clock())
        return seen

    assert asyncio.run(hold()) == [101, 111, 111, 116]


def test_a_lane_that_has_ended_its_work_is_not_waited_for():
    clock = Clock()
    gate, _ = gate_at(clock)

    async def hold() -> float:
        gate.enter()
        gate.enter()
        gate.close("user", "paused")
        waiting = asyncio.create_task(gate.wait_open())
        await asyncio.sleep(0)
        gate.leave()
        clock.now += 50
        standing: float = gate.clock()
        gate.end()
        await waiting
        return standing

    assert asyncio.run(hold()) == 100


def test_nobody_closes_it_after_its_end():
    gate, _ = gate_at(Clock())
    gate.close("user", "paused")
    gate.end()
    gate.close("limits", "db2 is 80MB of WAL behind")
    assert not gate.closed
