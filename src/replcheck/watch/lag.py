"""How far a standby is behind, and the events of it: lag over its limit, replay paused.

In seconds lag is the age of what the standby shows. An idle primary makes no lag, however long ago its last commit was.
A standby that is told to replay late is over its limit only by what goes beyond that. One whose replay is paused is
told as such.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from replcheck.model.live import ClusterEvent, ClusterView, EventKind, NodeState, NodeView, Sender, Severity
from replcheck.model.units import format_duration, format_size
from replcheck.watch.latch import OFF, Edge, Latch, duration_s, often, step
from replcheck.watch.limits import WatchLimits
from replcheck.watch.marks import bytes_behind, reached
from replcheck.watch.scene import NodeMemory, Scene

_REPLY_S = 10.0
"""How often a standby tells its sender what it has replayed where nothing comes (`wal_receiver_status_interval`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a standby is behind; None where it is unknown."""

    size_bytes: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LagState:
    """What was told of lag and of replay, by node."""

    over: Mapping[str, Latch] = field(default_factory=dict)
    paused: Mapping[str, Latch] = field(default_factory=dict)


def lag_of(memory: NodeMemory, scene: Scene) -> Lag:
    """Return how far a standby's last answer was behind the primary's."""
    answer = memory.answer
    primary = scene.memories[scene.primary].answer if scene.primary else None
    if answer is None or answer.replayed_lsn is None or primary is None or not scene.primary_answers:
        return Lag(size_bytes=None, seconds=None)
    if memory.timeline is not None and scene.timeline is not None and memory.timeline > scene.timeline:
        return Lag(size_bytes=None, seconds=None)
    size_bytes = bytes_behind(answer.replayed_lsn, primary.insert_lsn) if primary.insert_lsn is not None else None
    has = reached(scene.marks, answer.replayed_lsn)
    if has.complete:
        return Lag(size_bytes=None if size_bytes is None else max(0, size_bytes), seconds=0.0)
    ages = [] if has.at is None else [(scene.at - has.at).total_seconds()]
    if answer.replayed_commit_at is not None:
        # The primary's clock stamps commits, so that it is compared with itself.
        now = primary.server_at + (scene.at - primary.at)
        ages.append((now - answer.replayed_commit_at).total_seconds())
    return Lag(size_bytes=size_bytes, seconds=max(0.0, min(ages)) if ages else None)


def lag_by_sender(sender: Sender, scene: Scene) -> Lag:
    """Return how far a standby is behind the primary as a sender shows it, in seconds at the least.

    What it told last may be a reply's time old.
    """
    primary = scene.memories[scene.primary].answer if scene.primary else None
    if sender.replayed_lsn is None or primary is None or primary.insert_lsn is None or not scene.primary_answers:
        return Lag(size_bytes=None, seconds=None)
    size_bytes = max(0, bytes_behind(sender.replayed_lsn, primary.insert_lsn))
    has = reached(scene.marks, sender.replayed_lsn)
    if has.complete:
        return Lag(size_bytes=size_bytes, seconds=0.0)
    age_s = None if has.at is None else max(0.0, (scene.at - has.at).total_seconds() - _REPLY_S)
    return Lag(size_bytes=size_bytes, seconds=age_s)


def lag_events(
    state: LagState, scene: Scene, view: ClusterView, limits: WatchLimits
) -> tuple[LagState, list[ClusterEvent]]:
    """Return what is to be told of lag and replay after a sample."""
    # Found standbys come and go: what is forgotten of them is bounded by the view.
    names = {node.node for node in view.nodes}
    over = {name: latch for name, latch in state.over.items() if name in names}
    paused = {name: latch for name, latch in state.paused.items() if name in names}
    events: list[ClusterEvent] = []
    for node in view.nodes:
        leads = node.configured and scene.memories[node.node].is_primary
        if not scene.shows(node) or not (leads or node.state in {NodeState.STREAMING, NodeState.DETACHED}):
            continue
        was = over.get(node.node, OFF)
        over[node.node], edge = step(was, bool(excess(node, limits)), scene.at)
        events += _lag_event(node, scene, limits, edge, was if edge is Edge.ENDED else over[node.node])
        was = paused.get(node.node, OFF)
        paused[node.node], edge = step(was, node.replay_paused, scene.at)
        events += _paused_event(node, scene, edge, was)
    return LagState(over=over, paused=paused), events


def excess(node: NodeView, limits: WatchLimits) -> str:
    """Return what of a node's lag is over a limit, empty where nothing is."""
    if limits.lag_s is not None and node.lag_s is not None and node.lag_s - node.apply_delay_s > limits.lag_s:
        return f"what it shows is {format_duration(node.lag_s)} old"
    if limits.lag_bytes is not None and not node.apply_delay_s and (node.lag_bytes or 0) > limits.lag_bytes:
        return f"it has {format_size(node.lag_bytes or 0)} of WAL to replay"
    return ""


def _lag_event(
    node: NodeView, scene: Scene, limits: WatchLimits, edge: Edge | None, latch: Latch
) -> Iterator[ClusterEvent]:
    if edge is Edge.BEGAN:
        why = " (its replay is paused)" if node.replay_paused else ""
        yield ClusterEvent(
            kind=EventKind.LAG_OVER,
            severity=Severity.WARNING,
            at=scene.at,
            node=node.node,
            what=f"{node.node} lags behind: {excess(node, limits)}{why}{often(latch)}",
            size_bytes=node.lag_bytes,
            seconds=node.lag_s,
        )
    elif edge is Edge.ENDED:
        seconds = duration_s(latch, scene.at)
        yield ClusterEvent(
            kind=EventKind.LAG_BACK,
            severity=Severity.INFO,
            at=scene.at,
            node=node.node,
            what=f"{node.node} is back under the limit of lag after {format_duration(seconds)}{often(latch)}",
            began_at=latch.since,
            size_bytes=node.lag_bytes,
            seconds=seconds,
        )


def _paused_event(node: NodeView, scene: Scene, edge: Edge | None, before: Latch) -> Iterator[ClusterEvent]:
    if edge is Edge.BEGAN:
        yield ClusterEvent(
            kind=EventKind.REPLAY_PAUSED,
            severity=Severity.WARNING,
            at=scene.at,
            node=node.node,
            what=f"replay is paused on {node.node}",
        )
    elif edge is Edge.ENDED:
        seconds = duration_s(before, scene.at)
        yield ClusterEvent(
            kind=EventKind.REPLAY_RESUMED,
            severity=Severity.INFO,
            at=scene.at,
            node=node.node,
            what=f"replay goes on on {node.node} after {format_duration(seconds)}",
            began_at=before.since,
            seconds=seconds,
        )
