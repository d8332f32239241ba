"""How far the primary had written at past moments: what lag in seconds and the recovery point are read from.

A mark says that all that was committed up to its time lies before its position. A primary that writes nothing but
housekeeping moves no mark: while no transaction with an id ends, nothing is committed,
so the position of the first such sample stays the one that matters, and its time goes on. The number of marks is
bounded: old ones are thinned out, and what is read from them is then too old rather than too young, by a few percent.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from replcheck.model.live import NodeAnswer, WalMark
from replcheck.model.wal import Lsn

_MOST = 600
_RECENT = 300
"""Marks that are never thinned out: five minutes of samples."""
_COARSE = 0.05
"""How far apart older ones stay, as a share of their age."""
PAGE = 8192
"""Bytes of one page of WAL; one that is not full may wait a while for being flushed where nothing commits."""
_PAGE_HEADER = 40
"""Bytes at the start of a page of WAL, at most, that hold no record: the insert position after a switch lies behind."""

Marks = tuple[WalMark, ...]
"""In the order of time and of position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Up to which moment a position holds all commits."""

    at: datetime | None
    """None where the marks do not go so far back."""
    complete: bool
    """Whether nothing was committed behind the position, as of the last mark."""


def extended(marks: Marks, answer: NodeAnswer) -> Marks:
    """Return the marks with what a primary answered."""
    if answer.insert_lsn is None:
        return marks
    if answer.earlier:
        marks = _with_earlier(marks, answer.earlier)
    mark = mark_of(answer, answer.insert_lsn)
    if not marks or mark.at <= marks[-1].at:
        return marks or (mark,)
    if mark.lsn < marks[-1].lsn:
        # Another history, which left the old one here.
        marks = tuple(old for old in marks if old.lsn <= mark.lsn)
    for number in range(len(marks) - 1, max(-1, len(marks) - 4), -1):
        if nothing_between(marks[number], mark):
            return (*marks[:number], replace(marks[number], at=mark.at))
    return _thinned((*marks, mark))


def mark_of(answer: NodeAnswer, insert_lsn: Lsn) -> WalMark:
    """Return the mark that an answer of a primary makes, which has written that far."""
    return WalMark(
        at=answer.at,
        lsn=insert_lsn,
        next_xid=answer.next_xid,
        idle=answer.next_xid is not None and answer.next_xid == answer.oldest_xid,
        open_xids=answer.open_xids,
    )


def last_within(marks: Marks, position: Lsn) -> WalMark | None:
    """Return the last mark that lies before a position; None where the marks do not go so far back."""
    number = bisect_right(marks, position + _slack(position), key=_lsn)
    return marks[number - 1] if number else None


def reached(marks: Marks, position: Lsn) -> Reached:
    """Return up to which moment everything committed lies before `position`."""
    number = bisect_right(marks, position + _slack(position), key=_lsn)
    if number == 0:
        return Reached(at=None, complete=False)
    return Reached(at=marks[number - 1].at, complete=number == len(marks))


def bytes_behind(position: Lsn, end: Lsn) -> int:
    """Return how many bytes of WAL lie between two positions; none where only the head of a page does."""
    distance = end - position
    return 0 if distance <= _slack(position) else distance


def _slack(position: Lsn) -> int:
    return _PAGE_HEADER if position % PAGE == 0 else 0


def _lsn(mark: WalMark) -> Lsn:
    return mark.lsn


def nothing_between(earlier: WalMark, mark: WalMark) -> bool:
    """Return whether nothing was committed between two marks.

    A transaction that ends is either the newest that ever did, or there are fewer left below that one: no id below it
    is given out any more.
    """
    open_then, open_now = _open_xids(earlier), _open_xids(mark)
    quiet = open_then is not None and open_then == open_now and earlier.next_xid == mark.next_xid
    return quiet or earlier.lsn == mark.lsn


def _open_xids(mark: WalMark) -> int | None:
    return 0 if mark.idle else mark.open_xids if mark.next_xid is not None else None


def _with_earlier(marks: Marks, earlier: Sequence[WalMark]) -> Marks:
    """Put marks of the past before those that samples gave, as far as they fit there."""
    fitting: list[WalMark] = []
    for mark in earlier:
        fits_own = not marks or (mark.at < marks[0].at and mark.lsn <= marks[0].lsn)
        if fits_own and (not fitting or mark.at >= fitting[-1].at):
            fitting.append(mark)
    return (*fitting, *marks)


def _thinned(marks: Marks) -> Marks:
    """Return the marks with those left out that tell too little more than their neighbours for their age."""
    if len(marks) <= _MOST:
        return marks
    now = marks[-1].at
    kept = list(reversed(marks[-_RECENT:]))
    for number in range(len(marks) - _RECENT - 1, -1, -1):
        mark = marks[number]
        if number == 0 or kept[-1].at - marks[number - 1].at > (now - mark.at) * _COARSE:
            kept.append(mark)
    return tuple(reversed(kept))
