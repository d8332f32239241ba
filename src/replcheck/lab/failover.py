"""Failing over and switching over a lab cluster, as a cluster manager would: one node takes over, the others follow it.

A failover kills the primary first; what no standby had received is lost then, as in life. A switch-over stops it in an
orderly way, and it comes back as a standby at once.
"""

import time
from dataclasses import dataclass

from replcheck.errors import LabError
from replcheck.lab.cluster import LabCluster
from replcheck.lab.planted import Cure
from replcheck.lab.state import FaultState
from replcheck.postgres.server import LocalServer

FAILOVER = "failover"
"""Name under which an old primary that was not copied anew yet is noted."""
_PATIENCE_S = 30.0
_RECEIVED = "select coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0', 0)::bigint"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """Who took over from whom."""

    old: str
    new: str
    seconds: float
    """From the end of the old primary, or from now where it was down already, until the new one took writes."""
    was_down: bool = False
    """Whether the old one was down before, for how long is not known: nobody took writes then either."""


def fail_over(cluster: LabCluster, to: str | None = None) -> TakenOver:
    """Kill the primary, unless it is down already, and promote a standby: the most advanced one, or the one named.

    The other standbys follow it. The old primary stays down and is noted, so that `heal` copies it anew.
    """
    old = cluster.primary
    new = _chosen(cluster, to)
    was_down = not old.running
    began = time.monotonic()
    old.kill()
    new = new or _most_advanced(cluster)
    new.promote()
    seconds = time.monotonic() - began
    _follow(cluster, old, new, [node for node in cluster.standbys if node.running])
    fault = FaultState(fault=FAILOVER, node=old.name, cure=Cure.COPY.name)
    cluster.set_faults((*(other for other in cluster.state.faults if other.node != old.name), fault))
    return TakenOver(old=old.name, new=new.name, seconds=seconds, was_down=was_down)


def switch_over(cluster: LabCluster, to: str | None = None) -> TakenOver:
    """Stop the primary once its standbys have all it wrote, promote one, and have the old primary follow it too."""
    old = cluster.primary
    if not old.running:
        raise LabError(f"node {old.name} does not run", hint="Fail over instead: replcheck lab failover")
    new = _chosen(cluster, to)
    began = time.monotonic()
    old.stop()
    new = new or _most_advanced(cluster)
    new.promote()
    seconds = time.monotonic() - began
    _follow(cluster, old, new, [*(node for node in cluster.standbys if node.running), old])
    return TakenOver(old=old.name, new=new.name, seconds=seconds)


def _chosen(cluster: LabCluster, to: str | None) -> LocalServer | None:
    if not any(node.running for node in cluster.standbys):
        raise LabError(f"cluster {cluster.name} has no running standby", hint="Start one with: replcheck lab heal")
    if to is None:
        return None
    node = cluster.node(to)
    if not node.is_standby or not node.running:
        raise LabError(f"node {to} is no running standby", hint="See them with: replcheck lab status")
    return node


def _most_advanced(cluster: LabCluster) -> LocalServer:
    """Return the running standby that has received most, after all receivers have noticed that their sender is gone."""
    deadline = time.monotonic() + _PATIENCE_S
    standbys = [node for node in cluster.standbys if node.running]
    for node in standbys:
        while node.execute("select 1 from pg_stat_wal_receiver where status = 'streaming'"):
            if time.monotonic() > deadline:
                break  # it streams from another standby, or its connection is cut without a word
            time.sleep(0.02)
    return max(standbys, key=lambda node: int(node.execute(_RECEIVED)[0][0]))


def _follow(cluster: LabCluster, old: LocalServer, new: LocalServer, followers: list[LocalServer]) -> None:
    """Have standbys stream from the new primary; those of another standby stay with it."""
    direct = [node for node in followers if node.name != new.name and cluster.upstream(node.name) in {old.name, None}]
    changes: dict[str, str | None] = {new.name: None, old.name: new.name}
    changes |= {node.name: new.name for node in direct}
    cluster.set_upstreams(changes)
    for node in direct:
        new.execute(
            "select pg_create_physical_replication_slot(%s, true)"
            " where not exists (select from pg_replication_slots where slot_name = %s)",
            [node.name, node.name],
        )
        node.follow(new, slot=node.name)
        if node.running:
            node.reload()
        else:
            node.start()
    cluster.wait_streaming()
