"""Lanes: one connection on the primary and one on each replica, whose snapshots are aligned with one another.

Lanes share nothing but the handles of the nodes. A lane chases: it takes the primary's snapshot, then opens snapshots on
the replicas until one sees exactly the same transactions; one that overshoots begins again. All waiting for replay is
done without a snapshot. A false alignment can't hide a difference, it only invents one.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from replcheck.audit.handles import NodeHandle
from replcheck.audit.options import AuditOptions
from replcheck.audit.proof import Shortfall
from replcheck.audit.visibility import Position, Unsettled, View, distrusted, position, unsettled, view_of
from replcheck.errors import NodeError, NodeLost, NodeUnfit
from replcheck.events import Aligned, Emit, Waited
from replcheck.model.outcome import Verdict
from replcheck.model.wal import Lsn
from replcheck.postgres.session import Session
from replcheck.postgres.snapshots import Anchor, SnapshotReading, open_snapshot, read_anchor
from replcheck.postgres.wal import ReplayState, flush_lsn, replay_state, wait_replayed, writer_delay_s

TRUSTED_STATUS_VERSION = 140005
"""Before 14.5 pg_xact_status could answer "committed" before the commit was visible to new snapshots (fixed with
TransactionIdIsInProgress's single-item cache, PostgreSQL 14.5 release notes): no exact alignment there."""
_NEAR_BYTES = 256 * 1024
_PAUSED_WAIT_S = 5.0
_REMOTE_APPLY_LIFETIME_S = 1.0
_NO_FEEDBACK_LIFETIME_S = 5.0
_BLOCKED_CHECK_S = 0.5
_LAST_ROUND_S = 1.0
_MOST_CANDIDATES = 100

_alignment_numbers = itertools.count(1)


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


@dataclass(slots=True)
class Anchors:
    """The newest anchor of the audit; each alignment advances it, so that its candidates stay few."""

    latest: Anchor | None = None
    chasing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the lane that chases: two at once would only slow each other down."""

    async def advance(self, primary: NodeHandle) -> Anchor:
        """Take a new anchor, from the one before it."""
        self.latest = await read_anchor(await primary.control(), self.latest)
        return self.latest


class Lane:
    """One lane in one database; `alignment` is None while it holds no snapshot."""

    def __init__(
        self,
        number: int,
        database: str,
        primary: NodeHandle,
        replicas: Mapping[str, NodeHandle],
        *,
        anchors: Anchors,
        options: AuditOptions,
        emit: Emit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = number
        self.database = database
        self.primary = primary
        self.replicas = replicas
        self.alignment: Alignment | None = None
        self.sessions: dict[str, Session] = {}
        self._anchors = anchors
        self._options = options
        self._emit = emit
        self._clock = clock
        self._still: dict[str, tuple[float, Lsn]] = {}

    @property
    def expired(self) -> bool:
        """Return whether the alignment has reached its age."""
        return self.alignment is not None and self._clock() >= self.alignment.expires

    async def session(self, handle: NodeHandle) -> Session:
        """Return the lane's session on a node, opened where there is none; raise NodeError."""
        session = self.sessions.get(handle.name)
        if session is None or not session.alive:
            session = await handle.open(self.database, f"lane {self.number}")
            self.sessions[handle.name] = session
        return session

    async def align(self, wanted: frozenset[str]) -> Alignment | None:
        """Align the primary with those of `wanted` that can be; None where none can at this moment.

        Raises NodeError where the primary fails. A replica that fails, or that does not replay far enough, is left out
        and its handle told.
        """
        async with self._anchors.chasing:
            began = self._clock()
            primary = await self.session(self.primary)
            anchor = await self._anchors.advance(self.primary)
            ready = await self._ready_replicas(wanted, anchor)
            if not ready:
                return None
            chase = _Chase(self, primary, ready, anchor, deadline=self._clock() + self._options.align_budget_s)
            if not await chase.run():
                await self.release()
                return None
        self.alignment = Alignment(
            number=next(_alignment_numbers),
            taken_at=datetime.now(UTC),
            expires=self._expiry(chase),
            lsn=chase.lsn,
            unsettled=dict(chase.unsettled),
            attempts=chase.attempts,
            elapsed_s=self._clock() - began,
        )
        self._still.clear()
        self._emit(
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
        now = self._clock()
        for name in self.alignment.replicas:
            since, replayed = self._still.get(name, (now, Lsn(-1)))
            if replayed >= 0 and now - since < _BLOCKED_CHECK_S:
                continue
            try:
                state = await replay_state(await self.replicas[name].control())
            except NodeError as error:
                self.replicas[name].report(error)
                return True
            pending = state.received is not None and state.received > state.replayed
            if pending and state.replayed == replayed and not state.paused:
                return True
            self._still[name] = (now, state.replayed)
        return False

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
        names = [name for name in sorted(wanted) if self.replicas[name].usable]
        sessions = await asyncio.gather(*(self._ready(self.replicas[name], anchor) for name in names))
        return {name: session for name, session in zip(names, sessions, strict=True) if session is not None}

    async def _ready(self, handle: NodeHandle, anchor: Anchor) -> Session | None:
        try:
            session = await self.session(handle)
            waited = await self._wait(handle, anchor.lsn)
        except NodeError as error:
            handle.report(error)
            return None
        return session if waited else None

    async def _wait(self, handle: NodeHandle, target: Lsn) -> bool:
        began = self._clock()
        grace = self._options.replay_wait_s
        if handle.lagging_since is not None:
            grace = max(0.0, min(1.0, grace - (began - handle.lagging_since)))
        delay = await writer_delay_s(await self.primary.control())
        control = await handle.control()
        state = await replay_state(control)
        if state.replayed < target and state.paused:
            grace = min(grace, _PAUSED_WAIT_S)
        outcome = await wait_replayed(
            control, target, primary_flush=self._primary_flush, writer_delay=delay, timeout_s=grace, clock=self._clock
        )
        elapsed = self._clock() - began
        if elapsed > 0.5:
            self._emit(
                Waited(at=datetime.now(UTC), node=handle.name, reason=f"replay up to {target}", elapsed_s=elapsed)
            )
        if outcome.reached:
            handle.lagging_since = None
            return True
        self._lag(handle, outcome.state, target, began)
        return False

    async def _primary_flush(self) -> Lsn:
        return await flush_lsn(await self.primary.control())

    def _lag(self, handle: NodeHandle, state: ReplayState, target: Lsn, began: float) -> None:
        if handle.lagging_since is None:
            handle.lagging_since = began
        waited = self._clock() - handle.lagging_since
        if waited < (_PAUSED_WAIT_S if state.paused else self._options.replay_wait_s):
            return
        distance = target - state.replayed
        delayed = handle.facts.settings.get("recovery_min_apply_delay", "0") not in ("0", "")
        cause = "its replay is paused" if state.paused else "it is delayed on purpose" if delayed else "it lags"
        hint = (
            f'Run SELECT pg_wal_replay_resume() on node "{handle.name}" and audit again.'
            if state.paused
            else "Audit it when it has caught up."
        )
        handle.leave_behind(
            Shortfall(
                code="left_behind",
                reason=f"{cause}: {distance} bytes of WAL behind after {waited:.0f} s",
                verdict=Verdict.INCONCLUSIVE,
                hint=hint,
            )
        )

    def _expiry(self, chase: "_Chase") -> float:
        now = self._clock()
        ends = [chase.taken + self._options.max_snapshot_age_s]
        primary = self.primary.facts.settings
        remote_apply = primary.get("synchronous_commit") == "remote_apply" and primary.get("synchronous_standby_names")
        for name in chase.unsettled:
            ends.append(now + standby_lifetime_s(self.replicas[name].facts.settings))
            if remote_apply:
                ends.append(now + _REMOTE_APPLY_LIFETIME_S)
        return min(ends)


def standby_lifetime_s(settings: Mapping[str, str]) -> float:
    """Return how many seconds a snapshot may live on a standby without holding up its replay for long.

    With hot_standby_feedback the primary keeps the rows the snapshot needs; without it, replay waits for the snapshot
    at the first conflict (PostgreSQL manual, Handling Query Conflicts).

    >>> standby_lifetime_s({"hot_standby_feedback": "off", "max_standby_streaming_delay": "8000"})
    2.0
    """
    if settings.get("hot_standby_feedback") == "on":
        return float("inf")
    delay_ms = int(settings.get("max_standby_streaming_delay") or 30_000)
    return _NO_FEEDBACK_LIFETIME_S if delay_ms < 0 else max(0.5, min(_NO_FEEDBACK_LIFETIME_S, delay_ms / 4000))


class _Chase:
    """One search for an alignment: of several snapshots of the primary and many of the replicas."""

    def __init__(
        self, lane: Lane, primary: Session, ready: dict[str, Session], anchor: Anchor, *, deadline: float
    ) -> None:
        self._lane = lane
        self._primary = primary
        self._ready = ready
        self._anchor = anchor
        self._deadline = deadline
        self._overshot = False
        self._newest_xmax = anchor.xmax
        self.attempts = 0
        self.taken = 0.0
        self.lsn = Lsn(0)
        self.unsettled: dict[str, Unsettled] = {}

    async def run(self) -> bool:
        """Leave aligned snapshots open on the primary and on the replicas in `unsettled`; False where none is left."""
        while self._ready:
            last = self._lane._clock() >= self._deadline
            self.attempts += 1
            await self._renew_anchor()
            self.taken = self._lane._clock()
            there = await self._look(self._lane.primary, self._primary)
            self.lsn = there[0].lsn
            if there[1].doubtful and not last:
                continue
            self._overshot = False
            self.unsettled = {}
            await asyncio.gather(*(self._follow(name, there, last=last) for name in list(self._ready)))
            if self._ready and (last or not self._overshot):
                return True
        return False

    async def _renew_anchor(self) -> None:
        """Advance an anchor that has grown old: each look asks the status of every transaction since."""
        if self._newest_xmax - self._anchor.xmax <= _MOST_CANDIDATES:
            return
        await asyncio.gather(self._primary.rollback(), *(session.rollback() for session in self._ready.values()))
        self._anchor = await self._lane._anchors.advance(self._lane.primary)
        self._ready = await self._lane._ready_replicas(frozenset(self._ready), self._anchor)

    async def _follow(self, name: str, there: tuple[SnapshotReading, View], *, last: bool) -> None:
        handle, session = self._lane.replicas[name], self._ready[name]
        try:
            await self._pursue(handle, session, there, last=last)
            if last and not await self._replayed(handle, session, there[0].lsn):
                await session.rollback()
                self.unsettled.pop(name, None)
                del self._ready[name]
        except NodeError as error:
            handle.report(error)
            self.unsettled.pop(name, None)
            self._ready.pop(name, None)

    async def _pursue(
        self, handle: NodeHandle, session: Session, there: tuple[SnapshotReading, View], *, last: bool
    ) -> None:
        """Open snapshots on a replica until one is aligned; on the last round keep the first that is not merely behind."""
        patience = self._lane._clock() + _LAST_ROUND_S
        while last or not self._overshot:
            reading, view = await self._look(handle, session)
            difference = unsettled(there[1], view)
            where = position(difference)
            late = self._lane._clock() >= (patience if last else self._deadline)
            if where is Position.ALIGNED or (last and (where is Position.AHEAD or late)):
                self.unsettled[handle.name] = difference
                return
            if where is Position.AHEAD or late:
                self._overshot = True
                return
            self.attempts += 1
            if there[0].lsn - reading.lsn > _NEAR_BYTES:
                await self._approach(handle, session, there[0].lsn)

    async def _replayed(self, handle: NodeHandle, session: Session, target: Lsn) -> bool:
        """Make sure that a kept snapshot's node replays past the primary's position: a deleter shows in xmax only then.

        Waits a moment with the snapshot open; where replay does not come on, the snapshot may be what blocks it.
        """
        if not len(self.unsettled.get(handle.name, Unsettled())):
            return True
        control = await handle.control()
        patience = self._lane._clock() + _LAST_ROUND_S
        while (await replay_state(control)).replayed < target:
            if self._lane._clock() > patience:
                return False
            await asyncio.sleep(0.005)
        return True

    async def _approach(self, handle: NodeHandle, session: Session, target: Lsn) -> None:
        await session.rollback()
        control = await handle.control()
        while self._lane._clock() < self._deadline and not self._overshot:
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
            candidates = self._anchor.open_xids | set(range(self._anchor.xmax, view.xmax))
            view = distrusted(view, candidates)
        return reading, view


async def _not_the_same(handle: NodeHandle, session: Session) -> NodeError:
    """Say what became of a node whose session shows another role or another start: its handle looks for itself."""
    await session.close()
    return NodeLost(f'node "{handle.name}" is not what it was', node=handle.name)
