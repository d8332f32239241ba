"""How old the recovery point is, as far as one look can tell: an age that may be too high refutes nothing.

A watch that goes on sees when each position of the WAL was written, and whether anything was committed since. One look
knows when the last archived file was full: everything committed by then is archived, and the point is at most as old as
that. It is really as old only where something was committed soon afterwards. So where the age is beyond its limit, it
is held against what else the nodes tell, and called unknown where that does not settle it. Pure.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from replcheck.model.live import ClusterView, NodeAnswer, RecoveryPoint, Sample
from replcheck.model.node import NodeRole

_HOUSEKEEPING_BYTES = 1 << 20
"""WAL that a server without commits may write within days."""
_UNSETTLED = "one look cannot tell when the first commit behind the archived WAL was made; a watch can"


def seen_at_once(view: ClusterView, sample: Sample, max_age_s: float) -> RecoveryPoint:
    """Return the recovery point of a view that one sample alone led to; `max_age_s` is its limit."""
    point = view.recovery_point
    primary = next((answer for answer in sample.answers if answer.node == view.primary), None)
    if point.at is None or point.age_s is None or primary is None or point.age_s <= max_age_s:
        return point
    last = _last_commit(primary, sample)
    if last is not None and last <= point.at:
        return RecoveryPoint(at=view.at, age_s=0.0)
    certain_s = max(
        ((view.at - moment).total_seconds() for moment in _unarchived(point.at, last, primary)), default=0.0
    )
    if certain_s > max_age_s:
        return point
    because = f"{point.reason}; {_UNSETTLED}" if point.reason else _UNSETTLED
    return replace(point, at=None, age_s=None, reason=because)


def _last_commit(primary: NodeAnswer, sample: Sample) -> datetime | None:
    """Return when the last transaction committed, by our clock; None where no standby has replayed all there is."""
    ahead = primary.server_at - primary.at
    return max(
        (
            answer.replayed_commit_at - ahead
            for answer in sample.answers
            if answer.role is NodeRole.STANDBY
            and answer.system_identifier == primary.system_identifier
            and answer.replayed_commit_at is not None
            and answer.replayed_lsn is not None
            and primary.insert_lsn is not None
            and answer.replayed_lsn >= primary.insert_lsn
        ),
        default=None,
    )


def _unarchived(archived_at: datetime, last: datetime | None, primary: NodeAnswer) -> Iterator[datetime]:
    """Yield moments by which something was certainly written that is not archived."""
    if last is not None and last > archived_at:
        yield last
    for mark in primary.earlier:
        if primary.archived_lsn is not None and mark.lsn - primary.archived_lsn > _HOUSEKEEPING_BYTES:
            yield mark.at
