"""Read the parts of many relations by several connections at once, each under the one snapshot.

Every statement runs inside a savepoint that is rolled back, so no lock outlives it, and one that meets a lock is put
off, never waited for. A relation that was rewritten or redefined under the snapshot is given up: what an old snapshot
sees of it is not what it held.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from replcheck.drill.sealed_parts import Damage, Gathering, Lack, Taken, merged
from replcheck.errors import NodeError, NodeLost, StatementCancelled, StatementFailed
from replcheck.postgres.digests import RowHash, hashes_bytes
from replcheck.postgres.failures import is_corruption, is_disk_failure, is_too_wide
from replcheck.postgres.portable import PortableRow
from replcheck.postgres.seal_digests import digest_parts
from replcheck.postgres.session import Session

REDEFINED = Lack(
    code="redefined",
    reason="it was refreshed, rewritten, redefined or dropped meanwhile",
    hint="Try again when nothing refreshes, rewrites or redefines it.",
)
LOCKED = Lack(
    code="locked",
    reason="a lock kept us out",
    hint="Look for a session that holds ACCESS EXCLUSIVE on it (pg_locks) and try again.",
)
TOO_SLOW = Lack(code="too_slow", reason="a few blocks of it take longer to read than a statement may last")
_DEFINITION_SQLSTATES = frozenset({"42P01", "42703", "42704", "42883", "42804", "42809", "3F000", "XX000"})
_QUERY_CANCELED = "57014"
_RETRY_S = 0.3
_IDLE_S = 0.02
_LOOK_S = 0.25
"""How long somebody may wait behind us before we look."""
_MOST_LOSSES = 5

InTheWay = Callable[[list[int]], Awaitable[frozenset[int]]]
"""Returns those backends, of the ones given by pid, whose lock somebody waits for."""
OpenSession = Callable[[str], Awaitable[Session]]
"""Opens a session in a database, under its snapshot."""


@dataclass(slots=True, kw_only=True)
class PartReader:
    """Reads gatherings to their end, each with its parts or the reason why not; durations are in seconds."""

    open_session: OpenSession
    seeds: tuple[int, ...]
    jobs: int
    in_recovery: bool
    """Whether the server must be in recovery: another role is another server."""
    in_the_way: InTheWay | None = None
    """Tells which sessions somebody waits for: these step aside. None where nobody else uses the server."""
    obey: Callable[[], None] = lambda: None
    """Raises Interrupted where somebody asked us to stop."""
    finished: Callable[[Gathering], None] = lambda _: None
    settle_s: float = 60.0
    """How long a lock may keep us out of a relation before it is given up."""
    clock: Callable[[], float] = time.monotonic
    _queue: deque[Gathering] = field(default_factory=deque)
    _losses: int = 0
    _reading: dict[int, Session] = field(default_factory=dict)
    _stepped_aside: set[int] = field(default_factory=set)
    """Backends whose statement was ended because somebody waited for its lock."""
    _left: int = 0
    _blind: NodeError | None = None
    """Why nobody can tell any more whether somebody waits behind us."""

    async def read(self, gatherings: Sequence[Gathering]) -> None:
        """Read all; raises NodeError where the server, or its snapshot, is lost, and what `obey` raises."""
        for gathering in gatherings:
            self._enqueue(gathering)
        self._left = len(gatherings)
        watching = asyncio.create_task(self._step_aside())
        workers = [asyncio.create_task(self._work()) for _ in range(max(1, min(self.jobs, len(gatherings) * 4)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in (watching, *workers):
                task.cancel()
            await asyncio.gather(watching, *workers, return_exceptions=True)

    async def _step_aside(self) -> None:
        """End every statement behind whose lock somebody waits; its parts are read later.

        A look that fails is made again; where several in a row do, nobody is made to wait unseen: the reading ends.
        """
        failures = 0
        while self.in_the_way is not None:
            await asyncio.sleep(_LOOK_S)
            try:
                waited_for = await self.in_the_way(list(self._reading))
            except NodeError as error:
                failures += 1
                if failures > _MOST_LOSSES:
                    self._blind = error
                    return
                continue
            failures = 0
            for pid in waited_for:
                session = self._reading.get(pid)
                if session is not None:
                    self._stepped_aside.add(pid)
                    await session.cancel()

    async def _work(self) -> None:
        database, session = "", None
        try:
            while self._left:
                self.obey()
                if self._blind is not None:
                    raise self._blind
                found = self._next()
                if found is None:
                    await asyncio.sleep(_IDLE_S)
                    continue
                gathering, taken = found
                if session is None or not session.alive or database != gathering.database:
                    if session is not None:
                        await session.close()
                    database = gathering.database
                    session = await self.open_session(database)
                await self._read(session, gathering, taken)
        except asyncio.CancelledError:
            if session is not None:
                await session.cancel()
            raise
        finally:
            if session is not None:
                await session.close()

    def _next(self) -> tuple[Gathering, Taken] | None:
        for _ in range(len(self._queue)):
            gathering = self._queue[0]
            if gathering.not_before > self.clock():
                self._queue.rotate(-1)
                continue
            taken = gathering.take() if gathering.lack is None else None
            if taken is not None:
                return gathering, taken
            self._queue.popleft()
            gathering.queued = False
        return None

    async def _read(self, session: Session, gathering: Gathering, taken: Taken) -> None:
        if gathering.lack is not None:
            return
        began, relation = self.clock(), gathering.relation
        by_column, direct = gathering.by_column, hashes_bytes(session.server_version_num)
        portable = None
        if gathering.portable is not None:
            portable = PortableRow(columns=gathering.portable, seeds=self.seeds, by_column=by_column, direct=direct)
        how = RowHash(seeds=self.seeds, by_column=by_column, direct=direct)
        ranges = merged(gathering.ranges[taken.first : taken.end])
        pid = session.advertised_pid  # a connection that is lost meanwhile does not tell it any more
        self._reading[pid] = session
        try:
            found = await digest_parts(session, relation, how, ranges, gathering.width, portable=portable)
        except NodeError as error:
            if pid in self._stepped_aside and isinstance(error, StatementCancelled):
                gathering.not_before = self.clock() + _RETRY_S
                if gathering.halve(taken):
                    self._enqueue(gathering)
                else:
                    self._kept_out(gathering, taken)
            else:
                self._failed(gathering, taken, error)
            return
        finally:
            del self._reading[pid]
            if pid in self._stepped_aside:
                # The wish to end it may still be under way, and would meet the next statement.
                self._stepped_aside.discard(pid)
                await session.close()
        self._losses = 0
        gathering.kept_out_since = None
        if found.in_recovery != self.in_recovery:
            raise NodeLost(f'node "{session.node}" changed its role meanwhile', node=session.node)
        if found.filenode != relation.filenode_now:
            self._give_up(gathering, REDEFINED)
            return
        gathering.keep(taken, found.digests, found.marked, found.portable, self.clock() - began)
        self._check(gathering)

    def _failed(self, gathering: Gathering, taken: Taken, error: NodeError) -> None:
        if not isinstance(error, StatementFailed):
            self._losses += 1
            if self._losses > _MOST_LOSSES:
                raise error
            self._again(gathering, taken)
        elif is_too_wide(error) and not gathering.by_column:
            if taken.epoch == gathering.epoch:
                gathering.read_by_column()
            self._enqueue(gathering)
        elif isinstance(error, StatementCancelled) and error.sqlstate == _QUERY_CANCELED:
            if gathering.halve(taken):
                self._enqueue(gathering)
            else:
                self._give_up(gathering, TOO_SLOW)
        elif isinstance(error, StatementCancelled):
            self._kept_out(gathering, taken)
        elif is_corruption(error) and not is_disk_failure(error):
            if not gathering.halve(taken):
                gathering.refuse(taken, Damage(error.sqlstate, error.block))
            self._enqueue(gathering)
            self._check(gathering)
        elif error.sqlstate in _DEFINITION_SQLSTATES:
            self._give_up(gathering, REDEFINED)
        else:
            self._give_up(gathering, Lack(code="refused", reason=f"the server refused to read it ({error.sqlstate})"))

    def _kept_out(self, gathering: Gathering, taken: Taken) -> None:
        now = self.clock()
        if gathering.kept_out_since is None:
            gathering.kept_out_since = now
        if now - gathering.kept_out_since > self.settle_s:
            self._give_up(gathering, LOCKED)
            return
        gathering.not_before = now + _RETRY_S
        self._again(gathering, taken)

    def _again(self, gathering: Gathering, taken: Taken) -> None:
        gathering.put_back(taken)
        self._enqueue(gathering)

    def _enqueue(self, gathering: Gathering) -> None:
        if not gathering.queued:
            gathering.queued = True
            self._queue.append(gathering)

    def _give_up(self, gathering: Gathering, lack: Lack) -> None:
        if gathering.lack is None and not gathering.done:
            gathering.lack = lack
            self._left -= 1
            self.finished(gathering)

    def _check(self, gathering: Gathering) -> None:
        if gathering.done and gathering.lack is None and not gathering.told:
            gathering.told = True
            self._left -= 1
            self.finished(gathering)
