"""A period cut into minutes, hours, days, weeks or months, whichever makes a table that people still read."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

_MOST_ROWS = 32
_DAY_S = 86400.0
_STEPS_MIN = (1, 5, 15, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """A part of a period."""

    begin: datetime
    end: datetime
    """Not part of it."""
    word: str


def divisions(since: datetime, until: datetime, zone: tzinfo | None) -> tuple[Division, ...]:
    """Return the parts of a period, as the calendar of `zone` (None: the machine's) has them; the edges are cut.

    >>> from datetime import UTC
    >>> [part.word for part in divisions(datetime(2026, 1, 30, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC), UTC)]
    ['2026-01-30', '2026-01-31', '2026-02-01']
    """
    days = (until - since).total_seconds() / _DAY_S
    local = since.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    for minutes in _STEPS_MIN:
        if days * _DAY_S <= (_MOST_ROWS - 1) * minutes * 60:
            hour = since.astimezone(zone).replace(minute=0, second=0, microsecond=0)
            steps = _stepped(hour, timedelta(minutes=minutes))
            return tuple(_cut(steps, since, until, "%Y-%m-%d %H:%M"))
    if days <= _MOST_ROWS - 1:
        return tuple(_cut(_stepped(local, timedelta(days=1)), since, until, "%Y-%m-%d"))
    if days <= 7 * (_MOST_ROWS - 1):
        monday = local - timedelta(days=local.weekday())
        return tuple(_cut(_stepped(monday, timedelta(days=7)), since, until, "week of %Y-%m-%d"))
    return tuple(_cut(_months(local, 1 if days <= 31 * (_MOST_ROWS - 1) else 12), since, until, "%Y-%m"))


def _cut(borders: Iterator[datetime], since: datetime, until: datetime, form: str) -> Iterator[Division]:
    begin = next(borders)
    for end in borders:
        if begin >= until:
            return
        if end <= since:
            begin = end
            continue
        yield Division(begin=max(begin, since), end=min(end, until), word=begin.strftime(form))
        begin = end


def _stepped(begin: datetime, step: timedelta) -> Iterator[datetime]:
    while True:
        yield begin
        begin += step


def _months(local: datetime, months: int) -> Iterator[datetime]:
    number = (local.year * 12 + local.month - 1) // months * months
    while True:
        yield local.replace(year=number // 12, month=number % 12 + 1, day=1)
        number += months
