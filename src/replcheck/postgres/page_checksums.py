"""Run pg_checksums over a stopped data directory and keep which file and block it complains of."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from replcheck.errors import ProgramError
from replcheck.postgres.failures import SURROUNDINGS
from replcheck.postgres.programs import Account, Programs
from replcheck.postgres.tools import run_watched

_FAILED = re.compile(
    r'checksum verification failed in file "(?P<file>[^"]+)", block (?P<block>\d+): calculated checksum'
)
_UNREADABLE = re.compile(r'could not (?:open|read|stat)(?: block (?P<block>\d+) in)? file "(?P<file>[^"]+)"')
_OUT_OF_REACH = re.compile(rf"could not .*: (?P<why>{'|'.join(SURROUNDINGS)})$", re.MULTILINE)
_SCANNED = re.compile(r"^(?P<what>Files|Blocks) scanned: +(?P<count>\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadPage:
    """One page whose checksum does not match, or that cannot be read."""

    file: Path
    """Relative to the data directory."""
    block: int | None
    """Of that file, which is one segment of a relation; None for the file as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What pg_checksums found."""

    files: int
    blocks: int
    bad: tuple[BadPage, ...]


def check_pages(
    programs: Programs, data_dir: Path, *, account: Account | None, watch: Callable[[], None] = lambda: None
) -> Checked:
    """Check every page of a data directory whose server was shut down cleanly.

    Raise ProgramError where the program is missing or could not look.
    """
    command = [str(programs.path("pg_checksums")), "--check", "--pgdata", str(data_dir)]
    ended = run_watched(command, account=account, watch=watch)
    if barred := _OUT_OF_REACH.search(ended.err):
        raise ProgramError(f"pg_checksums could not look at a file of the copy: {barred['why'].lower()}")
    bad = tuple(_bad_pages(ended.err, data_dir))
    counts = {match["what"]: int(match["count"]) for match in _SCANNED.finditer(ended.out)}
    if not bad and (ended.status != 0 or "Blocks" not in counts):
        raise ProgramError(f"pg_checksums ended with status {ended.status}")
    return Checked(files=counts.get("Files", 0), blocks=counts.get("Blocks", 0), bad=bad)


def _bad_pages(said: str, data_dir: Path) -> list[BadPage]:
    found = []
    for line in said.splitlines():
        if match := _FAILED.search(line) or _UNREADABLE.search(line):
            file = Path(match["file"])
            within = file.relative_to(data_dir) if file.is_relative_to(data_dir) else file
            found.append(BadPage(file=within, block=int(match["block"]) if match["block"] else None))
    return found
