"""Opens connections where libpq would open them; the driver's own search for hosts is put right where it differs."""

from typing import Any

import psycopg
from psycopg import generators, waiting

from replcheck.postgres import dsn

_POLL_S = 0.1


async def connect(target: str, *, timeout_s: int, **words: str) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    """Connect to what a connection string names, with `words` put in; each connection commits at once.

    Raises psycopg.Error, OSError or UnicodeError.
    """
    found = dsn.located(dsn.merge(target, connect_timeout=str(timeout_s), **words))
    if dsn.parse(found).get("host", "").startswith("@"):
        connection = await _connect_abstract(found, timeout_s)
        await connection.set_autocommit(True)
        connection.prepare_threshold = None
        return connection
    return await psycopg.AsyncConnection.connect(found, autocommit=True, prepare_threshold=None)


async def _connect_abstract(found: str, timeout_s: int) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    # The driver would look up the name of a socket in the abstract namespace (unix(7)) as that of a host.
    connected = await waiting.wait_conn_async(generators.connect(found), interval=_POLL_S, timeout=timeout_s)
    return psycopg.AsyncConnection(connected)
