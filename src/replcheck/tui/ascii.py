"""Leaves nothing but ASCII in what goes to the terminal, cell by cell: for locales that have nothing else."""

from collections.abc import Mapping
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_SIGNS: Mapping[str, str] = {
    "✔": "+", "✘": "x", "●": "o", "◆": "*", "▲": "!", "◌": "o", "■": "#", "▶": ">", "·": ".", "×": "x", "›": ">",
    "–": "-", "—": "-", "…": ".", "•": "*", "→": ">", "←": "<", "↑": "^", "↓": "v", "▎": "|", "━": "=", "─": "-",
    "╌": "-", "│": "|", "┃": "|", "╭": ".", "╮": ".", "╰": "'", "╯": "'", "├": "|", "┤": "|", "╶": "-", "╴": "-",
    "╵": "|", "╷": "|", "┌": ".", "┐": ".", "└": "'", "┘": "'", "▔": "-", "▁": "_", "▂": "_", "▃": "-", "▄": "-",
    "▅": "=", "▆": "=", "▇": "#", "█": "#", "▀": "-", "▊": "|", "▌": "|", "▐": "|", "░": ".", "▒": ":", "▓": "#",
    "□": ".", "▪": "#", "▫": ".", "┴": "-", "┬": "-", "┼": "+", "⭘": "o", "▏": "|", "▕": "|", "◐": "o", "○": "o",
}  # fmt: skip


class AsciiOnly(LineFilter):
    """Writes every other sign as one or two of ASCII's that take as many cells."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 - Textual's name
        """Return the segments of one line in ASCII."""
        return [
            segment if segment.control or segment.text.isascii() else Segment(in_ascii(segment.text), segment.style)
            for segment in segments
        ]


@lru_cache(4096)
def in_ascii(text: str) -> str:
    """Return a text in ASCII that takes as many cells.

    >>> in_ascii("✔ café 表")
    '+ caf? ??'
    """
    return "".join(sign if sign.isascii() else _SIGNS.get(sign, "?" * cell_len(sign)) for sign in text)
