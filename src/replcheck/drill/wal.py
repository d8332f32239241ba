"""Names, timelines and continuity of WAL files. Pure.

The server takes from an archive, for each segment, the file of the newest timeline in its history that can hold it
(PostgreSQL xlogrecovery.c, XLogFileReadAnyTLI). What is told here of an archive follows the same rule.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from replcheck.model.wal import Lsn

_SEGMENT = re.compile(r"(?P<timeline>[0-9A-F]{8})(?P<high>[0-9A-F]{8})(?P<low>[0-9A-F]{8})")
_HISTORY = re.compile(r"(?P<timeline>[0-9A-F]{8})\.history")
_HISTORY_LINE = re.compile(r"\s*(?P<timeline>\d+)\s+(?P<end>[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})\s*(?P<reason>.*)")


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One WAL segment: its number on the line of all WAL, and the timeline that wrote it."""

    number: int
    timeline: int

    @classmethod
    def parse(cls, name: str, segment_bytes: int) -> "Segment | None":
        """Read a file's name, None where it is not that of a whole segment."""
        match = _SEGMENT.fullmatch(name)
        if match is None or (low := int(match["low"], 16)) >= _per_high(segment_bytes):
            return None
        number = int(match["high"], 16) * _per_high(segment_bytes) + low
        return cls(number=number, timeline=int(match["timeline"], 16))

    def name(self, segment_bytes: int) -> str:
        """Return the file's name.

        >>> Segment(number=256 + 3, timeline=2).name(16 * 1024**2)
        '000000020000000100000003'
        """
        high, low = divmod(self.number, _per_high(segment_bytes))
        return f"{self.timeline:08X}{high:08X}{low:08X}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Where a timeline was left for the next one."""

    timeline: int
    end: Lsn
    """The first position that does not belong to it any more."""
    reason: str = ""
    """Why, in the server's fixed words; may name a restore point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far an archive goes without a gap from a position on."""

    end: Lsn
    """The first position that is in none of its files."""
    missing: str
    """The first file that is not there; of the timeline that would have it."""
    later: str | None
    """A file beyond that one, which makes it a hole and not the end; None where there is none."""
    files: int


def segment_number(position: Lsn, segment_bytes: int) -> int:
    """Return the number of the segment that holds a position."""
    return position // segment_bytes


def is_wal_name(name: str) -> bool:
    """Return whether a name is that of a segment or a timeline history: nothing else is ever asked of an archive."""
    return bool(_SEGMENT.fullmatch(name) or _HISTORY.fullmatch(name))


def history_name(timeline: int) -> str:
    """Return the name of a timeline's history file.

    >>> history_name(10)
    '0000000A.history'
    """
    return f"{timeline:08X}.history"


def history_timeline(name: str) -> int | None:
    """Return the timeline whose history a file is, None where it is no history file."""
    match = _HISTORY.fullmatch(name)
    return int(match["timeline"], 16) if match else None


def parse_history(text: str) -> tuple[Switch, ...]:
    """Read a history file: the timelines before it, the oldest first; raise ValueError where it is damaged."""
    switches = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _HISTORY_LINE.fullmatch(line)
        if match is None:
            raise ValueError("a line of the timeline history is malformed")
        switches.append(
            Switch(timeline=int(match["timeline"]), end=Lsn.parse(match["end"]), reason=match["reason"].strip())
        )
    if any(later.timeline <= earlier.timeline for earlier, later in pairwise(switches)):
        raise ValueError("the timelines of the history do not ascend")
    return tuple(switches)


def newest_timeline(start: int, histories: Collection[int]) -> int:
    """Return the timeline that `latest` means: the last of those that follow one another without a gap.

    `histories` are the timelines whose history files exist (PostgreSQL timeline.c, findNewestTimeLine).
    """
    newest = start
    while newest + 1 in histories:
        newest += 1
    return newest


def timeline_at(position: Lsn, timeline: int, history: Sequence[Switch]) -> int:
    """Return the timeline that a position lies on, seen from `timeline` with its history.

    A position at which a timeline ended is the next one's first.
    """
    return next((switch.timeline for switch in history if position < switch.end), timeline)


def needed_segment(number: int, timeline: int, history: Sequence[Switch], *, segment_bytes: int) -> Segment:
    """Return the segment of a number that recovery along `timeline` needs.

    Where a timeline ends within it, that is the next one's: it begins with a copy of what went before (xlog.c,
    XLogInitNewTimeline).
    """
    last_byte = Lsn((number + 1) * segment_bytes - 1)
    return Segment(number=number, timeline=timeline_at(last_byte, timeline, history))


def reach(
    names: Iterable[str], start: Lsn, timeline: int, history: Sequence[Switch] = (), *, segment_bytes: int
) -> Reach:
    """Return how far files go without a gap from `start` on, along `timeline` and its history.

    `names` are those of whole files, without the ending of a compression.
    """

    def needed(number: int) -> Segment:
        return needed_segment(number, timeline, history, segment_bytes=segment_bytes)

    parsed = {Segment.parse(name, segment_bytes) for name in names}
    present = {segment for segment in parsed if segment is not None and segment == needed(segment.number)}
    first = number = segment_number(start, segment_bytes)
    while needed(number) in present:
        number += 1
    later = min((segment for segment in present if segment.number > number), default=None)
    return Reach(
        end=Lsn(number * segment_bytes),
        missing=needed(number).name(segment_bytes),
        later=later.name(segment_bytes) if later else None,
        files=number - first,
    )


def contiguous_end(names: Iterable[str], first: int, *, segment_bytes: int) -> int | None:
    """Return the number behind the last of the segments that follow one another from `first` on, of any timeline.

    None where none is there, or another lies behind a gap.

    >>> [contiguous_end([Segment(n, 1).name(1 << 24) for n in there], 3, segment_bytes=1 << 24)
    ...  for there in ((2, 3, 4), (3, 5), (1, 2))]
    [5, None, None]
    """
    numbers = {
        s.number for name in names if (s := Segment.parse(name, segment_bytes)) is not None and s.number >= first
    }
    return first + len(numbers) if numbers and max(numbers) - first + 1 == len(numbers) else None


def segments_between(names: Iterable[str], start: Lsn, end: Lsn | None, *, segment_bytes: int) -> int:
    """Return how many segments there are from a position on, up to another, each counted once on whatever timelines.

    None for `end` counts all.

    >>> names = [Segment(n, t).name(1 << 24) for n, t in ((2, 1), (3, 1), (4, 1), (4, 2), (5, 2))]
    >>> [segments_between(names, Lsn(3 << 24), end, segment_bytes=1 << 24) for end in (None, Lsn(5 << 24))]
    [3, 2]
    """
    first = segment_number(start, segment_bytes)
    last = None if end is None else segment_number(Lsn(end - 1), segment_bytes)
    numbers = {segment.number for name in names if (segment := Segment.parse(name, segment_bytes)) is not None}
    return len([number for number in numbers if number >= first and (last is None or number <= last)])


def _per_high(segment_bytes: int) -> int:
    return 0x100000000 // segment_bytes
