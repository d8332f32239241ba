"""Rows of a table in the width there is: columns that matter less give way, the widest takes what is left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from textual.content import Content

from replcheck.model.names import printable

Cell = Content | str | tuple[str, str]
"""A text, or a text and its style."""
_GAP = 2
ANY = 10_000
"""As wide as there is room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column; `least` cells wide, and up to `most` where there is room."""

    key: str
    title: str
    least: int
    most: int = 0
    """Below `least`, it never grows."""
    right: bool = False
    keep: int = 0
    """The columns with the lowest number go first where there is no room; 0 never goes."""
    cut: bool = False
    """Whether it is cut where all others have given way in vain."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns that fit, each with its width."""

    columns: tuple[tuple[Column, int], ...]

    def header(self) -> Content:
        """Return the line of titles."""
        return self.row({column.key: column.title for column, _ in self.columns})

    def row(self, cells: Mapping[str, Cell], *, spread: str = "", until: str = "") -> Content:
        """Return one line; a cell that is missing stays empty.

        The cell `spread` takes the place of all columns from it to `until`, or to the last one.
        """
        parts: list[Content | str] = []
        for column, width in self._spread(spread, until):
            parts += [
                _fitted(cells.get(column.key, ""), width, right=column.right and column.key != spread),
                " " * _GAP,
            ]
        return Content.assemble(*parts[:-1])

    def _spread(self, spread: str, until: str) -> Sequence[tuple[Column, int]]:
        keys = [column.key for column, _ in self.columns]
        if spread not in keys:
            return self.columns
        first = keys.index(spread)
        last = keys.index(until) if until in keys else len(keys) - 1
        width = sum(width + _GAP for _, width in self.columns[first : last + 1]) - _GAP
        return (*self.columns[:first], (self.columns[first][0], width), *self.columns[last + 1 :])

    def width(self, key: str) -> int:
        """Return the width of a column; 0 where it gave way."""
        return next((width for column, width in self.columns if column.key == key), 0)


def laid_out(columns: Sequence[Column], width: int) -> Layout:
    """Return which of the columns fit into `width` cells, and how wide each is."""
    kept = list(columns)
    while _needed(kept) > width and (droppable := [column for column in kept if column.keep]):
        kept.remove(min(droppable, key=lambda column: column.keep))
    spare = max(0, width - _needed(kept))
    widths = _cut_widths(kept, _needed(kept) - width)
    growing = [column for column in kept if column.most > column.least and column.key not in widths]
    left = len(growing)
    for column in sorted(growing, key=lambda column: column.most - column.least):
        grown = min(spare // left, column.most - column.least)
        widths[column.key] = column.least + grown
        spare, left = spare - grown, left - 1
    return Layout(tuple((column, widths.get(column.key, column.least)) for column in kept))


def _cut_widths(columns: Sequence[Column], over: int) -> dict[str, int]:
    cut = [column for column in columns if column.cut]
    return {cut[-1].key: max(1, cut[-1].least - over)} if over > 0 and cut else {}


def _needed(columns: Sequence[Column]) -> int:
    return sum(column.least for column in columns) + _GAP * (len(columns) - 1)


def _fitted(cell: Cell, width: int, *, right: bool) -> Content:
    content = styled(cell)
    if content.cell_length > width:
        content = content.truncate(width, ellipsis=True)
    missing = width - content.cell_length
    if missing <= 0:
        return content
    return content.pad_left(missing) if right else content.pad_right(missing)


def styled(cell: Cell) -> Content:
    """Return a cell as content, in which no name can steer the terminal."""
    match cell:
        case Content():
            return cell
        case str():
            return Content(printable(cell))
        case (text, style):
            return Content.styled(printable(text), style)
