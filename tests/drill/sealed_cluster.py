"""A primary that archives, sealed and restored by hand: what the tests of seals stand on."""

import asyncio
import itertools
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from replcheck.drill.backups.source import Restored
from replcheck.drill.layers.layer import Case, Layer
from replcheck.drill.seal_options import SealOptions
from replcheck.drill.sealing import connect_primary, seal_primary
from replcheck.drill.stages import Stages
from replcheck.events import Event
from replcheck.lab.cluster import LabCluster
from replcheck.model.drill import BackupKind, CopyFacts, LayerReport, RecoveryFacts, RowDifference, Target, TargetKind
from replcheck.model.node import NodeTarget
from replcheck.model.seal import SealManifest
from replcheck.model.wal import Lsn
from replcheck.postgres import processes
from replcheck.postgres.programs import run_program
from replcheck.postgres.server import LocalServer, make_private_folder
from tests.conftest import MakeCluster
from tests.staged import until, value

ACCESS = "local all all trust\n"

_numbers = itertools.count(1)


def archiving_cluster(make_cluster: MakeCluster, major: int, **settings: str) -> LabCluster:
    """Return a primary of its own whose WAL goes to `archive_of` it; the audit role may make restore points."""
    cluster = make_cluster(major=major, standbys=0, settings={"autovacuum": "off", "archive_mode": "on", **settings})
    make_private_folder(archive_of(cluster), cluster.primary.account)
    cluster.primary.configure(archive_command=f"cp %p {archive_of(cluster)}/%f")
    cluster.primary.reload()
    cluster.primary.execute("grant execute on function pg_create_restore_point(text) to replcheck_audit")
    return cluster


def archive_of(cluster: LabCluster) -> Path:
    """Return the folder of a cluster's WAL archive."""
    return cluster.directory / "archive"


def base_backup(cluster: LabCluster, name: str = "base") -> Path:
    """Take a base backup of the primary into a folder of the cluster."""
    folder = cluster.directory / name
    primary = cluster.primary
    make_private_folder(folder, primary.account)
    arguments = ["--pgdata", str(folder), "--dbname", primary.dsn(), "--checkpoint", "fast", "--no-sync"]
    run_program(primary.programs, "pg_basebackup", arguments, account=primary.account, timeout_s=120)
    return folder


async def sealed(
    cluster: LabCluster, *, superuser: bool = False, events: list[Event] | None = None, **options: Any
) -> SealManifest:
    """Seal the primary of a cluster, under the audit role by default."""
    chosen = SealOptions(**options)
    dsn = cluster.primary.dsn() if superuser else cluster.audit_dsn("primary")
    emit = events.append if events is not None else lambda _: None
    handle = await connect_primary(NodeTarget(name="db1", dsn=dsn), chosen, emit)
    try:
        manifest, _ = await seal_primary(
            handle, chosen, seal_id=_new_id(), cluster="clinic", emit=emit, stop=asyncio.Event()
        )
        return manifest
    finally:
        await handle.close()


def _new_id() -> str:
    # As each run has its own: recovery to a name stops at the first restore point that bears it.
    return f"0195aaaa-{next(_numbers)}"


def seal(cluster: LabCluster, **options: Any) -> SealManifest:
    """Do the same as `sealed` from a test that is not asynchronous."""
    return asyncio.run(sealed(cluster, **options))


def archive_all(cluster: LabCluster) -> None:
    """Wait until everything that was written is in the archive."""
    primary = cluster.primary
    last = value(primary, "select pg_walfile_name(pg_switch_wal())")
    until((archive_of(cluster) / last).exists, "the WAL is archived")


@contextmanager
def restored(
    cluster: LabCluster,
    backup: Path,
    target: Mapping[str, str],
    *,
    name: str = "copy",
    action: str = "pause",
) -> Iterator[tuple[LocalServer, Restored]]:
    """Restore a base backup to a target with a server of its own; gone afterwards."""
    primary = cluster.primary
    server = LocalServer(
        name=name,
        programs=primary.programs,
        account=primary.account,
        directory=cluster.directory / name,
        socket_dir=primary.socket_dir,
        port=primary.port + 100,
    )
    kept = {"max_connections", "max_prepared_transactions", "max_wal_senders", "wal_level", "max_worker_processes"}
    settings = {setting: text for setting, text in primary.settings().items() if setting in kept}
    settings |= {
        "autovacuum": "off",
        "fsync": "off",
        "hot_standby": "on",
        "restore_command": f"cp {archive_of(cluster)}/%f %p",
        "recovery_target_action": action,
        **target,
    }
    server.prepare(settings=settings, access=ACCESS)
    shutil.copytree(backup, server.data_dir, symlinks=True, copy_function=shutil.copy2)
    _give(server.data_dir, server)
    signal = server.data_dir / "recovery.signal"
    signal.touch(mode=0o600)
    _give(signal, server)
    server.start()
    try:
        done = (
            "select pg_get_wal_replay_pause_state() = 'paused'"
            if action == "pause"
            else "select not pg_is_in_recovery()"
        )
        until(lambda: value(server, done), "the copy stands at its target")
        yield (
            server,
            Restored(
                kind=BackupKind.BASE,
                dsn=server.dsn(),
                server=server,
                programs=server.programs,
                databases=None,
                recovery=RecoveryFacts(
                    reached=True,
                    in_recovery=action == "pause",
                    paused=action == "pause",
                    timeline=value(server, "select timeline_id from pg_control_checkpoint()"),
                    replayed=Lsn.parse(value(server, "select pg_last_wal_replay_lsn()::text")),
                    last_commit_at=None,
                ),
            ),
        )
    finally:
        processes.kill_all_in(server.data_dir)
        shutil.rmtree(server.directory)


def to_seal(manifest: SealManifest) -> Mapping[str, str]:
    """Return the settings that recover to a seal's restore point."""
    return MappingProxyType({"recovery_target_name": manifest.restore_point.name})


def run_layer(layer: Layer, copy: Restored, *, kind: TargetKind = TargetKind.SEAL, label: str = "base") -> LayerReport:
    """Run one layer on a copy."""
    case = Case(
        copy=CopyFacts(label=label, kind=copy.kind),
        target=Target(kind=kind, text="seal"),
        restored=copy,
        data_dir=copy.server.data_dir if copy.server else None,
        stages=Stages(lambda _: None),
    )
    return layer.run(case)


def difference_of(report: LayerReport, relation: str) -> RowDifference:
    """Return the one difference of a relation."""
    [found] = [found for found in report.differences if found.relation == relation]
    return found


def _give(path: Path, server: LocalServer) -> None:
    account = server.account
    if account is None:
        return
    for each in (path, *(path.rglob("*") if path.is_dir() else ())):
        shutil.chown(each, account.uid, account.gid)
