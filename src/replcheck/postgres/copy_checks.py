"""Heaps and B-tree indexes of a restored copy, checked by the functions that pg_amcheck calls.

pg_amcheck itself prints what amcheck says, which may quote keys; here only positions and SQLSTATEs are kept. The
extension is only ever made in databases that are ours.
"""

from dataclasses import dataclass
from enum import Enum

from psycopg import sql

from replcheck.errors import StatementFailed
from replcheck.model.names import qualified
from replcheck.postgres import local
from replcheck.postgres.amcheck import STALE_COLLATIONS, STALE_DEFAULT, fault_of, is_report
from replcheck.postgres.copies import NODE, CopyConnection
from replcheck.postgres.failures import is_disk_failure
from replcheck.postgres.nodes import text
from replcheck.postgres.session import Statement

# Purpose: the schema of amcheck, if it has the functions we call. PostgreSQL 14+, no privilege.
_SCHEMA: Statement = """
    SELECT n.nspname::text FROM pg_catalog.pg_extension AS e
    JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
    WHERE e.extname = 'amcheck' AND EXISTS (
        SELECT FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = n.oid AND p.proname = 'verify_heapam')
"""

# Purpose: heaps, with those of TOAST tables and of catalogs, and valid B-tree indexes. The size is as vacuum last saw
# it; unlogged ones cannot be read in recovery. PostgreSQL 14+, no privilege.
_CHECKABLE: Statement = """
    SELECT c.oid::bigint, n.nspname::text, c.relname::text, o.relname::text, c.relkind = 'i',
           pg_catalog.pg_relation_size(c.oid)
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_am AS a ON a.oid = c.relam
    LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid
    LEFT JOIN pg_catalog.pg_class AS o ON o.oid = i.indrelid
    WHERE c.relpersistence <> 't' AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())
      AND ((c.relkind IN ('r', 'm', 't') AND a.amname = 'heap')
           OR (c.relkind = 'i' AND a.amname = 'btree' AND i.indisvalid AND i.indisready))
    ORDER BY pg_catalog.pg_relation_size(c.oid) DESC, c.oid
"""

_OUT_OF_ORDER = "XX002"
"""What amcheck reports an index with whose entries are in a wrong order, and other faults of its structure."""


class CheckedKind(Enum):
    """What is checked."""

    HEAP = "table"
    INDEX = "index"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkable:
    """A heap or an index."""

    oid: int
    kind: CheckedKind
    label: str
    """Schema-qualified and quoted as SQL wants it."""
    table: str
    """Name of the table of an index, else empty."""
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFault:
    """What amcheck reported, without its words."""

    count: int
    block: int | None
    """The first block that was named; None where none was."""
    in_table: bool = False
    """Whether the block of an index's fault is one of its table, with a row that the index does not know."""
    sqlstate: str = ""
    stale_collations: tuple[str, ...] = ()
    """Collations of an index whose order is wrong that this machine has in another version, or not at all."""


def amcheck_schema(copy: CopyConnection) -> str | None:
    """Return the schema of the extension in the connection's database, None where it is not there."""
    rows = copy.fetch(_SCHEMA)
    return str(rows[0][0]) if rows else None


def add_amcheck(dsn: str) -> None:
    """Make the extension in a database of ours; raises NodeError where it cannot be."""
    with local.connect(dsn, node=NODE) as connection:
        # Restored event triggers shall not see it; before PostgreSQL 17 nothing else keeps them from it.
        connection.execute("SELECT pg_catalog.set_config('session_replication_role', 'replica', false)")
        connection.execute("CREATE EXTENSION amcheck SCHEMA pg_catalog")


def remove_amcheck(dsn: str) -> None:
    """Take the extension away again; raises NodeError."""
    with local.connect(dsn, node=NODE) as connection:
        connection.execute("SELECT pg_catalog.set_config('session_replication_role', 'replica', false)")
        connection.execute("DROP EXTENSION IF EXISTS amcheck")


def read_checkable(copy: CopyConnection) -> list[Checkable]:
    """List what can be checked in the connection's database, the largest first."""
    return [
        Checkable(
            oid=oid,
            kind=CheckedKind.INDEX if index else CheckedKind.HEAP,
            label=qualified(schema, name),
            table=table or "",
            size_bytes=size or 0,
        )
        for oid, schema, name, table, index, size in copy.fetch(_CHECKABLE)
    ]


def check(copy: CopyConnection, schema: str, checkable: Checkable, *, every_row: bool) -> CheckFault | None:
    """Check a heap with its TOAST values, or an index; return what is wrong, None where nothing is.

    `every_row` has an index be asked for each row of its table. Raises what the connection raises where the check could
    not be done.
    """
    try:
        if checkable.kind is CheckedKind.HEAP:
            function = sql.Identifier(schema, "verify_heapam")
            statement = sql.SQL(
                "SELECT count(*), min(v.blkno) FROM {}({}::bigint::oid::regclass, check_toast => true) v"
            )
            ((count, block),) = copy.fetch(statement.format(function, sql.Literal(checkable.oid)))
            return CheckFault(count=count, block=block) if count else None
        function = sql.Identifier(schema, "bt_index_check")
        statement = sql.SQL("SELECT {}({}::bigint::oid::regclass, {})")
        copy.fetch(statement.format(function, sql.Literal(checkable.oid), sql.Literal(every_row)))
    except StatementFailed as error:
        if not is_report(error) or is_disk_failure(error):
            raise
        fault = fault_of(error)
        if fault.row is not None:
            return CheckFault(count=1, block=fault.row[0], in_table=True, sqlstate=error.sqlstate)
        block = fault.block if fault.block is not None else error.block
        # A wrong order is told without a block; pages and rows that are amiss owe nothing to a collation.
        stale = _stale_collations(copy, checkable.oid) if error.sqlstate == _OUT_OF_ORDER and block is None else ()
        return CheckFault(count=1, block=block, sqlstate=error.sqlstate, stale_collations=stale)
    return None


def _stale_collations(copy: CopyConnection, index_oid: int) -> tuple[str, ...]:
    try:
        names = [qualified(text(schema), text(name)) for schema, name in copy.fetch(STALE_COLLATIONS, [index_oid])]
        if copy.version_num >= 150000:
            ((stale,),) = copy.fetch(STALE_DEFAULT, [index_oid])
            names += ["that of the database"] if stale else []
    except StatementFailed:
        # The function fails for a collation that this machine's libraries do not know at all.
        return ("one that this machine does not know",)
    return tuple(dict.fromkeys(names))
