"""What pg_combinebackup says: only what it found wrong with its input accuses the backups."""

import pytest

from replcheck.errors import ProgramError
from replcheck.postgres.base_backups import damage_told
from replcheck.postgres.tools import Ended


def ended(*said: str, status: int = 1) -> Ended:
    return Ended(status=status, out="", err="".join(f"pg_combinebackup: error: {one}\n" for one in said))


@pytest.mark.parametrize(
    "said",
    [
        'backup at "/s/parts/1/data" starts at LSN 0/5000028, but expected 0/3000028',
        'backup at "/s/parts/0/data" is an incremental backup, but the first backup should be a full backup',
        "/s/parts/0/data/global/pg_control: CRC is incorrect",
        "/s/parts/1/data/global/pg_control: expected system identifier 1, but found 2",
        'file "/s/parts/1/data/base/5/INCREMENTAL.1" has bad incremental magic number (0x0, expected 0x1)',
        'could not read file "/s/parts/0/data/base/5/1": read 100 of 8192',
        'could not read from file "/s/parts/0/data/base/5/1", offset 8192: read 0 of 8192',
        'could not open file "/s/parts/0/data/base/5/1": No such file or directory',
        'full backup contains unexpected incremental file "/s/parts/0/data/base/5/INCREMENTAL.1"',
        "could not parse backup manifest: unexpected token",
        'file "/s/parts/0/data/base/5/1" is too short: expected 8192, found 0',
    ],
)
def test_what_is_wrong_with_the_backups_is_told(said):
    assert damage_told(ended(said)) == said


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (ended('could not write file "/s/data/base/5/1": No space left on device'), "no space left on device"),
        (ended('could not write to file "/s/data/base/5/1", offset 8192: wrote 100 of 8192'), "status 1"),
        (ended('could not read file "/s/parts/0/data/base/5/1": Input/output error'), "input/output error"),
        (ended('could not open file "/s/parts/0/data/base/5/1": Too many open files'), "too many open files"),
        (ended('could not create directory "/s/data/base": File exists'), "status 1"),
        (ended("out of memory"), "status 1"),
        (ended(status=-9), "status -9"),
        (ended("some words that no version says yet"), "status 1"),
    ],
)
def test_what_is_wrong_with_this_machine_accuses_no_backup(found, why):
    with pytest.raises(ProgramError, match=why):
        damage_told(found)
