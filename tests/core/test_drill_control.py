"""A control file that could not be looked at is not a damaged one."""

import pytest

from replcheck.drill.backups.physical import control_refused
from replcheck.errors import BackupRefuted, DrillBlocked, ProgramError


def caused(message: str, cause: Exception | None) -> ProgramError:
    error = ProgramError(message)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (caused("pg_controldata took longer than 60 s and was ended", TimeoutError()), DrillBlocked),
        (caused("pg_controldata cannot be run: Permission denied", PermissionError()), DrillBlocked),
        (caused("pg_controldata ended with status 1: could not read file: Input/output error", None), DrillBlocked),
        (caused("pg_controldata ended with status 1: could not read file: read 0 of 296", None), BackupRefuted),
        (caused("pg_controldata does not tell what it should", KeyError()), BackupRefuted),
    ],
)
def test_only_what_the_file_says_refutes(error, kind):
    assert type(control_refused(error)) is kind
