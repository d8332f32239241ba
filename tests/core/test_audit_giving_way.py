"""A read in somebody's way is broken off, and read again in smaller parts."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from replcheck.audit import giving_way
from replcheck.audit.comparison import ChunkFinding
from replcheck.audit.giving_way import GaveWay
from replcheck.audit.reading import Readers
from replcheck.errors import NodeLost, StatementCancelled
from tests.core.proofs import clean, relation

NODES = ("db1", "db2")
PIDS = {"db1": 11, "db2": 22}


class Backend:
    """A session whose statement takes until it is cancelled, or until the test lets it end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.advertised_pid = PIDS[name]
        self.cancelled = False
        self.done = asyncio.Event()

    async def cancel(self) -> None:
        self.cancelled = True
        self.done.set()


class Reads:
    """A read on two nodes; `waited_for` are the backends that somebody waits for, as the servers tell."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *waited_for: int, lost: str = "") -> None:
        self.sessions = {name: Backend(name) for name in NODES}
        sessions: Any = self.sessions
        how: Any = None
        self.readers = Readers(relation=relation(), how=how, sessions=sessions, primary="db1")
        self.looks: list[str] = []
        self._lost = lost

        async def waits(session: Any, backend_pid: int) -> bool:
            self.looks.append(session)
            return backend_pid in waited_for

        monkeypatch.setattr(giving_way, "relation_is_waited_for", waits)
        monkeypatch.setattr(giving_way, "WATCH_S", 0.01)

    async def _control(self, name: str) -> Any:
        if name == self._lost:
            raise NodeLost("gone", node=name)
        return name

    async def read(self) -> ChunkFinding:
        await asyncio.gather(*(session.done.wait() for session in self.sessions.values()))
        for name, session in self.sessions.items():
            if session.cancelled:
                self.readers.troubles[name] = StatementCancelled("cancelled", node=name, sqlstate="57014")
        return clean("db2")

    async def until(self, looks: int) -> None:
        while len(self.looks) < looks:  # noqa: ASYNC110 - the watch looks by itself
            await asyncio.sleep(0.001)
        for session in self.sessions.values():
            session.done.set()

    def watched(self, read: Coroutine[Any, Any, ChunkFinding]) -> Coroutine[Any, Any, ChunkFinding]:
        return giving_way.giving_way(read, self.readers, self._control)


@pytest.mark.parametrize("pid", PIDS.values())
async def test_a_read_that_somebody_waits_for_is_ended_on_every_node(monkeypatch, pid):
    reads = Reads(monkeypatch, pid)
    await reads.watched(reads.read())
    assert all(session.cancelled for session in reads.sessions.values())
    assert {name: type(error) for name, error in reads.readers.troubles.items()} == dict.fromkeys(NODES, GaveWay)


async def test_a_read_in_nobodys_way_goes_on_to_its_end(monkeypatch):
    reads = Reads(monkeypatch, 33)
    finding, _ = await asyncio.gather(reads.watched(reads.read()), reads.until(looks=6))
    assert finding == clean("db2")
    assert reads.readers.troubles == {}
    assert set(reads.looks) == set(NODES)


async def test_a_node_that_cannot_be_asked_who_waits_is_no_reason_to_end_a_read(monkeypatch):
    reads = Reads(monkeypatch, lost="db2")
    await asyncio.gather(reads.watched(reads.read()), reads.until(looks=2))
    assert set(reads.looks) == {"db1"}
    assert reads.readers.troubles == {}


async def test_a_statement_that_its_server_ended_is_not_said_to_have_given_way(monkeypatch):
    reads = Reads(monkeypatch)

    async def ended() -> ChunkFinding:
        reads.readers.troubles["db1"] = StatementCancelled("too long", node="db1", sqlstate="57014")
        return clean("db2")

    await reads.watched(ended())
    assert type(reads.readers.troubles["db1"]) is StatementCancelled


async def test_a_read_is_ended_with_the_lane_that_waits_for_it(monkeypatch):
    reads = Reads(monkeypatch)
    reading = asyncio.ensure_future(reads.read())
    lane = asyncio.ensure_future(giving_way.giving_way(_of(reading), reads.readers, reads._control))
    await asyncio.sleep(0.005)
    lane.cancel()
    await asyncio.gather(lane, return_exceptions=True)
    assert lane.cancelled()
    assert reading.cancelled()


async def _of(reading: asyncio.Future[ChunkFinding]) -> ChunkFinding:
    return await reading
