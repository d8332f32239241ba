"""What SIGTERM and SIGHUP do to a command outside of its work: they end it with a status of ours, never by themselves.

A process that a signal kills has the status 128 and more, which says nothing of what was found. While a run works,
`runs.signals` takes the signals over, and gives them back afterwards.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from replcheck.errors import Interrupted
from replcheck.model.outcome import ExitStatus

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Ending:
    """A handler: the first signal ends the command as an error, the second at once with status 3.

    Once the work is done, the first is let pass: the command ends anyway, with the status of what it has found.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._is_done = False
        self._is_told = False

    def work_is_done(self) -> None:
        """Let the command finish from now on."""
        self._is_done = True

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        if os.getpid() != self._process:  # a child that was forked ends as it always did
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self._is_told:
            os._exit(ExitStatus.UNCHECKED)
        self._is_told = True
        if not self._is_done:
            raise Interrupted(f"ended by {signal.Signals(number).name}")


@contextmanager
def ending_with_a_status(*, for_good: bool) -> Iterator[Ending]:
    """Take the signals while the block runs; `for_good` ignores them afterwards, since the process ends then.

    Does nothing outside the main thread, where Python allows no handlers, and leaves a signal alone that the caller's
    parent ignores (nohup).
    """
    ending = Ending()
    mine = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _ENDING} if mine else {}
    taken = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, ending)
    try:
        yield ending
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_IGN if for_good else before[number])


@contextmanager
def handled_by_loop(handlers: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Have the running loop call a handler for each signal while the block runs; then all are as they were before.

    Must be entered inside the running loop, in the main thread, where alone Python allows handlers.
    """
    from asyncio import get_running_loop  # every command loads this module, and most have no loop

    loop = get_running_loop()
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        # Between the two, a signal would find the handler of the system, which ends the process with no status of ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, before)
        for number, earlier in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, earlier)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, before)
