"""A signal as a wish that a run of many steps looks at between them.

Unlike an audit, which a second signal may end at once, a run that owns servers always ends by removing them.
"""

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType
from typing import Any, Self

from replcheck.audit.gate import Gate
from replcheck.audit.options import AuditOptions
from replcheck.errors import Interrupted, ReplcheckError
from replcheck.events import Emit
from replcheck.model.audit import AuditResult
from replcheck.model.node import NodeTarget
from replcheck.model.progress import Progress

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_S = 0.05


class StopWish:
    """Remembers the first signal; `tell` takes one line when it comes, `what` is the run that it ends."""

    def __init__(self, tell: Callable[[str], None], what: str = "the demo") -> None:
        self._tell = tell
        self._what = what
        self._signal: signal.Signals | None = None

    @contextmanager
    def on_signals(self) -> Iterator[Self]:
        """Take SIGINT, SIGTERM and SIGHUP while the block runs; what fails after one came is raised as Interrupted.

        Takes none outside the main thread, where Python allows no handlers, and none that the parent ignores (nohup).
        """
        mine = threading.current_thread() is threading.main_thread()
        before = {number: signal.getsignal(number) for number in _SIGNALS} if mine else {}
        self._taken = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
        for number in self._taken:
            signal.signal(number, self._on_signal)
        try:
            yield self
        except ReplcheckError as error:
            # A terminal sends Ctrl-C to the programs that were just running too: that they failed is no news then.
            if self._signal is None or isinstance(error, Interrupted):
                raise
            raise self._interrupted() from error
        finally:
            for number in self._taken:
                signal.signal(number, before[number])

    def ask(self) -> None:
        """Wish the same without a signal, from any thread."""
        self._signal = self._signal or signal.SIGINT

    def obey(self) -> None:
        """Raise Interrupted where a signal came."""
        if self._signal is not None:
            raise self._interrupted()

    def sleep(self, seconds: float) -> None:
        """Sleep, or raise Interrupted as soon as a signal comes."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.obey()
            time.sleep(_POLL_S)
        self.obey()

    @contextmanager
    def over(self, block: AbstractContextManager[Any]) -> Iterator[None]:
        """Enter a block that takes its time, and obey once it is entered."""
        with block:
            self.obey()
            yield

    async def auditor(
        self,
        targets: Sequence[NodeTarget],
        options: AuditOptions,
        *,
        run_id: str,
        cluster: str,
        emit: Emit,
        stop: asyncio.Event,
        gate: Gate,
        earlier: Sequence[Progress],
    ) -> AuditResult:
        """Audit as always, but have any signal, the second too, only ask the audit to stop."""
        from replcheck.audit.auditor import audit_cluster

        with self.passed_on(stop):
            return await audit_cluster(
                targets, options, run_id=run_id, cluster=cluster, emit=emit, stop=stop, gate=gate, earlier=earlier
            )

    @contextmanager
    def passed_on(self, stop: asyncio.Event) -> Iterator[None]:
        """Have any signal, the second too, only set `stop` while the block runs in a loop; at once where one came."""

        def on_signal(number: signal.Signals) -> None:
            self._on_signal(number, None)
            stop.set()

        loop = asyncio.get_running_loop()
        for number in self._taken:
            loop.add_signal_handler(number, on_signal, number)
        if self._signal is not None:
            stop.set()
        try:
            yield
        finally:
            # A loop that gives a signal back leaves it to the system, which would end the process.
            for number in self._taken:
                loop.remove_signal_handler(number)
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._signal is None:
            self._signal = signal.Signals(number)
            # A handler that interrupts a write to the same stream must not write to it (RuntimeError).
            with suppress(OSError, RuntimeError):
                self._tell(f"{self._signal.name}: removing the servers")

    def _interrupted(self) -> Interrupted:
        name = self._signal.name if self._signal else "a signal"
        return Interrupted(f"{self._what} was ended by {name}", hint="Everything it had started was removed.")
