"""How a running audit is paused and gone on with: by signal, by a file, and by whatever hands the caller has."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Protocol

from replcheck.audit.gate import USER, Gate
from replcheck.runs.ending import handled_by_loop

_FILE = "file"
_LOOK_S = 0.5


class Hands(Protocol):
    """What else may close and open the gate of a run, such as a key of the terminal."""

    def on(self, gate: Gate) -> AbstractContextManager[None]:
        """Take hold of a gate inside the running loop, until the block ends."""

    def let_go(self) -> None:
        """Leave the terminal as it was; called once more before the process ends at once."""


class NoHands:
    """Nobody but signals and the file."""

    def on(self, gate: Gate) -> AbstractContextManager[None]:  # noqa: ARG002 - there is nobody to use it
        """Do nothing."""
        return nullcontext()

    def let_go(self) -> None:
        """Do nothing."""


@asynccontextmanager
async def pausable(gate: Gate, pause_file: Path | None) -> AsyncIterator[None]:
    """Close the gate at SIGUSR1 and while `pause_file` exists; open it at SIGUSR2 and when the file is gone."""
    watching = asyncio.create_task(_watch(gate, pause_file)) if pause_file is not None else None
    try:
        with _pause_on_signals(gate):
            yield
    finally:
        if watching is not None:
            watching.cancel()


async def _watch(gate: Gate, pause_file: Path) -> None:
    while True:
        if _is_there(pause_file):
            gate.close(_FILE, f"{pause_file} exists")
        else:
            gate.open(_FILE)
        await asyncio.sleep(_LOOK_S)


def _is_there(path: Path) -> bool:
    # A dangling link says pause, too.
    return os.path.lexists(path)


@contextmanager
def _pause_on_signals(gate: Gate) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pause, go_on = partial(gate.close, USER, "paused; SIGUSR2 goes on"), partial(gate.open, USER)
    with handled_by_loop({signal.SIGUSR1: pause, signal.SIGUSR2: go_on}):
        yield
