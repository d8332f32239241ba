"""Writes the samples of a watch to a file, beside everything else that becomes of them."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from replcheck.errors import UsageError
from replcheck.model.live import Sample
from replcheck.runs.live_config import LiveRequest
from replcheck.watch.replay import RecordedNode, Recording, RecordingHead

Tell = Callable[[str], None]


class SampleRecording:
    """Writes every sample before it is taken; a disk that takes no more ends the recording and not the watch."""

    def __init__(self, recording: Recording, tell: Tell) -> None:
        self._recording: Recording | None = recording
        self._tell = tell

    def beside(self, take: Callable[[Sample], None]) -> Callable[[Sample], None]:
        """Return what takes a sample after it was written."""

        def both(sample: Sample) -> None:
            try:
                if self._recording is not None:
                    self._recording.take(sample)
            except UsageError as error:
                self.close()
                self._tell(f"warning: the recording ends here: {error.message}")
            take(sample)

        return both

    def close(self) -> None:
        """Close the file."""
        recording, self._recording = self._recording, None
        if recording is not None:
            with suppress(OSError):
                recording.close()


def open_recording(request: LiveRequest, path: Path, tell: Tell) -> SampleRecording:
    """Begin a new file; raise UsageError where it cannot be written or there is one already."""
    nodes = tuple(RecordedNode(name=target.name, zone=target.zone) for target in request.targets)
    head = RecordingHead(cluster=request.cluster, nodes=nodes, interval_s=request.interval_s)
    return SampleRecording(Recording.create(path, head), tell)
