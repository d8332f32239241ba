"""Lanes: one connection on the primary and one on each replica, whose snapshots are aligned with one another.

Lanes share nothing but the handles of the nodes. All waiting for replay is done without a snapshot. A false alignment
can't hide a difference, it only invents one.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from replcheck.audit.chase import Chase
from replcheck.audit.cluster import Cluster
from replcheck.audit.damage import CatalogDamage
from replcheck.audit.handles import NodeHandle
from replcheck.audit.shortfalls import Lag, left_behind
from replcheck.audit.visibility import Unsettled
from replcheck.errors import DatabaseMissing, NodeError
from replcheck.events import Aligned, Waited
from replcheck.model.wal import Lsn
from replcheck.postgres.nodes import read_database_oid, standby_lifetime_s
from replcheck.postgres.session import Session
from replcheck.postgres.snapshots import Anchor, has_replayed_ends
from replcheck.postgres.wal import ReplayState, flush_lsn, replay_state, wait_replayed, writer_delay_s

_PAUSED_WAIT_S = 5.0
_REMOTE_APPLY_LIFETIME_S = 1.0
_BLOCKED_CHECK_S = 0.5


@dataclass(slots=True, kw_only=True)
class Alignment:
    """Aligned snapshots that a lane holds open."""

    number: int
    taken_at: datetime
    expires: float
    """On the monotonic clock."""
    lsn: Lsn
    unsettled: Mapping[str, Unsettled]
    """Per replica that takes part."""
    attempts: int
    elapsed_s: float
    chunks: int = 0

    @property
    def replicas(self) -> frozenset[str]:
        """Return the replicas that take part."""
        return frozenset(self.unsettled)

    @property
    def exact(self) -> frozenset[str]:
        """Return the replicas whose snapshots see exactly what the primary's sees."""
        return frozenset(name for name, difference in self.unsettled.items() if not len(difference))

    def leave_out(self, lost: Iterable[str]) -> None:
        """Go on without replicas whose sessions are gone."""
        self.unsettled = {name: known for name, known in self.unsettled.items() if name not in set(lost)}


class Lane:
    """One lane in one database; `alignment` is None while it holds no snapshot."""

    def __init__(self, number: int, database: str, oid: int, cluster: Cluster, damage: CatalogDamage) -> None:
        self.number = number
        self._damage = damage
        self.database = database
        self.oid = oid
        self.cluster = cluster
        self._opening: dict[str, asyncio.Lock] = {node.name: asyncio.Lock() for node in cluster.nodes}
        self.alignment: Alignment | None = None
        self.sessions: dict[str, Session] = {}
        self.broken = False
        """Whether the session on the primary was lost under the alignment."""
        self.missing: dict[str, DatabaseMissing] = {}
        """Replicas that lack the lane's database although they have replayed what the primary had."""
        self.damaged: dict[str, NodeError] = {}
        """Nodes that could not read the catalogs of the lane's database at the last alignment."""
        self._still: dict[str, tuple[float, Lsn]] = {}

    @property
    def expired(self) -> bool:
        """Return whether the alignment has reached its age, or lost the primary or every replica."""
        if self.alignment is None:
            return False
        return self.broken or not self.alignment.unsettled or self.cluster.clock() >= self.alignment.expires

    async def session(self, handle: NodeHandle) -> Session:
        """Return the lane's session on a node, opened where there is none; raise NodeError."""
        async with self._opening[handle.name]:
            session = self.sessions.get(handle.name)
            if session is None or not session.alive:
                session = await handle.open(self.database, f"lane {self.number}")
                try:
                    there = await read_database_oid(session)
                except NodeError:
                    await session.close()
                    raise
                if there != self.oid:
                    await session.close()
                    raise DatabaseMissing(f'node "{handle.name}" has another database of that name', node=handle.name)
                self.sessions[handle.name] = session
            return session

    async def align(self, wanted: frozenset[str]) -> Alignment | None:
        """Align the primary with those of `wanted` that can be; None where none can at this moment.

        Raises NodeError where the primary fails. A replica that fails, or that does not replay far enough, is left out
        and its handle told.
        """
        async with self.cluster.anchors.chasing:
            began = self.cluster.clock()
            primary = await self.session(self.cluster.primary)
            anchor = await self.cluster.anchors.advance(self.cluster.primary)
            ready = await self._ready_replicas(wanted, anchor)
            if not ready:
                return None
            number = self.cluster.anchors.draw()
            chase = Chase(self.cluster, primary, ready, anchor, renew=self._ready_replicas, report=self.report)
            aligned = await chase.run()
            for name in ready.keys() - chase.unsettled.keys():
                await self._unaligned(self.cluster.replicas[name], chase.lsn)
            if aligned:
                await chase.arm()
            if not (aligned and chase.unsettled):
                await self.release()
                return None
        self.alignment = Alignment(
            number=number,
            taken_at=datetime.now(UTC),
            expires=self._expiry(chase),
            lsn=chase.lsn,
            unsettled=dict(chase.unsettled),
            attempts=chase.attempts,
            elapsed_s=self.cluster.clock() - began,
        )
        self.broken = False
        self._still.clear()
        for name in (self.cluster.primary.name, *chase.unsettled):
            self.cluster.node(name).succeeded()
        self.cluster.emit(
            Aligned(
                at=datetime.now(UTC),
                lane=self.number,
                database=self.database,
                replicas=tuple(sorted(chase.unsettled)),
                attempts=chase.attempts,
                elapsed_s=self.alignment.elapsed_s,
                unsettled=max(len(difference) for difference in chase.unsettled.values()),
            )
        )
        return self.alignment

    async def release(self) -> None:
        """Give back every snapshot; never raises."""
        self.alignment = None
        await asyncio.gather(*(session.rollback() for session in self.sessions.values()))

    async def holds_up_replay(self) -> bool:
        """Return whether a replica has WAL to replay and stands still while the lane holds a snapshot there."""
        if self.alignment is None:
            return False
        now = self.cluster.clock()
        for name in self.alignment.replicas:
            since, replayed = self._still.get(name, (now, Lsn(-1)))
            if replayed >= 0 and now - since < _BLOCKED_CHECK_S:
                continue
            try:
                state = await replay_state(await self.cluster.replicas[name].control())
            except NodeError as error:
                self.cluster.replicas[name].report(error)
                return True
            pending = state.received is not None and state.received > state.replayed
            if pending and state.replayed == replayed and not state.paused and not state.starved:
                return True
            self._still[name] = (now, state.replayed)
        return False

    async def lose(self, name: str) -> None:
        """Close the session on one node and go on without it, until the next alignment."""
        session = self.sessions.pop(name, None)
        if session is not None:
            await session.close()
        if self.alignment is not None:
            self.alignment.leave_out([name])
            self.broken = self.broken or name == self.cluster.primary.name

    async def close(self) -> None:
        """Close the lane's sessions."""
        self.alignment = None
        await asyncio.gather(*(session.close() for session in self.sessions.values()))
        self.sessions.clear()

    async def cancel(self) -> None:
        """End what the lane's statements are doing on the servers, then close."""
        await asyncio.gather(*(session.cancel() for session in self.sessions.values()))
        await self.close()

    async def _ready_replicas(self, wanted: frozenset[str], anchor: Anchor) -> dict[str, Session]:
        names = [name for name in sorted(wanted) if self.cluster.replicas[name].usable]
        sessions = await asyncio.gather(*(self._ready(self.cluster.replicas[name], anchor) for name in names))
        return {name: session for name, session in zip(names, sessions, strict=True) if session is not None}

    async def _ready(self, handle: NodeHandle, anchor: Anchor) -> Session | None:
        try:
            if not await self._wait_for(handle, anchor):
                return None
            return await self.session(handle)
        except DatabaseMissing as error:
            self.missing[handle.name] = error
        except NodeError as error:
            self.report(error.node, error)
        return None

    def report(self, name: str, error: NodeError) -> None:
        """Tell a node's handle that it failed, unless it is this database alone that it cannot read."""
        if self._damage.concerns(error):
            self.damaged[name] = error
        else:
            self.cluster.node(name).report(error)

    async def _wait_for(self, handle: NodeHandle, anchor: Anchor) -> bool:
        began, target = self.cluster.clock(), anchor.lsn
        grace = self.cluster.options.replay_wait_s
        if handle.lagging_since is not None:
            grace = max(0.0, min(1.0, grace - (began - handle.lagging_since)))
        delay = await writer_delay_s(await self.cluster.primary.control())
        control = await handle.control()
        state = await replay_state(control)
        if state.replayed < target and state.paused:
            grace = min(grace, _PAUSED_WAIT_S)
        outcome = await wait_replayed(
            control,
            target,
            enough=(lambda: has_replayed_ends(control, anchor)) if self._on_one_timeline(handle) else None,
            primary_flush=self._primary_flush,
            writer_delay=delay,
            timeout_s=grace,
            clock=self.cluster.clock,
        )
        elapsed = self.cluster.clock() - began
        if elapsed > 0.5:
            self.cluster.emit(
                Waited(at=datetime.now(UTC), node=handle.name, reason=f"replay up to {target}", elapsed_s=elapsed)
            )
        if outcome.reached:
            handle.lagging_since = None
            return True
        self._lag(handle, outcome.state, target, began)
        return False

    def _on_one_timeline(self, handle: NodeHandle) -> bool:
        """Return whether a replica is known to stream the primary's timeline: ids of another are other transactions."""
        timeline = handle.facts.timeline
        return timeline is not None and timeline == self.cluster.primary.facts.timeline

    async def _unaligned(self, handle: NodeHandle, target: Lsn) -> None:
        """Give up a replica that replays what it must, but always too late to be compared with the present."""
        if handle.unaligned_since is None:
            handle.unaligned_since = self.cluster.clock()
        waited = self.cluster.clock() - handle.unaligned_since
        if handle.usable and waited > self.cluster.options.replay_wait_s:
            try:
                state = await replay_state(await handle.control())
            except NodeError as error:
                handle.report(error)
                return
            lag = _cause_of_lag(state, target, handle.facts.settings)
            handle.leave_behind(left_behind(handle.name, max(0, target - state.replayed), waited, lag))

    async def _primary_flush(self) -> Lsn:
        return await flush_lsn(await self.cluster.primary.control())

    def _lag(self, handle: NodeHandle, state: ReplayState, target: Lsn, began: float) -> None:
        if handle.lagging_since is None:
            handle.lagging_since = began
        waited = self.cluster.clock() - handle.lagging_since
        if waited < (_PAUSED_WAIT_S if state.paused else self.cluster.options.replay_wait_s):
            return
        lag = _cause_of_lag(state, target, handle.facts.settings)
        handle.leave_behind(left_behind(handle.name, target - state.replayed, waited, lag))

    def _expiry(self, chase: Chase) -> float:
        now = self.cluster.clock()
        ends = [chase.taken + self.cluster.options.max_snapshot_age_s]
        primary = self.cluster.primary.facts.settings
        standbys = [self.cluster.replicas[name].facts.settings for name in chase.unsettled]
        return min([*ends, *(now + snapshot_lifetime_s(standby, primary) for standby in standbys)])


def snapshot_lifetime_s(standby: Mapping[str, str], primary: Mapping[str, str]) -> float:
    """Return how many seconds a lane may hold a snapshot on a standby, by its settings and its primary's.

    Where commits wait for replay on standbys, an idle lane there must not delay them.
    """
    remote_apply = primary.get("synchronous_commit") == "remote_apply" and primary.get("synchronous_standby_names")
    return min(standby_lifetime_s(standby), _REMOTE_APPLY_LIFETIME_S if remote_apply else float("inf"))


def _cause_of_lag(state: ReplayState, target: Lsn, settings: Mapping[str, str]) -> Lag:
    if state.paused:
        return Lag.PAUSED
    if state.received is not None and state.received < target:
        return Lag.NOT_RECEIVING
    return Lag.DELAYED if settings.get("recovery_min_apply_delay", "0") not in ("0", "") else Lag.SLOW
