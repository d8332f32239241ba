"""What is known of one PostgreSQL server that takes part in a run."""

from dataclasses import dataclass
from enum import Enum

from replcheck.model.wal import Lsn


class NodeRole(Enum):
    """What a node was observed to be; never what the configuration expects."""

    PRIMARY = "primary"
    STANDBY = "standby"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTarget:
    """A node as the user named it.

    `dsn` is a libpq connection string and may hold secrets: it is never shown, logged or stored, and left out of
    `repr`. `expected_role` is None where the role is only observed.
    """

    name: str
    dsn: str
    expected_role: NodeRole | None = None
    zone: str | None = None

    def __repr__(self) -> str:
        return f"NodeTarget(name={self.name!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """A node as it was observed when the run began; holds nothing secret."""

    name: str
    role: NodeRole
    server_version: str
    server_version_num: int
    system_identifier: str
    timeline: int | None
    """None where the role may not see it."""
    lsn: Lsn | None
    """Insert position of a primary, replay position of a standby."""
    lag_bytes: int | None
    """Bytes of WAL between the primary's insert position and this node's replay; None for the primary."""
    address: str
    """Host or socket directory with the port; never a role or a password."""
    upstream: str | None
    """Name of the audited node it streams from, None where unknown or not streaming."""
