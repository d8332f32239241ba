"""Asks every node again and again, each on a connection of its own, and hands out what came as samples.

Nodes never wait for each other: each has a task of its own, and a sample leaves when all have answered or a short while
is over, whichever comes first; what comes later leaves as a sample of its own. No failure of a node ends the sampler:
it is a silence, and the connection is made again, with pauses that grow where a server refuses the role.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from replcheck.errors import (
    AuthenticationRefused,
    ConnectionsExhausted,
    DatabaseMissing,
    NodeError,
    NodeLost,
    NodeStarting,
    NodeUnfit,
    StatementCancelled,
    StatementFailed,
)
from replcheck.model.live import NodeAnswer, NodeSilence, Sample, SilenceCode
from replcheck.model.node import NodeTarget
from replcheck.postgres.sampling import open_sampling_session, sample_node
from replcheck.postgres.session import Session

Clock = Callable[[], datetime]
Take = Callable[[Sample], None]
Result = NodeAnswer | NodeSilence
Awaited = TypeVar("Awaited")

_GATHER_S = 0.3
"""How long a sample waits for the slower nodes."""
_HUNG_S = 15.0
"""How long a connection that does not answer is kept before another one is tried."""
_REFUSED_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Between attempts to connect to a server that refuses the role: it may count them, and it logs each."""
_LOST_PAUSES_S = (*60 * (0.0,), 2.0)
"""Between attempts to connect to one that is not there: cheap, and its return is to be seen soon."""
_CODES: dict[type[NodeError], SilenceCode] = {
    NodeStarting: SilenceCode.STARTING,
    AuthenticationRefused: SilenceCode.REFUSED,
    ConnectionsExhausted: SilenceCode.REFUSED,
    DatabaseMissing: SilenceCode.REFUSED,
    StatementCancelled: SilenceCode.TIMEOUT,
    StatementFailed: SilenceCode.REFUSED,
    NodeUnfit: SilenceCode.UNFIT,
}


def steady_clock() -> Clock:
    """Return a clock that tells the time of day and never goes back: where that is set back, it goes on beside it."""
    last = datetime.now(UTC)
    beat = time.monotonic()

    def now() -> datetime:
        nonlocal last, beat
        passed, beat = time.monotonic() - beat, time.monotonic()
        last = max(datetime.now(UTC), last + timedelta(seconds=max(0.0, passed) * 0.999))
        return last

    return now


def silence_of(error: NodeError, at: datetime) -> NodeSilence:
    """Return the silence that an error of a node is."""
    code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), SilenceCode.UNREACHABLE)
    reason = error.message.replace(f'the connection to node "{error.node}"', "the connection to it")
    return NodeSilence(node=error.node, at=at, code=code, reason=reason.replace(f'node "{error.node}"', "it"))


class Sampler:
    """Samples some nodes until it is stopped.

    `interval_s` is how often each is asked; `patience_s` is after how long a node that does not answer is told to be
    silent, 1.5 s or the interval, whichever is longer.
    """

    def __init__(
        self,
        targets: Sequence[NodeTarget],
        interval_s: float = 1.0,
        *,
        clock: Clock | None = None,
        patience_s: float | None = None,
    ) -> None:
        self._interval_s = interval_s
        self._clock = clock or steady_clock()
        patience_s = patience_s or max(1.5, interval_s)
        self._links = [NodeLink(target, self._clock, patience_s=patience_s) for target in targets]
        self._gathered: list[Result] = []
        self._awaited = 0
        self._complete = asyncio.Event()
        self._gathering = False
        self._take: Take = _ignore

    async def run(self, take: Take, stop: asyncio.Event) -> None:
        """Hand each sample to `take` until `stop` is set; then close the connections.

        Raises only what `take` raises.
        """
        self._take = take
        looks: set[asyncio.Task[None]] = set()
        ending = asyncio.ensure_future(stop.wait())
        due = time.monotonic()
        try:
            while not stop.is_set():
                await self._sample(looks)
                due = max(due + self._interval_s, time.monotonic())
                await _until(due, ending)
                for done in [look for look in looks if look.done()]:
                    looks.discard(done)
                    done.result()
        finally:
            ending.cancel()
            for look in looks:
                look.cancel()
            await asyncio.gather(*looks, ending, return_exceptions=True)
            await asyncio.gather(*(link.close() for link in self._links))

    async def once(self, *, patience_s: float = 10.0) -> Sample:
        """Return one look at all nodes, each within `patience_s`, and close the connections.

        That is longer than in a watch: here a connection that takes long to be made gets no second chance.
        """
        results = await asyncio.gather(*(link.look(patience_s) for link in self._links))
        await asyncio.gather(*(link.close() for link in self._links))
        return _sample([result for result in results if result is not None], self._clock())

    async def _sample(self, looks: set[asyncio.Task[None]]) -> None:
        """Ask every node that is not being asked still, and hand out what answers at once."""
        idle = [link for link in self._links if not link.looking]
        self._awaited, self._gathering = len(idle), True
        self._complete.clear()
        looks |= {asyncio.create_task(self._look(link)) for link in idle}
        if idle:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._complete.wait(), min(_GATHER_S, self._interval_s / 2))
        self._gathering = False
        self._hand_out()

    async def _look(self, link: "NodeLink") -> None:
        result = await link.look()
        self._awaited -= 1
        if result is not None:
            self._gathered.append(result)
        if not self._gathering:
            self._hand_out()
        elif self._awaited <= 0:
            self._complete.set()

    def _hand_out(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered:
            self._take(_sample(gathered, self._clock()))


class NodeLink:
    """One node with the connection to it; what takes too long goes on behind the scenes, one thing at a time."""

    def __init__(self, target: NodeTarget, clock: Clock, *, patience_s: float) -> None:
        self._target = target
        self._clock = clock
        self._patience_s = patience_s
        self._session: Session | None = None
        self._connecting: asyncio.Task[Session] | None = None
        self._asking: asyncio.Task[NodeAnswer] | None = None
        self._hung_since: float | None = None
        self._fresh = True
        self._failures = 0
        self._paused_until = 0.0
        self.looking = False
        """Whether a look is going on."""

    async def look(self, patience_s: float | None = None) -> Result | None:
        """Return what the node answers, or its silence; None while no attempt is due."""
        self.looking = True
        try:
            if self._session is None and time.monotonic() < self._paused_until:
                return None
            return await self._patiently(patience_s or self._patience_s)
        finally:
            self.looking = False

    async def close(self) -> None:
        """Close the connection and end what is going on; never raises."""
        for task in (self._connecting, self._asking):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, NodeError):
                    opened = await task
                    if isinstance(opened, Session):
                        await opened.close()
        if self._session is not None:
            await self._session.close()
        self._session = self._connecting = self._asking = None

    async def _patiently(self, patience_s: float) -> Result:
        deadline = time.monotonic() + patience_s
        try:
            return await self._answer(deadline)
        except TimeoutError:
            return await self._timed_out(patience_s)
        except NodeLost:
            # The server may be back already, and if not, the attempt tells more than the loss does.
            await self._drop()
        except NodeError as error:
            return await self._failed(error)
        try:
            return await self._answer(deadline)
        except TimeoutError:
            return await self._timed_out(patience_s)
        except NodeError as error:
            return await self._failed(error)

    async def _answer(self, deadline: float) -> NodeAnswer:
        if self._session is None:
            self._connecting = self._connecting or asyncio.create_task(open_sampling_session(self._target))
            self._session, self._connecting = await self._finished(self._connecting, deadline), None
            self._fresh = True
        if self._asking is None:
            self._asking = asyncio.create_task(sample_node(self._session, self._clock, first=self._fresh))
        answer, self._asking = await self._finished(self._asking, deadline), None
        self._fresh, self._hung_since, self._failures = False, None, 0
        return answer

    async def _finished(self, task: asyncio.Task[Awaited], deadline: float) -> Awaited:
        """Wait for a task without ending it; raise TimeoutError where it is not done in time, and what it raises."""
        await asyncio.wait({task}, timeout=max(0.0, deadline - time.monotonic()))
        if not task.done():
            raise TimeoutError
        return task.result()

    async def _timed_out(self, patience_s: float) -> NodeSilence:
        now = time.monotonic()
        self._hung_since = self._hung_since or now
        what = "does not answer" if self._session is not None else "does not take the connection"
        silence = NodeSilence(
            node=self._target.name,
            at=self._clock(),
            code=SilenceCode.TIMEOUT,
            reason=f"it {what} within {patience_s:g} s",
        )
        if now - self._hung_since > _HUNG_S:
            await self._drop()
        return silence

    async def _failed(self, error: NodeError) -> NodeSilence:
        await self._drop()
        silence = silence_of(error, self._clock())
        refused = silence.code in {SilenceCode.REFUSED, SilenceCode.UNFIT}
        pauses = _REFUSED_PAUSES_S if refused else _LOST_PAUSES_S
        self._paused_until = time.monotonic() + pauses[min(self._failures, len(pauses) - 1)]
        self._failures += 1
        return silence

    async def _drop(self) -> None:
        """Leave the connection; what goes on with it is ended."""
        await self.close()
        self._hung_since = None


async def _until(due: float, ending: "asyncio.Future[Any]") -> None:
    await asyncio.wait({ending}, timeout=max(0.0, due - time.monotonic()))


def _sample(results: Sequence[Result], at: datetime) -> Sample:
    return Sample(
        at=at,
        answers=tuple(result for result in results if isinstance(result, NodeAnswer)),
        silences=tuple(result for result in results if isinstance(result, NodeSilence)),
    )


def _ignore(_: Sample) -> None:
    """Take nothing: nobody is listening yet."""
