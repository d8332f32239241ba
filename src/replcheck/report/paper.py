"""A report as it is laid out before it has a medium: sections of prose, tables and pictures, in words for people.

HTML and Markdown are renderers of one paper, so both say the same. No text in it is markup: a name of a relation that
looks like a tag or like an emphasis stays a name.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from replcheck.model.outcome import Outcome
from replcheck.report.pictures.drawing import Drawing

MOST_ROWS = 400
"""Rows of one table; what is beyond is counted. Keeps a report of thousands of relations readable and small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A word that tells how something ended; the renderer adds a sign and a colour."""

    outcome: Outcome | None
    """None for a word that is neither good nor bad."""
    word: str

    @property
    def is_loud(self) -> bool:
        """Return whether it is a word or two, which may stand in capitals at the head of a paper."""
        return len(self.word) <= 24


@dataclass(frozen=True, slots=True)
class Code:
    """A name, a position or a statement, letter by letter."""

    text: str


@dataclass(frozen=True, slots=True)
class Strong:
    """Words that stand out."""

    text: str


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, shown in the reader's zone with its offset."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Link:
    """Words that lead to a section of the same paper."""

    text: str
    section: str


Inline = str | Mark | Code | Strong | Moment | Link
Words = tuple[Inline, ...]


@dataclass(frozen=True, slots=True)
class Prose:
    """One paragraph."""

    words: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list."""

    items: tuple[Words, ...]
    ordered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Terms, each with what is to be said of it."""

    pairs: tuple[tuple[str, Words], ...]


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Lines that people copy: never wrapped, never cut."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that must not be overlooked."""

    outcome: Outcome | None
    words: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    title: str
    numeric: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under columns; the first cell of each row names what the row is of."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Words, ...], ...]
    more: int = 0
    """Rows that were left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture, with what it shows as a table beside it for whoever does not see it."""

    caption: str
    drawing: Drawing
    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A part of a section, under a heading of its own."""

    title: str
    blocks: tuple["Block", ...]
    anchor: str = ""


Block = Prose | Items | Pairs | Verbatim | Notice | Table | Figure | Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section under a heading."""

    anchor: str
    """Of letters, digits and hyphens; unique in the paper."""
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """A whole report."""

    title: str
    mark: Mark
    """How it ended."""
    summary: Words
    """In one paragraph, what the reader should take away."""
    facts: tuple[tuple[str, Words], ...]
    """Which run or period, when, of what, by which version."""
    sections: tuple[Section, ...]
    made_by: str
    """Program and version."""


def words(*parts: Inline) -> Words:
    """Return parts as words, for calls that read as a sentence."""
    return parts


def joined_words(items: Iterable[Words], separator: str = ", ") -> Words:
    """Return several words with a separator between them.

    >>> joined_words([("a",), (Code("b"),)])
    ('a', ', ', Code(text='b'))
    """
    found: list[Inline] = []
    for item in items:
        found += [separator, *item] if found else item
    return tuple(found)


def known(text: object) -> Words:
    """Return a cell; what is not known is a dash.

    >>> known(None), known(0)
    (('–',), ('0',))
    """
    return ("–",) if text is None or text == "" else (str(text),)


def columns(*titles: str, numeric: Sequence[str] = ()) -> tuple[Column, ...]:
    """Return columns by their titles; those of numbers are named again."""
    return tuple(Column(title=title, numeric=title in numeric) for title in titles)


def table(
    caption: str, titles: tuple[Column, ...], rows: Iterable[tuple[Words, ...]], *, limit: int = MOST_ROWS
) -> Table:
    """Return a table of at most `limit` rows, which counts the others."""
    every = tuple(rows)
    return Table(caption=caption, columns=titles, rows=every[:limit], more=max(0, len(every) - limit))
