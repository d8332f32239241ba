"""The stages of a drill as they pass: what each took, and what is told of it on the way."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from replcheck.errors import Interrupted
from replcheck.events import Emit, StageBegan, StageEnded, StageProgressed
from replcheck.model.drill import Stage, StageReport

_TOLD_EVERY_S = 0.2


class Course(Protocol):
    """What a layer of proof needs of the stages: to hear of a wish to stop, and to tell how far it is."""

    @property
    def obey(self) -> Callable[[], None]:
        """Return what raises Interrupted where the layer is to stop; call it wherever stopping is safe."""

    @property
    def parts(self) -> tuple[Path, ...]:
        """Return the folders that an incremental backup was combined from."""

    def expect(self, total_bytes: int | None) -> None:
        """Tell how many bytes the layer will read."""

    def progressed(self, done_bytes: int, what: str = "") -> None:
        """Tell how many bytes are done; obeys a wish to stop."""


class Stages:
    """Times stages, emits their events, and lets a wish to stop be heard between two steps.

    `obey` raises Interrupted where somebody asked the drill to stop; call it wherever stopping is safe.
    """

    def __init__(
        self, emit: Emit, *, obey: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._emit = emit
        self._clock = clock
        self._told = float("-inf")
        self._current: Stage | None = None
        self._bytes: int | None = None
        self._total: int | None = None
        self.obey = obey
        self.watch: Callable[[], None] = lambda: None
        """Called while bytes are moved, a few times a second; may raise."""
        self.parts: tuple[Path, ...] = ()
        """The folders that an incremental backup was combined from, for the layer that looks at manifests."""
        self.reports: list[StageReport] = []

    @contextmanager
    def enter(self, stage: Stage, total_bytes: int | None = None) -> Iterator[None]:
        """Time a stage; `total_bytes` is what it is to move, None where that is not known. Stages do not nest."""
        self.obey()
        self._current, self._bytes, self._total, self._told = stage, None, total_bytes, float("-inf")
        self._emit(StageBegan(at=datetime.now(UTC), stage=stage, total_bytes=total_bytes))
        began, finished = self._clock(), False
        try:
            yield
            finished = True
        finally:
            elapsed_s = self._clock() - began
            self.reports.append(
                StageReport(stage=stage, elapsed_s=elapsed_s, size_bytes=self._bytes, finished=finished)
            )
            self._emit(
                StageEnded(at=datetime.now(UTC), stage=stage, elapsed_s=elapsed_s, size_bytes=self._bytes, ok=finished)
            )
            self._current = None

    def expect(self, total_bytes: int | None) -> None:
        """Tell how many bytes the current stage is to move, where that shows on the way only; None is not known."""
        self._total = total_bytes

    def progressed(self, done_bytes: int, what: str = "") -> None:
        """Tell how many bytes of the current stage are done, at most some times a second; obeys a wish to stop."""
        self._bytes = done_bytes
        now = self._clock()
        if self._current is not None and now - self._told >= _TOLD_EVERY_S:
            self._told = now
            self.watch()
            self._emit(
                StageProgressed(
                    at=datetime.now(UTC),
                    stage=self._current,
                    done_bytes=done_bytes,
                    total_bytes=self._total,
                    what=what,
                )
            )
        self.obey()


class Share:
    """The course of one layer among several that look at the same time, each in a thread of its own.

    What it tells is only noted, for the one thread that tells it of all; it ends where the stages do, or at `end`.
    """

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._ended = False
        self.done_bytes = 0
        self.total_bytes: int | None = None
        self.what = ""
        self.told = float("-inf")
        """When it was told last, in seconds of the monotonic clock."""

    @property
    def parts(self) -> tuple[Path, ...]:
        """Return the folders that an incremental backup was combined from."""
        return self._stages.parts

    def obey(self) -> None:
        """Raise Interrupted where the layer is to stop."""
        if self._ended:
            raise Interrupted("the other layers were stopped")
        self._stages.obey()

    def end(self) -> None:
        """Have the layer stop."""
        self._ended = True

    def expect(self, total_bytes: int | None) -> None:
        """Note how many bytes the layer will read."""
        self.total_bytes = total_bytes

    def progressed(self, done_bytes: int, what: str = "") -> None:
        """Note how many bytes are done; obeys a wish to stop."""
        self.done_bytes, self.what, self.told = done_bytes, what, time.monotonic()
        self.obey()
