"""Axes of pictures over time: where a moment and an age lie, and which of them are written down."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from replcheck.model.units import format_duration
from replcheck.report.pictures.drawing import Canvas

_MOST_TICKS = 9
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS_S = tuple(
    unit * count for unit, counts in ((_MINUTE, (1, 5, 15, 30)), (_HOUR, (1, 3, 6, 12))) for count in counts
)
_STEPS_D = (1, 2, 7, 14)
_STEPS_MONTHS = (1, 2, 3, 6, 12, 24, 60)
_AGES_S = (0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 6 * 3600.0, 86400.0, 7 * 86400.0, 30 * 86400.0, 365 * 86400.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAxis:
    """A horizontal axis from `since` to `until`."""

    since: datetime
    until: datetime
    left: float
    right: float
    zone: tzinfo | None
    """None is the zone of the machine."""

    def x(self, moment: datetime) -> float:
        """Return where a moment lies, at the edge where it is beyond."""
        whole = max((self.until - self.since).total_seconds(), 1e-3)
        share = (moment - self.since).total_seconds() / whole
        return self.left + min(max(share, 0.0), 1.0) * (self.right - self.left)

    def draw(self, canvas: Canvas, top: float, bottom: float) -> None:
        """Draw the ticks as lines from top to bottom, with their words below."""
        for moment, word in ticks(self.since, self.until, self.zone):
            x = self.x(moment)
            canvas.line((x, top), (x, bottom), kind="grid")
            canvas.text(x, bottom + 14, word, kind="small", anchor="middle")
        canvas.line((self.left, bottom), (self.right, bottom), kind="axis")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeAxis:
    """A vertical axis of durations, logarithmic: a second and a day are both read from it."""

    smallest_s: float
    """The axis begins at or below it, but not below a tenth of a second."""
    largest_s: float
    top: float
    bottom: float

    @property
    def floor_s(self) -> float:
        """Return the duration of the base line; what is shorter lies on it too."""
        return max((age for age in _AGES_S if age <= self.smallest_s), default=_AGES_S[0])

    @property
    def ceiling_s(self) -> float:
        """Return the duration of the upper edge."""
        return max(self.largest_s, 10 * self.floor_s)

    def y(self, seconds: float) -> float:
        """Return where a duration lies."""
        share = math.log(max(seconds, self.floor_s) / self.floor_s) / math.log(self.ceiling_s / self.floor_s)
        return self.bottom - min(share, 1.0) * (self.bottom - self.top)

    def draw(self, canvas: Canvas, left: float, right: float) -> None:
        """Draw a line for each duration that people count in."""
        for age in _AGES_S:
            if self.floor_s <= age <= self.ceiling_s:
                canvas.line((left, self.y(age)), (right, self.y(age)), kind="grid")
                word = f"≤{format_duration(age)}" if age == self.floor_s else format_duration(age)
                canvas.text(left - 6, self.y(age) + 4, word, kind="small", anchor="end")


def ticks(since: datetime, until: datetime, zone: tzinfo | None) -> list[tuple[datetime, str]]:
    """Return the times to write down between two times, at most nine: round ones, as a clock on the wall shows them.

    >>> from datetime import UTC
    >>> year = (datetime(2026, 1, 15, tzinfo=UTC), datetime(2027, 1, 15, tzinfo=UTC))
    >>> [word for _, word in ticks(*year, UTC)]
    ['Mar 2026', 'May', 'Jul', 'Sep', 'Nov', 'Jan 2027']
    """
    whole_s = (until - since).total_seconds()
    local = since.astimezone(zone)
    for step_s in _STEPS_S:
        if whole_s / step_s <= _MOST_TICKS:
            return list(_within(since, until, _regular(local, timedelta(seconds=step_s)), "%H:%M", "%b %-d, %H:%M"))
    for days in _STEPS_D:
        if whole_s / (days * _DAY) <= _MOST_TICKS:
            return list(_within(since, until, _daily(local, days), "%-d", "%b %-d"))
    for months in _STEPS_MONTHS:
        if whole_s / (months * 30.4 * _DAY) <= _MOST_TICKS:
            return list(_within(since, until, _monthly(local, months), "%b", "%b %Y"))
    return []


def _within(
    since: datetime, until: datetime, moments: Iterator[datetime], form: str, first_form: str
) -> Iterator[tuple[datetime, str]]:
    """Yield those between two times; the first one, and the first of each larger unit, are written in full."""
    before = ""
    for moment in moments:
        if moment > until:
            return
        if moment < since:
            continue
        full, short = moment.strftime(first_form), moment.strftime(form)
        rest = full.replace(short, "") if form == "%H:%M" else moment.strftime("%Y" if form == "%b" else "%b %Y")
        yield moment, full if rest != before else short
        before = rest


def _regular(local: datetime, step: timedelta) -> Iterator[datetime]:
    moment = local.replace(hour=0, minute=0, second=0, microsecond=0)
    while True:
        yield moment
        moment += step


def _daily(local: datetime, days: int) -> Iterator[datetime]:
    moment = local.replace(hour=0, minute=0, second=0, microsecond=0)
    while True:
        yield moment
        moment += timedelta(days=days)


def _monthly(local: datetime, months: int) -> Iterator[datetime]:
    number = (local.year * 12 + local.month - 1) // months * months
    while number // 12 <= 9998:
        yield local.replace(year=number // 12, month=number % 12 + 1, day=1, hour=0, minute=0, second=0, microsecond=0)
        number += months
