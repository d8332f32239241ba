"""The keys of a terminal while an audit runs: p pauses it, and p goes on."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from replcheck.audit.gate import Gate

_PAUSE = b"pP"


class Keys:
    """Reads single keys from standard input where that is a terminal in the foreground; Ctrl-C stays what it is."""

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._before: list[Any] | None = None

    @contextmanager
    def on(self, gate: Gate) -> Iterator[None]:
        """Pause and go on at the key p until the block ends, inside the running loop."""
        if not self._wanted or not _in_foreground():
            yield
            return
        loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()

        def read() -> None:
            if any(key in _PAUSE for key in os.read(descriptor, 64)):
                gate.toggle("paused; p goes on")

        self._before = termios.tcgetattr(descriptor)
        tty.setcbreak(descriptor)
        loop.add_reader(descriptor, read)
        try:
            yield
        finally:
            loop.remove_reader(descriptor)
            self.let_go()

    def let_go(self) -> None:
        """Give the terminal back as it was."""
        before, self._before = self._before, None
        if before is not None:
            with suppress(OSError, termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)


def _in_foreground() -> bool:
    # A background job that sets a terminal's modes is stopped by SIGTTOU.
    try:
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
