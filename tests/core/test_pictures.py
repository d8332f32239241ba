"""Pictures and what they are drawn from: where a difference lies, where nothing was watching, what a tick says."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.model.audit import CtidRange, DifferenceKind, RelationReplica
from replcheck.model.copy_times import Coverage, Stretch
from replcheck.model.drill import DrillLimits
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.spans import WatchSpan
from replcheck.report.divisions import divisions
from replcheck.report.pictures.axes import AgeAxis, TimeAxis, ticks
from replcheck.report.pictures.chunk_map import cell_verdicts, chunk_map, relations_drawn
from replcheck.report.pictures.drawing import Canvas, Drawing, shortened
from replcheck.report.pictures.over_time import (
    COLUMNS,
    Curve,
    Frame,
    Happening,
    Lane,
    Limit,
    Reading,
    copies_over_time_drawn,
    lag_over_time,
    line_of_time,
    worst_readings,
)
from replcheck.report.pictures.stages import drill_stages
from replcheck.report.watched import watched
from tests import factories
from tests.core import drills

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DIVERGED = RelationReplica(node="db3", verdict=Verdict.DIVERGED, rows_differing=1)


def shapes(drawing: Drawing) -> ET.Element:
    return ET.fromstring(f"<svg>{drawing.shapes}</svg>")  # noqa: S314 - of our own making


def of_kind(drawing: Drawing, kind: str) -> list[ET.Element]:
    return [shape for shape in shapes(drawing).iter() if kind in (shape.get("class") or "").split()]


def at_blocks(*blocks: tuple[int, int], **changes):
    ranges = tuple(CtidRange(first_block=a, first_offset=1, last_block=b, last_offset=1) for a, b in blocks)
    return factories.divergence(ranges=ranges, **changes)


@pytest.mark.parametrize(
    ("found", "cells"),
    [
        ([at_blocks((0, 0))], {0}),
        ([at_blocks((99, 99))], {9}),
        ([at_blocks((15, 34))], {1, 2, 3}),
        ([at_blocks((5, 5)), at_blocks((95, 96))], {0, 9}),
        ([at_blocks((250, 250))], {9}),
        ([factories.divergence(DifferenceKind.UNREADABLE, ranges=(), block=42, sqlstate="XX001")], {4}),
        ([factories.divergence(ranges=())], set(range(10))),
        ([at_blocks((0, 0)), factories.divergence(ranges=())], set(range(10))),
        ([at_blocks((0, 0)), factories.divergence(DifferenceKind.INDEX, ranges=(), what="index x")], {0}),
        ([at_blocks((0, 0), node="db2"), at_blocks((50, 50))], {5}),
    ],
)
def test_a_difference_is_drawn_about_where_it_lies(found, cells):
    relation = factories.relation(size_bytes=100 * 8192, verdict=Verdict.DIVERGED)
    verdicts = cell_verdicts(relation, DIVERGED, found, 10)
    assert {place for place, verdict in enumerate(verdicts) if verdict is Verdict.DIVERGED} == cells


@given(
    blocks=st.integers(1, 10**6),
    cells=st.integers(1, 62),
    found=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 50)), min_size=1, max_size=5),
)
def test_no_difference_is_lost_however_the_cells_divide_a_relation(blocks, cells, found):
    relation = factories.relation(size_bytes=blocks * 8192, verdict=Verdict.DIVERGED)
    divergences = [at_blocks((first, first + more)) for first, more in found]
    verdicts = cell_verdicts(relation, DIVERGED, divergences, cells)
    assert len(verdicts) == cells
    assert Verdict.DIVERGED in verdicts


@pytest.mark.parametrize("verdict", [Verdict.CONSISTENT, Verdict.INCONCLUSIVE, Verdict.UNCHECKED])
def test_a_relation_that_did_not_diverge_looks_the_same_everywhere(verdict):
    replica = RelationReplica(node="db3", verdict=verdict)
    assert cell_verdicts(factories.relation(), replica, [at_blocks((0, 0))], 3) == [verdict] * 3


def test_what_is_not_consistent_has_a_bar_however_many_relations_there_are():
    many = [factories.relation(f"large_{number}", size_bytes=1 << 30) for number in range(500)]
    small = factories.relation("small", Verdict.DIVERGED, size_bytes=8192)
    result = factories.diverged(relations=(*many, small))
    assert relations_drawn(result)[0] == small
    drawing = chunk_map(result)
    assert len(of_kind(drawing, "refuted")) >= 2  # the legend's and the bar's
    assert len(drawing.shapes) < 400_000
    assert "489 relations are squares" in drawing.description


def test_a_name_in_a_picture_is_no_markup():
    drawing = chunk_map(factories.consistent(relations=(factories.relation("<b>&\x1b[2J"),)))
    texts = [shape.text or "" for shape in shapes(drawing).iter("text")]
    assert any("<b>&" in text for text in texts)
    assert "\x1b" not in drawing.shapes


@pytest.mark.parametrize("limit", [None, 1.0, 25.0, 86400.0])
def test_the_stages_of_a_drill_follow_one_another(limit):
    result = drills.result(limits=DrillLimits(max_time_s=limit))
    bars = of_kind(drill_stages(result), "stage")
    assert len(bars) == len(result.stages)
    lefts = [float(bar.get("x", "")) for bar in bars]
    assert lefts == sorted(lefts)
    assert max(float(bar.get("x", "")) + float(bar.get("width", "")) for bar in bars) <= 692
    assert len(of_kind(drill_stages(result), "limit")) == (1 if limit in {1.0, 25.0} else 0)


def test_a_stage_that_did_not_finish_is_told():
    result = drills.broken_archive()
    assert "did not finish" in "".join(shapes(drill_stages(result)).itertext())
    assert "it could not be used" in drill_stages(result).description


def reading(begin: float, end: float, seconds: float | None) -> Reading:
    return Reading(began_at=BEGIN + begin * HOUR, ended_at=BEGIN + end * HOUR, seconds=seconds)


FRAME = Frame(since=BEGIN, until=BEGIN + COLUMNS * HOUR, gaps=(), zone=UTC)


def test_a_column_shows_the_worst_that_was_seen_in_it():
    found = worst_readings([reading(0, 1.5, 2.0), reading(1.2, 1.3, 9.0), reading(4, 4.5, None)], FRAME)
    assert [(begin - BEGIN, worst) for begin, _, worst in found] == [(0 * HOUR, 2.0), (HOUR, 9.0)]
    assert worst_readings([reading(-9, -1, 5.0), reading(COLUMNS + 1, COLUMNS + 2, 5.0)], FRAME) == []


@given(st.lists(st.tuples(st.floats(-10, 310), st.floats(0, 50), st.floats(0, 1e6)), max_size=30))
def test_no_peak_is_lost_in_a_curve(readings):
    made = [reading(begin, begin + length, seconds) for begin, length, seconds in readings]
    inside = [one.seconds or 0.0 for one in made if one.ended_at >= FRAME.since and one.began_at <= FRAME.until]
    found = [worst for _, _, worst in worst_readings(made, FRAME)]
    assert max(found, default=None) == max(inside, default=None)


def test_no_line_is_drawn_through_a_time_nobody_watched():
    gap = (BEGIN + 100 * HOUR, BEGIN + 200 * HOUR)
    frame = Frame(since=FRAME.since, until=FRAME.until, gaps=(gap,), zone=UTC)
    curve = Curve(name="db2", readings=(reading(0, 100, 1.0), reading(200, 300, 1.0)))
    drawing = lag_over_time(frame, [curve], Curve(name="r", readings=()), [Limit(word="limit", seconds=300)])
    paths = [shape for shape in shapes(drawing).iter("path") if "curve" in (shape.get("class") or "")]
    left, right = frame.axis().x(gap[0]), frame.axis().x(gap[1])
    for path in paths:
        xs = [float(point.split()[0]) for point in path.get("d", "").removeprefix("M").removesuffix("Z").split("L")]
        assert all(x <= left + 3 or x >= right - 3 for x in xs)
        assert not (min(xs) < left and max(xs) > right)
    assert len(of_kind(drawing, "gap")) == 2
    assert "at longest for 4d 4h" in drawing.description


def stretch(begin: float, end: float, coverage: Coverage, proven: int = 2) -> Stretch:
    return Stretch(
        began_at=BEGIN + begin * HOUR, ended_at=BEGIN + end * HOUR, coverage=coverage, running=3, proven=proven
    )


def test_a_second_with_too_few_copies_is_seen_in_a_picture_of_a_year():
    short = stretch(99.9997, 100, Coverage.SHORT, 1)
    stretches = [stretch(0, 99.9997, Coverage.ENOUGH), short, stretch(100, 300, Coverage.ENOUGH)]
    drawing = copies_over_time_drawn(FRAME, stretches, asked=2, most=3)
    strips = [shape for shape in of_kind(drawing, "refuted") if shape.find("title") is not None]
    assert min(float(strip.get("width", "0")) for strip in strips) >= 0.4
    assert "too few copies <0.001% of the time" in drawing.description


def test_many_runs_at_one_place_are_one_sign_and_the_worst_of_them_shows():
    good = [
        Happening(at=BEGIN + number * timedelta(seconds=1), outcome=Outcome.PROVEN, tip="ok") for number in range(90)
    ]
    bad = Happening(at=BEGIN + timedelta(seconds=40), outcome=Outcome.REFUTED, tip="diverged")
    drawing = line_of_time(FRAME, [Lane(name="audits", happenings=(*good, bad))])
    assert [shape.findtext("title") for shape in of_kind(drawing, "refuted")] == ["diverged (and 90 more here)"]
    assert of_kind(drawing, "proven") == []


@given(
    seconds=st.floats(60, 3e9),
    zone=st.sampled_from([UTC, ZoneInfo("Asia/Kolkata"), ZoneInfo("America/St_Johns"), None]),
    begin=st.integers(946684800, 3786912000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
def test_ticks_and_divisions_lie_within_their_time_and_are_few(seconds, zone, begin):
    until = begin + timedelta(seconds=seconds)
    found = ticks(begin, until, zone)
    assert len(found) <= 10
    assert all(begin <= moment <= until for moment, _ in found)
    assert all(before < after for (before, _), (after, _) in pairwise(found))
    parts = divisions(begin, until, zone)
    assert (parts[0].begin, parts[-1].end) == (begin, until)
    assert all(before.end == after.begin for before, after in pairwise(parts))
    assert len(parts) <= 100


@pytest.mark.parametrize(
    ("length", "first", "count"),
    [
        (timedelta(minutes=9), "2026-03-01 00:17", 9),
        (timedelta(hours=2), "2026-03-01 00:15", 25),
        (timedelta(days=1), "2026-03-01 00:00", 25),
        (timedelta(days=7), "2026-03-01", 8),
        (timedelta(days=100), "week of 2026-02-23", 15),
        (timedelta(days=365), "2026-03", 13),
        (timedelta(days=4000), "2026-01", 12),
    ],
)
def test_a_table_of_a_period_has_as_many_rows_as_people_read(length, first, count):
    begin = BEGIN + timedelta(minutes=17, seconds=4)
    parts = divisions(begin, begin + length, UTC)
    assert parts[0].word == first
    assert abs(len(parts) - count) <= 1


@pytest.mark.parametrize(
    ("until", "told"),
    [
        (timedelta(hours=2), "Mar 1, 00:00|00:15|00:30|00:45|01:00|01:15|01:30|01:45|02:00"),
        (timedelta(days=3), "Mar 1, 00:00|12:00|Mar 2, 00:00|12:00|Mar 3, 00:00|12:00|Mar 4, 00:00"),
        (timedelta(days=7), "Mar 1|2|3|4|5|6|7|8"),
        (timedelta(days=400), "Mar 2026|May|Jul|Sep|Nov|Jan 2027|Mar"),
    ],
)
def test_ticks_say_what_a_calendar_says(until, told):
    assert "|".join(word for _, word in ticks(BEGIN, BEGIN + until, UTC)) == told


def test_an_axis_of_ages_reads_a_second_and_a_day():
    axis = AgeAxis(smallest_s=0.3, largest_s=86400.0, top=0, bottom=100)
    heights = [axis.y(seconds) for seconds in (0.0, 0.1, 1, 60, 86400, 1e9)]
    assert heights == sorted(heights, reverse=True)
    assert (heights[0], heights[-1]) == (100, 0)
    canvas = Canvas(100, 100)
    axis.draw(canvas, 0, 100)
    words = shapes(canvas.finished(name="a", title="t", description="d")).itertext()
    assert list(words) == ["≤100ms", "1s", "10s", "1min", "10min", "1h", "6h", "1d"]


def test_a_moment_beyond_the_axis_lies_at_its_edge():
    axis = TimeAxis(since=BEGIN, until=BEGIN + HOUR, left=10, right=20, zone=UTC)
    assert [axis.x(BEGIN + hours * HOUR) for hours in (-1, 0, 0.5, 1, 2)] == [10, 10, 15, 20, 20]


def test_a_long_name_keeps_its_ends():
    assert shortened("a" * 50 + "z", 10) == "aaaa…aaaaz"


def span(begin_s: float, end_s: float, gap_s: float = 1.0) -> WatchSpan:
    return WatchSpan(
        began_at=BEGIN + timedelta(seconds=begin_s),
        ended_at=BEGIN + timedelta(seconds=end_s),
        samples=10,
        longest_gap_s=gap_s,
        primary="db1",
        min_running_copies=3,
        max_recovery_age_s=1.0,
        recovery_unknown=False,
    )


@pytest.mark.parametrize(
    ("spans", "gaps"),
    [
        ([], [(0, 1000)]),
        ([span(0, 1000)], []),
        ([span(30, 940)], [(0, 30)]),
        ([span(-500, -20), span(30, 940)], []),
        ([span(-500, -40), span(30, 940)], [(0, 30)]),
        ([span(61, 939)], [(0, 61), (939, 1000)]),
        ([span(0, 400), span(459, 1000)], []),
        ([span(0, 400), span(461, 1000)], [(400, 461)]),
        ([span(600, 1000), span(0, 400)], [(400, 600)]),
        ([span(0, 900), span(10, 20)], [(900, 1000)]),
        ([span(-500, 100), span(900, 2000)], [(100, 900)]),
    ],
)
def test_a_gap_is_what_no_span_covers(spans, gaps):
    found = watched(spans, BEGIN, BEGIN + timedelta(seconds=1000))
    told = [((gap.began_at - BEGIN).total_seconds(), (gap.ended_at - BEGIN).total_seconds()) for gap in found.gaps]
    assert told == gaps
    assert found.share == pytest.approx(100 - sum(end - begin for begin, end in gaps) / 10)


def test_the_longest_time_between_samples_is_told_where_something_watched():
    spans = [span(0, 400, 12.0), span(430, 500, 30.0), span(800, 1000, 300.0)]
    assert watched(spans, BEGIN, BEGIN + timedelta(seconds=1000)).longest_gap_s == 30.0
    assert watched([], BEGIN, BEGIN + HOUR).longest_gap_s is None
