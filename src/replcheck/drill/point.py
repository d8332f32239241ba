"""Fix one moment of a whole cluster: a snapshot of each database, and a restore point in the WAL that agrees with them.

Transaction ids are the cluster's, so snapshots of several databases can be compared. All of them are taken, then the
restore point is made, then a look behind it tells which transactions may have committed before it. That is repeated
until those are none but the ones still running; what then remains is kept as unsettled. The deciding part is pure.
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
from replcheck.postgres.sealing import MadePoint, make_restore_point
from replcheck.postgres.session import Session
from replcheck.postgres.snapshots import Anchor, SnapshotReading, open_snapshot, read_anchor

_MOST_CANDIDATES = 100
"""Transactions since the anchor from which on it is taken anew: each look asks the status of every one."""
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


def unsettled_at(view: View, made: MadePoint) -> frozenset[int]:
    """Return the transactions that a snapshot does not certainly see and that may have committed before the point.

    A transaction that a snapshot sees had written its commit before, so it precedes the restore point. One that it does
    not see may have too, unless it is aborted by now, or began later than the look behind the point.

    >>> made = MadePoint(lsn=0, created_at=None, timeline=1, own_xid=9, xmax=10, in_progress=frozenset({5}),
    ...                  aborted=frozenset({6}))
    >>> view = View(xmin=5, xmax=8, in_progress=frozenset({5, 6}), doubtful=frozenset(), aborted=frozenset())
    >>> sorted(unsettled_at(view, made))
    [5, 8]
    """
    unseen = view.in_progress | view.doubtful | frozenset(range(view.xmax, made.xmax))
    candidates = unseen - made.aborted - {made.own_xid}
    return frozenset(xid for xid in candidates if view.sight(xid) is not Sight.NEVER)


def moved_on(view: View, made: MadePoint) -> bool:
    """Return whether a transaction ended between a snapshot and the look behind the restore point."""
    return bool(unsettled_at(view, made) - made.in_progress)


def agree(views: Mapping[str, View]) -> bool:
    """Return whether all snapshots certainly see the same transactions."""
    if any(view.doubtful for view in views.values()):
        return False
    first = next(iter(views.values()))
    return all((view.xmax, view.in_progress) == (first.xmax, first.in_progress) for view in views.values())


async def fix_point(
    primary: NodeHandle,
    holders: Mapping[str, Session],
    *,
    name: str,
    budget_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> FixedPoint:
    """Leave a snapshot open in each of `holders` (by database) and make a restore point that agrees with them.

    After `budget_s` seconds the next try is kept with what it leaves unsettled. Restore points are named `name` with
    the number of the try. Raises NodeError.
    """
    control = await primary.control()
    deadline = clock() + budget_s
    anchor = await read_anchor(control)
    made_points = 0
    while True:
        last = clock() >= deadline
        taken = clock()
        views = await _look(primary, holders, anchor)
        if not last and not agree(views):
            anchor = await _renewed(control, anchor, views, holders)
            continue
        made_points += 1
        point_name = f"{name}_{made_points}"[:_NAME_BYTES]
        made = await make_restore_point(control, point_name, anchor, role=primary.facts.privileges.role)
        if not last and any(moved_on(view, made) for view in views.values()):
            anchor = await _renewed(control, anchor, views, holders)
            continue
        for session in holders.values():
            await session.arm_limits()
        return FixedPoint(
            point=RestorePoint(
                name=point_name,
                lsn=made.lsn,
                created_at=_whole_milliseconds(made.created_at),
                timeline=made.timeline,
                attempts=made_points,
            ),
            views=views,
            unsettled={database: unsettled_at(view, made) for database, view in views.items()},
            taken=taken,
        )


def _whole_milliseconds(moment: datetime) -> datetime:
    # What a manifest keeps.
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


async def _look(primary: NodeHandle, holders: Mapping[str, Session], anchor: Anchor) -> dict[str, View]:
    readings = await asyncio.gather(*(open_snapshot(session, anchor) for session in holders.values()))
    for session, reading in zip(holders.values(), readings, strict=True):
        backend = reading.backend
        if backend.in_recovery or not primary.same_backend(backend.started_at, in_recovery=backend.in_recovery):
            raise NodeUnfit(f'node "{primary.name}" is not what it was when the seal began', node=primary.name)
        if backend.pid != session.advertised_pid:
            raise NodeUnfit(f'node "{primary.name}" is reached through a connection pooler', node=primary.name)
    return {
        database: _view(reading, session.server_version_num, anchor)
        for (database, session), reading in zip(holders.items(), readings, strict=True)
    }


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


async def _renewed(
    control: Session, anchor: Anchor, views: Mapping[str, View], holders: Mapping[str, Session]
) -> Anchor:
    if max(view.xmax for view in views.values()) - anchor.xmax <= _MOST_CANDIDATES:
        return anchor
    await asyncio.gather(*(session.rollback() for session in holders.values()))
    return await read_anchor(control, anchor)
