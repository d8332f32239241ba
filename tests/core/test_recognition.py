"""What is not recognised as the kind that was asked for refutes nothing, and says what it looks like instead."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from replcheck.config.model import BaseBackup, DumpBackup, SnapshotBackup
from replcheck.drill.backups.base import BaseSource
from replcheck.drill.backups.dump import DumpSource
from replcheck.drill.backups.snapshot import SnapshotSource
from replcheck.drill.backups.source import BackupSource
from replcheck.drill.choice import chosen
from replcheck.drill.targets import parse_target
from replcheck.errors import BackupRefuted, DrillBlocked, DrillError
from replcheck.postgres.dumps import DumpDamagedError, NotADumpError, examine_dump

PLAIN = b"--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 18.6\n\nSELECT 1;\n"
END = b"--\n-- PostgreSQL database dump complete\n--\n"
LATEST = parse_target("latest")


def data_directory(folder: Path, *extra: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "PG_VERSION").write_text("18\n")
    (folder / "global").mkdir()
    (folder / "global" / "pg_control").write_bytes(bytes(8192))
    (folder / "pg_wal").mkdir()
    for name in extra:
        (folder / name).write_text("")


def base(folder: Path) -> None:
    data_directory(folder, "backup_label", "backup_manifest")


def base_tar(folder: Path) -> None:
    (folder / "base.tar").write_bytes(bytes(1024))


def dump(folder: Path) -> None:
    (folder / "clinic.sql").write_bytes(PLAIN + END)


def letters(folder: Path) -> None:
    (folder / "dear.sql").write_text("sir")


def repository(folder: Path) -> None:
    for name in ("archive", "backup"):
        (folder / name / "clinic").mkdir(parents=True)


def barman(folder: Path) -> None:
    data_directory(folder / "main" / "base" / "20261128T020000" / "data", "backup_label")
    (folder / "main" / "base" / "20261128T020000" / "backup.info").write_text("status=DONE\n")
    (folder / "main" / "wals").mkdir()


def source(kind: str, path: Path) -> BackupSource:
    if kind == "base":
        return BaseSource(name="test", section=BaseBackup(kind="base", path=str(path)))
    if kind == "snapshot":
        return SnapshotSource(name="test", section=SnapshotBackup(kind="snapshot", path=str(path)))
    return DumpSource(name="test", section=DumpBackup(kind="dump", path=str(path)))


def refusal(kind: str, path: Path) -> DrillError:
    """Return what keeps the newest backup of a place from being restored."""
    made = source(kind, path)
    with pytest.raises(DrillError) as raised:
        made.requirements(chosen(made.copies(), None, LATEST), LATEST)
    return raised.value


@pytest.mark.parametrize(
    ("kind", "make", "looks_like"),
    [
        ("base", dump, "--from dump:"),
        ("base", letters, ""),
        ("base", data_directory, "--from snapshot:"),
        ("base", repository, "--from pgbackrest:STANZA"),
        ("base", barman, "barman get-wal main %f > %p"),
        ("snapshot", dump, "--from dump:"),
        ("snapshot", base, "--from base:"),
        ("snapshot", barman, "Barman"),
        ("dump", base, "--from base:"),
        ("dump", base_tar, "--from base:"),
        ("dump", data_directory, "--from snapshot:"),
        ("dump", letters, ""),
        ("dump", repository, "--from pgbackrest:STANZA"),
    ],
)
def test_a_place_of_another_kind_is_not_tried_and_told(
    tmp_path: Path, kind: str, make: Callable[[Path], None], looks_like: str
) -> None:
    make(tmp_path)
    found = refusal(kind, tmp_path)
    assert isinstance(found, DrillBlocked)
    assert looks_like in found.hint


@pytest.mark.parametrize("at", ["main/base/20261128T020000", "main/base", "main", "."])
def test_the_newest_backup_of_barman_is_named_from_any_of_its_folders(tmp_path: Path, at: str) -> None:
    barman(tmp_path)
    assert str(tmp_path / "main/base/20261128T020000/data") in refusal("dump", tmp_path / at).hint


@pytest.mark.parametrize("name", ["backup_label", "backup_manifest", "PG_VERSION"])
def test_a_damaged_base_backup_is_still_recognised_as_one(tmp_path: Path, name: str) -> None:
    base(tmp_path)
    (tmp_path / name).unlink()
    made = source("base", tmp_path)
    [copy] = made.copies()
    if name == "PG_VERSION":
        assert isinstance(refusal("base", tmp_path), BackupRefuted)
    else:
        assert copy.major == 18


@pytest.mark.parametrize("named", ["", "base.tar.gz"])
def test_an_archive_called_base_tar_is_taken_for_one_whatever_is_in_it(tmp_path: Path, named: str) -> None:
    (tmp_path / "base.tar.gz").write_bytes(b"\x1f\x8b")
    assert isinstance(refusal("base", tmp_path / named), BackupRefuted)


@pytest.mark.parametrize(
    ("content", "recognised"),
    [
        (b"sir", False),
        (b"PGCOPY\n\xff\r\n\0", False),
        (b"", True),
        (b"?GDMP\x01\x0f", True),
        (PLAIN.replace(b"PostgreSQL database dump", b"Something else"), True),
        (b"SELECT 1;\n" + END, True),
    ],
)
def test_only_what_tells_that_it_was_a_dump_is_a_damaged_one(tmp_path: Path, content: bytes, recognised: bool) -> None:
    path = tmp_path / "x.dump"
    path.write_bytes(content)
    with pytest.raises(DumpDamagedError if recognised else NotADumpError):
        examine_dump(path)


def test_a_tar_archive_of_something_else_is_no_dump(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "letter", "letter")
    with pytest.raises(NotADumpError):
        examine_dump(tmp_path / "x.tar")
