"""How a running audit looks: a pure fold over its events.

A chunk that matched is shown as proven, one that is to be read again as in flight, and one whose rows differed on a
second look as diverged: the relation's own verdict, which comes last, has the last word on all of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import Enum, IntEnum

from replcheck.events import (
    Aligned,
    ChunkCompared,
    DatabasePlanned,
    DivergenceFound,
    Event,
    FindingRaised,
    HeldStill,
    IndexChecked,
    IndexesListed,
    NodeCameBack,
    NodeObserved,
    NodeWentAway,
    RelationFinished,
    RelationStarted,
    RowsDiffer,
    RunFinished,
    RunStarted,
    Skipped,
    Waited,
)
from replcheck.model.audit import AuditResult, Divergence, Finding, RelationReport
from replcheck.model.names import qualified
from replcheck.model.node import NodeReport, NodeRole
from replcheck.model.outcome import Outcome, Verdict
from replcheck.tui.ranges import Ranges, added, overlap, removed

BLOCK = 8192
"""Bytes of a block, of which nearly every server is built; only the map of chunks rests on it."""
_RATE_S = 10.0
_POINTS_KEPT = 600
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
    proven: Ranges = ()
    in_flight: Ranges = ()
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
    def share(self) -> float:
        """Return the part that is proven, 0 to 1; 1 once it has its verdict."""
        if self.report is not None:
            return 1.0
        return min(overlap(self.proven, 0, self.blocks) / self.blocks, 0.99)


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
        """Return the part that is done, 0 to 1; never 1 before the run ends, since chunks may be read again."""
        if not self.running:
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


class _Draft:
    """The fields of an AuditModel while a batch of events is folded: nobody else holds them."""

    def __init__(self, model: AuditModel) -> None:
        self.fields = {held.name: getattr(model, held.name) for held in fields(model)}
        self.relations: dict[Key, RelationProgress] = dict(model.relations)
        self.lanes: dict[int, LaneView] = dict(model.lanes)
        self.away: dict[str, str] = dict(model.away)
        self.looks: dict[Key, int] = dict(model.looks)

    def frozen(self) -> AuditModel:
        held = {"relations": self.relations, "lanes": self.lanes, "away": self.away, "looks": self.looks}
        return AuditModel(**(self.fields | held))


def fold_audit(model: AuditModel | None, events: Iterable[Event]) -> AuditModel | None:
    """Return the audit after these events; None while none has begun."""
    draft = _Draft(model) if model is not None else None
    for event in events:
        if isinstance(event, RunStarted):
            draft = _Draft(begun(event))
        elif draft is not None:
            _take(draft, event)
            draft.fields["at"] = event.at
    return draft.frozen() if draft is not None else None


def begun(event: RunStarted) -> AuditModel:
    """Return an audit that has only just begun."""
    return AuditModel(run_id=event.run_id, cluster=event.cluster, started_at=event.at, at=event.at)


def with_result(model: AuditModel, result: AuditResult) -> AuditModel:
    """Return the audit with what it found in the end, which has the last word."""
    draft = _Draft(model)
    draft.fields |= {"result": result, "divergences": result.divergences}
    for report in result.relations:
        _take_report(draft, report)
    return draft.frozen()


def _take(draft: _Draft, event: Event) -> None:
    match event:
        case ChunkCompared():
            _take_chunk(draft, event)
        case RelationStarted():
            _take_start(draft, event)
        case RelationFinished():
            _take_report(draft, event.relation)
        case RowsDiffer():
            _take_difference(draft, event)
        case HeldStill() | Waited():
            _take_wait(draft, event)
        case RunFinished():
            draft.fields |= {"phase": Phase.ENDED, "outcome": event.outcome, "summary": event.summary, "doing": ""}
            _let_go(draft, event.at)
        case Aligned() | DatabasePlanned() | IndexesListed() | IndexChecked():
            _take_work(draft, event)
        case DivergenceFound():
            draft.fields["divergences"] = (*draft.fields["divergences"], event.divergence)
        case NodeObserved() | NodeWentAway() | NodeCameBack() | FindingRaised() | Skipped():
            _take_fact(draft, event)


def _take_fact(draft: _Draft, event: NodeObserved | NodeWentAway | NodeCameBack | FindingRaised | Skipped) -> None:
    held = draft.fields
    match event:
        case NodeObserved():
            others = tuple(node for node in held["nodes"] if node.name != event.node.name)
            held["nodes"] = (*others, event.node)
        case NodeWentAway():
            draft.away[event.node] = event.reason
        case NodeCameBack():
            draft.away.pop(event.node, None)
        case FindingRaised():
            held["findings"] = (*held["findings"], event.finding)
        case Skipped():
            held["skipped"] += not event.what.by_design


def _take_work(draft: _Draft, event: Aligned | DatabasePlanned | IndexesListed | IndexChecked) -> None:
    held = draft.fields
    match event:
        case DatabasePlanned():
            held["planned_relations"] += event.relations
            held["planned_bytes"] += event.size_bytes
            for one in event.listed:
                key = (event.database, one.relation)
                draft.relations[key] = _new_relation(draft, key, one.size_bytes, Rank.WAITING)
            _read_on(draft)
        case Aligned():
            draft.lanes[event.lane] = LaneView(
                database=event.database, unsettled=event.unsettled, attempts=event.attempts
            )
            _read_on(draft)
        case IndexesListed():
            held["indexes"] += event.indexes
            held["doing"] = f"{event.database}: checking indexes"
        case IndexChecked():
            held["indexes_checked"] += 1
            held["doing"] = f"{event.database}: index {event.index} on {event.node}"


def _read_on(draft: _Draft) -> None:
    if draft.fields["phase"] is Phase.CONNECTING:
        draft.fields["phase"] = Phase.READING


def _take_wait(draft: _Draft, event: HeldStill | Waited) -> None:
    held = draft.fields
    if isinstance(event, HeldStill):
        held["phase"], held["held_because"] = Phase.HELD, event.reason
        held["held_since"] = held["held_since"] or event.at
    elif event.node is None:
        _let_go(draft, event.at)
        held["phase"] = Phase.READING
    else:
        held["doing"] = f"waited for {event.node}: {event.reason}"


def _let_go(draft: _Draft, at: datetime) -> None:
    held = draft.fields
    if held["held_since"] is not None:
        held["held_s"] += (at - held["held_since"]).total_seconds()
    held["held_since"], held["held_because"] = None, ""


def _take_start(draft: _Draft, event: RelationStarted) -> None:
    key = (event.database, event.relation)
    _read_on(draft)
    draft.fields["doing"] = f"{event.database}.{event.relation}"
    known = draft.relations.get(key)
    if known is None:
        draft.relations[key] = _new_relation(draft, key, event.size_bytes)
    elif known.rank is Rank.WAITING:
        draft.relations[key] = replace(known, rank=Rank.READING)


def _new_relation(draft: _Draft, key: Key, size_bytes: int, rank: Rank = Rank.READING) -> RelationProgress:
    return RelationProgress(
        database=key[0],
        relation=key[1],
        size_bytes=size_bytes,
        number=len(draft.relations),
        rank=rank,
        blocks=max(1, -(-size_bytes // BLOCK)),
    )


def _take_chunk(draft: _Draft, event: ChunkCompared) -> None:
    held, key = draft.fields, (event.database, event.relation)
    known = draft.relations.get(key) or _new_relation(draft, key, event.size_bytes)
    held["chunks"] += 1
    lane = draft.lanes.get(event.lane)
    draft.lanes[event.lane] = LaneView(
        database=event.database,
        relation=event.relation,
        unsettled=lane.unsettled if lane else 0,
        attempts=lane.attempts if lane else 0,
    )
    settled = event.verdict is not Verdict.INCONCLUSIVE
    if settled:
        held["rows"] += event.rows
        held["compared_bytes"] += event.size_bytes
        _take_point(held, event.at)
    else:
        held["chunks_again"] += 1
    second_look = draft.looks.pop(key, 0) >= 2 or event.verdict is Verdict.DIVERGED
    draft.relations[key] = _with_chunk(known, event, settled=settled, second_look=second_look)


def _with_chunk(known: RelationProgress, event: ChunkCompared, *, settled: bool, second_look: bool) -> RelationProgress:
    first = event.first_block
    # The last chunk of a relation has no upper bound: it holds what is written behind the blocks that were planned.
    end = event.last_block + 1 if event.last_block is not None else max(known.blocks, first + 1)
    proven, again, diverged = known.proven, known.in_flight, known.diverged
    if second_look:
        diverged = added(diverged, first, end)
    elif settled:
        proven, again = added(proven, first, end), removed(again, first, end)
    else:
        again, proven = added(again, first, end), removed(proven, first, end)
    rank = Rank.DIVERGED if diverged else Rank.READING
    return RelationProgress(
        database=known.database,
        relation=known.relation,
        size_bytes=known.size_bytes,
        number=known.number,
        proven=proven,
        in_flight=again,
        diverged=diverged,
        blocks=max(known.blocks, end),
        rows=known.rows + (event.rows if settled else 0),
        chunks=known.chunks + 1,
        compared_bytes=known.compared_bytes + (event.size_bytes if settled else 0),
        differences=known.differences,
        report=known.report,
        rank=RANK_OF[known.report.verdict] if known.report else rank,
    )


def _take_point(held: dict[str, object], at: datetime) -> None:
    points = held["points"]
    assert isinstance(points, tuple)  # noqa: S101 - for the type checker: fields of the model
    if points and (at - points[-1].at).total_seconds() < 1:
        return
    point = RatePoint(at=at, rows=held["rows"], size_bytes=held["compared_bytes"])  # type: ignore[arg-type]
    held["points"] = (*points[-_POINTS_KEPT:], point)


def _take_difference(draft: _Draft, event: RowsDiffer) -> None:
    key = (event.database, event.relation)
    known = draft.relations.get(key)
    if known is None:
        known = _new_relation(draft, key, 0)
    if event.differing:
        draft.looks[key] = max(event.look, draft.looks.get(key, 0))
    found = Difference(rows=event.differing, in_flight=event.in_flight, look=event.look)
    draft.relations[key] = replace(known, differences={**known.differences, event.node: found})


def _take_report(draft: _Draft, report: RelationReport) -> None:
    key = (report.database, qualified(report.schema, report.name))
    known = draft.relations.get(key) or _new_relation(draft, key, report.size_bytes)
    rows = report.rows if report.rows is not None else known.rows
    known = replace(known, report=report, rank=RANK_OF[report.verdict], rows=rows)
    if report.verdict is Verdict.CONSISTENT:
        known = replace(known, proven=((0, known.blocks),), in_flight=(), diverged=())
    elif report.verdict is Verdict.DIVERGED:
        known = replace(known, diverged=known.diverged or known.in_flight, in_flight=())
    draft.relations[key] = known


class Order(Enum):
    """How relations are arranged."""

    TROUBLE = "trouble first"
    NAME = "by name"
    SIZE = "by size"


def arranged(audit: AuditModel, order: Order, needle: str = "") -> list[RelationProgress]:
    """Return the relations whose name holds `needle`, in an order; equal ones as they were begun."""
    relations = list(audit.relations.values())
    if needle:
        relations = [one for one in relations if needle.lower() in f"{one.database}.{one.relation}".lower()]
    match order:
        case Order.TROUBLE:
            return sorted(relations, key=_trouble)
        case Order.NAME:
            return sorted(relations, key=_name)
        case Order.SIZE:
            return sorted(relations, key=_size, reverse=True)


def _trouble(relation: RelationProgress) -> int:
    # What is in flight now is worth a look before what is merely being read.
    return relation.rank * 2 + (relation.rank is Rank.READING and not relation.in_flight)


def _name(relation: RelationProgress) -> Key:
    return relation.key


def _size(relation: RelationProgress) -> int:
    return relation.size_bytes
