"""Conditions that come and go, told at their edges: each once, and ever more rarely where one flaps.

A condition is told the moment it sets in. That it is over is told at once the first time; where it has set in several
times within `MEMORY`, only when it has been over for a while that doubles each time. A condition that sets in again
before that was never over. So at most a few events an hour come of anything, however quickly it flaps.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

MEMORY = timedelta(minutes=10)
_LONGEST_HOLD_S = 120.0


class Edge(Enum):
    """What became of a condition."""

    BEGAN = "began"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latch:
    """One condition as it was told so far."""

    since: datetime | None = None
    """When it set in, as told; None where it is over."""
    over_since: datetime | None = None
    """Since when it has been over while that is not told yet."""
    times: tuple[datetime, ...] = ()
    """When it set in within the last `MEMORY`, untold times too."""

    @property
    def told(self) -> bool:
        """Return whether the condition holds, as far as was told."""
        return self.since is not None

    @property
    def count(self) -> int:
        """Return how often it set in lately."""
        return len(self.times)


OFF = Latch()


def step(latch: Latch, holds: bool, at: datetime, *, since: datetime | None = None) -> tuple[Latch, Edge | None]:
    """Return the condition after one more look at it, and the edge to be told, if there is one.

    `since` is when it set in, where that is earlier than `at`. The ended latch keeps its times; how long the condition
    lasted is in the one before it.

    >>> began, edge = step(OFF, True, datetime(2026, 1, 1))
    >>> edge, step(began, True, datetime(2026, 1, 2))[1], step(began, False, datetime(2026, 1, 2))[1]
    (<Edge.BEGAN: 'began'>, None, <Edge.ENDED: 'ended'>)
    """
    if holds:
        return _holding(latch, at, since or at)
    if latch is OFF:
        return latch, None
    if latch.since is None:
        return (latch if not latch.times else OFF if at - latch.times[-1] > MEMORY else latch), None
    over_since = latch.over_since or at
    if (at - over_since).total_seconds() < _hold_s(latch):
        return Latch(since=latch.since, over_since=over_since, times=latch.times), None
    return Latch(times=latch.times), Edge.ENDED


def _holding(latch: Latch, at: datetime, since: datetime) -> tuple[Latch, Edge | None]:
    if latch.since is not None and latch.over_since is None:
        return latch, None
    times = (*(time for time in latch.times if at - time <= MEMORY), at)[-16:]
    if latch.since is not None:
        return Latch(since=latch.since, times=times), None
    return Latch(since=since, times=times), Edge.BEGAN


def _hold_s(latch: Latch) -> float:
    return 0.0 if latch.count <= 1 else min(2.0 ** (latch.count - 1), _LONGEST_HOLD_S)


def duration_s(latch: Latch, at: datetime) -> float:
    """Return how long a condition that ends now lasted, by when it was really over."""
    return ((latch.over_since or at) - (latch.since or at)).total_seconds()


def often(latch: Latch) -> str:
    """Return a clause for a condition that came and went, empty for one that did not."""
    return f"; it came and went {latch.count} times lately" if latch.count > 1 else ""
