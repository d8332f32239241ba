"""How many copies are proven at each moment, by the one rule of `model.copies`, and the events of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from replcheck.model.copies import AuditProof, CopyStanding, standings
from replcheck.model.live import ClusterEvent, ClusterView, EventKind, Severity
from replcheck.model.spans import NodeSpan
from replcheck.model.units import format_duration
from replcheck.watch.latch import OFF, Edge, Latch, duration_s, often, step
from replcheck.watch.limits import WatchLimits
from replcheck.watch.spans import Spans, condensed, grown

_FORGET_AFTER_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofState:
    """What is proven, and what was told of it."""

    proofs: tuple[AuditProof, ...] = ()
    spans: Mapping[str, Spans] = field(default_factory=dict)
    standings: Mapping[str, CopyStanding] = field(default_factory=dict)
    known: bool = False
    """Whether the proofs were ever given: without them nothing is told of proven copies."""
    short: Latch = OFF

    @property
    def proven(self) -> int:
        """Return how many copies are proven, the primary included."""
        return sum(standing.proven for standing in self.standings.values())


def with_proofs(state: ProofState, proofs: Iterable[AuditProof], earlier: Iterable[NodeSpan]) -> ProofState:
    """Return the state with the proofs of the history, and the spans that it keeps of earlier watches."""
    before: dict[str, list[NodeSpan]] = {}
    for span in sorted(earlier, key=lambda span: span.began_at):
        before.setdefault(span.node, []).append(span)
    spans = dict(state.spans)
    for node, found in before.items():
        own = spans.get(node, ())
        fitting = [span for span in found if not own or span.ended_at <= own[0].began_at]
        spans[node] = condensed((*fitting, *own))
    return replace(state, proofs=tuple(proofs), spans=spans, known=True)


def proof_events(state: ProofState, view: ClusterView, limits: WatchLimits) -> tuple[ProofState, list[ClusterEvent]]:
    """Return what is proven at a view, and what is to be told of it."""
    spans = {
        name: kept
        for name, kept in state.spans.items()
        if kept and (view.at - kept[-1].ended_at).total_seconds() < _FORGET_AFTER_S
    }
    for node in view.nodes:
        spans[node.node] = grown(spans.get(node.node, ()), node, view.at)
    state = replace(state, spans=spans)
    if not state.known:
        return state, []
    every = (span for kept in spans.values() for span in kept)
    found = standings(view.at, state.proofs, every, max_age_s=limits.max_proof_age_s)
    state = replace(state, standings=found)
    if limits.proven is None:
        return state, []
    before = state.short
    latch, edge = step(before, state.proven < limits.proven, view.at)
    state = replace(state, short=latch)
    return state, [_event(edge, before, state, view.at, limits.proven)] if edge is not None else []


def _event(edge: Edge, before: Latch, state: ProofState, at: datetime, asked: int) -> ClusterEvent:
    if edge is Edge.BEGAN:
        reasons = "; ".join(
            f"{node}: {standing.reason}" for node, standing in state.standings.items() if standing.reason
        )
        return ClusterEvent(
            kind=EventKind.PROVEN_SHORT,
            severity=Severity.WARNING,
            at=at,
            node=None,
            what=f"{state.proven} of the {asked} proven copies that are asked for{often(state.short)}",
            detail=reasons,
        )
    seconds = duration_s(before, at)
    return ClusterEvent(
        kind=EventKind.PROVEN_BACK,
        severity=Severity.INFO,
        at=at,
        node=None,
        what=f"{state.proven} copies are proven again; there were fewer than {asked} for {format_duration(seconds)}",
        began_at=before.since,
        seconds=seconds,
    )
