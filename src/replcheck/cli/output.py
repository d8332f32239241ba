"""Where results go: standard output or a file, as text that fits the one or the other."""

import io
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO
from zoneinfo import ZoneInfo

from replcheck.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from replcheck.config.model import Configuration
    from replcheck.report.style import Style
    from replcheck.runs.sinks import JsonLines

Draw = Callable[["Console", "Style"], None]
Render = Callable[[TextIO], str]
"""Returns the text for a stream."""


def check_output(output: Path | None) -> None:
    """Raise UsageError where a result could not be written there; nothing is left of the attempt."""
    if output is None:
        return
    is_new = not output.exists()
    try:
        with output.open("a", encoding="utf-8"):
            pass
        if is_new:
            output.unlink()
    except OSError as error:
        raise UsageError(
            f"cannot write the report to {output}: {(error.strerror or 'unknown error').lower()}",
            hint="Name a writable file with --output.",
        ) from error


def require_one_reader(events: Path | None, output: Path | None) -> None:
    """Raise UsageError where events and the report would both go to standard output."""
    if events is not None and str(events) == "-" and output is None:
        raise UsageError(
            "--events - and the report both want standard output", hint="Send the report to a file with --output."
        )


@contextmanager
def events_to(path: Path | None) -> Iterator[tuple["JsonLines", ...]]:
    """Give the block a sink of events that writes to a file or, for `-`, to standard output; none for None."""
    from replcheck.runs.sinks import open_json_lines  # knows every event, which few commands write

    sinks = (open_json_lines(path),) if path is not None else ()
    try:
        yield sinks
    finally:
        for sink in sinks:
            sink.close()


def deliver(render: Render, output: Path | None) -> str | None:
    """Write a result and return None, or where and why it could not be written; a reader that left has read enough.

    A file is there whole, or as it was before.
    """
    try:
        if output is None:
            sys.stdout.write(render(sys.stdout))
            sys.stdout.flush()
        else:
            _write_whole(output.resolve(), render)
    except BrokenPipeError:
        _forget_unwritten()
    except OSError as error:
        if output is None:
            _forget_unwritten()
        where = f"{output}: " if output is not None else ""
        return f"{where}{(error.strerror or 'unknown error').lower()}"
    return None


def _write_whole(path: Path, render: Render) -> None:
    """Write a file beside its place and move it there; one that is no plain file of ours is written where it is."""
    beside = _beside(path)
    try:
        with (beside or path).open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(render(file))
            if beside and path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
        if beside:
            beside.replace(path)
    except BaseException:
        if beside:
            beside.unlink(missing_ok=True)
        raise


def _beside(path: Path) -> Path | None:
    """Return a new name in the folder of a file; None where the file cannot be replaced, but perhaps be written."""
    if path.exists():
        found = path.stat()
        # Who gave it away, or linked it, means that very file.
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_uid != os.geteuid():
            return None
    beside = path.with_name(f".replcheck-{os.getpid()}-{secrets.token_hex(4)}")
    return beside if os.access(path.parent, os.W_OK | os.X_OK) else None


def _forget_unwritten() -> None:
    # What is still buffered must not raise again when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def style_of(configuration: "Configuration | None", *, ascii_only: bool = False) -> "Style":
    """Return how things look to people who live in the configured zone."""
    from replcheck.report.style import Style

    zone = configuration.output.time_zone if configuration else None
    return Style(ascii_only=ascii_only, zone=ZoneInfo(zone) if zone else None)


def page(target: TextIO, configuration: "Configuration | None", draw: Draw) -> str:
    """Return what `draw` prints for people, in the width, colours and signs of the stream."""
    from rich.console import Console  # large, and what machines read needs none of it

    like = Console(file=target)
    text = io.StringIO()
    style = style_of(configuration, ascii_only=not like.encoding.startswith("utf"))
    console = Console(
        file=text,
        force_terminal=like.is_terminal,
        # Who wants no colour gets no other styles either.
        color_system=None if like.no_color else like.color_system,  # type: ignore[arg-type]
        no_color=like.no_color,
        width=max(like.width, 80),
        highlight=False,
    )
    draw(console, style)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())
