"""What is wrong with a backup or its WAL is named precisely, and a sound part of it is never blamed."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from replcheck.drill.backups.supply import require_archive
from replcheck.drill.layers.checksums import ChecksumsLayer
from replcheck.drill.layers.layer import Layer, Moment
from replcheck.drill.layers.manifest import ManifestLayer
from replcheck.errors import BackupRefuted, DrillBlocked, DrillError, Interrupted, NotArchived
from replcheck.lab.cluster import LabCluster
from replcheck.model.drill import LayerReport, LayerState
from tests.drill.physicals import Place, base_source, case_of, copied, linked, replaced, trial

SEGMENT = 16 * 1024**2


@pytest.fixture
def damage(place: Place, scratch_root: Path, tmp_path_factory: pytest.TempPathFactory) -> "Damage":
    return Damage(place, scratch_root)


class Damage:
    """Copies of a backup and its archive that may be broken, and restores of them."""

    count = 0

    def __init__(self, place: Place, scratch_root: Path) -> None:
        Damage.count += 1
        self.place = place
        self._scratch_root = scratch_root
        self.folder = place.folder / f"damaged{Damage.count}"
        self.folder.mkdir(mode=0o711)
        self.backup = place.folder / "plain"
        self.wal = place.wal

    def copy_backup(self) -> Path:
        self.backup = copied(self.backup, self.folder / "backup")
        return self.backup

    def copy_wal(self) -> Path:
        self.wal = linked(self.wal, self.folder / "wal")
        return self.wal

    def segments(self) -> list[Path]:
        """Return the copied WAL after the start of the backup."""
        paths = sorted(path for path in self.wal.iterdir() if re.fullmatch("[0-9A-F]{24}", path.name))
        start = int((self.backup / "backup_label").read_text().partition("(file ")[2][8:24], 16)
        return [path for path in paths if int(path.name[8:], 16) >= start]

    def refusal(self, target: str = "latest", error: type[DrillError] = BackupRefuted) -> DrillError:
        with trial(base_source(self.backup, self.wal), self._scratch_root) as made, pytest.raises(error) as raised:
            made.run(target)
        assert "secret note" not in raised.value.message + raised.value.hint
        return raised.value

    def report(self, layer: Layer) -> LayerReport:
        with trial(base_source(self.backup, self.wal), self._scratch_root) as made:
            made.layer, made.only_fetch = layer, layer.moment is Moment.FETCHED
            if made.only_fetch:
                with pytest.raises(Interrupted):
                    made.run("half")
                assert made.report is not None
                return made.report
            restored = made.run("half")
            assert restored.server is not None
            restored.server.stop()
            return layer.run(case_of(made))


def test_a_missing_wal_file_is_named_though_the_server_promotes_before_it(damage: Damage):
    damage.copy_wal()
    missing, later = damage.segments()[2:4]
    missing.unlink()
    refusal = damage.refusal("latest")
    assert refusal.code == "wal_missing"
    assert f"WAL file {missing.name} is missing, while {later.name} is there" in refusal.message
    assert re.search(r"recovery got to 0/[0-9A-F]+, the last commit at 20", refusal.message)


@pytest.mark.long
def test_a_missing_wal_file_before_a_target_is_named(damage: Damage):
    damage.copy_wal()
    missing = damage.segments()[1]
    missing.unlink()
    refusal = damage.refusal("half")
    assert refusal.code == "wal_missing"
    assert missing.name in refusal.message


@pytest.mark.long
def test_an_archive_without_the_first_wal_file_is_told(damage: Damage):
    damage.copy_wal()
    first = damage.segments()[0]
    first.unlink()
    refusal = damage.refusal()
    assert refusal.code == "wal_missing"
    assert first.name in refusal.message


def test_a_corrupt_wal_file_is_named_with_the_position_of_the_bad_record(damage: Damage):
    damage.copy_wal()
    path = damage.segments()[1]
    data = bytearray(path.read_bytes())
    data[70_000:70_400] = bytes(400)
    replaced(path, bytes(data))
    refusal = damage.refusal("latest")
    assert refusal.code == "wal_corrupt"
    assert f"WAL file {path.name} is damaged: " in refusal.message
    assert re.search(r"at 0/[0-9A-F]+; recovery got to 0/", refusal.message)


@pytest.mark.long
def test_a_corrupt_wal_file_before_a_target_is_named(damage: Damage):
    damage.copy_wal()
    path = damage.segments()[1]
    data = bytearray(path.read_bytes())
    data[16384:24576] = bytes(8192)
    replaced(path, bytes(data))
    refusal = damage.refusal("half")
    assert refusal.code == "wal_corrupt"
    assert path.name in refusal.message


def test_a_truncated_wal_file_is_named(damage: Damage):
    damage.copy_wal()
    path = damage.segments()[1]
    replaced(path, path.read_bytes()[:1_000_000])
    refusal = damage.refusal()
    assert refusal.code == "wal_corrupt"
    assert refusal.message == f"WAL file {path.name} is 1000000 bytes long instead of {SEGMENT}"


@pytest.mark.long
def test_a_compressed_wal_file_that_was_cut_off_is_named(damage: Damage):
    damage.copy_wal()
    path = damage.segments()[1]
    path.unlink()
    path.with_name(path.name + ".gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03rubbish")
    refusal = damage.refusal()
    assert refusal.code == "wal_corrupt"
    assert f"{path.name}.gz" in refusal.message


def test_wal_of_another_cluster_is_told_before_it_is_replayed(damage: Damage):
    damage.copy_wal()
    path = damage.segments()[1]
    data = bytearray(path.read_bytes())
    data[24:32] = (1234567).to_bytes(8, "little")
    replaced(path, bytes(data))
    refusal = damage.refusal()
    assert refusal.code == "wal_foreign"
    assert "1234567" in refusal.message


def test_an_archive_that_hands_out_nothing_is_told_apart_from_one_that_ends(place: Place, scratch_root: Path):
    source = base_source(place.folder / "plain", restore_command="false")
    with trial(source, scratch_root) as made, pytest.raises(DrillBlocked) as raised:
        made.run("half")
    assert raised.value.code == "archive_silent"
    (place.folder / "no_wal").mkdir()
    with pytest.raises(DrillBlocked) as raised:
        require_archive(str(place.folder / "no_wal"))
    assert raised.value.code == "archive_empty"


@pytest.mark.long
def test_a_target_behind_a_backup_without_an_archive_is_not_tried(place: Place, scratch_root: Path):
    backup = place.base("alone", wal="fetch")
    with trial(base_source(backup), scratch_root) as made, pytest.raises(DrillBlocked) as raised:
        made.run("F/0")
    assert raised.value.code == "no_archive"


@pytest.mark.long
def test_a_restore_point_that_never_was_leaves_it_unchecked(damage: Damage):
    refusal = damage.refusal("never_made", DrillBlocked)
    assert refusal.code == "target_not_reached"
    assert "recovery got to 0/" in refusal.message


@pytest.mark.long
@pytest.mark.parametrize("target", ["F/0", "2200-01-01 00:00:00+00"])
def test_a_target_behind_the_end_of_the_archive_names_the_file_that_would_come_next(damage: Damage, target: str):
    damage.copy_wal()
    last = int(damage.segments()[-1].name[-8:], 16)
    refusal = damage.refusal(target, NotArchived)
    assert isinstance(refusal, NotArchived)
    assert (refusal.missing, refusal.in_part) == (f"0000000100000000{last + 1:08X}", False)
    assert "recovery got to 0/" in refusal.progress


@pytest.mark.long
def test_a_target_behind_a_file_that_was_copied_half_written_says_so(damage: Damage):
    damage.copy_wal()
    last = damage.segments()[-1]
    replaced(last, last.read_bytes()[:60].ljust(SEGMENT, b"\0"))  # It ends in its first record.
    refusal = damage.refusal("F/0", NotArchived)
    assert isinstance(refusal, NotArchived)
    assert (refusal.missing, refusal.in_part) == (last.name, True)


@pytest.mark.long
def test_a_target_before_the_backup_leaves_it_unchecked(damage: Damage):
    blocked = damage.refusal("2020-01-01 00:00:00+00", DrillBlocked)
    assert blocked.code == "target_before_backup"


@pytest.mark.long
def test_a_timeline_that_does_not_come_from_the_backup_is_told(damage: Damage):
    wal = damage.copy_wal()
    (wal / "00000002.history").write_text("1\t0/1000000\tno recovery target specified\n")
    refusal = damage.refusal()
    assert refusal.code == "wrong_timeline"


@pytest.mark.long
def test_a_timeline_without_its_history_is_told_though_the_server_promotes_before_it(damage: Damage):
    damage.copy_wal()
    last = damage.segments()[-1]
    last.rename(last.with_name("00000002" + last.name[8:]))
    refusal = damage.refusal("latest")
    assert refusal.code == "wrong_timeline"
    assert "lacks 00000002.history" in refusal.message


@pytest.mark.long
def test_a_last_wal_file_that_was_copied_half_written_is_no_damage(damage: Damage, scratch_root: Path):
    damage.copy_wal()
    last = damage.segments()[-1]
    replaced(last, last.read_bytes()[:8192].ljust(SEGMENT, b"\0"))
    with trial(base_source(damage.backup, damage.wal), scratch_root) as made:
        restored = made.run()
        assert restored.recovery is not None
        assert restored.recovery.reached


@pytest.mark.long
def test_a_base_backup_without_its_label_is_refuted(damage: Damage):
    (damage.copy_backup() / "backup_label").unlink()
    damage.wal = damage.place.wal
    refusal = damage.refusal()
    assert refusal.code == "backup_label_missing"


def remove_control(backup: Path) -> None:
    (backup / "global" / "pg_control").unlink()


def damage_control(backup: Path) -> None:
    path = backup / "global" / "pg_control"
    data = bytearray(path.read_bytes())
    data[100] ^= 0xFF
    replaced(path, bytes(data))


def remove_version(backup: Path) -> None:
    (backup / "PG_VERSION").unlink()


def garble_label(backup: Path) -> None:
    replaced(backup / "backup_label", b"START WAL\n")


def remove_map(backup: Path) -> None:
    (backup / "global" / "pg_filenode.map").unlink()


@pytest.mark.long
@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (remove_control, "incomplete"),
        (damage_control, "control_damaged"),
        (remove_version, "incomplete"),
        (garble_label, "backup_label_damaged"),
        (remove_map, "file_missing"),
    ],
)
def test_damage_to_the_files_that_a_server_needs_is_named(damage: Damage, harm: Callable[[Path], None], code: str):
    harm(damage.copy_backup())
    assert damage.refusal("half").code == code


def test_a_truncated_tar_archive_is_refuted(place: Place, scratch_root: Path):
    folder = place.base("cut", "--gzip", plain=False, wal="none")
    path = folder / "base.tar.gz"
    replaced(path, path.read_bytes()[: path.stat().st_size // 2])
    with trial(base_source(folder, place.wal), scratch_root) as made, pytest.raises(BackupRefuted) as raised:
        made.run()
    assert raised.value.code == "archive_damaged"
    assert "base.tar.gz" in raised.value.message


@pytest.mark.long
def test_a_tar_archive_cut_off_between_two_files_is_refuted(place: Place, scratch_root: Path):
    folder = place.base("cut_between", "--no-manifest", plain=False, wal="none")
    path = folder / "base.tar"
    data = path.read_bytes()
    # Before the last member's header: what is left reads like a whole archive.
    replaced(path, data[: data.rindex(b"global/pg_control\0")])
    with trial(base_source(folder, place.wal), scratch_root) as made, pytest.raises(BackupRefuted) as raised:
        made.run()
    assert raised.value.code == "archive_damaged"


def test_files_that_do_not_match_the_manifest_are_named(damage: Damage):
    backup = damage.copy_backup()
    [(path,)] = damage.place.primary.execute("select pg_relation_filepath('pg_class')")
    data = bytearray((backup / path).read_bytes())
    data[8000] ^= 0x01
    replaced(backup / path, bytes(data))
    (backup / "global" / "stranger").write_text("x")
    (backup / "base" / "1" / "PG_VERSION").unlink()
    report = damage.report(ManifestLayer())
    assert report.state is LayerState.FAILED
    assert {problem.what for problem in report.problems} == {
        f"file {path} has another checksum than in the manifest",
        "file global/stranger is in the backup and not in the manifest",
        "file base/1/PG_VERSION is in the manifest and not in the backup",
    }


@pytest.mark.long
def test_a_backup_without_a_manifest_leaves_the_layer_out(damage: Damage):
    (damage.copy_backup() / "backup_manifest").unlink()
    report = damage.report(ManifestLayer())
    assert (report.state, report.by_design) == (LayerState.NOT_RUN, True)


@pytest.mark.long
def test_a_damaged_page_is_named_with_its_block(damage: Damage):
    backup = damage.copy_backup()
    [(path,)] = damage.place.primary.execute("select pg_relation_filepath('visit')")
    data = bytearray((backup / path).read_bytes())
    data[2 * 8192 + 5000] ^= 0xFF
    replaced(backup / path, bytes(data))
    report = damage.report(ChecksumsLayer())
    assert report.state is LayerState.FAILED
    assert [problem.what for problem in report.problems] == [f"block 2 of {path} is damaged"]


@pytest.mark.long
def test_what_cannot_be_read_here_refutes_nothing(damage: Damage):
    damage.copy_wal()
    path = damage.segments()[1]
    path.rename(path.with_name(path.name + ".xz"))
    blocked = damage.refusal("latest", DrillBlocked)
    assert (blocked.code, f"{path.name}.xz" in blocked.message) == ("compression_unknown", True)
    (damage.folder / "xz").mkdir()
    (damage.folder / "xz" / "base.tar.xz").touch()
    with pytest.raises(DrillBlocked, match=r"base\.tar\.xz"):
        base_source(damage.folder / "xz").copies()


@pytest.mark.long
def test_a_backup_without_wal_and_archive_is_not_tried(place: Place, scratch_root: Path):
    with trial(base_source(place.folder / "plain"), scratch_root) as made, pytest.raises(DrillBlocked) as raised:
        made.run()
    assert raised.value.code == "no_wal"


def test_what_is_no_backup_is_told(place: Place, tmp_path: Path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("sir")
    with pytest.raises(DrillBlocked) as raised:
        base_source(tmp_path).copies()
    assert raised.value.code == "not_recognised"
    with pytest.raises(DrillBlocked):
        base_source(tmp_path / "nowhere").copies()
    (tmp_path / "empty").mkdir()
    assert base_source(tmp_path / "empty").copies() == []


def test_a_backup_of_a_major_without_programs_is_told_before_anything_is_fetched(damage: Damage):
    replaced(damage.copy_backup() / "PG_VERSION", b"13\n")
    blocked = damage.refusal("latest", DrillBlocked)
    assert blocked.code == "no_programs"
    assert "PostgreSQL 13" in blocked.message
    assert "postgresql-13" in blocked.hint


@pytest.mark.long
def test_an_incremental_backup_without_its_full_one_is_told(place: Place, scratch_root: Path):
    if place.major < 17:
        pytest.skip("PostgreSQL 17 is the first with incremental backups")
    chain = place.folder / "broken_chain"
    chain.mkdir(mode=0o777)
    chain.chmod(0o777)
    place.base("broken_chain/full")
    place.base("broken_chain/second", "--incremental", f"{chain}/full/backup_manifest")
    (chain / "full").rename(place.folder / "full_elsewhere")
    with trial(base_source(chain, place.wal), scratch_root) as made, pytest.raises(BackupRefuted) as raised:
        made.run()
    assert raised.value.code == "chain_broken"


@pytest.mark.long
def test_the_archive_of_another_cluster_is_told(damage: Damage, make_cluster: Callable[..., LabCluster]):
    other = make_cluster(standbys=0, major=damage.place.major)
    wal = damage.copy_wal()
    [(name,)] = other.primary.execute("select pg_walfile_name(pg_current_wal_lsn())")
    data = (other.primary.data_dir / "pg_wal" / name).read_bytes()
    for path in damage.segments():
        replaced(path, data)
    assert wal.is_dir()
    assert damage.refusal().code == "wal_foreign"
