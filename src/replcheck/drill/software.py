"""The server programs of a backup's major version, found before anything is fetched."""

from collections.abc import Callable, Mapping
from pathlib import Path

from replcheck.errors import DrillBlocked, ProgramError
from replcheck.postgres.programs import Account, Programs, available_programs, programs_in, readable_programs

ProgramsFor = Callable[[int], Programs]
"""Returns the programs of a major version; raises DrillBlocked where there are none."""


def programs_finder(folders: Mapping[str, str], account: Account | None) -> ProgramsFor:
    """Return a function that finds programs: in the folder configured for a major version, else where they usually are.

    What it returns can be run by the account.
    """

    def find(major: int) -> Programs:
        try:
            return readable_programs(_found(folders, major), account)
        except ProgramError as exc:
            raise DrillBlocked(exc.message, code="no_programs", hint=exc.hint) from exc

    return find


def _found(folders: Mapping[str, str], major: int) -> Programs:
    if folder := folders.get(str(major)):
        programs = programs_in(Path(folder))
        if programs.major != major:
            raise ProgramError(f"the programs in {folder} are of PostgreSQL {programs.major}, not {major}")
        return programs
    for programs in available_programs():
        if programs.major == major:
            return programs
    raise ProgramError(
        f"no server programs of PostgreSQL {major} were found, which made the backup",
        hint=f"Install them (Debian: postgresql-{major}; Red Hat: postgresql{major}-server), or name their folder"
        f' under [drill.programs] as "{major}".',
    )
