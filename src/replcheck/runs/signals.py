"""Turns signals into a wish to stop: the first asks, the second ends the process at once.

What the servers hold is released either way: their sessions notice a client that is gone within seconds.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from replcheck.model.outcome import ExitStatus
from replcheck.runs.ending import Ending, handled_by_loop

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_on_signals(
    stop: asyncio.Event, tell: Callable[[str], None], *, let_go: Callable[[], None] = lambda: None, last: bool = False
) -> Iterator[None]:
    """Set `stop` at SIGINT, SIGTERM or SIGHUP while the block runs; a second one exits with status 3, after `let_go`.

    With `last` nothing but telling what was found follows, which a signal does not keep from its end.
    Must be entered inside the running loop. Does nothing outside the main thread, where Python allows no handlers,
    and leaves a signal alone that the caller's parent ignores (nohup).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def on_signal(name: str) -> None:
        if stop.is_set():
            let_go()
            sys.stderr.flush()
            os._exit(ExitStatus.UNCHECKED)
        tell(f"{name}: stopping; once more ends at once")
        stop.set()

    with handled_by_loop({number: partial(on_signal, number.name) for number in taken}):
        try:
            yield
        finally:
            for handler in before.values():
                if last and isinstance(handler, Ending):
                    handler.work_is_done()
