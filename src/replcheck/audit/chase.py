"""The search for an alignment: several snapshots of the primary, and many of the replicas.

A snapshot of the primary is taken, then snapshots of each replica until one sees exactly the same transactions. One
that overshoots begins the search again; when its time is over, the closest are kept with what they leave unsettled.
"""

import asyncio
from collections.abc import Awaitable, Callable

from replcheck.audit.cluster import Cluster
from replcheck.audit.handles import NodeHandle
from replcheck.audit.visibility import Position, Unsettled, View, distrusted, position, unsettled, view_of
from replcheck.errors import NodeError, NodeLost, NodeUnfit
from replcheck.model.wal import Lsn
from replcheck.postgres.session import Session
from replcheck.postgres.snapshots import Anchor, SnapshotReading, open_snapshot
from replcheck.postgres.wal import replay_state

Renew = Callable[[frozenset[str], Anchor], Awaitable[dict[str, Session]]]
"""Waits until replicas have replayed up to an anchor and returns the sessions of those that have."""

TRUSTED_STATUS_VERSION = 140005
"""Before 14.5 pg_xact_status could answer "committed" before the commit was visible to new snapshots (PostgreSQL 14.5
release notes): no exact alignment there."""
_NEAR_BYTES = 256 * 1024
_LAST_ROUND_S = 1.0
_LONGEST_ATTEMPT_S = 0.05
"""A longer one waited more than it worked."""
_MOST_CANDIDATES = 100


class Chase:
    """One search for an alignment; `ready` are the sessions of the replicas that have replayed up to the anchor."""

    def __init__(
        self,
        cluster: Cluster,
        primary: Session,
        ready: dict[str, Session],
        anchor: Anchor,
        *,
        renew: Renew,
        report: Callable[[str, NodeError], None],
    ) -> None:
        """`report` is told of a replica that fails and is left out."""
        self._cluster = cluster
        self._primary = primary
        self._ready = ready
        self._anchor = anchor
        self._renew = renew
        self._report = report
        self._deadline = cluster.clock() + cluster.options.align_budget_s
        self._overshot = False
        self._newest_xmax = anchor.xmax
        self.attempts = 0
        self.taken = 0.0
        self.lsn = Lsn(0)
        self.unsettled: dict[str, Unsettled] = {}

    async def arm(self) -> None:
        """Have every server watch the idle transaction that holds its snapshot; a replica that can't is left out."""
        await self._primary.arm_limits()
        for name in list(self.unsettled):
            try:
                await self._ready[name].arm_limits()
            except NodeError as error:
                self._report(name, error)
                del self.unsettled[name]

    async def run(self) -> bool:
        """Leave aligned snapshots open on the primary and on the replicas in `unsettled`; False where none is left."""
        while self._ready:
            if self.attempts:
                await self._rest()
            last = self._cluster.clock() >= self._deadline
            self.attempts += 1
            await self._renew_anchor()
            self.taken = self._cluster.clock()
            there = await self._look(self._cluster.primary, self._primary)
            self.lsn = there[0].lsn
            if there[1].doubtful and not last:
                continue
            self._overshot = False
            self.unsettled = {}
            await asyncio.gather(*(self._follow(name, there, last=last) for name in list(self._ready)))
            if self._ready and (last or not self._overshot):
                return True
        return False

    async def _rest(self) -> None:
        """Make up for the last attempt, as the pace wants it: without rest they would take a core of each server."""
        owed = 1 / self._cluster.options.pacing.share - 1
        if owed:
            spent_s = self._cluster.clock() - self.taken
            await self._cluster.halt.sleep(min(spent_s, _LONGEST_ATTEMPT_S) * owed)

    async def _renew_anchor(self) -> None:
        """Advance an anchor that has grown old: each look asks the status of every transaction since."""
        if self._newest_xmax - self._anchor.xmax <= _MOST_CANDIDATES:
            return
        await asyncio.gather(self._primary.rollback(), *(session.rollback() for session in self._ready.values()))
        self._anchor = await self._cluster.anchors.advance(self._cluster.primary)
        self._ready = await self._renew(frozenset(self._ready), self._anchor)

    async def _follow(self, name: str, there: tuple[SnapshotReading, View], *, last: bool) -> None:
        handle, session = self._cluster.replicas[name], self._ready[name]
        try:
            await self._pursue(handle, session, there, last=last)
            if last and not await self._replayed(handle, there[0].lsn):
                await session.rollback()
                self.unsettled.pop(name, None)
                del self._ready[name]
        except NodeError as error:
            self._report(name, error)
            self.unsettled.pop(name, None)
            self._ready.pop(name, None)

    async def _pursue(
        self, handle: NodeHandle, session: Session, there: tuple[SnapshotReading, View], *, last: bool
    ) -> None:
        """Open snapshots on a replica until one is aligned; in the last round keep the first not merely behind."""
        patience = self._cluster.clock() + _LAST_ROUND_S
        while last or not self._overshot:
            reading, view = await self._look(handle, session)
            difference = unsettled(there[1], view)
            where = position(difference)
            late = self._cluster.clock() >= (patience if last else self._deadline)
            if where is Position.ALIGNED or (last and (where is Position.AHEAD or late)):
                self.unsettled[handle.name] = difference
                return
            if where is Position.AHEAD or late:
                self._overshot = True
                return
            self.attempts += 1
            if there[0].lsn - reading.lsn > _NEAR_BYTES:
                await self._approach(handle, session, there[0].lsn)

    async def _replayed(self, handle: NodeHandle, target: Lsn) -> bool:
        """Make sure that a kept snapshot's node replays past the primary's position: a deleter shows in xmax only then.

        Waits a moment with the snapshot open; where replay does not come on, the snapshot may be what blocks it.
        """
        if not len(self.unsettled.get(handle.name, Unsettled())):
            return True
        control = await handle.control()
        patience = self._cluster.clock() + _LAST_ROUND_S
        while (await replay_state(control)).replayed < target:
            if self._cluster.clock() > patience:
                return False
            await asyncio.sleep(0.005)
        return True

    async def _approach(self, handle: NodeHandle, session: Session, target: Lsn) -> None:
        await session.rollback()
        control = await handle.control()
        while self._cluster.clock() < self._deadline and not self._overshot:
            state = await replay_state(control)
            if target - state.replayed <= _NEAR_BYTES or state.paused:
                return
            await asyncio.sleep(0.002)

    async def _look(self, handle: NodeHandle, session: Session) -> tuple[SnapshotReading, View]:
        reading = await open_snapshot(session, self._anchor)
        self._newest_xmax = max(self._newest_xmax, reading.xmax)
        backend = reading.backend
        if backend.pid != session.advertised_pid:
            raise NodeUnfit(f'node "{handle.name}" is reached through a connection pooler', node=handle.name)
        if not handle.same_backend(backend.started_at, in_recovery=backend.in_recovery):
            raise await _not_the_same(handle, session)
        view = view_of(
            xmin=reading.xmin,
            xmax=reading.xmax,
            known_before=reading.known_before,
            unfinished_before=reading.unfinished_before,
            in_progress=reading.in_progress,
            aborted=reading.aborted,
        )
        if session.server_version_num < TRUSTED_STATUS_VERSION:
            first = min(self._anchor.xmax, view.xmin)
            candidates = self._anchor.open_xids | set(range(first, view.xmax))
            view = distrusted(view, candidates)
        return reading, view


async def _not_the_same(handle: NodeHandle, session: Session) -> NodeError:
    """Say what became of a node whose session shows another role or another start: its handle looks for itself."""
    await session.close()
    return NodeLost(f'node "{handle.name}" is not what it was', node=handle.name)
