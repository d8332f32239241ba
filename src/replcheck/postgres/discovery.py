"""Who streams from a server, and what a server says of itself: what a configuration can be written from.

Only observed facts: no connection string of a server is ever asked for.
"""

from dataclasses import dataclass
from pathlib import Path

from replcheck.errors import StatementFailed
from replcheck.postgres.nodes import text
from replcheck.postgres.session import Session, Statement

# Purpose: the connections that WAL is sent to, with their slots. PostgreSQL 14+; without pg_monitor (or
# pg_read_all_stats) a connection shows as a row of NULLs; slots are shown to everyone.
_RECEIVERS: Statement = """
    SELECT pg_catalog.textsend(r.application_name), pg_catalog.textsend(host(r.client_addr)),
           pg_catalog.textsend(r.client_hostname), pg_catalog.textsend(r.state), pg_catalog.textsend(r.sync_state),
           pg_catalog.textsend(s.slot_name::text), s.slot_type = 'logical'
    FROM pg_catalog.pg_stat_replication AS r
    LEFT JOIN pg_catalog.pg_replication_slots AS s ON s.active_pid = r.pid
    ORDER BY r.application_name, r.client_addr, r.client_port
"""

# Purpose: slots for standbys that nobody uses at the moment. PostgreSQL 14+, no privilege.
_IDLE_SLOTS: Statement = """
    SELECT pg_catalog.textsend(slot_name::text) FROM pg_catalog.pg_replication_slots
    WHERE slot_type = 'physical' AND NOT active AND NOT temporary ORDER BY slot_name
"""

# Purpose: by what names a server goes. PostgreSQL 14+, no privilege.
_NAMES: Statement = """
    SELECT pg_catalog.textsend(pg_catalog.current_setting('cluster_name')),
           pg_catalog.textsend(pg_catalog.current_database()::text)
"""

# Purpose: the slot that a standby streams through. NULL without pg_read_all_stats. PostgreSQL 14+.
_OWN_SLOT: Statement = "SELECT pg_catalog.textsend(slot_name) FROM pg_catalog.pg_stat_get_wal_receiver()"

_NO_STANDBYS = frozenset({"pg_basebackup", "pg_receivewal", "pg_recvlogical"})
_BACKUP = "backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A connection that WAL is sent to, as its sender shows it."""

    application_name: str
    address: str | None
    """None where it comes over a Unix socket, from the sender's own machine."""
    hostname: str | None
    """Only known where the sender looks names up (log_hostname)."""
    state: str
    """`streaming`, `catchup`, `startup` or `stopping`."""
    sync_state: str
    slot: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receivers:
    """Everything that receives WAL from one server."""

    standbys: tuple[Receiver, ...]
    logical: tuple[str, ...]
    """Application names of logical subscribers."""
    hidden: int
    """Connections of which the role may see nothing but that they are there."""
    idle_slots: tuple[str, ...]
    """Slots of standbys that are not connected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfImage:
    """What a server says of itself."""

    cluster_name: str
    """Empty where it is not set."""
    database: str
    slot: str | None
    """The slot it streams through; None where it uses none, is no standby, or may not be seen."""


async def read_receivers(session: Session) -> Receivers:
    """List what receives WAL from a server; runs of pg_basebackup and the like are left out."""
    standbys, logical, hidden = [], [], 0
    for name, address, hostname, state, sync_state, slot, is_logical in await session.fetch(_RECEIVERS):
        if state is None:
            hidden += 1
        elif is_logical:
            logical.append(text(name or b""))
        elif text(state) != _BACKUP and text(name or b"") not in _NO_STANDBYS:
            standbys.append(
                Receiver(
                    application_name=text(name or b""),
                    address=_optional(address),
                    hostname=_optional(hostname),
                    state=text(state),
                    sync_state=text(sync_state or b""),
                    slot=_optional(slot),
                )
            )
    idle = tuple(text(name) for (name,) in await session.fetch(_IDLE_SLOTS))
    return Receivers(standbys=tuple(standbys), logical=tuple(logical), hidden=hidden, idle_slots=idle)


async def read_self_image(session: Session) -> SelfImage:
    """Read by what names a server goes."""
    ((cluster_name, database),) = await session.fetch(_NAMES)
    try:
        slots = await session.fetch(_OWN_SLOT)
    except StatementFailed:
        slots = []
    slot = next((text(name) for (name,) in slots if name), None)
    return SelfImage(cluster_name=text(cluster_name), database=text(database), slot=slot)


def _optional(raw: bytes | None) -> str | None:
    return text(raw) if raw else None


def sockets_beside(directory: str, port: str) -> list[str]:
    """Return the ports of the other servers whose sockets lie in a directory and belong to the same account.

    A socket of somebody else's is never tried: it could be a trap for passwords.
    """
    try:
        owner = Path(directory, f".s.PGSQL.{port}").stat().st_uid
        sockets = [path for path in Path(directory).glob(".s.PGSQL.*") if path.suffix[1:].isdecimal()]
        others = [path for path in sockets if path.suffix[1:] != port and path.stat().st_uid == owner]
    except OSError:
        return []
    return sorted((path.suffix[1:] for path in others), key=int)
