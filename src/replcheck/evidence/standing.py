"""How a chain stands, told within a time budget: from its newest record back to where it was verified before.

A mark is a signed statement of up to where a chain was verified as a whole. It saves the work, and nothing rests on it
alone: whoever wants to know for sure has all records verified.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from replcheck.evidence.chain import archive_of
from replcheck.evidence.in_history import fits
from replcheck.evidence.keys import PublicKey
from replcheck.evidence.opening import Keys, Opened, Signature, Unreadable, open_before, open_line
from replcheck.evidence.statement import MARK_TYPE
from replcheck.model.evidence import ChainReport, EvidenceRecord, EvidenceState, head_of
from replcheck.model.outcome import Outcome
from replcheck.model.plain import Plain, utc_text
from replcheck.store import EvidenceReader

_LOOK_AT_THE_CLOCK_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Up to where a chain was verified."""

    chain_id: str
    last: int
    head: str
    """SHA-256 of the record `last`."""
    records: int
    """Without those in archives."""
    at: datetime
    """When all of them were verified at once."""


@dataclass(slots=True)
class _Walk:
    """From the newest record back, each named by the one behind it."""

    keys: Keys
    newest: EvidenceRecord | None = None
    oldest: EvidenceRecord | None = None
    walked: int = 0
    signed: int = 0
    unsigned: int = 0
    behind: Opened | Unreadable | None = None
    """The record that was taken last, which may attest the next one's signature."""
    vouched_from: int = 0
    """The newest record with a verified signature; 0 where none was met."""
    problem: str = ""
    archives: dict[int, str] = field(default_factory=dict)
    """Ends of archives that checkpoints tell of: the last sequence and its SHA-256."""

    def take(self, row: EvidenceRecord) -> bool:
        """Take the next older record; return whether nothing is wrong so far."""
        line = open_before((row.envelope or "").encode(), self.behind, self.keys)
        self.behind = line
        self.problem = self._wrong_with(row, line)
        if self.problem or not isinstance(line, Opened):
            return False
        self.newest = self.newest or row
        self.oldest = row
        self.walked += 1
        self.signed += line.signature.holds
        self.unsigned += line.signature is Signature.NONE
        if line.signature.holds and not self.vouched_from:
            self.vouched_from = row.sequence
        self.archives |= archive_of(line)
        return True

    def follows(self, sequence: int, sha256: str) -> bool:
        """Return whether the oldest record seen follows that one."""
        return self.oldest is not None and (sequence + 1, sha256) == (self.oldest.sequence, self.oldest.previous)

    def ends_at_archive(self, row: EvidenceRecord) -> bool:
        """Return whether a checkpoint that was seen tells that this record, and all before it, lie in an archive."""
        told = self.follows(row.sequence, row.sha256) and self.archives.get(row.sequence) == row.sha256
        if not told:
            self.problem = f"record {row.sequence} is missing, and no checkpoint tells of an archive"
        return told

    def _wrong_with(self, row: EvidenceRecord, line: object) -> str:
        name = f"record {row.sequence}"
        if not isinstance(line, Opened) or not fits(row, line):
            return f"{name} was changed"
        if line.signature in {Signature.WRONG, Signature.OTHER_KEY}:
            return f"the signature of {name} is not valid"
        if self.oldest is None:
            return ""
        if row.sequence != self.oldest.sequence - 1:
            return f"record {self.oldest.sequence - 1} is missing"
        if row.sha256 != self.oldest.previous or row.chain_id != self.oldest.chain_id:
            return f"{name} or record {self.oldest.sequence} was changed"
        return ""


def state_of(
    reader: EvidenceReader,
    cluster: str,
    keys: Sequence[PublicKey],
    *,
    budget_s: float,
    now: datetime,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[EvidenceState, Mark | None]:
    """Return how a cluster's chain stands, and the mark to be kept where that is farther than the one that is there.

    Raises StoreError where the history cannot be read.

    Keys are counted with where any record is signed: a chain that never was is whole at best, and vouched for by none.
    """
    head = reader.head(cluster)
    mark = read_mark(reader.mark(cluster), keys)
    walk = _Walk({key.key_id: key.verifier for key in keys})
    deadline = clock() + budget_s
    rested: Mark | None = None
    began = False
    for row in reader.records(cluster, newest_first=True):
        if mark is not None and _is_at(mark, row) and (walk.oldest is None or walk.follows(mark.last, mark.head)):
            rested = mark
            break
        if row.envelope is None:
            began = walk.ends_at_archive(row)
            break
        if not walk.take(row):
            break
        began = row.sequence == 1
        if walk.walked % _LOOK_AT_THE_CLOCK_EVERY == 0 and clock() > deadline:
            break
    state = _state(reader, cluster, head, walk, rested, whole=began or rested is not None)
    return state, _next_mark(state, walk, now)


def _is_at(mark: Mark, row: EvidenceRecord) -> bool:
    return (row.sequence, row.sha256, row.chain_id) == (mark.last, mark.head, mark.chain_id)


def read_mark(envelope: str | None, keys: Sequence[PublicKey]) -> Mark | None:
    """Return the mark in an envelope; None where there is none, or none that one of the keys signed."""
    line = open_line((envelope or "").encode(), {key.key_id: key.verifier for key in keys})
    if not isinstance(line, Opened) or line.predicate_type != MARK_TYPE or line.signature is not Signature.VERIFIED:
        return None
    try:
        return Mark(
            chain_id=str(line.held["chain_id"]),
            last=int(line.held["last"]),
            head=line.subject_sha256,
            records=int(line.held["records"]),
            at=datetime.fromisoformat(line.held["whole_at"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def mark_extent(cluster: str, mark: Mark) -> dict[str, Plain]:
    """Return what a mark states, beside the SHA-256 of the last record."""
    return {
        "cluster": cluster,
        "chain_id": mark.chain_id,
        "last": mark.last,
        "records": mark.records,
        "whole_at": utc_text(mark.at),
    }


def mark_after(report: ChainReport, at: datetime) -> Mark | None:
    """Return the mark of a whole verification; None where it did not prove the chain."""
    if report.outcome is not Outcome.PROVEN or not report.signed:
        return None
    return Mark(chain_id=report.chain_id, last=report.last, head=report.head, records=report.records, at=at)


def _state(
    reader: EvidenceReader, cluster: str, head: EvidenceRecord | None, walk: _Walk, rested: Mark | None, *, whole: bool
) -> EvidenceState:
    problem = walk.problem or _unvouched(walk, rested)
    oldest = next(reader.records(cluster, kept=True), None)
    return EvidenceState(
        records=head.sequence - oldest.sequence + 1 if head and oldest else 0,
        verified=walk.walked,
        rested=rested.records if rested is not None else 0,
        problem=problem,
        head=head_of(head),
        signed=walk.signed,
        unsigned=walk.unsigned,
        oldest_at=oldest.recorded_at if oldest else None,
        newest_at=head.recorded_at if head else None,
        outcome=_outcome(head, problem, whole=whole and (walk.signed > 0 or rested is not None)),
        rested_at=rested.at if rested is not None else None,
    )


def _next_mark(state: EvidenceState, walk: _Walk, now: datetime) -> Mark | None:
    if state.outcome is not Outcome.PROVEN or walk.newest is None:
        return None
    newest = walk.newest
    records, at = walk.walked + state.rested, state.rested_at or now
    return Mark(chain_id=newest.chain_id, last=newest.sequence, head=newest.sha256, records=records, at=at)


def _unvouched(walk: _Walk, rested: Mark | None) -> str:
    """Return why newest records are vouched for by none, though older ones are signed; empty where they are."""
    signed_before = walk.vouched_from or (rested.last if rested is not None else 0)
    if not walk.keys or walk.newest is None or not signed_before or walk.vouched_from == walk.newest.sequence:
        return ""
    return f"record {signed_before + 1} is not signed, and no later one vouches for it"


def _outcome(head: EvidenceRecord | None, problem: str, *, whole: bool) -> Outcome:
    if problem:
        return Outcome.REFUTED
    if head is None:
        return Outcome.UNCHECKED
    return Outcome.PROVEN if whole else Outcome.PARTIAL
