"""The gate that every lane passes before each step: closed, it holds the audit still, without a snapshot or a lock.

Whoever closes it gives a reason and opens it again: a user by key, signal or file, or a limit that the servers exceed.
The clock of an audit stands still while all its lanes wait here, so that no time limit runs out meanwhile.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from replcheck.events import Emit, HeldStill, Waited

USER = "user"
"""Who closes the gate by key or signal."""


class Gate:
    """Open while nobody keeps it closed; may be made before a loop runs, and used within one only."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.held: dict[str, float] = {}
        """Seconds that the gate was closed, by who closed it first."""
        self._emit: Emit = lambda _: None
        self._monotonic = monotonic
        self._reasons: dict[str, str] = {}
        self._opened = asyncio.Event()
        self._opened.set()
        self._closed_at = 0.0
        self._told: tuple[str, ...] = ()
        self._told_why = ""
        self._ended = False
        self._lanes = 0
        self._waiting = 0
        self._frozen_at: float | None = None
        self._frozen_s = 0.0

    @property
    def closed(self) -> bool:
        """Return whether somebody keeps it closed."""
        return bool(self._reasons)

    @property
    def why(self) -> str:
        """Return who keeps it closed and why, as one clause; empty while it is open."""
        return "; ".join(dict.fromkeys(self._reasons.values()))

    def close(self, who: str, reason: str) -> None:
        """Hold the audit still for `reason`, until `who` opens the gate again."""
        if not self._ended:
            self._reasons[who] = reason
            self._changed()

    def open(self, who: str) -> None:
        """Take back what `who` closed the gate for."""
        self._reasons.pop(who, None)
        self._changed()

    def tell(self, emit: Emit) -> None:
        """Tell a run's sinks from now on, first of all that the gate is closed if it is."""
        self._emit = emit
        if self.closed:
            emit(HeldStill(at=datetime.now(UTC), reason=self.why))

    def toggle(self, reason: str) -> None:
        """Close the gate for the user, or open it again."""
        if USER in self._reasons:
            self.open(USER)
        else:
            self.close(USER, reason)

    def _changed(self) -> None:
        now = self._monotonic()
        if tuple(self._reasons) == self._told:
            return
        if self._told:
            elapsed = now - self._closed_at
            self.held[self._told[0]] = self.held.get(self._told[0], 0.0) + elapsed
            self._emit(Waited(at=datetime.now(UTC), node=None, reason=self._told_why, elapsed_s=elapsed))
        self._told, self._told_why, self._closed_at = tuple(self._reasons), self.why, now
        if self.closed:
            self._opened.clear()
            self._emit(HeldStill(at=datetime.now(UTC), reason=self.why))
        else:
            self._opened.set()
        self._freeze(now)

    def end(self) -> None:
        """Open the gate for good: nobody closes it again."""
        self._ended = True
        self._reasons.clear()
        self._changed()

    def enter(self) -> None:
        """Tell that a lane begins to work."""
        self._lanes += 1
        self._freeze(self._monotonic())

    def leave(self) -> None:
        """Tell that a lane has ended its work."""
        self._lanes -= 1
        self._freeze(self._monotonic())

    async def wait_open(self) -> None:
        """Wait until the gate is open; the lane must hold no snapshot."""
        self._waiting += 1
        self._freeze(self._monotonic())
        try:
            await self._opened.wait()
        finally:
            self._waiting -= 1
            self._freeze(self._monotonic())

    def clock(self) -> float:
        """Return seconds of a monotonic clock that stands still while every lane waits here."""
        now = self._monotonic()
        standing = now - self._frozen_at if self._frozen_at is not None else 0.0
        return now - self._frozen_s - standing

    def _freeze(self, now: float) -> None:
        frozen = self.closed and 0 < self._lanes <= self._waiting
        if frozen and self._frozen_at is None:
            self._frozen_at = now
        elif not frozen and self._frozen_at is not None:
            self._frozen_s += now - self._frozen_at
            self._frozen_at = None
