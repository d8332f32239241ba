"""The feeder asks an archive for what a server wants and a little more, and then leaves it alone."""

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replcheck.drill.archive import CommandArchive, Feeder, FolderArchive, Watch, unwatched
from replcheck.drill.wal import Segment
from replcheck.errors import BackupRefuted

SIZE = 1 << 20


class Counting:
    """An archive of some empty segments that counts how often it is asked."""

    def __init__(self, count: int) -> None:
        self._names = {Segment(number=number, timeline=1).name(SIZE) for number in range(1, count + 1)}
        self.asked: list[str] = []

    def fetch(self, name: str, to: Path, *, watch: Watch = unwatched) -> bool:
        self.asked.append(name)
        if name in self._names:
            to.write_bytes(bytes(SIZE))
        return name in self._names

    def names(self) -> frozenset[str]:
        return frozenset(self._names)


@pytest.fixture
def archive() -> Counting:
    return Counting(2)


@pytest.fixture
def feeder(archive: Counting, tmp_path: Path) -> Iterator[Feeder]:
    spool = tmp_path / "it's a spool"
    made = Feeder(archive, spool=spool, account=None, system_identifier=1, segment_bytes=SIZE)
    made.start()
    yield made
    made.close()


def ask(feeder: Feeder, name: str, to: Path) -> int:
    """Run the restore_command as a server does."""
    command = feeder.restore_command.replace("%%", "%").replace("%f", name).replace("%p", f"'{to}'")
    return subprocess.run(["/bin/sh", "-c", command], check=False).returncode


def test_files_are_handed_over_and_absent_ones_told(feeder: Feeder, archive: Counting, tmp_path: Path):
    target = tmp_path / "RECOVERYXLOG"
    assert ask(feeder, "000000010000000000000001", target) == 0
    assert target.read_bytes() == bytes(SIZE)
    assert ask(feeder, "000000010000000000000002", target) == 0
    assert ask(feeder, "000000010000000000000003", target) == 1
    assert ask(feeder, "00000002.history", target) == 1
    assert feeder.feed.absent() == ["000000010000000000000003", "00000002.history"]


def test_an_archive_is_left_alone_once_it_has_no_more(feeder: Feeder, archive: Counting, tmp_path: Path):
    assert ask(feeder, "000000010000000000000001", tmp_path / "x") == 0
    assert ask(feeder, "000000010000000000000002", tmp_path / "x") == 0
    time.sleep(0.1)
    asked = len(archive.asked)
    time.sleep(0.3)
    assert len(archive.asked) == asked <= 5


def test_a_server_that_asks_after_the_end_is_told_to_give_up(feeder: Feeder, tmp_path: Path):
    feeder.close()
    assert ask(feeder, "000000010000000000000001", tmp_path / "x") == 200


def test_a_server_that_stays_after_the_end_is_told_that_there_is_no_more(feeder: Feeder, tmp_path: Path):
    feeder.leave()
    assert ask(feeder, "00000002.history", tmp_path / "x") == 1
    assert ask(feeder, "000000010000000000000001", tmp_path / "x") == 1


def segment(number: int) -> str:
    return Segment(number=number, timeline=1).name(SIZE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "wal"
    made.mkdir()
    (made / segment(1)).write_bytes(bytes(SIZE))
    return made


@pytest.fixture
def of_folder(folder: Path, tmp_path: Path) -> Iterator[Feeder]:
    made = Feeder(
        FolderArchive(folder), spool=tmp_path / "spool", account=None, system_identifier=1, segment_bytes=SIZE
    )
    made.start()
    yield made
    made.close()


def test_a_backup_that_lies_in_the_archive_hands_out_no_wal_of_its_own(folder: Path, tmp_path: Path):
    backup, older = folder / "monday", folder / "0000000100000000"
    for inner in (backup / "pg_wal", older):
        inner.mkdir(parents=True)
        for number in (1, 2, 3):
            (inner / segment(number)).write_bytes(b"cut off")
    (backup / "PG_VERSION").write_text("18\n")
    (older / segment(3)).unlink()
    archive = FolderArchive(folder)
    assert archive.names() == {segment(1), segment(2)}
    assert archive.fetch(segment(1), tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == bytes(SIZE)


def test_a_half_copied_file_that_nobody_asked_for_is_no_fault(of_folder: Feeder, folder: Path, tmp_path: Path):
    (folder / segment(2)).write_bytes(bytes(SIZE // 2))
    assert ask(of_folder, segment(1), tmp_path / "x") == 0
    time.sleep(0.2)
    of_folder.close()
    assert of_folder.feed.error is None


def test_a_file_that_is_still_being_copied_is_waited_for(of_folder: Feeder, folder: Path, tmp_path: Path):
    (folder / segment(2)).write_bytes(bytes(SIZE // 2))
    finishing = threading.Timer(0.4, lambda: (folder / segment(2)).write_bytes(bytes(SIZE)))
    finishing.start()
    assert ask(of_folder, segment(2), tmp_path / "x") == 0
    finishing.join()


def test_a_short_file_that_grows_no_more_is_refuted(of_folder: Feeder, folder: Path, tmp_path: Path):
    (folder / segment(2)).write_bytes(bytes(SIZE // 2))
    assert ask(of_folder, segment(2), tmp_path / "x") == 200
    assert isinstance(of_folder.feed.error, BackupRefuted)
    assert of_folder.feed.error.code == "wal_corrupt"


def test_a_command_that_hangs_is_ended_with_the_drill(tmp_path: Path):
    archive = CommandArchive("sleep 60", account=None, folder=tmp_path)
    hanging = Feeder(archive, spool=tmp_path / "spool", account=None, system_identifier=1, segment_bytes=SIZE)
    hanging.start()
    with (tmp_path / "spool" / "asked").open("a") as asked:
        asked.write(f"{segment(1)}\n")
    time.sleep(0.3)
    began = time.monotonic()
    hanging.close()
    assert time.monotonic() - began < 10
    assert hanging.feed.error is None


def test_a_word_that_names_no_wal_file_touches_nothing(feeder: Feeder, tmp_path: Path):
    spool = tmp_path / "it's a spool"
    (spool / "none.x").mkdir()
    with (spool / "asked").open("a") as asked:
        asked.write("x/../../outside\n")
    assert ask(feeder, segment(1), tmp_path / "x") == 0
    assert not (tmp_path / "outside").exists()
    assert feeder.feed.asked == [segment(1)]


def test_an_answer_does_not_follow_a_link(feeder: Feeder, tmp_path: Path):
    (tmp_path / "it's a spool" / f"none.{segment(9)}").symlink_to(tmp_path / "outside")
    with (tmp_path / "it's a spool" / "asked").open("a") as asked:
        asked.write(f"{segment(9)}\n")
    assert ask(feeder, segment(1), tmp_path / "x") == 0
    assert not (tmp_path / "outside").exists()


def test_a_command_has_the_callers_environment_without_that_of_postgres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WALG_PREFIX", "somewhere")
    monkeypatch.setenv("PGHOST", "primary")
    archive = CommandArchive('echo "$WALG_PREFIX,$PGHOST" > %p', account=None, folder=tmp_path)
    assert archive.fetch(segment(1), tmp_path / "got")
    assert (tmp_path / "got").read_text() == "somewhere,\n"
