"""How a chain stands, told within a time budget: from its newest record back to where it was verified before.

A mark tells up to where that was. Nothing rests on it alone: whoever wants to know for sure has all records verified.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from replcheck.evidence.in_history import fits
from replcheck.evidence.keys import PublicKey
from replcheck.evidence.marks import Mark, contradiction, read_mark
from replcheck.evidence.opening import Keys, Opened, Signature, Unreadable, open_before
from replcheck.evidence.tally import archive_of, belied
from replcheck.model.evidence import EvidenceRecord, EvidenceState, UnsignedRecords, head_of
from replcheck.model.outcome import Outcome
from replcheck.store import EvidenceReader

_LOOK_AT_THE_CLOCK_EVERY = 50


@dataclass(slots=True)
class _Walk:
    """From the newest record back, each named by the one behind it."""

    keys: Keys
    newest: EvidenceRecord | None = None
    oldest: EvidenceRecord | None = None
    walked: int = 0
    signed: int = 0
    unverified: int = 0
    unsigned: UnsignedRecords | None = None
    covered: int = 0
    """Up to which record a signed checkpoint vouches for those in its archive."""
    behind: Opened | Unreadable | None = None
    """The record that was taken last, which may attest the next one's signature."""
    problem: str = ""
    archives: dict[int, str] = field(default_factory=dict)
    """Ends of archives that checkpoints tell of: the last sequence and its SHA-256."""

    def take(self, row: EvidenceRecord) -> bool:
        """Take the next older record; return whether nothing is wrong so far."""
        line = open_before((row.envelope or "").encode(), self.behind, self.keys)
        self.problem = self._wrong_with(row, line)
        self.behind = line
        if self.problem or not isinstance(line, Opened):
            return False
        self.newest = self.newest or row
        self.oldest = row
        self.walked += 1
        self.signed += line.signature.holds
        self.unverified += line.signature is Signature.NO_KEY
        self.archives |= archive_of(line)
        if line.signature.holds:
            self.covered = max([self.covered, *archive_of(line)])
        self._keep_unsigned(line)
        return True

    def _keep_unsigned(self, line: Opened) -> None:
        if not line.key_id and line.sequence > self.covered:
            self.unsigned = _with_older(
                self.unsigned, UnsignedRecords(count=1, first=line.sequence, last=line.sequence)
            )
        elif line.key_id:
            self.met_signed()

    def met_signed(self) -> None:
        """Remember that an older record is signed."""
        if self.unsigned is not None:
            self.unsigned = replace(self.unsigned, behind_signed=self.unsigned.first)

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
        told = belied(self.behind.told_before, signed=bool(line.key_id)) if isinstance(self.behind, Opened) else ""
        return f"record {self.oldest.sequence} belies {name}: {told}" if told else ""


def state_of(
    reader: EvidenceReader,
    cluster: str,
    keys: Sequence[PublicKey],
    *,
    budget_s: float,
    clock: Callable[[], float] = time.monotonic,
    unsigned_mark: Mark | None = None,
) -> tuple[EvidenceState, Mark | None]:
    """Return how a cluster's chain stands, and the mark to be kept where that is farther than the one that is there.

    Raises StoreError where the history cannot be read.

    A chain in which a record is not signed is whole at best, and PARTIAL. `unsigned_mark` is rested on where there is
    no signed one and the history does not contradict it.
    """
    signed_mark = read_mark(reader.mark(cluster), keys)  # before the head: an append is no lie
    mark = signed_mark or (unsigned_mark if not contradiction(reader, cluster, unsigned_mark) else None)
    head = reader.head(cluster)
    walk = _Walk({key.key_id: key.verifier for key in keys})
    deadline = clock() + budget_s
    rested: Mark | None = None
    began = False
    for row in reader.records(cluster, newest_first=True):
        if mark is not None and _is_at(mark, row) and (walk.oldest is None or walk.follows(mark.last, mark.head)):
            rested = mark
            if mark is signed_mark:
                walk.met_signed()
            break
        if row.envelope is None:
            began = walk.ends_at_archive(row)
            break
        if not walk.take(row):
            break
        began = row.sequence == 1
        if walk.walked % _LOOK_AT_THE_CLOCK_EVERY == 0 and clock() > deadline:
            break
    walk.problem = walk.problem or contradiction(reader, cluster, signed_mark)
    state = _state(reader, cluster, head, walk, rested, whole=began or rested is not None)
    return state, _next_mark(state, walk, unsigned=signed_mark is None)


def _is_at(mark: Mark, row: EvidenceRecord) -> bool:
    return (row.sequence, row.sha256, row.chain_id) == (mark.last, mark.head, mark.chain_id)


def _state(
    reader: EvidenceReader, cluster: str, head: EvidenceRecord | None, walk: _Walk, rested: Mark | None, *, whole: bool
) -> EvidenceState:
    unsigned = _all_unsigned(walk, rested)
    oldest = next(reader.records(cluster, kept=True), None)
    return EvidenceState(
        records=head.sequence - oldest.sequence + 1 if head and oldest else 0,
        verified=walk.walked,
        rested=rested.records if rested is not None else 0,
        problem=walk.problem,
        head=head_of(head),
        signed=walk.signed,
        unsigned=unsigned,
        oldest_at=oldest.recorded_at if oldest else None,
        newest_at=head.recorded_at if head else None,
        outcome=_outcome(head, walk.problem, whole=whole and unsigned is None and not walk.unverified),
        rested_at=rested.at if rested is not None else None,
    )


def _next_mark(state: EvidenceState, walk: _Walk, *, unsigned: bool) -> Mark | None:
    """Return the mark that is farther than the one rested on; the first is made by a whole verification alone.

    An unsigned one goes on over records that are not signed alone, a signed one up to a signed record.
    """
    newest = walk.newest
    if state.problem or newest is None or state.rested_at is None:
        return None
    if (walk.signed or walk.unverified) if unsigned else not newest.key_id:
        return None
    return Mark(
        chain_id=newest.chain_id,
        last=newest.sequence,
        head=newest.sha256,
        records=walk.walked + state.rested,
        at=state.rested_at,
        unsigned=state.unsigned,
    )


def _all_unsigned(walk: _Walk, rested: Mark | None) -> UnsignedRecords | None:
    """Return those that were met, and those that the mark tells of unless a checkpoint vouches for them by now."""
    older = rested.unsigned if rested is not None else None
    return _with_older(walk.unsigned, older if older is not None and older.last > walk.covered else None)


def _with_older(newer: UnsignedRecords | None, older: UnsignedRecords | None) -> UnsignedRecords | None:
    if newer is None or older is None:
        return newer or older
    return UnsignedRecords(
        count=newer.count + older.count,
        first=older.first,
        last=newer.last,
        behind_signed=older.behind_signed or newer.behind_signed,
    )


def _outcome(head: EvidenceRecord | None, problem: str, *, whole: bool) -> Outcome:
    if problem:
        return Outcome.REFUTED
    if head is None:
        return Outcome.UNCHECKED
    return Outcome.PROVEN if whole else Outcome.PARTIAL
