"""Who waits for a lock that another backend holds."""

from replcheck.postgres.session import Session, Statement

# Purpose: whether somebody waits for a lock that a backend holds, of any kind or of a relation. PostgreSQL 9.6+, no
# privilege; looks at the lock table for a moment.
_WAITERS: Statement = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l
                   WHERE NOT l.granted AND (l.locktype = 'relation' OR %s::bool)
                     AND %s::int = ANY (pg_catalog.pg_blocking_pids(l.pid)))
"""


async def is_waited_for(session: Session, backend_pid: int) -> bool:
    """Return whether somebody waits for a lock of another backend of the session's server."""
    return await _has_waiters(session, backend_pid, any_kind=True)


async def relation_is_waited_for(session: Session, backend_pid: int) -> bool:
    """Return whether somebody waits for a relation that another backend of the session's server has locked.

    What waits for a transaction's end, as CREATE INDEX CONCURRENTLY does for that of every snapshot, is not helped by
    the end of one statement.
    """
    return await _has_waiters(session, backend_pid, any_kind=False)


async def _has_waiters(session: Session, backend_pid: int, *, any_kind: bool) -> bool:
    ((waited_for,),) = await session.fetch(_WAITERS, [any_kind, backend_pid])
    return bool(waited_for)
