"""When something was watching a cluster, and when nothing was: what a period's record does not hold, in full.

Spans of samples do not overlap; what lies between two of them, further apart than `GAP_S`, was seen by nobody. Before
the first sample nothing is known, and the last one is trusted for `GAP_S`: as in `model.copy_times`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

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
    """Return what of the time from `since` to `until` was watched.

    Of `spans` those from before that time count for how they reach into it: see `SPANS_FROM`.
    """
    known = sorted((span for span in spans if span.began_at <= until), key=lambda span: span.began_at)
    inside = [span for span in known if span.ended_at >= since]
    gaps: list[RecordGap] = []
    longest: float | None = None
    reached = max((span.ended_at for span in known if span.ended_at < since), default=None)
    for span in inside:
        distance_s = (span.began_at - reached).total_seconds() if reached is not None else None
        if distance_s is None or distance_s > GAP_S:
            gaps += _gap(reached, span.began_at, since)
        within = [seconds for seconds in (longest, distance_s, span.longest_gap_s) if seconds is not None]
        longest = max([seconds for seconds in within if seconds <= GAP_S], default=longest)
        reached = span.ended_at if reached is None else max(reached, span.ended_at)
    if reached is None or (until - reached).total_seconds() > GAP_S:
        gaps += _gap(reached, until, since)
    return Watched(
        since=since, until=until, gaps=tuple(gaps), samples=sum(span.samples for span in inside), longest_gap_s=longest
    )


SPANS_FROM = timedelta(seconds=GAP_S)
"""How long before a period a sample may have been that bridges its beginning."""


def _gap(reached: datetime | None, until: datetime, since: datetime) -> list[RecordGap]:
    began_at = since if reached is None else max(since, reached)
    return [RecordGap(began_at=began_at, ended_at=until)] if began_at < until else []
