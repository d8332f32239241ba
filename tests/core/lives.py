"""Views, events and spans of a watched cluster, without a server."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from replcheck.model.live import (
    ClusterEvent,
    ClusterView,
    EventKind,
    NodeState,
    NodeView,
    RecoveryPoint,
    Severity,
)
from replcheck.model.spans import NodeSpan

BEGAN = datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
WELL: Mapping[str, NodeState] = {
    "db1": NodeState.PRIMARY,
    "db2": NodeState.STREAMING,
    "db3": NodeState.STREAMING,
}


def at(seconds: float) -> datetime:
    """Return the moment so many seconds after the beginning."""
    return BEGAN + timedelta(seconds=seconds)


def node_view(name: str, state: NodeState, seconds: float, **changes: Any) -> NodeView:
    """Return a node as a sample so many seconds after the beginning shows it."""
    view = NodeView(
        node=name,
        state=state,
        since=BEGAN,
        answered_at=at(seconds) if state.is_running_copy else None,
        host=f"host of {name}",
        system_identifier="7",
        timeline=1,
        lag_bytes=None if state is NodeState.PRIMARY else 0,
        lag_s=None if state is NodeState.PRIMARY else 0.0,
    )
    return replace(view, **changes)


def view(seconds: float, states: Mapping[str, NodeState] = WELL, **changes: Any) -> ClusterView:
    """Return the cluster at a moment, in these states; `lag` gives bytes of lag to all standbys."""
    lag = changes.pop("lag", 0)
    primaries = [name for name, state in states.items() if state is NodeState.PRIMARY]
    made = ClusterView(
        cluster="clinic",
        at=at(seconds),
        watched_since=BEGAN,
        system_identifier="7",
        primary=primaries[0] if len(primaries) == 1 else None,
        nodes=tuple(
            node_view(name, state, seconds, **({"lag_bytes": lag} if state is NodeState.STREAMING else {}))
            for name, state in states.items()
        ),
        recovery_point=RecoveryPoint(at=at(seconds - 5), age_s=5.0),
    )
    return replace(made, **changes)


def happened(kind: EventKind, moment: float, node: str | None = None, **changes: Any) -> ClusterEvent:
    """Return an event of that moment."""
    made = ClusterEvent(
        kind=kind,
        severity=Severity.WARNING,
        at=at(moment),
        node=node,
        what=f"{node or 'the cluster'}: {kind.value}",
    )
    return replace(made, **changes)


def span(node: str, began: float, ended: float, state: NodeState = NodeState.STREAMING, **changes: Any) -> NodeSpan:
    """Return a span of a node between two moments, with a sample each second."""
    made = NodeSpan(
        node=node,
        began_at=at(began),
        ended_at=at(ended),
        samples=int(ended - began) + 1,
        longest_gap_s=1.0,
        state=state,
        system_identifier="7",
        timeline=1,
        host=f"host of {node}",
        max_lag_bytes=0,
        max_lag_s=0.0,
        replay_paused=False,
        checksum_failures=None,
        data_checksums=None,
    )
    return replace(made, **changes)
