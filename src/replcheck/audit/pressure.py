"""What an audit's servers bear at this moment, and whether that is more than was allowed.

Pure. A limit holds the audit still; it goes on once the servers were within every limit for a while.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from replcheck.model.units import format_size

WINDOW_S = 60.0
"""Over how long requested checkpoints are counted."""
CALM_LOOKS = 2
"""Looks in a row that must be within the limits before the audit goes on."""
BRAKE_BYTES = 128 * 1024**2
"""How much further than at its first look a replica may fall behind, at any pace but `full`: an audit's own reading can
write hint bits, which are WAL where checksums are on."""
BRAKE_PATIENCE_S = 60.0
"""How long that brake holds an audit still before it is released until the lag is gone: a replica may lag for reasons
of its own, for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseLimits:
    """Limits beyond which an audit holds still; None where there is none."""

    lag_bytes: int | None = None
    """WAL that a replica has not replayed yet."""
    active_clients: int | None = None
    """Client backends that are active on any node, the audit's own not counted."""
    xmin_age: int | None = None
    """Transactions that the oldest snapshot of the primary holds back from vacuum."""
    checkpoints_per_min: float | None = None
    """Checkpoints forced by WAL volume."""

    @property
    def need_monitor(self) -> tuple[str, ...]:
        """Return the limits that can be watched only by a role that sees other roles' activity."""
        given = {"active_clients": self.active_clients, "xmin_age": self.xmin_age}
        return tuple(name for name, limit in given.items() if limit is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """One look at all nodes, at `at` seconds of the monotonic clock; what could not be read is left out or None."""

    at: float
    lag_bytes: Mapping[str, int] = field(default_factory=dict)
    active_clients: Mapping[str, int] = field(default_factory=dict)
    xmin_age: int | None = None
    checkpoints_requested: int | None = None
    """How many the primary has counted since its statistics began."""


class PressureWatch:
    """Turns looks into reasons to hold still; empty while there is none."""

    def __init__(self, limits: PauseLimits, *, brakes: bool) -> None:
        self._limits = limits
        self._brakes = brakes
        self._checkpoints: deque[tuple[float, int]] = deque()
        self._usual_lag: dict[str, int] = {}
        self._braked_since: float | None = None
        self._reasons: tuple[str, ...] = ()
        self._calm = 0

    def take(self, look: Pressure) -> tuple[str, ...]:
        """Take one look; return why the audit must hold still now."""
        exceeded = (*self._lagging(look), *self._busy(look), *self._held_back(look), *self._checkpointing(look))
        exceeded += self._brake(look)
        if exceeded:
            self._reasons, self._calm = exceeded, 0
        elif self._reasons:
            self._calm += 1
            if self._calm >= CALM_LOOKS:
                self._reasons = ()
        return self._reasons

    def _lagging(self, look: Pressure) -> tuple[str, ...]:
        limit = self._limits.lag_bytes
        return tuple(
            f"{node} is {format_size(lag)} of WAL behind (limit {format_size(limit)})"
            for node, lag in sorted(look.lag_bytes.items())
            if limit is not None and lag > limit
        )

    def _busy(self, look: Pressure) -> tuple[str, ...]:
        limit = self._limits.active_clients
        return tuple(
            f"{count} clients are active on {node} (limit {limit})"
            for node, count in sorted(look.active_clients.items())
            if limit is not None and count > limit
        )

    def _held_back(self, look: Pressure) -> tuple[str, ...]:
        limit, age = self._limits.xmin_age, look.xmin_age
        if limit is None or age is None or age <= limit:
            return ()
        return (f"a snapshot of the primary is {age:,} transactions old (limit {limit:,})",)

    def _checkpointing(self, look: Pressure) -> tuple[str, ...]:
        limit, count = self._limits.checkpoints_per_min, look.checkpoints_requested
        if limit is None or count is None:
            return ()
        if self._checkpoints and count < self._checkpoints[-1][1]:
            self._checkpoints.clear()  # the statistics were reset
        self._checkpoints.append((look.at, count))
        while self._checkpoints[0][0] < look.at - WINDOW_S:
            self._checkpoints.popleft()
        requested = count - self._checkpoints[0][1]
        if requested <= limit * WINDOW_S / 60:
            return ()
        return (f"{requested} checkpoints were requested within a minute (limit {limit:g})",)

    def _brake(self, look: Pressure) -> tuple[str, ...]:
        for node, lag in look.lag_bytes.items():
            self._usual_lag[node] = min(lag, self._usual_lag.get(node, lag))
        grown = [
            f"{node} falls behind: {format_size(lag)} of WAL"
            for node, lag in sorted(look.lag_bytes.items())
            if lag - self._usual_lag[node] > BRAKE_BYTES
        ]
        if not self._brakes or not grown:
            self._braked_since = None
            return ()
        if self._braked_since is None:
            self._braked_since = look.at
        return tuple(grown) if look.at - self._braked_since <= BRAKE_PATIENCE_S else ()
