"""Breaks a read off where somebody waits for its lock.

A read holds ACCESS SHARE on its relation for as long as its statement takes. A change of the definition that waits for
that lock makes everybody else wait behind it, so no read may go on then, however much of it is lost.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from replcheck.audit.comparison import ChunkFinding
from replcheck.audit.reading import Readers
from replcheck.errors import NodeError, StatementCancelled
from replcheck.postgres.locks import relation_is_waited_for
from replcheck.postgres.session import Session

WATCH_S = 1.0
"""How often is looked; a read that takes less is never in anybody's way for long."""
_CANCELLED = "57014"
Done = TypeVar("Done")


class GaveWay(StatementCancelled):
    """A read was broken off because somebody waited for its lock."""


async def giving_way(
    read: Coroutine[Any, Any, ChunkFinding], readers: Readers, control: Callable[[str], Awaitable[Session]]
) -> ChunkFinding:
    """Run a read to its end, but end its statements on every node as soon as somebody waits for a lock of one.

    `control` returns a node's session without a snapshot, or raises NodeError: then nobody can say who waits there. In
    the troubles of the readers GaveWay then stands for what was ended.
    """
    gave_way = False

    async def give_way() -> None:
        nonlocal gave_way
        gave_way = True
        await asyncio.gather(*(session.cancel() for session in readers.sessions.values()))

    finding = await watched(read, in_the_way=lambda: _in_the_way(readers, control), give_way=give_way)
    if gave_way:
        _tell(readers)
    return finding


async def watched(
    work: Coroutine[Any, Any, Done],
    *,
    in_the_way: Callable[[], Awaitable[bool]],
    give_way: Callable[[], Awaitable[None]],
) -> Done:
    """Run something to its end and return what it returned; each second it is to give way where it is in the way."""
    running = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({running}, timeout=WATCH_S))[0]:
            if await in_the_way():
                await give_way()
    finally:
        if not running.done():
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    return running.result()


async def _in_the_way(readers: Readers, control: Callable[[str], Awaitable[Session]]) -> bool:
    async def on(name: str, session: Session) -> bool:
        try:
            return await relation_is_waited_for(await control(name), session.advertised_pid)
        except NodeError:
            return False

    return any(await asyncio.gather(*(on(name, session) for name, session in readers.sessions.items())))


def _tell(readers: Readers) -> None:
    for name, error in readers.troubles.items():
        if isinstance(error, StatementCancelled) and error.sqlstate == _CANCELLED:
            readers.troubles[name] = GaveWay(
                f'a read on node "{name}" gave way to somebody who waited for its lock', node=name, sqlstate=_CANCELLED
            )
