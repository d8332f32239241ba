"""How a rolling audit is spread over its time: how much of it is left, and when it works and when it rests. Pure.

An audit at gentle pace already rests nine times as long as it reads; here it is held still for longer, where all of
its work is done in a part of the time that it has.
"""

from dataclasses import dataclass, field

from replcheck.events import ChunkCompared, DatabasePlanned, Event
from replcheck.model.outcome import Verdict

ASSUMED_BYTES_PER_S = 10_000_000.0
"""What one lane at gentle pace reads before anything was measured."""
MARGIN = 0.75
"""The part of the time that is left in which the work should be done."""
WORK_S = 30.0
"""How long it works before it rests."""
LONGEST_REST_S = 1800.0
_MEASURED_S = 10.0


@dataclass(slots=True)
class ScrubProgress:
    """Reads an audit's events: bytes of relations as the primary stores them."""

    left: dict[str, int] = field(default_factory=dict)
    """Not read yet, by database; of a database that was not entered yet, all that it holds."""
    done_bytes: int = 0
    working_s: float = 0.0
    """How long the audit was not held still."""

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case DatabasePlanned():
                # Databases are read one after the other: those entered before are done.
                self.left = {name: size for name, size in self.left.items() if name not in self._entered}
                self._entered = (*self._entered, event.database)
                self.left[event.database] = event.size_bytes
            case ChunkCompared() if event.verdict is not Verdict.UNCHECKED:
                self.done_bytes += event.size_bytes
                self.left[event.database] = max(0, self.left.get(event.database, 0) - event.size_bytes)

    _entered: tuple[str, ...] = ()

    @property
    def left_bytes(self) -> int:
        """Return what is left to read."""
        return sum(self.left.values())

    @property
    def share(self) -> float:
        """Return the part that is done, 0 to 1."""
        whole = self.done_bytes + self.left_bytes
        return self.done_bytes / whole if whole else 0.0

    @property
    def bytes_per_s(self) -> float:
        """Return how quickly it reads while it works."""
        if self.working_s < _MEASURED_S or not self.done_bytes:
            return ASSUMED_BYTES_PER_S
        return self.done_bytes / self.working_s


def working_share(left_bytes: int, bytes_per_s: float, time_left_s: float) -> float:
    """Return the part of the time, 0 to 1, in which to work so that all is done in good time.

    >>> working_share(3_000, 10.0, 4_000.0), working_share(3_000, 10.0, 100.0)
    (0.1, 1.0)
    """
    needed_s = left_bytes / bytes_per_s
    available_s = time_left_s * MARGIN
    return 1.0 if available_s <= needed_s else needed_s / available_s


@dataclass(slots=True)
class Pacer:
    """Says when to work and when to rest; begins with work. Times are seconds of a monotonic clock."""

    _working: bool = True
    _until: float | None = None

    def works(self, now: float, share: float) -> bool:
        """Return whether to work now, where `share` of the time is enough."""
        if self._until is None:
            self._until = now + WORK_S
        if share >= 1.0:
            self._working, self._until = True, now + WORK_S
        elif now >= self._until:
            self._working = not self._working
            rest_s = min(WORK_S / max(share, 1e-6) - WORK_S, LONGEST_REST_S)
            self._until = now + (WORK_S if self._working else rest_s)
        return self._working
