"""What stands in a WAL segment's bytes: whose it is, and whether it would make a tablespace. Pure.

A server that replays the creation of a tablespace makes it at its original place, outside of any scratch directory:
where the original server lives on this machine, that is its own data (PostgreSQL tablespace.c, tblspc_redo).
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from replcheck.model.wal import Lsn

_LONG_HEADER = struct.Struct("<HHIQI4xQII")
"""XLogLongPageHeaderData (xlog_internal.h): magic, info, timeline, address, rest, system, size of segment and page."""
_LONG_HEADER_BYTES = 40
_SHORT_HEADER_BYTES = 24
_CREATION = re.compile(rb"\x00\x05\x00\x00.{4}(?:\xff(?P<short>.)|\xfe(?P<long>.{4}))(?P<oid>.{4})/", re.DOTALL)
"""From xl_info on: XLOG_TBLSPC_CREATE of RM_TBLSPC_ID, padding, checksum, then the main data: an OID and a path."""
_BEFORE_INFO = 16
_LONGEST_RECORD = 2048
"""No record that creates a tablespace is longer: a path has 1024 bytes at most (MAXPGPATH)."""
_MOST_RESTS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFacts:
    """What the first page of a segment says; of a segment that was never written, zeros."""

    timeline: int
    address: Lsn
    """Of its first byte."""
    system_identifier: int
    segment_bytes: int
    page_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A record that creates a tablespace."""

    position: Lsn
    oid: int
    path: str


def segment_facts(data: bytes) -> SegmentFacts | None:
    """Read a segment's first header, None where it is none: cut off, or zeros."""
    if len(data) < _LONG_HEADER_BYTES:
        return None
    magic, info, timeline, address, _, system, segment_bytes, page_bytes = _LONG_HEADER.unpack_from(data)
    if magic >> 8 != 0xD1 or not info & 0x02 or page_bytes < 1024 or page_bytes & (page_bytes - 1):
        return None
    return SegmentFacts(
        timeline=timeline,
        address=Lsn(address),
        system_identifier=system,
        segment_bytes=segment_bytes,
        page_bytes=page_bytes,
    )


class CreationFinder:
    """Finds the records that create tablespaces in segments, each of which is looked at after the one before it.

    A record may go on in the next page, and in the next segment. Others may be looked at in between: a server asks for
    the segment of its checkpoint before those that it replays.
    """

    def __init__(self) -> None:
        self._rests: dict[Lsn, bytes] = {}
        """The ends of the segments that were looked at last, by the address at which they go on."""

    def look(self, data: bytes, facts: SegmentFacts) -> list[Creation]:
        """Return the records of one segment, and of one that began in the segment before."""
        begun = self._rests.get(facts.address, b"")
        stream = begun + _without_headers(data, facts.page_bytes)
        found = [
            Creation(position=_position(start - len(begun), facts), oid=oid, path=path)
            for start, oid, path in _creations(stream)
        ]
        following = Lsn(facts.address + facts.segment_bytes)
        self._rests.pop(following, None)
        self._rests[following] = stream[-_LONGEST_RECORD:]
        if len(self._rests) > _MOST_RESTS:
            del self._rests[next(iter(self._rests))]
        return found


def _creations(stream: bytes) -> Iterator[tuple[int, int, str]]:
    """Yield where each record begins that is whole, its OID and its path."""
    for match in _CREATION.finditer(stream):
        start = match.start() - _BEFORE_INFO
        length = match["short"][0] if match["short"] is not None else int.from_bytes(match["long"], "little")
        data_at = match.end("short") if match["short"] is not None else match.end("long")
        data = stream[data_at : data_at + length]
        whole = start >= 0 and len(data) == length and data[-1:] == b"\0" and b"\0" not in data[4:-1]
        if whole and int.from_bytes(stream[start : start + 4], "little") == data_at + length - start:
            yield start, int.from_bytes(match["oid"], "little"), data[4:-1].decode("utf-8", errors="replace")


def _without_headers(data: bytes, page_bytes: int) -> bytes:
    # Most of a segment that was switched away from is empty.
    data = data[: len(data.rstrip(b"\0")) + page_bytes]
    parts = [data[_LONG_HEADER_BYTES:page_bytes]]
    view = memoryview(data)
    parts += [
        view[at + _SHORT_HEADER_BYTES : at + page_bytes]  # type: ignore[misc]
        for at in range(page_bytes, len(data), page_bytes)
    ]
    return b"".join(parts)


def _position(offset: int, facts: SegmentFacts) -> Lsn:
    """Return the position of a byte of the stream without headers; before the segment for a negative offset."""
    first = facts.page_bytes - _LONG_HEADER_BYTES
    if offset < first:
        return Lsn(facts.address + _LONG_HEADER_BYTES + offset)
    page, within = divmod(offset - first, facts.page_bytes - _SHORT_HEADER_BYTES)
    return Lsn(facts.address + (page + 1) * facts.page_bytes + _SHORT_HEADER_BYTES + within)
