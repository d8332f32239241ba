"""Restores a dump in plain SQL by a connection of ours, statement by statement, and goes on after what fails.

What would reach beyond the one database is left out: the server may be the user's own, with databases of their own. A
dump made with --create sets parameters of its database by name, and those of roles in it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from replcheck.postgres.plain_dumps import Label, PlainDump, SqlStatement
from replcheck.postgres.restore_errors import Cause, RestoreError, classified

_SHARED = rb"(?:DATABASE|GROUP|ROLE|SUBSCRIPTION|SYSTEM|TABLESPACE|USER(?!\s+MAPPING\b))\b"
"""What belongs to the whole server, or reaches another."""
_LEFT_OUT = re.compile(
    rb"(?:CREATE|ALTER|DROP|COMMENT\s+ON)\s+" + _SHARED + rb"|(?:REASSIGN|DROP)\s+OWNED\b"
    # Privileges on what is shared, and membership in roles, which names no object.
    rb"|(?:GRANT|REVOKE)\s.*?\sON\s+(?:DATABASE|PARAMETER|TABLESPACE)\b|(?:GRANT|REVOKE)\b(?!.*\sON\s)"
    rb"|SET\s+default_tablespace\b|SET\s+SESSION\s+AUTHORIZATION\b|SECURITY\s+LABEL\b"
    rb"|SELECT pg_catalog\.pg_extension_config_dump\b",
    re.IGNORECASE | re.DOTALL,
)
_OWNERSHIP = re.compile(rb"ALTER [^;]*? OWNER TO [^;]*;$|GRANT |REVOKE |ALTER DEFAULT PRIVILEGES ")
_MAKES_REACH = re.compile(rb"CREATE (?:EXTENSION|FOREIGN DATA WRAPPER|SERVER)\b")
_TELL_EVERY = 64
_TOGETHER_BYTES = 256 * 1024
"""How much of consecutive INSERTs is sent at once: a round trip for each row would take ten times as long."""


@dataclass(slots=True, kw_only=True)
class PlainRestore:
    """One restore; `errors` tells what failed."""

    connection: "psycopg.Connection[tuple[Any, ...]]"
    """In autocommit mode, to a database of ours that is empty."""
    disarm: Callable[[], None]
    """Called after what may reach another server was made; keeps it from doing so."""
    missing_role: Callable[[str], bool]
    """Told of a role that is missing; returns whether it has been made, and the statement may be tried again."""
    progressed: Callable[[int], None]
    """Told the bytes that were read; may raise."""
    ownership: bool = True
    """Whether owners and privileges are restored."""
    errors: list[RestoreError] = field(default_factory=list)
    _inserts: list[SqlStatement] = field(default_factory=list)
    _waiting_bytes: int = 0

    def run(self, dump: PlainDump) -> None:
        """Restore all of a dump; raises PlainDumpError where it is damaged, and what its stream raises."""
        for number, statement in enumerate(dump.statements()):
            if number % _TELL_EVERY == 0 or statement.copies:
                self.progressed(dump.read_bytes)
            if reaches_beyond(statement.text) or (not self.ownership and _OWNERSHIP.match(statement.text)):
                continue
            if self.connection.closed:
                self.errors.append(RestoreError(cause=Cause.SERVER_LOST, entry=_entry(statement.label)))
                return
            if statement.text.startswith(b"INSERT INTO "):
                self._collect(statement)
                continue
            self._insert()
            if statement.copies:
                self._copy(dump, statement)
            else:
                self.execute(statement)
        self._insert()
        self.progressed(dump.read_bytes)

    def _collect(self, statement: SqlStatement) -> None:
        self._inserts.append(statement)
        self._waiting_bytes += len(statement.text)
        if self._waiting_bytes > _TOGETHER_BYTES:
            self._insert()

    def _insert(self) -> None:
        """Run the INSERTs that were collected: together, or one by one where one of them fails."""
        waiting, self._inserts, self._waiting_bytes = self._inserts, [], 0
        if not waiting:
            return
        try:
            self.connection.execute(b"".join(statement.text for statement in waiting))
        except psycopg.Error:
            # What is sent together is one transaction: nothing of it has stayed.
            for statement in waiting:
                self.execute(statement)

    def execute(self, statement: SqlStatement) -> None:
        """Run one statement, again where it missed a role that has been made since; what fails is kept."""
        tried: set[str] = set()
        while True:
            try:
                self.connection.execute(statement.text)
            except psycopg.Error as error:
                failed = _classified(error, statement)
                again = (
                    failed.cause is Cause.ROLE_MISSING and failed.name not in tried and self.missing_role(failed.name)
                )
                tried.add(failed.name)
                if again:
                    continue
                self.errors.append(failed)
                return
            if _MAKES_REACH.match(statement.text):
                self.disarm()
            return

    def _copy(self, dump: PlainDump, statement: SqlStatement) -> None:
        try:
            with self.connection.cursor() as cursor, cursor.copy(statement.text) as copy:
                for chunk in dump.data():
                    copy.write(chunk)
                    self.progressed(dump.read_bytes)
        except psycopg.Error as error:
            self.errors.append(_classified(error, statement))


def reaches_beyond(statement: bytes) -> bool:
    """Return whether a statement is about more than the database it runs in: roles, other databases, the server.

    >>> reaches_beyond(b"ALTER ROLE app IN DATABASE clinic SET work_mem TO '1GB';")
    True
    >>> reaches_beyond(b"ALTER TABLE clinic.visit OWNER TO app;")
    False
    """
    return _LEFT_OUT.match(statement) is not None


def _classified(error: psycopg.Error, statement: SqlStatement) -> RestoreError:
    entry = _entry(statement.label)
    if error.sqlstate is None:
        return RestoreError(cause=Cause.SERVER_LOST, entry=entry)
    return classified(error.sqlstate, (error.diag.message_primary or "").split("\n")[0], entry=entry)


def _entry(label: Label) -> str:
    parts = (label.kind, label.schema if label.schema != "-" else "", label.name)
    return " ".join(part for part in parts if part)
