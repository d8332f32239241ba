"""Troubles that befall the nodes while an audit runs, and how everything is brought back afterwards.

A trouble is due once the audit has told so many events. Some hold the audit still between two of its steps, the others
run beside it.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from replcheck.errors import ReplcheckError
from replcheck.events import Event
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.postgres.server import LocalServer
from tests.soak.plans import Disturbance, Trouble

_WHOLE_CLUSTER = frozenset(
    {Trouble.CUT_PRIMARY, Trouble.CANCEL_PRIMARY, Trouble.CRASH_PRIMARY, Trouble.RESTART_PRIMARY, Trouble.FAIL_OVER}
)
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Done:
    """A trouble that came up; `failure` is empty where it could be done."""

    trouble: Trouble
    node: str
    failure: str = ""


class Disturber:
    """Hears an audit's events and does what is due."""

    def __init__(self, cluster: LabCluster, disturbances: Sequence[Disturbance]) -> None:
        self._cluster = cluster
        self._due = sorted(disturbances, key=lambda disturbance: disturbance.at_event)
        self._events = 0
        self._threads: list[threading.Thread] = []
        self.done: list[Done] = []

    def heed(self, _: Event) -> None:
        """Count an event and begin what is due."""
        self._events += 1
        while self._due and self._due[0].at_event <= self._events:
            disturbance = self._due.pop(0)
            if disturbance.holds:
                self._do(disturbance)
            else:
                thread = threading.Thread(target=self._do, args=(disturbance,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def finish(self) -> None:
        """Wait until everything that was begun is over."""
        for thread in self._threads:
            thread.join(timeout=_PATIENCE_S)

    def hampered(self) -> frozenset[str]:
        """Return the nodes that were troubled, with those that stream from them."""
        nodes = set(self._cluster.nodes) if any(done.trouble in _WHOLE_CLUSTER for done in self.done) else set()
        nodes |= {done.node for done in self.done if done.trouble is not Trouble.CHECKPOINT}
        return frozenset(nodes | {name for name in self._cluster.nodes if self._cluster.upstream(name) in nodes})

    def _do(self, disturbance: Disturbance) -> None:
        try:
            if disturbance.trouble in _WHOLE_CLUSTER:
                node = self._cluster.primary
            else:
                standbys = sorted(self._cluster.standbys, key=lambda standby: standby.name)
                node = standbys[disturbance.lot % len(standbys)]
        except (ReplcheckError, ZeroDivisionError):
            return
        # Noted first: an audit that ends meanwhile must know that it was disturbed.
        self.done.append(Done(disturbance.trouble, node.name))
        try:
            _DEEDS[disturbance.trouble](self._cluster, node, disturbance.lasts_s)
        except ReplcheckError as error:
            self.done.append(Done(disturbance.trouble, node.name, error.message))


def bring_back(cluster: LabCluster) -> None:
    """Have every node run, replay and stream again; what was promoted beside the primary is copied anew."""
    for node in cluster.nodes.values():
        node.start()
    primary = cluster.primary
    for name, node in cluster.nodes.items():
        if not node.is_standby and name != primary.name:
            copy_anew(cluster, name)
    for node in cluster.standbys:
        node.execute("select pg_wal_replay_resume() where pg_get_wal_replay_pause_state() <> 'not paused'")
    cluster.wait_streaming()


def copy_anew(cluster: LabCluster, name: str) -> None:
    """Copy a node anew, and those that stream from it: a new copy holds none of the WAL that they may still want."""
    primary = cluster.primary.name
    below = [
        node for node in cluster.standbys if cluster.upstream(node.name) == name and node.name not in (name, primary)
    ]
    for node in below:
        node.stop("immediate")
    cluster.copy_anew(name)
    for node in below:
        cluster.copy_anew(node.name)


def make_slot(server: LocalServer, name: str) -> None:
    """Make a standby's slot on a server where it is missing."""
    server.execute(
        "select pg_create_physical_replication_slot(%s, true) where not exists"
        " (select from pg_replication_slots where slot_name = %s)",
        [name, name],
    )


def _kill(_: LabCluster, node: LocalServer, lasts_s: float) -> None:
    node.kill()
    time.sleep(lasts_s)
    node.start()


def _restart(_: LabCluster, node: LocalServer, lasts_s: float) -> None:
    node.stop("fast")
    time.sleep(lasts_s)
    node.start()


def _immediate(_: LabCluster, node: LocalServer, lasts_s: float) -> None:
    node.stop("immediate")
    time.sleep(lasts_s)
    node.start()


def _stop(_: LabCluster, node: LocalServer, __: float) -> None:
    node.stop("fast")


def _pause(_: LabCluster, node: LocalServer, lasts_s: float) -> None:
    node.execute("select pg_wal_replay_pause()")
    time.sleep(lasts_s)
    node.execute("select pg_wal_replay_resume()")


def _cut(_: LabCluster, node: LocalServer, __: float) -> None:
    node.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = %s and random() < 0.7", [AUDIT_ROLE]
    )


def _cancel(_: LabCluster, node: LocalServer, __: float) -> None:
    node.execute("select pg_cancel_backend(pid) from pg_stat_activity where usename = %s", [AUDIT_ROLE])


def _cut_stream(cluster: LabCluster, node: LocalServer, __: float) -> None:
    for server in cluster.nodes.values():
        if server.running:
            server.execute(
                "select pg_terminate_backend(pid) from pg_stat_replication where application_name = %s", [node.name]
            )


def _freeze_replay(_: LabCluster, node: LocalServer, lasts_s: float) -> None:
    _freeze(node, "select pid from pg_stat_activity where backend_type = 'startup'", lasts_s)


def _freeze_backend(_: LabCluster, node: LocalServer, lasts_s: float) -> None:
    _freeze(node, f"select pid from pg_stat_activity where usename = '{AUDIT_ROLE}' order by random() limit 1", lasts_s)


def _freeze(node: LocalServer, query: str, lasts_s: float) -> None:
    for (pid,) in node.execute(query):
        try:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(lasts_s)
        except ProcessLookupError:
            continue
        finally:
            _thaw(pid)


def _thaw(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def _checkpoint(cluster: LabCluster, node: LocalServer, __: float) -> None:
    cluster.primary.execute("select pg_switch_wal()")
    cluster.primary.execute("checkpoint")
    node.execute("checkpoint")


def _promote(_: LabCluster, node: LocalServer, __: float) -> None:
    node.promote()


def _fail_over(cluster: LabCluster, old: LocalServer, lasts_s: float) -> None:
    """Lose the primary, promote the standby that has received most, have the other follow it, and copy the old one."""
    old.kill()
    standbys = sorted(cluster.standbys, key=lambda standby: standby.name)
    received = {standby.name: _received(standby) for standby in standbys}
    new = max(standbys, key=lambda standby: received[standby.name])
    new.promote()
    for other in standbys:
        if other is not new:
            make_slot(new, other.name)
            other.follow(new, slot=other.name)
            other.restart()
    time.sleep(lasts_s)
    cluster.copy_anew(old.name)


def _received(standby: LocalServer) -> int:
    [(position,)] = standby.execute(
        "select greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn"
    )
    return int(position)


_DEEDS: Mapping[Trouble, Callable[[LabCluster, LocalServer, float], None]] = {
    Trouble.KILL: _kill,
    Trouble.RESTART: _restart,
    Trouble.IMMEDIATE: _immediate,
    Trouble.STOP: _stop,
    Trouble.PAUSE: _pause,
    Trouble.CUT: _cut,
    Trouble.CANCEL: _cancel,
    Trouble.CUT_STREAM: _cut_stream,
    Trouble.FREEZE_REPLAY: _freeze_replay,
    Trouble.FREEZE_BACKEND: _freeze_backend,
    Trouble.CHECKPOINT: _checkpoint,
    Trouble.CUT_PRIMARY: _cut,
    Trouble.CANCEL_PRIMARY: _cancel,
    Trouble.CRASH_PRIMARY: _kill,
    Trouble.RESTART_PRIMARY: _restart,
    Trouble.PROMOTE: _promote,
    Trouble.FAIL_OVER: _fail_over,
}
