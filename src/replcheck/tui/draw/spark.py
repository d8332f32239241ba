"""Curves of one line's height."""

from collections.abc import Sequence
from datetime import datetime

from textual.content import Content

from replcheck.tui.look import BAD, FAINT, QUIET
from replcheck.tui.state import LagPoint

_LEVELS = "▁▂▃▄▅▆▇█"
LEAST_SCALE = 1 << 20
"""Lag below this much is noise, and is not drawn as a mountain."""
_CURVE, _OVER = "$primary", BAD


def lag_curve(points: Sequence[LagPoint], *, now: datetime, span_s: float, width: int, limit: int | None) -> Content:
    """Return how lag went over the last `span_s` seconds, the newest at the right; the worst of each cell counts.

    A cell without a sample, or of a time as the primary, is empty; one in which the node did not answer a cross.
    """
    cells = buckets(points, now=now, span_s=span_s, width=width)
    worst = max((point.lag_bytes or 0 for cell in cells for point in cell), default=0)
    scale = max(worst, limit or 0, LEAST_SCALE)
    return Content.assemble(*(_lag_cell(cell, scale, limit) for cell in cells))


def buckets(points: Sequence[LagPoint], *, now: datetime, span_s: float, width: int) -> list[list[LagPoint]]:
    """Return the points of the last `span_s` seconds in `width` equal parts, the newest last."""
    cells: list[list[LagPoint]] = [[] for _ in range(width)]
    for point in points:
        at = width - 1 - int((now - point.at).total_seconds() / span_s * width)
        if 0 <= at < width:
            cells[at].append(point)
    return cells


def _lag_cell(cell: Sequence[LagPoint], scale: int, limit: int | None) -> tuple[str, str]:
    if any(point.silent for point in cell):
        return "×", BAD
    lags = [point.lag_bytes for point in cell if point.lag_bytes is not None]
    if not lags:
        return " ", FAINT
    lag = max(lags)
    colour = _OVER if limit is not None and lag > limit else _CURVE if lag else QUIET
    return level(lag, scale), colour


def level(amount: float, scale: float) -> str:
    """Return the block that is as high as `amount` of `scale`.

    >>> level(0, 10), level(5, 10), level(10, 10)
    ('▁', '▅', '█')
    """
    share = amount / scale if scale else 0.0
    return _LEVELS[max(0, min(len(_LEVELS) - 1, int(share * (len(_LEVELS) - 1) + 0.5)))]


def curve(amounts: Sequence[float], width: int, *, style: str = _CURVE) -> Content:
    """Return the last `width` amounts as a curve, the newest at the right."""
    shown = list(amounts)[-width:]
    scale = max(shown, default=0.0)
    return Content.styled("".join(level(amount, scale) for amount in shown).rjust(width), style)


def bar(share: float, width: int, style: str = _CURVE) -> Content:
    """Return a bar that is filled to `share`, 0 to 1."""
    filled = max(0, min(width, int(share * width + 0.5)))
    return Content.assemble(("━" * filled, style), ("─" * (width - filled), FAINT))
