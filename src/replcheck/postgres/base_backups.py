"""Run the programs that verify and combine base backups, and keep of what they say only the sentences that are known.

They name files, sizes and checksums and never read rows; what is not recognised is not passed on all the same.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    r"backup at \S+ (?:starts|is) .*|.* has system identifier \d+.*|manifest system identifier .*"
    r"|could not (?:open|read|stat) (?:file|directory) \".*\".*|file \".*\" (?:has bad|is|was).*"
    r"|this directory is .*|\".*\" is not a .*|could not parse .*|backup_label.*|expected .*"
)


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

    The WAL that it may hold is left to recovery. Raise ProgramError where the program is missing.
    """
    command = [str(programs.path("pg_verifybackup")), "--no-parse-wal", str(data_dir)]
    ended = run_watched(command, account=account, watch=watch)
    return Verified(ok=ended.status == 0, faults=tuple(_faults(ended)))


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

    `tablespaces` says where each of the last backup's is to lie.
    """
    command = [str(programs.path("pg_combinebackup")), "--no-sync", "--output", str(target)]
    command += [f"--tablespace-mapping={_escaped(old)}={_escaped(new)}" for old, new in tablespaces.items()]
    ended = run_watched([*command, *map(str, parts)], account=account, watch=watch)
    if ended.status == 0:
        return None
    for line in ended.err.splitlines():
        said = line.partition("error: ")[2]
        if said and _COMBINE_COMPLAINTS.match(said):
            return said
    return f"pg_combinebackup ended with status {ended.status}"


def _faults(ended: Ended) -> list[FileFault]:
    faults = []
    for line in ended.err.splitlines():
        for kind, pattern in _VERIFY_COMPLAINTS:
            if match := pattern.search(line):
                faults.append(FileFault(file=match.groupdict().get("file", ""), kind=kind))
                break
    return faults


def _escaped(path: Path) -> str:
    return str(path).replace("=", "\\=")
