"""Figures three lines high, for terminals that have the room."""

from collections.abc import Sequence
from functools import lru_cache

# Each figure as five rows of dots, which are drawn two rows a line.
_DOTS = {
    "0": ("###", "# #", "# #", "# #", "###"),
    "1": (" # ", "## ", " # ", " # ", "###"),
    "2": ("###", "  #", "###", "#  ", "###"),
    "3": ("###", "  #", "###", "  #", "###"),
    "4": ("# #", "# #", "###", "  #", "  #"),
    "5": ("###", "#  ", "###", "  #", "###"),
    "6": ("###", "#  ", "###", "# #", "###"),
    "7": ("###", "  #", "  #", "  #", "  #"),
    "8": ("###", "# #", "###", "# #", "###"),
    "9": ("###", "# #", "###", "  #", "###"),
    ":": (" ", "#", " ", "#", " "),
    "-": ("   ", "   ", "###", "   ", "   "),
    "–": ("   ", "   ", "###", "   ", "   "),
}
_HALVES = {(" ", " "): " ", ("#", " "): "▀", (" ", "#"): "▄", ("#", "#"): "█"}
LINES = 3


@lru_cache(64)
def big(text: str, width: int) -> Sequence[str]:
    """Return a text as three lines; letters stand small on the last one, and so does all where it would not fit.

    >>> big("1", 10)
    ('▄█ ', ' █ ', '▀▀▀')
    """
    lines = [""] * LINES
    for before, character in zip(" " + text, text, strict=False):
        apart = " " if before in _DOTS and character in _DOTS else ""
        lines = [line + apart + part for line, part in zip(lines, _glyph(character), strict=True)]
    if max(map(len, lines)) > width:
        return "", text, ""
    return tuple(lines)


def _glyph(character: str) -> tuple[str, ...]:
    dots = _DOTS.get(character)
    if dots is None:
        return " ", " ", character
    rows = (*dots, " " * len(dots[0]))
    return tuple(
        "".join(_HALVES[halves] for halves in zip(rows[at], rows[at + 1], strict=True)) for at in range(0, 2 * LINES, 2)
    )
