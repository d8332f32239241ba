"""A new anchor asks for no more replay than its transactions need."""

import asyncio
from typing import Any

from replcheck.audit import anchors
from replcheck.audit.anchors import Anchors
from replcheck.model.wal import Lsn
from replcheck.postgres.snapshots import Anchor


class Primary:
    async def control(self) -> None:
        return None


def advanced(monkeypatch: Any, *taken: Anchor) -> list[Anchor]:
    """Advance an audit's anchor as often as anchors are given, and return what it was each time."""
    readings = iter(taken)

    async def read(session: object, previous: Anchor | None) -> Anchor:
        return next(readings)

    monkeypatch.setattr(anchors, "read_anchor", read)
    each, primary = Anchors(), Primary()

    async def run() -> list[Anchor]:
        return [await each.advance(primary) for _ in taken]  # type: ignore[arg-type]

    return asyncio.run(run())


def anchor(lsn: int, *, xmax: int = 100, opened: tuple[int, ...] = (90,)) -> Anchor:
    return Anchor(open_xids=frozenset(opened), xmax=xmax, lsn=Lsn(lsn))


def test_where_no_transaction_began_or_ended_the_older_position_is_enough(monkeypatch):
    assert [each.lsn for each in advanced(monkeypatch, anchor(1000), anchor(2000), anchor(3000))] == [1000, 1000, 1000]


def test_a_transaction_that_ended_must_be_replayed(monkeypatch):
    assert [each.lsn for each in advanced(monkeypatch, anchor(1000), anchor(2000, opened=()))] == [1000, 2000]


def test_a_transaction_that_began_must_be_replayed(monkeypatch):
    assert [each.lsn for each in advanced(monkeypatch, anchor(1000), anchor(2000, xmax=101))] == [1000, 2000]


def test_one_that_ended_while_another_began_must_be_replayed(monkeypatch):
    assert advanced(monkeypatch, anchor(1000), anchor(2000, opened=(91,)))[1].lsn == 2000
