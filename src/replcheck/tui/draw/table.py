"""Rows of a table in the width there is: columns that matter less give way, the widest takes what is left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from textual.content import Content

from replcheck.model.names import printable

Cell = Content | str | tuple[str, str]
"""A text, or a text and its style."""
_GAP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column; `least` cells wide, and up to `most` where there is room (None: any)."""

    key: str
    title: str
    least: int
    most: int | None = -1
    """-1 is the same as `least`."""
    right: bool = False
    keep: int = 0
    """The columns with the lowest number go first where there is no room; 0 never goes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns that fit, each with its width."""

    columns: tuple[tuple[Column, int], ...]

    def header(self) -> Content:
        """Return the line of titles."""
        return self.row({column.key: column.title for column, _ in self.columns})

    def row(self, cells: Mapping[str, Cell]) -> Content:
        """Return one line; a cell that is missing stays empty."""
        parts: list[Content | str] = []
        for column, width in self.columns:
            parts += [_fitted(cells.get(column.key, ""), width, right=column.right), " " * _GAP]
        return Content.assemble(*parts[:-1])

    def width(self, key: str) -> int:
        """Return the width of a column; 0 where it gave way."""
        return next((width for column, width in self.columns if column.key == key), 0)


def laid_out(columns: Sequence[Column], width: int) -> Layout:
    """Return which of the columns fit into `width` cells, and how wide each is."""
    kept = list(columns)
    while _needed(kept) > width and (droppable := [column for column in kept if column.keep]):
        kept.remove(min(droppable, key=lambda column: column.keep))
    spare = max(0, width - _needed(kept))
    widths: dict[str, int] = {}
    growing = [column for column in kept if column.most != -1]
    for column in sorted(growing, key=lambda column: column.most if column.most is not None else 10**6):
        share = spare // max(1, len(growing) - len(widths))
        grown = share if column.most is None else min(share, column.most - column.least)
        widths[column.key] = column.least + grown
        spare -= grown
    return Layout(tuple((column, widths.get(column.key, column.least)) for column in kept))


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
