"""Scratch directories: made empty and private, found by their marker, and never anything else removed."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest

from replcheck.drill import scratch
from replcheck.drill.backups.copying import reading
from replcheck.drill.scratch import MARKER, ScratchState
from replcheck.errors import DrillBlocked


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder for scratch directories; sockets of theirs that a test leaves elsewhere go too."""
    yield tmp_path / "scratch"
    for marker in Path(gettempdir()).glob(f"rcd-*/{MARKER}"):
        if marker.read_text(encoding="utf-8").startswith(str(tmp_path)):
            shutil.rmtree(marker.parent)


def make(root: Path, run_id: str = "r1", needed_bytes: int | None = None) -> scratch.Scratch:
    return scratch.make_scratch(root, run_id=run_id, backup="nightly", account=None, needed_bytes=needed_bytes)


def abandon(made: scratch.Scratch) -> None:
    """Make a scratch directory look like that of a process which is gone."""
    marker = made.directory / MARKER
    data = json.loads(marker.read_text())
    data["created_by"]["started_at"] -= 1
    marker.write_text(json.dumps(data))


def test_a_scratch_directory_is_private_and_goes_with_its_root(root: Path):
    made = make(root)
    for folder in (made.directory, made.spool_dir, made.socket_dir, made.tablespaces_dir):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (made.server_dir / "data").mkdir(parents=True)
    scratch.remove_scratch(made)
    scratch.remove_root(root)
    assert not root.exists()


def test_a_root_that_was_there_before_stays(root: Path):
    root.mkdir(mode=0o700)
    scratch.remove_scratch(make(root))
    scratch.remove_root(root)
    assert root.is_dir()
    assert not any(root.iterdir())


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(root: Path):
    root.mkdir()
    (root / "letters").mkdir()
    (root / "letters" / "dear.txt").write_text("sir")
    with pytest.raises(DrillBlocked, match="not empty") as raised:
        make(root)
    assert raised.value.code == "scratch_not_empty"
    assert (root / "letters" / "dear.txt").read_text() == "sir"


def test_a_folder_that_others_can_change_is_refused(root: Path):
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(DrillBlocked) as raised:
        make(root)
    assert raised.value.code == "scratch_unsafe"


def test_a_file_system_without_room_is_told_before_anything_is_made(root: Path):
    with pytest.raises(DrillBlocked, match="no room") as raised:
        make(root, needed_bytes=1 << 60)
    assert raised.value.code == "no_space"
    assert not root.exists()


def test_a_file_system_that_fills_up_in_the_middle_is_told_as_such():
    with pytest.raises(DrillBlocked) as raised, reading("backup x"):
        raise OSError(28, "No space left on device")
    assert raised.value.code == "no_space"


def test_only_what_is_abandoned_is_removed(root: Path):
    used, left, kept = (make(root, name) for name in ("used", "left", "kept"))
    abandon(left)
    abandon(kept)
    scratch.keep(kept)
    assert scratch.remove_abandoned(root) == [left.directory]
    assert scratch.remove_abandoned(root, kept=True) == [kept.directory]
    assert [state.directory for state in scratch.find_scratch(root)] == [used.directory]


def test_a_copied_scratch_directory_is_not_ours(root: Path, tmp_path: Path):
    made = make(root)
    abandon(made)
    copy = root / "copy"
    shutil.copytree(made.directory, copy)
    assert scratch.remove_abandoned(root) == [made.directory]
    assert (copy / MARKER).is_file()
    with pytest.raises(ValueError, match="copy of"):
        ScratchState.load_from(copy)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"kind": "other", "format": 1}', "\xff"])
def test_a_marker_that_is_none_protects_its_folder(root: Path, text: str):
    made = make(root)
    (made.directory / MARKER).write_text(text)
    assert list(scratch.find_scratch(root)) == []
    with pytest.raises(ValueError, match="no scratch directory"):
        scratch.remove_scratch(made)
    with pytest.raises(DrillBlocked):
        make(root, "r2")


def test_links_in_a_scratch_directory_are_removed_and_not_followed(root: Path, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("stays")
    made = make(root)
    (made.tablespaces_dir / "link").symlink_to(outside)
    (made.directory / "link").symlink_to(outside)
    scratch.remove_scratch(made)
    assert (outside / "file").read_text() == "stays"


def test_a_long_path_gets_a_short_folder_for_its_socket(tmp_path: Path):
    made = make(tmp_path / ("x" * 90))
    assert made.socket_dir.parent != made.directory
    assert len(os.fsencode(made.socket_dir / ".s.PGSQL.5432")) < 107
    sockets = made.socket_dir
    scratch.remove_scratch(made)
    assert not sockets.exists()


def test_the_directory_of_a_killed_process_is_abandoned(root: Path):
    code = (
        "import os, sys; from pathlib import Path; from replcheck.drill import scratch;"
        "scratch.make_scratch(Path(sys.argv[1]), run_id='dead', backup='b', account=None); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(root)], check=False, env={"PYTHONPATH": "src"})
    assert [path.name for path in scratch.remove_abandoned(root)] == ["drill-dead"]
