"""Chains of evidence for tests, made by the real notary; only the runs in them are made up."""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined] # it exports so

from replcheck.evidence.exporting import write_export
from replcheck.evidence.keys import PublicKey, _public
from replcheck.evidence.notary import Notary
from replcheck.evidence.signing import sign
from replcheck.evidence.statement import PAYLOAD_TYPE, Note
from replcheck.model.canonical import canonical
from replcheck.model.evidence import ChainPlace, EarlierRuns, EvidenceRecord
from replcheck.model.outcome import ExitStatus, Outcome
from replcheck.model.plain import Plain
from replcheck.model.run import RunRecord, RunStart, new_run_id
from replcheck.report.document import audit_document
from tests.factories import consistent

BEGUN = datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
NONE_BEFORE = EarlierRuns(count=0, sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


@cache
def key(name: str = "clinic") -> tuple[CryptoSigner, PublicKey]:
    """Return a pair of keys, the same for the same name."""
    private = Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))
    return CryptoSigner(private), _public(private.public_key())


def public(*names: str) -> tuple[PublicKey, ...]:
    return tuple(key(name)[1] for name in names or ("clinic",))


def notary(name: str | None = "clinic", *, begun: datetime = BEGUN) -> Notary:
    """Return who signs with the key of that name, None for none; its clock moves a minute with each look."""
    minutes = iter(range(1_000_000))
    return Notary(signer=key(name)[0] if name else None, clock=lambda: begun + timedelta(minutes=next(minutes)))


@cache
def run(number: int, *, cluster: str = "clinic", outcome: Outcome = Outcome.PROVEN) -> RunRecord:
    """Return the end of one of many audits, an hour apart; the same for the same number."""
    at = BEGUN + timedelta(hours=number)
    return RunRecord(
        run_id=new_run_id(at),
        kind="audit",
        cluster=cluster,
        started_at=at,
        tool_version="0.1.0",
        argument_digest="0" * 64,
        finished_at=at + timedelta(seconds=4),
        outcome=outcome,
        verdict="consistent",
        exit_status=ExitStatus(int(outcome.exit_status)),
        summary="db2 is a copy of db1",
    )


def killed(number: int) -> RunStart:
    ended = run(number)
    return RunStart(**{name: getattr(ended, name) for name in RunStart.__slots__})


@cache
def document() -> Plain:
    return audit_document(consistent())


def chain(signers: Sequence[str | None]) -> list[EvidenceRecord]:
    """Return a chain of runs and a note, each signed as named; the first record is signed as the second."""
    records: list[EvidenceRecord] = []
    for number, name in enumerate(signers):
        made = notary(name, begun=BEGUN + timedelta(hours=number))
        place = ChainPlace(head=records[-1] if records else None, earlier=None if records else NONE_BEFORE)
        if number % 4 == 3:
            records += made.of_note(records[-1], Note(reviewer="Amal", text="seen", corrective_action=""))(place)
        else:
            records += made.of_run(run(number), document())(place)
    return records


def signed_chain(length: int = 6) -> list[EvidenceRecord]:
    """Return a chain of so many records, all signed."""
    return chain(["clinic"] * (length - 1))


def lines_of(records: Sequence[EvidenceRecord]) -> list[bytes]:
    return [(record.envelope or "").encode() for record in records]


def export(path: Path, records: Sequence[EvidenceRecord], closed_by: str | None = "clinic") -> Path:
    """Write records into a file that is closed by the key of that name."""
    with path.open("wb") as file:
        write_export(records, file, notary(closed_by))
    return path


def payload_of(line: bytes) -> dict:
    """Return the statement in a line."""
    statement: dict = json.loads(b64decode(json.loads(line)["payload"]))
    return statement


def with_payload(line: bytes, statement: object) -> bytes:
    """Return a line with another statement in it, under the signature that it has."""
    return canonical(json.loads(line) | {"payload": b64encode(canonical(statement)).decode()})


def resigned(line: bytes, name: str | None) -> bytes:
    """Return a line signed by another key, or by none."""
    return canonical(sign(b64decode(json.loads(line)["payload"]), PAYLOAD_TYPE, key(name)[0] if name else None))
