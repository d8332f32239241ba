"""What people see on standard error while a run works: one live bar, and lines that stay."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from replcheck.model.names import printable
from replcheck.report.progress import AuditProgress, draw

_FRAMES_PER_SECOND = 5


class Display:
    """Standard error: a bar where it is a terminal, and notes in any case."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        self.live = self._console.is_terminal and not quiet and os.environ.get("TERM") != "dumb"

    def note(self, text: str) -> None:
        """Print one line that stays, above the bar where there is one."""
        self._console.print(Text(f"replcheck: {printable(text)}"), soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[AuditProgress]:
        """Draw the progress until the block ends; on anything but a terminal, draw nothing."""
        progress = AuditProgress()
        if not self.live:
            yield progress
            return
        begun = time.monotonic()
        live = Live(
            get_renderable=lambda: draw(progress, time.monotonic() - begun),
            console=self._console,
            refresh_per_second=_FRAMES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with live:
            yield progress
