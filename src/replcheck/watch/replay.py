"""Recordings: a stream of samples as JSON lines, written while a cluster is watched and read to be shown again.

The first line names the cluster and its nodes, every other one is a sample. Samples hold no row, role or secret, and so
neither does a recording.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, TypeVar

from replcheck.errors import UsageError
from replcheck.model.live import Sample
from replcheck.model.plain import plain_object
from replcheck.model.shape import from_plain

_FORMAT = 1
_KIND = "watch"
_SAMPLE = "sample"
Fact = TypeVar("Fact")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedNode:
    """A node as it was configured when the recording was made."""

    name: str
    zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingHead:
    """What a recording is of."""

    cluster: str
    nodes: tuple[RecordedNode, ...]
    format: int = _FORMAT
    interval_s: float = 1.0
    """How often each node was asked."""


class Recording:
    """A recording that is being written; use it as a context manager."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @classmethod
    def create(cls, path: Path, head: RecordingHead) -> Self:
        """Begin a new file; raise UsageError where it cannot be written or there is one already."""
        try:
            file = path.open("x", encoding="ascii")
        except OSError as error:
            raise UsageError(f"recording {path} cannot be written: {(error.strerror or 'unknown').lower()}") from error
        recording = cls(file)
        recording._write({"kind": _KIND, **plain_object(head)})
        return recording

    def take(self, sample: Sample) -> None:
        """Write one sample; raise UsageError where the disk takes no more."""
        self._write({"kind": _SAMPLE, **plain_object(sample)})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: dict[str, object]) -> None:
        try:
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
            self._file.flush()
        except OSError as error:
            raise UsageError(f"the recording cannot be written: {(error.strerror or 'unknown').lower()}") from error


def read_head(path: Path) -> RecordingHead:
    """Return what a recording is of; raise UsageError where it cannot be read or is none."""
    return next(_heads(path))


def read_recording(path: Path) -> Iterator[Sample]:
    """Yield the samples of a recording as they were written.

    Raise UsageError with the number of the line where the file cannot be read or a line is no sample.
    """
    read_head(path)
    for number, line in _lines(path):
        if number > 1:
            yield _fact(Sample, _SAMPLE, line, path, number)


def _heads(path: Path) -> Iterator[RecordingHead]:
    for number, line in _lines(path):
        head = _fact(RecordingHead, _KIND, line, path, number)
        if head.format != _FORMAT:
            raise UsageError(f"recording {path} has format {head.format}, and this replcheck reads {_FORMAT}")
        yield head
    raise UsageError(f"recording {path} is empty")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise UsageError(f"recording {path} cannot be read: {(error.strerror or 'unknown').lower()}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"recording {path} is no text") from error


def _fact(kind: type[Fact], word: str, line: str, path: Path, number: int) -> Fact:
    try:
        told = json.loads(line)
        if not isinstance(told, dict) or told.get("kind") != word:
            raise ValueError(f"it is no {word}")
        return from_plain(kind, told)
    except (ValueError, RecursionError) as error:
        reason = "it is no JSON" if isinstance(error, json.JSONDecodeError | RecursionError) else str(error)
        raise UsageError(
            f"line {number} of recording {path} cannot be read: {reason}",
            hint="Recordings are made with: replcheck watch --record FILE",
        ) from error
