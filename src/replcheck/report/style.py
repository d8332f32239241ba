"""How a report looks: signs, colours, times and table cells. A word stands beside every sign and colour."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from replcheck.model.names import printable
from replcheck.model.outcome import Outcome, Verdict

_COLOURS = {Outcome.PROVEN: "green", Outcome.PARTIAL: "yellow", Outcome.REFUTED: "red", Outcome.UNCHECKED: "magenta"}
_SIGNS = {Outcome.PROVEN: "✔", Outcome.PARTIAL: "~", Outcome.REFUTED: "✘", Outcome.UNCHECKED: "?"}
_ASCII_SIGNS = {Outcome.PROVEN: "+", Outcome.PARTIAL: "~", Outcome.REFUTED: "x", Outcome.UNCHECKED: "?"}

_COMMAND = re.compile(r": (?P<command>(?:replcheck|pgbackrest|--from|SELECT|GRANT|CREATE|ALTER) .*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What the reader's terminal can show, and in which zone they live."""

    ascii_only: bool = False
    zone: tzinfo | None = None
    """None is the zone of the machine."""

    def sign(self, outcome: Outcome) -> str:
        """Return one character for an outcome; never without its word beside it."""
        return (_ASCII_SIGNS if self.ascii_only else _SIGNS)[outcome]

    def verdict(self, verdict: Verdict, *, upper: bool = False) -> Text:
        """Return a verdict with its sign and colour."""
        word = verdict.value.upper() if upper else verdict.value
        return Text(f"{self.sign(verdict.outcome)} {word}", style=_COLOURS[verdict.outcome])

    def outcome(self, outcome: Outcome, word: str) -> Text:
        """Return a word of the caller's with the sign and colour of an outcome."""
        return Text(f"{self.sign(outcome)} {word}", style=_COLOURS[outcome])

    def time(self, moment: datetime) -> str:
        """Return a time for people: local, with its offset.

        >>> from datetime import UTC, timedelta, timezone
        >>> Style(zone=timezone(timedelta(hours=5.5))).time(datetime(2026, 3, 1, 12, tzinfo=UTC))
        '2026-03-01 17:30:00+05:30'
        """
        return moment.astimezone(self.zone).isoformat(sep=" ", timespec="seconds")


def plain_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return a table without lines, whose cells fold rather than lose a letter."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def cell(value: object, style: str = "") -> Text:
    """Return a table cell; nothing known is a dash, and no name can steer the terminal."""
    return Text("-" if value is None or value == "" else printable(str(value)), style=style)


def heading(console: Console, title: str) -> None:
    """Print the heading of a section, with an empty line before it."""
    console.print()
    console.print(Text(title, style="bold"))


def line(console: Console, *parts: str | Text, indent: int = 2) -> None:
    """Print one line of prose that wraps at the terminal's edge, indented; no word is broken, be it a long path."""
    text = Text.assemble(*(part if isinstance(part, Text) else printable(part) for part in parts))
    _wrapped(console, text, indent=indent)


def step(console: Console, number: int, text: str) -> None:
    """Print one thing to do; a command at its end gets a line of its own, since people copy it."""
    found = _COMMAND.search(text)
    if found is None:
        line(console, f"{number}. {text}")
        return
    line(console, f"{number}. {text[: found.start()]}:")
    verbatim(console, found["command"], indent=5)


def verbatim(console: Console, text: str, indent: int = 4) -> None:
    """Print a text that people copy: never wrapped, never cut."""
    console.print(Text(" " * indent + printable(text)), soft_wrap=True)


def fields(console: Console, rows: Sequence[tuple[str, str | Text]], *, indent: int = 2) -> None:
    """Print names with their values, which wrap beside the names; no path or digest is broken."""
    width = indent + max((len(name) for name, _ in rows), default=0) + 2
    for name, value in rows:
        text = value if isinstance(value, Text) else cell(value)
        _wrapped(console, text, indent=width, first=f"{' ' * indent}{name}".ljust(width))


def _wrapped(console: Console, text: Text, *, indent: int, first: str | None = None) -> None:
    lead = first
    for part in text.divide(_breaks(text.plain, max(console.width - indent, 20))):
        part.rstrip()
        console.print(Text(lead if lead is not None else " " * indent) + part, soft_wrap=True)
        lead = None


def _breaks(text: str, width: int) -> list[int]:
    """Return where a text is broken into lines, before words only: one that is longer than a line stays whole.

    >>> _breaks("it lies in /a/long/path and stays", 8)
    [8, 11, 24, 28]
    """
    found = [0]
    for word in re.finditer(r"\S+", text):
        if word.start() > found[-1] and cell_len(text[found[-1] : word.end()]) > width:
            found += [word.start()]
    return found[1:]
