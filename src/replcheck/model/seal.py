"""What a seal fixes, as plain data: the digests of a primary at a named restore point, kept to judge restores by.

A manifest holds digests, counts, positions and names of relations, never the value or key of a row. Its seeds make
digests of few rows guessable, so it is kept apart from reports and readable by its owner alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from replcheck.model.audit import RelationKind, Scope
from replcheck.model.outcome import Outcome
from replcheck.model.wal import Lsn

MANIFEST_FORMAT = 1
"""Version of the manifest's own shape; one that changes its meaning gets another number."""
EXACT = "exact/1"
"""Encoding of rows at their positions, for physical copies."""
PORTABLE = "portable/1"
"""Encoding of whole relations as multisets, without positions and type oids, for dumps."""


class SealVerdict(Enum):
    """The word a seal uses for its outcome."""

    SEALED = "sealed"
    IN_PART = "sealed in part"
    """Something in scope could not be sealed, and is named."""
    NOT_SEALED = "not sealed"

    @property
    def outcome(self) -> Outcome:
        """Return the outcome this verdict stands for."""
        return _OUTCOME_OF[self]


_OUTCOME_OF = {
    SealVerdict.SEALED: Outcome.PROVEN,
    SealVerdict.IN_PART: Outcome.PARTIAL,
    SealVerdict.NOT_SEALED: Outcome.UNCHECKED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePoint:
    """A named position in the WAL at which a recovery can stop."""

    name: str
    """Unique: a recovery stops at the first of its name."""
    lsn: Lsn
    """The end of its record: where a recovery stands that stopped there."""
    created_at: datetime
    timeline: int
    attempts: int
    """Restore points that were made until the snapshots agreed, this one included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedServer:
    """For which servers the digests hold, and where they were taken."""

    system_identifier: int
    version_num: int
    """As the server reports it, for instance 180006."""
    major: int
    version: str
    machine: str
    """The machine that the server was built for, as its version tells it, for instance `x86_64-pc-linux-gnu`."""
    hash_probe: str
    """Hash of a known row: servers whose hashes can be compared have the same."""
    block_size: int
    data_checksums: bool
    segment_bytes: int = 16 * 1024**2
    """Size of a WAL file."""

    @property
    def architecture(self) -> str:
        """Return what decides over hashes: the kind of processor, without vendor and system."""
        return self.machine.partition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDigest:
    """Consecutive blocks of a relation under the seal's snapshot."""

    rows: int
    sums: tuple[str, ...]
    """Sum of the rows' hashes for each seed, as decimal text: they exceed what many readers of JSON can hold."""
    marked: int = 0
    """Rows that somebody had deleted or locked when they were read; only counted where transactions are unsettled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortableDigest:
    """A whole relation as a multiset, as a dump carries it."""

    rows: int
    sums: tuple[str, ...]
    columns: str
    """SHA-256 over the names of the columns."""
    recomputed: bool = False
    """Whether a restore computes its rows anew, as those of a materialized view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedRelation:
    """One relation under the seal's snapshot."""

    schema: str
    name: str
    kind: RelationKind
    oid: int
    filenode: int
    token: int
    """Of its definition."""
    rows: int
    size_bytes: int
    """With the values stored outside of the rows."""
    part_blocks: int
    """Blocks of each part but the last, which has no upper bound."""
    parts: tuple[PartDigest, ...]
    by_column: bool = False
    """Whether its rows were hashed column by column, because they exceed the server's largest value."""
    portable: PortableDigest | None = None
    """None where none was asked for, or a dump does not carry it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequencePosition:
    """A sequence at one moment; no snapshot holds it still."""

    last_value: int
    log_count: int
    called: bool
    increment: int
    minimum: int
    maximum: int
    cache: int
    cycles: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSequence:
    """A sequence, read before and after the restore point was made."""

    schema: str
    name: str
    oid: int
    before: SequencePosition
    after: SequencePosition
    after_dump: SequencePosition | None = None
    """Read again once the dump had ended; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSealed:
    """Something that the seal says nothing of."""

    database: str
    relation: str | None
    """Schema-qualified and quoted as SQL wants it; None for a whole database."""
    code: str
    reason: str
    by_design: bool
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedDatabase:
    """One database under its snapshot."""

    name: str
    oid: int
    encoding: str
    xmin: int
    """Of the snapshot, 64-bit, like `xmax`."""
    xmax: int
    unsettled: tuple[int, ...]
    """Transactions (64-bit) that the snapshot does not see and whose commit may precede the restore point."""
    relations: tuple[SealedRelation, ...]
    sequences: tuple[SealedSequence, ...]
    large_objects: PortableDigest | None = None
    """The content of all large objects; None where no portable digests were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """What must come back with a database besides its rows."""

    name: str
    encoding: str
    collate: str
    ctype: str
    extensions: Mapping[str, str]
    """Version by name."""
    collation_versions: Mapping[str, str | None]
    """As the server's libraries have them; None for one that they do not know."""
    large_objects: int
    sequences: int
    relations: int
    """Tables, partitions and materialized views of users."""
    invalid_indexes: tuple[str, ...]
    unpopulated_views: tuple[str, ...]
    """Materialized views that hold nothing."""
    lc_monetary: str | None = None
    """The locale by which a dump has written values of type money, which it does not tell; None in older seals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedTransaction:
    """A transaction that was prepared (PREPARE TRANSACTION) before the restore point, and ended after it."""

    xid: int
    """The lower 32 bits of its id."""
    prepared_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SealFacts:
    """What must come back with a cluster besides its rows."""

    roles: tuple[str, ...]
    """Without those that initdb makes."""
    tablespaces: tuple[str, ...]
    databases: tuple[DatabaseFacts, ...]
    prepared: tuple[PreparedTransaction, ...] = ()

    def database(self, name: str) -> DatabaseFacts | None:
        """Return the facts of one database, None where it was not sealed."""
        return next((facts for facts in self.databases if facts.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedDump:
    """A dump that was taken under the seal's own snapshot."""

    file: str
    """Where it was written; it may lie elsewhere by now."""
    database: str
    format: str
    """`custom`, `directory`, `tar` or `plain`."""
    sha256: str
    """Of the file; of a directory, over the names and contents of its sorted files."""
    size_bytes: int
    program: str
    """The version of pg_dump."""
    created: str = ""
    """When pg_dump began, as its archive says it, in its own zone; empty for plain SQL, which tells nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealManifest:
    """A whole seal."""

    format: int
    seal_id: str
    cluster: str
    tool_version: str
    encoding: str
    """Of `parts`."""
    portable_encoding: str | None
    """None where no portable digests were asked for."""
    seeds: tuple[str, ...]
    """As decimal text."""
    restore_point: RestorePoint
    server: SealedServer
    scope: Scope
    databases: tuple[SealedDatabase, ...]
    not_sealed: tuple[NotSealed, ...]
    facts: SealFacts
    dump: SealedDump | None = None

    def database(self, name: str) -> SealedDatabase | None:
        """Return one database, None where it was not sealed."""
        return next((database for database in self.databases if database.name == name), None)

    @property
    def monetary_locale(self) -> str | None:
        """Return the locale by which its dump has written values of type money; None without a dump, or not known."""
        facts = self.facts.database(self.dump.database) if self.dump is not None else None
        return facts.lc_monetary if facts is not None else None

    @property
    def verdict(self) -> SealVerdict:
        """Return how far the seal covers what was asked for."""
        if not self.relations:
            return SealVerdict.NOT_SEALED  # a seal of nothing proves nothing
        lacks = any(not note.by_design for note in self.not_sealed)
        return SealVerdict.IN_PART if lacks else SealVerdict.SEALED

    @property
    def rows(self) -> int:
        """Return how many rows are sealed."""
        return sum(relation.rows for database in self.databases for relation in database.relations)

    @property
    def relations(self) -> int:
        """Return how many relations are sealed, sequences included."""
        return sum(len(database.relations) + len(database.sequences) for database in self.databases)

    @property
    def unsettled(self) -> int:
        """Return how many transactions are unsettled in any database."""
        return len({xid for database in self.databases for xid in database.unsettled})


class SignatureState(Enum):
    """What is known of a manifest's signature."""

    VERIFIED = "verified"
    UNVERIFIED = "not verified"
    """It is signed, and no key is configured to verify it with."""
    UNSIGNED = "unsigned"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSeal:
    """A manifest as it lies in a file."""

    manifest: SealManifest
    file: str
    sha256: str
    """Of the manifest's canonical JSON."""
    signature: SignatureState
    key_id: str = ""
    """Of the key that signed it; empty where nobody did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealResult:
    """How the making of a seal ended."""

    run_id: str
    """Also the seal's id."""
    started_at: datetime
    finished_at: datetime
    elapsed_s: float
    snapshot_s: float
    """How long the snapshot was held, and vacuum with it."""
    seal: StoredSeal
    primary: str
    """Name of the node."""

    @property
    def verdict(self) -> SealVerdict:
        """Return how far the seal covers what was asked for."""
        return self.seal.manifest.verdict
