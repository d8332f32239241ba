"""The use cases of `evidence` that write: files of a chain, an archive under its checkpoint, an import, a note."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import dropwhile, islice, takewhile
from pathlib import Path
from typing import BinaryIO

from replcheck.errors import StoreError, UsageError
from replcheck.evidence.exporting import Exported, extent_of, new_file, records_of, write_export
from replcheck.evidence.in_history import verify_history
from replcheck.evidence.keys import PublicKey
from replcheck.evidence.statement import Note
from replcheck.evidence.verifying import verify_file
from replcheck.model.evidence import ChainReport, EvidenceRecord
from replcheck.model.names import printable
from replcheck.runs.signing import Signing
from replcheck.store import EvidenceReader, open_evidence, open_history

_AT_A_TIME = 1_000
_LONGEST_TEXT = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Which records of a chain are wanted: those that were made in a period."""

    since: datetime | None = None
    until: datetime | None = None
    """Records made before."""


WHOLE = Segment()


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was taken in."""

    report: ChainReport
    new: int


def export_chain(
    reader: EvidenceReader,
    cluster: str,
    target: BinaryIO,
    signing: Signing,
    keys: Sequence[PublicKey],
    wanted: Segment = WHOLE,
) -> Exported:
    """Write the records of a chain that are not in an archive, and the line that closes them.

    What is signed here is verified first. Raises StoreError where the chain is not whole or was forged, UsageError
    where no record was made in the period.
    """
    verified = verify_history(reader, cluster, keys)
    if verified.problem:
        raise StoreError(
            f"the chain is not whole, and is not exported: {verified.problem}",
            hint='Ask with "replcheck evidence verify".',
        )
    return _exported(reader, cluster, target, signing, verified, wanted)


def _exported(
    reader: EvidenceReader, cluster: str, target: BinaryIO, signing: Signing, verified: ChainReport, wanted: Segment
) -> Exported:
    # No more than was verified: what somebody put behind it meanwhile was not.
    records = reader.records(cluster, last=verified.last, kept=True)
    exported = write_export(_segment(records, wanted), target, signing.notary())
    if exported.report.last == verified.last and exported.report.head != verified.head:
        raise StoreError("the chain was changed while it was exported", hint="Try again.")
    if not exported.report.records:
        raise UsageError(f"{printable(cluster)} has no record of that period", hint="Name another --since or --until.")
    return exported


def archive_chain(
    store: Path, cluster: str, path: Path, signing: Signing, keys: Sequence[PublicKey], until: datetime
) -> Exported:
    """Move the records that were made before a time into a new file, under a checkpoint that is signed.

    The chain keeps their places and SHA-256s. Raises UsageError where there is no key, or nothing to move, StoreError
    where the chain is not whole.
    """
    if signing.key is None:
        raise UsageError(
            "an archive needs a signed checkpoint, and no signing key is configured",
            hint='Make one with "replcheck evidence keys", and name it with output.signing_key.',
        )
    reader = open_evidence(store)
    verified = verify_history(reader, cluster, keys)
    if verified.problem or verified.earlier is None:
        raise StoreError(f"the chain is not archived: {verified.problem or 'its first record is missing'}")
    with new_file(path, replace=False) as target:
        exported = _exported(reader, cluster, target, signing, verified, Segment(until=until))
    report = exported.report
    [last] = reader.records(cluster, first=report.last, last=report.last)
    make = signing.notary().of_checkpoint(cluster, extent_of(report), verified.earlier, exported.sha256)
    open_history(store).archive_evidence(last, make)
    return exported


def import_file(path: Path, store: Path, keys: Sequence[PublicKey]) -> Imported:
    """Take the records of a file into a history, those in their archives' places too, and return how many were new.

    Raises UsageError where the file is not whole, StoreError where the history holds another chain.
    """
    report = verify_file(path, keys)
    if report.problem:
        raise UsageError(f"{path} is not imported: {report.problem}", hint="Nothing was changed.")
    history, new = open_history(store), 0
    with records_of(path) as records:
        # A few at a time: whoever ends a run waits for the history only so long.
        while batch := list(islice(records, _AT_A_TIME)):
            new += history.take_in_evidence(batch)
    return Imported(report=report, new=new)


def add_note(store: Path, about: EvidenceRecord, note: Note, signing: Signing) -> EvidenceRecord:
    """Append a note about a record to its chain, and return the note's own record."""
    for what, text in (("reviewer", note.reviewer), ("text", note.text)):
        if not text.strip():
            raise UsageError(f"a note needs its {what}", hint=f"Give --{what}.")
    if max(len(note.reviewer), len(note.text), len(note.corrective_action)) > _LONGEST_TEXT:
        raise UsageError(f"a note has at most {_LONGEST_TEXT:,} letters", hint="Name where more is written.")
    appended = open_history(store).append_evidence(about.cluster, signing.notary().of_note(about, note))
    assert appended is not None  # noqa: S101 - a note is a record
    return appended


def _segment(records: Iterable[EvidenceRecord], wanted: Segment) -> Iterable[EvidenceRecord]:
    # What follows each other stays together, also where the clock was moved back in between.
    since, until = wanted.since, wanted.until
    if since is not None:
        records = dropwhile(lambda record: record.recorded_at < since, records)
    if until is not None:
        records = takewhile(lambda record: record.recorded_at < until, records)
    return records
