"""PostgreSQL's pages as bytes: header, line pointers, tuples, columns, and the page checksum.

Pure functions over one page of 8192 bytes, little-endian, as storage/bufpage.h, storage/itemid.h and
access/htup_details.h describe it. Whatever changes a page returns a new one, its checksum not yet recomputed.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

PAGE_SIZE = 8192
HEADER_SIZE = 24
TUPLE_HEADER_SIZE = 23
BLOCKS_PER_SEGMENT = 131_072
"""Blocks of one file of a relation (RELSEG_SIZE)."""

PD_ALL_VISIBLE = 0x0004
HEAP_XMIN_COMMITTED = 0x0100
HEAP_XMIN_INVALID = 0x0200
HEAP_XMAX_INVALID = 0x0800
_HEAP_HASNULL = 0x0001
_NATTS_MASK = 0x07FF
_BTP_LEAF = 0x0001
_BTP_DELETED = 0x0004
_BTP_HALF_DEAD = 0x0010

_EXTERNAL = 0x01
"""First byte of a pointer into the TOAST table (varatt.h, VARATT_IS_1B_E)."""

_CHECKSUM_AT = 8
_FLAGS_AT = 10
_LOWER_AT = 12
_FNV_PRIME = 16_777_619
_WORD = 0xFFFFFFFF
# The starting values of the 32 parallel sums (storage/checksum_impl.h, checksumBaseOffsets).
_BASE_OFFSETS = (
    *(0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C),
    *(0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB),
    *(0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4),
    *(0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756),
)


class LineState(IntEnum):
    """What a line pointer points at (lp_flags)."""

    UNUSED = 0
    NORMAL = 1
    REDIRECT = 2
    DEAD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePointer:
    """One line pointer; `number` counts from 1, as in a ctid."""

    number: int
    offset: int
    """Of the tuple, in bytes from the page's begin."""
    state: LineState
    length: int
    """Of the tuple, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """What is needed of pg_attribute to find a column's bytes in a tuple."""

    name: str
    length: int
    """attlen: bytes, -1 for varlena, -2 for cstring."""
    align: int
    """attalign, as bytes: 1, 2, 4 or 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where a column's value lies, in bytes from the tuple's begin; the header of a varlena is left out."""

    start: int
    length: int
    plain: bool
    """False for a value that is compressed or lies in the TOAST table."""
    external: bool = False
    """True where the tuple holds only a pointer into the TOAST table."""


def checksum(page: bytes, block: int) -> int:
    """Return the checksum of a page, 1 to 65535 (storage/checksum_impl.h, pg_checksum_page).

    It depends on the page's block number, and takes the checksum field itself as zero.

    >>> checksum(bytes(PAGE_SIZE), 0) != checksum(bytes(PAGE_SIZE), 1)
    True
    """
    words = struct.unpack("<2048I", page[:_CHECKSUM_AT] + b"\0\0" + page[_CHECKSUM_AT + 2 :])
    folded = 0
    for lane, base in enumerate(_BASE_OFFSETS):
        total = base
        for word in (*words[lane::32], 0, 0):
            mixed = total ^ word
            total = (mixed * _FNV_PRIME & _WORD) ^ (mixed >> 17)
        folded ^= total
    return (folded ^ block) % 65_535 + 1


def stored_checksum(page: bytes) -> int:
    """Return the checksum that the page's header holds; 0 where none was ever computed."""
    return _u16(page, _CHECKSUM_AT)


def with_checksum(page: bytes, block: int) -> bytes:
    """Return the page with its checksum recomputed.

    >>> page = with_checksum(bytes(PAGE_SIZE), 7)
    >>> stored_checksum(page) == checksum(page, 7)
    True
    """
    return _patched(page, _CHECKSUM_AT, struct.pack("<H", checksum(page, block)))


def flags(page: bytes) -> int:
    """Return the page's flags (pd_flags)."""
    return _u16(page, _FLAGS_AT)


def with_flags(page: bytes, value: int) -> bytes:
    """Return the page with other flags."""
    return _patched(page, _FLAGS_AT, struct.pack("<H", value))


def lower(page: bytes) -> int:
    """Return where the line pointers end (pd_lower); 0 on a page that was never used."""
    return _u16(page, _LOWER_AT)


def upper(page: bytes) -> int:
    """Return where the tuples begin (pd_upper)."""
    return _u16(page, _LOWER_AT + 2)


def with_bounds(page: bytes, *, lower: int, upper: int) -> bytes:
    """Return the page with other bounds of its free space, both in bytes."""
    return _patched(page, _LOWER_AT, struct.pack("<HH", lower, upper))


def line_pointers(page: bytes) -> list[LinePointer]:
    """Return the line pointers of a page, none of one that was never used."""
    count = max(0, lower(page) - HEADER_SIZE) // 4
    return [_line_pointer(number, _u32(page, HEADER_SIZE + 4 * (number - 1))) for number in range(1, count + 1)]


def with_line_pointer(page: bytes, pointer: LinePointer) -> bytes:
    """Return the page with one line pointer replaced.

    >>> pointer = LinePointer(number=1, offset=8000, state=LineState.NORMAL, length=40)
    >>> page = with_line_pointer(with_bounds(bytes(PAGE_SIZE), lower=28, upper=8000), pointer)
    >>> line_pointers(page) == [pointer]
    True
    """
    packed = pointer.offset | pointer.state << 15 | pointer.length << 17
    return _patched(page, HEADER_SIZE + 4 * (pointer.number - 1), struct.pack("<I", packed))


def tuple_bytes(page: bytes, pointer: LinePointer) -> bytes:
    """Return the bytes of a tuple, header and all."""
    return page[pointer.offset : pointer.offset + pointer.length]


def with_bytes(page: bytes, at: int, data: bytes) -> bytes:
    """Return the page with the bytes at an offset replaced."""
    return _patched(page, at, data)


def live_tuples(page: bytes, *, finished_before: int) -> list[LinePointer]:
    """Return the heap tuples that every snapshot sees: inserted by a committed transaction, never deleted or locked.

    `finished_before` is a 32-bit xid: all before it had ended when the relation was vacuumed last, so that of them only
    committed ones can have left a tuple. What the hint bits and this leave open is left out.
    """
    return [
        pointer
        for pointer in line_pointers(page)
        if pointer.state is LineState.NORMAL and _is_live(tuple_bytes(page, pointer), finished_before)
    ]


def infomask(row: bytes) -> int:
    """Return the t_infomask of a heap tuple."""
    return _u16(row, 20)


def with_infomask(row: bytes, value: int) -> bytes:
    """Return a heap tuple with another t_infomask."""
    return _patched(row, 20, struct.pack("<H", value))


def with_ctid(row: bytes, block: int, number: int) -> bytes:
    """Return a heap tuple whose t_ctid points at a position, its own for a live row."""
    return _patched(row, 12, struct.pack("<HHH", block >> 16, block & 0xFFFF, number))


def column_spans(row: bytes, attributes: Sequence[Attribute]) -> dict[str, Span]:
    """Return where the values of a heap tuple's columns lie; NULLs and columns added later are left out.

    `attributes` are all of the relation's, dropped ones too, in their order. Follows heap_deform_tuple.
    """
    stored = _u16(row, 18) & _NATTS_MASK
    nulls = infomask(row) & _HEAP_HASNULL
    at = row[22]
    spans = {}
    for index, attribute in enumerate(attributes[:stored]):
        if nulls and not row[TUPLE_HEADER_SIZE + index // 8] >> index % 8 & 1:
            continue
        at = _aligned(row, at, attribute)
        header, length, plain = _extent(row, at, attribute)
        external = attribute.length == -1 and row[at] == _EXTERNAL
        spans[attribute.name] = Span(start=at + header, length=length, plain=plain, external=external)
        at += header + length
    return spans


def toast_value_ids(row: bytes, attributes: Sequence[Attribute]) -> Iterator[int]:
    """Yield the ids of the values that a heap tuple keeps in the TOAST table (varatt.h, varatt_external)."""
    for span in column_spans(row, attributes).values():
        if span.external:
            yield _u32(row, span.start + 8)


def leaf_entries(page: bytes) -> list[LinePointer]:
    """Return the entries of a B-tree leaf page without its high key; none of any other page (access/nbtree.h)."""
    special = _u16(page, _LOWER_AT + 4)
    if not 0 < special <= PAGE_SIZE - 16:
        return []
    _, right, _, kind, _ = struct.unpack_from("<IIIHH", page, special)
    if not kind & _BTP_LEAF or kind & (_BTP_DELETED | _BTP_HALF_DEAD):
        return []
    entries = line_pointers(page)
    return entries[1:] if right else entries


def without_line_pointer(page: bytes, number: int) -> bytes:
    """Return an index page with one entry taken out and those behind it moved up; its bytes stay as a hole."""
    at = HEADER_SIZE + 4 * (number - 1)
    moved = page[at + 4 : lower(page)] + b"\0\0\0\0"
    return with_bounds(_patched(page, at, moved), lower=lower(page) - 4, upper=upper(page))


def free_bytes(page: bytes) -> int:
    """Return the bytes between the line pointers and the tuples."""
    return upper(page) - lower(page)


def maxalign(size: int) -> int:
    """Round a size up to eight bytes.

    >>> maxalign(1), maxalign(8), maxalign(41)
    (8, 8, 48)
    """
    return -(-size // 8) * 8


def _is_live(row: bytes, finished_before: int) -> bool:
    mask = infomask(row)
    xmin = _u32(row, 0)
    finished = 0 < (finished_before - xmin) % 2**32 < 2**31 and not mask & HEAP_XMIN_INVALID
    return bool((mask & HEAP_XMIN_COMMITTED or finished) and mask & HEAP_XMAX_INVALID)


def _line_pointer(number: int, packed: int) -> LinePointer:
    return LinePointer(number=number, offset=packed & 0x7FFF, state=LineState(packed >> 15 & 3), length=packed >> 17)


def _aligned(row: bytes, at: int, attribute: Attribute) -> int:
    """Return where a value begins: a varlena with a short header is not aligned, and padding is zero."""
    if attribute.length == -1 and row[at] != 0:
        return at
    return -(-at // attribute.align) * attribute.align


def _extent(row: bytes, at: int, attribute: Attribute) -> tuple[int, int, bool]:
    """Return the bytes of a value's header, the bytes behind it, and whether those are the plain value (varatt.h)."""
    if attribute.length > 0:
        return 0, attribute.length, True
    if attribute.length == -2:
        return 0, row.index(b"\0", at) + 1 - at, True
    first = row[at]
    if first == _EXTERNAL:
        return 2, 16, False
    if first & 1:
        return 1, (first >> 1) - 1, True
    header = _u32(row, at)
    return 4, (header >> 2) - 4, header & 3 == 0


def _patched(data: bytes, at: int, patch: bytes) -> bytes:
    return data[:at] + patch + data[at + len(patch) :]


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")
