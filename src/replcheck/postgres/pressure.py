"""What a server bears at this moment: its clients, its oldest snapshot, its checkpoints."""

from replcheck.postgres.session import Session, Statement

# Purpose: clients at work now, the audit's own left out. PostgreSQL 10+; without pg_read_all_stats other roles' states
# are NULL.
_ACTIVE_CLIENTS: Statement = """
    SELECT count(*) FROM pg_catalog.pg_stat_activity
    WHERE backend_type = 'client backend' AND state = 'active' AND application_name NOT LIKE 'replcheck %'
"""

# Purpose: how many transactions the oldest snapshot holds back from vacuum. PostgreSQL 14+, needs pg_read_all_stats.
_XMIN_AGE: Statement = """
    SELECT coalesce(max(age), 0)::bigint FROM (
        SELECT pg_catalog.age(backend_xmin) AS age FROM pg_catalog.pg_stat_activity WHERE backend_xmin IS NOT NULL
        UNION ALL SELECT pg_catalog.age(xmin) FROM pg_catalog.pg_replication_slots WHERE xmin IS NOT NULL
        UNION ALL SELECT pg_catalog.age(transaction) FROM pg_catalog.pg_prepared_xacts
    ) AS holders
"""

# Purpose: checkpoints forced by WAL volume or by hand, since the statistics began. No privilege; the view that counts
# them was split off in PostgreSQL 17.
_CHECKPOINTS_BEFORE_17: Statement = "SELECT checkpoints_req FROM pg_catalog.pg_stat_bgwriter"
_CHECKPOINTS_FROM_17: Statement = "SELECT num_requested FROM pg_catalog.pg_stat_checkpointer"


async def active_clients(session: Session) -> int:
    """Count the client backends that are active, other than replcheck's."""
    ((count,),) = await session.fetch(_ACTIVE_CLIENTS)
    return int(count)


async def xmin_age(session: Session) -> int:
    """Return how many transactions the oldest snapshot of the server holds back from vacuum."""
    ((age,),) = await session.fetch(_XMIN_AGE)
    return int(age)


async def checkpoints_requested(session: Session) -> int:
    """Count the checkpoints that were not due by time."""
    statement = _CHECKPOINTS_FROM_17 if session.server_version_num >= 170000 else _CHECKPOINTS_BEFORE_17
    ((count,),) = await session.fetch(statement)
    return int(count)
