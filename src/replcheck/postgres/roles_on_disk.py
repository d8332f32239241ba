"""Find a superuser's name in the files of a data directory: a cluster need not have a role named postgres.

Reads pg_authid's heap pages as they lie there, which may be older than what the WAL makes of them. What is found is
tried, never trusted: it only says whom to connect as.
Source: PostgreSQL relmapper.c, pg_authid.h, bufpage.h, htup_details.h.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from replcheck.postgres.server import SUPERUSER

_AUTHID = 1260
"""OID of pg_authid, a mapped relation."""
_MAP = "pg_filenode.map"
_MAP_MAGIC = 0x592717
_PAGE_BYTES = 8192
_POINTERS_AT = 24
_NAME_BYTES = 64
_HEAP_XMAX_INVALID = 0x0800
_XMAX = slice(4, 8)
_INFOMASK_AT = 20
_HEADER_BYTES_AT = 22


def superusers(data_dir: Path) -> list[str]:
    """Return names that a superuser may have: `postgres` first, those that are valid on disk, then former ones."""
    try:
        pages = (data_dir / "global" / str(_file_of_authid(data_dir))).read_bytes()
    except (OSError, ValueError, struct.error):
        pages = b""
    found = sorted({role for at in range(0, len(pages), _PAGE_BYTES) for role in _roles(pages[at : at + _PAGE_BYTES])})
    return list(dict.fromkeys([SUPERUSER, *(name for _, _, name in found)]))


def _file_of_authid(data_dir: Path) -> int:
    data = (data_dir / "global" / _MAP).read_bytes()
    magic, count = struct.unpack_from("<ii", data)
    if magic != _MAP_MAGIC:
        raise ValueError(_MAP)
    pairs = dict(struct.iter_unpack("<II", data[8 : 8 + 8 * count]))
    if _AUTHID not in pairs:
        raise ValueError(_MAP)
    return int(pairs[_AUTHID])


def _roles(page: bytes) -> Iterator[tuple[bool, int, str]]:
    """Yield of each superuser whether its row was deleted or changed, as far as the page tells, its OID and name."""
    if len(page) < _PAGE_BYTES:
        return
    lower = int.from_bytes(page[12:14], "little")
    for at in range(_POINTERS_AT, min(lower, _PAGE_BYTES - 3), 4):
        packed = int.from_bytes(page[at : at + 4], "little")
        offset, state, length = packed & 0x7FFF, packed >> 15 & 3, packed >> 17
        row = page[offset : offset + length]
        if state != 1 or len(row) < _HEADER_BYTES_AT + 1 + 4 + _NAME_BYTES + 1:
            continue
        data = row[row[_HEADER_BYTES_AT] :]
        deleted = int.from_bytes(row[_XMAX], "little") and not (
            int.from_bytes(row[_INFOMASK_AT : _INFOMASK_AT + 2], "little") & _HEAP_XMAX_INVALID
        )
        name = data[4 : 4 + _NAME_BYTES].rstrip(b"\0").decode("utf-8", errors="replace")
        if name and data[4 + _NAME_BYTES] == 1:
            yield bool(deleted), int.from_bytes(data[:4], "little"), name
