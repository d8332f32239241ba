"""Samples thinned out: what a node was from one time to another, with the worst that was seen of it.

A span never joins two different states, so thinning loses no change, only the exact time of the worst lag.
"""

from dataclasses import dataclass
from datetime import datetime

from replcheck.model.live import NodeState, NodeView

GAP_S = 60.0
"""Samples further apart than this leave a gap: nothing is known of the time between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpan:
    """One node over a time in which its state, history and host stayed the same."""

    node: str
    began_at: datetime
    """Of its first sample."""
    ended_at: datetime
    """Of its last sample."""
    samples: int
    longest_gap_s: float
    """Longest time between two samples in it, and between its first and the one before it in the same watch."""
    state: NodeState
    system_identifier: str | None
    timeline: int | None
    host: str
    max_lag_bytes: int | None
    max_lag_s: float | None
    replay_paused: bool
    checksum_failures: int | None
    data_checksums: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSpan:
    """The whole cluster over a time in which something watched."""

    began_at: datetime
    ended_at: datetime
    samples: int
    longest_gap_s: float
    primary: str | None
    """The same in all of it."""
    min_running_copies: int
    max_recovery_age_s: float | None
    """The worst age of the recovery point; None where it was unknown in all of it."""
    recovery_unknown: bool
    """Whether it was unknown in some of its samples."""


def span_of_moment(node: NodeView, at: datetime, *, gap_s: float = 0.0) -> NodeSpan:
    """Return the span of the one sample that a view shows of a node; `gap_s` is how long before it the last one was."""
    return NodeSpan(
        node=node.node,
        began_at=at,
        ended_at=at,
        samples=1,
        longest_gap_s=gap_s,
        state=node.state,
        system_identifier=node.system_identifier,
        timeline=node.timeline,
        host=node.host,
        max_lag_bytes=node.lag_bytes,
        max_lag_s=node.lag_s,
        replay_paused=node.replay_paused,
        checksum_failures=node.checksum_failures,
        data_checksums=node.data_checksums,
    )
