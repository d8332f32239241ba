"""Snapshots and the transactions they see.

On a standby pg_current_snapshot() has a right xmin and xmax but an empty xip list, and on a primary it leaves
subtransactions out. So every candidate xid is asked with pg_xact_status(): once before the snapshot is taken and once
inside its first statement. What was completed before is visible, what is in progress after is not, and what is neither
is ambiguous. No snapshot is ever exported or imported here: on a standby that can damage hint bits.
"""

from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from replcheck.model.wal import Lsn
from replcheck.postgres.session import Batch, Row, Session, Statement

# Purpose: which candidates are still in progress, and where the present ends. PostgreSQL 14+, no privilege,
# microseconds per candidate. pg_xact_status raises on an xid in the future, hence the bound.
_CANDIDATES = """
    WITH present AS MATERIALIZED (
        SELECT s.snapshot, pg_catalog.pg_snapshot_xmin(s.snapshot)::text::bigint AS xmin,
               pg_catalog.pg_snapshot_xmax(s.snapshot)::text::bigint AS xmax
        FROM (SELECT pg_catalog.pg_current_snapshot() AS snapshot) AS s
    ), candidate AS MATERIALIZED (
        SELECT o.xid FROM unnest(%s::bigint[]) AS o (xid), present WHERE o.xid < present.xmax
        UNION ALL
        SELECT r.xid FROM present, generate_series(%s::bigint, present.xmax - 1) AS r (xid)
    ), status AS MATERIALIZED (
        SELECT xid, pg_catalog.pg_xact_status(xid::text::xid8) AS status FROM candidate
    )
"""
BEFORE = sql.SQL(_CANDIDATES) + sql.SQL("""
    SELECT (SELECT xmax FROM present), coalesce(array_agg(xid) FILTER (WHERE status = 'in progress'), '{}') FROM status
""")

# Purpose: the first statement of a lane's transaction: it takes the snapshot, tells what it does not see, and which
# server took it. PostgreSQL 14+, no privilege (pg_control_system is executable by everyone).
AFTER = sql.SQL(_CANDIDATES) + sql.SQL("""
    , seen AS MATERIALIZED (
        SELECT coalesce(array_agg(xid) FILTER (WHERE status = 'in progress'), '{}') AS in_progress,
               coalesce(array_agg(xid) FILTER (WHERE status = 'aborted'), '{}') AS aborted
        FROM status
    )
    SELECT present.xmin, present.xmax, seen.in_progress, seen.aborted,
           pg_catalog.pg_is_in_recovery(), pg_catalog.pg_postmaster_start_time(), pg_catalog.pg_backend_pid(),
           (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                 ELSE pg_catalog.pg_current_wal_insert_lsn() END - '0/0'::pg_lsn)::bigint
    FROM present, seen
""")

BEGIN: Statement = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
ROLLBACK: Statement = "ROLLBACK"

# Purpose: the first transaction that has not ended, for this server. PostgreSQL 13+, no privilege.
_WINDOW: Statement = """
    SELECT pg_catalog.pg_snapshot_xmin(s)::text::bigint FROM (SELECT pg_catalog.pg_current_snapshot() AS s) AS present
"""

# Purpose: how far the WAL of a primary reaches. PostgreSQL 10+, no privilege.
_INSERT_LSN: Statement = "SELECT (pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"


_TRANSACTION_TIMEOUT_VERSION = 170000
"""From here on a server ends a transaction by its age; before, only while it watches for idleness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A point of the primary before which only `open_xids` can be unsettled.

    It holds for a replica once that replica has replayed `lsn`, or else all that matters of it: `has_replayed_ends`.
    Xids are 64-bit.
    """

    open_xids: frozenset[int]
    xmax: int
    lsn: Lsn


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Which server process answered; any change of it voids an alignment."""

    in_recovery: bool
    started_at: datetime
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotReading:
    """A snapshot as its own session describes it; xids are 64-bit and limited to the anchor's candidates."""

    backend: Backend
    lsn: Lsn
    """Insert position of a primary or replay position of a standby, read after the snapshot."""
    xmin: int
    xmax: int
    unfinished_before: frozenset[int]
    """In progress when asked before the snapshot."""
    known_before: int
    """The first xid that was not asked before the snapshot."""
    in_progress: frozenset[int]
    """In progress when asked after the snapshot: not visible."""
    aborted: frozenset[int]


async def read_anchor(session: Session, previous: Anchor | None = None) -> Anchor:
    """Take an anchor on the primary: where the present ends, who is open before it, then the insert position.

    Without a `previous` anchor every xid since the oldest running transaction is asked: about half a second for a
    million. With one, only what was open there and what came since.
    """
    if previous is None:
        ((xmin,),) = await session.fetch(_WINDOW)
        asked: list[object] = [[], xmin]
    else:
        asked = [sorted(previous.open_xids), previous.xmax]
    ((xmax, open_xids),) = await session.fetch(BEFORE, asked)
    ((lsn,),) = await session.fetch(_INSERT_LSN)
    return Anchor(open_xids=frozenset(open_xids), xmax=xmax, lsn=Lsn(lsn))


async def has_replayed_ends(session: Session, anchor: Anchor) -> bool:
    """Return whether a standby has replayed the end of every transaction that had ended when an anchor was taken.

    What an anchor's position stands for, without the WAL behind the last of these ends: on a quiet primary that stays
    unflushed, and so is not sent, for seconds. A standby keeps each transaction of its primary among the running ones
    from its first record, or from that of a younger one, until it has replayed its commit or abort (PostgreSQL source,
    KnownAssignedXids in procarray.c); the record that drops others from the list, of what runs, is behind their ends.
    So below the xmin of its snapshot everything has ended and shows in every snapshot from now on, and where all that
    lies between there and the anchor's xmax was open at the anchor, nothing else is left. False proves nothing.
    Holds for a standby of the anchor's timeline alone: transaction ids of another are other transactions.
    """
    ((xmin,),) = await session.fetch(_WINDOW)
    left = range(xmin, anchor.xmax)
    return len(left) <= len(anchor.open_xids) and all(xid in anchor.open_xids for xid in left)


async def open_snapshot(session: Session, anchor: Anchor) -> SnapshotReading:
    """Roll back what the session holds and open a new repeatable-read snapshot, in one round trip."""
    window = [sorted(anchor.open_xids), anchor.xmax]
    # A server logs a ROLLBACK without a transaction as a warning.
    ended: list[Batch] = [[(ROLLBACK, None)]] if session.in_transaction else []
    before, after = await session.fetch_batch([*ended, [(BEFORE, window)], [(BEGIN, None), (AFTER, window)]])
    if session.server_version_num < _TRANSACTION_TIMEOUT_VERSION:
        await session.arm_limits()
    return reading_of(before, after)


def reading_of(before: Row, after: Row) -> SnapshotReading:
    """Return what the rows of BEFORE and AFTER tell."""
    xmin, xmax, in_progress, aborted, in_recovery, started_at, pid, lsn = after
    return SnapshotReading(
        backend=Backend(in_recovery=in_recovery, started_at=started_at, pid=pid),
        lsn=Lsn(lsn or 0),
        xmin=xmin,
        xmax=xmax,
        known_before=before[0],
        unfinished_before=frozenset(before[1]),
        in_progress=frozenset(in_progress),
        aborted=frozenset(aborted),
    )
