"""Translate the driver's exceptions into replcheck's own, in one place.

Server messages quote values, so a message is kept only where its SQLSTATE and its wording are known to hold none;
everywhere else the SQLSTATE alone is told. Source of the codes: PostgreSQL manual, Appendix A.
"""

import re

import psycopg

from replcheck.errors import (
    AuthenticationRefused,
    ConnectionsExhausted,
    DatabaseMissing,
    NodeError,
    NodeLost,
    NodeStarting,
    NodeUnreachable,
    StatementCancelled,
    StatementFailed,
)

SURROUNDINGS = (
    "Permission denied",
    "Operation not permitted",
    "Input/output error",
    "Read-only file system",
    "Too many open files",
    "Cannot allocate memory",
    "Stale file handle",
)
"""The system's words (C locale) for what is wrong with the place of a file, and not with its content."""
_DISK_FAILED = "58030"
CORRUPTION_SQLSTATES = frozenset({"XX001", "XX002", "58P01", "58030"})
"""data_corrupted, index_corrupted, undefined_file, io_error: the server could not read its own files."""

_CANCELLED_SQLSTATES = frozenset({"57014", "55P03", "40001", "40P01", "55006"})
_FILE = r'(file |directory )?"(base|global|pg_tblspc|pg_xact|pg_subtrans|pg_multixact|pg_commit_ts)/[\w./]*"'
_CORRUPTION_TEXT = re.compile(
    r"missing chunk number \d+ for toast value \d+ in \w+"
    r"|unexpected chunk (number|size) \d+.{0,60}for toast value \d+ in \w+"
    r"|invalid memory alloc request size \d+"
    r"|compressed (pglz|lz4) data is corrupt"
    rf"|could not (open|read|fstat|stat|seek( to end)? of|access) {_FILE}.{{0,200}}"
    rf"|could not read blocks? [\d.]+ (in|of) {_FILE}.{{0,80}}"
    r"|could not access status of transaction \d+"
    r'|invalid page in block \d+ of relation "?[\w./]+"?(; zeroing out page)?'
    r"|(index|relation) \S+ contains (unexpected zero page|corrupted page) at block \d+"
    r"|found xm(in|ax) \d+ from before relfrozenxid \d+"
    r"|MultiXactId \d+ (has not been created yet|does no longer exist).{0,40}"
    r"|invalid compression method id \d+"
    r"|cache lookup failed for type \d+"
)
"""Whole messages that damaged files cause and that hold no value (PostgreSQL source: detoast.c, md.c, slru.c ...)."""
_BLOCK = re.compile(r"\bblocks? (\d+)")


_REFUSAL = re.compile(
    r"authentication failed"
    r"|no pg_hba\.conf entry"
    r"|pg_hba\.conf rejects"
    r'|role ".*" does not exist'
    r"|is not permitted to log in"
    r"|permission denied for database"
    r"|fe_sendauth"
    r"|authentication method requirement"
    r"|channel binding required",
    re.DOTALL,
)
"""How servers and libpq say that they let a role not in: libpq tells no SQLSTATE of a connection that failed
(PostgreSQL source, auth.c, miscinit.c and fe-auth.c)."""
_SERVICE_CAUSES = {
    "definition of service": "no service of that name is defined",
    "service file": "the service file cannot be read",
}
"""What libpq says of a service that it cannot take an address from (PostgreSQL source, fe-connect.c)."""


def is_corruption(error: StatementFailed) -> bool:
    """Return whether the error says that a node cannot read its own rows, rather than that it refused to.

    XX000 (internal error) counts only where its wording is one that damaged pages are known to cause.
    """
    return error.sqlstate in CORRUPTION_SQLSTATES or (error.sqlstate == "XX000" and bool(error.detail))


def is_disk_failure(error: StatementFailed) -> bool:
    """Return whether the system failed to read or write a file: of a copy it tells of this machine's disk alone."""
    return error.sqlstate == _DISK_FAILED


def is_too_wide(error: StatementFailed) -> bool:
    """Return whether a row does not fit into the server's largest value, 1 GB: it can be read column by column.

    A damaged length looks the same, until it is read so.
    """
    return error.sqlstate == "54000" or error.detail.startswith("invalid memory alloc request size")


def connect_failure(error: psycopg.Error, *, node: str, address: str) -> NodeError:
    """Translate what `connect` raised; `address` is host and port, never a connection string."""
    state, text = error.sqlstate or "", str(error)
    if state.startswith("28") or _REFUSAL.search(text):
        return AuthenticationRefused(
            f'node "{node}" at {address} refuses the role or its password',
            node=node,
            hint="Check that the role exists and may log in, the password file, and pg_hba.conf of that server.",
        )
    if state == "53300" or _says(text, "too many clients", "too many connections", "remaining connection slots"):
        return ConnectionsExhausted(
            f'node "{node}" at {address} has no free connection',
            node=node,
            hint="Try again with fewer --jobs, or raise max_connections there.",
        )
    damage = _damage_on_entry(text)
    if damage:
        return StatementFailed(
            f'node "{node}" at {address} cannot open the database: {damage}',
            node=node,
            sqlstate=_damage_sqlstate(damage),
            detail=damage,
            block=_block(damage),
            hint="Look for I/O errors on that server.",
        )
    if state.startswith("3D") or (_says(text, "database") and _says(text, "does not exist")):
        return DatabaseMissing(
            f'node "{node}" at {address} has no such database', node=node, hint="Name one with dbname=."
        )
    if state == "57P03" or _says(text, "starting up", "shutting down", "recovery mode", "not accepting connections"):
        return NodeStarting(
            f'node "{node}" at {address} is not accepting connections (it is starting, stopping or recovering)',
            node=node,
            hint="Wait until the server is up, or look at its log.",
        )
    cause = next((told for phrase, told in _SERVICE_CAUSES.items() if phrase in text), None)
    if cause is not None:
        return NodeUnreachable(
            f'node "{node}" has no address: {cause}',
            node=node,
            hint="Look into the file that PGSERVICEFILE names, or ~/.pg_service.conf.",
        )
    return NodeUnreachable(
        f'node "{node}" does not answer at {address}{_cause(text)}',
        node=node,
        hint="Check that the server runs and that host, port and firewall let this machine in.",
    )


def statement_failure(error: psycopg.Error, *, node: str, broken: bool) -> NodeError:
    """Translate what a statement raised; `broken` says that the connection is gone with it."""
    state = error.sqlstate
    if broken or (state is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)):
        return NodeLost(f'the connection to node "{node}" was lost', node=node, sqlstate=state)
    if state is None:
        what = type(error).__name__
        return StatementFailed(f'the driver could not read what node "{node}" sent ({what})', node=node, sqlstate="")
    detail = _harmless_text(state, error)
    if state in _CANCELLED_SQLSTATES:
        return StatementCancelled(
            f'node "{node}" cancelled a statement (SQLSTATE {state})', node=node, sqlstate=state, detail=detail
        )
    return StatementFailed(
        f'node "{node}" refused a statement (SQLSTATE {state}){": " + detail if detail else ""}',
        node=node,
        sqlstate=state,
        detail=detail,
        block=_block(detail),
    )


def _damage_on_entry(text: str) -> str:
    """Return what a server said that could not read the catalogs of the database asked for; empty otherwise."""
    fatal = re.search(r"FATAL:  (.+)", text)
    found = _CORRUPTION_TEXT.fullmatch(fatal.group(1).strip()) if fatal else None
    return found.group() if found else ""


def _damage_sqlstate(damage: str) -> str:
    """Return the SQLSTATE that goes with a text of damage: libpq tells none for a connection that failed."""
    if "No such file" in damage:
        return "58P01"
    return "XX001" if damage.startswith(("invalid page", "could not read block")) else "XX000"


def _block(detail: str) -> int | None:
    found = _BLOCK.search(detail)
    return int(found.group(1)) if found else None


def _harmless_text(state: str, error: psycopg.Error) -> str:
    text = (error.diag.message_primary or "").split("\n")[0]
    known = state in CORRUPTION_SQLSTATES or state == "XX000"
    return text if known and _CORRUPTION_TEXT.fullmatch(text) else ""


def _says(text: str, *phrases: str) -> bool:
    return any(phrase in text for phrase in phrases)


def _cause(text: str) -> str:
    causes = {
        "Connection refused": "connection refused",
        "No such file or directory": "no such socket",
        "timeout": "timed out",
        "could not translate host name": "unknown host name",
        "failed to resolve host": "unknown host name",
        "Name or service not known": "unknown host name",
        "is not read-only": "not what target_session_attrs asks for",
        "is read-only": "not what target_session_attrs asks for",
        "in hot standby mode": "not what target_session_attrs asks for",
        "certificate": "certificate not accepted",
        "SSL": "TLS could not be agreed",
        "Permission denied": "permission denied",
    }
    return next((f" ({cause})" for phrase, cause in causes.items() if phrase in text), "")
