"""The files that tell which transactions committed (pg_xact) and who locked or changed a row (pg_multixact).

No row need be read by them where hints stand in its page, so that a copy that lacks one may look whole, and a recovery
makes a missing one anew, full of zeros. What a checkpoint covers was written out before it, so that these files must
hold it, without a gap down to the oldest there is; older ones are removed in time, and nothing is held against that.
Source: PostgreSQL's slru.c, clog.c and multixact.c.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from replcheck.errors import BackupRefuted
from replcheck.model.drill import Blame, Problem
from replcheck.postgres.control import ControlFacts

_PAGES = 32
"""Pages of one file."""
_NAME = re.compile(r"[0-9A-F]{4,6}")
_LAST_MAJOR = 18
"""Later ones may number the members of multixacts otherwise."""
_HINT = "Look for another copy of the file; a copy without it takes transactions for what they were not."


@dataclass(frozen=True, slots=True, kw_only=True)
class StateFiles:
    """What one folder must hold."""

    folder: str
    last_page: int
    """The one of the newest that a checkpoint covers."""
    files: int
    """After so many the numbers begin again."""
    page_bytes: int

    def name(self, number: int) -> str:
        """Return the path of a file within the data directory."""
        return f"{self.folder}/{number:04X}"

    @property
    def last(self) -> int:
        """Return the number of the file with the last page."""
        return self.last_page // _PAGES

    def wrong(self, sizes: Mapping[int, int]) -> Iterator[tuple[str, bool]]:
        """Yield the files that are missing or, with True, cut off; `sizes` are those of the files that are there.

        >>> files = StateFiles(folder="pg_xact", last_page=40, files=4096, page_bytes=8192)
        >>> list(files.wrong({1: 9 * 8192, 0: 32 * 8192})), list(files.wrong({1: 8192, 4095: 32 * 8192}))
        ([], [('pg_xact/0001', True), ('pg_xact/0000', False)])
        >>> list(files.wrong({}))
        [('pg_xact/0001', False)]
        """
        back = [distance for number in sizes if (distance := (self.last - number) % self.files) < self.files // 2]
        for distance in range(max(back, default=0) + 1):
            number = (self.last - distance) % self.files
            pages = self.last_page % _PAGES + 1 if distance == 0 else _PAGES
            if number not in sizes:
                yield self.name(number), False
            elif sizes[number] < pages * self.page_bytes:
                yield self.name(number), True


def state_files(control: ControlFacts, major: int) -> Iterator[StateFiles]:
    """Yield what the folders of a data directory must hold, as its control file says.

    A transaction takes two bits, a multixact four bytes, and four of its members twenty.
    """
    block = control.block_bytes
    yield _folder("pg_xact", control.next_xid, 4 * block, block)
    # Of multixacts nothing need be there where there are none.
    if major <= _LAST_MAJOR and control.next_multixact != control.oldest_multixact:
        yield _folder("pg_multixact/offsets", control.next_multixact, block // 4, block)
        yield _folder("pg_multixact/members", control.next_member, block // 20 * 4, block)


def file_sizes(data_dir: Path, files: StateFiles) -> dict[int, int]:
    """Return the sizes of the files that a folder holds, by their number; none where it is missing."""
    found = {}
    with suppress(OSError):
        for path in (data_dir / files.folder).iterdir():
            if _NAME.fullmatch(path.name):
                found[int(path.name, 16)] = path.stat().st_size
    return found


def require_any(data_dir: Path, control: ControlFacts, major: int) -> None:
    """Raise BackupRefuted where a restored data directory has a folder that holds none at all."""
    for files in state_files(control, major):
        if not file_sizes(data_dir, files):
            raise BackupRefuted(_told(files.name(files.last)), code="file_missing", hint=_HINT)


def oldest_files(data_dir: Path, control: ControlFacts, major: int) -> dict[str, int]:
    """Return the number of the oldest file in each folder, before a recovery may add any."""
    return {
        files.folder: max(sizes, key=lambda number: (files.last - number) % files.files, default=0)
        for files in state_files(control, major)
        if (sizes := file_sizes(data_dir, files))
    }


def lost_files(
    data_dir: Path, control: ControlFacts, major: int, *, zeroed: Iterable[str], oldest: Mapping[str, int]
) -> tuple[Problem, ...]:
    """Return a problem for each file that a recovered copy lacks, or that its recovery had to make anew.

    `zeroed` are those, as the server's log names them; one older than the `oldest` that came had been removed in time.
    """
    found: dict[str, bool] = {}
    for files in state_files(control, major):
        made = {name for name in zeroed if name.startswith(f"{files.folder}/")}
        for name in sorted(made):
            age, number = oldest.get(files.folder), int(name.rpartition("/")[2], 16)
            if age is not None and (number - age) % files.files < files.files // 2:
                found[name] = False
        for name, cut in files.wrong(file_sizes(data_dir, files)):
            found.setdefault(name, cut)
    return tuple(
        Problem(
            code="files_damaged" if cut else "file_missing", what=_told(name, cut=cut), blame=Blame.BACKUP, hint=_HINT
        )
        for name, cut in found.items()
    )


def _folder(folder: str, following: int, per_page: int, page_bytes: int) -> StateFiles:
    # The number that comes next may be the first of a page that is not there yet.
    newest = max(following - 1, 0)
    files = -(-(1 << 32) // (per_page * _PAGES))
    return StateFiles(folder=folder, last_page=newest // per_page, files=files, page_bytes=page_bytes)


def _told(name: str, *, cut: bool = False) -> str:
    what = "which transactions committed" if name.startswith("pg_xact") else "who locked or changed rows"
    return f"file {name} of the backup, which tells {what}, is {'cut off' if cut else 'missing'}"
