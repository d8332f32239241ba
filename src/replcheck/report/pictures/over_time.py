"""Pictures of a cluster over time: lag and recovery point, copies, and everything that happened, on one axis each.

A time in which nothing was watching is hatched in all of them, and no line is drawn through it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from replcheck.model.copy_times import Coverage, Stretch
from replcheck.model.outcome import Outcome
from replcheck.model.units import format_duration, format_percent
from replcheck.report.pictures.axes import AgeAxis, TimeAxis
from replcheck.report.pictures.drawing import Canvas, Drawing, Point, shortened

WIDTH = 760
COLUMNS = 300
"""Parts into which a time is cut for a curve: about as many as can be told apart."""
_LEFT, _RIGHT = 92.0, 744.0
_COLOURS = ("one", "two", "three", "four")
_FEWEST_GAP_PX = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The time that a picture covers."""

    since: datetime
    until: datetime
    gaps: tuple[tuple[datetime, datetime], ...]
    """When nothing was watching, in order."""
    zone: tzinfo | None = None

    def axis(self, left: float = _LEFT) -> TimeAxis:
        """Return the axis of the time."""
        return TimeAxis(since=self.since, until=self.until, left=left, right=_RIGHT, zone=self.zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The worst value that was seen over a time."""

    began_at: datetime
    ended_at: datetime
    seconds: float | None
    """None where it was unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One thing that was measured over the time."""

    name: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A duration that was promised."""

    word: str
    seconds: float
    kind: str = "limit"
    """`limit` or `warn`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something on the line of time."""

    at: datetime
    outcome: Outcome | None
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Happenings of one kind."""

    name: str
    happenings: tuple[Happening, ...]


def lag_over_time(
    frame: Frame, lags: Sequence[Curve], recovery: Curve, limits: Sequence[Limit], *, name: str = "lag"
) -> Drawing:
    """Draw the worst lag of each node above, and the worst age of the recovery point below."""
    canvas = Canvas(WIDTH, 352)
    axis = frame.axis()
    _panel(canvas, frame, axis, "Lag of each standby, the worst of each moment", lags, (), top=30.0, bottom=150.0)
    own = (Curve(name="recovery point", readings=recovery.readings),)
    _panel(canvas, frame, axis, "Age of the recovery point", own, limits, top=214.0, bottom=334.0)
    told = [*(_worst_words(curve) for curve in lags), _worst_words(own[0])]
    told += [f"{limit.word}: {format_duration(limit.seconds)}" for limit in limits]
    return canvas.finished(
        name=name, title="Lag and recovery point over time", description=f"{'; '.join(told)}. {_gap_words(frame)}"
    )


def copies_over_time_drawn(
    frame: Frame, stretches: Sequence[Stretch], *, asked: int, most: int, name: str = "copies"
) -> Drawing:
    """Draw how many copies ran and were proven at each moment, beside how many were asked for."""
    canvas = Canvas(WIDTH, 232)
    axis, top, bottom = frame.axis(), 46.0, 194.0
    most = max(most, asked, *(stretch.running for stretch in stretches), 1)

    def y(count: int) -> float:
        return bottom - count / most * (bottom - top)

    axis.draw(canvas, top, bottom)
    for count in range(most + 1):
        canvas.line((_LEFT, y(count)), (_RIGHT, y(count)), kind="grid")
        canvas.text(_LEFT - 8, y(count) + 4, str(count), kind="small", anchor="end")
    for stretch in stretches:
        x, width = axis.x(stretch.began_at), axis.x(stretch.ended_at) - axis.x(stretch.began_at)
        tip = f"{stretch.running} running, {stretch.proven} proven: {_COVERAGE_WORDS[stretch.coverage]}"
        kind = _COVERAGE_KINDS.get(stretch.coverage)
        if kind and stretch.proven:
            canvas.rect(x, y(stretch.proven), max(width, 0.4), bottom - y(stretch.proven), kind=kind, tip=tip)
        strip = kind or "gap"
        canvas.rect(x, bottom + 20, max(width, _FEWEST_GAP_PX), 9, kind=strip, tip=tip)
    _draw_steps(
        canvas,
        axis,
        [(s.began_at, s.ended_at, y(s.running)) for s in stretches if s.coverage is not Coverage.UNWATCHED],
    )
    _draw_gaps(canvas, frame, axis, top, bottom)
    canvas.line((_LEFT, y(asked)), (_RIGHT, y(asked)), kind="limit")
    _draw_keys(canvas, [("running", "curve one"), (f"{asked} proven asked for", "limit")], 30)
    canvas.text(_LEFT - 8, bottom + 28, "all times", kind="small", anchor="end")
    _coverage_legend(canvas)
    return canvas.finished(name=name, title="Copies over time", description=_copies_words(frame, stretches, asked))


def line_of_time(frame: Frame, lanes: Sequence[Lane], *, name: str = "line-of-time") -> Drawing:
    """Draw when something watched, and beneath it everything that happened, a lane for each kind."""
    row, top = 26.0, 12.0
    bottom = top + row * (len(lanes) + 1)
    canvas = Canvas(WIDTH, round(bottom + 26))
    axis = frame.axis(left=118.0)
    axis.draw(canvas, top, bottom)
    canvas.text(110, top + 16, "watched", kind="small", anchor="end")
    canvas.rect(axis.left, top + 6, axis.right - axis.left, 12, kind="watched")
    for began_at, ended_at in frame.gaps:
        x, width = axis.x(began_at), axis.x(ended_at) - axis.x(began_at)
        canvas.rect(x, top + 5, max(width, _FEWEST_GAP_PX), 14, kind="hole")
        canvas.rect(
            x,
            top + 5,
            max(width, _FEWEST_GAP_PX),
            14,
            kind="gap",
            tip=f"nothing was watching for {_long(began_at, ended_at)}",
        )
    for number, lane in enumerate(lanes, start=1):
        middle = top + row * number + 12
        canvas.text(110, middle + 4, shortened(lane.name, 18), kind="small", anchor="end")
        canvas.line((axis.left, middle), (axis.right, middle), kind="grid")
        for x, happening, count in _thinned(lane.happenings, axis):
            more = f" (and {count - 1:,} more here)" if count > 1 else ""
            _draw_happening(canvas, x, middle, happening, f"{happening.tip}{more}")
    told = [f"{lane.name}: {len(lane.happenings):,}" for lane in lanes]
    return canvas.finished(
        name=name, title="What happened, on one line of time", description=f"{'; '.join(told)}. {_gap_words(frame)}"
    )


def durations_over_time(
    frame: Frame, points: Sequence[tuple[datetime, float, Outcome, str]], limits: Sequence[Limit], *, name: str
) -> Drawing:
    """Draw one dot for each drill: when it began and how long the recovery took."""
    canvas = Canvas(WIDTH, 190)
    axis, top, bottom = frame.axis(), 26.0, 170.0
    largest = max([*(seconds for _, seconds, _, _ in points), *(limit.seconds for limit in limits), 1.0]) * 1.4
    smallest = min([*(seconds for _, seconds, _, _ in points), *(limit.seconds for limit in limits)])
    ages = AgeAxis(smallest_s=smallest, largest_s=largest, top=top, bottom=bottom)
    ages.draw(canvas, _LEFT, _RIGHT)
    axis.draw(canvas, top, bottom)
    _draw_limits(canvas, ages, limits)
    for at, seconds, outcome, tip in points:
        canvas.dot(axis.x(at), ages.y(seconds), 4, kind=f"fill {outcome.value}", tip=tip)
    canvas.text(_LEFT, 14, "Recovery time of each drill", kind="small strong")
    _draw_keys(canvas, _limit_keys(limits), 10)
    told = f"{len(points):,} drills" if len(points) != 1 else "1 drill"
    longest = f", the longest took {format_duration(max(s for _, s, _, _ in points))}" if points else ""
    limited = "".join(f"; {limit.word}: {format_duration(limit.seconds)}" for limit in limits)
    return canvas.finished(name=name, title="Recovery time of drills", description=f"{told}{longest}{limited}.")


_COVERAGE_WORDS = {
    Coverage.ENOUGH: "enough proven copies",
    Coverage.SHORT: "too few copies",
    Coverage.UNPROVEN: "not proven",
    Coverage.UNWATCHED: "nothing was watching",
}
_COVERAGE_KINDS = {
    Coverage.ENOUGH: "fill proven",
    Coverage.SHORT: "fill refuted",
    Coverage.UNPROVEN: "fill partial",
}


def worst_readings(readings: Iterable[Reading], frame: Frame) -> list[tuple[datetime, datetime, float]]:
    """Return the worst known value of each of `COLUMNS` even parts of the time, without parts that have none."""
    whole = (frame.until - frame.since).total_seconds()
    part_s = max(whole / COLUMNS, 1e-3)
    worst: dict[int, float] = {}
    for reading in readings:
        if reading.seconds is None or reading.ended_at < frame.since or reading.began_at > frame.until:
            continue
        first = int((max(reading.began_at, frame.since) - frame.since).total_seconds() / part_s)
        last = int((min(reading.ended_at, frame.until) - frame.since).total_seconds() / part_s)
        for part in range(first, min(last, COLUMNS - 1) + 1):
            worst[part] = max(worst.get(part, 0.0), reading.seconds)
    step = timedelta(seconds=part_s)
    return [(frame.since + part * step, frame.since + (part + 1) * step, worst[part]) for part in sorted(worst)]


def _panel(
    canvas: Canvas,
    frame: Frame,
    axis: TimeAxis,
    title: str,
    curves: Sequence[Curve],
    limits: Sequence[Limit],
    *,
    top: float,
    bottom: float,
) -> None:
    readings = [worst_readings(curve.readings, frame) for curve in curves]
    largest = max([*(value for own in readings for _, _, value in own), *(limit.seconds for limit in limits), 1.0])
    smallest = min([*(value for own in readings for _, _, value in own), *(limit.seconds for limit in limits), largest])
    ages = AgeAxis(smallest_s=smallest, largest_s=largest * 1.4, top=top, bottom=bottom)
    canvas.text(_LEFT, top - 14, title, kind="small strong")
    ages.draw(canvas, _LEFT, _RIGHT)
    axis.draw(canvas, top, bottom)
    for number, own in enumerate(readings):
        colour = _COLOURS[number % len(_COLOURS)]
        steps = [(began_at, ended_at, ages.y(value)) for began_at, ended_at, value in own]
        if len(curves) == 1:
            for began_at, ended_at, y in steps:
                x = axis.x(began_at)
                canvas.rect(x, y, axis.x(ended_at) - x, bottom - y, kind=f"area {colour}")
        _draw_steps(canvas, axis, steps, kind=f"curve {colour}")
    _draw_gaps(canvas, frame, axis, top, bottom)
    _draw_limits(canvas, ages, limits)
    keys = [(shortened(curve.name, 13), f"curve {_COLOURS[n % len(_COLOURS)]}") for n, curve in enumerate(curves)]
    _draw_keys(canvas, [*(keys if len(keys) > 1 else []), *_limit_keys(limits)], top - 18)


def _draw_limits(canvas: Canvas, ages: AgeAxis, limits: Sequence[Limit]) -> None:
    for limit in limits:
        y = ages.y(limit.seconds)
        canvas.line((_LEFT, y), (_RIGHT, y), kind=limit.kind)


def _limit_keys(limits: Sequence[Limit]) -> list[tuple[str, str]]:
    return [(f"{limit.word} {format_duration(limit.seconds)}", limit.kind) for limit in limits]


def _draw_keys(canvas: Canvas, keys: Sequence[tuple[str, str]], y: float) -> None:
    """Draw what lines mean, from the right edge to the left."""
    x = _RIGHT
    for word, kind in reversed(keys):
        x -= 6.3 * len(word)
        canvas.text(x, y + 4, word, kind="small")
        canvas.line((x - 26, y), (x - 6, y), kind=kind)
        x -= 44


def _draw_steps(
    canvas: Canvas, axis: TimeAxis, steps: Sequence[tuple[datetime, datetime, float]], *, kind: str = "curve one"
) -> None:
    """Draw level lines joined where one begins as the other ends, and broken where there is nothing between."""
    run: list[Point] = []
    reached: datetime | None = None
    for began_at, ended_at, y in steps:
        if reached is not None and began_at - reached > timedelta(seconds=1):
            canvas.path(run, kind=kind)
            run = []
        run += [(axis.x(began_at), y), (axis.x(ended_at), y)]
        reached = ended_at
    canvas.path(run, kind=kind)


def _draw_gaps(canvas: Canvas, frame: Frame, axis: TimeAxis, top: float, bottom: float) -> None:
    for began_at, ended_at in frame.gaps:
        x = axis.x(began_at)
        width = max(axis.x(ended_at) - x, _FEWEST_GAP_PX)
        tip = f"nothing was watching for {_long(began_at, ended_at)}"
        canvas.rect(x, top, width, bottom - top, kind="gap", tip=tip)


def _draw_happening(canvas: Canvas, x: float, middle: float, happening: Happening, tip: str) -> None:
    outcome = happening.outcome
    if outcome is Outcome.PROVEN:
        canvas.rect(x - 1, middle - 6, 2, 12, kind="fill proven", tip=tip)
    elif outcome is None:
        canvas.dot(x, middle, 3, kind="key one", tip=tip)
    else:
        canvas.dot(x, middle, 4.5, kind=f"fill {outcome.value}", tip=tip)


def _thinned(happenings: Sequence[Happening], axis: TimeAxis) -> list[tuple[float, Happening, int]]:
    """Return where to draw what: of those that would lie upon each other, the worst alone with their number.

    The worst are drawn last, so that nothing good covers them.
    """
    by_place: dict[int, list[Happening]] = {}
    for happening in happenings:
        by_place.setdefault(round(axis.x(happening.at)), []).append(happening)
    found = []
    for place, here in by_place.items():
        worst = max(here, key=lambda happening: _WEIGHT[happening.outcome])
        found.append((float(place), worst, len(here)))
    return sorted(found, key=lambda item: (_WEIGHT[item[1].outcome], item[0]))


_WEIGHT: dict[Outcome | None, int] = {
    Outcome.PROVEN: 0,
    None: 1,
    Outcome.PARTIAL: 2,
    Outcome.UNCHECKED: 3,
    Outcome.REFUTED: 4,
}


def _coverage_legend(canvas: Canvas) -> None:
    x = _LEFT
    for coverage, word in _COVERAGE_WORDS.items():
        canvas.rect(x, 6, 10, 10, kind=_COVERAGE_KINDS.get(coverage, "gap"))
        canvas.text(x + 14, 15, word, kind="small")
        x += 30 + 5.9 * len(word)


def _worst_words(curve: Curve) -> str:
    values = [reading.seconds for reading in curve.readings if reading.seconds is not None]
    return f"{curve.name}: at worst {format_duration(max(values))}" if values else f"{curve.name}: not known"


def _copies_words(frame: Frame, stretches: Sequence[Stretch], asked: int) -> str:
    whole = sum(stretch.seconds for stretch in stretches) or 1.0
    told = []
    for coverage, word in _COVERAGE_WORDS.items():
        spent = sum(stretch.seconds for stretch in stretches if stretch.coverage is coverage)
        told.append(f"{word} {format_percent(100 * spent / whole)} of the time")
    return f"{asked} proven copies were asked for: {', '.join(told)}. {_gap_words(frame)}"


def _gap_words(frame: Frame) -> str:
    if not frame.gaps:
        return "Something was watching all the time."
    longest = max(frame.gaps, key=lambda gap: gap[1] - gap[0])
    times = "once" if len(frame.gaps) == 1 else f"{len(frame.gaps):,} times"
    return f"Nothing was watching {times}, at longest for {_long(*longest)}."


def _long(began_at: datetime, ended_at: datetime) -> str:
    return format_duration((ended_at - began_at).total_seconds())
