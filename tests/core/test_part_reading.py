"""Whoever waits behind a reader is seen, also when a look at the locks has failed before."""

import asyncio
from typing import Any, cast

import pytest

from replcheck.drill import part_reading
from replcheck.drill.part_reading import PartReader
from replcheck.errors import NodeLost, StatementFailed
from tests.core.test_seals import gathering


async def _no_session(_database: str) -> Any:
    raise AssertionError


class Look:
    """Fails some times, then names a backend."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def __call__(self, _pids: list[int]) -> frozenset[int]:
        if self.failures:
            self.failures -= 1
            raise NodeLost("the connection was lost", node="primary")
        return frozenset({7})


class Reading:
    """A session that is reading."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def cancel(self) -> None:
        self.cancelled.set()


class LostSession:
    """A connection that ends while it reads, and tells no backend from then on, as libpq does."""

    node = "primary"
    server_version_num = 180000
    advertised_pid = 7

    async def close(self) -> None:
        pass


def _reader(look: Look) -> PartReader:
    return PartReader(open_session=_no_session, seeds=(1,), jobs=1, in_recovery=False, in_the_way=look)


def test_a_look_that_failed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_reading, "_LOOK_S", 0.001)

    async def run() -> None:
        reader, session = _reader(Look(2)), Reading()
        reader._reading[7] = cast(Any, session)
        watching = asyncio.create_task(reader._step_aside())
        await asyncio.wait_for(session.cancelled.wait(), 5)
        watching.cancel()

    asyncio.run(run())


def test_the_reading_ends_where_no_look_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_reading, "_LOOK_S", 0.001)

    async def run() -> None:
        reader = _reader(Look(1000))
        await asyncio.wait_for(reader._step_aside(), 5)
        reader._left = 1
        with pytest.raises(NodeLost):
            await reader._work()

    asyncio.run(run())


def test_a_part_on_a_disk_that_fails_is_not_taken_for_damaged() -> None:
    reader = _reader(Look(0))
    part = gathering(100)
    taken = part.take()
    assert taken is not None
    reader._failed(part, taken, StatementFailed("refused", node="copy", sqlstate="58030"))
    assert part.damaged == {}
    assert part.lack is not None
    assert "58030" in part.lack.reason


def test_a_connection_that_is_lost_while_it_reads_leaves_the_part_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    session = LostSession()

    async def lose(*_arguments: object, **_options: object) -> None:
        session.advertised_pid = 0
        raise NodeLost("the connection was lost", node="primary")

    monkeypatch.setattr(part_reading, "digest_parts", lose)
    reader, part = _reader(Look(0)), gathering(100)
    taken = part.take()
    assert taken is not None
    asyncio.run(reader._read(cast(Any, session), part, taken))
    assert reader._reading == {}
    assert part.lack is None
    assert part.take() is not None
