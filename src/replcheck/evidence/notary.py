"""Makes records: puts statements into signed envelopes, each naming the SHA-256 of the one before it.

It writes nothing: a history asks it, in the transaction of what is recorded, for the record that fits the place there.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from replcheck.evidence import statement
from replcheck.evidence.opening import Keys, Opened, Signature, open_line
from replcheck.evidence.origin import Origin, this_origin
from replcheck.evidence.signing import load_signer, sign
from replcheck.evidence.statement import PAYLOAD_TYPE, Made, Note, Object, Position
from replcheck.model.canonical import canonical
from replcheck.model.evidence import ChainPlace, EarlierRuns, EvidenceRecord, RecordKind
from replcheck.model.plain import Plain
from replcheck.model.run import RunStart

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined] # it exports so

Make = Callable[[ChainPlace], tuple[EvidenceRecord, ...]]
_State = Callable[[Position, Made], Object]


def _now() -> datetime:
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)  # what a history and a record keep


@dataclass(frozen=True, slots=True, kw_only=True)
class Notary:
    """Who records, and with which key."""

    signer: "CryptoSigner | None" = None
    """None leaves records unsigned."""
    configuration_sha256: str | None = None
    origin: Origin | None = None
    """None is this process."""
    clock: Callable[[], datetime] = _now

    @property
    def key_id(self) -> str:
        """Return the id of the key that signs; empty where none does."""
        return self.signer.public_key.keyid if self.signer is not None else ""

    def of_run(self, run: RunStart, document: Plain = None) -> Make:
        """Return what makes the record of a run that ended or, where it is no RunRecord, that was killed."""

        def state(position: Position, made: Made) -> Object:
            return statement.run_statement(run, document, position, made)

        return lambda place: self._appended(run.cluster, place, RecordKind.RUN, run.run_id, state)

    def of_note(self, about: EvidenceRecord, note: Note) -> Make:
        """Return what makes the record of a note about another record."""

        def state(position: Position, made: Made) -> Object:
            return statement.note_statement(about, note, position, made)

        return lambda place: self._appended(about.cluster, place, RecordKind.NOTE, about.run_id, state)

    def of_checkpoint(self, cluster: str, archive: Object, earlier: EarlierRuns, file_sha256: str) -> Make:
        """Return what makes the record that earlier ones were moved into an archive."""

        def state(position: Position, made: Made) -> Object:
            return statement.checkpoint_statement(archive, earlier, file_sha256, position, made)

        return lambda place: self._appended(cluster, place, RecordKind.CHECKPOINT, None, state)

    def closing(self, extent: Object, head: str) -> str:
        """Return the line that closes an exported file."""
        return self._enveloped(statement.closing_statement(extent, head, self._made()))

    def mark(self, extent: Object, head: str) -> str:
        """Return the statement that a chain was verified up to its head."""
        return self._enveloped(statement.mark_statement(extent, head, self._made()))

    def _appended(
        self, cluster: str, place: ChainPlace, kind: RecordKind, run_id: str | None, state: _State
    ) -> tuple[EvidenceRecord, ...]:
        """Return the record that follows the head, behind the first of the chain where that has not begun."""
        if place.head is not None:
            return (self._record(self._following(place.head), kind, run_id, state),)
        earlier = place.earlier

        def begin(position: Position, made: Made) -> Object:
            assert earlier is not None  # noqa: S101 - a place without a head has it
            return statement.begin_statement(earlier, position, made)

        at = Position(cluster=cluster, chain_id=secrets.token_hex(16), sequence=1, previous=None)
        first = self._record(at, RecordKind.BEGIN, None, begin)
        return (first, self._record(self._following(first), kind, run_id, state))

    def _record(self, position: Position, kind: RecordKind, run_id: str | None, state: _State) -> EvidenceRecord:
        made = self._made()
        envelope = self._enveloped(state(position, made))
        return EvidenceRecord(
            cluster=position.cluster,
            chain_id=position.chain_id,
            sequence=position.sequence,
            sha256=sha256(envelope.encode()).hexdigest(),
            previous=position.previous,
            kind=kind,
            run_id=run_id,
            recorded_at=made.at,
            key_id=self.key_id,
            envelope=envelope,
        )

    def _following(self, head: EvidenceRecord) -> Position:
        """Return the place behind a record, whose signature is verified: what is recorded here rests on it."""
        line = (head.envelope or "").encode()
        read = open_line(line, self._verifiers)
        found = read.signature if isinstance(read, Opened) else Signature.WRONG
        return Position(
            cluster=head.cluster,
            chain_id=head.chain_id,
            sequence=head.sequence + 1,
            # From the line itself: should what stands beside it have been changed, the chain must still be whole.
            previous=sha256(line).hexdigest(),
            previous_signature=found.value,
        )

    @property
    def _verifiers(self) -> Keys:
        if self.signer is None:
            return {}
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        public = bytes.fromhex(self.signer.public_key.keyval["public"])
        return {self.key_id: Ed25519PublicKey.from_public_bytes(public)}

    def _enveloped(self, said: Object) -> str:
        return canonical(sign(canonical(said), PAYLOAD_TYPE, self.signer)).decode()

    def _made(self) -> Made:
        return Made(
            at=self.clock(),
            origin=self.origin or this_origin(),
            configuration_sha256=self.configuration_sha256,
            key_id=self.key_id or None,
        )


def notary_of(signing_key: Path | None = None, configuration_sha256: str | None = None) -> Notary:
    """Return who records here; raise ConfigurationError where the key cannot be used."""
    signer = load_signer(signing_key) if signing_key is not None else None
    return Notary(signer=signer, configuration_sha256=configuration_sha256)
