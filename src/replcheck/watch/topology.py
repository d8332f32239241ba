"""The cluster's life, folded from samples: `fold` takes a sample in and gives the new state and what is to be told.

Pure: no clock, no driver, no file. The state holds a bounded amount, however long the watch goes on. Each subject has a
module of its own with its own part of the state; here they are put together, in the order in which they need each
other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from replcheck.model.copies import AuditProof, CopyStanding
from replcheck.model.live import (
    ClusterEvent,
    ClusterView,
    EventKind,
    NodeState,
    NodeView,
    RecoveryPoint,
    Sample,
    Severity,
)
from replcheck.model.spans import GAP_S, NodeSpan
from replcheck.model.units import format_duration
from replcheck.watch import resuming
from replcheck.watch.integrity import IntegrityState, integrity_events
from replcheck.watch.lag import LagState, lag_events
from replcheck.watch.limits import WatchLimits
from replcheck.watch.losses import LossState, loss_events
from replcheck.watch.marks import Marks, extended
from replcheck.watch.members import MemberState, found_nodes, member_events
from replcheck.watch.proofs import ProofState, proof_events, with_proofs
from replcheck.watch.recovery import RecoveryState, recovery_events, recovery_state
from replcheck.watch.resuming import recalled
from replcheck.watch.roles import RoleState, promotions, role_events, split_between
from replcheck.watch.scene import NodeMemory, Scene, Watched, elect_identifier, find_twins, remember
from replcheck.watch.senders import links_of
from replcheck.watch.states import left_view, view_of


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldState:
    """Everything that is known of a cluster after the samples so far."""

    cluster: str
    memories: Mapping[str, NodeMemory]
    """Of the configured nodes, in their order."""
    watched_since: datetime | None = None
    identifier: str | None = None
    marks: Marks = ()
    roles: RoleState = field(default_factory=RoleState)
    members: MemberState = field(default_factory=MemberState)
    losses: LossState = field(default_factory=LossState)
    lag: LagState = field(default_factory=LagState)
    recovery: RecoveryState = field(default_factory=RecoveryState)
    integrity: IntegrityState = field(default_factory=IntegrityState)
    proofs: ProofState = field(default_factory=ProofState)
    earlier: ClusterView | None = None
    """The last view of an earlier watch."""
    view: ClusterView | None = None
    """None before the first sample."""

    @property
    def standings(self) -> Mapping[str, CopyStanding]:
        """Return which copies are proven as of the last sample; empty before `with_proofs`."""
        return self.proofs.standings

    @property
    def proven_copies(self) -> int:
        """Return how many copies are proven, the primary included."""
        return self.proofs.proven

    def with_proofs(self, proofs: Iterable[AuditProof], earlier: Iterable[NodeSpan] = ()) -> "FoldState":
        """Return the state that knows these proofs, all that the history holds within their greatest age.

        `earlier` are the spans that the history keeps from before this watch. To be called again after each audit; what
        changes by it is told with the next sample.
        """
        return replace(self, proofs=with_proofs(self.proofs, proofs, earlier))


Folded = tuple[FoldState, tuple[ClusterEvent, ...]]


def begin(
    cluster: str,
    nodes: Sequence[Watched],
    *,
    earlier: ClusterView | None = None,
    limits: WatchLimits | None = None,
) -> FoldState:
    """Return the state before the first sample of these nodes.

    `earlier` is the last view of an earlier watch of the cluster: what it showed is not told again, what changed since
    is. Where it is older than `GAP_S` the first sample also tells of the gap.
    """
    state = FoldState(cluster=cluster, memories={node.name: NodeMemory(node=node) for node in nodes})
    if earlier is None or earlier.cluster != cluster:
        return state
    limits = limits or WatchLimits()
    return replace(
        state,
        memories={node.name: recalled(node, earlier) for node in nodes},
        identifier=earlier.system_identifier,
        roles=resuming.roles(earlier, state.memories),
        members=resuming.members(earlier, state.memories),
        losses=resuming.losses(earlier, limits),
        lag=resuming.lag(earlier, limits),
        recovery=resuming.recovery(earlier, limits),
        integrity=resuming.integrity(earlier),
        proofs=resuming.proofs(earlier, limits),
        earlier=earlier,
    )


def fold(state: FoldState, sample: Sample, limits: WatchLimits) -> Folded:
    """Return the state after one more sample, and what is to be told of it.

    Results that are not newer than the last one of their node are passed over, and so is a sample of nothing else.
    """
    memories, fresh = remember(state.memories, sample)
    if state.view is not None and memories == state.memories:
        return state, ()
    at = max(sample.at, state.view.at) if state.view is not None else sample.at
    scene = _scene(state, memories, fresh, at)
    roles, promoted = promotions(state.roles, scene)
    marks = _marks(state.marks, roles, scene)
    scene = replace(
        scene,
        primary=roles.primary,
        primaries=_primaries(state.roles, roles),
        timeline=roles.timeline,
        switch_lsn=roles.switch_lsn,
        marks=marks,
    )
    scene = replace(scene, rivals=split_between(scene))
    recovery = recovery_state(state.recovery, scene)
    view = _view(state, scene, roles, recovery.point, limits)
    after = replace(
        state,
        memories=memories,
        watched_since=view.watched_since,
        identifier=scene.identifier,
        marks=marks,
        roles=roles,
        recovery=recovery,
        view=view,
    )
    after, told = _told(after, scene, view, limits, promoted)
    return after, (*_watch_events(state, at), *told)


def _told(
    state: FoldState, scene: Scene, view: ClusterView, limits: WatchLimits, promoted: list[ClusterEvent]
) -> Folded:
    """Return the state with what each subject tells of the view, losses before what took over."""
    losses, of_losses = loss_events(state.losses, scene, view, limits)
    roles, of_roles = role_events(state.roles, scene, view.nodes)
    members, of_members = member_events(state.members, scene, view)
    lag, of_lag = lag_events(state.lag, scene, view, limits)
    recovery, of_recovery = recovery_events(state.recovery, scene, limits)
    integrity, of_integrity = integrity_events(state.integrity, scene, view.nodes)
    proofs, of_proofs = proof_events(state.proofs, view, limits)
    after = replace(
        state,
        losses=losses,
        roles=roles,
        members=members,
        lag=lag,
        recovery=recovery,
        integrity=integrity,
        proofs=proofs,
        view=replace(view, proven_copies=proofs.proven if proofs.known else None, switching=roles.pending),
    )
    told = (of_losses, promoted, of_roles, of_members, of_lag, of_recovery, of_integrity, of_proofs)
    return after, tuple(event for events in told for event in events)


def _scene(state: FoldState, memories: dict[str, NodeMemory], fresh: frozenset[str], at: datetime) -> Scene:
    identifier = elect_identifier(memories.values(), state.identifier)
    links, found = links_of(memories, identifier)
    return Scene(
        at=at,
        memories=memories,
        before=state.memories,
        fresh=fresh,
        identifier=identifier,
        twins=find_twins(memories.values()),
        primary=state.roles.primary,
        primaries=frozenset(),
        timeline=state.roles.timeline,
        switch_lsn=state.roles.switch_lsn,
        marks=state.marks,
        links=links,
        found=found,
    )


def _primaries(before: RoleState, after: RoleState) -> frozenset[str]:
    known = (before.primary, after.primary, after.pending.old if after.pending else None)
    return frozenset(name for name in known if name is not None)


def _marks(marks: Marks, roles: RoleState, scene: Scene) -> Marks:
    memory = scene.memories.get(roles.primary or "")
    if memory is None or memory.answer is None or memory.name not in scene.fresh or not memory.is_primary:
        return marks
    return extended(marks, memory.answer)


def _view(state: FoldState, scene: Scene, roles: RoleState, point: RecoveryPoint, limits: WatchLimits) -> ClusterView:
    before = _views_before(state, scene.at)
    views = [view_of(memory, scene, limits, before.get(name)) for name, memory in scene.memories.items()]
    nodes = [view or _awaited(name, scene) for name, view in zip(scene.memories, views, strict=True)]
    found = found_nodes(state.members, scene, nodes, before, limits)
    primaries = [node.node for node in nodes if node.state is NodeState.PRIMARY]
    return ClusterView(
        cluster=state.cluster,
        at=scene.at,
        watched_since=state.watched_since or scene.at,
        system_identifier=scene.identifier,
        primary=primaries[0] if len(primaries) == 1 and not scene.rivals else None,
        nodes=(*nodes, *found),
        recovery_point=point,
        split_brain=bool(scene.rivals),
        last_primary=roles.primary,
        timeline=roles.timeline,
        former_primaries=tuple(sorted(roles.former)),
    )


def _views_before(state: FoldState, at: datetime) -> dict[str, NodeView]:
    """Return the views of the nodes so far; those of an earlier watch only where it goes on without a gap."""
    last = state.view
    if last is None and state.earlier is not None and (at - state.earlier.at).total_seconds() <= GAP_S:
        last = state.earlier
    return {node.node: node for node in last.nodes} if last is not None else {}


def _awaited(name: str, scene: Scene) -> NodeView:
    memory, reason = scene.memories[name], "its first answer is awaited"
    zone = memory.node.zone
    if memory.left is not None:
        return left_view(memory.left, NodeState.UNSEEN, scene.at, reason, zone=zone)
    return NodeView(node=name, state=NodeState.UNSEEN, since=scene.at, answered_at=None, reason=reason, zone=zone)


def _watch_events(state: FoldState, at: datetime) -> list[ClusterEvent]:
    last = state.view or state.earlier
    gap_s = (at - last.at).total_seconds() if last is not None else 0.0
    events = []
    if last is not None and gap_s > GAP_S:
        gap = ClusterEvent(
            kind=EventKind.WATCH_GAP,
            severity=Severity.WARNING,
            at=at,
            node=None,
            what=f"nothing was watching for {format_duration(gap_s)}",
            began_at=last.at,
            seconds=gap_s,
        )
        events.append(gap)
    if state.view is None:
        what = f"the watch of {len(state.memories)} nodes began"
        events.append(ClusterEvent(kind=EventKind.WATCH_BEGAN, severity=Severity.INFO, at=at, node=None, what=what))
    return events
