"""Base backups come back with the rows that were there at their target, from every form they are stored in."""

import time
from pathlib import Path

import pytest

from replcheck.drill.layers.checksums import ChecksumsLayer
from replcheck.drill.layers.manifest import ManifestLayer
from replcheck.events import StageProgressed
from replcheck.model.drill import LayerState, Stage, Target, TargetKind
from replcheck.postgres.compression import COMPRESSIONS
from tests.drill.physicals import (
    Place,
    base_source,
    case_of,
    contents,
    copied,
    linked,
    replaced,
    rows_in,
    run_program_on,
    trial,
)

WAL_FILE_BYTES = 16 << 20


def test_a_backup_comes_back_with_all_that_was_archived(place: Place, scratch_root: Path):
    place.archive()  # Whichever tests wrote before.
    before, archived = contents(place.folder / "plain"), contents(place.wal)
    with trial(base_source(place.folder / "plain", place.wal), scratch_root) as made:
        made.layer = ManifestLayer()
        restored = made.run()
        assert (rows_in(restored), rows_in(restored, "other")) == (place.rows(), place.rows("other"))
        assert restored.recovery is not None
        assert restored.recovery.reached
        assert not restored.recovery.in_recovery
        told = [event for event in made.events if isinstance(event, StageProgressed) and event.stage is Stage.RECOVER]
        assert {event.total_bytes for event in told} == {restored.recovery.wal_files * WAL_FILE_BYTES}
        assert made.report is not None
        assert made.report.state is LayerState.PASSED
        assert restored.server is not None
        restored.server.stop()
        assert ChecksumsLayer().run(case_of(made)).state is LayerState.PASSED
    assert contents(place.folder / "plain") == before
    assert contents(place.wal).items() >= archived.items()


def test_a_restore_stands_still_at_a_restore_point(place: Place, scratch_root: Path):
    with trial(base_source(place.folder / "plain", place.wal), scratch_root) as made:
        restored = made.run("half")
        assert rows_in(restored) == 2000
        assert restored.recovery is not None
        assert restored.recovery.reached
        assert restored.recovery.paused
        assert restored.recovery.timeline == 1
        # A layer stops the server, and whoever keeps the copy starts it again.
        assert restored.server is not None
        restored.server.restart()
        assert rows_in(restored) == 2000


def test_a_copy_that_is_kept_at_its_target_can_leave_recovery(place: Place, scratch_root: Path):
    with trial(base_source(place.folder / "plain", place.wal), scratch_root) as made:
        server = made.run("half").server
        assert server is not None
        made.source.kept()
        server.execute("select pg_wal_replay_resume()")
        deadline = time.monotonic() + 30
        while server.execute("select pg_is_in_recovery()") == [(True,)]:
            assert time.monotonic() < deadline, "it never left recovery"
            time.sleep(0.02)
        server.execute("create table written ()")


@pytest.mark.long
def test_a_restore_stops_at_an_lsn_a_time_and_a_seal(place: Place, scratch_root: Path):
    point = place.restore_point("third")
    rows = place.rows()
    time.sleep(0.05)
    [(now,)] = place.primary.execute("select clock_timestamp()::text")
    time.sleep(0.05)
    place.write(rows=7)
    place.archive()
    seal = Target(kind=TargetKind.SEAL, text="seal:x", seal_id="x", name="third")
    for target in (point, now, seal):
        with trial(base_source(place.folder / "plain", place.wal), scratch_root) as made:
            restored = made.run(target)
            assert rows_in(restored) == rows, target
            assert restored.recovery is not None
            assert restored.recovery.reached
            assert restored.recovery.paused


@pytest.mark.long
@pytest.mark.parametrize("ending", ["", *COMPRESSIONS])
def test_tar_archives_and_wal_come_back_from_every_compression(place: Place, scratch_root: Path, ending: str):
    if not (place.folder / "tar").is_dir():
        place.base("tar", plain=False, wal="stream")
    rows = place.rows()
    folder = place.folder / f"compressed{ending}"
    folder.mkdir(mode=0o711)
    backup, wal = copied(place.folder / "tar", folder / "tar"), linked(place.wal, folder / "wal")
    for path in (*backup.glob("*.tar"), *wal.glob("0*")):
        run_program_on(path, ending)
    with trial(base_source(backup, wal), scratch_root) as made:
        made.layer = ManifestLayer()
        assert rows_in(made.run()) == rows
        assert made.report is not None
        assert made.report.state is LayerState.PASSED
        assert made.source.copies()[0].format == f"tar{ending}"


def test_a_tar_backup_with_its_own_wal_needs_no_archive(place: Place, scratch_root: Path):
    folder = place.base("streamed", "--gzip", plain=False, wal="stream")
    rows = place.rows()
    with trial(base_source(folder), scratch_root) as made:
        assert rows_in(made.run()) == rows


@pytest.mark.long
def test_incremental_backups_come_back_combined(place: Place, scratch_root: Path):
    if place.major < 17:
        pytest.skip("PostgreSQL 17 is the first with incremental backups")
    chain = place.folder / "chain"
    chain.mkdir(mode=0o777)
    chain.chmod(0o777)
    place.base("chain/full")
    place.write(rows=10)
    place.base("chain/first", "--incremental", f"{chain}/full/backup_manifest")
    place.write(rows=10)
    place.base("chain/second", "--incremental", f"{chain}/first/backup_manifest")
    place.write(rows=10)
    place.archive()
    for source in (base_source(chain, place.wal), base_source(chain / "second", place.wal)):
        with trial(source, scratch_root) as made:
            made.layer = ManifestLayer()
            assert rows_in(made.run(label="second")) == place.rows()
            assert made.report is not None
            assert made.report.state is LayerState.PASSED
            assert "3 backups" in made.report.checked


@pytest.mark.long
def test_damage_to_a_part_is_seen_though_the_combined_backup_looks_whole(place: Place, scratch_root: Path):
    if place.major < 17:
        pytest.skip("PostgreSQL 17 is the first with incremental backups")
    chain = place.folder / "chain2"
    chain.mkdir(mode=0o777)
    chain.chmod(0o777)
    place.base("chain2/full")
    place.write(rows=10)
    place.base("chain2/first", "--incremental", f"{chain}/full/backup_manifest")
    [(path,)] = place.primary.execute("select pg_relation_filepath('visit')")
    data = bytearray((chain / "full" / path).read_bytes())
    data[8192 * 3 + 8000] ^= 0xFF
    replaced(chain / "full" / path, bytes(data))
    with trial(base_source(chain, place.wal), scratch_root) as made:
        made.layer = ManifestLayer()
        made.run(label="first")
        assert made.report is not None
        assert made.report.state is LayerState.FAILED
        assert [problem.what for problem in made.report.problems] == [
            f"file {path} has another checksum than in the manifest"
        ]


@pytest.mark.long
def test_the_users_own_restore_command_is_used(place: Place, scratch_root: Path):
    command = f"cp '{place.wal}/%f' %p"
    with trial(base_source(place.folder / "plain", restore_command=command), scratch_root) as made:
        assert rows_in(made.run("half")) == 2000


@pytest.mark.long
def test_an_archive_that_only_the_caller_may_read_is_enough(place: Place, scratch_root: Path):
    wal = linked(place.wal, place.folder / "linked_for_closed")
    wal.chmod(0o700)
    with trial(base_source(place.folder / "plain", wal), scratch_root) as made:
        assert rows_in(made.run("half")) == 2000


@pytest.mark.long
def test_settings_that_the_primary_raised_later_are_raised_likewise(place: Place, scratch_root: Path):
    place.primary.configure(max_connections="150")
    place.primary.restart()
    place.write(table="after_more", rows=5)
    place.restore_point("after_more")
    place.write(table="after_more", rows=5)
    place.archive()
    with trial(base_source(place.folder / "plain", place.wal), scratch_root) as made:
        restored = made.run("after_more")
        assert rows_in(restored, "after_more") == 5
        assert restored.recovery is not None
        assert restored.recovery.paused


@pytest.mark.long
def test_the_newest_of_several_backups_stands_first(place: Place):
    several = place.folder / "several"
    several.mkdir(mode=0o777)
    several.chmod(0o777)
    for name in ("b", "a"):
        place.base(f"several/{name}")
        time.sleep(1.1)
    copies = base_source(several).copies()
    assert [copy.label for copy in copies] == ["a", "b"]
    assert copies[0].major == place.major
    assert copies[0].end_lsn is not None
