"""Run the programs that verify and combine base backups, and keep of what they say only the sentences that are known.

They name files, sizes and checksums and never read rows; what is not recognised is not passed on all the same.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from replcheck.errors import ProgramError
from replcheck.postgres.failures import SURROUNDINGS
from replcheck.postgres.programs import Account, Programs
from replcheck.postgres.tools import Ended, run_watched

_FILE = r'"(?P<file>[^"]*)"'
_VERIFY_COMPLAINTS = (
    ("missing", re.compile(rf"{_FILE} is present in the manifest but not on disk")),
    ("extra", re.compile(rf"{_FILE} is present on disk but not in the manifest")),
    ("size", re.compile(rf"{_FILE} has size \d+ on disk but size \d+ in the manifest")),
    ("changed", re.compile(rf"checksum mismatch for file {_FILE}")),
    ("unreadable", re.compile(rf"could not (?:open|stat|read) file {_FILE}")),
    ("unreadable", re.compile(rf"could not read file {_FILE}")),
    ("manifest", re.compile(r"manifest checksum mismatch|manifest has no checksum|could not parse backup manifest"
                            r"|backup manifest|manifest file is too short|unrecognized top-level|invalid manifest")),
    ("system", re.compile(r"manifest system identifier is \d+, but control file has \d+")),
)  # fmt: skip
_COMBINE_COMPLAINTS = re.compile(
    r"backup at \".*\" (?:is|starts) .*"
    r"|.*: (?:CRC is incorrect|could not (?:find|parse) .*|expected system identifier .*|improper terminator .*"
    r"|invalid TLI|manifest system identifier .*|unexpected control file version)"
    r"|could not (?:access|open|read|stat) .*: (?:No such file or directory|Not a directory|Is a directory)"
    r"|could not read (?:from )?file \".*\"(?:, offset \d+)?: read \d+ of \d+"
    r"|could not parse backup manifest.*|duplicate path name in backup manifest.*"
    r"|file \".*\" (?:does not exist|has .*|is too .*)|full backup contains .*|unexpected end of file .*"
    r"|invalid (?:manifest checksum|checksum for file).*|manifest file \".*\" contains no entry .*"
    r"|unrecognized checksum algorithm.*"
)
"""What pg_combinebackup says of its input (PostgreSQL source, pg_combinebackup and what it shares with others).

All else is about the output, the machine or the program itself, and so is whatever ends in another of the system's
words than that there is no such file.
"""
_SYSTEM_SAID = re.compile(rf": (?P<why>{'|'.join((*SURROUNDINGS, 'No space left on device', 'Disk quota exceeded'))})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFault:
    """One file that does not match a backup's manifest."""

    file: str
    """Its path in the data directory; empty for the manifest itself."""
    kind: str
    """`missing`, `extra`, `size`, `changed`, `unreadable`, `manifest` or `system`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What pg_verifybackup found."""

    ok: bool
    faults: tuple[FileFault, ...]


def verify(
    programs: Programs, data_dir: Path, *, account: Account | None, watch: Callable[[], None] = lambda: None
) -> Verified:
    """Compare the files of a data directory with its backup_manifest, all checksums included.

    The WAL that it may hold is left to recovery. Raise ProgramError where the program is missing, or where nothing is
    known to be wrong but this machine could not look at a file.
    """
    command = [str(programs.path("pg_verifybackup")), "--no-parse-wal", str(data_dir)]
    ended = run_watched(command, account=account, watch=watch)
    return verified(ended)


def verified(ended: Ended) -> Verified:
    """Return what pg_verifybackup found, from how it ended; raise ProgramError as `verify`."""
    lines = ended.err.splitlines()
    barred = [match["why"] for line in lines if (match := _SYSTEM_SAID.search(line))]
    faults = tuple(_faults(line for line in lines if not _SYSTEM_SAID.search(line)))
    if ended.status < 0:
        raise ProgramError(f"pg_verifybackup ended with status {ended.status}")
    if barred and not faults:
        raise ProgramError(f"pg_verifybackup could not look at a file of the copy: {barred[0].lower()}")
    return Verified(ok=ended.status == 0, faults=faults)


def combine(
    programs: Programs,
    parts: Sequence[Path],
    target: Path,
    *,
    tablespaces: Mapping[Path, Path],
    account: Account | None,
    watch: Callable[[], None] = lambda: None,
) -> str | None:
    """Reconstruct a data directory from a full backup and those incremental to it; return what is wrong, or None.

    `tablespaces` says where each of the last backup's is to lie. Raise ProgramError where the program is missing, or
    ended for a reason that says nothing of the backups.
    """
    command = [str(programs.path("pg_combinebackup")), "--no-sync", "--output", str(target)]
    command += [f"--tablespace-mapping={_escaped(old)}={_escaped(new)}" for old, new in tablespaces.items()]
    ended = run_watched([*command, *map(str, parts)], account=account, watch=watch)
    return None if ended.status == 0 else damage_told(ended)


def damage_told(ended: Ended) -> str:
    """Return what pg_combinebackup found wrong with the backups; raise ProgramError where it failed for another reason.

    >>> damage_told(Ended(status=1, out="", err='pg_combinebackup: error: file "a" is too short: expected 2, found 1'))
    'file "a" is too short: expected 2, found 1'
    """
    complaints = [said for line in ended.err.splitlines() if (said := line.partition("error: ")[2])]
    for said in complaints:
        if why := _SYSTEM_SAID.search(said):
            raise ProgramError(f"pg_combinebackup failed: {why['why'].lower()}")
    if ended.status > 0:
        for said in complaints:
            if _COMBINE_COMPLAINTS.fullmatch(said):
                return said
    raise ProgramError(f"pg_combinebackup ended with status {ended.status}")


def _faults(lines: Iterable[str]) -> list[FileFault]:
    faults = []
    for line in lines:
        for kind, pattern in _VERIFY_COMPLAINTS:
            if match := pattern.search(line):
                faults.append(FileFault(file=match.groupdict().get("file", ""), kind=kind))
                break
    return faults


def _escaped(path: Path) -> str:
    return str(path).replace("=", "\\=")
