"""When something was watching a cluster, and when nothing was: what a period's record does not hold, in full.

Spans of samples do not overlap; what lies between two of them, further apart than `GAP_S`, was seen by nobody.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from replcheck.model.spans import GAP_S, WatchSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordGap:
    """A time in which nothing was watching."""

    began_at: datetime
    ended_at: datetime

    @property
    def seconds(self) -> float:
        """Return how long it was."""
        return (self.ended_at - self.began_at).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What of a time was watched."""

    since: datetime
    until: datetime
    gaps: tuple[RecordGap, ...]
    """In order."""
    samples: int
    longest_gap_s: float | None
    """The longest time between two samples while something was watching; None where nothing ever was."""

    @property
    def unwatched_s(self) -> float:
        """Return the seconds in which nothing was watching."""
        return sum(gap.seconds for gap in self.gaps)

    @property
    def share(self) -> float:
        """Return the percentage of the time that was watched."""
        whole = (self.until - self.since).total_seconds()
        return 100.0 * max(0.0, whole - self.unwatched_s) / whole if whole > 0 else 0.0


def watched(spans: Iterable[WatchSpan], since: datetime, until: datetime) -> Watched:
    """Return what of the time from `since` to `until` was watched."""
    inside = sorted((s for s in spans if s.ended_at >= since and s.began_at <= until), key=lambda span: span.began_at)
    gaps: list[RecordGap] = []
    longest: float | None = None
    reached = since
    for span in inside:
        distance_s = (span.began_at - reached).total_seconds()
        if distance_s > GAP_S:
            gaps.append(RecordGap(began_at=reached, ended_at=span.began_at))
        within = [seconds for seconds in (longest, distance_s, span.longest_gap_s) if seconds is not None]
        longest = max([seconds for seconds in within if seconds <= GAP_S], default=longest)
        reached = max(reached, span.ended_at)
    if not inside or (until - reached).total_seconds() > GAP_S:
        gaps.append(RecordGap(began_at=reached, ended_at=until))
    return Watched(
        since=since, until=until, gaps=tuple(gaps), samples=sum(span.samples for span in inside), longest_gap_s=longest
    )
