"""Looks at the servers once a second while an audit runs, and closes the gate while they bear more than was allowed."""

import asyncio
from collections.abc import Iterable

from replcheck.audit.cluster import Cluster
from replcheck.audit.handles import NodeHandle
from replcheck.audit.options import AuditOptions, Pacing
from replcheck.audit.pressure import Pressure, PressureWatch
from replcheck.errors import NodeError, NodeUnfit
from replcheck.model.wal import Lsn
from replcheck.postgres import advice, pressure
from replcheck.postgres.wal import insert_lsn, replay_state

LIMITS = "limits"
"""Who closes the gate here."""
_LOOK_S = 1.0


def require_visible(nodes: Iterable[NodeHandle], options: AuditOptions) -> None:
    """Raise NodeUnfit where the role can't see what a limit is about: a brake that never pulls would be a lie."""
    for node in nodes:
        needed = options.pause_if.need_monitor
        if needed and not (node.facts.privileges.monitors or node.facts.privileges.superuser):
            raise NodeUnfit(
                f'pause_if.{needed[0]} cannot be watched on node "{node.name}": the role may not see sessions',
                node=node.name,
                hint=advice.grant_monitor(node.facts.privileges.role),
            )


async def monitor(cluster: Cluster) -> None:
    """Watch until cancelled; a node that does not answer is left out of a look."""
    watch = PressureWatch(cluster.options.pause_if, brakes=cluster.options.pacing is not Pacing.FULL)
    while True:
        reasons = watch.take(await _look(cluster))
        if reasons:
            cluster.gate.close(LIMITS, "; ".join(reasons))
        else:
            cluster.gate.open(LIMITS)
        await asyncio.sleep(_LOOK_S)


async def _look(cluster: Cluster) -> Pressure:
    limits = cluster.options.pause_if
    at = asyncio.get_running_loop().time()
    lag = await _lag(cluster)
    clients: dict[str, int] = {}
    age = checkpoints = None
    try:
        primary = await cluster.primary.control()
        if limits.xmin_age is not None:
            age = await pressure.xmin_age(primary)
        if limits.checkpoints_per_min is not None:
            checkpoints = await pressure.checkpoints_requested(primary)
    except NodeError:
        pass
    if limits.active_clients is not None:
        counted = await asyncio.gather(*(_active_clients(node) for node in cluster.nodes))
        clients = {node.name: count for node, count in zip(cluster.nodes, counted, strict=True) if count is not None}
    return Pressure(at=at, lag_bytes=lag, active_clients=clients, xmin_age=age, checkpoints_requested=checkpoints)


async def _lag(cluster: Cluster) -> dict[str, int]:
    try:
        inserted = await insert_lsn(await cluster.primary.control())
    except NodeError:
        return {}
    replicas = [node for node in cluster.replicas.values() if node.usable]
    found = await asyncio.gather(*(_lag_of(node, inserted) for node in replicas))
    return {node.name: lag for node, lag in zip(replicas, found, strict=True) if lag is not None}


async def _lag_of(node: NodeHandle, inserted: Lsn) -> int | None:
    try:
        return max(0, inserted - (await replay_state(await node.control())).replayed)
    except NodeError:
        return None


async def _active_clients(node: NodeHandle) -> int | None:
    if not node.usable:
        return None
    try:
        return await pressure.active_clients(await node.control())
    except NodeError:
        return None
