"""What a seal does on the primary: make a restore point, hand one snapshot to several sessions, and tell the server.

A snapshot is exported and imported on a primary alone: on a standby an exported snapshot can lose its list of running
transactions, and who imports it then damages hint bits. Making a restore point writes one WAL record, and the
transaction behind it takes one transaction id; nothing else is written.
"""

from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from replcheck.errors import NodeUnfit, StatementFailed
from replcheck.model.names import quoted
from replcheck.model.seal import SealedServer
from replcheck.model.wal import Lsn
from replcheck.postgres import advice
from replcheck.postgres.nodes import NodeFacts, text
from replcheck.postgres.session import Batch, Session, Statement
from replcheck.postgres.snapshots import AFTER, BEFORE, BEGIN, ROLLBACK, Anchor, SnapshotReading, reading_of

# Purpose: make a restore point; its position is the end of its record, where a recovery stands that stops there.
# PostgreSQL 9.1+; needs EXECUTE on the function, which only superusers have unless it is granted.
_RESTORE_POINT: Statement = """
    SELECT (made.lsn - '0/0'::pg_lsn)::bigint, pg_catalog.clock_timestamp(),
           ('x' || substr(pg_catalog.pg_walfile_name(made.lsn), 1, 8))::bit(32)::int
    FROM (SELECT pg_catalog.pg_create_restore_point(%s::text) AS lsn) AS made
"""

# Purpose: the statement that takes a repeatable-read snapshot, and one that waits. PostgreSQL 13+, no privilege.
_TAKE_SNAPSHOT: Statement = "SELECT pg_catalog.textsend(pg_catalog.pg_current_snapshot()::text)"
_PAUSE: Statement = "SELECT 1 FROM pg_catalog.pg_sleep(%s)"

_MAY_MAKE_POINT: Statement = """
    SELECT pg_catalog.has_function_privilege('pg_catalog.pg_create_restore_point(text)', 'EXECUTE')
"""

# Purpose: take a transaction id and give it back committed, so that the next snapshot's xmax lies above every id that
# was taken before: xmax follows the newest *completed* transaction. PostgreSQL 13+, no privilege.
_TAKE_XID: Statement = "SELECT pg_catalog.pg_current_xact_id()::text::bigint"

# Purpose: name this transaction's snapshot for other sessions, on a primary only. PostgreSQL 9.2+, no privilege.
_EXPORT: Statement = """
    SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE pg_catalog.textsend(pg_catalog.pg_export_snapshot())
           END
"""
_IMPORT = "SET TRANSACTION SNAPSHOT {}"

# Purpose: what a server's hashes depend on: what it was built for, and the hash of a known row, which shows the order
# of bytes and the hash function itself; and how large its WAL files are. PostgreSQL 14+, no privilege.
_SERVER: Statement = """
    SELECT pg_catalog.textsend(pg_catalog.version()), pg_catalog.hash_record_extended(
               ROW(pg_catalog.record_send(ROW('replcheck'::pg_catalog.text, 1::pg_catalog.int4))), 1)::text::bytea,
           pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))
"""

# Purpose: which of some sessions hold a relation lock that somebody waits for. PostgreSQL 14+, no privilege; takes the
# lock table's own locks for a moment.
_IN_THE_WAY: Statement = """
    SELECT DISTINCT held.pid
    FROM pg_catalog.pg_locks AS held
    JOIN pg_catalog.pg_locks AS wanted ON wanted.locktype = 'relation' AND NOT wanted.granted
        AND wanted.relation = held.relation AND wanted.database = held.database
    WHERE held.pid = ANY (%s::int[]) AND held.locktype = 'relation' AND held.granted
"""

# Purpose: how busy databases are, by the transactions that ended in them. PostgreSQL 14+, no privilege.
_ACTIVITY: Statement = (
    "SELECT datid::bigint, xact_commit + xact_rollback FROM pg_catalog.pg_stat_database WHERE datid > 0"
)

# Purpose: where a copy stands after its recovery. PostgreSQL 14+, no privilege.
_REPLAYED: Statement = """
    SELECT pg_catalog.pg_is_in_recovery(), (pg_catalog.pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint
"""

# Purpose: what became of transactions. It raises on an id in the future, hence the bound; NULL is too old to be known.
# PostgreSQL 14+, no privilege.
_FATES: Statement = """
    WITH present AS MATERIALIZED (
        SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint AS xmax
    )
    SELECT o.xid, CASE WHEN o.xid >= present.xmax THEN 'i'::"char"::text
                       ELSE left(pg_catalog.pg_xact_status(o.xid::text::xid8), 1) END::pg_catalog.bytea
    FROM unnest(%s::bigint[]) AS o (xid), present
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadePoint:
    """A restore point."""

    lsn: Lsn
    created_at: datetime
    timeline: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaterLook:
    """What a look behind a restore point shows (64-bit xids)."""

    own_xid: int
    """Of the transaction that only took an id: it changed no row."""
    xmax: int
    """Above every id that was taken before the look."""
    in_progress: frozenset[int]
    aborted: frozenset[int]


async def open_snapshot_at_point(
    session: Session, anchor: Anchor, name: str, *, pause_s: float
) -> tuple[SnapshotReading, MadePoint]:
    """Open a snapshot and make a restore point right behind it: both in one round trip, nothing in between.

    The server pauses for `pause_s` seconds first, so that snapshots which are asked for at the same time elsewhere
    precede the point. Raises NodeUnfit where the server keeps too little WAL.
    """
    window = [sorted(anchor.open_xids), anchor.xmax]
    ended: list[Batch] = [[(ROLLBACK, None)]] if session.in_transaction else []
    pause: list[Batch] = [[(_PAUSE, [pause_s])]] if pause_s else []
    at_once: Batch = [(BEGIN, None), (_TAKE_SNAPSHOT, None), (_RESTORE_POINT, [name]), (AFTER, window)]
    try:
        *_, before, _, made, after = await session.fetch_batch([*ended, *pause, [(BEFORE, window)], at_once])
    except StatementFailed as error:
        raise _refused(error, session.node) from error
    lsn, created_at, timeline = made
    return reading_of(before, after), MadePoint(lsn=Lsn(lsn), created_at=created_at, timeline=timeline)


async def look_behind(session: Session, anchor: Anchor) -> LaterLook:
    """Tell which transactions may have committed until now, those included whose commit nobody can see yet."""
    (own_xid,), after = await session.fetch_batch(
        [[(_TAKE_XID, None)], [(AFTER, [sorted(anchor.open_xids), anchor.xmax])]]
    )
    _, xmax, in_progress, aborted, *_ = after
    return LaterLook(own_xid=own_xid, xmax=xmax, in_progress=frozenset(in_progress), aborted=frozenset(aborted))


def _refused(error: StatementFailed, node: str) -> NodeUnfit | StatementFailed:
    if error.sqlstate == "55000":
        return NodeUnfit(
            f'node "{node}" cannot create a restore point: it is in recovery, or wal_level is minimal',
            node=node,
            hint="Seal the primary of a cluster whose wal_level is replica or logical.",
        )
    return error


async def export_snapshot(session: Session) -> str:
    """Return a name under which other sessions of the same database can import this transaction's snapshot.

    Raises NodeUnfit on a server in recovery, where nothing is exported.
    """
    ((name,),) = await session.fetch(_EXPORT)
    if name is None:
        raise NodeUnfit(f'node "{session.node}" has become a standby', node=session.node)
    return text(name)


async def import_snapshot(session: Session, name: str) -> None:
    """Begin a transaction under an exported snapshot."""
    await session.rollback()
    await session.fetch(BEGIN)
    await session.fetch(sql.SQL(_IMPORT).format(sql.Literal(name)))


async def read_server(session: Session, facts: NodeFacts) -> SealedServer:
    """Return for which servers digests of this one hold."""
    ((version, probe, segment_bytes),) = await session.read(_SERVER)
    words = text(version).split()
    machine = words[words.index("on") + 1].rstrip(",") if "on" in words[:-1] else ""
    return SealedServer(
        system_identifier=int(facts.identity.system_identifier),
        version_num=facts.version_num,
        major=facts.version_num // 10000,
        version=facts.version,
        machine=machine,
        hash_probe=text(probe),
        block_size=facts.block_size,
        data_checksums=facts.settings.get("data_checksums") == "on",
        segment_bytes=segment_bytes,
    )


async def may_make_point(session: Session) -> bool:
    """Return whether the role may make a restore point in the session's database."""
    ((allowed,),) = await session.fetch(_MAY_MAKE_POINT)
    return bool(allowed)


def not_allowed(node: str, database: str, role: str) -> NodeUnfit:
    """Say what to grant: functions are granted in each database by itself."""
    grant = advice.grant_execute("pg_catalog.pg_create_restore_point(text)", role)
    return NodeUnfit(
        f'the role may not create a restore point on node "{node}" in any database that is sealed',
        node=node,
        hint=f"In database {quoted(database)}, run as a superuser: {grant.rstrip(';')}.",
    )


async def in_the_way(session: Session, pids: list[int]) -> frozenset[int]:
    """Return those sessions (by backend pid) that hold a relation's lock which somebody else waits for."""
    return frozenset(pid for (pid,) in await session.fetch(_IN_THE_WAY, [pids])) if pids else frozenset()


async def read_activity(session: Session) -> dict[int, int]:
    """Return how many transactions ended in each database, by oid."""
    return dict(await session.fetch(_ACTIVITY))


async def read_replayed(session: Session) -> tuple[bool, Lsn | None]:
    """Tell whether a server is in recovery, and the end of what it replayed; None where it never recovered."""
    ((in_recovery, lsn),) = await session.fetch(_REPLAYED)
    return in_recovery, None if lsn is None else Lsn(lsn)


async def possibly_committed(session: Session, xids: list[int]) -> frozenset[int]:
    """Return those transactions (64-bit) that are committed on a server, or too old for it to know."""
    if not xids:
        return frozenset()
    rows = await session.read(_FATES, [xids])
    return frozenset(xid for xid, fate in rows if fate is None or bytes(fate) == b"c")
