"""What a record says: an in-toto statement (v1) whose predicate is ours. Pure: facts in, plain JSON out.

The subject is what the statement is about, by its SHA-256: the result of a run, or the record of one that has none. A
predicate holds counts, names, times and verdicts, never a row, a key, a password or a connection string.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from replcheck.errors import AlreadyRunning, Interrupted
from replcheck.evidence.findings import findings_of
from replcheck.evidence.origin import Origin
from replcheck.model.canonical import canonical_digest
from replcheck.model.evidence import EarlierRuns, EvidenceRecord, RecordKind
from replcheck.model.plain import Plain, plain_object, to_plain, utc_text
from replcheck.model.run import RunRecord, RunStart

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPES: Mapping[RecordKind, str] = {kind: f"urn:replcheck:evidence:{kind.value}:1" for kind in RecordKind}
CLOSING_TYPE = "urn:replcheck:evidence:export:1"
MARK_TYPE = "urn:replcheck:evidence:verified:1"
ABORTED = "aborted"
Object = dict[str, Plain]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a record stands in its chain."""

    cluster: str
    chain_id: str
    sequence: int
    previous: str | None
    previous_signature: str | None = None
    """What was found of the signature of the record before it, with the key that signs this one; None for the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How a record came about: when, by whom, with which configuration and key."""

    at: datetime
    origin: Origin
    configuration_sha256: str | None
    """Of the configuration without its secrets; None where a run had none."""
    key_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What somebody says of an earlier record."""

    reviewer: str
    text: str
    corrective_action: str
    """Empty where none is told."""


def document_digest(document: Plain) -> str:
    """Return the SHA-256 of a result as its JSON has it, without the key `evidence`.

    That key names the record that holds this very digest, and so cannot be covered by it.
    """
    if isinstance(document, dict):
        document = {key: value for key, value in document.items() if key != "evidence"}
    return canonical_digest(document)


def run_statement(run: RunStart, document: Plain, position: Position, made: Made) -> Object:
    """Return the statement of a run that ended or, where it is no RunRecord, that was killed."""
    told = run_told(run)
    if document is None:
        subject = _subject(f"{run.kind}/{run.run_id}/record", canonical_digest(told))
    else:
        subject = _subject(f"{run.kind}/{run.run_id}", document_digest(document))
    held: Object = {"run": told, "result": findings_of(document)}
    return _statement(PREDICATE_TYPES[RecordKind.RUN], subject, _frame(position, made) | held)


def begin_statement(earlier: EarlierRuns, position: Position, made: Made) -> Object:
    """Return the statement with which a chain begins: which runs were before it, and have no record."""
    subject = _subject(f"{position.cluster}/runs-before-evidence", earlier.sha256)
    told = "no run ended before" if not earlier.count else f"{earlier.count} runs ended before, and have no record"
    held: Object = {"begin": {"earlier_runs": earlier.count, "earlier_runs_sha256": earlier.sha256, "told": told}}
    return _statement(PREDICATE_TYPES[RecordKind.BEGIN], subject, _frame(position, made) | held)


def note_statement(about: EvidenceRecord, note: Note, position: Position, made: Made) -> Object:
    """Return the statement of a note about a record."""
    subject = _subject(f"record/{about.sequence}", about.sha256)
    target: Object = {"sequence": about.sequence, "sha256": about.sha256, "run_id": about.run_id}
    held: Object = {"note": {"about": target, **plain_object(note)}}
    return _statement(PREDICATE_TYPES[RecordKind.NOTE], subject, _frame(position, made) | held)


def checkpoint_statement(
    archive: Object, earlier: EarlierRuns, file_sha256: str, position: Position, made: Made
) -> Object:
    """Return the statement that records were moved into an archive, a file of that SHA-256; `archive` says which."""
    subject = _subject(f"{position.cluster}/archive", file_sha256)
    carried: Object = {"earlier_runs": earlier.count, "earlier_runs_sha256": earlier.sha256}
    held: Object = {"checkpoint": {**archive, "file_sha256": file_sha256, **carried}}
    return _statement(PREDICATE_TYPES[RecordKind.CHECKPOINT], subject, _frame(position, made) | held)


def closing_statement(extent: Object, head: str, made: Made) -> Object:
    """Return the statement that closes an exported file: which records are in it, so that none can be cut off."""
    held: Object = {"export": extent, "recorded": _recorded(made)}
    return _statement(CLOSING_TYPE, _subject("last-record", head), held)


def mark_statement(extent: Object, head: str, made: Made) -> Object:
    """Return the statement that a chain was verified up to its head."""
    return _statement(MARK_TYPE, _subject("last-record", head), {"verified": extent, "recorded": _recorded(made)})


def _statement(predicate_type: str, subject: Object, predicate: Object) -> Object:
    return {"_type": STATEMENT_TYPE, "subject": [subject], "predicateType": predicate_type, "predicate": predicate}


def _subject(name: str, sha256: str) -> Object:
    return {"name": name, "digest": {"sha256": sha256}}


def _frame(position: Position, made: Made) -> Object:
    chain: Object = {
        "id": position.chain_id,
        "cluster": position.cluster,
        "sequence": position.sequence,
        "previous": position.previous,
        "previous_signature": position.previous_signature,
    }
    return {"chain": chain, "recorded": _recorded(made)}


def _recorded(made: Made) -> Object:
    origin = made.origin
    return {
        "at": utc_text(made.at),
        "by": {"user": origin.user, "host": origin.host},
        "software": dict(origin.software),
        "configuration_sha256": made.configuration_sha256,
        "key_id": made.key_id,
    }


def run_told(run: RunStart) -> Object:
    """Return what a record tells of a run, ended or, where it is no RunRecord, killed."""
    ended = run if isinstance(run, RunRecord) else None
    return {
        "run_id": run.run_id,
        "kind": run.kind,
        "state": _state(ended),
        "started_at": utc_text(run.started_at),
        "finished_at": to_plain(ended.finished_at) if ended else None,
        "outcome": ended.outcome.value if ended else "unchecked",
        "verdict": ended.verdict if ended else None,
        "exit_status": int(ended.exit_status) if ended else None,
        "summary": ended.summary if ended else "it was killed before it could end",
        "failure": to_plain(ended.failure) if ended else None,
        "tool_version": run.tool_version,
        "argument_sha256": run.argument_digest,
    }


def _state(ended: RunRecord | None) -> str:
    """Return how a run ended, as one word; what it found is another matter."""
    if ended is None:
        return ABORTED
    if ended.failure is None:
        return "ended"
    words = {Interrupted.__name__: "interrupted", AlreadyRunning.__name__: "skipped"}
    return words.get(ended.failure.error, "failed")
