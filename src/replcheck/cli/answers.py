"""How commands that read a history answer: with a text or a page, and with 3 where it cannot be written."""

from pathlib import Path
from typing import TextIO

from replcheck.cli.display import Display
from replcheck.cli.output import Draw, deliver, page
from replcheck.cli.stored import Source
from replcheck.model.outcome import ExitStatus


def printed(what: str | Draw, source: Source, output: Path | None = None) -> ExitStatus:
    """Deliver a text as it is, or what is drawn, as the place it goes to shows it."""

    def write(target: TextIO) -> str:
        return what if isinstance(what, str) else page(target, source.configuration, what)

    failure = deliver(write, output)
    if failure is not None:
        Display(quiet=True).note(f"error: cannot write the report: {failure}")
        return ExitStatus.UNCHECKED
    return ExitStatus.PROVEN
