"""Read-only connections to a restored copy, on a scratch server of ours or wherever a command of the user's put it.

Every session is pinned as an audit's is, except for time limits of its own. Nothing here writes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from replcheck.postgres import dsn as connection_strings
from replcheck.postgres.failures import connect_failure, statement_failure
from replcheck.postgres.session import CONNECT_TIMEOUT_S, Statement

NODE = "copy"
"""How a restored copy is called in messages."""

_SETTINGS = {
    "default_transaction_read_only": "on",
    "search_path": "pg_catalog",
    "row_security": "off",
    "datestyle": "ISO, YMD",
    "timezone": "UTC",
    "lock_timeout": "10s",
    "client_min_messages": "error",
    "standard_conforming_strings": "on",
    "jit": "off",
}

# Purpose: the databases people make, templates of theirs too, and whether they can be connected to; not those that
# initdb makes as templates (template1 has oid 1), and none that a DROP left half-way. PostgreSQL 14+, no privilege.
_DATABASES: Statement = """
    SELECT d.datname::text, d.datallowconn FROM pg_catalog.pg_database AS d
    WHERE d.oid <> 1 AND NOT (d.datname = 'template0' AND NOT d.datallowconn) AND d.datconnlimit <> -2
    ORDER BY d.datname
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyServer:
    """What a restored copy's server says of itself."""

    version_num: int
    """For instance 180006."""
    databases: tuple[str, ...]
    in_recovery: bool
    closed: tuple[str, ...] = ()
    """Databases that nobody can connect to, and that nothing can look at therefore."""

    @property
    def major(self) -> int:
        """Return the major version."""
        return self.version_num // 10000


class CopyConnection:
    """A pinned connection to one database of a copy; use `open_copy` to get one.

    Every method raises NodeLost where the connection breaks, and StatementFailed where the server refuses a statement.
    """

    def __init__(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        self._connection = connection

    @property
    def version_num(self) -> int:
        """Return the version as the server reports it."""
        return self._connection.info.server_version

    def fetch(self, statement: Statement, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own and return its rows."""
        try:
            cursor = self._connection.execute(statement, parameters, prepare=False)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise self._translated(error) from error

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Open a transaction that cannot write, whatever is run in it, and roll it back at the end."""
        self.fetch("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        try:
            yield
        finally:
            if not self._connection.closed:
                self.fetch("ROLLBACK")

    def cancel(self) -> None:
        """Ask the server to end the running statement; may be called from another thread, and never raises."""
        try:
            self._connection.cancel_safe(timeout=CONNECT_TIMEOUT_S)
        except psycopg.Error:
            return

    def _translated(self, error: psycopg.Error) -> Exception:
        broken = self._connection.broken or self._connection.closed
        return statement_failure(error, node=NODE, broken=broken)


@contextmanager
def open_copy(dsn: str, *, database: str | None = None, statement_timeout_s: float = 600) -> Iterator[CopyConnection]:
    """Connect to a database of a copy, to that of the connection string where `database` is None, and pin the session.

    Raises NodeUnreachable, AuthenticationRefused, ConnectionsExhausted or DatabaseMissing; no message holds the
    connection string.
    """
    words = {"dbname": database} if database is not None else {}
    try:
        connection = psycopg.connect(
            connection_strings.located(connection_strings.merge(dsn, **words)),
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name="replcheck drill",
            client_encoding="UTF8",
        )
    except (psycopg.Error, OSError, UnicodeError) as error:
        failure = error if isinstance(error, psycopg.Error) else psycopg.OperationalError(str(error))
        raise connect_failure(failure, node=NODE, address=connection_strings.public_address(dsn)) from error
    with connection:
        opened = CopyConnection(connection)
        settings = _SETTINGS | {"statement_timeout": f"{int(statement_timeout_s * 1000)}ms"}
        opened.fetch(
            "SELECT count(pg_catalog.set_config(s.name, s.value, false))"
            " FROM unnest(%s::text[], %s::text[]) AS s (name, value)",
            [list(settings), list(settings.values())],
        )
        yield opened


def read_copy_server(dsn: str) -> CopyServer:
    """Return what the server of a connection string says of itself; raises as `open_copy` does."""
    with open_copy(dsn) as copy:
        ((in_recovery,),) = copy.fetch("SELECT pg_catalog.pg_is_in_recovery()")
        found = copy.fetch(_DATABASES)
        return CopyServer(
            version_num=copy.version_num,
            databases=tuple(name for name, allowed in found if allowed),
            in_recovery=in_recovery,
            closed=tuple(name for name, allowed in found if not allowed),
        )
