"""What pg_verifybackup says: files that are amiss accuse the backup, files that this machine cannot read do not."""

import pytest

from replcheck.errors import ProgramError
from replcheck.postgres.base_backups import FileFault, verified
from replcheck.postgres.tools import Ended

CHANGED = 'checksum mismatch for file "base/5/1"'
OUT_OF_REACH = 'could not open file "/s/data/base/5/2": Too many open files'


def ended(*said: str, status: int = 1) -> Ended:
    return Ended(status=status, out="", err="".join(f"pg_verifybackup: error: {one}\n" for one in said))


@pytest.mark.parametrize("why", ["Too many open files", "Input/output error", "Permission denied"])
def test_a_file_that_this_machine_cannot_read_accuses_nothing(why):
    with pytest.raises(ProgramError, match=why.lower()):
        verified(ended(f'could not read file "/s/data/base/5/1": {why}'))


def test_what_is_amiss_is_told_beside_what_could_not_be_read():
    assert verified(ended(OUT_OF_REACH, CHANGED)).faults == (FileFault(file="base/5/1", kind="changed"),)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (CHANGED, "changed"),
        ('"base/5/1" is present in the manifest but not on disk', "missing"),
        ('could not read file "base/5/1": read 100 of 8192', "unreadable"),
    ],
)
def test_a_file_that_is_amiss_is_named(said, kind):
    assert verified(ended(said)).faults == (FileFault(file="base/5/1", kind=kind),)


def test_a_program_that_was_ended_found_nothing():
    with pytest.raises(ProgramError, match="status -9"):
        verified(ended(CHANGED, status=-9))


def test_a_sound_backup_verifies():
    assert verified(ended(status=0)).ok
