"""Who waits for a lock that another backend holds."""

from replcheck.postgres.session import Session, Statement

# Purpose: whether somebody waits for a lock that a backend holds. PostgreSQL 9.6+, no privilege; looks at the lock
# table for a moment.
_WAITERS: Statement = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l
                   WHERE NOT l.granted AND %s::int = ANY (pg_catalog.pg_blocking_pids(l.pid)))
"""

# Purpose: the same for locks of relations alone: what waits for a transaction's end, as CREATE INDEX CONCURRENTLY does
# for that of every snapshot, is not helped by the end of one statement. PostgreSQL 9.6+, no privilege.
_RELATION_WAITERS: Statement = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l
                   WHERE NOT l.granted AND l.locktype = 'relation'
                     AND %s::int = ANY (pg_catalog.pg_blocking_pids(l.pid)))
"""


async def is_waited_for(session: Session, backend_pid: int) -> bool:
    """Return whether somebody waits for a lock of another backend of the session's server."""
    ((waited_for,),) = await session.fetch(_WAITERS, [backend_pid])
    return bool(waited_for)


async def relation_is_waited_for(session: Session, backend_pid: int) -> bool:
    """Return whether somebody waits for a relation that another backend of the session's server has locked."""
    ((waited_for,),) = await session.fetch(_RELATION_WAITERS, [backend_pid])
    return bool(waited_for)
