"""What a doctor found, as plain data: per node what is so, what is missing and what mends it, and what an audit costs.

Holds names, settings and counts, never a password, a connection string or the content of a row.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from replcheck.model.audit import Scope
from replcheck.model.node import NodeReport
from replcheck.model.outcome import ExitStatus


class CheckState(Enum):
    """What a check says of an audit."""

    OK = "ok"
    """As it should be; with a remedy, something more that could be had."""
    WARNING = "warning"
    """An audit can be proven, and yet somebody should know."""
    MISSING = "missing"
    """Required: without it, an audit as asked ends unproven."""
    UNKNOWN = "unknown"
    """The role may not see it: neither good nor bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    code: str
    """For scripts; never renamed."""
    node: str | None
    """None where the nodes together are meant."""
    database: str | None
    state: CheckState
    what: str
    """What is so, as a clause that names no node; the same words on every node where the same is so."""
    remedy: str = ""
    """What mends it, as sentences; empty where nothing needs to be done."""
    sql: tuple[str, ...] = ()
    """Statements that mend it, never run by replcheck."""
    sql_node: str | None = None
    """Where the statements belong: grants on the primary, settings on the node itself; None where that is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleReport:
    """What the role may do on a node, as the server says."""

    name: str
    superuser: bool
    reads_all_data: bool
    monitors: bool
    bypasses_row_security: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeExamined:
    """One node with everything that was found of it; nothing but the address and checks where nobody answered."""

    name: str
    address: str
    """Host or socket directory with the port; never a role or a password."""
    observed: NodeReport | None
    platform: str
    """The managed service it seems to be; empty for PostgreSQL of one's own."""
    role: RoleReport | None
    transport: str
    """How this connection travels: `socket`, `loopback`, `plain`, `gss`, or TLS with libpq's sslmode."""
    connections_free: int | None
    """Connections that an audit could take, the doctor's own one included."""
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseCost:
    """What an audit reads of one database, on each node."""

    name: str
    relations: int
    size_bytes: int
    """Rows in scope with their values stored outside of them."""
    not_visible_bytes: int
    """Of these, pages that vacuum has not marked all-visible: the first reader may have to write hint bits."""
    left_out: int
    """Relations left out by design: unlogged, temporary, foreign, never populated, excluded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditCost:
    """What an audit as asked will take, estimated; read on `node`."""

    node: str
    databases: tuple[DatabaseCost, ...]
    lanes: int
    pace: str
    assumed_bytes_per_s: int
    """Per lane and node: an assumption, not a measurement of these servers."""
    duration_s: float
    """Estimated time of reading and, at a gentle pace, of resting; without waiting for replay."""
    logs_hint_bits: bool | None
    """Whether hint bits become WAL (checksums or wal_log_hints); None where the role can't see it."""

    @property
    def size_bytes(self) -> int:
        """Return the bytes read on each node."""
        return sum(database.size_bytes for database in self.databases)

    @property
    def not_visible_bytes(self) -> int:
        """Return how much of it is not all-visible."""
        return sum(database.not_visible_bytes for database in self.databases)

    @property
    def relations(self) -> int:
        """Return how many relations are read."""
        return sum(database.relations for database in self.databases)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorResult:
    """Everything one examination found."""

    cluster: str
    started_at: datetime
    finished_at: datetime
    tool_version: str
    scope: Scope
    jobs: int
    nodes: tuple[NodeExamined, ...]
    together: tuple[Check, ...]
    """Checks of the nodes together."""
    cost: AuditCost | None
    """None where no node could be read."""
    command: str
    """The audit to type; holds no secret."""

    @property
    def checks(self) -> tuple[Check, ...]:
        """Return every check, node by node, then those of the nodes together."""
        return tuple(check for node in self.nodes for check in node.checks) + self.together

    @property
    def connections_needed(self) -> int:
        """Return the connections that an audit takes on each node."""
        return 1 + self.jobs

    @property
    def exit_status(self) -> ExitStatus:
        """Return 3 where something required is missing, else 0."""
        missing = any(check.state is CheckState.MISSING for check in self.checks)
        return ExitStatus.UNCHECKED if missing else ExitStatus.PROVEN
