"""Up to which transaction a restored copy goes, and whether transactions of the primary came later."""

from collections.abc import Iterable
from dataclasses import dataclass

from replcheck.postgres.nodes import text
from replcheck.postgres.sealing import possibly_committed
from replcheck.postgres.session import Session, Statement

# Purpose: the end of what a copy knows. What a promoted one has begun since counts from the next transaction id of its
# last checkpoint on, the one at the end of its recovery. PostgreSQL 14+, no privilege (pg_control_checkpoint is
# executable by everyone unless revoked).
_HORIZON: Statement = """
    SELECT pg_catalog.pg_is_in_recovery(),
           pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint,
           pg_catalog.textsend(c.next_xid), c.timeline_id, c.prev_timeline_id
    FROM pg_catalog.pg_control_checkpoint() AS c
"""

# Purpose: the present end of the primary's transactions. PostgreSQL 13+, no privilege.
_XMAX: Statement = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint"

# Purpose: who wrote the catalog's present entry of relations. PostgreSQL 14+, no privilege.
_ENTRIES: Statement = """
    SELECT oid::bigint, xmin::text::bigint FROM pg_catalog.pg_class WHERE oid = ANY (%s::bigint[]::oid[])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """Where a copy ends."""

    in_recovery: bool
    xmax: int
    """64-bit: from here on every transaction is later."""
    timeline: int
    """Of its last checkpoint."""
    previous_timeline: int
    """The one that it was recovered on, where it was promoted since."""


async def read_horizon(session: Session) -> Horizon:
    """Read where a copy ends."""
    ((in_recovery, xmax, next_xid, timeline, previous),) = await session.fetch(_HORIZON)
    epoch, _, low = text(next_xid).partition(":")
    at_checkpoint = (int(epoch) << 32) | int(low)
    return Horizon(
        in_recovery=in_recovery,
        xmax=xmax if in_recovery else min(xmax, at_checkpoint),
        timeline=timeline,
        previous_timeline=previous,
    )


async def read_xmax(session: Session) -> int:
    """Return the end of the transactions that the session's snapshot can see (64-bit)."""
    ((xmax,),) = await session.read(_XMAX)
    return int(xmax)


async def read_entry_xids(session: Session, oids: Iterable[int]) -> dict[int, int]:
    """Return the transaction (32-bit) that wrote each relation's present entry in the catalog."""
    return dict(await session.read(_ENTRIES, [list(oids)]))


async def later_than(session: Session, horizon: Horizon, xids: Iterable[int]) -> frozenset[int]:
    """Return those transactions (64-bit) that a copy had not seen committed at its end; asked of the copy."""
    known = [xid for xid in set(xids) if xid < horizon.xmax]
    return frozenset(xids) - await possibly_committed(session, known)
