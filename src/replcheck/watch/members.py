"""Standbys that nobody configured and that a node's senders show: found, watched from afar, forgotten in the end.

They have no connection of their own here, so of them only what their sender tells is known.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from replcheck.model.live import ClusterEvent, ClusterView, EventKind, NodeState, NodeView, Severity
from replcheck.model.wal import Lsn
from replcheck.watch.limits import WatchLimits
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
    upstream: str | None = None
    """Whose sender showed it last."""
    received: Lsn | None = None
    """How far it had received WAL by then."""
    received_at: datetime | None = None
    """When that last moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberState:
    """The found standbys by name."""

    found: Mapping[str, Member] = field(default_factory=dict)


def found_nodes(
    state: MemberState, scene: Scene, nodes: Iterable[NodeView], before: Mapping[str, NodeView], limits: WatchLimits
) -> list[NodeView]:
    """Return the views of the found standbys that were told of; one that no sender shows any more is lost.

    `nodes` are the views of the configured ones: a standby is as good as what it streams from.
    """
    upstreams = {node.node: node for node in nodes}
    now = {found.name: found for found in scene.found}
    return [
        found_view(
            now[name],
            scene,
            limits,
            upstream=upstreams[now[name].upstream],
            received_at=_received_at(member, now[name], scene),
            before=before.get(name),
        )
        if name in now
        else _gone(name, member, scene, before.get(name))
        for name, member in state.found.items()
        if member.told
    ]


def _received_at(member: Member | None, found: FoundSender, scene: Scene) -> datetime:
    """Return when what a found standby has received last moved."""
    if member is None or member.received_at is None or member.received != found.sender.flushed_lsn:
        return scene.at
    return member.received_at


def member_events(state: MemberState, scene: Scene, view: ClusterView) -> tuple[MemberState, list[ClusterEvent]]:
    """Return the found standbys after a sample, and those to be told of."""
    now = {sender.name for sender in scene.found}
    members = {
        name: member
        for name, member in state.found.items()
        if name in now or (member.told and scene.at - max(member.seen_at, view.watched_since) < _FORGOTTEN_AFTER)
    }
    events = [_forgotten(name, scene) for name, member in state.found.items() if member.told and name not in members]
    settled = scene.at - view.watched_since > _PATIENCE or all(
        memory.answer is not None for memory in scene.memories.values()
    )
    for sender in scene.found:
        last = members.get(sender.name)
        since = last.seen_since if last else scene.at
        full = sum(member.told for member in members.values()) >= _MOST
        tell = settled and not full and not (last and last.told) and scene.at - since >= _SURE_AFTER
        members[sender.name] = Member(
            host=sender.sender.address,
            seen_since=since,
            seen_at=scene.at,
            told=tell or bool(last and last.told),
            upstream=sender.upstream,
            received=sender.sender.flushed_lsn,
            received_at=_received_at(last, sender, scene),
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


def _forgotten(name: str, scene: Scene) -> ClusterEvent:
    return ClusterEvent(
        kind=EventKind.NODE_FORGOTTEN,
        severity=Severity.INFO,
        at=scene.at,
        node=name,
        what=f"{name}, which the configuration does not name, was not seen for an hour and is counted no more",
    )


def _gone(name: str, member: Member, scene: Scene, before: NodeView | None) -> NodeView:
    """Return the view of a found standby that no sender shows; who could show it may be silent itself."""
    hidden = _is_hidden(member, scene)
    state = NodeState.UNSURE if hidden else NodeState.LOST
    return NodeView(
        node=name,
        state=state,
        since=before.since if before is not None and before.state is state else scene.at,
        answered_at=None,
        reason=f"{member.upstream}, whose sender showed it, does not answer"
        if hidden
        else "no sender shows it any more",
        host=member.host,
        configured=False,
        upstream=member.upstream,
    )


def _is_hidden(member: Member, scene: Scene) -> bool:
    """Return whether who showed a standby last is silent, and no other primary has taken its place."""
    upstream = scene.memories.get(member.upstream or "")
    if upstream is None or (upstream.silence is None and upstream.answer is not None):
        return False
    return upstream.reign is None or scene.primary == upstream.name or not scene.primary_answers
