"""Backups that are taken while a cluster is written to, sealed meanwhile, and drilled by the command."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replcheck.lab.backups import ARCHIVING, archive_all, base_backup, begin_archive
from replcheck.lab.cluster import LabCluster
from replcheck.lab.pgbench import PgbenchLoad
from replcheck.postgres.programs import run_program
from tests.commands import run_command
from tests.drill.test_snapshots import at_one_moment

pytestmark = pytest.mark.long


@pytest.fixture
def cluster(clusters_root: Path, major: int) -> Iterator[LabCluster]:
    with LabCluster.create(
        clusters_root, name=f"written_{os.getpid()}", major=major, standbys=0, settings=ARCHIVING
    ) as made:
        yield made


def test_backups_of_a_written_cluster_come_back_with_the_sealed_rows(cluster: LabCluster, tmp_path: Path):
    def run(*words: str) -> dict[str, Any]:
        ended = run_command(*words, "--format", "json", home=tmp_path)
        assert ended.status == 0, ended
        document: dict[str, Any] = json.loads(ended.out)
        return document

    archive, primary = begin_archive(cluster), cluster.audit_dsn("primary")
    with PgbenchLoad(cluster, rate=200, clients=4):
        base = base_backup(cluster, "monday")
        snapshot = cluster.directory / "snapshot"
        with at_one_moment(cluster.primary):
            shutil.copytree(cluster.primary.data_dir, snapshot, symlinks=True)
        seal = run("seal", "--primary", primary)
        dumped = run("seal", "--primary", primary, "--database", "postgres", "--dump", "postgres.dump")
    archive_all(cluster, archive)
    roles = tmp_path / "globals.sql"
    words = ["--globals-only", "--dbname", cluster.primary.dsn(), "--file", str(roles)]
    run_program(cluster.primary.programs, "pg_dumpall", words)
    scratch = ("--scratch", str(cluster.directory / "scratch"), "--layer", "seal")
    drills = [
        run("drill", "--from", source, *more, "--target", f"seal:{made['seal_id']}", *scratch)
        for source, more, made in (
            (f"base:{base}", ("--wal", str(archive)), seal),
            (f"snapshot:{snapshot}", ("--wal", str(archive)), seal),
            ("dump:postgres.dump", ("--globals", str(roles)), dumped),
        )
    ]
    for found in drills:
        [rows] = [layer for layer in found["layers"] if layer["name"] == "rows against a seal"]
        assert (found["verdict"], rows["state"], rows["differences"]) == ("restored", "passed", [])
        assert rows["rows"] > 100_000
