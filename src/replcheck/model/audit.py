"""What an audit found, as plain data: the result that reports render and the store keeps.

A result holds digests, counts, positions and names, never the value or key of a row.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from replcheck.model.filters import FilterUsed
from replcheck.model.node import NodeReport
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.wal import Lsn


class RelationKind(Enum):
    """What holds the rows."""

    TABLE = "table"
    MATERIALIZED_VIEW = "materialized view"
    SEQUENCE = "sequence"
    CATALOG = "catalog"
    LARGE_OBJECTS = "large objects"


class StopCode(Enum):
    """Why an audit ended before its work was done."""

    INTERRUPTED = "interrupted"
    TIME_BUDGET = "time_budget"
    FAIL_FAST = "fail_fast"

    @property
    def outcome(self) -> Outcome:
        """Return what it does to the run's outcome."""
        return Outcome.UNCHECKED if self is StopCode.INTERRUPTED else Outcome.PARTIAL


class DifferenceKind(Enum):
    """How a replica's rows differ, judged from the replica."""

    MISSING = "missing"
    EXTRA = "extra"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    INDEX = "index"
    """An index that does not match its table, while the same index does on another node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CtidRange:
    """Tuple positions `(first_block,first_offset)` to `(last_block,last_offset)`, both included."""

    first_block: int
    first_offset: int
    last_block: int
    last_offset: int

    def __str__(self) -> str:
        first = f"({self.first_block},{self.first_offset})"
        last = f"({self.last_block},{self.last_offset})"
        return first if first == last else f"{first}..{last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """One kind of difference of one relation on one node, seen under two independent alignments."""

    database: str
    relation: str
    """Schema-qualified and quoted as SQL wants it."""
    node: str
    """The node that stands alone; with a single replica, the replica."""
    kind: DifferenceKind
    ranges: tuple[CtidRange, ...]
    """Where, at most `MAX_RANGES` of them; empty where positions mean nothing (sequences, unreadable files)."""
    count: int
    """Rows that differ; for unreadable ones, the chunks that cannot be read; 1 for an index."""
    capped: bool
    """True where more rows differ than were counted."""
    sqlstate: str | None
    """For unreadable rows and for indexes, what the server raised."""
    block: int | None
    """Of the relation, or of the index."""
    query: str
    """SQL with which an engineer looks at the rows under their own role; empty where none helps."""
    what: str = ""
    """How the relation itself or an index of it differs, where it is not its rows; empty otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fact beside the rows: parity, a node's health, something the reader should know."""

    code: str
    node: str | None
    what: str
    outcome: Outcome
    """What it does to the run's outcome; PROVEN is information only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotChecked:
    """Something the audit did not look at, always with a reason."""

    database: str | None
    relation: str | None
    """None where a whole database or node is meant."""
    node: str | None
    """The node that could not be read; None where the reason lies in the relation or the run."""
    code: str
    reason: str
    by_design: bool
    """True for what is not replicated or was excluded: listed, without effect on the outcome."""
    hint: str = ""
    """What to do about it, for instance the SQL that grants a privilege."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentReport:
    """One alignment of a lane: snapshots of the primary and the replica that see the same transactions."""

    lane: int
    database: str
    taken_at: datetime
    lsn: Lsn
    """The primary's insert position, read right after its snapshot."""
    attempts: int
    elapsed_s: float
    unsettled: int
    """Transactions that one side sees and the other may not; 0 is exact."""
    chunks: int
    """Chunks proven under it."""

    @property
    def exact(self) -> bool:
        """Return whether both snapshots see exactly the same transactions."""
        return self.unsettled == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationReplica:
    """One relation on one replica."""

    node: str
    verdict: Verdict
    rows_differing: int = 0
    rows_in_flight: int = 0
    capped: bool = False
    """True where more rows differ than were counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationReport:
    """One relation of one database, with its verdict per replica."""

    database: str
    schema: str
    name: str
    kind: RelationKind
    verdict: Verdict
    rows: int | None
    """Rows on the primary, None where it could not be read whole."""
    chunks: int
    size_bytes: int
    replicas: tuple[RelationReplica, ...]
    proven_since: datetime | None = None
    """Age of the oldest proof that an earlier run left and this one built upon; None where all was read anew."""
    filter_digest: str | None = None
    """Of the filter whose rows alone were compared; None where all rows were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexNode:
    """One index on one node."""

    node: str
    verdict: Verdict
    """CONSISTENT: it is whole and knows every row of its table; DIVERGED: it does not."""
    reason: str = ""
    """Why it is not consistent, in one clause; empty where it is."""
    sqlstate: str | None = None
    """What the server raised, where the index is broken."""
    block: int | None = None
    """Block of the index, where the server named one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """One index of one database, checked against its table on every node, the primary too."""

    database: str
    relation: str
    """The table, schema-qualified and quoted; of a TOAST index the table whose values lie there."""
    name: str
    """The index, written alike."""
    verdict: Verdict
    size_bytes: int
    """As vacuum last saw it on the primary."""
    nodes: tuple[IndexNode, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaReport:
    """One replica over the whole run."""

    node: NodeReport
    verdict: Verdict
    reason: str
    """Why it is not consistent, in one clause; empty where it is."""
    alignments: tuple[AlignmentReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the user asked to be audited."""

    databases: tuple[str, ...]
    """Patterns given with --database; empty means all."""
    tables: tuple[str, ...]
    excludes: tuple[str, ...]
    catalogs: bool
    indexes: bool = False
    """Whether indexes were to be checked against their tables; they are no part of a copy's rows."""
    filters: tuple[FilterUsed, ...] = ()
    """Filters given with --where: for which relations, and which filter, never its text."""

    @property
    def whole(self) -> bool:
        """Return whether nothing was left out by the user."""
        return not (self.databases or self.tables or self.excludes or self.filters) and self.catalogs


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossCheckReport:
    """What was streamed to the client and compared there, beside the servers' digests."""

    share: float
    """Of the chunks, 0 to 1, as it was asked for."""
    chunks: int
    """Chunks that were streamed from all nodes and compared."""
    rows: int
    """Rows of the primary in them."""
    mismatches: int
    """Ranges of blocks, of every replica, whose content differs although the digests agree; seen twice."""
    too_wide: int
    """Chunks that were drawn and could not be streamed, because of a row that exceeds what COPY can send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """What an audit took over from a run that had not come to its end."""

    run_id: str
    started_at: datetime
    relations: int
    """Relations of which something was taken over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """Everything one audit found."""

    run_id: str
    started_at: datetime
    finished_at: datetime
    tool_version: str
    encoding: str
    """Name and version of the row encoding, for instance `exact/1`; digests of different ones are never compared."""
    level: str
    cluster: str
    scope: Scope
    verdict: Verdict
    primary: NodeReport
    replicas: tuple[ReplicaReport, ...]
    odd_node: str | None
    """The node that stands alone against at least two independent others that agree; None where nobody does."""
    relations: tuple[RelationReport, ...]
    divergences: tuple[Divergence, ...]
    findings: tuple[Finding, ...]
    not_checked: tuple[NotChecked, ...]
    stopped: str
    """Why the run ended before its work was done; empty where it did not."""
    rows: int
    """Rows of the primary that were compared."""
    size_bytes: int
    """Bytes of the relations that were compared, as the primary stores them."""
    indexes: tuple[IndexReport, ...] = ()
    """Indexes that were to be checked against their tables; empty where that was not asked for."""
    stop_code: StopCode | None = None
    """The reason in `stopped` as a code; None where the run did its work."""

    resumed: Resumption | None = None
    """None where nothing of an earlier run was taken over."""
    cross_check: CrossCheckReport | None = None
    """None where none was asked for."""
    held_s: float = 0.0
    """Seconds that the audit held still, by hand or at a limit."""

    @property
    def stop_outcome(self) -> Outcome:
        """Return what ending early does to the run's outcome; PROVEN where it did not."""
        if not self.stopped:
            return Outcome.PROVEN
        return (self.stop_code or StopCode.INTERRUPTED).outcome
