"""How a running audit looks, relation by relation.

A chunk that matched is proven once the alignment under which it was read is settled, and one that is to be read again
is in flight. Blocks whose rows differed on a second look are diverged; the relation's own verdict has the last word.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum

from replcheck.model.audit import AuditResult, Divergence, Finding, RelationReport
from replcheck.model.names import printable
from replcheck.model.node import NodeReport, NodeRole
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.progress import ProvenBlocks
from replcheck.tui.ranges import Ranges, overlap

BLOCK = 8192
"""Bytes of a block, of which nearly every server is built; only the map of chunks rests on it."""
_RATE_S = 10.0
Key = tuple[str, str]
"""A database, and a relation of it, schema-qualified."""


class Phase(Enum):
    """What an audit is doing."""

    CONNECTING = "connecting"
    READING = "reading"
    HELD = "holding still"
    ENDED = "ended"


class Rank(IntEnum):
    """How urgently a relation wants to be looked at."""

    DIVERGED = 0
    UNCHECKED = 1
    INCONCLUSIVE = 2
    READING = 3
    WAITING = 4
    """It is not begun yet."""
    PROVEN = 5


RANK_OF = {
    Verdict.DIVERGED: Rank.DIVERGED,
    Verdict.UNCHECKED: Rank.UNCHECKED,
    Verdict.INCONCLUSIVE: Rank.INCONCLUSIVE,
    Verdict.CONSISTENT: Rank.PROVEN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Rows of a relation that differ on one node, as far as it is known while the audit goes on."""

    rows: int
    in_flight: int
    look: int
    """1 for the first look, 2 for the second, after which it is a divergence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationProgress:
    """One relation of a running audit."""

    database: str
    relation: str
    size_bytes: int
    number: int
    """In the order in which they were listed, or begun where they were not."""
    matched: Ranges = ()
    """What was found equal on all nodes, under an alignment that may yet turn out to be void."""
    proven: Ranges = ()
    """What is proven for all replicas, for good."""
    proven_by: Mapping[str, Ranges] = field(default_factory=dict)
    """What is proven for each."""
    in_flight: Ranges = ()
    """What is to be read again."""
    diverged: Ranges = ()
    blocks: int = 1
    """How many there are, as far as is known."""
    rows: int = 0
    chunks: int = 0
    compared_bytes: int = 0
    differences: Mapping[str, Difference] = field(default_factory=dict)
    """By node; what was told last."""
    report: RelationReport | None = None
    """None until it has its verdict."""
    rank: Rank = Rank.READING

    @property
    def key(self) -> Key:
        """Return what tells it from others."""
        return self.database, self.relation

    @property
    def awaits_settling(self) -> bool:
        """Return whether all of it matched, and only the alignments are to be settled under which it was read."""
        return self.rank is Rank.READING and not self.in_flight and overlap(self.matched, 0, self.blocks) >= self.blocks

    @property
    def share(self) -> float:
        """Return the part that was compared, 0 to 1; 1 once it has its verdict."""
        if self.report is not None:
            return 1.0
        return min(self.compared_bytes / self.size_bytes, 0.99) if self.size_bytes else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePoint:
    """What was compared up to a moment."""

    at: datetime
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneView:
    """What one lane read last."""

    database: str
    relation: str = ""
    unsettled: int = 0
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditModel:
    """One audit, running or ended."""

    run_id: str
    cluster: str
    started_at: datetime
    at: datetime
    """Of the last event."""
    phase: Phase = Phase.CONNECTING
    held_because: str = ""
    held_since: datetime | None = None
    held_s: float = 0.0
    """Seconds it held still before."""
    nodes: tuple[NodeReport, ...] = ()
    planned_relations: int = 0
    planned_bytes: int = 0
    compared_bytes: int = 0
    rows: int = 0
    chunks: int = 0
    chunks_again: int = 0
    relations: Mapping[Key, RelationProgress] = field(default_factory=dict)
    """In the order of their numbers."""
    oids: Mapping[tuple[int, int], Key] = field(default_factory=dict)
    """Relations by the oids of their database and of their own."""
    planned: frozenset[int] = frozenset()
    """Oids of the databases whose relations were listed."""
    unplaced: tuple[ProvenBlocks, ...] = ()
    """Proofs, taken over from an earlier run, of relations whose database was not listed yet."""
    points: tuple[RatePoint, ...] = ()
    """At most one a second."""
    lanes: Mapping[int, LaneView] = field(default_factory=dict)
    looks: Mapping[Key, int] = field(default_factory=dict)
    """Of relations whose rows were just told to differ: the look that it was. Which chunk holds them is told next."""
    away: Mapping[str, str] = field(default_factory=dict)
    """Nodes that do not answer now, with the reason."""
    findings: tuple[Finding, ...] = ()
    divergences: tuple[Divergence, ...] = ()
    skipped: int = 0
    """What will not be checked, other than by design."""
    indexes: int = 0
    indexes_checked: int = 0
    doing: str = "connecting"
    outcome: Outcome | None = None
    summary: str = ""
    result: AuditResult | None = None

    @property
    def replicas(self) -> tuple[str, ...]:
        """Return the names of the replicas, in the order in which they answered."""
        return tuple(node.name for node in self.nodes if node.role is not NodeRole.PRIMARY)

    @property
    def running(self) -> bool:
        """Return whether it still works or holds still."""
        return self.phase is not Phase.ENDED

    @property
    def share(self) -> float:
        """Return the part that is done, 0 to 1.

        Never 1 before the run ends, since chunks may be read again, nor where it was ended early.
        """
        if not self.running and self.outcome is not Outcome.UNCHECKED:
            return 1.0
        return min(self.compared_bytes / self.planned_bytes, 0.99) if self.planned_bytes else 0.0

    def worked_s(self, now: datetime) -> float:
        """Return how many seconds it worked until `now` or its end, without those in which it held still."""
        end = now if self.running else self.at
        held = self.held_s + ((end - self.held_since).total_seconds() if self.held_since else 0.0)
        return max(0.0, (end - self.started_at).total_seconds() - held)

    def seconds_left(self, now: datetime) -> float | None:
        """Return an estimate of the time left; None while there is nothing to estimate from."""
        worked_s, share = self.worked_s(now), self.share
        if not self.running or share < 0.02 or worked_s < 1:
            return None
        return worked_s * (1 - share) / share

    def rows_per_s(self, now: datetime) -> float:
        """Return the rate of the last seconds while it runs, that of the whole run once it has ended."""
        if not self.running:
            worked_s = self.worked_s(now)
            return self.rows / worked_s if worked_s else 0.0
        recent = [point for point in self.points if (now - point.at).total_seconds() <= _RATE_S]
        if not recent:
            return 0.0
        elapsed_s = (now - recent[0].at).total_seconds()
        return (self.rows - recent[0].rows) / max(elapsed_s, 1.0)


class Order(Enum):
    """How relations are arranged."""

    TROUBLE = "trouble first"
    NAME = "by name"
    SIZE = "by size"


def arranged(audit: AuditModel, order: Order, needle: str = "") -> list[RelationProgress]:
    """Return the relations whose name, as it is or as it is shown, holds `needle`; equal ones as they were begun."""
    relations = list(audit.relations.values())
    if needle:
        relations = [one for one in relations if any(needle.lower() in name.lower() for name in _names(one))]
    match order:
        case Order.TROUBLE:
            return sorted(relations, key=_trouble)
        case Order.NAME:
            return sorted(relations, key=_name)
        case Order.SIZE:
            return sorted(relations, key=_size, reverse=True)


def _names(relation: RelationProgress) -> tuple[str, str]:
    """Return the name as it is and as it is shown."""
    name = f"{relation.database}.{relation.relation}"
    return name, printable(name)


def _trouble(relation: RelationProgress) -> int:
    # What is in flight now is worth a look before what is merely being read.
    return relation.rank * 2 + (relation.rank is Rank.READING and not relation.in_flight)


def _name(relation: RelationProgress) -> Key:
    return relation.key


def _size(relation: RelationProgress) -> int:
    return relation.size_bytes
