"""A repository of pgBackRest with the cluster that it is of, made with the real program."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from replcheck.config.model import PgBackRestBackup
from replcheck.drill.backups.pgbackrest import PgBackRestSource
from replcheck.lab.cluster import LabCluster
from replcheck.postgres.programs import available_programs, process_options
from tests.drill.physicals import Place, own

MAJOR = 15
"""The newest that Debian's pgBackRest knows."""
NEEDED = (
    pytest.mark.skipif(shutil.which("pgbackrest") is None, reason="pgbackrest is not installed"),
    pytest.mark.skipif(
        all(programs.major != MAJOR for programs in available_programs()),
        reason=f"PostgreSQL {MAJOR} is not installed, the newest that this pgbackrest knows",
    ),
)


class Repository(Place):
    """A primary that archives through pgBackRest."""

    @property
    def config(self) -> Path:
        return self.folder / "pgbackrest.conf"

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def pgbackrest(self, *words: str) -> None:
        subprocess.run(
            ["pgbackrest", f"--config={self.config}", "--stanza=clinic", *words],
            **process_options(self.primary.account),
            check=True,
            capture_output=True,
        )

    def source(self, stanza: str = "clinic") -> PgBackRestSource:
        section = PgBackRestBackup(kind="pgbackrest", stanza=stanza, config=str(self.config), jobs=2)
        return PgBackRestSource(name="nightly", section=section)

    def settle(self) -> None:
        """Archive all WAL up to now."""
        self.primary.execute("select pg_logical_emit_message(true, 'test', 'x')")
        self.primary.execute("select pg_switch_wal()")
        self.pgbackrest("check")


@contextmanager
def repository_of(clusters_root: Path, backups_root: Path, name: str, stored: str = "") -> Iterator[Repository]:
    """Make a cluster and a stanza for it, without any backup yet; both go with the block.

    `stored` are lines of the configuration that say how the repository stores.
    """
    # New each time: a worker that takes over tests of another comes back to what it had left.
    folder = Path(tempfile.mkdtemp(prefix="pgbackrest", dir=backups_root))
    folder.chmod(0o755)
    own(folder)
    config = folder / "pgbackrest.conf"
    settings = {
        "archive_mode": "on",
        "archive_command": f"pgbackrest --config={config} --stanza=clinic archive-push %p",
    }
    with LabCluster.create(
        clusters_root, name=f"{name}_{os.getpid()}", major=MAJOR, standbys=0, settings=settings
    ) as cluster:
        made = Repository(cluster=cluster, folder=folder)
        primary = made.primary
        config.write_text(
            f"[global]\nrepo1-path={made.repository}\nlog-level-file=off\nlock-path={folder}/locks\n"
            f"spool-path={folder}/spool\nstart-fast=y\njob-retry=0\n{stored}"
            f"[clinic]\npg1-path={primary.data_dir}\npg1-socket-path={primary.socket_dir}\npg1-port={primary.port}\n"
            "pg1-user=postgres\n"
        )
        own(config)
        made.pgbackrest("stanza-create")
        yield made
