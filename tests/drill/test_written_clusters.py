"""Backups that are taken while a cluster is written to, sealed meanwhile, and drilled by the command."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from replcheck.lab.backups import ARCHIVING, archive_all, base_backup, begin_archive
from replcheck.lab.cluster import LabCluster
from replcheck.lab.pgbench import PgbenchLoad
from replcheck.postgres.programs import run_program
from tests.commands import run_command
from tests.drill.physicals import own
from tests.drill.provided_servers import provided, write_commands
from tests.drill.repositories import NEEDED, Repository, repository_of
from tests.drill.test_snapshots import at_one_moment

pytestmark = pytest.mark.long
LOAD_ROWS = 100_000
"""What pgbench's tables hold at least."""
BALANCED = (
    "(select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)"
    " and (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)"
    " and (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)"
)
"""Holds after each of pgbench's transactions, and not between two of their statements."""


@pytest.fixture
def cluster(clusters_root: Path, major: int) -> Iterator[LabCluster]:
    settings = {**ARCHIVING, "summarize_wal": "on"} if major >= 17 else ARCHIVING
    with LabCluster.create(
        clusters_root, name=f"written_{os.getpid()}", major=major, standbys=0, settings=settings
    ) as made:
        yield made


@pytest.fixture
def repository(clusters_root: Path, backups_root: Path) -> Iterator[Repository]:
    with repository_of(clusters_root, backups_root, "written_repository") as made:
        grant = "grant execute on function pg_create_restore_point(text) to replcheck_audit"
        made.primary.execute(grant)
        yield made


def settled(seal: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Seal until no transaction was in flight at the restore point: where one was, a drill rightly doubts its rows."""
    for _ in range(20):
        document = seal()
        if document["unsettled"] == 0:
            return document
    raise AssertionError("something was always in flight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where one test's seals and drills are run from, with one backup in the configuration."""

    home: Path
    cluster: LabCluster

    def configure(self, backup: str, more: str = "") -> None:
        (self.home / "clinic.toml").write_text(
            f'cluster = "clinic"\n[nodes]\ndb1 = {{ dsn = "{self.cluster.audit_dsn("primary")}" }}\n'
            f'[backups.nightly]\n{backup}\n[drill]\nscratch = "{self.cluster.directory / "scratch"}"\n{more}'
        )

    def run(self, *words: str, status: int = 0) -> dict[str, Any]:
        ended = run_command(*words, "--format", "json", home=self.home)
        assert ended.status == status, ended
        document: dict[str, Any] = json.loads(ended.out)
        return document

    def seal(self) -> str:
        return str(settled(lambda: self.run("seal", "--config", "clinic.toml"))["seal_id"])

    def prove_sealed(self, seal_id: str, copy: str = "") -> None:
        """Drill to a seal: every sealed row is there and equal."""
        self._prove("seal", "rows against a seal", f"seal:{seal_id}", copy)

    def prove_latest(self, copy: str = "") -> None:
        """Drill to the end of the archive: every row of the primary, which is at rest, is there and equal."""
        self._prove("primary", "rows against the primary", "latest", copy)

    def _prove(self, layer: str, name: str, target: str, copy: str) -> None:
        which = ("--copy", copy) if copy else ()
        words = ("drill", "nightly", "--config", "clinic.toml", *which, "--target", target, "--layer", layer)
        assert_proven(self.run(*words), name)


def assert_proven(document: dict[str, Any], layer: str) -> None:
    [rows] = [found for found in document["layers"] if found["name"] == layer]
    assert (document["verdict"], rows["state"], rows["differences"]) == ("restored", "passed", []), document
    assert rows["rows"] > LOAD_ROWS


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
        seal = settled(lambda: run("seal", "--primary", primary))
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
        assert_proven(found, "rows against a seal")


def test_incremental_backups_of_a_written_cluster_come_back_with_sealed_and_latest_rows(
    cluster: LabCluster, tmp_path: Path
):
    primary = cluster.primary
    if primary.programs.major < 17:
        pytest.skip("PostgreSQL 17 is the first with incremental backups")
    archive, desk, chain = begin_archive(cluster), Desk(home=tmp_path, cluster=cluster), cluster.directory / "chain"
    chain.mkdir(mode=0o711)
    own(chain)
    desk.configure(f'kind = "base"\npath = "{chain}"\nwal = "{archive}"')

    def take(name: str, *options: str) -> None:
        words = ["--pgdata", str(chain / name), "--dbname", primary.dsn(), "--checkpoint", "fast", "--no-sync"]
        words += ["--wal-method", "none", *options]
        run_program(primary.programs, "pg_basebackup", words, account=primary.account, timeout_s=120)

    with PgbenchLoad(cluster, rate=200, clients=4):
        take("full")
        early = desk.seal()
        take("first", "--incremental", f"{chain}/full/backup_manifest")
        take("second", "--incremental", f"{chain}/first/backup_manifest")
        late = desk.seal()
        archive_all(cluster, archive)
        desk.prove_sealed(early, "full")
        desk.prove_sealed(late, "second")
    archive_all(cluster, archive)
    desk.prove_latest("second")


def test_servers_that_commands_provide_of_a_written_cluster_have_the_sealed_rows_and_whole_transactions(
    cluster: LabCluster, tmp_path: Path
):
    archive, desk = begin_archive(cluster), Desk(home=tmp_path, cluster=cluster)

    def provide(restore_point: str) -> None:
        commands = write_commands(tmp_path, cluster, base, archive, restore_point)
        backup = 'kind = "command"\nprovision = ["{}"]\ndestroy = ["{}"]'.format(*commands)
        desk.configure(backup, f'[drill.assertions]\nbalanced = "{BALANCED}"\n')

    with PgbenchLoad(cluster, rate=200, clients=4):
        base = base_backup(cluster, "monday")
        provide("")
        sealed = settled(lambda: desk.run("seal", "--config", "clinic.toml"))
        archive_all(cluster, archive)
        provide(sealed["restore_point"]["name"])
        desk.prove_sealed(sealed["seal_id"])
    archive_all(cluster, archive)
    provide("")
    # Where such a server ends nobody tells, so that its rows are not held against the primary's.
    latest = desk.run("drill", "nightly", "--config", "clinic.toml", "--target", "latest", status=1)
    [asserted] = [found for found in latest["layers"] if found["name"] == "assertions"]
    assert (latest["verdict"], asserted["state"]) == ("restored, rows not compared", "passed"), latest
    assert not provided(cluster).exists()


@NEEDED[0]
@NEEDED[1]
def test_a_repository_of_a_written_cluster_comes_back_with_sealed_and_latest_rows(
    repository: Repository, tmp_path: Path
):
    desk = Desk(home=tmp_path, cluster=repository.cluster)
    desk.configure(f'kind = "pgbackrest"\nstanza = "clinic"\nconfig = "{repository.config}"')
    seals = []
    with PgbenchLoad(repository.cluster, rate=200, clients=4):
        for kind in ("full", "diff", "incr"):
            repository.pgbackrest("backup", f"--type={kind}")
            seals.append(desk.seal())
        repository.settle()
        copies = repository.source().copies()[::-1]
        assert [copy.format for copy in copies] == ["full", "diff", "incr"]
        for seal, copy in zip(seals, copies, strict=True):
            desk.prove_sealed(seal, copy.label)
    repository.settle()
    desk.prove_latest()
