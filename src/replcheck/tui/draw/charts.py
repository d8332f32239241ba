"""Lag of each standby as a chart, for terminals that have the room."""

from collections.abc import Sequence

from textual.content import Content

from replcheck.model.live import NodeState
from replcheck.model.names import printable
from replcheck.model.units import format_size
from replcheck.tui.draw.spark import LEAST_SCALE, buckets
from replcheck.tui.look import BAD, FAINT, QUIET, VALUE, Look
from replcheck.tui.state import LagPoint, Model

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_AXIS = 7
_LEAST_WIDTH = 40


def lag_charts(model: Model, look: Look, width: int, height: int, *, span_s: float) -> list[Content]:
    """Return the charts of all standbys beside each other, as many as fit."""
    standbys = [node.node for node in model.view.nodes if node.state is not NodeState.PRIMARY] if model.view else []
    shown = standbys[: max(1, width // _LEAST_WIDTH)]
    if not shown or height < 4:
        return []
    each = (width - 3 * (len(shown) - 1)) // len(shown)
    charts = [_chart(name, model.lags.get(name, ()), look, each, height, span_s) for name in shown]
    return [Content("   ").join(lines) for lines in zip(*charts, strict=True)]


def _chart(name: str, points: Sequence[LagPoint], look: Look, width: int, height: int, span_s: float) -> list[Content]:
    cells = buckets(points, now=look.now, span_s=span_s, width=width - _AXIS)
    worst = [max((point.lag_bytes or 0 for point in cell), default=0) for cell in cells]
    silent = [any(point.silent for point in cell) for cell in cells]
    known = [any(point.lag_bytes is not None for point in cell) for cell in cells]
    limit = look.asked.lag_bytes
    highest = max(worst, default=0)
    # The limit is drawn once lag comes near it; before that it would flatten everything else.
    shown_limit = limit if limit is not None and highest * 4 > limit else None
    scale = max(highest, shown_limit or 0, LEAST_SCALE)
    lines = height - 1
    title = Content.assemble((printable(name), VALUE), ("  lag, last 5min", QUIET))
    drawn = [title.pad_right(max(0, width - title.cell_length))]
    for line in range(lines - 1, -1, -1):
        at_limit = shown_limit is not None and line == min(lines - 1, shown_limit * lines // scale)
        axis = shown_limit if at_limit and shown_limit else scale if line == lines - 1 else 0
        named = format_size(axis) if axis or line == 0 else ""
        empty = ("┈", BAD) if at_limit else (" ", FAINT)
        columns = [_column(lag, line, lines / scale, shown_limit) or empty for lag in worst]
        if line == 0:
            columns = [
                ("×", BAD) if gone else ("▁", FAINT) if seen and column is empty else column
                for gone, seen, column in zip(silent, known, columns, strict=True)
            ]
        drawn.append(Content.assemble((f"{named:>{_AXIS - 1}} ", BAD if at_limit else QUIET), *_merged(columns)))
    return drawn


def _column(lag: int, line: int, lines_per_byte: float, limit: int | None) -> tuple[str, str] | None:
    """Return the part of a column that lies in a line, counted from below; None where it does not reach it."""
    eighths = max(0, min(8, round(lag * lines_per_byte * 8) - line * 8))
    return (_EIGHTHS[eighths], BAD if limit is not None and lag > limit else "$primary") if eighths else None


def _merged(cells: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Join neighbours of one style, which is what makes a large chart cheap."""
    merged: list[tuple[str, str]] = []
    for sign, style in cells:
        if merged and merged[-1][1] == style:
            merged[-1] = (merged[-1][0] + sign, style)
        else:
            merged.append((sign, style))
    return merged
