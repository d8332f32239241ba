"""Spans of nodes, grown view by view: what is proven rests on them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from replcheck.model.live import NodeState, NodeView
from replcheck.model.spans import GAP_S, NodeSpan, span_of_moment

_MOST = 12
Number = TypeVar("Number", int, float)

Spans = tuple[NodeSpan, ...]
"""Of one node, in the order of time."""


def grown(spans: Spans, node: NodeView, at: datetime) -> Spans:
    """Return the spans of a node with what a view at `at` shows, without those that nothing can rest on any more.

    A proof reaches no further back than the last time at which the node was no streaming standby.
    """
    if spans and at <= spans[-1].ended_at:
        return spans
    if not spans or not _goes_on(spans[-1], node, at):
        gap_s = (at - spans[-1].ended_at).total_seconds() if spans else 0.0
        return condensed((*spans, span_of_moment(node, at, gap_s=gap_s)))
    last = spans[-1]
    longer = replace(
        last,
        ended_at=at,
        samples=last.samples + 1,
        longest_gap_s=max(last.longest_gap_s, (at - last.ended_at).total_seconds()),
        max_lag_bytes=_larger(last.max_lag_bytes, node.lag_bytes),
        max_lag_s=_larger(last.max_lag_s, node.lag_s),
        replay_paused=last.replay_paused or node.replay_paused,
        checksum_failures=node.checksum_failures,
        data_checksums=node.data_checksums,
    )
    return (*spans[:-1], longer)


def condensed(spans: Iterable[NodeSpan]) -> Spans:
    """Return the spans from the last interruption on, a bounded number of them: fewer can only prove less."""
    kept = tuple(spans)[-_MOST:]
    interrupted = [number for number, span in enumerate(kept) if span.state is not NodeState.STREAMING]
    return kept[interrupted[-1] :] if interrupted else kept


def _goes_on(span: NodeSpan, node: NodeView, at: datetime) -> bool:
    if (at - span.ended_at).total_seconds() > GAP_S:
        return False
    return (span.state, span.system_identifier, span.timeline, span.host) == (
        node.state,
        node.system_identifier,
        node.timeline,
        node.host,
    )


def _larger(one: Number | None, other: Number | None) -> Number | None:
    return max((value for value in (one, other) if value is not None), default=None)
