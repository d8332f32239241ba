"""Reads a history without writing to it: no file is created, no lock is taken that a writer would wait for.

What is found damaged is named and left out; it never looks like a run that was fine.
"""

import errno
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    NullPool,
    Row,
    Select,
    Text,
    create_engine,
    event,
    select,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from replcheck.errors import EmptyHistory, StoreError
from replcheck.model.outcome import Outcome
from replcheck.model.plain import Plain, utc_text
from replcheck.model.run import RunStart
from replcheck.store.history import BUSY_TIMEOUT_S, check_version, stored_run
from replcheck.store.tables import META, RECORDS, RESULTS, RUNS

_OPENED_AFTER_S = (0.02, 0.1, 0.5)
"""Seconds to wait before a file that could not be opened is opened again."""
_HINT = "Name another file with --store, or the cluster's configuration with --config."
# As texts, so that what is damaged in one row does not end the reading of all.
_DOCUMENT = type_coerce(RESULTS.c.document, Text).label("document")
_FAILURE = type_coerce(RECORDS.c.failure, Text).label("failure")
_RECORD_COLUMNS = (*(column for column in RECORDS.c if column.name not in {"run_id", "failure"}), _FAILURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are wanted; None and empty mean all."""

    since: datetime | None = None
    """Runs that began then or later."""
    until: datetime | None = None
    """Runs that began before."""
    kind: str | None = None
    kinds: frozenset[str] = frozenset()
    cluster: str | None = None
    outcomes: frozenset[Outcome] = frozenset()
    unended: bool = False
    """Runs without an end, beside those of `outcomes`."""
    run_ids: frozenset[str] = frozenset()
    """Not more than a few hundred."""


EVERY_RUN = RunFilter()


def open_reader(path: Path) -> "HistoryReader":
    """Open an existing history; raise StoreError where there is none, or it cannot be read by this replcheck."""
    try:
        # Never opened: whoever closes it takes the locks from every connection of this process, see `make_file`.
        path.stat()
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except FileNotFoundError as error:
        raise StoreError(f"there is no history at {path}: no run was recorded there", hint=_HINT) from error
    except OSError as error:
        raise StoreError(f"cannot read history {path}: {(error.strerror or 'unknown').lower()}", hint=_HINT) from error
    reader = HistoryReader(path)
    reader.check()
    return reader


class HistoryReader:
    """The runs of one history, as they stand; every method raises StoreError where the file cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: list[str] = []
        """Ids of runs whose record could not be read, in the order in which they were met."""
        self._engine = _engine(path)

    def check(self) -> None:
        """Raise StoreError where the file is no history, or that of a newer version."""
        with self._connected() as connection:
            tables = {
                name for (name,) in connection.exec_driver_sql("SELECT name FROM sqlite_schema WHERE type = 'table'")
            }
            if not tables:
                raise EmptyHistory(f"{self.path} is no history of replcheck: it is empty", hint=_HINT)
            if META.name not in tables:
                raise StoreError(f"{self.path} is no history of replcheck", hint=_HINT)
            check_version(connection, str(self.path))

    def runs(self, wanted: RunFilter = EVERY_RUN, *, limit: int | None = None) -> list[RunStart]:
        """Return runs, newest first: a RunRecord each, or a RunStart for one that has no end."""
        statement = _runs(wanted).order_by(RUNS.c.run_id.desc()).limit(limit)
        with self._connected() as connection:
            return [run for row in connection.execute(statement) if (run := self._read(row)) is not None]

    def run_clusters(self) -> frozenset[str]:
        """Return the clusters of which there are runs."""
        with self._connected() as connection:
            return frozenset(connection.scalars(select(RUNS.c.cluster).distinct()))

    def kinds(self) -> frozenset[str]:
        """Return the kinds of runs that are in the history."""
        with self._connected() as connection:
            return frozenset(connection.scalars(select(RUNS.c.kind).distinct()))

    def ids(self, prefix: str, *, limit: int = 2) -> list[str]:
        """Return the ids that begin so, newest first."""
        statement = select(RUNS.c.run_id).where(RUNS.c.run_id.startswith(prefix, autoescape=True))
        with self._connected() as connection:
            return list(connection.scalars(statement.order_by(RUNS.c.run_id.desc()).limit(limit)))

    def run(self, run_id: str) -> RunStart:
        """Return one run; raise StoreError where it is not there or damaged."""
        with self._connected() as connection:
            row = connection.execute(_runs(EVERY_RUN).where(RUNS.c.run_id == run_id)).one_or_none()
            run = self._read(row) if row is not None else None
        if run is None:
            raise StoreError(f"history {self.path}: the record of run {run_id} is {'damaged' if row else 'missing'}")
        return run

    def result(self, run_id: str) -> Plain:
        """Return the report of a run as it was stored; None where it has none, StoreError where it is damaged."""
        with self._connected() as connection:
            text = connection.scalar(select(_DOCUMENT).where(RESULTS.c.run_id == run_id))
        return self._decoded(text, run_id)

    def walk(self, wanted: RunFilter) -> Iterator[tuple[RunStart, Plain | StoreError]]:
        """Yield runs with their reports, oldest first, one at a time; a damaged report comes as its error.

        All are seen as of one moment, however long the caller takes.
        """
        statement = _runs(wanted, _DOCUMENT).outerjoin(RESULTS, RESULTS.c.run_id == RUNS.c.run_id)
        with self._connected() as connection:
            rows = connection.execution_options(yield_per=20).execute(statement.order_by(RUNS.c.run_id))
            for row in rows:
                run = self._read(row)
                if run is None:
                    continue
                try:
                    yield run, self._decoded(row.document, run.run_id)
                except StoreError as error:
                    yield run, error

    def _decoded(self, text: str | None, run_id: str) -> Plain:
        try:
            document: Plain = json.loads(text) if text is not None else None
        except ValueError as error:
            raise StoreError(f"history {self.path}: the report of run {run_id} is damaged") from error
        return document

    def _read(self, row: Row[Any]) -> RunStart | None:
        try:
            return stored_run(row, json.loads(row.failure) if row.failure is not None else None)
        except (ValueError, TypeError, KeyError):
            self.damaged.append(str(row.run_id))
            return None

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            connection, before = self._opened()
            with connection:
                yield connection
        except DBAPIError as error:
            if _is_unfinished(self.path):
                raise _unfinished(self.path) from error
            raise StoreError(f"history {self.path}: {str(error.orig).lower()}", hint=_HINT) from error
        except (SQLAlchemyError, ValueError) as error:
            raise StoreError(f"history {self.path} cannot be read", hint=_HINT) from error
        if before is not None and before != _state(self.path):
            raise StoreError(f"history {self.path} was written while it was read", hint="Try again.")

    def _opened(self) -> tuple[Connection, tuple[int, int] | None]:
        """Open the file, and again where a writer came or left between the look for one and the opening."""
        for wait_s in _OPENED_AFTER_S:
            before = _state(self.path)
            try:
                return self._connection(), before
            except DBAPIError as error:
                if getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_CANTOPEN:
                    raise
                time.sleep(wait_s)
        before = _state(self.path)
        return self._connection(), before

    def _connection(self) -> Connection:
        """Return a connection that has begun to read: SQLite opens a file when it is first asked for something."""
        connection = self._engine.connect()
        try:
            connection.exec_driver_sql("SELECT 1 FROM sqlite_schema LIMIT 1").close()
        except BaseException:
            connection.close()
            raise
        return connection


def _state(path: Path) -> tuple[int, int] | None:
    """Return what tells whether a file was written that is read alone; None where SQLite itself sees to that."""
    if not _read_alone(path):
        return None
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _engine(path: Path) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(_address(path), uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        connection.execute("PRAGMA query_only = ON").close()
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)
    # One view of the file for all that a connection reads; the driver itself begins nothing.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _address(path: Path) -> str:
    """Return the file's address for reading.

    Readers of a file in WAL mode share a little memory with its writers, in a file beside it (SQLite manual,
    Write-Ahead Logging, section 5). Who may not create that file reads the bare one, as long as no writer is at work.
    Nothing is lost so: there is no write-ahead file then, or one that is empty.
    """
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    return f"{address}&immutable=1" if _read_alone(path) else address


def _read_alone(path: Path) -> bool:
    wal, memory = _beside(path)
    return not os.access(path.parent, os.W_OK) and (wal is None or (wal, memory) == (0, None))


def _is_unfinished(path: Path) -> bool:
    """Return whether a history lacks the memory that its write-ahead file needs, and nobody may make it here.

    A writer that ends takes both away, and one that is killed leaves both: so it is with a copy that lacks one of them.
    """
    wal, memory = _beside(path)
    return not os.access(path.parent, os.W_OK) and bool(wal) and memory is None


def _unfinished(path: Path) -> StoreError:
    name = path.name
    return StoreError(
        f"history {path}: its newest part lies in {name}-wal, which only who may write in their folder can read"
        f" without {name}-shm",
        hint=f"Copy all files whose names begin with {name}, or have somebody who may write there read it once.",
    )


def _beside(path: Path) -> tuple[int | None, int | None]:
    """Return the sizes of a history's write-ahead file and of the memory that is shared for it, in bytes."""
    wal, memory = (path.with_name(f"{path.name}-{name}") for name in ("wal", "shm"))
    return _size(wal), _size(memory)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None  # a writer that leaves takes it away at any moment


def _runs(wanted: RunFilter, *more: Any) -> Select[Any]:
    statement = select(RUNS, *_RECORD_COLUMNS, *more).select_from(
        RUNS.outerjoin(RECORDS, RECORDS.c.run_id == RUNS.c.run_id)
    )
    return statement.where(*_conditions(wanted))


def _conditions(wanted: RunFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.since is not None:
        yield RUNS.c.started_at >= utc_text(wanted.since)
    if wanted.until is not None:
        yield RUNS.c.started_at < utc_text(wanted.until)
    if wanted.kind is not None:
        yield RUNS.c.kind == wanted.kind
    if wanted.kinds:
        yield RUNS.c.kind.in_(sorted(wanted.kinds))
    if wanted.cluster is not None:
        yield RUNS.c.cluster == wanted.cluster
    if wanted.run_ids:
        yield RUNS.c.run_id.in_(sorted(wanted.run_ids))
    ended = RECORDS.c.outcome.in_([outcome.value for outcome in wanted.outcomes])
    if wanted.outcomes and wanted.unended:
        yield ended | RECORDS.c.outcome.is_(None)
    elif wanted.outcomes:
        yield ended
    elif wanted.unended:
        yield RECORDS.c.outcome.is_(None)
