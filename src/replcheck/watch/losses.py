"""Nodes that go away, come back or are made anew, and how many copies run.

A node is away while it gives no answer; why decides what is told: lost, or merely out of sight where the server is
there and refuses the role. A standby counts as detached once two answers in a row show it so while the primary answers:
every standby is for a moment when the primary goes away.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from replcheck.model.live import ClusterEvent, ClusterView, EventKind, NodeState, NodeView, Severity
from replcheck.model.spans import GAP_S
from replcheck.model.units import format_duration
from replcheck.watch.latch import OFF, Edge, Latch, duration_s, often, step
from replcheck.watch.limits import WatchLimits
from replcheck.watch.scene import Scene
from replcheck.watch.senders import takes_backup

_LOST = frozenset({NodeState.LOST, NodeState.STARTING})
_SURE_AFTER = 2
"""Answers in a row that show a standby detached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLosses:
    """What was told of one node's absences."""

    away: Latch = OFF
    told_lost: bool = False
    """Whether the absence was told as a loss, not only as being out of sight."""
    unseen_looks: int = 0
    """Looks in a row in which no sender shows it, of one that only senders show."""
    detached: Latch = OFF
    detached_answers: int = 0
    gone_at: datetime | None = None
    """When it stopped to be a running copy; None while it is one, and before it ever was. Where nobody watched then,
    when it was last seen."""
    gone_unseen_s: float = 0.0
    """For how long nothing is known of it at the beginning of that, in seconds."""
    seen_gone_at: datetime | None = None
    """When it was last seen not to be one."""
    was_copy: bool = False
    """Whether it ever was a running copy."""
    anew: bool = False
    """Whether it is shown to have been made anew since it last was one: it was another cluster's or its data is new."""
    strayed_start: datetime | None = None
    """When its server had been started as it was seen astray: only a later start can have brought it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossState:
    """What was told of absences and of the number of copies."""

    nodes: Mapping[str, NodeLosses] = field(default_factory=dict)
    most_copies: int = 0
    short_since: datetime | None = None
    """Since when fewer copies run than ever did."""
    backup_at: datetime | None = None
    """When a base backup of a node was last seen being taken."""
    short: Latch = OFF


def loss_events(
    state: LossState, scene: Scene, view: ClusterView, limits: WatchLimits
) -> tuple[LossState, list[ClusterEvent]]:
    """Return what is to be told of absences and of the number of copies after a sample."""
    events: list[ClusterEvent] = []
    nodes: dict[str, NodeLosses] = {}
    backup_at = _backup_seen(state, scene)
    for node in view.nodes:
        known = state.nodes.get(node.node, NodeLosses())
        known, told = _absence(known, node, scene, view) if node.configured else _disappearance(known, node, scene)
        events += told
        known, told = _attachment(known, node, scene)
        events += _merged(events, told)
        known, told = _copy(known, node, scene, state)
        events += told
        nodes[node.node] = known
    state = replace(state, nodes=nodes, backup_at=backup_at)
    state, told = _copies(state, scene, view, limits)
    return state, events + told


def _absence(
    known: NodeLosses, node: NodeView, scene: Scene, view: ClusterView
) -> tuple[NodeLosses, list[ClusterEvent]]:
    memory = scene.memories.get(node.node)
    if memory is None or memory.last_at is None:
        return known, []
    away = memory.silence is not None
    if memory.answer is None and node.answered_at is not None and node.state is NodeState.UNSEEN:
        return known, []  # It answered in an earlier watch, and this one has only just begun.
    if not away and known.away is OFF:
        return known, []
    latch, edge = step(known.away, away, scene.at, since=memory.silent_since)
    events: list[ClusterEvent] = []
    lost = away and node.state in _LOST
    if lost and not known.told_lost:
        events.append(_lost(node, scene, latch, former=node.node in view.former_primaries))
    elif edge is Edge.BEGAN:
        events.append(_out_of_sight(node, scene, latch))
    elif edge is Edge.ENDED:
        events.append(_back(node, scene, known.away, "answers again"))
    told_lost = latch.told and (lost or known.told_lost)
    return replace(known, away=latch, told_lost=told_lost), events


def _disappearance(known: NodeLosses, node: NodeView, scene: Scene) -> tuple[NodeLosses, list[ClusterEvent]]:
    """Follow whether any sender shows a standby that nobody configured."""
    lost = node.state is NodeState.LOST
    looked = scene.shows(node) or (scene.primary_answers and scene.primary in scene.fresh)
    if not looked or node.state is NodeState.UNSURE or not (lost or known.unseen_looks or known.away.told):
        return known, []
    looks = known.unseen_looks + 1 if lost else 0
    latch, edge = step(known.away, looks >= _SURE_AFTER or (lost and known.away.told), scene.at, since=node.since)
    events: list[ClusterEvent] = []
    if edge is Edge.BEGAN:
        events.append(_lost(node, scene, latch))
    elif edge is Edge.ENDED:
        events.append(_back(node, scene, known.away, "is shown by a sender again"))
    return replace(known, away=latch, unseen_looks=looks, told_lost=latch.told), events


def _lost(node: NodeView, scene: Scene, latch: Latch, *, former: bool = False) -> ClusterEvent:
    was_primary = node.node in scene.primaries
    kind = EventKind.PRIMARY_LOST if was_primary else EventKind.STANDBY_LOST
    role = "primary" if was_primary else "old primary" if former else "standby"
    return ClusterEvent(
        kind=kind,
        severity=Severity.CRITICAL if was_primary else Severity.WARNING,
        at=scene.at,
        node=node.node,
        what=f"{role} {node.node} is lost: {node.reason}{often(latch)}",
        began_at=node.answered_at if node.configured else node.since,
    )


def _out_of_sight(node: NodeView, scene: Scene, latch: Latch) -> ClusterEvent:
    return ClusterEvent(
        kind=EventKind.OUT_OF_SIGHT,
        severity=Severity.WARNING,
        at=scene.at,
        node=node.node,
        what=f"nothing is known of {node.node}: {node.reason}{often(latch)}",
        began_at=node.answered_at,
    )


def _back(node: NodeView, scene: Scene, latch: Latch, how: str) -> ClusterEvent:
    seconds = duration_s(latch, scene.at)
    return ClusterEvent(
        kind=EventKind.NODE_BACK,
        severity=Severity.INFO,
        at=scene.at,
        node=node.node,
        what=f"{node.node} {how} after {format_duration(seconds)} and is {node.state.value}{often(latch)}",
        began_at=latch.since,
        seconds=seconds,
    )


def _attachment(known: NodeLosses, node: NodeView, scene: Scene) -> tuple[NodeLosses, list[ClusterEvent]]:
    """Follow whether a standby that answers receives WAL."""
    if not scene.shows(node) or (node.state is NodeState.DETACHED and not scene.primary_answers):
        return known, []
    if node.state is not NodeState.DETACHED and known.detached is OFF and not known.detached_answers:
        return known, []
    answers = known.detached_answers + 1 if node.state is NodeState.DETACHED else 0
    holds = answers >= _SURE_AFTER or (answers > 0 and known.detached.told)
    latch, edge = step(known.detached, holds, scene.at)
    events: list[ClusterEvent] = []
    if edge is Edge.BEGAN:
        events.append(_detached(node, scene, latch))
    elif edge is Edge.ENDED and node.state is NodeState.STREAMING:
        events.append(_back(node, scene, known.detached, "streams again"))
    return replace(known, detached=latch, detached_answers=answers), events


def _detached(node: NodeView, scene: Scene, latch: Latch) -> ClusterEvent:
    return ClusterEvent(
        kind=EventKind.STANDBY_DETACHED,
        severity=Severity.WARNING,
        at=scene.at,
        node=node.node,
        what=f"standby {node.node} is detached: {node.reason}{often(latch)}",
    )


def _merged(events: list[ClusterEvent], told: list[ClusterEvent]) -> list[ClusterEvent]:
    """Leave out that a node streams again where the same sample told that it answers again."""
    back = {event.node for event in events if event.kind is EventKind.NODE_BACK}
    return [event for event in told if event.kind is not EventKind.NODE_BACK or event.node not in back]


def _copy(known: NodeLosses, node: NodeView, scene: Scene, state: LossState) -> tuple[NodeLosses, list[ClusterEvent]]:
    """Follow whether a node is a running copy, and tell of one that is new or was made anew."""
    if known.was_copy and known.gone_at is None and node.state.is_running_copy:
        return known, []
    if _is_awaited(node, scene):
        return known, []
    if not node.state.is_running_copy:
        anew = known.anew or (known.was_copy and node.state is NodeState.FOREIGN) or _is_rebuilt(node, scene)
        strayed = known.was_copy and node.state is NodeState.STRAYED
        known = _gone(known, node, scene) if known.was_copy else known
        strayed_start = node.started_at if strayed else known.strayed_start
        return replace(known, anew=anew, strayed_start=strayed_start), []
    strayed = known.strayed_start is not None and known.strayed_start != node.started_at
    made = known.anew or strayed or _is_rebuilt(node, scene) or _backed_up_since(known, node, state)
    new = not node.configured and not known.was_copy and state.short_since is not None
    events = [_recreated(known, node, scene, state)] if new or (known.gone_at and made) else []
    known = replace(known, gone_at=None, gone_unseen_s=0.0, seen_gone_at=None)
    return replace(known, was_copy=True, anew=False, strayed_start=None), events


def _gone(known: NodeLosses, node: NodeView, scene: Scene) -> NodeLosses:
    """Return what is known of a copy that is seen not to run."""
    if known.gone_at is not None:
        return replace(known, seen_gone_at=scene.at)
    last_at = _last_at(node, scene)
    unseen_s = _unseen_s(last_at, scene)
    gone_at = last_at if unseen_s else scene.at
    return replace(known, gone_at=gone_at, gone_unseen_s=unseen_s, seen_gone_at=scene.at)


def _last_at(node: NodeView, scene: Scene) -> datetime | None:
    """Return when anything was seen of a node before this sample; None where that is not known."""
    before = scene.before.get(node.node)
    if before is None or before.last_at is not None or before.left is None:
        return before.last_at if before is not None else None
    return before.left.answered_at


def _unseen_s(since: datetime | None, scene: Scene) -> float:
    """Return for how long nothing was seen, in seconds; samples that merely are some way apart leave nothing unseen."""
    seconds = (scene.at - since).total_seconds() if since is not None else 0.0
    return seconds if seconds > GAP_S else 0.0


def _is_awaited(node: NodeView, scene: Scene) -> bool:
    """Return whether a watch has only just begun and nothing is known of a node yet, be it good or bad."""
    memory = scene.memories.get(node.node)
    return memory is not None and memory.last_at is None and node.state is NodeState.UNSEEN


def _is_rebuilt(node: NodeView, scene: Scene) -> bool:
    return node.node in scene.fresh and scene.memories[node.node].rebuilt


def _backed_up_since(known: NodeLosses, node: NodeView, state: LossState) -> bool:
    """Return whether a node was lost, a base backup was taken meanwhile, and its server was started after that."""
    if known.gone_at is None or state.backup_at is None or node.started_at is None:
        return False
    return known.gone_at < state.backup_at and node.started_at > known.gone_at


def _recreated(known: NodeLosses, node: NodeView, scene: Scene, state: LossState) -> ClusterEvent:
    since = known.gone_at or state.short_since
    seconds = (scene.at - since).total_seconds() if since else None
    unseen_s = known.gone_unseen_s + _unseen_s(known.seen_gone_at, scene)
    short = ""
    if known.gone_at and seconds is not None:
        unseen = f": for {format_duration(unseen_s)} of that nobody watched" if unseen_s else ""
        short = f", {'at most ' if unseen_s else ''}{format_duration(seconds)} after it was lost{unseen}"
    return ClusterEvent(
        kind=EventKind.COPY_RECREATED,
        severity=Severity.INFO,
        at=scene.at,
        node=node.node,
        what=f"{node.node} is a new copy and streams{short}",
        began_at=since,
        seconds=seconds,
        unseen_s=unseen_s,
    )


def _backup_seen(state: LossState, scene: Scene) -> datetime | None:
    taken = any(
        memory.answer is not None and takes_backup(memory.answer)
        for name, memory in scene.memories.items()
        if name in scene.fresh
    )
    return scene.at if taken else state.backup_at


def _copies(
    state: LossState, scene: Scene, view: ClusterView, limits: WatchLimits
) -> tuple[LossState, list[ClusterEvent]]:
    running = view.running_copies
    most = max(state.most_copies, running)
    short_since = (state.short_since or scene.at) if running < most else None
    if (most, short_since) != (state.most_copies, state.short_since):
        state = replace(state, most_copies=most, short_since=short_since)
    if limits.copies is None or view.system_identifier is None:
        return state, []
    # Whom the role may not see may well be a copy, and so may one whose first answer is awaited.
    at_most = running + sum(node.state is NodeState.UNSURE or _is_awaited(node, scene) for node in view.nodes)
    before = state.short
    latch, edge = step(before, at_most < limits.copies, scene.at)
    if latch is before:
        return state, []
    return replace(state, short=latch), list(_copies_event(before, latch, edge, scene, running, limits.copies))


def _copies_event(
    before: Latch, latch: Latch, edge: Edge | None, scene: Scene, running: int, asked: int
) -> Iterator[ClusterEvent]:
    if edge is Edge.BEGAN:
        yield ClusterEvent(
            kind=EventKind.COPIES_SHORT,
            severity=Severity.WARNING,
            at=scene.at,
            node=None,
            what=f"{running} of the {asked} copies that are asked for run{often(latch)}",
        )
    elif edge is Edge.ENDED:
        seconds = duration_s(before, scene.at)
        yield ClusterEvent(
            kind=EventKind.COPIES_BACK,
            severity=Severity.INFO,
            at=scene.at,
            node=None,
            what=f"{running} copies run again; there were fewer than {asked} for {format_duration(seconds)}"
            f"{often(before)}",
            began_at=before.since,
            seconds=seconds,
        )
