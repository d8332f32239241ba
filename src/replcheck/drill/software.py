"""The server programs of a backup's major version, found before anything is fetched."""

from collections.abc import Callable

from replcheck.errors import DrillBlocked, ProgramError
from replcheck.postgres.programs import Account, Programs, find_programs, readable_programs

ProgramsFor = Callable[[int], Programs]
"""Returns the programs of a major version; raises ProgramError where there are none."""


def usable_programs(find: ProgramsFor, major: int, account: Account | None) -> Programs:
    """Return programs that the account can run; raise DrillBlocked with what to install where there are none."""
    try:
        return readable_programs(find(major), account)
    except ProgramError as exc:
        raise DrillBlocked(
            f"PostgreSQL {major} made the backup, and {exc.message}",
            code="no_programs",
            hint=f"Install them (Debian: apt install postgresql-{major}; Red Hat: dnf install"
            f' postgresql{major}-server), or name their folder under [drill.programs] as "{major}".',
        ) from exc


def installed(major: int) -> Programs:
    """Return the programs of a major version where they usually are."""
    return find_programs(major)
