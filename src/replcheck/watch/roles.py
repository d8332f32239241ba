"""Who is the primary, and what changes of that: promotions, switch-overs, a split brain, an old primary that rejoins.

A split brain is told only where two servers were primaries at one moment for certain: a primary never turns back
without a restart, so it was one all the time between two answers of the same start. An old answer of a node that is
silent by now proves nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations

from replcheck.model.live import ClusterEvent, EventKind, NodeState, NodeView, Severity, Switch
from replcheck.model.node import NodeRole
from replcheck.model.units import format_duration, format_size
from replcheck.model.wal import Lsn
from replcheck.watch.latch import OFF, Edge, Latch, duration_s, step
from replcheck.watch.marks import bytes_behind, last_within, nothing_between
from replcheck.watch.scene import NodeMemory, Scene

ASTRAY = frozenset({NodeState.STRAYED, NodeState.FOREIGN})
"""States of a node on another history than the primary's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleState:
    """Who was the primary so far."""

    primary: str | None = None
    """The last one known, silent or not."""
    timeline: int | None = None
    """The newest one that a primary was on."""
    switch_lsn: Lsn | None = None
    pending: Switch | None = None
    is_recalled: bool = False
    """Whether `pending` is an earlier watch's, by which the old primary still answered as one."""
    former: frozenset[str] = frozenset()
    """Old primaries that have not rejoined."""
    split: Latch = OFF
    strayed: Mapping[str, Latch] = field(default_factory=dict)
    """What was told of nodes on another history, by name."""


def promotions(state: RoleState, scene: Scene) -> tuple[RoleState, list[ClusterEvent]]:
    """Return who is the primary after a sample, and the promotions in it; `scene` still shows the one before."""
    events: list[ClusterEvent] = []
    answered = [scene.memories[name] for name in scene.fresh if scene.belongs(name) and scene.memories[name].is_primary]
    for memory in sorted(answered, key=lambda memory: (memory.timeline or 0, memory.name)):
        if _is_promoted(state, memory, scene.before[memory.name]):
            state, told = _promoted(state, memory, scene)
            events += told
        elif state.primary is None:
            state = replace(state, primary=memory.name, timeline=memory.timeline)
    return _primary_elsewhere(state, scene), events


def _is_promoted(state: RoleState, memory: NodeMemory, before: NodeMemory) -> bool:
    if before.answer is not None and before.answer.role is NodeRole.STANDBY:
        return True
    known = [timeline for timeline in (state.timeline, before.timeline) if timeline is not None]
    return memory.timeline is not None and bool(known) and memory.timeline > min(known)


def _promoted(state: RoleState, memory: NodeMemory, scene: Scene) -> tuple[RoleState, list[ClusterEvent]]:
    answer = memory.answer
    assert answer is not None  # noqa: S101 - it answered as a primary
    where = f" at {answer.promoted_lsn}" if answer.promoted_lsn else ""
    told = ClusterEvent(
        kind=EventKind.PROMOTED,
        severity=Severity.WARNING,
        at=scene.at,
        node=memory.name,
        what=f"{memory.name} was promoted: it takes writes on timeline {memory.timeline}, which began{where}",
        timeline=memory.timeline,
        lsn=answer.promoted_lsn,
    )
    if _is_behind(state, memory, scene):
        return state, [told]
    old = state.primary
    events = [told, *_switched(state.pending, scene)]
    pending = None
    if old is not None and (wrote_at := scene.before[old].wrote_at) is not None:
        pending = Switch(
            old=old,
            new=memory.name,
            last_write_at=wrote_at,
            first_write_at=answer.at,
            timeline=memory.timeline,
            lsn=answer.promoted_lsn,
            taken=last_within(scene.marks, answer.promoted_lsn) if answer.promoted_lsn is not None else None,
            wrote=scene.before[old].wrote,
        )
    former = (state.former | {old} if old is not None else state.former) - {memory.name}
    newer = replace(
        state,
        primary=memory.name,
        timeline=memory.timeline,
        switch_lsn=answer.promoted_lsn,
        pending=pending,
        is_recalled=False,
        former=former,
    )
    return newer, events


def _is_behind(state: RoleState, memory: NodeMemory, scene: Scene) -> bool:
    """Return whether the primary stays who it is, beside one that was promoted to no newer timeline."""
    if state.timeline is None or memory.timeline is None or memory.timeline > state.timeline:
        return False
    reigns = state.primary is not None and scene.memories[state.primary].is_primary
    return reigns or memory.timeline < state.timeline


def _primary_elsewhere(state: RoleState, scene: Scene) -> RoleState:
    """Take another node for the primary where the last one is none any more and another answers as one."""
    last = scene.memories.get(state.primary or "")
    if last is not None and (last.is_primary or last.silence is not None) and last.name not in scene.twins:
        return state
    for memory in scene.memories.values():
        if memory.is_primary and scene.belongs(memory.name) and memory.timeline == state.timeline:
            return replace(state, primary=memory.name)
    return _taken_back(state, last, scene) if last is not None else state


def _taken_back(state: RoleState, last: NodeMemory, scene: Scene) -> RoleState:
    """Return to an older timeline where the newer one was given up: its only primary is a copy of another one by now.

    A server that was promoted has its new timeline for good: that it follows an older one shows that it was made anew.
    """
    if last.timeline is None or state.timeline is None or last.timeline >= state.timeline:
        return state
    reigning = [memory for memory in scene.memories.values() if memory.is_primary and scene.belongs(memory.name)]
    if [memory.timeline for memory in reigning] != [last.timeline]:
        return state
    [primary] = reigning
    former = (state.former | {last.name}) - {primary.name}
    return replace(state, primary=primary.name, timeline=primary.timeline, switch_lsn=None, pending=None, former=former)


def role_events(state: RoleState, scene: Scene, nodes: tuple[NodeView, ...]) -> tuple[RoleState, list[ClusterEvent]]:
    """Return what is to be told of roles after a sample, promotions aside."""
    events: list[ClusterEvent] = []
    if state.pending is not None:
        state = replace(state, pending=_as_seen(state.pending, scene))
    if state.pending is not None and _writes_no_more(state, state.pending, scene):
        events += _switched(state.pending, scene)
        state = replace(state, pending=None)
    split, edge = step(state.split, bool(scene.rivals), scene.at)
    events += _split_event(state.split, edge, scene)
    back = [node for node in nodes if node.node in state.former and node.state is NodeState.STREAMING]
    events += [_rejoined(node, scene) for node in back]
    former = state.former - {node.node for node in back}
    names = {node.node for node in nodes}
    strayed = {name: latch for name, latch in state.strayed.items() if name in names}
    for node in nodes:
        if scene.shows(node):
            strayed[node.node], edge = step(strayed.get(node.node, OFF), node.state in ASTRAY, scene.at)
            events += [_strayed(node, scene)] if edge is Edge.BEGAN else []
    if (split, former, strayed) == (state.split, state.former, state.strayed):
        return state, events
    return replace(state, split=split, former=former, strayed=strayed), events


def _as_seen(pending: Switch, scene: Scene) -> Switch:
    """Return a switch-over with what the old primary is seen to have written since, as it may after a promotion."""
    if pending.old == pending.new:
        return pending
    old = scene.memories[pending.old]
    last_write_at = max(pending.last_write_at, old.wrote_at or pending.last_write_at)
    return replace(pending, last_write_at=last_write_at, wrote=old.wrote or pending.wrote)


def _writes_no_more(state: RoleState, pending: Switch, scene: Scene) -> bool:
    if pending.old == pending.new or pending.old in scene.twins:
        return True
    old = scene.memories[pending.old]
    awaited = state.is_recalled and old.last_at is None
    return not old.is_primary and not awaited


def _switched(pending: Switch | None, scene: Scene) -> Iterator[ClusterEvent]:
    if pending is None:
        return
    pending = _as_seen(pending, scene)
    seconds = max(0.0, (pending.first_write_at - pending.last_write_at).total_seconds())
    yield ClusterEvent(
        kind=EventKind.SWITCHED_OVER,
        severity=Severity.WARNING,
        at=scene.at,
        node=pending.new,
        what=f"{pending.new} took over from {pending.old}: nobody took writes for {format_duration(seconds)}",
        began_at=pending.last_write_at,
        seconds=seconds,
        timeline=pending.timeline,
        lsn=pending.lsn,
        detail=pending.old,
    )
    yield from _left_behind(pending, scene)


def _left_behind(pending: Switch, scene: Scene) -> Iterator[ClusterEvent]:
    """Tell of what the old primary is seen to have written that the new one does not have.

    What follows the last transaction that ended, as housekeeping and a checkpoint at shutdown do, is no loss.
    """
    wrote = pending.wrote
    if wrote is None or pending.lsn is None:
        return
    size_bytes = bytes_behind(pending.lsn, wrote.lsn)
    if size_bytes <= 0 or (pending.taken is not None and nothing_between(pending.taken, wrote)):
        return
    yield ClusterEvent(
        kind=EventKind.WAL_LEFT_BEHIND,
        severity=Severity.CRITICAL,
        at=scene.at,
        node=pending.old,
        what=f"{pending.new} has not taken over up to {format_size(size_bytes)} of WAL of {pending.old}: "
        "commits may be lost",
        size_bytes=size_bytes,
        timeline=pending.timeline,
        lsn=pending.lsn,
        detail=pending.new,
    )


def split_between(scene: Scene) -> tuple[str, ...]:
    """Return the nodes that are primaries at once for certain, none where fewer than two are."""
    reigning = [
        memory
        for memory in scene.memories.values()
        if memory.is_primary and memory.reign and scene.belongs(memory.name)
    ]
    rivals = {
        memory.name
        for pair in combinations(reigning, 2)
        if pair[0].reign and pair[1].reign and pair[0].reign.overlaps(pair[1].reign)
        for memory in pair
    }
    return tuple(memory.name for memory in reigning if memory.name in rivals)


def _split_event(before: Latch, edge: Edge | None, scene: Scene) -> Iterator[ClusterEvent]:
    if edge is Edge.BEGAN:
        yield ClusterEvent(
            kind=EventKind.SPLIT_BRAIN,
            severity=Severity.CRITICAL,
            at=scene.at,
            node=None,
            what=f"split brain: {' and '.join(scene.rivals)} take writes at the same time",
            detail=", ".join(scene.rivals),
        )
    elif edge is Edge.ENDED:
        seconds = duration_s(before, scene.at)
        yield ClusterEvent(
            kind=EventKind.SPLIT_BRAIN_OVER,
            severity=Severity.WARNING,
            at=scene.at,
            node=None,
            what=f"no two nodes take writes any more; they did for {format_duration(seconds)}",
            began_at=before.since,
            seconds=seconds,
        )


def _strayed(node: NodeView, scene: Scene) -> ClusterEvent:
    return ClusterEvent(
        kind=EventKind.STRAYED,
        severity=Severity.WARNING,
        at=scene.at,
        node=node.node,
        what=f"{node.node} is on another history: {node.reason}",
        timeline=node.timeline,
        lsn=node.lsn,
    )


def _rejoined(node: NodeView, scene: Scene) -> ClusterEvent:
    return ClusterEvent(
        kind=EventKind.REJOINED,
        severity=Severity.INFO,
        at=scene.at,
        node=node.node,
        what=f"the old primary {node.node} is a standby of {scene.primary} now and streams",
        timeline=node.timeline,
    )
