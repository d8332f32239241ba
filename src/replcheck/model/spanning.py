"""Folds views of a cluster into spans, and joins spans as they grow old: pure, and without loss of a change.

Whatever tells one state from another splits: a span says of its whole time what each of its samples said. What is
joined keeps the worst of both, and nothing is joined over a time in which nothing was seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from replcheck.model.live import ClusterView, NodeState, NodeView
from replcheck.model.spans import GAP_S, NodeSpan, WatchSpan, span_of_moment

SPAN_S = 10.0
"""How long a span is at most when it is first written."""

_FIRST_ANSWERS_S = 5.0
AnySpan = TypeVar("AnySpan", NodeSpan, WatchSpan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Spans of nodes and of the whole cluster, in the order of their time."""

    nodes: tuple[NodeSpan, ...] = ()
    watch: tuple[WatchSpan, ...] = ()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.nodes) + len(self.watch)

    def __add__(self, more: "Spans") -> "Spans":
        """Return these and then `more`."""
        return Spans(nodes=self.nodes + more.nodes, watch=self.watch + more.watch)

    def thinned(self, resolution_s: float) -> "Spans":
        """Return fewer and longer spans that say the same, as `thinned` does, node by node."""
        by_node: dict[str, list[NodeSpan]] = {}
        for span in self.nodes:
            by_node.setdefault(span.node, []).append(span)
        nodes = [joined for own in by_node.values() for joined in thinned(own, resolution_s)]
        return Spans(
            nodes=tuple(sorted(nodes, key=lambda span: span.began_at)), watch=tuple(thinned(self.watch, resolution_s))
        )


@dataclass(slots=True)
class SpanBuilder:
    """Takes one view after another, of one watch, and gives out each span as soon as it has ended."""

    span_s: float = SPAN_S
    _nodes: dict[str, NodeSpan] = field(default_factory=dict)
    _watch: WatchSpan | None = None

    def take(self, view: ClusterView) -> Spans:
        """Take the next view; return the spans that it ends."""
        if _has_just_begun(view):
            return Spans()
        ended: list[NodeSpan] = []
        for node in view.nodes:
            seen = _sample_of(node, view.at, self._nodes.get(node.node))
            if seen is not None:
                self._nodes[node.node], over = self._grown(self._nodes.get(node.node), seen)
                ended += over
        for name in self._nodes.keys() - {node.node for node in view.nodes}:
            ended.append(self._nodes.pop(name))
        watch: list[WatchSpan] = []
        if self._watch is None or view.at > self._watch.ended_at:
            self._watch, watch = self._grown(self._watch, _watch_sample(view, self._watch))
        return Spans(nodes=tuple(ended), watch=tuple(watch))

    @property
    def open(self) -> Spans:
        """Return the spans that have not ended yet, as far as they go."""
        return Spans(nodes=tuple(self._nodes.values()), watch=(self._watch,) if self._watch else ())

    def rest(self) -> Spans:
        """End every span and return them: what follows begins new ones."""
        spans = self.open
        self._nodes, self._watch = {}, None
        return spans

    def _grown(self, open_span: AnySpan | None, seen: AnySpan) -> tuple[AnySpan, list[AnySpan]]:
        if open_span is None:
            return seen, []
        long_enough = (seen.ended_at - open_span.began_at).total_seconds() >= self.span_s
        if long_enough or not joinable(open_span, seen):
            return seen, [open_span]
        return joined(open_span, seen), []


def joinable(earlier: AnySpan, later: AnySpan) -> bool:
    """Return whether two spans say the same of all that tells one state from another, with nothing unseen between."""
    return _state(earlier) == _state(later) and _distance_s(earlier, later) <= GAP_S


def joined(earlier: AnySpan, later: AnySpan) -> AnySpan:
    """Return one span in place of two that are `joinable`, with the worst of both."""
    changes: dict[str, Any] = {
        "ended_at": later.ended_at,
        "samples": earlier.samples + later.samples,
        "longest_gap_s": max(earlier.longest_gap_s, later.longest_gap_s, _distance_s(earlier, later)),
    }
    for worst in ("max_lag_bytes", "max_lag_s", "max_recovery_age_s"):
        if hasattr(earlier, worst):
            changes[worst] = _worst(getattr(earlier, worst), getattr(later, worst))
    return replace(earlier, **changes)


def thinned(spans: Sequence[AnySpan], resolution_s: float) -> list[AnySpan]:
    """Return spans of one node, or of the watch, joined where they began in the same `resolution_s` of the clock."""
    found: list[AnySpan] = []
    for span in spans:
        if found and joinable(found[-1], span) and _slot(found[-1], resolution_s) == _slot(span, resolution_s):
            found[-1] = joined(found[-1], span)
        else:
            found.append(span)
    return found


def latest_spans(view: ClusterView) -> tuple[NodeSpan, ...]:
    """Return a span of the one moment of a view for each of its nodes that was ever seen."""
    samples = [_sample_of(node, view.at, None) for node in view.nodes]
    return tuple(sample for sample in samples if sample is not None)


def _has_just_begun(view: ClusterView) -> bool:
    """Return whether a watch is so young that some node has had no time to answer: it is not short of a copy."""
    unseen = any(node.state is NodeState.UNSEEN for node in view.nodes)
    return unseen and (view.at - view.watched_since).total_seconds() < _FIRST_ANSWERS_S


def _sample_of(node: NodeView, at: datetime, before: NodeSpan | None) -> NodeSpan | None:
    """Return a span of the one sample that a view shows of a node; None where it shows the sample before once more."""
    # A copy that is well is seen when it answers; that nothing answers is seen with every look.
    moment = node.answered_at if node.state.is_running_copy and node.answered_at else at
    if before is not None and moment <= before.ended_at:
        if before.state is node.state:
            return None
        moment = max(at, before.ended_at)
    gap_s = (moment - before.ended_at).total_seconds() if before else 0.0
    return span_of_moment(node, moment, gap_s=gap_s)


def _watch_sample(view: ClusterView, before: WatchSpan | None) -> WatchSpan:
    return WatchSpan(
        began_at=view.at,
        ended_at=view.at,
        samples=1,
        longest_gap_s=(view.at - before.ended_at).total_seconds() if before else 0.0,
        primary=view.primary,
        min_running_copies=view.running_copies,
        max_recovery_age_s=view.recovery_point.age_s,
        recovery_unknown=view.recovery_point.age_s is None,
    )


def _state(span: NodeSpan | WatchSpan) -> tuple[object, ...]:
    if isinstance(span, WatchSpan):
        return (span.primary, span.min_running_copies, span.recovery_unknown)
    history = (span.system_identifier, span.timeline, span.host)
    return (span.node, span.state, *history, span.replay_paused, span.checksum_failures, span.data_checksums)


def _worst(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _distance_s(earlier: NodeSpan | WatchSpan, later: NodeSpan | WatchSpan) -> float:
    return (later.began_at - earlier.ended_at).total_seconds()


def _slot(span: NodeSpan | WatchSpan, resolution_s: float) -> int:
    return int(span.began_at.timestamp() // resolution_s)
