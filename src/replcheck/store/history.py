"""Keeps runs in a database file that two processes may write at once and that survives being killed at any moment.

A run is written when it begins and again when it ends, each in one transaction. Errors are told without the values
that were being written.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    NullPool,
    Row,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from replcheck.errors import StoreError
from replcheck.model.evidence import EvidenceRecord
from replcheck.model.outcome import ExitStatus, Outcome
from replcheck.model.plain import Plain, to_plain, utc_text
from replcheck.model.progress import Extent, Premises, Progress, ProvenBlocks, RelationState
from replcheck.model.run import Failure, RunRecord, RunStart
from replcheck.store.audit_parts import AuditParts, write_parts
from replcheck.store.evidence import Make, append, append_abort, archive, keep_mark, take_in
from replcheck.store.live_tables import LIVE_STATES
from replcheck.store.tables import (
    CROSS_CHECKS,
    EXTENTS,
    META,
    METADATA,
    PREMISES,
    PRIMARIES,
    PROOFS,
    RECORDS,
    RESULTS,
    RUNS,
    SCHEMA_VERSION,
)

BUSY_TIMEOUT_S = 10
_VERSION_KEY = "schema_version"
_HINT = "Name a writable file with output.store, or run with --no-store."


def open_history(location: str | Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> "History":
    """Open a history file, and create it with its folder where there is none; only its owner may read a new one.

    `busy_timeout_s` is how long every method waits for another writer to be done.
    Raises StoreError where it cannot be opened or written, is no history, or belongs to a newer replcheck.
    """
    if "://" in str(location):
        raise StoreError("the history must be a file: an address is not supported by this version", hint=_HINT)
    path = Path(location)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_file(path)
    except OSError as error:
        raise StoreError(f"cannot open history {path}: {(error.strerror or 'unknown').lower()}", hint=_HINT) from error
    history = History(writing_engine(path, busy_timeout_s=busy_timeout_s), str(path))
    history.prepare()
    return history


def make_file(path: Path) -> None:
    """Make an empty file that only its owner may read, where there is none; raise OSError where it cannot be written.

    One that is there is never opened: whoever closes it, however briefly it was open, takes every lock from all
    connections of this process (SQLite manual, How To Corrupt An SQLite Database File, section 2.2).
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK):
            raise _refusal_of(path) from None


def _refusal_of(path: Path) -> OSError:
    """Return why a file that is there cannot be written: a whole file system may be read-only."""
    is_fixed = os.access(path, os.R_OK) and os.statvfs(path).f_flag & os.ST_RDONLY
    code = errno.EROFS if is_fixed else errno.EACCES
    return OSError(code, os.strerror(code))


class History:
    """The runs of one history; every method raises StoreError where the database refuses."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self.name = name

    def prepare(self) -> None:
        """Create the tables in an empty database; refuse one that holds something else or is newer."""
        with self._transaction() as connection:
            tables = set(inspect(connection).get_table_names())
            if META.name not in tables:
                if tables:
                    raise StoreError(f"{self.name} is a database of something else, not a history", hint=_HINT)
                METADATA.create_all(connection)
                connection.execute(insert(META).values(key=_VERSION_KEY, value=str(SCHEMA_VERSION)))
            check_version(connection, self.name)
            if not METADATA.tables.keys() <= tables:
                # So far every version has only added tables and indexes.
                METADATA.create_all(connection)
                for index in RUNS.indexes:
                    index.create(connection, checkfirst=True)
                connection.execute(update(META).where(META.c.key == _VERSION_KEY).values(value=str(SCHEMA_VERSION)))

    def begin(self, run: RunStart) -> None:
        """Write that a run began, so that one that is killed leaves a trace."""
        with self._transaction() as connection:
            connection.execute(insert(RUNS).values(**run_values(run)))

    def finish(
        self,
        record: RunRecord,
        document: Plain = None,
        parts: AuditParts | None = None,
        *,
        evidence: Make | None = None,
    ) -> EvidenceRecord | None:
        """Write how a run ended, with its result where it has one; its beginning too where that is missing.

        `parts` are what is asked of an audit later on without reading its whole result. `evidence` is asked for what is
        appended to the cluster's chain with it; its last record is returned.
        """
        with self._transaction() as connection:
            appended = append(connection, record.cluster, evidence) if evidence else None
            known = connection.scalar(select(RUNS.c.run_id).where(RUNS.c.run_id == record.run_id))
            if known is None:
                connection.execute(insert(RUNS).values(**run_values(record)))
            connection.execute(insert(RECORDS).values(**record_values(record)))
            if document is not None:
                connection.execute(insert(RESULTS).values(run_id=record.run_id, document=document))
            if parts is not None:
                write_parts(connection, record.run_id, parts)
        return appended

    def append_evidence(self, cluster: str, evidence: Make) -> EvidenceRecord | None:
        """Append to a cluster's chain what is no end of a run; return the last record, None where nothing was."""
        with self._transaction() as connection:
            return append(connection, cluster, evidence)

    def append_abort(self, run: RunStart, evidence: Make) -> bool:
        """Append that a run was killed, unless it has ended or that was told already; return whether it was."""
        with self._transaction() as connection:
            return append_abort(connection, run.run_id, run.cluster, evidence)

    def archive_evidence(self, last: EvidenceRecord, evidence: Make) -> EvidenceRecord | None:
        """Append a checkpoint, and keep of the records up to `last` their places alone; return the checkpoint."""
        with self._transaction() as connection:
            return archive(connection, last, evidence)

    def take_in_evidence(self, records: Sequence[EvidenceRecord]) -> int:
        """Put records of another history into their places, all or none; return how many were new."""
        with self._transaction() as connection:
            return take_in(connection, records)

    def keep_evidence_mark(self, cluster: str, envelope: str) -> None:
        """Keep a statement of up to where a chain was verified."""
        with self._transaction() as connection:
            keep_mark(connection, cluster, envelope)

    def runs(self, *, limit: int = 100) -> list[RunStart]:
        """Return the newest runs, newest first: a RunRecord each, or a RunStart for one that never ended."""
        endings = (column for column in RECORDS.c if column.name != "run_id")
        statement = select(RUNS, *endings).outerjoin(RECORDS).order_by(RUNS.c.run_id.desc()).limit(limit)
        with self._transaction() as connection:
            return [stored_run(row, row.failure) for row in connection.execute(statement)]

    def result(self, run_id: str) -> Plain:
        """Return the result of a run as its report had it; None where it has none."""
        with self._transaction() as connection:
            document: Plain = connection.scalar(select(RESULTS.c.document).where(RESULTS.c.run_id == run_id))
            return document

    def keep_proofs(self, run_id: str, premises: Premises, extent: Extent, proofs: Iterable[ProvenBlocks]) -> None:
        """Write what a run has proven since it was last asked, what its proofs rest on, and what it was asked for."""
        rows = [{"run_id": run_id} | _proof_values(proof) for proof in proofs]
        with self._transaction() as connection:
            if connection.scalar(select(PREMISES.c.run_id).where(PREMISES.c.run_id == run_id)) is None:
                _keep_premises(connection, run_id, premises)
                connection.execute(insert(EXTENTS).values(run_id=run_id, digest=extent.digest, whole=extent.whole))
            if rows:
                connection.execute(insert(PROOFS), rows)

    def unfinished(self, cluster: str, *, kind: str = "audit") -> tuple[Progress, ...]:
        """Return what the runs of a kind and a cluster that can be gone on with have proven, newest first."""
        runs = (
            select(RUNS.c.started_at, PREMISES, PRIMARIES.c.node, PRIMARIES.c.timeline, CROSS_CHECKS.c.share)
            .select_from(RUNS.join(PREMISES))
            .outerjoin(PRIMARIES, PRIMARIES.c.run_id == PREMISES.c.run_id)
            .outerjoin(CROSS_CHECKS, CROSS_CHECKS.c.run_id == PREMISES.c.run_id)
            .where(RUNS.c.cluster == cluster, RUNS.c.kind == kind)
            .order_by(RUNS.c.run_id.desc())
        )
        with self._transaction() as connection:
            return tuple(_stored_progress(connection, run) for run in connection.execute(runs).all())

    def forget_proofs(self, premises: Premises, extent: Extent, *, kind: str = "audit") -> None:
        """Drop what runs of a kind and cluster have proven that were asked for no more than `extent` on these nodes."""
        of_cluster = select(PREMISES.c.run_id, PREMISES.c.servers, EXTENTS.c.digest).outerjoin(EXTENTS)
        of_cluster = of_cluster.join(RUNS, RUNS.c.run_id == PREMISES.c.run_id).where(RUNS.c.kind == kind)
        of_cluster = of_cluster.where(PREMISES.c.system_identifier == premises.system_identifier)
        with self._transaction() as connection:
            settled = [
                run.run_id
                for run in connection.execute(of_cluster)
                if run.servers.keys() <= premises.servers.keys() and (extent.whole or run.digest == extent.digest)
            ]
            _forget(connection, settled)

    def forget_old_proofs(self, premises: Premises, before: datetime, *, kind: str = "audit") -> None:
        """Drop what runs of a kind and cluster have proven that began and proved nothing after `before`."""
        newest = select(func.max(PROOFS.c.proven_at)).where(PROOFS.c.run_id == PREMISES.c.run_id).scalar_subquery()
        old = (
            select(PREMISES.c.run_id)
            .join(RUNS)
            .where(PREMISES.c.system_identifier == premises.system_identifier, RUNS.c.kind == kind)
            .where(RUNS.c.started_at < utc_text(before), func.coalesce(newest, "") < utc_text(before))
        )
        with self._transaction() as connection:
            _forget(connection, list(connection.scalars(old)))

    def state(self, cluster: str, name: str) -> Plain:
        """Return what was last kept under a name; None where nothing was."""
        own = (LIVE_STATES.c.cluster == cluster, LIVE_STATES.c.name == name)
        with self._transaction() as connection:
            document: Plain = connection.scalar(select(LIVE_STATES.c.document).where(*own))
            return document

    def keep_state(self, cluster: str, name: str, document: Plain) -> None:
        """Keep something under a name, in place of what was kept there."""
        own = (LIVE_STATES.c.cluster == cluster, LIVE_STATES.c.name == name)
        with self._transaction() as connection:
            connection.execute(delete(LIVE_STATES).where(*own))
            connection.execute(insert(LIVE_STATES).values(cluster=cluster, name=name, document=document))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with told(self.name), self._engine.begin() as connection:
            yield connection


@contextmanager
def told(name: str) -> Iterator[None]:
    """Turn what the database raises in the block into a StoreError that quotes no value."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(f"history {name}: {str(error.orig).lower()}", hint=_HINT) from error
    except SQLAlchemyError as error:
        raise StoreError(f"history {name} cannot be read or written", hint=_HINT) from error


def _keep_premises(connection: Connection, run_id: str, premises: Premises) -> None:
    connection.execute(
        insert(PREMISES).values(
            run_id=run_id,
            encoding=premises.encoding,
            system_identifier=premises.system_identifier,
            servers=dict(premises.servers),
        )
    )
    if premises.primary is not None:
        values = {"run_id": run_id, "node": premises.primary, "timeline": premises.timeline}
        connection.execute(insert(PRIMARIES).values(**values))
    if premises.cross_check:
        connection.execute(insert(CROSS_CHECKS).values(run_id=run_id, share=premises.cross_check))


def _forget(connection: Connection, runs: list[str]) -> None:
    for table in (PROOFS, EXTENTS, CROSS_CHECKS, PRIMARIES, PREMISES):
        connection.execute(delete(table).where(table.c.run_id.in_(runs)))


def _stored_progress(connection: Connection, run: Row[Any]) -> Progress:
    proofs = connection.execute(select(PROOFS).where(PROOFS.c.run_id == run.run_id).order_by(PROOFS.c.proof_id))
    return Progress(
        run_id=run.run_id,
        started_at=datetime.fromisoformat(run.started_at),
        premises=Premises(
            encoding=run.encoding,
            system_identifier=run.system_identifier,
            servers=run.servers,
            primary=run.node,
            timeline=run.timeline,
            cross_check=run.share or 0.0,
        ),
        proofs=tuple(_stored_proof(row) for row in proofs),
    )


def check_version(connection: Connection, name: str) -> None:
    """Raise StoreError where a history was written by a newer replcheck."""
    found = int(connection.scalar(select(META.c.value).where(META.c.key == _VERSION_KEY)) or 0)
    if found > SCHEMA_VERSION:
        raise StoreError(
            f"history {name} has schema version {found}, and this replcheck knows {SCHEMA_VERSION}",
            hint="Use the newer replcheck that wrote it, or another file.",
        )


def stored_start(row: Row[Any]) -> RunStart:
    """Return the beginning of the run of a row of RUNS; raise ValueError where it is damaged."""
    return RunStart(
        run_id=row.run_id,
        kind=row.kind,
        cluster=row.cluster,
        started_at=datetime.fromisoformat(row.started_at),
        tool_version=row.tool_version,
        argument_digest=row.argument_digest,
    )


_BEGINNING = tuple(each.name for each in fields(RunStart))


def stored_run(row: Row[Any], failure: Any) -> RunStart:
    """Return the run of a row of RUNS and RECORDS, with its failure decoded; raise ValueError where it is damaged."""
    start = stored_start(row)
    if row.outcome is None:
        return start
    return RunRecord(
        **{name: getattr(start, name) for name in _BEGINNING},  # there are very many: asdict copies deeply
        finished_at=datetime.fromisoformat(row.finished_at),
        outcome=Outcome(row.outcome),
        verdict=row.verdict,
        exit_status=ExitStatus(row.exit_status),
        summary=row.summary,
        failure=Failure(**failure) if failure else None,
    )


def writing_engine(path: Path, *, durable: bool = True, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """Return an engine whose transactions wait for other writers.

    What is written without `durable` survives the end of the process at once, and that of the machine with the next
    durable transaction only.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"timeout": busy_timeout_s, "check_same_thread": False},
    )
    event.listen(engine, "connect", partial(_configure, durable))
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _configure(durable: bool, connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself: a transaction that turns from reading to writing cannot wait
    # for another writer (SQLite manual, Transactions).
    connection.isolation_level = None
    synchronous = "FULL" if durable else "NORMAL"
    for pragma in ("journal_mode = WAL", f"synchronous = {synchronous}", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def run_values(run: RunStart) -> dict[str, Any]:
    """Return the row of a run that began."""
    return {
        "run_id": run.run_id,
        "kind": run.kind,
        "cluster": run.cluster,
        "started_at": utc_text(run.started_at),
        "tool_version": run.tool_version,
        "argument_digest": run.argument_digest,
    }


def record_values(record: RunRecord) -> dict[str, Any]:
    """Return the row of how a run ended."""
    return {
        "run_id": record.run_id,
        "finished_at": utc_text(record.finished_at),
        "outcome": record.outcome.value,
        "verdict": record.verdict,
        "exit_status": int(record.exit_status),
        "summary": record.summary,
        "failure": to_plain(record.failure),
    }


def _proof_values(proof: ProvenBlocks) -> dict[str, Any]:
    return {
        "database": proof.state.database,
        "relation": proof.state.relation,
        "token": proof.state.token,
        "filenode": proof.state.filenode,
        "filter": proof.state.filter,
        "replicas": list(proof.replicas),
        "ranges": [list(blocks) for blocks in proof.ranges],
        "rows": proof.rows,
        "proven_at": utc_text(proof.proven_at),
    }


def _stored_proof(row: Row[Any]) -> ProvenBlocks:
    return ProvenBlocks(
        state=RelationState(
            database=row.database, relation=row.relation, token=row.token, filenode=row.filenode, filter=row.filter
        ),
        replicas=tuple(row.replicas),
        ranges=tuple((first, end) for first, end in row.ranges),
        rows=row.rows,
        proven_at=datetime.fromisoformat(row.proven_at),
    )
