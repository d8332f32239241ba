"""What an audit would do, as plain data: what it reads and how, what it needs, and how long that may take.

A plan is made of catalogs alone; no row was read for it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from replcheck.model.audit import NotChecked, RelationKind, Scope
from replcheck.model.node import NodeReport


class Reading(Enum):
    """How a relation is read for the first time."""

    WHOLE = "whole"
    """In one statement: it is small."""
    SCAN = "one scan"
    """In one plain scan, which leaves the server's cache to others."""
    RANGES = "ranges"
    """By ranges of blocks, one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRelation:
    """One relation whose rows would be compared."""

    schema: str
    name: str
    kind: RelationKind
    size_bytes: int
    """Bytes on the primary, with the values stored outside of its rows."""
    blocks: int
    """The largest of the nodes' sizes, without such values."""
    chunks: int
    """Expected where nothing differs and nothing is cancelled; a chunk's size adapts to the servers."""
    reading: Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDatabase:
    """One database that would be entered."""

    name: str
    relations: tuple[PlannedRelation, ...]
    """The largest first."""
    sequences: tuple[str, ...]
    """Those that would be bracketed, schema-qualified and quoted as SQL wants it."""

    @property
    def size_bytes(self) -> int:
        """Return the bytes that would be compared."""
        return sum(relation.size_bytes for relation in self.relations)

    @property
    def chunks(self) -> int:
        """Return the chunks expected."""
        return sum(relation.chunks for relation in self.relations)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedNode:
    """What would be asked of one node."""

    node: NodeReport
    connections_needed: int
    connections_free: int
    """For this role when the plan was made, those that the plan itself took included."""
    max_snapshot_age_s: float
    """How long one snapshot would be held open there at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How quickly relations are compared."""

    bytes_per_s: float
    run_id: str | None = None
    """The recorded run that it was measured in, over its whole time; None where it is only assumed, for one lane."""
    measured_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long the audit may take."""

    seconds: float
    """Where the rate is only assumed, the least it takes: what is small costs time too."""
    rate: Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPlan:
    """Everything an audit would do."""

    made_at: datetime
    tool_version: str
    encoding: str
    level: str
    cluster: str
    scope: Scope
    lanes: int
    primary: PlannedNode
    replicas: tuple[PlannedNode, ...]
    databases: tuple[PlannedDatabase, ...]
    not_checked: tuple[NotChecked, ...]
    """What would not be checked, as far as catalogs and privileges tell."""
    estimate: Estimate

    @property
    def nodes(self) -> tuple[PlannedNode, ...]:
        """Return every node, the primary first."""
        return (self.primary, *self.replicas)

    @property
    def size_bytes(self) -> int:
        """Return the bytes that would be compared."""
        return sum(database.size_bytes for database in self.databases)

    @property
    def chunks(self) -> int:
        """Return the chunks expected."""
        return sum(database.chunks for database in self.databases)

    @property
    def relation_count(self) -> int:
        """Return how many relations would be compared, sequences included."""
        return sum(len(database.relations) + len(database.sequences) for database in self.databases)
