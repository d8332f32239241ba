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
from replcheck.watch.integrity import IntegrityState, integrity_events
from replcheck.watch.lag import LagState, lag_events
from replcheck.watch.limits import WatchLimits
from replcheck.watch.losses import LossState, loss_events
from replcheck.watch.marks import Marks, extended
from replcheck.watch.members import MemberState, found_nodes, member_events
from replcheck.watch.proofs import ProofState, proof_events, with_proofs
from replcheck.watch.recovery import RecoveryState, recovery_events, recovery_state
from replcheck.watch.roles import RoleState, promotions, role_events, split_between
from replcheck.watch.scene import NodeMemory, Scene, Watched, elect_identifier, find_twins, remember
from replcheck.watch.senders import links_of
from replcheck.watch.states import view_of


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
    view: ClusterView | None = None
    """None before the first sample."""

    @property
    def standings(self) -> Mapping[str, CopyStanding]:
        """Return which copies are proven as of the last sample; empty before `with_proofs`."""
        return self.proofs.standings

    @property
    def proven_copies(self) -> int:
        """Return how many copies are proven, the primary included."""
        return sum(standing.proven for standing in self.standings.values())

    def with_proofs(self, proofs: Iterable[AuditProof], earlier: Iterable[NodeSpan] = ()) -> "FoldState":
        """Return the state that knows these proofs, all that the history holds within their greatest age.

        `earlier` are the spans that the history keeps from before this watch. To be called again after each audit; what
        changes by it is told with the next sample.
        """
        return replace(self, proofs=with_proofs(self.proofs, proofs, earlier))


Folded = tuple[FoldState, tuple[ClusterEvent, ...]]


def begin(cluster: str, nodes: Sequence[Watched]) -> FoldState:
    """Return the state before the first sample of these nodes."""
    return FoldState(cluster=cluster, memories={node.name: NodeMemory(node=node) for node in nodes})


def fold(state: FoldState, sample: Sample, limits: WatchLimits) -> Folded:
    """Return the state after one more sample, and what is to be told of it, in the order in which it was found.

    Results that are not newer than the last one of their node are passed over. So is a whole sample without any.
    """
    memories, fresh = remember(state.memories, sample)
    if state.view is not None and (memories == state.memories or sample.at < state.view.at):
        if memories == state.memories:
            return state, ()
        sample = replace(sample, at=state.view.at)
    scene = _scene(state, memories, fresh, sample.at)
    roles, events = promotions(state.roles, scene)
    marks = _marks(state.marks, roles, scene)
    scene = replace(scene, primary=roles.primary, timeline=roles.timeline, switch_lsn=roles.switch_lsn, marks=marks)
    recovery = recovery_state(state.recovery, scene)
    view = _view(state, scene, recovery.point, limits)
    began = _watch_events(state, sample.at)
    lost_primary = state.roles.primary or roles.primary
    roles, told = role_events(roles, scene, view.nodes)
    events += told
    members, told = member_events(state.members, scene, view)
    events += told
    losses, told = loss_events(state.losses, scene, view, limits, lost_primary)
    # What was lost before what took over.
    events = told + events if any(event.kind is EventKind.PRIMARY_LOST for event in told) else events + told
    lag, told = lag_events(state.lag, scene, view, limits)
    events += told
    recovery, told = recovery_events(recovery, scene, limits)
    events += told
    integrity, told = integrity_events(state.integrity, scene, view.nodes)
    events += told
    proofs, told = proof_events(state.proofs, view, limits)
    events += told
    after = replace(
        state,
        memories=scene.memories,
        watched_since=view.watched_since,
        identifier=scene.identifier,
        marks=marks,
        roles=roles,
        members=members,
        losses=losses,
        lag=lag,
        recovery=recovery,
        integrity=integrity,
        proofs=proofs,
        view=view,
    )
    return after, (*began, *events)


def _scene(state: FoldState, memories: dict[str, NodeMemory], fresh: frozenset[str], at: datetime) -> Scene:
    links, found = links_of(memories)
    return Scene(
        at=at,
        memories=memories,
        before=state.memories,
        fresh=fresh,
        identifier=elect_identifier(memories.values(), state.identifier),
        twins=find_twins(memories.values()),
        primary=state.roles.primary,
        timeline=state.roles.timeline,
        switch_lsn=state.roles.switch_lsn,
        marks=state.marks,
        links=links,
        found=found,
    )


def _marks(marks: Marks, roles: RoleState, scene: Scene) -> Marks:
    memory = scene.memories.get(roles.primary or "")
    if memory is None or memory.answer is None or memory.name not in scene.fresh or not memory.is_primary:
        return marks
    return extended(marks, memory.answer)


def _view(state: FoldState, scene: Scene, point: RecoveryPoint, limits: WatchLimits) -> ClusterView:
    before = {node.node: node for node in state.view.nodes} if state.view is not None else {}
    views = [view_of(memory, scene, limits, before.get(name)) for name, memory in scene.memories.items()]
    nodes = [view or _awaited(name, scene) for name, view in zip(scene.memories, views, strict=True)]
    rivals = split_between(scene)
    primaries = [node.node for node in nodes if node.state is NodeState.PRIMARY]
    return ClusterView(
        cluster=state.cluster,
        at=scene.at,
        watched_since=state.watched_since or scene.at,
        system_identifier=scene.identifier,
        primary=primaries[0] if len(primaries) == 1 and not rivals else None,
        nodes=(*nodes, *found_nodes(state.members, scene, before)),
        recovery_point=point,
        split_brain=bool(rivals),
    )


def _awaited(name: str, scene: Scene) -> NodeView:
    node = scene.memories[name].node
    return NodeView(
        node=name,
        state=NodeState.UNSEEN,
        since=scene.at,
        answered_at=None,
        reason="its first answer is awaited",
        zone=node.zone,
    )


def _watch_events(state: FoldState, at: datetime) -> list[ClusterEvent]:
    if state.view is None:
        what = f"the watch of {len(state.memories)} nodes began"
        return [ClusterEvent(kind=EventKind.WATCH_BEGAN, severity=Severity.INFO, at=at, node=None, what=what)]
    gap_s = (at - state.view.at).total_seconds()
    if gap_s <= GAP_S:
        return []
    return [
        ClusterEvent(
            kind=EventKind.WATCH_GAP,
            severity=Severity.WARNING,
            at=at,
            node=None,
            what=f"nothing was watching for {format_duration(gap_s)}",
            began_at=state.view.at,
            seconds=gap_s,
        )
    ]
