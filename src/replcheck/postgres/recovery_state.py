"""Ask a server of ours what its recovery really did, and what databases came back with it."""

from dataclasses import dataclass
from datetime import datetime

from replcheck.model.wal import Lsn
from replcheck.postgres.local import Statement
from replcheck.postgres.server import LocalServer

# Purpose: whether recovery goes on, is paused or is over, and how far it came. PostgreSQL 14+, superuser.
_STATE: Statement = """
    SELECT pg_catalog.pg_is_in_recovery(),
           CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_get_wal_replay_pause_state() = 'paused'
                ELSE false END,
           pg_catalog.pg_last_wal_replay_lsn()::text,
           pg_catalog.pg_last_xact_replay_timestamp()
"""

# Purpose: the timeline a server writes, once it is out of recovery. PostgreSQL 14+, superuser.
_TIMELINE: Statement = "SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn())"

# Purpose: the databases that can be connected to. PostgreSQL 14+, no privilege.
_DATABASES: Statement = "SELECT datname::text FROM pg_catalog.pg_database WHERE datallowconn ORDER BY datname"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryState:
    """Where a recovery stands."""

    in_recovery: bool
    paused: bool
    replayed: Lsn | None
    """None where nothing had to be replayed."""
    last_commit_at: datetime | None


def recovery_state(server: LocalServer, dbname: str) -> RecoveryState:
    """Ask a server that accepts connections."""
    ((in_recovery, paused, replayed, last_commit_at),) = server.execute(_STATE, dbname=dbname)
    return RecoveryState(
        in_recovery=in_recovery,
        paused=paused,
        replayed=Lsn.parse(replayed) if replayed else None,
        last_commit_at=last_commit_at,
    )


def written_timeline(server: LocalServer, dbname: str) -> int:
    """Return the timeline that a server out of recovery writes."""
    ((name,),) = server.execute(_TIMELINE, dbname=dbname)
    return int(name[:8], 16)


def connectable_databases(server: LocalServer, dbname: str) -> tuple[str, ...]:
    """Return the names of the databases that can be connected to, by name."""
    return tuple(name for (name,) in server.execute(_DATABASES, dbname=dbname))
