"""Shows a recorded stream of samples as a watch would have shown it."""

from collections.abc import Iterator
from pathlib import Path

from replcheck.errors import UsageError
from replcheck.runs.live import LiveUpdate
from replcheck.watch.limits import WatchLimits
from replcheck.watch.replay import read_head, read_recording
from replcheck.watch.scene import Watched
from replcheck.watch.topology import begin, fold


def replayed(path: Path, limits: WatchLimits) -> Iterator[LiveUpdate]:
    """Yield what was known after each sample of a recording, judged by these limits.

    Raises UsageError with the number of the line where the recording cannot be read.
    """
    head = read_head(path)
    limits = limits.asked_every(head.interval_s)
    state = begin(head.cluster, [Watched(name=node.name, zone=node.zone) for node in head.nodes])
    for number, sample in enumerate(read_recording(path), start=2):
        try:
            after, events = fold(state, sample, limits)
        except (ArithmeticError, ValueError) as error:
            # What each may be by itself, times and durations of a damaged recording may still not be together.
            raise UsageError(
                f"line {number} of recording {path} cannot be shown: a number or time in it is out of range"
            ) from error
        if after is not state and after.view is not None:
            yield LiveUpdate(view=after.view, events=events, standings=after.standings)
        state = after
