"""One look at all nodes: a sample, folded into a view by the same rules as those of a watch.

A watch that goes on knows more than one look can: since when a standby receives nothing, and to which second the
archive reaches. So what it saw in the last seconds is not forgotten.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from replcheck.model.live import ClusterView, NodeState, NodeView, RecoveryPoint, Sample, SilenceCode
from replcheck.model.node import NodeTarget
from replcheck.postgres import dsn
from replcheck.runs.check_archive import seen_at_once
from replcheck.runs.check_facts import Looked
from replcheck.runs.check_request import CheckRequest
from replcheck.runs.targets import configured_targets
from replcheck.watch.sampler import Sampler
from replcheck.watch.scene import Watched
from replcheck.watch.topology import begin, fold

_STILL_WATCHED_S = 15.0
"""How old the view of a recorder may be that is at work: it writes one every second."""
_ONCE_MORE = frozenset({SilenceCode.UNREACHABLE, SilenceCode.TIMEOUT})


def look_at_nodes(request: CheckRequest, earlier: ClusterView | None) -> Looked:
    """Return what one look at every node shows; a node that does not answer is asked once more."""
    targets = configured_targets(request.configuration)
    sample = asyncio.run(_sample(targets))
    state = begin(request.cluster, _watched(targets), earlier=earlier, limits=request.limits)
    state, _ = fold(state, sample, request.limits)
    assert state.view is not None  # noqa: S101 - a state that was given a sample has one
    view, asked = state.view, request.policy.recovery_point
    if asked is not None:
        view = replace(view, recovery_point=seen_at_once(view, sample, asked.max_age))
    times = sorted(answer.server_at for answer in sample.answers)
    return Looked(view=_with_watch(view, earlier), servers_at=times[len(times) // 2] if times else None)


async def _sample(targets: Sequence[NodeTarget]) -> Sample:
    first = await Sampler(targets).once()
    silent = {silence.node for silence in first.silences if silence.code in _ONCE_MORE}
    if not silent:
        return first
    # One packet that is lost must not make a cluster look broken.
    again = await Sampler([target for target in targets if target.name in silent]).once()
    return Sample(
        at=max(first.at, again.at),
        answers=(*first.answers, *again.answers),
        silences=(*(one for one in first.silences if one.node not in silent), *again.silences),
    )


def _watched(targets: Sequence[NodeTarget]) -> tuple[Watched, ...]:
    return tuple(
        Watched(name=target.name, zone=target.zone, hosts=frozenset(dsn.hosts(target.dsn))) for target in targets
    )


def _with_watch(view: ClusterView, earlier: ClusterView | None) -> ClusterView:
    """Return the view with what only a watch at work can know, where there is one."""
    if earlier is None or not timedelta(0) <= view.at - earlier.at <= timedelta(seconds=_STILL_WATCHED_S):
        return view
    known = {node.node: node for node in earlier.nodes}
    nodes = tuple(_with_detached(node, known.get(node.node)) for node in view.nodes)
    return replace(view, nodes=nodes, recovery_point=_younger(view, earlier))


def _younger(view: ClusterView, earlier: ClusterView) -> RecoveryPoint:
    """Return the recovery point that is known to be younger: either may be told as older than it is."""
    now, before = view.recovery_point, earlier.recovery_point
    if before.age_s is None:
        return now
    passed_s = (view.at - earlier.at).total_seconds()
    if now.age_s is not None and now.age_s <= before.age_s + passed_s:
        return now
    return replace(before, age_s=before.age_s + passed_s)


def _with_detached(node: NodeView, watched: NodeView | None) -> NodeView:
    """Return a standby as detached where the watch saw that it receives nothing, whatever word its receiver has."""
    stuck = watched is not None and watched.state is NodeState.DETACHED and node.state is NodeState.STREAMING
    return replace(node, state=watched.state, reason=watched.reason) if stuck and watched is not None else node
