"""Past runs: a line each, and how they went over time."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from textual.content import Content

from replcheck.model.outcome import Outcome, worst
from replcheck.model.run import RunRecord, short_id
from replcheck.model.units import format_duration
from replcheck.report.history import PastRun, RunState
from replcheck.tui.draw.spark import level
from replcheck.tui.draw.table import ANY, Cell, Column, Layout, laid_out
from replcheck.tui.look import COLOUR, FAINT, QUIET, SIGN, VALUE, Look

TREND_DAYS = 30
_COLUMNS = (
    Column(key="at", title="RUNS", least=11),
    Column(key="kind", title="kind", least=6),
    Column(key="verdict", title="verdict", least=14, most=28),
    Column(key="took", title="took", least=9, right=True),
    Column(key="id", title="run", least=13, keep=2),
    Column(key="summary", title="in one sentence", least=16, most=ANY, cut=True, keep=9),
)
_STATE_WORDS = {RunState.RUNNING: "running", RunState.OPEN: "no end yet", RunState.LOST: "did not end"}


def run_layout(width: int) -> Layout:
    """Return the columns of the runs that fit."""
    return laid_out(_COLUMNS, width)


def run_row(layout: Layout, past: PastRun, look: Look) -> Content:
    """Return one run as a line."""
    run = past.run
    return layout.row(
        {
            "at": (look.moment(run.started_at), QUIET),
            "kind": run.kind,
            "verdict": verdict(past),
            "took": _took(past, look.now),
            "id": (short_id(run.run_id), FAINT),
            "summary": (run.summary, QUIET) if isinstance(run, RunRecord) else "",
        }
    )


def verdict(past: PastRun) -> tuple[str, str]:
    """Return how a run ended, with its sign, and the colour."""
    if isinstance(past.run, RunRecord):
        outcome = past.run.outcome
        return f"{SIGN[outcome]} {past.run.verdict}", COLOUR[outcome]
    word = _STATE_WORDS.get(past.state, past.state.value)
    if past.state is RunState.RUNNING:
        return f"▶ {word}", "$primary"
    return f"{SIGN[Outcome.UNCHECKED]} {word}", COLOUR[Outcome.UNCHECKED]


def _took(past: PastRun, now: datetime) -> Cell:
    if isinstance(past.run, RunRecord):
        return format_duration(max(0.0, (past.run.finished_at - past.run.started_at).total_seconds()))
    return format_duration((now - past.run.started_at).total_seconds()) if past.state is RunState.RUNNING else ""


def trend(runs: Sequence[PastRun], look: Look, width: int) -> list[Content]:
    """Return one line a kind of run: each day's worst outcome, and how long the runs took; and a line of dates."""
    kinds = sorted({past.run.kind for past in runs}, key=_kind_order)
    wide = 2 if width >= TREND_DAYS * 2 + 40 else 1
    lines = [_dates(look, wide)]
    for kind in kinds:
        own = [past for past in runs if past.run.kind == kind]
        lines.append(Content.assemble((kind.ljust(9), VALUE), *_days(own, look, wide), *_durations(own)))
    return lines


def _kind_order(kind: str) -> tuple[int, str]:
    order = {"audit": 0, "drill": 1, "seal": 2}
    return order.get(kind, len(order)), kind


def _dates(look: Look, wide: int) -> Content:
    first = look.now.astimezone(look.zone) - timedelta(days=TREND_DAYS - 1)
    left = f"{first:%m-%d}"
    return Content.styled(
        f"TREND    {left}{'today'.rjust(TREND_DAYS * wide - len(left))}   the last runs took", f"bold {QUIET}"
    )


def _days(runs: Iterable[PastRun], look: Look, wide: int) -> list[tuple[str, str]]:
    today = look.now.astimezone(look.zone).date()
    by_day: dict[int, list[Outcome]] = {}
    for past in runs:
        ago = (today - past.run.started_at.astimezone(look.zone).date()).days
        by_day.setdefault(ago, []).append(_outcome(past))
    parts = []
    for ago in range(TREND_DAYS - 1, -1, -1):
        outcome = worst(by_day[ago]) if ago in by_day else None
        parts.append(((SIGN[outcome] if outcome else "·").ljust(wide), COLOUR[outcome] if outcome else FAINT))
    return parts


def _outcome(past: PastRun) -> Outcome:
    return past.run.outcome if isinstance(past.run, RunRecord) else Outcome.UNCHECKED


def _durations(runs: Sequence[PastRun]) -> list[tuple[str, str]]:
    ended = [past.run for past in runs if isinstance(past.run, RunRecord)][:20]
    took = [(run.finished_at - run.started_at).total_seconds() for run in reversed(ended)]
    if not took:
        return []
    curve = "".join(level(seconds, max(took)) for seconds in took)
    return [("   ", ""), (curve.rjust(20), "$primary"), (f"  {format_duration(max(0.0, took[-1]))}", QUIET)]
