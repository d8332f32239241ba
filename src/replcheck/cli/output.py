"""Where results go: standard output or a file, as text that fits the one or the other."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO
from zoneinfo import ZoneInfo

from rich.console import Console

from replcheck.config import Configuration
from replcheck.report.style import Style

Render = Callable[[TextIO], str]
"""Returns the text for a stream."""


def deliver(render: Render, output: Path | None) -> str | None:
    """Write a result and return None, or why it could not be written; a reader that went away has read enough."""
    try:
        if output is None:
            sys.stdout.write(render(sys.stdout))
            sys.stdout.flush()
        else:
            with output.open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(render(file))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return (error.strerror or "unknown error").lower()
    return None


def page(target: TextIO, configuration: Configuration | None, draw: Callable[[Console, Style], None]) -> str:
    """Return what `draw` prints for people, in the width, colours and signs of the stream."""
    zone = configuration.output.time_zone if configuration else None
    like = Console(file=target)
    text = io.StringIO()
    style = Style(ascii_only=not like.encoding.startswith("utf"), zone=ZoneInfo(zone) if zone else None)
    console = Console(
        file=text,
        force_terminal=like.is_terminal,
        color_system=like.color_system,  # type: ignore[arg-type]
        no_color=like.no_color,
        width=max(like.width, 80),
        highlight=False,
    )
    draw(console, style)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())
