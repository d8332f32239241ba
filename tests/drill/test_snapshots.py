"""A copy of a running server's files, as a file system's snapshot would be: it recovers as after a power cut."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from replcheck.config.model import SnapshotBackup
from replcheck.drill.backups.snapshot import SnapshotSource
from replcheck.errors import BackupRefuted, DrillBlocked
from replcheck.lab.cluster import LabCluster
from replcheck.postgres import processes
from replcheck.postgres.server import LocalServer
from tests.drill.physicals import Place, contents, replaced, rows_in, trial


@contextmanager
def at_one_moment(server: LocalServer) -> Iterator[None]:
    """Stop every process of a server, as the atomic moment of a snapshot does."""
    pids = processes.processes_in(server.data_dir)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def snapshot(place: Place) -> Iterator[Path]:
    """A snapshot of a server with a replication slot."""
    place.primary.execute("select pg_create_physical_replication_slot('left_behind', true)")
    folder = place.folder / "snapshot"
    with at_one_moment(place.primary):
        shutil.copytree(place.primary.data_dir, folder, symlinks=True)
    place.primary.execute("select pg_drop_replication_slot('left_behind')")
    yield folder
    shutil.rmtree(folder)


def source(path: Path, wal: Path | None = None) -> SnapshotSource:
    return SnapshotSource(
        name="test", section=SnapshotBackup(kind="snapshot", path=str(path), wal=str(wal) if wal else None)
    )


def test_a_snapshot_comes_back_as_after_a_power_cut(place: Place, scratch_root: Path, snapshot: Path):
    rows = place.rows()
    replaced(snapshot / "postgresql.auto.conf", b"primary_conninfo = 'host=/nowhere'\nport = 1\n")
    (snapshot / "standby.signal").touch()
    before = contents(snapshot)
    with trial(source(snapshot), scratch_root) as made:
        restored = made.run()
        assert rows_in(restored) == rows
        assert restored.server is not None
        assert restored.server.execute("select count(*) from pg_replication_slots") == [(0,)]
    assert contents(snapshot) == before


@pytest.mark.long
def test_a_snapshot_goes_on_into_the_archive(place: Place, scratch_root: Path, snapshot: Path):
    place.write(rows=5)
    place.restore_point("after_snapshot")
    place.write(rows=5)
    place.archive()
    with trial(source(snapshot, place.wal), scratch_root) as made:
        restored = made.run("after_snapshot")
        assert rows_in(restored) == place.rows() - 5
        assert restored.recovery is not None
        assert restored.recovery.reached


@pytest.mark.long
def test_a_snapshot_without_its_wal_is_refuted(place: Place, scratch_root: Path, snapshot: Path):
    shutil.rmtree(snapshot / "pg_wal")
    (snapshot / "pg_wal").symlink_to(place.primary.data_dir / "pg_wal")
    with trial(source(snapshot, place.wal), scratch_root) as made, pytest.raises(BackupRefuted) as raised:
        made.run()
    assert raised.value.code == "wal_missing"


@pytest.mark.long
def test_a_snapshot_whose_newest_wal_is_gone_is_refuted(place: Place, scratch_root: Path, snapshot: Path):
    for path in (snapshot / "pg_wal").glob("0*"):
        path.unlink()
    (snapshot / "pg_wal" / "kept").touch()
    with trial(source(snapshot), scratch_root) as made, pytest.raises(BackupRefuted) as raised:
        made.run()
    assert raised.value.code == "wal_missing"


@pytest.mark.long
def test_the_data_directory_of_a_running_server_is_no_snapshot(place: Place, scratch_root: Path):
    with trial(source(place.primary.data_dir), scratch_root) as made, pytest.raises(DrillBlocked) as raised:
        made.run()
    assert raised.value.code == "not_a_snapshot"


@pytest.mark.long
def test_a_snapshot_of_a_cluster_with_minimal_wal_comes_back(
    place: Place, scratch_root: Path, make_cluster: Callable[..., LabCluster]
):
    settings = {"wal_level": "minimal", "max_wal_senders": "0"}
    other = make_cluster(standbys=0, major=place.major, settings=settings)
    other.primary.execute("create table visit as select generate_series(1, 70) id")
    folder = place.folder / "minimal"
    other.primary.kill()
    shutil.copytree(other.primary.data_dir, folder, symlinks=True)
    with trial(source(folder), scratch_root) as made:
        restored = made.run()
        assert rows_in(restored) == 70
        assert restored.recovery is not None
        assert restored.recovery.reached
