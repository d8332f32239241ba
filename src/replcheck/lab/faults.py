"""The faults that the lab can plant, by name: what each does, what an audit should say of it, how it is healed.

A fault is done to one node the way it happens in life: to the files of a stopped server, or to a running one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType

from replcheck.errors import LabError
from replcheck.lab import file_faults, index_faults, node_faults, row_faults
from replcheck.lab.backups import resume_archive
from replcheck.lab.cluster import LabCluster
from replcheck.lab.planted import Cure, PlantedFault
from replcheck.lab.state import FaultState
from replcheck.lab.surgery import Site
from replcheck.postgres.server import LocalServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of damage that can be done to a node."""

    name: str
    plant: Callable[[Site], PlantedFault]
    on_primary: bool = False
    """Whether it is done to the primary unless a node is named."""

    @property
    def what(self) -> str:
        """Return in one sentence what it does."""
        text = self.plant.__doc__ or ""
        return " ".join(text.partition("\n\n")[0].split())


_ALL = (
    Fault(name="flip-row-bytes", plant=row_faults.flip_row_bytes),
    Fault(name="flip-on-primary", plant=row_faults.flip_on_primary, on_primary=True),
    Fault(name="flip-page-bytes", plant=row_faults.flip_page_bytes),
    Fault(name="zero-page", plant=file_faults.zero_page),
    Fault(name="break-page-header", plant=file_faults.break_page_header),
    Fault(name="lose-row", plant=row_faults.lose_row),
    Fault(name="hide-row", plant=row_faults.hide_row),
    Fault(name="invent-row", plant=row_faults.invent_row),
    Fault(name="swap-rows", plant=row_faults.swap_rows),
    Fault(name="lost-write", plant=file_faults.lost_write),
    Fault(name="truncate-file", plant=file_faults.truncate_file),
    Fault(name="missing-file", plant=file_faults.missing_file),
    Fault(name="corrupt-toast", plant=row_faults.corrupt_toast),
    Fault(name="lose-toast-chunk", plant=row_faults.lose_toast_chunk),
    Fault(name="sequence-behind", plant=file_faults.sequence_behind),
    Fault(name="index-mismatch", plant=index_faults.index_mismatch),
    Fault(name="pause-replay", plant=node_faults.pause_replay),
    Fault(name="cut-connection", plant=node_faults.cut_connection),
    Fault(name="delay-apply", plant=node_faults.delay_apply),
    Fault(name="kill-server", plant=node_faults.kill_server),
    Fault(name="stop-server", plant=node_faults.stop_server),
    Fault(name="freeze-stream", plant=node_faults.freeze_stream),
    Fault(name="hang-server", plant=node_faults.hang_server),
    Fault(name="break-archive", plant=node_faults.break_archive, on_primary=True),
    Fault(name="promote", plant=node_faults.promote),
    Fault(name="split-brain", plant=node_faults.split_brain),
)
FAULTS: Mapping[str, Fault] = MappingProxyType({fault.name: fault for fault in _ALL})


def apply_fault(
    cluster: LabCluster,
    name: str,
    *,
    node: str | None = None,
    database: str = "postgres",
    relation: str | None = None,
    seed: int = 0,
) -> PlantedFault:
    """Do a fault to a node, note it in the cluster's state, and return what an audit should find.

    `node` is by default the first standby, or the primary for a fault of it; `relation` by default the lab's quiet
    table, else the largest of the database; `seed` chooses the row. Raise LabError where it cannot be done.
    """
    try:
        fault = FAULTS[name]
    except KeyError:
        raise LabError(f"there is no fault {name}", hint="List them with: replcheck lab break --list") from None
    target = cluster.node(node) if node else _default_node(cluster, fault)
    if not target.running:
        raise LabError(f"node {target.name} does not run", hint="Start it with: replcheck lab heal")
    site = Site(
        cluster=cluster,
        node=target,
        database=database,
        relation=relation,
        rng=Random(seed),  # noqa: S311  reproducible on purpose
    )
    was_primary = site.on_primary
    planted = replace(fault.plant(site), fault=name)
    cluster.set_faults((*cluster.state.faults, FaultState(fault=name, node=target.name, cure=planted.cure.name)))
    return planted.seen_from_replicas() if was_primary else planted


def heal(cluster: LabCluster, node: str | None = None) -> list[str]:
    """Heal a node, or all of them, of every fault that was noted, and return what was done, a clause each.

    A server that somebody stopped or killed by other means, which nobody noted, is started again.
    The damaged files of a primary cannot be healed: raise LabError, after all others were.
    """
    done = []
    for name in dict.fromkeys(fault.node for fault in cluster.state.faults if node in (None, fault.node)):
        cures = {Cure[fault.cure] for fault in cluster.state.faults if fault.node == name}
        if Cure.COPY in cures and cluster.upstream(name) is None:
            continue
        for cure in [Cure.COPY] if Cure.COPY in cures else sorted(cures, key=list(Cure).index):
            _CURES[cure](cluster, cluster.node(name))
            done.append(f"node {name} {cure.value}")
        cluster.set_faults(tuple(fault for fault in cluster.state.faults if fault.node != name))
    for name in cluster.nodes if node is None else [node]:
        if not cluster.node(name).running:
            cluster.node(name).start()
            done.append(f"node {name} {Cure.START.value}")
    if cluster.state.faults and node is None:
        raise LabError(
            "the files of the primary are damaged, and it has nothing to be copied from",
            hint="Remove the cluster and make another: replcheck lab down",
        )
    return done


def _default_node(cluster: LabCluster, fault: Fault) -> LocalServer:
    if fault.on_primary:
        return cluster.primary
    if not cluster.standbys:
        raise LabError(f"cluster {cluster.name} has no standby", hint="Name a node with --node.")
    return cluster.standbys[0]


def _copy(cluster: LabCluster, node: LocalServer) -> None:
    cluster.copy_anew(node.name)


def _resume(_: LabCluster, node: LocalServer) -> None:
    node.start()
    node.execute("select pg_wal_replay_resume()")


def _reconnect(cluster: LabCluster, node: LocalServer) -> None:
    node.follow(cluster.node(cluster.upstream(node.name) or cluster.primary.name), slot=node.name)
    node.start()
    node.reload()
    cluster.wait_streaming()


def _hurry(_: LabCluster, node: LocalServer) -> None:
    node.configure(recovery_min_apply_delay=None)
    node.start()
    node.reload()


def _start(_: LabCluster, node: LocalServer) -> None:
    node.start()


def _thaw(cluster: LabCluster, _: LocalServer) -> None:
    for node in cluster.nodes.values():
        node.thaw()


def _archive_again(cluster: LabCluster, node: LocalServer) -> None:
    resume_archive(cluster, node)


_CURES: Mapping[Cure, Callable[[LabCluster, LocalServer], None]] = MappingProxyType(
    {Cure.COPY: _copy, Cure.RESUME: _resume, Cure.RECONNECT: _reconnect, Cure.HURRY: _hurry, Cure.START: _start}
    | {Cure.THAW: _thaw, Cure.ARCHIVE: _archive_again}
)
