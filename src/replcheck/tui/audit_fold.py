"""Folds the events of an audit into how it looks: a batch at a time, since one costs little more than an event."""

from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import datetime

from replcheck.events import (
    Aligned,
    BlocksProven,
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
from replcheck.model.audit import AuditResult, Divergence, RelationReport
from replcheck.model.names import qualified
from replcheck.model.node import NodeRole
from replcheck.model.outcome import Verdict
from replcheck.model.progress import ProvenBlocks
from replcheck.tui.audit_state import BLOCK, AuditModel, Key, LaneView, Phase, Rank, RatePoint, RelationProgress
from replcheck.tui.relation_fold import with_chunk, with_difference, with_divergence, with_proof, with_report

_POINTS_KEPT = 600


class _Draft:
    """The fields of an AuditModel while a batch of events is folded: nobody else holds them."""

    def __init__(self, model: AuditModel) -> None:
        self.fields = {held.name: getattr(model, held.name) for held in fields(model)}
        self.relations: dict[Key, RelationProgress] = dict(model.relations)
        self.lanes: dict[int, LaneView] = dict(model.lanes)
        self.away: dict[str, str] = dict(model.away)
        self.looks: dict[Key, int] = dict(model.looks)
        self.oids: dict[tuple[int, int], Key] = dict(model.oids)

    def frozen(self) -> AuditModel:
        held = {"relations": self.relations, "lanes": self.lanes, "away": self.away, "looks": self.looks}
        held |= {"oids": self.oids}
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
        case BlocksProven():
            _take_proof(draft, event.proof)
        case DivergenceFound():
            _take_divergence(draft, event.divergence)
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
            _take_listed(draft, event)
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
    draft.relations[key] = with_chunk(known, event, second_look=second_look)


def _take_point(held: dict[str, object], at: datetime) -> None:
    points = held["points"]
    assert isinstance(points, tuple)  # noqa: S101 - for the type checker: fields of the model
    if points and (at - points[-1].at).total_seconds() < 1:
        return
    point = RatePoint(at=at, rows=held["rows"], size_bytes=held["compared_bytes"])  # type: ignore[arg-type]
    held["points"] = (*points[-_POINTS_KEPT:], point)


def _take_difference(draft: _Draft, event: RowsDiffer) -> None:
    key = (event.database, event.relation)
    if event.differing:
        draft.looks[key] = max(event.look, draft.looks.get(key, 0))
    known = draft.relations.get(key) or _new_relation(draft, key, 0)
    draft.relations[key] = with_difference(known, event)


def _take_proof(draft: _Draft, proof: ProvenBlocks) -> None:
    key = draft.oids.get((proof.state.database, proof.state.relation))
    if key is None:
        if proof.state.database not in draft.fields["planned"]:
            draft.fields["unplaced"] = (*draft.fields["unplaced"], proof)
        return
    replicas = [node.name for node in draft.fields["nodes"] if node.role is not NodeRole.PRIMARY]
    draft.relations[key] = with_proof(draft.relations[key], proof.ranges, proof.replicas, replicas)


def _take_listed(draft: _Draft, event: DatabasePlanned) -> None:
    for one in event.listed:
        key = (event.database, one.relation)
        draft.relations[key] = _new_relation(draft, key, one.size_bytes, Rank.WAITING)
        if event.oid is not None:
            draft.oids[event.oid, one.oid] = key
    if event.oid is not None:
        draft.fields["planned"] |= {event.oid}
    unplaced, draft.fields["unplaced"] = draft.fields["unplaced"], ()
    for proof in unplaced:
        _take_proof(draft, proof)


def _take_report(draft: _Draft, report: RelationReport) -> None:
    key = (report.database, qualified(report.schema, report.name))
    known = draft.relations.get(key) or _new_relation(draft, key, report.size_bytes)
    draft.relations[key] = with_report(known, report)


def _take_divergence(draft: _Draft, found: Divergence) -> None:
    draft.fields["divergences"] = (*draft.fields["divergences"], found)
    known = draft.relations.get((found.database, found.relation))
    if known is not None:
        draft.relations[known.key] = with_divergence(known, found)
