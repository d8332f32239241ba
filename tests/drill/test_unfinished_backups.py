"""A backup that is still being written is not refuted, and one that was cut off is."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from replcheck.config.model import DumpBackup
from replcheck.drill.backups.dump import DumpSource
from replcheck.errors import BackupRefuted, DrillBlocked
from replcheck.postgres.programs import process_options
from tests.drill.physicals import Place, base_source, copied, trial
from tests.staged import newest_only, until


@contextmanager
def running(place: Place, program: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program of the primary's, and end it with the block."""
    with subprocess.Popen(
        [str(place.primary.programs.path(program)), *arguments],
        **process_options(place.primary.account),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@newest_only
@pytest.mark.parametrize(("form", "first"), [("plain", "backup_label"), ("tar", "base.tar")])
def test_a_base_backup_that_is_being_taken_is_not_tried(place: Place, scratch_root: Path, form: str, first: str):
    target = place.folder / f"unfinished_{form}"
    options = ["--pgdata", str(target), "--dbname", place.primary.dsn(), "--checkpoint", "fast", "--no-sync"]
    options += ["--format", form, "--wal-method", "none", "--max-rate", "1M"]
    with running(place, "pg_basebackup", *options) as process:
        until((target / first).is_file, "the backup has begun")
        with trial(base_source(target, place.wal), scratch_root) as made, pytest.raises(DrillBlocked) as raised:
            made.run()
        assert process.poll() is None, "the backup was finished before it was looked at"
    assert raised.value.code == "backup_in_progress"


@newest_only
def test_a_base_backup_without_its_control_file_is_refuted_only_where_nobody_writes_it(
    place: Place, scratch_root: Path
):
    # The control file comes last.
    backup = copied(place.folder / "plain", place.folder / "unfinished")
    (backup / "global" / "pg_control").unlink()
    with running_writer(backup / "base" / "1" / "more"), trial(base_source(backup, place.wal), scratch_root) as made:
        with pytest.raises(DrillBlocked) as raised:
            made.run()
        assert raised.value.code == "backup_in_progress"
    with trial(base_source(backup, place.wal), scratch_root) as made, pytest.raises(BackupRefuted) as refuted:
        made.run()
    assert refuted.value.code == "incomplete"


@newest_only
def test_a_dump_that_is_being_taken_is_not_tried(place: Place, scratch_root: Path):
    # As a slow pg_dump leaves it: cut off, and growing.
    whole, file = place.folder / "whole.sql", place.folder / "unfinished.sql"
    place.run("pg_dump", "--dbname", place.primary.dsn(), "--file", str(whole))
    text = whole.read_bytes()
    file.write_bytes(text[: len(text) // 2])
    source = DumpSource(name="test", section=DumpBackup(kind="dump", path=str(file)))
    with running_writer(file), trial(source, scratch_root) as made, pytest.raises(DrillBlocked) as raised:
        made.run()
    assert raised.value.code == "backup_in_progress"
    with trial(source, scratch_root) as made, pytest.raises(BackupRefuted) as refuted:
        made.run()
    assert refuted.value.code == "dump_truncated"


@contextmanager
def running_writer(file: Path) -> Iterator[None]:
    """Have another process write to a file."""
    script = f"while :; do echo 'SELECT 1;' >> '{file}'; sleep 0.05; done"
    with subprocess.Popen(["/bin/sh", "-c", script]) as process:
        try:
            yield
        finally:
            process.kill()
