"""Figures three lines high, for terminals that have the room."""

from collections.abc import Sequence

_GLYPHS = {
    "0": ("╭─╮", "│ │", "╰─╯"),
    "1": ("╶╮ ", " │ ", "╶┴╴"),
    "2": ("╶─╮", "┌─┘", "╰─╴"),
    "3": ("╶─╮", " ─┤", "╶─╯"),
    "4": ("╷ ╷", "╰─┤", "  ╵"),
    "5": ("╭─╴", "╰─╮", "╶─╯"),
    "6": ("╭─╴", "├─╮", "╰─╯"),
    "7": ("╶─┐", "  │", "  ╵"),
    "8": ("╭─╮", "├─┤", "╰─╯"),
    "9": ("╭─╮", "╰─┤", "╶─╯"),
    ":": (" ", "·", "·"),
    "-": ("  ", "╶╴", "  "),
    "–": ("   ", "╶─╴", "   "),
    " ": (" ", " ", " "),
}
_LINES = 3


def big(text: str, width: int) -> Sequence[str]:
    """Return a text as three lines; words stand small on the last one, and so does all where it would not fit."""
    lines = [""] * _LINES
    for character in text:
        glyph = _GLYPHS.get(character) or (" ", " ", character)
        # Letters follow their figure closely: 4h 12min.
        apart = "" if character not in _GLYPHS or not lines[-1] else " " * (character not in " :")
        lines = [line + apart * (not line.endswith(" ")) + part for line, part in zip(lines, glyph, strict=True)]
    if max(map(len, lines)) > width:
        return ["", text, ""]
    return lines
