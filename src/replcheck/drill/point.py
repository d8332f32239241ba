"""Fix one moment of a whole cluster: a snapshot of each database, and a restore point in the WAL that agrees with them.

Transaction ids are the cluster's, so snapshots of several databases can be compared. The restore point is made in the
same breath as the first snapshot, behind all the others, and a look behind it tells which transactions may have
committed before it. That is repeated until none of them had ended by then; what is left is kept as unsettled: only a
transaction that wrote its commit between snapshot and point makes a difference, and the copy tells which did. The
deciding part is pure.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from replcheck.audit.chase import TRUSTED_STATUS_VERSION
from replcheck.audit.handles import NodeHandle
from replcheck.audit.visibility import Sight, View, distrusted, view_of
from replcheck.errors import NodeUnfit
from replcheck.model.seal import RestorePoint
from replcheck.postgres.sealing import LaterLook, MadePoint, look_behind, open_snapshot_at_point
from replcheck.postgres.session import Session
from replcheck.postgres.snapshots import Anchor, SnapshotReading, open_snapshot, read_anchor

_MOST_CANDIDATES = 100
"""Transactions since the anchor from which on it is taken anew: each look asks the status of every one."""
_MOST_POINTS = 50
"""The server logs each restore point that is made."""
_FIRST_PAUSE_S = 0.002
_LAST_PAUSE_S = 0.25
"""How long the first snapshot, and the restore point behind it, wait for the others that are taken meanwhile."""
_NAME_BYTES = 63
"""Of a restore point (PostgreSQL source, MAXFNAMELEN)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPoint:
    """Snapshots that are held open, and the restore point that they belong to."""

    point: RestorePoint
    views: Mapping[str, View]
    """By database."""
    unsettled: Mapping[str, frozenset[int]]
    """By database: transactions (64-bit) that its snapshot does not see and that may have committed before the
    restore point."""
    taken: float
    """When the snapshots were taken, on the monotonic clock."""


def unsettled_at(view: View, later: LaterLook) -> frozenset[int]:
    """Return the transactions that a snapshot does not certainly see and that may have committed before the point.

    A transaction that a snapshot sees had written its commit before, so it precedes the restore point. One that it does
    not see may have too, unless it is aborted by now, or began later than the look behind the point.

    >>> later = LaterLook(own_xid=9, xmax=10, in_progress=frozenset({5}), aborted=frozenset({6}))
    >>> view = View(xmin=5, xmax=8, in_progress=frozenset({5, 6}), doubtful=frozenset(), aborted=frozenset())
    >>> sorted(unsettled_at(view, later))
    [5, 8]
    """
    unseen = view.in_progress | view.doubtful | frozenset(range(view.xmax, later.xmax))
    candidates = unseen - later.aborted - {later.own_xid}
    return frozenset(xid for xid in candidates if view.sight(xid) is not Sight.NEVER)


def ended_before(unsettled: frozenset[int], at_point: View) -> frozenset[int]:
    """Return those unsettled transactions that had ended when the point was made, as far as its own snapshot tells.

    They are the ones whose commit is likely to precede it; what was running then hardly ever has.
    """
    return frozenset(xid for xid in unsettled if xid < at_point.xmax and xid not in at_point.in_progress)


async def fix_point(
    primary: NodeHandle,
    holders: Mapping[str, Session],
    *,
    name: str,
    budget_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> FixedPoint:
    """Leave a snapshot open in each of `holders` (by database) and make a restore point that agrees with them.

    The first of `holders` should be the busiest: the point is made right behind its snapshot. After `budget_s` seconds
    the next try is kept with what it leaves unsettled. Restore points are named `name` with the number of the try.
    Raises NodeError.
    """
    control = await primary.control()
    deadline, patience, anchor = clock() + budget_s, clock() + budget_s / 5, await read_anchor(control)
    names = list(holders)
    attempts, pause_s = 0, _FIRST_PAUSE_S if len(holders) > 1 else 0.0
    while True:
        last, attempts, taken = clock() >= deadline or attempts >= _MOST_POINTS, attempts + 1, clock()
        point_name = f"{name}_{attempts}"[:_NAME_BYTES]
        views, made, in_order = await _try(primary, holders, anchor, point_name, pause_s)
        if not in_order:
            # A snapshot of another database was late: it may see what comes after the restore point.
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)
            continue
        later = await look_behind(control, anchor)
        unsettled = {database: unsettled_at(view, later) for database, view in views.items()}
        at_point = views[names[0]]
        # Later only the busiest is insisted upon: what ended between two snapshots was most likely its own.
        wanted = names if clock() < patience else names[:1]
        if last or not any(ended_before(unsettled[database], at_point) for database in wanted):
            break
        anchor = await _renewed(control, anchor, later, holders)
    for session in holders.values():
        await session.arm_limits()
    return FixedPoint(
        point=RestorePoint(
            name=point_name,
            lsn=made.lsn,
            created_at=_whole_milliseconds(made.created_at),
            timeline=made.timeline,
            attempts=attempts,
        ),
        views=views,
        unsettled=unsettled,
        taken=taken,
    )


async def _try(
    primary: NodeHandle, holders: Mapping[str, Session], anchor: Anchor, name: str, pause_s: float
) -> tuple[dict[str, View], MadePoint, bool]:
    """Take all snapshots and make the point behind the first; tell whether it is behind all of them too.

    The WAL tells: a snapshot was taken before its session read a position that lies before the restore point.
    """
    first, *others = holders.values()
    (reading, made), rest = await asyncio.gather(
        open_snapshot_at_point(first, anchor, name, pause_s=pause_s),
        asyncio.gather(*(open_snapshot(session, anchor) for session in others)),
    )
    readings = [reading, *rest]
    for session, seen in zip(holders.values(), readings, strict=True):
        _require_same(primary, session, seen)
    views = {
        database: _view(seen, session.server_version_num, anchor)
        for (database, session), seen in zip(holders.items(), readings, strict=True)
    }
    return views, made, all(seen.lsn < made.lsn for seen in rest)


def _require_same(primary: NodeHandle, session: Session, reading: SnapshotReading) -> None:
    backend = reading.backend
    if backend.in_recovery or not primary.same_backend(backend.started_at, in_recovery=backend.in_recovery):
        raise NodeUnfit(f'node "{primary.name}" is not what it was when the seal began', node=primary.name)
    if backend.pid != session.advertised_pid:
        raise NodeUnfit(f'node "{primary.name}" is reached through a connection pooler', node=primary.name)


def _whole_milliseconds(moment: datetime) -> datetime:
    # What a manifest keeps.
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _view(reading: SnapshotReading, version_num: int, anchor: Anchor) -> View:
    view = view_of(
        xmin=reading.xmin,
        xmax=reading.xmax,
        known_before=reading.known_before,
        unfinished_before=reading.unfinished_before,
        in_progress=reading.in_progress,
        aborted=reading.aborted,
    )
    if version_num >= TRUSTED_STATUS_VERSION:
        return view
    first = min(anchor.xmax, view.xmin)
    return distrusted(view, anchor.open_xids | set(range(first, view.xmax)))


async def _renewed(control: Session, anchor: Anchor, later: LaterLook, holders: Mapping[str, Session]) -> Anchor:
    if later.xmax - anchor.xmax <= _MOST_CANDIDATES:
        return anchor
    await asyncio.gather(*(session.rollback() for session in holders.values()))
    return await read_anchor(control, anchor)
