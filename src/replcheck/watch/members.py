"""Standbys that nobody configured and that a node's senders show: found, watched from afar, forgotten in the end.

They have no connection of their own here, so of them only what their sender tells is known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from replcheck.model.live import ClusterEvent, ClusterView, EventKind, NodeState, NodeView, Severity
from replcheck.watch.scene import FoundSender, Scene
from replcheck.watch.states import found_view

_FORGOTTEN_AFTER = timedelta(hours=1)
_SURE_AFTER = timedelta(seconds=1)
_MOST = 32
_PATIENCE = timedelta(seconds=15)
"""How long configured nodes that never answered may still turn out to be who streams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One found standby."""

    host: str
    seen_since: datetime
    seen_at: datetime
    told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberState:
    """The found standbys by name."""

    found: Mapping[str, Member] = field(default_factory=dict)


def found_nodes(state: MemberState, scene: Scene, before: Mapping[str, NodeView]) -> list[NodeView]:
    """Return the views of the found standbys that were told of; one that no sender shows any more is lost."""
    now = {sender.name: sender for sender in scene.found}
    return [
        found_view(now[name], scene, before.get(name)) if name in now else _gone(name, member, scene, before.get(name))
        for name, member in state.found.items()
        if member.told
    ]


def member_events(state: MemberState, scene: Scene, view: ClusterView) -> tuple[MemberState, list[ClusterEvent]]:
    """Return the found standbys after a sample, and those to be told of."""
    now = {sender.name for sender in scene.found}
    members = {
        name: member
        for name, member in state.found.items()
        if name in now or (member.told and scene.at - member.seen_at < _FORGOTTEN_AFTER)
    }
    events = []
    settled = scene.at - view.watched_since > _PATIENCE or all(
        memory.answer is not None for memory in scene.memories.values()
    )
    for sender in scene.found:
        last = members.get(sender.name)
        since = last.seen_since if last else scene.at
        full = sum(member.told for member in members.values()) >= _MOST
        tell = settled and not full and not (last and last.told) and scene.at - since >= _SURE_AFTER
        members[sender.name] = Member(
            host=sender.sender.address, seen_since=since, seen_at=scene.at, told=tell or bool(last and last.told)
        )
        if tell:
            events.append(_found(sender, scene))
    return MemberState(found=members), events


def _found(sender: FoundSender, scene: Scene) -> ClusterEvent:
    where = f" at {sender.sender.address}" if sender.sender.address else ""
    return ClusterEvent(
        kind=EventKind.NODE_FOUND,
        severity=Severity.INFO,
        at=scene.at,
        node=sender.name,
        what=f"a standby{where} that the configuration does not name streams from {sender.upstream}",
        detail=sender.sender.application,
    )


def _gone(name: str, member: Member, scene: Scene, before: NodeView | None) -> NodeView:
    since = before.since if before is not None and before.state is NodeState.LOST else scene.at
    return NodeView(
        node=name,
        state=NodeState.LOST,
        since=since,
        answered_at=None,
        reason="no sender shows it any more",
        host=member.host,
        configured=False,
    )
