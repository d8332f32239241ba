"""What a run says while it works: one stream of frozen events, read by progress bars, JSON lines, screens and stores.

An event is data, rendering is the last step. No event holds a row's value, a key or a connection string.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from replcheck.model.audit import Divergence, Finding, NotChecked, RelationReport
from replcheck.model.drill import CopyFacts, LayerReport, Problem, Stage
from replcheck.model.node import NodeReport
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.progress import Premises, ProvenBlocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at `at` (aware, UTC)."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run began; `kind` is the use case (audit, drill ...)."""

    run_id: str
    kind: str
    cluster: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeObserved(Event):
    """A node answered and is fit to take part."""

    node: NodeReport


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRaised(Event):
    """A fact beside the rows was found."""

    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRelation:
    """A relation that an audit is going to compare."""

    oid: int
    relation: str
    """Schema-qualified and quoted as SQL wants it."""
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabasePlanned(Event):
    """The relations of one database are known; the totals are those of this database alone."""

    database: str
    relations: int
    size_bytes: int
    oid: int | None = None
    """Of the database; None for a seal."""
    listed: tuple[ListedRelation, ...] = ()
    """Each relation, as large as the primary stores it; empty for a seal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned(Event):
    """A lane holds aligned snapshots of all nodes."""

    lane: int
    database: str
    replicas: tuple[str, ...]
    attempts: int
    elapsed_s: float
    unsettled: int
    """The largest number of unsettled transactions over the replicas; 0 is exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationStarted(Event):
    """The first chunk of a relation is being read."""

    database: str
    relation: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkCompared(Event):
    """One chunk was read on every node of a lane."""

    lane: int
    database: str
    relation: str
    first_block: int
    last_block: int | None
    """None where the chunk has no upper bound."""
    rows: int
    size_bytes: int
    elapsed_s: float
    verdict: Verdict
    """CONSISTENT: it matched everywhere; INCONCLUSIVE: it is to be read again; DIVERGED or UNCHECKED: settled so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsDiffer(Event):
    """Rows of a chunk differ under one alignment; no divergence yet: a second look follows."""

    database: str
    relation: str
    node: str
    differing: int
    in_flight: int
    look: int
    """1 for the first look, 2 for the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited(Event):
    """The run held still for `elapsed_s` seconds, and why."""

    node: str | None
    reason: str
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvingBegan(Event):
    """All nodes answered; every proof of the run rests on these premises."""

    premises: Premises


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksProven(Event):
    """Blocks of a relation are proven for good: their alignment was settled."""

    proof: ProvenBlocks


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStill(Event):
    """The run reads nothing and holds no snapshot, because somebody asked for it or a limit was exceeded."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWentAway(Event):
    """A node stopped answering, or ceased to be what it was."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCameBack(Event):
    """A node answers again."""

    node: str
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped(Event):
    """Something will not be checked."""

    what: NotChecked


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationFinished(Event):
    """A relation has its verdict."""

    relation: RelationReport


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergenceFound(Event):
    """Rows of a relation that has its verdict differ for good; told after its RelationFinished."""

    divergence: Divergence


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexesListed(Event):
    """The rows of a database were compared, and its indexes are checked next, on every node."""

    database: str
    indexes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexChecked(Event):
    """One index was checked against its table on one node."""

    database: str
    relation: str
    index: str
    node: str
    verdict: Verdict
    looks: int
    """How often it was looked at: what is reported once is looked at again."""
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupChosen(Event):
    """A drill begins with one backup of a source."""

    backup: str
    """Name of the source in the configuration."""
    copy: CopyFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBegan(Event):
    """A stage of a drill began."""

    stage: Stage
    total_bytes: int | None
    """None where it is not known, or nothing is moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgressed(Event):
    """So much of a stage is done."""

    stage: Stage
    done_bytes: int
    total_bytes: int | None
    what: str
    """What it is at, for instance a segment or a relation; may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEnded(Event):
    """A stage of a drill ended; `ok` is False where it did not come to its end."""

    stage: Stage
    elapsed_s: float
    size_bytes: int | None
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFinished(Event):
    """One layer of a drill's proof has its state."""

    layer: LayerReport


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemFound(Event):
    """A drill found something wrong beside the layers."""

    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationSealed(Event):
    """One relation of a seal has its digests."""

    database: str
    relation: str
    rows: int
    size_bytes: int
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """A run ended, whatever its outcome."""

    run_id: str
    outcome: Outcome
    summary: str
    """The verdict in one sentence."""


Emit = Callable[[Event], None]
"""A sink of events; it must not block and must not raise."""
