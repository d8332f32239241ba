"""Unpack the tar archives of a base backup into a scratch directory.

Only plain files and folders are made, always below the folder they belong to; the links of tablespaces are ours to
make. An archive must end as tar archives do: one that was cut off between two files looks whole otherwise.
"""

import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from replcheck.drill.backups.copying import Copier
from replcheck.errors import BackupRefuted, DrillBlocked, ProgramError
from replcheck.postgres import compression
from replcheck.postgres.compression import DamagedFile

_END_BYTES = 1024
"""A tar archive ends with two blocks of zeros (POSIX, pax: ustar Interchange Format)."""


class _Watched:
    """A stream that remembers the last bytes that were read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.tail = (self.tail + data[-_END_BYTES:])[-_END_BYTES:]
        return data

    def drain(self) -> None:
        while self.read(1 << 20):
            pass


def unpack(
    archive: Path,
    target: Path,
    copier: Copier,
    *,
    left_out: Callable[[PurePosixPath], bool] = lambda path: False,  # noqa: ARG005
) -> None:
    """Unpack an archive below `target`, which exists.

    Raise BackupRefuted where it is cut off or damaged, DrillBlocked where it cannot be uncompressed here.
    """
    size = archive.stat().st_size
    try:
        with compression.opened(archive) as stream:
            watched = _Watched(stream)
            with tarfile.open(fileobj=watched, mode="r|") as tar:  # type: ignore[call-overload]
                for member in tar:
                    _make(tar, member, target, copier, left_out)
            watched.drain()
            if watched.tail.strip(b"\0") or len(watched.tail) < _END_BYTES:
                raise DamagedFile("it does not end as a tar archive does")
    except (tarfile.TarError, DamagedFile, EOFError) as exc:
        if archive.stat().st_size != size:
            raise in_progress(archive) from exc
        raise BackupRefuted(
            f"{archive} is damaged or cut off: it cannot be read to its end",
            code="archive_damaged",
            hint="Compare its size with that of the original, and look for another copy.",
        ) from exc
    except ProgramError as exc:
        raise DrillBlocked(exc.message, code="no_decompressor", hint=exc.hint) from exc


def find_in(archive: Path, wanted: Callable[[str], bool], *, limit: int = 1) -> dict[str, bytes]:
    """Return the contents of the first `limit` members whose name is wanted, reading no further; none where damaged."""
    found: dict[str, bytes] = {}
    try:
        with compression.opened(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if member.isreg() and wanted(name):
                    data = tar.extractfile(member)
                    found[name] = data.read() if data is not None else b""
                    if len(found) == limit:
                        break
    except (tarfile.TarError, DamagedFile, EOFError):
        return found
    except ProgramError as exc:
        raise DrillBlocked(exc.message, code="no_decompressor", hint=exc.hint) from exc
    return found


def in_progress(path: Path) -> DrillBlocked:
    """Return that a backup is still being written."""
    return DrillBlocked(
        f"backup {path} is still being written", code="backup_in_progress", hint="Try again when it is finished."
    )


def _make(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    target: Path,
    copier: Copier,
    left_out: Callable[[PurePosixPath], bool],
) -> None:
    path = PurePosixPath(member.name.removeprefix("./"))
    if path.is_absolute() or ".." in path.parts:
        raise BackupRefuted(f"the archive holds a file outside of itself: {path.name}", code="archive_unsafe")
    if left_out(path) or not path.parts:
        return
    place = target
    for part in path.parts[:-1]:
        place = copier.folder(place / part)
    place /= path.name
    if member.isdir():
        copier.folder(place)
    elif member.isreg():
        data = tar.extractfile(member)
        assert data is not None  # noqa: S101
        try:
            written = copier.write(data, place)  # type: ignore[arg-type]
        except FileExistsError:
            raise BackupRefuted(f"the archive holds a file twice: {path}", code="archive_damaged") from None
        if written != member.size:
            raise DamagedFile("a file in it is cut off")
