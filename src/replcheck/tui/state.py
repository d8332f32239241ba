"""What the screen shows, as one frozen value, and the fold that makes it out of updates: without Textual or a clock.

A batch of updates is folded at once, so that many events cost little more than one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from replcheck.model.copies import CopyStanding
from replcheck.model.live import ClusterEvent, ClusterView, NodeState, NodeView
from replcheck.model.spans import NodeSpan, WatchSpan
from replcheck.tui.feed import (
    AuditEnded,
    AuditsTold,
    Claim,
    ClaimsTaken,
    Closed,
    DrillEnded,
    EventsTaken,
    Introduced,
    Link,
    LinkChanged,
    Noted,
    OwedAudit,
    RollingAudit,
    RunsRead,
    RunTold,
    SpansRead,
    StandingsTaken,
    Update,
    ViewTaken,
)

if TYPE_CHECKING:
    from replcheck.report.history import PastRun
    from replcheck.tui.audit_state import AuditModel
    from replcheck.tui.drill_state import DrillModel

EVENTS_KEPT = 1000
NOTES_KEPT = 20
LAG_POINTS_KEPT = 600
AUDIT, DRILL = "audit", "drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class LagPoint:
    """How far a node was behind at a moment."""

    at: datetime
    lag_bytes: int | None
    """None where it was unknown, as while it did not answer, and for a primary."""
    state: NodeState

    @property
    def silent(self) -> bool:
        """Return whether its lag was unknown though it ought to have one."""
        return self.lag_bytes is None and self.state is not NodeState.PRIMARY


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Everything the screens show."""

    at: datetime | None = None
    """Of the newest update."""
    introduced: Introduced | None = None
    """None where the options say it all."""
    closed: bool = False
    link: Link = Link.CONNECTING
    link_what: str = ""
    link_since: datetime | None = None
    view: ClusterView | None = None
    interval_s: float = 1.0
    """How often whoever samples asks each node."""
    lags: Mapping[str, tuple[LagPoint, ...]] = field(default_factory=dict)
    """By node, oldest first."""
    standings: Mapping[str, CopyStanding] | None = None
    """None while nobody told."""
    claims: tuple[Claim, ...] | None = None
    """None while nobody told; empty where the policy asks for nothing."""
    claims_problem: str = ""
    """Why the claims cannot be evaluated any more, in one clause; empty while they can."""
    watched_from: datetime | None = None
    """How far back `watched` looks."""
    watched: tuple[WatchSpan, ...] = ()
    rolling: RollingAudit | None = None
    """None where there is no rolling audit."""
    owed: OwedAudit | None = None
    """What whoever samples audits because of what happened; None while there is none."""
    events: tuple[ClusterEvent, ...] = ()
    """Newest first."""
    audit: "AuditModel | None" = None
    drill: "DrillModel | None" = None
    runs: "tuple[PastRun, ...] | None" = None
    """Newest first; None while nobody told."""
    runs_problem: str = ""
    notes: tuple[Noted, ...] = ()
    """Oldest first; those that were told are forgotten after a while."""
    noted: int = 0
    """How many notes there ever were."""

    @property
    def proven_copies(self) -> int | None:
        """Return how many nodes of the cluster are proven copies; None while nobody told."""
        if self.standings is None:
            return None
        return sum(standing.proven for standing in self.standings.values())

    def stale(self, now: datetime) -> bool:
        """Return whether what is shown of the cluster is no longer the present: nothing of it may look proven then."""
        if self.view is None or self.link in {Link.REPLAY, Link.ENDED}:
            return False
        fresh = (now - self.view.at).total_seconds() <= stale_after_s(self.interval_s)
        return self.link in {Link.LOST, Link.CONNECTING} or not fresh

    @property
    def running(self) -> tuple[str, ...]:
        """Return what runs, for a sentence."""
        audit = self.audit is not None and self.audit.running
        drill = self.drill is not None and self.drill.running
        return (*(["the audit"] if audit else []), *(["the drill"] if drill else []))

    def node(self, name: str) -> NodeView | None:
        """Return a node by its name; None where there is none of that name."""
        return next((node for node in self.view.nodes if node.node == name), None) if self.view else None


def stale_after_s(interval_s: float) -> float:
    """Return after how long without a sample what is shown is no longer the present: one may fail, and be late.

    >>> stale_after_s(1.0), stale_after_s(20.0)
    (5.0, 43.0)
    """
    return 2 * interval_s + 3.0


def fold(model: Model, updates: Iterable[Update]) -> Model:
    """Return the model after these updates, taken in their order."""
    told: list[RunTold] = []
    for update in updates:
        model = model if model.at is not None and model.at >= update.at else replace(model, at=update.at)
        if isinstance(update, RunTold):
            told.append(update)
        else:
            model, told = _runs_told(model, told), []
            model = _taken(model, update)
    return _runs_told(model, told)


def _taken(model: Model, update: Update) -> Model:
    match update:
        case ViewTaken():
            return _with_view(replace(model, interval_s=update.interval_s), update.view)
        case LinkChanged():
            return replace(model, link=update.link, link_what=update.what, link_since=update.at)
        case EventsTaken():
            return replace(model, events=_events(model.events, update.events))
        case StandingsTaken():
            return replace(model, standings=update.standings)
        case ClaimsTaken():
            return replace(model, claims=update.claims, claims_problem=update.problem)
        case AuditsTold():
            return replace(model, rolling=update.rolling, owed=update.owed)
        case SpansRead():
            return _with_spans(model, update)
        case RunsRead():
            return replace(model, runs=update.runs, runs_problem=update.problem)
        case Noted():
            return _noted(model, update)
        case Introduced():
            return replace(model, introduced=update)
        case Closed():
            return replace(model, closed=True)
    return _ended(model, update)


def _ended(model: Model, update: Update) -> Model:
    from replcheck.tui import audit_fold, drill_state

    match update:
        case AuditEnded(result=result) if result is not None and model.audit is not None:
            model = replace(model, audit=audit_fold.with_result(model.audit, result))
        case DrillEnded(result=result) if result is not None and model.drill is not None:
            model = replace(model, drill=drill_state.with_result(model.drill, result))
    if isinstance(update, AuditEnded | DrillEnded) and update.problem:
        return _noted(model, Noted(at=update.at, text=update.problem))
    return model


def _noted(model: Model, note: Noted) -> Model:
    return replace(model, notes=(*model.notes, note)[-NOTES_KEPT:], noted=model.noted + 1)


def _with_view(model: Model, view: ClusterView) -> Model:
    lags = dict(model.lags)
    for node in view.nodes:
        point = LagPoint(at=view.at, lag_bytes=_lag(node), state=node.state)
        kept = lags.get(node.node, ())
        if not kept or kept[-1].at < view.at:
            lags[node.node] = (*kept[-LAG_POINTS_KEPT + 1 :], point)
    return replace(model, view=view, lags=lags)


def _lag(node: NodeView) -> int | None:
    return node.lag_bytes if node.state.is_running_copy or node.state is NodeState.DETACHED else None


def _with_spans(model: Model, update: SpansRead) -> Model:
    """Return the model with the past in front of what was seen since."""
    lags = dict(model.lags)
    for node in {span.node for span in update.nodes}:
        seen = lags.get(node, ())
        first = seen[0].at if seen else None
        past = [point for point in _points(update.nodes, node) if first is None or point.at < first]
        lags[node] = (*past, *seen)[-LAG_POINTS_KEPT:]
    return replace(model, watched=update.watch, watched_from=update.since, lags=lags)


def _points(spans: Sequence[NodeSpan], node: str) -> list[LagPoint]:
    own = sorted((span for span in spans if span.node == node), key=lambda span: span.began_at)
    return [point for span in own for point in _points_of(span)]


def _points_of(span: NodeSpan) -> list[LagPoint]:
    """Return a point for each second of a span: what was thinned was sampled all along."""
    seconds = min(int((span.ended_at - span.began_at).total_seconds()), LAG_POINTS_KEPT)
    moments = [span.ended_at - timedelta(seconds=ago) for ago in range(seconds, -1, -1)]
    return [LagPoint(at=at, lag_bytes=span.max_lag_bytes, state=span.state) for at in moments]


def _events(known: tuple[ClusterEvent, ...], told: tuple[ClusterEvent, ...]) -> tuple[ClusterEvent, ...]:
    have = {_told_as(event) for event in known}
    new = [event for event in told if _told_as(event) not in have]
    if not new:
        return known
    return tuple(sorted((*known, *new), key=_when, reverse=True)[:EVENTS_KEPT])


def _told_as(event: ClusterEvent) -> tuple[object, ...]:
    """Return what tells an event from others; a history keeps times to the millisecond, and tells the same again."""
    at = event.at.replace(microsecond=event.at.microsecond // 1000 * 1000)
    return (at, event.kind, event.node, event.detail)


def _when(event: ClusterEvent) -> datetime:
    return event.at


def _runs_told(model: Model, told: Sequence[RunTold]) -> Model:
    """Return the model after what runs told, each event handed to the run that it belongs to."""
    if not told:
        return model
    # Loaded when a run begins: none of it is needed for the first picture.
    from replcheck.tui.audit_fold import fold_audit
    from replcheck.tui.drill_state import fold_drill

    audit = [update.event for update in told if update.kind == AUDIT]
    drill = [update.event for update in told if update.kind == DRILL]
    if audit:
        model = replace(model, audit=fold_audit(model.audit, audit))
    return replace(model, drill=fold_drill(model.drill, drill)) if drill else model
