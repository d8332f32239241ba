"""What the records of a chain, or of a part of one, amount to; two parts that follow each other make one.

It counts and remembers; whether something is wrong is for `chain` to judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from replcheck.evidence.opening import Opened, Signature
from replcheck.evidence.statement import PREDICATE_TYPES
from replcheck.evidence.unsigned import beyond, joined, with_next
from replcheck.model.evidence import EarlierRuns, Places, RecordKind


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was seen of records that follow each other; see ChainReport for what is named alike."""

    cluster: str = ""
    chain_id: str = ""
    first: int = 0
    last: int = 0
    before: str | None = None
    head: str = ""
    signed: int = 0
    attested: int = 0
    unsigned: int = 0
    unverified: int = 0
    vouched: int = 0
    anchored_at: int = 0
    unsigned_at: Places = ()
    covered: int = 0
    first_signed: int = 0
    bears_signature: bool = False
    """Whether the last record does, verified or not."""
    head_signed: bool = False
    told_before: str = ""
    """What the first record says of the signature of the one before it."""
    key_ids: dict[str, None] = field(default_factory=dict)
    oldest_at: str = ""
    newest_at: str = ""
    earlier: EarlierRuns | None = None
    archives: dict[int, str] = field(default_factory=dict)
    """Ends of archives that checkpoints tell of: the last sequence and its SHA-256."""

    def keep(self, line: Opened, anchor: str | None) -> None:
        """Add the next record."""
        if not self.first:
            self.first, self.before = line.sequence, line.previous
            self.cluster, self.chain_id, self.oldest_at = line.cluster, line.chain_id, line.recorded_at
            self.told_before = line.told_before
        self.last, self.head, self.newest_at = line.sequence, line.sha256, line.recorded_at
        self._keep_signature(line)
        self._keep_facts(line)
        if line.sha256 == anchor:
            self.anchored_at = self.last
            self.vouched = self.last
            self._cover(self.last)

    def is_followed_by(self, part: "Tally") -> bool:
        """Return whether a part with records follows, and says nothing else of the signature before it."""
        if not part.first or not self.first:
            return bool(part.first)
        named = (part.chain_id, part.cluster, part.first, part.before)
        fits = named == (self.chain_id, self.cluster, self.last + 1, self.head)
        return fits and not belied(part.told_before, signed=self.bears_signature)

    def take(self, part: "Tally") -> None:
        """Add a part that follows."""
        if not self.first:
            self.first, self.before, self.oldest_at = part.first, part.before, part.oldest_at
            self.cluster, self.chain_id, self.told_before = part.cluster, part.chain_id, part.told_before
        self.last, self.head, self.newest_at = part.last, part.head, part.newest_at
        self.signed += part.signed
        self.attested += part.attested
        self.unsigned += part.unsigned
        self.unverified += part.unverified
        self.vouched = part.vouched or self.vouched
        self.anchored_at = self.anchored_at or part.anchored_at
        self._cover(part.covered)
        self.unsigned_at = joined(self.unsigned_at, part.unsigned_at)
        self.first_signed = self.first_signed or part.first_signed
        self.bears_signature, self.head_signed = part.bears_signature, part.head_signed
        self.key_ids |= part.key_ids
        self.earlier = part.earlier or self.earlier
        self.archives |= part.archives

    def _keep_signature(self, line: Opened) -> None:
        self.signed += line.signature.holds
        self.attested += line.signature is Signature.ATTESTED
        self.unsigned += line.signature is Signature.NONE
        self.unverified += line.signature is Signature.NO_KEY
        self.bears_signature, self.head_signed = bool(line.key_id), line.signature.holds
        if line.key_id:
            self.key_ids[line.key_id] = None
            self.first_signed = self.first_signed or self.last
        else:
            self.unsigned_at = with_next(self.unsigned_at, self.last)
        if line.signature.holds:
            self.vouched = self.last

    def _keep_facts(self, line: Opened) -> None:
        begin, checkpoint = PREDICATE_TYPES[RecordKind.BEGIN], PREDICATE_TYPES[RecordKind.CHECKPOINT]
        if line.predicate_type in {begin, checkpoint}:
            self.earlier = _earlier(line.held) or self.earlier
        archive = archive_of(line)
        self.archives |= archive
        if line.signature.holds:
            for last in archive:
                self._cover(min(last, self.last - 1))

    def _cover(self, sequence: int) -> None:
        self.covered = max(self.covered, sequence)
        self.unsigned_at = beyond(self.unsigned_at, sequence)


def archive_of(line: Opened) -> dict[int, str]:
    """Return the last record of the archive that a checkpoint tells of, with its SHA-256; nothing for other records."""
    last, head = line.held.get("last"), line.held.get("head")
    if line.predicate_type == PREDICATE_TYPES[RecordKind.CHECKPOINT] and type(last) is int and isinstance(head, str):
        return {last: head}
    return {}


def belied(told: str, *, signed: bool) -> str:
    """Return how what a record says of the signature before it belies that; empty where it does not.

    It names the SHA-256 of that record, whose signature is part of it: whoever made it had seen just that signature.
    """
    if told == Signature.WRONG.value:
        return "that signature was wrong already when the next record was made"
    if told and (told == Signature.NONE.value) == signed:
        return "it was made behind a record with no signature" if signed else "it was made behind a signed record"
    return ""


def _earlier(held: Mapping[str, Any]) -> EarlierRuns | None:
    count, digest = held.get("earlier_runs"), held.get("earlier_runs_sha256")
    return EarlierRuns(count=count, sha256=digest) if type(count) is int and isinstance(digest, str) else None
