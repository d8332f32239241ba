"""A file system that is full in the middle of a restore, for real: told as such, the backup untouched, nothing left."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from replcheck.drill.scratch import check_space
from replcheck.errors import DrillBlocked
from replcheck.events import Event, StageBegan
from replcheck.model.drill import Stage
from tests.drill.physicals import Place, Trial, base_source, contents, trial
from tests.staged import newest_only


@pytest.fixture
def small_disk(backups_root: Path) -> Iterator[Path]:
    """A file system of its own, with room for one copy; only root may mount one."""
    disk = backups_root / "small"
    disk.mkdir(mode=0o711)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400m,mode=711", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        disk.rmdir()
        pytest.skip("this machine lets us mount no file system of our own")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)
    disk.rmdir()


class Filling(list[Event]):
    """Fills a disk when a stage begins."""

    def __init__(self, disk: Path, stage: Stage) -> None:
        super().__init__()
        self._filler, self._stage = disk / "filler", stage

    def append(self, event: Event) -> None:
        super().append(event)
        if isinstance(event, StageBegan) and event.stage is self._stage:
            with suppress(OSError), self._filler.open("wb") as file:
                while True:
                    os.write(file.fileno(), bytes(1 << 20))


@newest_only
@pytest.mark.parametrize("stage", [Stage.FETCH, Stage.RECOVER])
def test_a_disk_that_is_full_in_the_middle_is_told_and_blames_no_backup(place: Place, small_disk: Path, stage: Stage):
    before = contents(place.folder / "plain")
    root = small_disk / "scratch"
    made = Trial(base_source(place.folder / "plain", place.wal), root, events=Filling(small_disk, stage))
    try:
        with pytest.raises(DrillBlocked) as raised:
            made.run()
        assert raised.value.code == "no_space"
    finally:
        made.close()
        (small_disk / "filler").unlink()
    assert list(small_disk.iterdir()) == []
    assert contents(place.folder / "plain") == before


@newest_only
def test_a_disk_that_fills_while_backups_are_combined_blames_no_backup(place: Place, small_disk: Path):
    if place.major < 17:
        pytest.skip("PostgreSQL 17 is the first with incremental backups")
    chain = place.folder / "filled"
    chain.mkdir(mode=0o777)
    chain.chmod(0o777)
    place.base("filled/full")
    place.base("filled/first", "--incremental", f"{chain}/full/backup_manifest")
    made = Trial(base_source(chain, place.wal), small_disk / "scratch", events=Filling(small_disk, Stage.RESTORE))
    try:
        with pytest.raises(DrillBlocked) as raised:
            made.run(label="first")
        assert raised.value.code == "no_space"
    finally:
        made.close()
        (small_disk / "filler").unlink()


@newest_only
def test_a_disk_that_has_too_little_room_is_told_before_anything_is_made(place: Place, small_disk: Path):
    with (small_disk / "filler").open("wb") as file:
        file.write(bytes(330 << 20))
    with pytest.raises(DrillBlocked) as raised:
        check_space(small_disk, 20 << 20)
    assert raised.value.code == "no_space"
    with trial(base_source(place.folder / "plain", place.wal), small_disk / "scratch") as made:
        with pytest.raises(DrillBlocked) as raised:
            made.run()
        assert raised.value.code == "no_space"
    assert [entry.name for entry in small_disk.iterdir()] == ["filler"]
    (small_disk / "filler").unlink()
