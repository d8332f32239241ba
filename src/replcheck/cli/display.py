"""What people see on standard error while a run works: one live bar, and lines that stay."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from replcheck.model.names import printable
from replcheck.model.outcome import ExitStatus
from replcheck.report.drill_progress import DrillProgress, draw_drill
from replcheck.report.progress import AuditProgress, draw

_FRAMES_PER_SECOND = 5


class Display:
    """Standard error: a bar where it is a terminal, notes in any case; a reader that goes away ends no run."""

    def __init__(self, *, quiet: bool) -> None:
        self._stream = _Unhurt(sys.stderr)
        self._console = Console(file=cast(TextIO, self._stream), highlight=False)
        self.live = self._console.is_terminal and not quiet and os.environ.get("TERM") != "dumb"

    def note(self, text: str) -> None:
        """Print one line that stays, above the bar where there is one."""
        self._console.print(Text(f"replcheck: {printable(text)}"), soft_wrap=True)

    def heard(self, status: ExitStatus) -> ExitStatus:
        """Return what a command ends with instead of `status`: 3 where a note could not be written, unless it is 2."""
        return ExitStatus.UNCHECKED if self._stream.broken and status is not ExitStatus.REFUTED else status

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


class _Unhurt:
    """A stream that takes what cannot be written any more for written, and remembers it.

    rich would end the process where a reader is gone, and what stays in a buffer would raise again at its end.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._guarded(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._guarded(self._stream.flush)

    def _guarded(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError:
            self.broken = True
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
