"""What a seal and a drill cost: the first against the bare digest query, the second against the same work by hand."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import commands, subjects
from benchmarks.commands import Ran
from replcheck.errors import LabError
from replcheck.lab.backups import ARCHIVING, archive_all, base_backup, begin_archive
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.postgres.local import sql
from replcheck.postgres.programs import run_program
from replcheck.postgres.server import LocalServer

_PATIENCE_S = 600.0
_NEEDED = ("max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions")
"""Settings that a hot standby must have at least as large as its primary."""


def allow_seals(cluster: LabCluster) -> None:
    """Let the audits' role make restore points."""
    cluster.primary.execute(
        sql.SQL("grant execute on function pg_create_restore_point(text) to {}").format(sql.Identifier(AUDIT_ROLE)),
        dbname=subjects.DATABASE,
    )


def seal(cluster: LabCluster, folder: Path) -> Ran:
    """Seal the table by the command; raise LabError where it is not sealed whole."""
    words = ["seal", "--primary", cluster.audit_dsn("primary", subjects.DATABASE), "--database", subjects.DATABASE]
    words += ["--table", subjects.TABLE, "--no-catalogs", "--folder", str(folder), "--no-store", "--format", "json"]
    return _said(words, "proven")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restorable:
    """A base backup of the table with its archive, and a seal of the whole cluster that was made after it."""

    cluster: LabCluster
    backup: Path
    archive: Path
    seal: Path
    restore_point: str

    @property
    def size_bytes(self) -> int:
        """Return the bytes of the backup's files."""
        return sum(path.stat().st_size for path in self.backup.rglob("*") if path.is_file())

    def drill(self) -> Ran:
        """Drill by the command; raise LabError where it proves anything else than that all rows came back."""
        words = ["drill", "--from", f"base:{self.backup}", "--wal", str(self.archive), "--target", f"seal:{self.seal}"]
        words += ["--scratch", str(self.cluster.directory / "scratch"), "--no-store", "--format", "json"]
        return _said(words, "proven")

    def by_hand(self) -> None:
        """Copy, recover and pg_amcheck by hand what a drill checks, in the same databases, and remove the copy."""
        primary = self.cluster.primary
        server = replace(primary, name="hand", directory=self.cluster.directory / "hand", port=primary.port + 1)
        needed = {name: primary.execute(f"show {name}")[0][0] for name in _NEEDED}
        recovery = {
            "restore_command": f'cp "{self.archive}/%f" "%p"',
            "recovery_target_name": self.restore_point,
            "recovery_target_action": "pause",
        }
        quiet = {"autovacuum": "off", "fsync": "off", "archive_mode": "off", "shared_buffers": "128MB"}
        try:
            server.prepare(settings={**needed, **quiet, **recovery}, access="local all all trust\n")
            # As one would: the copy keeps the owner that servers run as.
            shutil.copytree(self.backup, server.data_dir, copy_function=_copied)
            _given_away(server)
            server.start(timeout_s=_PATIENCE_S)
            _wait(server, "select pg_is_wal_replay_paused()")
            arguments = ["--host", str(server.socket_dir), "--port", str(server.port), "--username", "postgres"]
            arguments += ["--heapallindexed", "--database", subjects.DATABASE, "--database", "postgres"]
            run_program(server.programs, "pg_amcheck", arguments, account=server.account, timeout_s=_PATIENCE_S)
        finally:
            server.stop()
            shutil.rmtree(server.directory, ignore_errors=True)


@contextmanager
def restorable(root: Path, rows: int) -> Iterator[Restorable]:
    """Make a primary with a base backup of so many rows, some WAL behind it, and a seal."""
    with subjects.cluster_of(root, standbys=0, settings=dict(ARCHIVING)) as cluster:
        archive = begin_archive(cluster)
        cluster.primary.execute("create extension amcheck", dbname=subjects.DATABASE)
        subjects.add_records(cluster, 1, rows)
        backup = base_backup(cluster, "bench")
        subjects.add_records(cluster, rows + 1, rows + rows // 20)
        folder = cluster.directory / "seals"
        words = ["seal", "--primary", cluster.audit_dsn("primary", subjects.DATABASE), "--folder", str(folder)]
        document = json.loads(_said([*words, "--no-store", "--format", "json"], "proven").output)
        archive_all(cluster, archive)
        [manifest] = folder.iterdir()
        point = document["restore_point"]
        name = point["name"] if isinstance(point, dict) else point
        yield Restorable(cluster=cluster, backup=backup, archive=archive, seal=manifest, restore_point=name)


def _said(words: list[str], outcome: str) -> Ran:
    ran = commands.run(commands.replcheck(*words))
    try:
        document: dict[str, Any] = json.loads(ran.output[ran.output.index("{") :])
    except ValueError as exc:
        raise LabError(f"{words[0]} failed: {ran.output[-500:]}") from exc
    if document["outcome"] != outcome:
        raise LabError(f"{words[0]} said {document['outcome']}, not {outcome}: {ran.output[-2000:]}")
    return ran


def _copied(source: str, target: str) -> str:
    return str(shutil.copyfile(source, target))


def _given_away(server: LocalServer) -> None:
    (server.data_dir / "recovery.signal").touch()
    for path in (server.data_dir, *server.data_dir.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
        if server.account is not None:
            shutil.chown(path, server.account.uid, server.account.gid)


def _wait(server: LocalServer, question: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while server.execute(question) != [(True,)]:
        if time.monotonic() > deadline:
            raise LabError(f"server {server.name} did not get there in {_PATIENCE_S:g} s")
        time.sleep(0.02)
