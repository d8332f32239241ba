"""Copy the files of a backup into a scratch directory, never following a link out of it.

Tablespaces become folders of the scratch directory, whatever their links say: a link to the original place would let
the scratch server write into the data of the one that was backed up.
"""

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from time import sleep
from typing import BinaryIO

from replcheck.drill.scratch import Scratch
from replcheck.drill.stages import Stages
from replcheck.errors import BackupRefuted, DrillBlocked
from replcheck.postgres.programs import Account

_CHUNK_BYTES = 8 << 20
_CANNOT_COPY_IN_KERNEL = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF})
_GROWTH_S = 1.0
"""How long an incomplete backup is watched for whether it still grows."""
_TABLESPACES = "pg_tblspc"
_WAL = "pg_wal"


class Copier:
    """Writes files for the account and tells how many bytes it has written."""

    def __init__(self, account: Account | None, stages: Stages) -> None:
        self._account = account
        self._stages = stages
        self._in_kernel = True
        self.done_bytes = 0

    def folder(self, path: Path) -> Path:
        """Make a folder, where it is not there yet."""
        if not path.is_dir():
            path.mkdir(mode=0o700)
            self._own(path)
        return path

    def link(self, path: Path, to: Path) -> None:
        """Make a link."""
        path.symlink_to(to)
        self._own(path)

    def copy(self, source: Path, target: Path) -> None:
        """Copy one file that must not be a link."""
        with open(source, "rb", opener=_not_followed) as read, self._created(target) as write:
            while copied := self._copied(read, write):
                self._progressed(copied, source.name)

    def write(self, read: BinaryIO, target: Path) -> int:
        """Write what a stream holds and return its size."""
        written = 0
        with self._created(target) as write:
            while chunk := read.read(1 << 20):
                write.write(chunk)
                written += len(chunk)
                self._progressed(len(chunk), target.name)
        return written

    def _created(self, path: Path) -> BinaryIO:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        if self._account is not None:
            os.fchown(descriptor, self._account.uid, self._account.gid)
        return os.fdopen(descriptor, "wb", buffering=0)

    def _copied(self, read: BinaryIO, write: BinaryIO) -> int:
        if self._in_kernel:
            try:
                return os.copy_file_range(read.fileno(), write.fileno(), _CHUNK_BYTES)
            except OSError as exc:
                if exc.errno not in _CANNOT_COPY_IN_KERNEL:
                    raise
                self._in_kernel = False
        return os.sendfile(write.fileno(), read.fileno(), None, _CHUNK_BYTES)

    def _progressed(self, size: int, what: str) -> None:
        self.done_bytes += size
        self._stages.progressed(self.done_bytes, what)

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid, follow_symlinks=False)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Translate what the system says while a backup is read and a copy written."""
    try:
        yield
    except OSError as exc:
        name = f" {exc.filename}" if exc.filename else ""
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DrillBlocked(
                f"the scratch directory's file system is full while {what} is copied",
                code="no_space",
                hint="Make room there, or choose a folder on another file system with --scratch.",
            ) from exc
        if isinstance(exc, FileNotFoundError):
            raise DrillBlocked(
                f"{what} changes while it is copied: file{name} is gone",
                code="backup_changed",
                hint="Wait until nothing writes to it or removes it.",
            ) from exc
        code = "backup_unreadable" if isinstance(exc, PermissionError) else "io_error"
        raise DrillBlocked(
            f"{what} cannot be copied:{name} {exc.strerror}", code=code, hint="Run as an account that may read it."
        ) from exc


class DirectoryCopy:
    """Copies one data directory into a scratch directory.

    `roots` are the folders that its links may lead into; tablespaces in `vouched` (OIDs) may lie anywhere, since the
    backup's manifest lists their files.
    """

    def __init__(
        self,
        source: Path,
        scratch: Scratch,
        copier: Copier,
        *,
        roots: Collection[Path],
        vouched: Collection[str] = (),
        left_out: Callable[[PurePath], bool] = lambda path: False,  # noqa: ARG005
    ) -> None:
        self._source = source
        self._scratch = scratch
        self._copier = copier
        self._roots = [root.resolve() for root in roots]
        self._vouched = vouched
        self._left_out = left_out

    def run(self, target: Path, tablespaces: Path) -> None:
        """Copy the directory to `target` and its tablespaces below `tablespaces`."""
        self._copier.folder(target)
        self._copier.folder(tablespaces)
        self._tablespaces = tablespaces
        self._descend(self._source, target, PurePath())
        self._copier.folder(target / _WAL)
        self._copier.folder(target / _WAL / "archive_status")

    def _descend(self, folder: Path, target: Path, within: PurePath) -> None:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = within / entry.name
            if self._left_out(path):
                continue
            if within == PurePath(_TABLESPACES) and entry.name.isdigit():
                self._tablespace(Path(entry.path), target / entry.name)
            elif entry.is_symlink():
                self._linked(Path(entry.path), target / entry.name, path)
            elif entry.is_dir(follow_symlinks=False):
                self._descend(Path(entry.path), self._copier.folder(target / entry.name), path)
            elif entry.is_file(follow_symlinks=False):
                self._copier.copy(Path(entry.path), target / entry.name)

    def _tablespace(self, link: Path, target: Path) -> None:
        oid = link.name
        place = link.resolve()
        if not place.is_dir():
            raise BackupRefuted(
                f"tablespace {oid} is missing: {link} leads to {place}, which is not there",
                code="tablespace_missing",
                hint="Copy the tablespace with the rest of the backup.",
            )
        if not self._is_inside(place) and oid not in self._vouched:
            raise DrillBlocked(
                f"tablespace {oid} lies outside the backup, at {place}, and may be the original's",
                code="tablespace_outside",
                hint="Put a copy of the tablespace into the backup, in place of the link in pg_tblspc.",
            )
        copy = self._copier.folder(self._tablespaces / oid)
        self._descend(place, copy, PurePath(_TABLESPACES, oid))
        self._copier.link(target, copy)

    def _linked(self, link: Path, target: Path, path: PurePath) -> None:
        place = link.resolve()
        if len(path.parts) == 1 and not place.is_dir():
            # A configuration file or a certificate kept elsewhere: a scratch server reads neither.
            return
        if not self._is_inside(place):
            if path == PurePath(_WAL):
                # Its own WAL is not part of the backup; what the archive has must do.
                return
            raise DrillBlocked(
                f"{link} is a link out of the backup, to {place}",
                code="link_outside",
                hint="Put a copy of what it leads to into the backup, in place of the link.",
            )
        if place.is_dir():
            self._descend(place, self._copier.folder(target), path)
        else:
            self._copier.copy(place, target)

    def _is_inside(self, place: Path) -> bool:
        return any(place.is_relative_to(root) for root in self._roots)


def tree_size(folder: Path) -> int:
    """Return the bytes of all regular files below a folder; links are not followed."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            # What comes and goes while it is looked at counts for nothing.
            with suppress(FileNotFoundError):
                status = Path(parent, name).lstat()
                total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def grows(path: Path) -> bool:
    """Return whether a file, or what lies in a folder, changes its size while it is watched: somebody writes it yet."""
    before = _bytes(path)
    sleep(_GROWTH_S)
    return _bytes(path) != before


def _bytes(path: Path) -> int:
    with suppress(OSError):
        return tree_size(path) if path.is_dir() else path.stat().st_size
    return 0


def _not_followed(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
