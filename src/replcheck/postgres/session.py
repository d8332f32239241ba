"""One read-only connection to an audited node, pinned so that no setting can reach a digest.

A session never writes, never exports or imports a snapshot, and leaves no lock or snapshot behind: the server itself
ends it when the client is stopped or cut off. Text is sent in the bytes of the database, without any conversion, so
that no client encoding can reach a digest; names therefore travel as raw bytes.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, Protocol

import psycopg
from psycopg import pq, sql
from psycopg.abc import AdaptContext

from replcheck.errors import NodeError, NodeUnfit
from replcheck.model.node import NodeTarget
from replcheck.postgres import dsn
from replcheck.postgres.connecting import connect
from replcheck.postgres.failures import connect_failure, statement_failure

MINIMUM_VERSION = 140000
"""The first version with TID range scans and hash_record_extended."""
CONNECT_TIMEOUT_S = 10
_UNCONVERTED = "SQL_ASCII"
"""The client encoding with which a server converts nothing, whatever the encoding of the database."""

# The driver logs what it also raises, and asyncio the errors of tasks that nobody asked for theirs: without a handler
# Python would print to standard error what a server said, values and all.
for _logger in ("psycopg", "asyncio"):
    logging.getLogger(_logger).addHandler(logging.NullHandler())

Row = tuple[Any, ...]
Buffer = bytes | bytearray | memoryview
Statement = LiteralString | sql.SQL | sql.Composed
_ENTER_SAVEPOINT = "SAVEPOINT chunk"
# Released as well: a savepoint that was rolled back to stays, and the next one would nest in it.
_LEAVE_SAVEPOINT: LiteralString = "ROLLBACK TO SAVEPOINT chunk; RELEASE SAVEPOINT chunk"
Batch = Sequence[tuple[Statement, Sequence[object] | None]]
"""Statements with their parameters that are sent together, up to one synchronization point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Time limits that the server enforces on a session, in seconds."""

    statement_s: float = 60.0
    transaction_s: float = 60.0
    """How long a transaction, and so a snapshot, may live; from PostgreSQL 17 on even while it is busy."""
    lock_s: float = 0.2


class CopyReader(Protocol):
    """Takes in what COPY sends."""

    def begin(self) -> None:
        """Expect the first message of another COPY."""

    def take(self, message: Buffer) -> None:
        """Take in one message."""


class Name(sql.Composable):
    """An identifier in the bytes of its database, for databases whose names fit no codec."""

    def __init__(self, *parts: bytes) -> None:
        super().__init__(parts)

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """Quote each part by the rules of the connection; raise ValueError without one."""
        connection = context.connection if context else None
        if connection is None:
            return b".".join(b'"' + part.replace(b'"', b'""') + b'"' for part in self._obj)
        escaping = pq.Escaping(connection.pgconn)
        return b".".join(bytes(escaping.escape_identifier(part)) for part in self._obj)


class Rendered(sql.Composable):
    """A part of a statement that was rendered from a checked tree, in the bytes of its database."""

    def __init__(self, rendered: bytes) -> None:
        super().__init__(rendered)

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:  # noqa: ARG002 - the same on any connection
        """Return the part in parentheses."""
        return b"(" + bytes(self._obj) + b")"


class Once(sql.Composable):
    """A part of a statement that is rendered once for all: every session quotes alike."""

    def __init__(self, part: sql.Composable) -> None:
        super().__init__(part)
        self._rendered: bytes | None = None

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """Return the part as the first session rendered it."""
        if self._rendered is None:
            self._rendered = bytes(self._obj.as_bytes(context))
        return self._rendered


class Session:
    """A pinned connection; use `open_session` to get one.

    Every method raises NodeLost where the connection breaks, StatementCancelled where the server ends a statement
    early, and StatementFailed where it refuses one.
    """

    def __init__(self, node: str, connection: psycopg.AsyncConnection[Row]) -> None:
        self.node = node
        self._connection = connection

    @property
    def server_version_num(self) -> int:
        """Return the version as the server reports it, for instance 180006."""
        return self._connection.info.server_version

    @property
    def server_encoding(self) -> str:
        """Return the encoding of the database, as the server calls it."""
        return self._connection.info.parameter_status("server_encoding") or ""

    @property
    def database(self) -> str:
        """Return the database that it is connected to."""
        return self._connection.info.dbname

    @property
    def advertised_pid(self) -> int:
        """Return the backend pid told at connection time; a pooler tells one of its own."""
        return self._connection.info.backend_pid

    @property
    def sslmode(self) -> str:
        """Return what the client insists on, in libpq's word, wherever it was said (DSN, service file, environment).

        Where it has a root certificate, `require` is `verify-ca` (manual, libpq, SSL Support).
        """
        options = {option.keyword: option.val for option in self._connection.pgconn.info}
        mode = (options.get(b"sslmode") or b"prefer").decode()
        root = options.get(b"sslrootcert")
        known = Path(os.fsdecode(root)) if root else Path("~/.postgresql/root.crt").expanduser()
        return "verify-ca" if mode == "require" and known.is_file() else mode

    @property
    def peer_address(self) -> str:
        """Return the address that the connection was made to, empty over a Unix socket."""
        return self._connection.info.hostaddr

    @property
    def socket_directory(self) -> str:
        """Return the directory of the Unix socket that the connection goes through, empty over TCP."""
        host = self._connection.info.host
        return host if host.startswith(("/", "@")) else ""

    @property
    def alive(self) -> bool:
        """Return whether the connection was usable when it was last used."""
        return not self._connection.closed

    @property
    def in_transaction(self) -> bool:
        """Return whether a transaction, failed or not, is open."""
        return self._connection.info.transaction_status != pq.TransactionStatus.IDLE

    async def fetch(self, statement: Statement, parameters: Sequence[object] | None = None) -> list[Row]:
        """Run one statement and return its rows; none where it returns no rows."""
        try:
            cursor = await self._connection.execute(statement, parameters, prepare=False)
            return await cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise self._translated(error) from error

    async def fetch_batch(self, batches: Sequence[Batch]) -> list[Row]:
        """Run several statements in one round trip and return the first row of each that returns rows.

        Each inner sequence ends with a synchronization point, so that an autocommitted statement and the BEGIN that
        follows it do not become one implicit transaction (PostgreSQL manual, libpq Pipeline Mode).
        """
        try:
            cursors = []
            async with self._connection.pipeline() as pipeline:
                for batch in batches:
                    for statement, parameters in batch:
                        cursors.append(await self._connection.execute(statement, parameters, prepare=True))
                    await pipeline.sync()
            return [row for cursor in cursors if cursor.description and (row := await cursor.fetchone())]
        except psycopg.Error as error:
            raise self._translated(error) from error

    async def read(self, statement: Statement, parameters: Sequence[object] | None = None) -> list[Row]:
        """Run one statement, inside a transaction within a savepoint, so that it leaves no lock there either."""
        if not self.in_transaction:
            return await self.fetch(statement, parameters)
        return await self.in_savepoint(statement, parameters)

    async def in_savepoint(
        self,
        statement: Statement | bytes,
        parameters: Sequence[object] | None = None,
        *,
        before: LiteralString | None = None,
    ) -> list[Row]:
        """Run a statement inside a savepoint that is rolled back, so that its relation locks go and the snapshot stays.

        `before` runs inside the savepoint first, so a setting made there goes with it. The transaction survives a
        refused statement too. Without parameters all of it is one round trip, and the locks are gone before the answer
        is read. Follows the PostgreSQL manual, ROLLBACK TO SAVEPOINT.
        """
        async with self._recovered():
            if parameters is None:
                return await (await self._in_one_message(statement, before)).fetchall()
            await self._connection.execute(_ENTER_SAVEPOINT)
            cursor = await self._connection.execute(statement, parameters, prepare=False)
            rows = await cursor.fetchall()
            await self._connection.execute(_LEAVE_SAVEPOINT)
            return rows

    def rendered(self, statement: Statement) -> bytes:
        """Return a statement as it is sent; every session quotes alike, so another node's can send it too."""
        return _composed(statement).as_bytes(self._connection)

    async def result_types(self, statement: Statement) -> list[int]:
        """Run a statement as `read` does and return the types (oids) of its columns."""
        if not self.in_transaction:
            await self.fetch("BEGIN READ ONLY")
            try:
                return await self.result_types(statement)
            finally:
                await self.rollback()
        async with self._recovered():
            cursor = await self._in_one_message(statement, None)
            return [column.type_code for column in cursor.description or ()]

    async def copy_in_savepoint(
        self,
        copies: Sequence[sql.Composed],
        reader: CopyReader,
        *,
        before: LiteralString,
        after: sql.Composed,
    ) -> list[Row]:
        """Hand each message of some COPY ... TO STDOUT to `reader`, then run `after` and return its rows.

        All inside a savepoint as above, `before` first. The server sends a message a row (PostgreSQL manual, COPY
        Operations), and waits where the reader is slow: nothing is kept.
        """
        async with self._recovered():
            await self._connection.execute(sql.SQL("; ").join([sql.SQL(_ENTER_SAVEPOINT), sql.SQL(before)]))
            for copy in copies:
                reader.begin()
                async with self._connection.cursor() as cursor, cursor.copy(copy) as stream:
                    async for message in stream:
                        reader.take(message)
            rows = await (await self._connection.execute(after)).fetchall()
            await self._connection.execute(_LEAVE_SAVEPOINT)
            return rows

    @asynccontextmanager
    async def _recovered(self) -> AsyncIterator[None]:
        """Leave the savepoint where a statement inside it fails; translate the driver's errors."""
        try:
            yield
        except psycopg.Error as error:
            failure = self._translated(error)
            if self.alive:
                await self.fetch(_LEAVE_SAVEPOINT)
            raise failure from error

    async def _in_one_message(
        self, statement: Statement | bytes, before: LiteralString | None
    ) -> psycopg.AsyncCursor[Row]:
        """Enter the savepoint, run the statement and leave it again; return the cursor at the statement's result."""
        # Never a pipeline: its last message, a Flush, leaves the server without the time limit on idle transactions.
        first = [_ENTER_SAVEPOINT, *([before] if before else [])]
        body = statement if isinstance(statement, bytes) else self.rendered(statement)
        message = b"; ".join([*(part.encode() for part in first), body, _LEAVE_SAVEPOINT.encode()])
        cursor = await self._connection.execute(message)
        for _ in first:
            cursor.nextset()
        return cursor

    async def arm_limits(self) -> None:
        """Have the server watch an idle transaction again, after `fetch_batch` left one open.

        The server stops its idle timer at the Flush that ends a pipeline and starts it at the next ReadyForQuery only
        (PostgreSQL source, PostgresMain).
        """
        await self.fetch("SELECT 1")

    async def rollback(self) -> None:
        """End the transaction, if there is one and the connection still stands; never raises."""
        if self.alive and self.in_transaction:
            try:
                await self._connection.execute("ROLLBACK", prepare=False)
            except psycopg.Error:
                await self._connection.close()

    async def cancel(self) -> None:
        """Ask the server to end the running statement; never raises."""
        if self.alive:
            try:
                await self._connection.cancel_safe(timeout=CONNECT_TIMEOUT_S)
            except psycopg.Error:
                await self._connection.close()

    async def close(self) -> None:
        """Close the connection; never raises."""
        await self._connection.close()

    def _translated(self, error: psycopg.Error) -> NodeError:
        broken = self._connection.broken or self._connection.closed
        return statement_failure(error, node=self.node, broken=broken)


async def open_session(target: NodeTarget, *, database: str | None = None, purpose: str, limits: Limits) -> Session:
    """Connect to a node and pin the session.

    `database` None keeps that of the DSN. Raises NodeUnreachable, AuthenticationRefused, ConnectionsExhausted or
    NodeUnfit; no message holds the connection string.
    """
    address = dsn.public_address(target.dsn)
    try:
        connection = await connect(
            target.dsn,
            timeout_s=CONNECT_TIMEOUT_S,
            **({"dbname": database} if database else {}),
            application_name=f"replcheck {purpose}",
            client_encoding=_UNCONVERTED,
            keepalives_idle="10",
            keepalives_interval="5",
            keepalives_count="3",
        )
    except psycopg.Error as error:
        raise connect_failure(error, node=target.name, address=address) from error
    except (OSError, UnicodeError) as error:
        raise connect_failure(psycopg.OperationalError(str(error)), node=target.name, address=address) from error
    session = Session(target.name, connection)
    try:
        await _pin(session, limits)
    except (NodeError, asyncio.CancelledError):
        await session.close()
        raise
    return session


_SETTINGS = {
    "default_transaction_read_only": "on",
    "search_path": "",
    "row_security": "off",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "xmloption": "content",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_bitmapscan": "off",
    "constraint_exclusion": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "client_connection_check_interval": "2s",
    "client_min_messages": "error",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "quote_all_identifiers": "off",
    "plan_cache_mode": "auto",
}
"""What a session is pinned to. Index scans are off for the reads of relations: an index can be corrupt on one node
only; catalog look-ups inside the server do not depend on it. Nor is a constraint believed: damaged rows may break it,
and a filter that contradicts it must not hide them."""

_ASKABLE: Statement = "SET default_transaction_isolation = 'read committed'; SET statement_timeout = 0"
"""Sent before the first query, which what a role brings along could keep from being answered: no query of a hot standby
may be serializable (manual, Hot Standby Caveats), and a limit on time may be too short for any."""


async def _pin(session: Session, limits: Limits) -> None:
    version = session.server_version_num
    if version < MINIMUM_VERSION:
        raise NodeUnfit(
            f'node "{session.node}" runs PostgreSQL {version // 10000}, which is too old',
            node=session.node,
            hint=f"PostgreSQL {MINIMUM_VERSION // 10000} or newer is needed.",
        )
    settings = _SETTINGS | {
        "statement_timeout": _milliseconds(limits.statement_s),
        "lock_timeout": _milliseconds(limits.lock_s),
        "idle_in_transaction_session_timeout": _milliseconds(limits.transaction_s + 5),
    }
    if version >= 170000:
        # Above the limit on idleness, which the server would not arm otherwise.
        settings["transaction_timeout"] = _milliseconds(limits.transaction_s + 10)
    await session.fetch(_ASKABLE)
    await session.fetch(
        "SELECT count(pg_catalog.set_config(s.name, s.value, false))"
        " FROM unnest(%s::text[], %s::text[]) AS s (name, value)",
        [list(settings), list(settings.values())],
    )


def _composed(statement: Statement) -> sql.Composable:
    return sql.SQL(statement) if isinstance(statement, str) else statement


def _milliseconds(seconds: float) -> str:
    return f"{int(seconds * 1000)}ms"
