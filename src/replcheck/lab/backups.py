"""Backups of a lab's primary, with the WAL archive that belongs to them, and copies of them that are damaged.

All lies in the cluster's own folder and goes with it.
"""

import os
import shutil
import time
from pathlib import Path
from types import MappingProxyType

from replcheck.errors import LabError
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.postgres.local import sql
from replcheck.postgres.programs import run_program
from replcheck.postgres.server import LocalServer, make_private_folder

ARCHIVING = MappingProxyType({"archive_mode": "on"})
"""Settings with which a cluster must be made to have an archive later."""
_BLOCK = 8192
_PATIENCE_S = 60.0


def begin_archive(cluster: LabCluster) -> Path:
    """Have the primary, whoever it is, copy its WAL into a folder of the cluster's from now on, and return it.

    The audits' role may make seals from then on, and copies of the databases there are can be checked with amcheck.
    """
    folder = _archive(cluster)
    make_private_folder(folder, cluster.primary.account)
    for node in cluster.nodes.values():
        resume_archive(cluster, node)
    cluster.primary.execute(
        sql.SQL("grant execute on function pg_create_restore_point(text) to {}").format(sql.Identifier(AUDIT_ROLE))
    )
    if cluster.primary.execute("select 1 from pg_available_extensions where name = 'amcheck'"):
        for database in ("postgres", "template1"):
            cluster.primary.execute("create extension if not exists amcheck", dbname=database)
    return folder


def resume_archive(cluster: LabCluster, node: LocalServer) -> None:
    """Have a node archive into the cluster's folder, if it is or becomes the primary."""
    folder = _archive(cluster)
    node.configure(archive_command=f"cp %p {folder}/.%f && mv {folder}/.%f {folder}/%f")
    node.reload()


def archives(cluster: LabCluster) -> bool:
    """Return whether a cluster has an archive."""
    return _archive(cluster).is_dir()


def _archive(cluster: LabCluster) -> Path:
    return cluster.directory / "wal"


def base_backup(cluster: LabCluster, name: str) -> Path:
    """Take a base backup of the primary, with its manifest and without WAL, and return its folder."""
    primary = cluster.primary
    shelf = cluster.directory / "backups"
    if not shelf.exists():
        make_private_folder(shelf, primary.account)
    arguments = ["--pgdata", str(shelf / name), "--dbname", primary.dsn(), "--checkpoint", "fast"]
    arguments += ["--wal-method", "none", "--no-sync", "--no-verify-checksums"]
    run_program(primary.programs, "pg_basebackup", arguments, account=primary.account, timeout_s=300)
    return shelf / name


def archive_all(cluster: LabCluster, archive: Path) -> None:
    """Wait until the WAL written so far is in the archive; raise LabError where that takes too long."""
    [(segment,)] = cluster.primary.execute("select pg_walfile_name(pg_switch_wal())")
    deadline = time.monotonic() + _PATIENCE_S
    while not (archive / str(segment)).exists():
        if time.monotonic() > deadline:
            raise LabError(f"WAL segment {segment} was not archived within {_PATIENCE_S:g} s")
        time.sleep(0.05)


def damaged_copy(cluster: LabCluster, backup: Path, relation: str) -> tuple[Path, str, int]:
    """Copy a backup, flip one bit in the middle of a relation's file, and return the copy, the file and the block.

    The relation is one of database `postgres`.
    """
    [(file,)] = cluster.primary.execute("select pg_relation_filepath(%s::regclass)", [relation])
    copy = backup.with_name(f"{backup.name}-damaged")
    shutil.copytree(backup, copy, symlinks=True)
    path = copy / str(file)
    block = path.stat().st_size // _BLOCK // 2
    with path.open("r+b") as stream:
        # Behind the last row of a page lies its end, where rows begin: the last bytes are a row's.
        stream.seek((block + 1) * _BLOCK - 40)
        [byte] = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 4]))
    return copy, str(file), block
