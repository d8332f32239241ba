"""A chain as one file: a record a line, and a closing line that says which records are in it, lest some be cut off.

The same bytes as in the history, so that each record's SHA-256 is that of its line. Written in one step, and read back
record by record.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from replcheck.errors import StoreError, UsageError
from replcheck.evidence.chain import ChainFold, View, moment_of
from replcheck.evidence.files import lasting_file
from replcheck.evidence.in_history import run_id_of
from replcheck.evidence.notary import Notary
from replcheck.evidence.opening import Opened, Unreadable, open_line
from replcheck.evidence.statement import PREDICATE_TYPES
from replcheck.evidence.verifying import reading
from replcheck.model.evidence import ChainReport, EvidenceRecord
from replcheck.model.plain import Plain

_KIND_OF = {predicate_type: kind for kind, predicate_type in PREDICATE_TYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written."""

    report: ChainReport
    sha256: str
    """Of the whole file."""
    size_bytes: int


def write_export(records: Iterable[EvidenceRecord], target: BinaryIO, notary: Notary) -> Exported:
    """Write records and the line that closes them; raise StoreError where they do not follow each other."""
    fold = ChainFold(view=View.PART)
    digest, size = sha256(), 0

    def put(line: str) -> None:
        nonlocal size
        content = line.encode() + b"\n"
        digest.update(content)
        size += target.write(content)

    for record in records:
        if not fold.take(open_line((record.envelope or "").encode(), {})):
            break
        put(record.envelope or "")
    report = fold.finished()
    if report.problem:
        raise StoreError(
            f"the chain is not whole, and is not exported: {report.problem}",
            hint='Ask with "replcheck evidence verify".',
        )
    if report.records:
        put(notary.closing(extent_of(report), report.head))
    return Exported(report=report, sha256=digest.hexdigest(), size_bytes=size)


def extent_of(report: ChainReport) -> dict[str, Plain]:
    """Return which records a file holds, as its closing line and a checkpoint tell it."""
    return {
        "cluster": report.cluster,
        "chain_id": report.chain_id,
        "first": report.first,
        "last": report.last,
        "head": report.head,
        "records": report.records,
    }


@contextmanager
def new_file(path: Path, *, replace: bool) -> Iterator[BinaryIO]:
    """Give the block a file that stands under its name once the block is done, and not at all where it fails.

    Raises UsageError where it cannot be written or, unless it may be replaced, is there already.
    """
    try:
        if not replace and path.exists():
            raise UsageError(f"{path} exists already", hint="An archive is never overwritten: name another file.")
        with lasting_file(path) as file:
            yield file
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {(error.strerror or 'unknown error').lower()}",
            hint="Name a writable file with --output.",
        ) from error


@contextmanager
def records_of(path: Path) -> Iterator[Iterator[EvidenceRecord]]:
    """Give the block the records of an exported file, one after the other, as a history keeps them.

    Raises UsageError where they do not follow each other up to the closing line: the block must not keep what it was
    given until it has come to the end.
    """
    with reading(path) as lines:
        yield _records(path, lines)


def _records(path: Path, lines: Iterator[bytes]) -> Iterator[EvidenceRecord]:
    fold = ChainFold(view=View.FILE)
    for content in lines:
        line = open_line(content, {})
        if not fold.take(line):
            break
        if isinstance(line, Opened) and not line.is_closing:
            yield _record(path, line, content)
    problem = fold.finished().problem
    if problem:
        raise UsageError(f"{path} is not imported: {problem}", hint='Ask with "replcheck evidence verify --file".')


def _record(path: Path, line: Opened | Unreadable, content: bytes) -> EvidenceRecord:
    assert isinstance(line, Opened)  # noqa: S101 - the caller has looked
    kind, recorded_at = _KIND_OF.get(line.predicate_type), moment_of(line.recorded_at)
    if kind is None or recorded_at is None:
        raise UsageError(
            f"{path} holds a kind of record that this replcheck does not know: record {line.sequence}",
            hint="Import it with the newer replcheck that wrote it.",
        )
    return EvidenceRecord(
        cluster=line.cluster,
        chain_id=line.chain_id,
        sequence=line.sequence,
        sha256=line.sha256,
        previous=line.previous,
        kind=kind,
        run_id=run_id_of(line),
        recorded_at=recorded_at,
        key_id=line.key_id,
        envelope=content.decode(),
    )
