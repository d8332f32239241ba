"""The chains of evidence in a history: one a cluster, appended to in the transaction of what a record is about.

What a record says is made by the caller, who is told where it will stand; here it is only kept in its place. A record
is never changed and never removed: one that was moved into an archive leaves its place and its SHA-256 behind.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Index, Integer, Row, String, Table, Text, delete, insert, select, update

from replcheck.errors import StoreError
from replcheck.model.canonical import canonical
from replcheck.model.evidence import ChainPlace, EarlierRuns, EvidenceRecord, Places, RecordKind
from replcheck.model.plain import utc_text
from replcheck.store.live_tables import LIVE_STATES
from replcheck.store.tables import METADATA, RECORDS, RUNS

EVIDENCE = Table(
    "evidence_records",
    METADATA,
    Column("cluster", String(64), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("chain_id", String(32), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("previous", String(64)),
    Column("kind", String(16), nullable=False),
    Column("run_id", String(36)),
    Column("recorded_at", String(32), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("envelope", Text),
    Index("evidence_records_by_run", "run_id"),
    Index("evidence_records_by_key", "cluster", "key_id"),
)
"""The run need not be in the history: evidence can come from another one."""

MARKS = Table(
    "evidence_marks",
    METADATA,
    Column("cluster", String(64), primary_key=True),
    Column("envelope", Text, nullable=False),
)
"""Up to where a chain was last verified, as a signed statement."""

_IMPORTED = "evidence_imported"
"""Under which name it is kept which records were imported."""

Make = Callable[[ChainPlace], Sequence[EvidenceRecord]]
"""Returns what is to be appended at a place; the first follows the head, and each the one before it."""

_ENDS = (
    *(RUNS.c[name] for name in ("run_id", "kind", "started_at")),
    *(RECORDS.c[name] for name in ("finished_at", "outcome", "verdict", "exit_status", "summary")),
)
"""What an end of a run is digested from; a fixed list, since digests of it are in records."""


def append(connection: Connection, cluster: str, make: Make) -> EvidenceRecord | None:
    """Append what `make` returns to the chain of a cluster, in the caller's transaction; return the last record.

    None where `make` returned nothing. What it raises ends the transaction.
    """
    found = head(connection, cluster)
    place = ChainPlace(head=found, earlier=None if found else unrecorded_ends(connection, cluster))
    records = make(place)
    if records:
        connection.execute(insert(EVIDENCE), [_values(record) for record in records])
    return records[-1] if records else None


def append_abort(connection: Connection, run_id: str, cluster: str, make: Make) -> bool:
    """Append that a run was killed, unless it has ended or that was recorded already; return whether it was."""
    ended = connection.scalar(select(RECORDS.c.run_id).where(RECORDS.c.run_id == run_id))
    told = connection.scalar(select(EVIDENCE.c.sequence).where(EVIDENCE.c.run_id == run_id).limit(1))
    return ended is None and told is None and append(connection, cluster, make) is not None


def archive(connection: Connection, last: EvidenceRecord, make: Make) -> EvidenceRecord | None:
    """Append a checkpoint, and keep of the records up to `last` their places alone."""
    checkpoint = append(connection, last.cluster, make)
    moved = (EVIDENCE.c.cluster == last.cluster, EVIDENCE.c.sequence <= last.sequence)
    connection.execute(update(EVIDENCE).where(*moved).values(envelope=None))
    return checkpoint


def take_in(connection: Connection, records: Sequence[EvidenceRecord]) -> int:
    """Put records of another history into their places, and return how many were new; they are one chain's, in order.

    Raises StoreError where the chain here is another one, or does not reach up to the first of them.
    """
    end = head(connection, records[0].cluster) if records else None
    there = [record for record in records if end is not None and record.sequence <= end.sequence]
    filled = sum(_fill_in(connection, record) for record in there)
    beyond = records[len(there) :]
    if beyond and end is not None:
        _require_following(beyond[0], end)
    if beyond:
        connection.execute(insert(EVIDENCE), [_values(record) for record in beyond])
        _remember_imported(connection, beyond)
    return filled + len(beyond)


def imported(connection: Connection, cluster: str) -> Places:
    """Return which records of a chain came from another history: their runs need not be in this one."""
    own = LIVE_STATES.c.cluster == cluster, LIVE_STATES.c.name == _IMPORTED
    return tuple((first, last) for first, last in connection.scalar(select(LIVE_STATES.c.document).where(*own)) or ())


def _remember_imported(connection: Connection, records: Sequence[EvidenceRecord]) -> None:
    cluster, first, last = records[0].cluster, records[0].sequence, records[-1].sequence
    places = list(imported(connection, cluster))
    if places and places[-1][1] + 1 == first:
        first, _ = places.pop()
    connection.execute(delete(LIVE_STATES).where(LIVE_STATES.c.cluster == cluster, LIVE_STATES.c.name == _IMPORTED))
    document = [*places, (first, last)]
    connection.execute(insert(LIVE_STATES).values(cluster=cluster, name=_IMPORTED, document=document))


def keep_mark(connection: Connection, cluster: str, envelope: str) -> None:
    """Keep a statement of up to where a chain was verified, in place of an earlier one."""
    connection.execute(delete(MARKS).where(MARKS.c.cluster == cluster))
    connection.execute(insert(MARKS).values(cluster=cluster, envelope=envelope))


def head(connection: Connection, cluster: str) -> EvidenceRecord | None:
    """Return the last record of a cluster's chain, None where it has not begun."""
    statement = select(EVIDENCE).where(EVIDENCE.c.cluster == cluster).order_by(EVIDENCE.c.sequence.desc()).limit(1)
    row = connection.execute(statement).one_or_none()
    return stored_record(row) if row is not None else None


def unrecorded_ends(connection: Connection, cluster: str) -> EarlierRuns:
    """Return the runs of a cluster that ended and of which no record tells."""
    recorded = EVIDENCE.c.run_id == RUNS.c.run_id
    statement = select(*_ENDS).select_from(RUNS).join(RECORDS, RECORDS.c.run_id == RUNS.c.run_id)
    statement = statement.outerjoin(EVIDENCE, recorded).where(RUNS.c.cluster == cluster, EVIDENCE.c.run_id.is_(None))
    digest, count = hashlib.sha256(), 0
    for row in connection.execute(statement.order_by(RUNS.c.run_id)):
        digest.update(canonical(list(row)) + b"\n")
        count += 1
    return EarlierRuns(count=count, sha256=digest.hexdigest())


def stored_record(row: Row[Any]) -> EvidenceRecord:
    """Return the record of a row; raise ValueError where it is damaged."""
    return EvidenceRecord(
        cluster=row.cluster,
        chain_id=row.chain_id,
        sequence=row.sequence,
        sha256=row.sha256,
        previous=row.previous,
        kind=RecordKind(row.kind),
        run_id=row.run_id,
        recorded_at=datetime.fromisoformat(row.recorded_at),
        key_id=row.key_id,
        envelope=row.envelope,
    )


def _fill_in(connection: Connection, record: EvidenceRecord) -> int:
    """Put a record into its place where that is empty, and return 1 for that; the place must be this record's."""
    place = (EVIDENCE.c.cluster == record.cluster, EVIDENCE.c.sequence == record.sequence)
    there = connection.execute(select(EVIDENCE.c.sha256, EVIDENCE.c.envelope).where(*place)).one_or_none()
    if there is None or there.sha256 != record.sha256:
        raise StoreError(
            f"record {record.sequence} of {record.cluster} is another one in this history",
            hint="Two chains of one name stay two: import it into another history, with --store.",
        )
    if there.envelope is not None:
        return 0
    connection.execute(update(EVIDENCE).where(*place).values(envelope=record.envelope))
    return 1


def _require_following(record: EvidenceRecord, end: EvidenceRecord) -> None:
    if (record.sequence, record.previous) != (end.sequence + 1, end.sha256):
        raise StoreError(
            f"record {record.sequence} of {record.cluster} does not follow record {end.sequence} of this history",
            hint="Import the part between them first, or all of it into another history, with --store.",
        )


def _values(record: EvidenceRecord) -> dict[str, Any]:
    return {
        "cluster": record.cluster,
        "sequence": record.sequence,
        "chain_id": record.chain_id,
        "sha256": record.sha256,
        "previous": record.previous,
        "kind": record.kind.value,
        "run_id": record.run_id,
        "recorded_at": utc_text(record.recorded_at),
        "key_id": record.key_id,
        "envelope": record.envelope,
    }
