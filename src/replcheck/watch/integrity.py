"""Damage that the servers themselves report: page checksums that fail, replication slots that lost their WAL."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from replcheck.model.live import ClusterEvent, EventKind, NodeView, Severity
from replcheck.watch.scene import Scene

_QUIET = timedelta(minutes=1)
"""Failures that go on and on are told so often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIntegrity:
    """What was told of one node."""

    failures: int = 0
    told_failures: int = 0
    told_at: datetime | None = None
    lost_slots: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrityState:
    """What was told of damage, by node."""

    nodes: Mapping[str, NodeIntegrity] = field(default_factory=dict)


def integrity_events(
    state: IntegrityState, scene: Scene, nodes: tuple[NodeView, ...]
) -> tuple[IntegrityState, list[ClusterEvent]]:
    """Return what is to be told of damage after a sample."""
    known = dict(state.nodes)
    events: list[ClusterEvent] = []
    for node in nodes:
        if node.node in scene.fresh:
            last = known.get(node.node, NodeIntegrity())
            known[node.node] = _looked_at(last, node, scene)
            events += _told(last, known[node.node], node, scene)
    return IntegrityState(nodes=known), events


def _looked_at(last: NodeIntegrity, node: NodeView, scene: Scene) -> NodeIntegrity:
    failures = last.failures if node.checksum_failures is None else node.checksum_failures
    told = min(last.told_failures, failures)  # statistics begin anew with a reset
    due = failures > told and (last.told_at is None or scene.at - last.told_at >= _QUIET)
    lost = frozenset(slot.name for slot in node.slots if slot.wal_status == "lost")
    if (failures, lost) == (last.failures, last.lost_slots) and not due:
        return last
    return NodeIntegrity(
        failures=failures,
        told_failures=failures if due else told,
        told_at=scene.at if due else last.told_at,
        lost_slots=lost,
    )


def _told(last: NodeIntegrity, now: NodeIntegrity, node: NodeView, scene: Scene) -> Iterator[ClusterEvent]:
    if now.told_failures > last.told_failures or (now.told_at != last.told_at):
        pages = "page was read that fails its checksum" if now.failures == 1 else "reads of pages failed their checksum"
        yield ClusterEvent(
            kind=EventKind.CHECKSUM_FAILURE,
            severity=Severity.CRITICAL,
            at=scene.at,
            node=node.node,
            what=f"{now.failures} {pages} on {node.node}",
        )
    for name in sorted(now.lost_slots - last.lost_slots):
        yield ClusterEvent(
            kind=EventKind.SLOT_LOST,
            severity=Severity.WARNING,
            at=scene.at,
            node=node.node,
            what=f"slot {name} of {node.node} lost WAL that its receiver still needs",
            detail=name,
        )
