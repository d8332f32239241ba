"""Shows a recorded stream of samples as a watch would have shown it."""

from collections.abc import Iterator
from pathlib import Path

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
    state = begin(head.cluster, [Watched(name=node.name, zone=node.zone) for node in head.nodes])
    for sample in read_recording(path):
        after, events = fold(state, sample, limits)
        if after is not state and after.view is not None:
            yield LiveUpdate(view=after.view, events=events, standings=after.standings)
        state = after
