"""Where events go: several readers of one stream, none of which can end a run."""

import json
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TextIO

from replcheck.errors import UsageError
from replcheck.events import Event
from replcheck.model.plain import Plain, snake_case, to_plain, utc_text


class Sink(Protocol):
    """A reader of events."""

    def __call__(self, event: Event, /) -> None:
        """Take one event; what it raises costs this reader the rest of the stream and nobody else anything."""


class FanOut:
    """Hands every event to every sink, and drops a sink at its first failure."""

    def __init__(self, sinks: Sequence[Sink], *, report_broken: Callable[[str], None] = lambda _: None) -> None:
        self._sinks = list(sinks)
        self._report_broken = report_broken

    def __call__(self, event: Event) -> None:
        """Hand on one event; never raises."""
        for sink in tuple(self._sinks):
            try:
                sink(event)
            except Exception as error:  # noqa: BLE001 - a proof must not end because somebody stopped reading
                self._sinks.remove(sink)
                self._report_broken(f"events are no longer written: {_told(error)}")


class JsonLines:
    """Writes one JSON object a line: `event`, `at` in UTC, and what the event holds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._mutex = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Write one event and flush it, so that a reader that follows the file sees it at once."""
        self.write(event_document(event))

    def write(self, document: dict[str, Plain]) -> None:
        """Write one object, and flush it alike; safe to be called by several threads."""
        with self._mutex:
            self._stream.write(json.dumps(document) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Close the file; standard output stays open. What could not be written was already told."""
        if self._stream is not sys.stdout:
            try:
                self._stream.close()
            except OSError:
                return


def open_json_lines(path: Path) -> JsonLines:
    """Return a sink that writes to a new file, or to standard output for `-`; raise UsageError where it cannot."""
    if str(path) == "-":
        return JsonLines(sys.stdout)
    try:
        return JsonLines(path.open("w", encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"cannot write events to {path}: {(error.strerror or 'unknown error').lower()}",
            hint="Name a writable file with --events.",
        ) from error


def event_document(event: Event) -> dict[str, Plain]:
    """Return an event as one flat JSON object."""
    held = to_plain(event)
    assert isinstance(held, dict)  # noqa: S101 - an event is a dataclass
    return {"event": snake_case(type(event).__name__), "at": utc_text(event.at)} | held


def _told(error: Exception) -> str:
    return (error.strerror or "unknown error").lower() if isinstance(error, OSError) else type(error).__name__
