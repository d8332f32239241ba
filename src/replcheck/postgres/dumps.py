"""What a file or folder made by pg_dump is, told by its content: format, age, versions, and whether it is whole.

Only reads. pg_restore ends with status 0 on an archive in directory format whose data files were cut off or emptied,
and runs for ever on a tar that was cut off; so what it would not notice is looked for here before it starts.
"""

import gzip
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import IO, cast

from replcheck.errors import ProgramError
from replcheck.postgres.compression import COMPRESSIONS, DamagedFile, opened

MAGIC = b"PGDMP"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_LZ4 = b"\x04\x22\x4d\x18"
_PLAIN = b"-- PostgreSQL database dump\n"
_CLUSTER = b"-- PostgreSQL database cluster dump\n"
_PLAIN_END = b"-- PostgreSQL database dump complete\n"
_HEAD_BYTES = 256 * 1024
_CHUNK_BYTES = 1024 * 1024
_TAIL_BYTES = 64
_TOC_NAME = "toc.dat"
_TOC_NAMES = (_TOC_NAME, f"./{_TOC_NAME}")
_COMPRESSION_BYTE = (1, 15)
"""The archive version from which on one byte names the compression (PostgreSQL source, pg_backup_archiver.h)."""
_MADE_BY = re.compile(rb"^-- Dumped by pg_dump version (\d+)", re.MULTILINE)
_MADE_FROM = re.compile(rb"^-- Dumped from database version (\d+)", re.MULTILINE)
_ENCODING = re.compile(rb"^SET client_encoding = '([\w-]+)';$", re.MULTILINE)

_UNSAFE_ENCODINGS = frozenset({"BIG5", "GB18030", "GBK", "JOHAB", "SHIFT_JIS_2004", "SJIS", "UHC"})
"""Client encodings in which a byte of a letter may look like a quote or a backslash (PostgreSQL source, pg_wchar.h)."""


class DumpFormat(Enum):
    """How pg_dump wrote it."""

    CUSTOM = "custom"
    DIRECTORY = "directory"
    TAR = "tar"
    PLAIN = "plain"
    PLAIN_GZIP = "plain.gz"

    @property
    def archive(self) -> bool:
        """Return whether pg_restore reads it."""
        return self in (DumpFormat.CUSTOM, DumpFormat.DIRECTORY, DumpFormat.TAR)

    @property
    def parallel(self) -> bool:
        """Return whether pg_restore can read it by several connections (PostgreSQL manual, pg_restore, --jobs)."""
        return self in (DumpFormat.CUSTOM, DumpFormat.DIRECTORY)


class DumpDamagedError(ValueError):
    """What is wrong with a dump, in one clause; `code` is for machines."""

    def __init__(self, what: str, *, code: str) -> None:
        super().__init__(what)
        self.code = code


class NotADumpError(ValueError):
    """Why something is not recognised as a dump at all, in one clause."""


class DumpUnsupportedError(ValueError):
    """Why something may be a backup, but none that can be restored here, in one clause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """One dump, as its head describes it."""

    path: Path
    format: DumpFormat
    server_major: int | None
    """Of the server it was taken from; None where it does not say."""
    program_major: int | None
    """Of the pg_dump that wrote it."""
    taken_at: datetime | None
    """When pg_dump began; in archives by the clock of the machine it ran on, whose time zone is taken for ours."""
    dbname: str = ""
    """Of the database it was taken from; empty where it does not say."""
    encoding: str = ""
    size_bytes: int = 0

    @property
    def major(self) -> int | None:
        """Return the major of the programs that can restore it: that of the newer of the two that made it."""
        known = [major for major in (self.server_major, self.program_major) if major is not None]
        return max(known, default=None)


def examine_dump(path: Path) -> Dump:
    """Return what a file or folder is.

    Raises NotADumpError where nothing tells that it was one, DumpDamagedError where its head is damaged,
    DumpUnsupportedError where it is another kind of backup, and OSError where it cannot be read.
    """
    if path.is_dir():
        if not (path / _TOC_NAME).is_file():
            if any(path.glob("[0-9]*.dat*")):
                raise DumpDamagedError("lacks its table of contents, toc.dat", code="dump_file_missing")
            raise NotADumpError("is a folder without toc.dat")
        size = sum(part.stat().st_size for part in path.iterdir() if part.is_file())
        return _archive(path, DumpFormat.DIRECTORY, _read_head(path / _TOC_NAME), size)
    head, size = _read_head(path), path.stat().st_size
    if not head:
        raise DumpDamagedError("is empty", code="dump_truncated")
    if _resembles(head, MAGIC):
        return _archive(path, DumpFormat.CUSTOM, head, size)
    if head.startswith(_GZIP):
        inner = _gunzipped_head(path)
        if inner.startswith(MAGIC) or _is_tar(inner):
            raise DumpUnsupportedError("is an archive of pg_dump that was compressed again with gzip")
        return _plain(path, DumpFormat.PLAIN_GZIP, inner, size)
    if head.startswith((_ZSTD, _LZ4)):
        raise DumpUnsupportedError("is compressed with zstd or lz4")
    if _is_tar(head):
        return _archive(path, DumpFormat.TAR, _tar_toc(path), size)
    return _plain(path, DumpFormat.PLAIN, head, size)


def is_globals(path: Path) -> bool:
    """Return whether a file was made by pg_dumpall, which holds roles and no database's rows, or several databases."""
    try:
        return path.is_file() and _CLUSTER in _read_head(path)[:4096]
    except OSError:
        return False


def check_whole(dump: Dump, data_entries: frozenset[int], *, progressed: Callable[[int], None]) -> None:
    """Read what pg_restore would not miss; raise DumpDamagedError where a part is missing, cut off or corrupt.

    `data_entries` are the ids of the entries that have a data file. `progressed` is told the bytes that were read.
    """
    match dump.format:
        case DumpFormat.DIRECTORY:
            _check_directory(dump.path, data_entries, progressed)
        case DumpFormat.TAR:
            _check_tar(dump.path, data_entries, progressed)
        case DumpFormat.PLAIN:
            _check_plain_end(dump.path)
        case DumpFormat.CUSTOM | DumpFormat.PLAIN_GZIP:
            pass  # Each block has its length, and the stream its checksum: whoever reads them to the end knows.


def _resembles(head: bytes, magic: bytes) -> bool:
    """Return whether a file begins like that, be it with one byte of it damaged.

    >>> [_resembles(head, b"PGDMP") for head in (b"PGDMP.", b"?GDMP.", b"PGCOPY", b"PG")]
    [True, True, False, False]
    """
    return sum(one == other for one, other in zip(head, magic, strict=False)) >= len(magic) - 1


def _read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _gunzipped_head(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(_HEAD_BYTES)
    except EOFError as exc:
        # Less than a head's worth: what there is may still tell that it began as a dump.
        raise DumpDamagedError("is compressed with gzip and cut off", code="dump_truncated") from exc
    except (OSError, zlib.error) as exc:
        if isinstance(exc, OSError) and not isinstance(exc, gzip.BadGzipFile):
            raise
        raise DumpDamagedError("is compressed with gzip and corrupt", code="dump_corrupt") from exc


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar" or head.startswith(tuple(name.encode() + b"\0" for name in _TOC_NAMES))


def _tar_toc(path: Path) -> bytes:
    try:
        with tarfile.open(path, "r:") as archive:
            first = archive.next()
            if first is None or first.name not in _TOC_NAMES:
                raise NotADumpError("is a tar archive that does not begin with toc.dat")
            file = archive.extractfile(first)
            return file.read(_HEAD_BYTES) if file is not None else b""
    except tarfile.TarError as exc:
        raise DumpDamagedError("is a tar archive that is cut off or corrupt", code="dump_truncated") from exc


def _archive(path: Path, kind: DumpFormat, head: bytes, size: int) -> Dump:
    """Read the head of an archive (PostgreSQL source, pg_backup_archiver.c, ReadHead)."""
    if not head.startswith(MAGIC):
        raise DumpDamagedError("has a table of contents that is damaged from its first byte", code="dump_corrupt")
    try:
        reader = _HeadReader(head)
        taken = reader.created()
        dbname, server, program = (reader.text() for _ in range(3))
        majors = [int(match[0]) if (match := re.match(r"\d+", text)) else None for text in (server, program)]
    except IndexError as exc:
        raise DumpDamagedError("is cut off in its head", code="dump_truncated") from exc
    return Dump(
        path=path,
        format=kind,
        server_major=majors[0],
        program_major=majors[1],
        taken_at=taken,
        dbname=dbname,
        size_bytes=size,
    )


class _HeadReader:
    """Takes the head of an archive apart; raises IndexError where it ends too early."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._at = len(MAGIC)
        self.version = (self._byte(), self._byte())
        self._byte()
        self._int_size = self._byte()
        self._byte()  # size of offsets
        self._byte()  # format
        if self.version >= _COMPRESSION_BYTE:
            self._byte()
        else:
            self._int()

    def created(self) -> datetime | None:
        """Return when pg_dump began, by a clock whose zone is not told; None where the parts make no date."""
        second, minute, hour, day, month, year, _ = (self._int() for _ in range(7))
        try:
            return datetime(year + 1900, month + 1, day, hour, minute, min(second, 59)).astimezone()
        except (ValueError, OverflowError, OSError):
            return None

    def text(self) -> str:
        length = self._int()
        if length <= 0:
            return ""
        if self._at + length > len(self._head):
            raise IndexError
        self._at += length
        try:
            return self._head[self._at - length : self._at].decode("utf-8")
        except UnicodeDecodeError:
            # A database may have any bytes for a name: one that cannot be told counts as unknown.
            return ""

    def _byte(self) -> int:
        self._at += 1
        return self._head[self._at - 1]

    def _int(self) -> int:
        sign = self._byte()
        value = sum(self._byte() << (8 * number) for number in range(self._int_size))
        return -value if sign else value


def _plain(path: Path, kind: DumpFormat, head: bytes, size: int) -> Dump:
    begin = head[:4096].replace(b"\r\n", b"\n")
    if _CLUSTER in begin:
        raise DumpUnsupportedError("was made by pg_dumpall, and holds roles or several databases")
    if _PLAIN not in begin:
        if any(found.search(head) for found in (_MADE_BY, _MADE_FROM)) or _PLAIN_END in _tail(path):
            raise DumpDamagedError("lacks the line that a dump of pg_dump begins with", code="dump_corrupt")
        raise NotADumpError("is no dump of pg_dump: neither an archive nor its SQL")
    made_by, made_from, encoding = (found.search(head) for found in (_MADE_BY, _MADE_FROM, _ENCODING))
    if encoding is not None and encoding[1].decode().upper() in _UNSAFE_ENCODINGS:
        # Plain dumps are cut into statements byte by byte.
        raise DumpUnsupportedError(f"is SQL written in {encoding[1].decode()}: have pg_dump write it in UTF8")
    return Dump(
        path=path,
        format=kind,
        server_major=int(made_from[1]) if made_from else None,
        program_major=int(made_by[1]) if made_by else None,
        # SQL says nothing of its age: the file was written to its end then, and begun before.
        taken_at=datetime.fromtimestamp(path.stat().st_mtime).astimezone(),
        encoding=encoding[1].decode() if encoding else "",
        size_bytes=size,
    )


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        return file.read().replace(b"\r\n", b"\n")


def _check_plain_end(path: Path) -> None:
    if _PLAIN_END not in _tail(path):
        raise DumpDamagedError(
            'is cut off: the line "PostgreSQL database dump complete" is missing', code="dump_truncated"
        )


def _check_directory(path: Path, data_entries: frozenset[int], progressed: Callable[[int], None]) -> None:
    read = 0
    for number in sorted(data_entries):
        file = _data_file(path, f"{number}.dat")
        for count in _check_file(file, copy=True):
            read += count
            progressed(read)
    for toc in sorted(path.glob("blobs*.toc")):
        for line in toc.read_text("utf-8", "replace").splitlines():
            name = line.partition(" ")[2].strip()
            if not re.fullmatch(r"blob_\d+\.dat", name):
                raise DumpDamagedError(f"has a list of large objects that is corrupt, {toc.name}", code="dump_corrupt")
            for count in _check_file(_data_file(path, name), copy=False):
                read += count
                progressed(read)


def _data_file(path: Path, name: str) -> Path:
    """Return the data file of that name, however it is compressed."""
    for suffix in ("", ".gz", ".lz4", ".zst"):
        if (path / (name + suffix)).is_file():
            return path / (name + suffix)
    raise DumpDamagedError(f"lacks its file {name}", code="dump_file_missing")


def _check_file(file: Path, *, copy: bool) -> Iterator[int]:
    """Look at a data file, at all of one that is compressed, and yield the bytes that were read.

    A table's ends as pg_dump ends it: a cut that falls on the end of a line is seen by nobody else, neither by
    pg_restore nor by the server.
    """
    size, tail = file.stat().st_size, b""
    if file.suffix not in COMPRESSIONS:
        with file.open("rb") as stream:
            stream.seek(max(0, size - _TAIL_BYTES))
            tail = stream.read()
        yield size
    elif size == 0:
        # An empty stream of gzip is none at all, which pg_restore takes for an empty table.
        raise DumpDamagedError(f"has an empty file {file.name}", code="dump_truncated")
    else:
        try:
            with _unpacked(file) as unpacked:
                while chunk := unpacked.read(_CHUNK_BYTES):
                    tail = (tail + chunk)[-_TAIL_BYTES:]
                    yield len(chunk)
        except (EOFError, DamagedFile) as exc:
            raise DumpDamagedError(f"has a file that is cut off, {file.name}", code="dump_truncated") from exc
        except (gzip.BadGzipFile, zlib.error) as exc:
            raise DumpDamagedError(f"has a file that is corrupt, {file.name}", code="dump_corrupt") from exc
        except ProgramError:
            return  # What reads it is not installed here, and pg_restore has a library of its own.
    if copy and not _is_data_end(tail):
        raise DumpDamagedError(f"has a file that is cut off, {file.name}", code="dump_truncated")


def _unpacked(file: Path) -> AbstractContextManager[IO[bytes]]:
    # The frames of lz4 and zstd end with a mark that pg_restore does not miss where it is gone.
    return cast("IO[bytes]", gzip.open(file)) if file.suffix == ".gz" else opened(file)


def _is_data_end(tail: bytes) -> bool:
    r"""Return whether the data of a table ends as pg_dump ends it: with the end of a COPY, or of an INSERT.

    >>> [_is_data_end(tail) for tail in (b"1\t2\n\\.\n\n\n", b"VALUES (1);\n\n\n", b"\n\n", b"1\t2\n", b"")]
    [True, True, True, False, False]
    """
    return tail.endswith((b"\\.\n\n\n", b";\n\n\n")) or tail == b"\n\n"


def _check_tar(path: Path, data_entries: frozenset[int], progressed: Callable[[int], None]) -> None:
    size, found = path.stat().st_size, set()
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.offset_data + member.size > size:
                    raise DumpDamagedError(f"is cut off in its member {member.name}", code="dump_truncated")
                found.add(member.name.removeprefix("./"))
                if re.fullmatch(r"(\./)?\d+\.dat", member.name):
                    file = archive.extractfile(member)
                    if file is not None:
                        file.seek(max(0, member.size - _TAIL_BYTES))
                        if not _is_data_end(file.read()):
                            raise DumpDamagedError(f"is cut off in its member {member.name}", code="dump_truncated")
                progressed(member.offset_data + member.size)
    except tarfile.TarError as exc:
        raise DumpDamagedError("is a tar archive that is cut off or corrupt", code="dump_truncated") from exc
    missing = sorted(number for number in data_entries if f"{number}.dat" not in found)
    if missing:
        raise DumpDamagedError(f"lacks its member {missing[0]}.dat", code="dump_truncated")
