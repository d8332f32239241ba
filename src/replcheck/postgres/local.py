"""SQL on servers that are ours: the lab's nodes and scratch servers.

Everything here may write. It must never be used for an audited node: those are spoken to by read-only sessions alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from replcheck.errors import NodeLost, NodeUnreachable, StatementFailed

__all__ = ["LocalConnection", "Statement", "connect", "execute", "sql", "translated"]

Statement = LiteralString | sql.SQL | sql.Composed
"""A statement: literal text, or composed by psycopg's sql module where names or values vary."""
LocalConnection = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def connect(dsn: str, *, node: str, autocommit: bool = True) -> Iterator[LocalConnection]:
    """Open a connection to a server of ours, closed at the end.

    What the driver raises leaves as NodeUnreachable, NodeLost or StatementFailed under the node's name, chained to it.
    """
    try:
        # Named even where there are none: those of the caller's environment would count otherwise.
        options = conninfo_to_dict(dsn).get("options") or ""
        connection = psycopg.connect(
            dsn, autocommit=autocommit, connect_timeout=10, options=options, application_name="replcheck lab"
        )
    except psycopg.Error as exc:
        raise NodeUnreachable(
            f"node {node} cannot be connected to", node=node, hint="Look at its log whether it is running."
        ) from exc
    with translated(node), connection:
        yield connection


@contextmanager
def translated(node: str) -> Iterator[None]:
    """Raise what the driver raises inside as StatementFailed, or as NodeLost where the connection broke.

    The driver's own complaints about how it is used are mistakes of ours and pass unchanged.
    """
    try:
        yield
    except psycopg.Error as exc:
        if exc.sqlstate is not None:
            raise StatementFailed(
                f"node {node} refused a statement (SQLSTATE {exc.sqlstate})", node=node, sqlstate=exc.sqlstate
            ) from exc
        if isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError):
            raise NodeLost(f"the connection to node {node} broke", node=node) from exc
        raise


def execute(dsn: str, statement: Statement, params: Sequence[Any] = (), *, node: str) -> list[tuple[Any, ...]]:
    """Run one statement in its own connection and transaction, and return its rows, none where it has no result."""
    with connect(dsn, node=node) as connection:
        cursor = connection.execute(statement, params or None)
        return cursor.fetchall() if cursor.description else []
