"""What each node is to its cluster at a moment, and its view: judged from the scene alone."""

from dataclasses import dataclass, replace
from datetime import datetime

from replcheck.model.live import TAKES_WRITES, NodeAnswer, NodeState, NodeView, Sender, SilenceCode
from replcheck.model.node import NodeRole
from replcheck.model.units import format_duration
from replcheck.model.wal import Lsn
from replcheck.watch.lag import lag_by_sender, lag_of
from replcheck.watch.limits import WatchLimits
from replcheck.watch.marks import PAGE, reached
from replcheck.watch.scene import FoundSender, NodeMemory, Scene

Judged = tuple[NodeState, str]
_FIRST_S = 3.0
"""How long a node that answered in an earlier watch is given to answer in a new one."""
_UNFLUSHED_S = 30.0
"""How long WAL that nobody waits for may lie unflushed, and so unsent, in a page that is not full: until the running
transactions are logged, every 15 s by a process that may sleep for 10 s (PostgreSQL source, bgwriter.c)."""
_SILENT_STATES = {
    SilenceCode.STARTING: NodeState.STARTING,
    SilenceCode.REFUSED: NodeState.UNSURE,
    SilenceCode.UNFIT: NodeState.UNSURE,
}


def view_of(memory: NodeMemory, scene: Scene, limits: WatchLimits, before: NodeView | None) -> NodeView | None:
    """Return the view of a configured node; None where nothing of it was awaited long enough to tell."""
    if memory.last_at is None:
        return before
    state, reason = judge(memory, scene, limits, before or scene.before[memory.name].left)
    since = before.since if before is not None and before.state is state else scene.at
    if memory.answer is None and memory.left is not None and memory.left.answered_at is not None:
        return left_view(memory.left, state, since, reason, zone=memory.node.zone)
    if memory.answer is None:
        return NodeView(
            node=memory.name, state=state, since=since, answered_at=None, reason=reason, zone=memory.node.zone
        )
    return _answered_view(memory, memory.answer, scene, state, since, reason)


def left_view(left: NodeView, state: NodeState, since: datetime, reason: str, *, zone: str | None) -> NodeView:
    """Return the view of a node that has not answered in this watch and did in an earlier one."""
    return replace(
        left,
        state=state,
        since=since,
        reason=reason,
        zone=zone,
        lag_bytes=None,
        lag_s=None,
        upstream=None,
        sync_state=None,
    )


def _answered_view(
    memory: NodeMemory, answer: NodeAnswer, scene: Scene, state: NodeState, since: datetime, reason: str
) -> NodeView:
    lag = lag_of(memory, scene) if state in {NodeState.STREAMING, NodeState.DETACHED} else None
    link = scene.links.get(memory.name)
    return NodeView(
        node=memory.name,
        state=state,
        since=since,
        answered_at=answer.at,
        reason=reason,
        zone=memory.node.zone,
        host=answer.host,
        server_version_num=answer.server_version_num,
        system_identifier=answer.system_identifier,
        started_at=answer.started_at,
        timeline=memory.timeline,
        lsn=memory.position,
        received_lsn=answer.received_lsn,
        lag_bytes=lag.size_bytes if lag else None,
        lag_s=lag.seconds if lag else None,
        upstream=link.upstream if link and answer.role is NodeRole.STANDBY else None,
        sync_state=link.sender.sync_state if link and answer.role is NodeRole.STANDBY else None,
        replay_paused=answer.replay_paused,
        apply_delay_s=answer.apply_delay_s,
        slots=answer.slots,
        archiver=answer.archiver,
        data_checksums=answer.data_checksums,
        checksum_failures=answer.checksum_failures,
        conflicts=answer.conflicts,
        elapsed_s=answer.elapsed_s,
    )


def found_view(
    found: FoundSender,
    scene: Scene,
    limits: WatchLimits,
    *,
    upstream: NodeView,
    received_at: datetime,
    before: NodeView | None,
) -> NodeView:
    """Return the view of a standby that only its sender shows.

    `upstream` is the view of who sends to it, and `received_at` when what it has received last moved.
    """
    sender = found.sender
    state, reason = _found(sender, received_at, scene, limits, upstream=upstream, before=before)
    lag = lag_by_sender(sender, scene) if state in {NodeState.STREAMING, NodeState.DETACHED} else None
    return NodeView(
        node=found.name,
        state=state,
        since=before.since if before is not None and before.state is state else scene.at,
        answered_at=None,
        reason=reason,
        host=sender.address,
        configured=False,
        lsn=sender.replayed_lsn,
        received_lsn=sender.flushed_lsn,
        lag_bytes=lag.size_bytes if lag else None,
        lag_s=lag.seconds if lag else None,
        upstream=found.upstream,
        sync_state=sender.sync_state,
    )


def _found(
    sender: Sender,
    received_at: datetime,
    scene: Scene,
    limits: WatchLimits,
    *,
    upstream: NodeView,
    before: NodeView | None,
) -> Judged:
    if upstream.state is NodeState.STRAYED:
        return NodeState.STRAYED, f"it streams from {upstream.node}, which is on another history"
    if upstream.state is NodeState.UNSURE:
        return NodeState.UNSURE, f"it streams from {upstream.node}, and what that is may not be seen"
    if not upstream.state.is_running_copy:
        return NodeState.DETACHED, f"it streams from {upstream.node}, which is {upstream.state.value}"
    if sender.state != "streaming":
        return NodeState.DETACHED, f"its sender is in state {sender.state}"
    coming = _Coming(lsn=sender.flushed_lsn, has=sender.flushed_lsn, moved_at=received_at, timeline=None)
    return _coming(coming, scene, limits, before)


def judge(memory: NodeMemory, scene: Scene, limits: WatchLimits, before: NodeView | None = None) -> Judged:
    """Return what a node is, and why it is not well; `before` is what it was."""
    if memory.silence is not None:
        return _silent(memory, scene)
    answer = memory.answer
    if answer is None:
        return NodeState.UNSEEN, "it has not answered yet"
    if memory.name in scene.twins:
        return NodeState.UNSURE, f"it is the same server as {scene.twins[memory.name]}"
    if answer.system_identifier != scene.identifier:
        return NodeState.FOREIGN, "it has another system identifier"
    if answer.role is NodeRole.PRIMARY:
        return _primary(memory, scene)
    return _strayed(memory, answer, scene) or _standby(memory, answer, scene, limits, before)


def _silent(memory: NodeMemory, scene: Scene) -> Judged:
    silence = memory.silence
    assert silence is not None  # noqa: S101 - asked for only then
    seen_by = scene.links.get(memory.name)
    lost = memory.answer is not None or _is_gone_since(memory, scene)
    state = _SILENT_STATES.get(silence.code, NodeState.LOST if lost else NodeState.UNSEEN)
    also = f", while {seen_by.upstream} still sends to it" if seen_by and state is NodeState.LOST else ""
    return state, silence.reason + also


def _is_gone_since(memory: NodeMemory, scene: Scene) -> bool:
    """Return whether a node that answered in an earlier watch is away, and not merely out of reach of one that begins.

    While nothing answers at all, who watches may be cut off; and a first connection may take a while.
    """
    if memory.silence is None or memory.silent_since is None:
        return False
    if memory.left is None or memory.left.answered_at is None:
        return False
    if (scene.at - memory.silent_since).total_seconds() >= _FIRST_S:
        return True
    somebody = any(other.answer is not None for other in scene.memories.values())
    return somebody and memory.silence.code is SilenceCode.UNREACHABLE


def _primary(memory: NodeMemory, scene: Scene) -> Judged:
    if memory.name in scene.rivals and memory.name != scene.primary and memory.timeline == scene.timeline:
        return NodeState.STRAYED, f"{TAKES_WRITES} on timeline {memory.timeline} beside {scene.primary}"
    newer = scene.timeline is not None and memory.timeline is not None and memory.timeline < scene.timeline
    if memory.name != scene.primary and newer:
        return (
            NodeState.STRAYED,
            f"{TAKES_WRITES} on timeline {memory.timeline}, and the cluster is on {scene.timeline}",
        )
    return NodeState.PRIMARY, ""


def _strayed(memory: NodeMemory, answer: NodeAnswer, scene: Scene) -> Judged | None:
    """Return that a standby went another way than the primary, None where that is not shown."""
    if memory.timeline is None or scene.timeline is None or memory.timeline == scene.timeline:
        return None
    if memory.timeline > scene.timeline:
        return NodeState.STRAYED, f"it follows timeline {memory.timeline}, and the primary is on {scene.timeline}"
    position = answer.replayed_lsn
    if position is None or scene.switch_lsn is None or position <= scene.switch_lsn:
        return None
    return (
        NodeState.STRAYED,
        f"it is on timeline {memory.timeline} at {position}, and timeline {scene.timeline} began at {scene.switch_lsn}",
    )


def _standby(
    memory: NodeMemory, answer: NodeAnswer, scene: Scene, limits: WatchLimits, before: NodeView | None
) -> Judged:
    receiver = answer.receiver
    if receiver is None:
        return NodeState.DETACHED, "it receives no WAL"
    if receiver.status is None:
        return NodeState.UNSURE, "its role may not see whether it streams (pg_monitor is missing)"
    if receiver.status != "streaming":
        return NodeState.DETACHED, f"its receiver is {receiver.status}"
    if answer.timeline is not None and scene.timeline is not None and answer.timeline < scene.timeline:
        return NodeState.DETACHED, f"it streams timeline {answer.timeline}, and the primary is on {scene.timeline}"
    rival = _rival_above(memory.name, scene)
    if rival is not None:
        return NodeState.STRAYED, f"it follows {rival}, which takes writes beside {scene.primary}"
    coming = _Coming(
        lsn=answer.received_lsn,
        has=_furthest(answer),
        moved_at=memory.received_at,
        timeline=memory.timeline,
    )
    return _coming(coming, scene, limits, before)


def _furthest(answer: NodeAnswer) -> Lsn | None:
    """Return how far a standby that receives has WAL; None where it does not tell how far it has received.

    One that was restarted tells the start of a WAL file as received until something new comes, though it has replayed
    what lies behind it from its own files (PostgreSQL source, RequestXLogStreaming and XLogWalRcvFlush).
    """
    if answer.received_lsn is None or answer.replayed_lsn is None:
        return answer.received_lsn
    return max(answer.received_lsn, answer.replayed_lsn)


def _rival_above(name: str, scene: Scene) -> str | None:
    """Return the primary above a standby where it is another one than the cluster's, and both are primaries at once."""
    passed = {name}
    while (link := scene.links.get(name)) is not None and link.upstream not in passed:
        name = link.upstream
        passed.add(name)
    return name if name in scene.rivals and name != scene.primary else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Coming:
    """How far a standby has received WAL, and when that last moved."""

    lsn: Lsn | None
    """As its receiver tells it."""
    has: Lsn | None
    """Up to where it has WAL, which may be further; None exactly where `lsn` is."""
    moved_at: datetime | None
    timeline: int | None


def _coming(coming: _Coming, scene: Scene, limits: WatchLimits, before: NodeView | None) -> Judged:
    """Return whether a standby that says that it streams receives what there is."""
    if _is_still_detached(coming, scene, before):
        return _nothing_came((scene.at - (coming.moved_at or scene.at)).total_seconds())
    stuck_s = _stuck_s(coming, scene)
    if stuck_s > limits.stuck_s:
        return _nothing_came(stuck_s)
    return NodeState.STREAMING, ""


def _nothing_came(stuck_s: float) -> Judged:
    return NodeState.DETACHED, f"it says that it streams, and has received nothing for {format_duration(stuck_s)}"


def _is_still_detached(coming: _Coming, scene: Scene, before: NodeView | None) -> bool:
    """Return whether a standby that was detached has received nothing since, and there is something to receive."""
    if before is None or before.state is not NodeState.DETACHED or before.timeline != coming.timeline:
        return False
    if coming.lsn is None or coming.has is None or before.received_lsn is None or coming.lsn > before.received_lsn:
        return False
    return not reached(scene.marks, coming.has).complete


def _stuck_s(coming: _Coming, scene: Scene) -> float:
    """Return for how long a standby has received nothing although there was something, in seconds."""
    if coming.has is None or coming.moved_at is None or not scene.primary_answers:
        return 0.0
    has = reached(scene.marks, coming.has)
    if has.complete:
        return 0.0
    ahead_s = _always_ahead_s(coming.has, scene) if has.at is None else (scene.at - has.at).total_seconds()
    return min((scene.at - coming.moved_at).total_seconds(), ahead_s)


def _always_ahead_s(position: Lsn, scene: Scene) -> float:
    """Return for how long the primary has been seen to be ahead of a position from before all marks, in seconds.

    Where it is ahead by less than a page of WAL it counts only once that must have been flushed.
    """
    memory = scene.memories[scene.primary or ""]
    if memory.reign is None or not scene.marks:
        return 0.0
    seen_s = (scene.at - memory.reign.certain_from).total_seconds()
    return seen_s if scene.marks[0].lsn - position >= PAGE else seen_s - _UNFLUSHED_S
