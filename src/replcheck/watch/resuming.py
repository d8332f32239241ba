"""What a new watch takes over from the last view of an earlier one: nothing is told twice or missed between them.

A view is all that outlives a watch. What it does not hold (positions of the past, how often something flapped) is
learnt anew.
"""

from collections.abc import Collection

from replcheck.model.live import ClusterView, NodeState, NodeView
from replcheck.watch.integrity import IntegrityState, NodeIntegrity
from replcheck.watch.lag import LagState, excess
from replcheck.watch.latch import OFF, Latch
from replcheck.watch.limits import WatchLimits
from replcheck.watch.losses import LossState, NodeLosses
from replcheck.watch.members import Member, MemberState
from replcheck.watch.proofs import ProofState
from replcheck.watch.recovery import RecoveryState, is_failing, is_told_unknown
from replcheck.watch.roles import ASTRAY, RoleState
from replcheck.watch.scene import NodeMemory, Watched

_STANDBYS = frozenset({NodeState.STREAMING, NodeState.DETACHED})
_AWAY = frozenset({NodeState.LOST, NodeState.STARTING, NodeState.UNSEEN})


def recalled(node: Watched, earlier: ClusterView) -> NodeMemory:
    """Return what an earlier view tells of a node; it does not count as an answer of this watch."""
    view = _views(earlier).get(node.name)
    if view is None:
        return NodeMemory(node=node)
    return NodeMemory(
        node=node,
        left=view,
        timeline=view.timeline,
        wrote_at=view.answered_at if node.name == earlier.last_primary and view.state not in _STANDBYS else None,
        # A standby that streamed may have had nothing to receive for long.
        received_at=view.since if view.state is NodeState.DETACHED else None,
    )


def roles(earlier: ClusterView, names: Collection[str]) -> RoleState:
    """Return who was the primary, as far as those are nodes of this watch."""
    switching = earlier.switching
    if switching is not None and not {switching.old, switching.new} <= set(names):
        switching = None
    return RoleState(
        primary=earlier.last_primary if earlier.last_primary in names else None,
        timeline=earlier.timeline,
        switch_lsn=switching.lsn if switching else None,
        pending=switching,
        is_recalled=switching is not None,
        former=frozenset(earlier.former_primaries) & frozenset(names),
        split=_latch(earlier.split_brain, earlier),
        strayed={node.node: Latch(since=node.since) for node in earlier.nodes if node.state in ASTRAY},
    )


def members(earlier: ClusterView, names: Collection[str]) -> MemberState:
    """Return the standbys that were found and are not configured since."""
    return MemberState(
        found={
            node.node: Member(
                seen_since=node.since, seen_at=earlier.at, host=node.host, told=True, upstream=node.upstream
            )
            for node in earlier.nodes
            if not node.configured and node.node not in names
        }
    )


def losses(earlier: ClusterView, limits: WatchLimits) -> LossState:
    """Return what was away, detached or short."""
    running = earlier.running_copies
    short = limits.copies is not None and running < limits.copies
    return LossState(
        nodes={node.node: _losses(node, earlier) for node in earlier.nodes},
        most_copies=running,
        short=_latch(short, earlier),
    )


def _losses(node: NodeView, earlier: ClusterView) -> NodeLosses:
    copy = node.state.is_running_copy
    away = node.state in _AWAY
    detached = node.state is NodeState.DETACHED
    return NodeLosses(
        away=Latch(since=node.since, times=(node.since,)) if away else OFF,
        told_lost=away and node.state is not NodeState.UNSEEN,
        detached=Latch(since=node.since, times=(node.since,)) if detached else OFF,
        gone_at=None if copy or node.answered_at is None else node.since,
        seen_gone_at=None if copy else earlier.at,
        was_copy=copy or node.answered_at is not None,
        anew=node.state is NodeState.FOREIGN,
        strayed_start=node.started_at if node.state is NodeState.STRAYED else None,
    )


def lag(earlier: ClusterView, limits: WatchLimits) -> LagState:
    """Return which standbys were behind or paused."""
    return LagState(
        over={node.node: Latch(since=earlier.at) for node in earlier.nodes if excess(node, limits)},
        paused={node.node: Latch(since=earlier.at) for node in earlier.nodes if node.replay_paused},
    )


def recovery(earlier: ClusterView, limits: WatchLimits) -> RecoveryState:
    """Return whether the archive was late or failing."""
    age_s = earlier.recovery_point.age_s
    watched_s = (earlier.at - earlier.watched_since).total_seconds()
    late = limits.recovery_age_s is not None and (
        age_s > limits.recovery_age_s
        if age_s is not None
        else is_told_unknown(earlier.recovery_point, watched_s, limits.recovery_age_s)
    )
    primary = _views(earlier).get(earlier.last_primary or "")
    failing = primary is not None and primary.archiver is not None and is_failing(primary.archiver)
    return RecoveryState(over=_latch(late, earlier), failing=_latch(failing, earlier))


def integrity(earlier: ClusterView) -> IntegrityState:
    """Return which damage was told."""
    return IntegrityState(
        nodes={
            node.node: NodeIntegrity(
                failures=node.checksum_failures or 0,
                told_failures=node.checksum_failures or 0,
                lost_slots=frozenset(slot.name for slot in node.slots if slot.wal_status == "lost"),
            )
            for node in earlier.nodes
        }
    )


def proofs(earlier: ClusterView, limits: WatchLimits) -> ProofState:
    """Return whether too few copies were proven."""
    proven = earlier.proven_copies
    return ProofState(
        short=_latch(limits.proven is not None and proven is not None and proven < limits.proven, earlier)
    )


def _latch(holds: bool, earlier: ClusterView) -> Latch:
    return Latch(since=earlier.at) if holds else OFF


def _views(earlier: ClusterView) -> dict[str, NodeView]:
    return {node.node: node for node in earlier.nodes}
