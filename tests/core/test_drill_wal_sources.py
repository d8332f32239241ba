"""What a program says that fetches WAL files is the backup's fault only where it names damage."""

import pytest

from replcheck.config.model import PgBackRestBackup
from replcheck.drill.backups.pgbackrest import PgBackRestSource
from replcheck.errors import BackupRefuted, DrillBlocked
from replcheck.postgres.tools import Ended

NAME = "000000010000000000000003"
SOURCE = PgBackRestSource(name="nightly", section=PgBackRestBackup(kind="pgbackrest", stanza="clinic"))


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (41, "unable to load info file '/repo/archive/clinic/archive.info': [13] Permission denied"),
        (50, "unable to acquire lock on file '/tmp/clinic.lock': Resource temporarily unavailable"),
        (103, "unable to find a valid repository"),
    ],
)
def test_what_keeps_pgbackrest_from_fetching_is_not_the_backups_fault(status, text):
    error = SOURCE._wal_refused(NAME, Ended(status=status, out="", err=f"ERROR: [{status:03}]: {text}"))
    assert isinstance(error, DrillBlocked)
    assert f"(error {status:03})" in error.message


def test_a_file_that_pgbackrest_finds_damaged_refutes():
    text = f"ERROR: [029]: raised from local-1 protocol: unable to get {NAME}: unexpected eof in compressed data"
    error = SOURCE._wal_refused(NAME, Ended(status=29, out="", err=text))
    assert isinstance(error, BackupRefuted)
    assert error.code == "wal_corrupt"
