"""What people see on standard error while a run works: one live bar, and lines that stay."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from replcheck.model.names import printable
from replcheck.report.drill_progress import DrillProgress, draw_drill
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
        """Draw an audit's progress until the block ends; on anything but a terminal, draw nothing."""
        progress = AuditProgress()
        with self._drawing(lambda elapsed_s: draw(progress, elapsed_s)):
            yield progress

    @contextmanager
    def drill_progress(self) -> Iterator[DrillProgress]:
        """Draw a drill's progress alike."""
        progress = DrillProgress()
        with self._drawing(lambda elapsed_s: draw_drill(progress, elapsed_s)):
            yield progress

    @contextmanager
    def _drawing(self, drawn: Callable[[float], RenderableType]) -> Iterator[None]:
        """Draw what `drawn` makes of the seconds since the beginning."""
        if not self.live:
            yield
            return
        begun = time.monotonic()
        live = Live(
            get_renderable=lambda: drawn(time.monotonic() - begun),
            console=self._console,
            refresh_per_second=_FRAMES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with live:
            yield
