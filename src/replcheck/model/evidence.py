"""Evidence as plain facts: the records of a cluster's chain, its head, and what verifying it found.

A record is one line of canonical JSON, a DSSE envelope around an in-toto statement; its SHA-256 is that of the line,
and the next record names it. Nothing here reads a key or a file.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from replcheck.model.outcome import Outcome


class RecordKind(Enum):
    """What a record of a chain is about."""

    BEGIN = "begin"
    """The chain begins; the first record of every chain, and no other."""
    RUN = "run"
    """A run came to an end, or was found to have none."""
    NOTE = "note"
    """Somebody said something of an earlier record."""
    CHECKPOINT = "checkpoint"
    """Earlier records were moved into an archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRecord:
    """One record of a chain."""

    cluster: str
    chain_id: str
    """Random, drawn when the chain began: a chain that was begun anew is another one."""
    sequence: int
    """1 for the first record."""
    sha256: str
    """Of the envelope."""
    previous: str | None
    """The SHA-256 of the record before it; None for the first."""
    kind: RecordKind
    run_id: str | None
    """Of the run it is about, or whose record a note is about."""
    recorded_at: datetime
    key_id: str
    """Of the key that signed it; empty where none did."""
    envelope: str | None
    """The line itself; None where it was moved into an archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierRuns:
    """Runs of a history that ended without a record: those before the chain began."""

    count: int
    sha256: str
    """Over what the history holds of their ends, so that they cannot be changed unnoticed either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceHead:
    """The last record of a chain, or that of one run: what can be kept elsewhere as an anchor."""

    sequence: int
    sha256: str
    signed: bool
    key_id: str
    """Empty where it is not signed."""
    recorded_at: datetime


def head_of(record: EvidenceRecord | None) -> EvidenceHead | None:
    """Return what of a record can be kept elsewhere; None for none."""
    if record is None:
        return None
    return EvidenceHead(
        sequence=record.sequence,
        sha256=record.sha256,
        signed=bool(record.key_id),
        key_id=record.key_id,
        recorded_at=record.recorded_at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPlace:
    """Where the next record of a chain will stand, as its history holds it at that moment."""

    head: EvidenceRecord | None
    """None where the chain has not begun."""
    earlier: EarlierRuns | None
    """Runs that ended before the chain; None where it has begun."""


Places = tuple[tuple[int, int], ...]
"""Stretches of a chain: the first and the last sequence of each, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsignedRecords:
    """Records without a signature that nothing vouches for: whoever could write there could have made them."""

    count: int
    first: int
    """Sequence of the first."""
    last: int
    """Sequence of the last."""
    behind_signed: int | None = None
    """The first that stands behind a signed one: somebody ran without the key, or forged it. None where none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """What verifying a chain, or a part of one, found."""

    cluster: str
    """Empty where no record could be read."""
    chain_id: str
    first: int
    """Sequence of the first record that was looked at; 0 where there is none."""
    last: int
    """Sequence of the last record up to which nothing is wrong; 0 where there is none."""
    before: str | None
    """The SHA-256 that the first record names of the one before it; None where it is the first of its chain."""
    head: str
    """The SHA-256 of the record `last`."""
    signed: int
    """Records whose signature holds: verified, or attested."""
    attested: int
    """Of these, those verified when the record behind them was made, as that one says, and not again."""
    unsigned: int
    unverified: int
    """Records with a signature that no key was at hand for."""
    key_ids: tuple[str, ...]
    """Of the keys that signed records."""
    vouched: int
    """Sequence of the last record that a verified signature, on it or later, or an anchor fixes: it was not changed
    since that was made. 0 for none."""
    unsigned_at: Places
    """Where records stand without a signature that no anchor and no signed checkpoint of an archive vouches for: from
    and to which sequence. Whoever could write there could have made them."""
    first_signed: int
    """Sequence of the first record that bears a signature; 0 for none."""
    covered: int
    """Sequence of the last record that an anchor or a signed checkpoint of an archive vouches for; 0 for none."""
    head_signed: bool
    """Whether the signature of the record `last` holds."""
    oldest_at: datetime | None
    newest_at: datetime | None
    problem: str
    """What is wrong with the record `broken_at`, as one clause that names it; empty where nothing is."""
    broken_at: int | None
    """Sequence of that record; None where nothing is wrong, or where it is no matter of one record."""
    exported_at: datetime | None = None
    """When a file was written; None for a history."""
    archived: int = 0
    """Sequence of the last record that lies in an archive, vouched for by a checkpoint; 0 for none."""
    earlier: EarlierRuns | None = None
    """The runs without a record that the chain tells of; None where that part of it was not seen."""
    anchored_at: int = 0
    """Sequence of the record that the anchor is of: none up to it was cut off, of those behind it nothing is known; 0
    where it is not among the records."""
    closed: bool = False
    """Whether a file ends with a line whose signature holds and that says which records are in it."""
    partial: str = ""
    """What could not be compared in a history, as one clause; empty where all was."""

    @property
    def records(self) -> int:
        """Return how many records nothing is wrong with."""
        return self.last - self.first + 1 if self.last else 0

    @property
    def anchored(self) -> bool:
        """Return whether the anchor is among its records."""
        return self.anchored_at > 0

    @property
    def unsigned_behind(self) -> int | None:
        """Return the first of `unsigned_at` that stands behind a signed record; None where none does.

        Somebody ran without the key, or forged it.
        """
        return next((first for first, _ in self.unsigned_at if 0 < self.first_signed < first), None)

    @property
    def unsigned_records(self) -> "UnsignedRecords | None":
        """Return the records of `unsigned_at` in short; None where there are none."""
        if not self.unsigned_at:
            return None
        return UnsignedRecords(
            count=sum(last - first + 1 for first, last in self.unsigned_at),
            first=self.unsigned_at[0][0],
            last=self.unsigned_at[-1][1],
            behind_signed=self.unsigned_behind,
        )

    @property
    def outcome(self) -> Outcome:
        """Return how far it is proven that nobody forged, changed, removed, reordered or cut off a record."""
        if self.problem:
            return Outcome.REFUTED
        if not self.records:
            return Outcome.UNCHECKED
        proven = self.vouched >= self.last and not self.unsigned_at and not self.partial
        return Outcome.PROVEN if proven else Outcome.PARTIAL


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceState:
    """What a control, metrics and a report of a period ask of a cluster's chain."""

    records: int
    """In the history, without those in archives."""
    verified: int
    """Of these, how many were verified for this answer."""
    rested: int
    """How many more an earlier verification, signed and not older than `rested_at`, answers for."""
    problem: str
    """Why the chain is not whole, as one clause; empty where nothing was found wrong."""
    head: EvidenceHead | None
    """None where the chain has not begun."""
    signed: int
    """Of the verified ones, those with a verified signature."""
    unsigned: UnsignedRecords | None
    """Of all that this answer is about, those without a signature that no signed checkpoint vouches for; None for
    none."""
    oldest_at: datetime | None
    newest_at: datetime | None
    outcome: Outcome
    """PROVEN: whole, and every record signed or vouched for; PARTIAL: nothing wrong was found, but that is not all."""
    partial: str = ""
    """Why nothing is wrong and yet not all is proven, as one clause, where no signature and no lack of time is why."""
    rested_at: datetime | None = None
    """When the oldest verification was made that this answer rests on; None where all was verified now."""
