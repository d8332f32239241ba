"""B-tree indexes and their tables: which there are, and whether they match, as the extension amcheck tells.

Only `bt_index_check` is ever called: it takes ACCESS SHARE and runs on standbys too, while `bt_index_parent_check`
keeps writers out and cannot run in recovery. Of what it reports SQLSTATE and places are kept, never its text.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import psycopg
from psycopg import sql

from replcheck.errors import StatementFailed
from replcheck.model.names import qualified
from replcheck.postgres.failures import is_corruption
from replcheck.postgres.nodes import raw_name, text
from replcheck.postgres.session import Name, Session, Statement

BTREE = "btree"

# Purpose: the indexes of tables, those of their TOAST tables with the table they belong to. The size is as vacuum last
# saw it, since to measure it takes a lock. PostgreSQL 14+, no privilege.
_INDEXES: Statement = """
    SELECT c.oid::bigint, coalesce(o.oid, t.oid)::bigint, pg_catalog.textsend(n.nspname::text),
           pg_catalog.textsend(c.relname::text), pg_catalog.textsend(a.amname::text), i.indisvalid AND i.indisready,
           greatest(c.relpages, 0)::bigint * pg_catalog.current_setting('block_size')::bigint, o.oid IS NOT NULL
    FROM pg_catalog.pg_index AS i
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_am AS a ON a.oid = c.relam
    JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
    LEFT JOIN pg_catalog.pg_class AS o ON o.reltoastrelid = t.oid
    WHERE coalesce(o.oid, t.oid) = ANY (%s::bigint[]::oid[]) AND c.relkind = 'i'
    ORDER BY c.relpages DESC, c.oid
"""

# Purpose: whether amcheck is there, in which schema its function lies (any may be chosen), and whether the role may run
# it. The function is NULL where the extension is of a version without it. PostgreSQL 14+, no privilege.
_FUNCTION: Statement = """
    SELECT pg_catalog.textsend(n.nspname::text), p.oid IS NOT NULL,
           coalesce(pg_catalog.has_function_privilege(p.oid, 'EXECUTE'), false),
           pg_catalog.has_schema_privilege(n.oid, 'USAGE')
    FROM pg_catalog.pg_extension AS e
    JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
    LEFT JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid
        AND d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e'
        AND d.objid IN (SELECT f.oid FROM pg_catalog.pg_proc AS f
                        WHERE f.proname = 'bt_index_check' AND f.proargtypes = '2205 16'::oidvector)
    LEFT JOIN pg_catalog.pg_proc AS p ON p.oid = d.objid
    WHERE e.extname = 'amcheck'
"""

# Purpose: collations of an index that have another version on this server than when they were recorded. PostgreSQL 14+,
# that of the database 15+, no privilege.
STALE_COLLATIONS: Statement = """
    SELECT pg_catalog.textsend(n.nspname::text), pg_catalog.textsend(c.collname::text)
    FROM pg_catalog.pg_index AS i
    CROSS JOIN LATERAL unnest(i.indcollation::oid[]) AS u (coll)
    JOIN pg_catalog.pg_collation AS c ON c.oid = u.coll
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.collnamespace
    WHERE i.indexrelid = %s::bigint::oid AND c.collversion <> pg_catalog.pg_collation_actual_version(c.oid)
"""
STALE_DEFAULT: Statement = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indexrelid = %s::bigint::oid
                   AND 'pg_catalog."default"'::regcollation = ANY (i.indcollation::oid[]))
       AND EXISTS (SELECT FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()
                   AND d.datcollversion <> pg_catalog.pg_database_collation_actual_version(d.oid))
"""

# Purpose: have every scan of a table begin at its first block, so that two looks report the same row. PostgreSQL 8.3+.
_SAME_ORDER: Statement = "SELECT pg_catalog.set_config('synchronize_seqscans', 'off', false)"

_REPORTED_SQLSTATES = frozenset({"XX001", "XX002"})
_UNINDEXED_ROW = re.compile(r'heap tuple \((\d+),(\d+)\) from table ".*" lacks matching index tuple within index ".*"')
_AT_BLOCK = re.compile(r'index ".*" contains (?:unexpected zero|corrupted) page at block (\d+)', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index as a node's catalog describes it."""

    oid: int
    table_oid: int
    """The table, where it is one of a TOAST table the table whose values lie there."""
    schema: str
    name: str
    method: str
    valid: bool
    """False while it is built, and where building it failed: queries do not use it."""
    size_bytes: int
    toast: bool

    @property
    def label(self) -> str:
        """Return the schema-qualified name, quoted where SQL needs it."""
        return qualified(self.schema, self.name)


class Access(Enum):
    """Whether amcheck can be asked."""

    GRANTED = "granted"
    NOT_INSTALLED = "not installed"
    TOO_OLD = "too old"
    NOT_GRANTED = "not granted"
    NO_USAGE = "no usage of its schema"


@dataclass(frozen=True, slots=True, kw_only=True)
class Amcheck:
    """The extension in one database of one node."""

    access: Access
    schema: str = ""
    """Where it is installed; empty where it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFault:
    """What amcheck reported of an index, without its words."""

    sqlstate: str
    row: tuple[int, int] | None = None
    """Position of the row that the index does not know, where that was reported."""
    block: int | None = None
    """Block of the index, where one was named."""
    mark: str = ""
    """Tells two reports apart; means nothing else."""


async def read_indexes(session: Session, table_oids: Sequence[int]) -> dict[int, Index]:
    """List the indexes of tables by oid, the largest first."""
    return {
        oid: Index(
            oid=oid,
            table_oid=table_oid,
            schema=text(schema),
            name=text(name),
            method=text(method),
            valid=valid,
            size_bytes=size_bytes,
            toast=toast,
        )
        for oid, table_oid, schema, name, method, valid, size_bytes, toast in await session.read(
            _INDEXES, [list(table_oids)]
        )
    }


async def read_amcheck(session: Session) -> Amcheck:
    """Tell whether the role may check indexes in the session's database."""
    rows = await session.fetch(_FUNCTION)
    if not rows:
        return Amcheck(access=Access.NOT_INSTALLED)
    schema, there, executable, usable = rows[0]
    if not there:
        access = Access.TOO_OLD
    elif not executable:
        access = Access.NOT_GRANTED
    else:
        access = Access.GRANTED if usable else Access.NO_USAGE
    return Amcheck(access=access, schema=text(schema))


async def prepare_checks(session: Session) -> None:
    """Make the checks of a session report what is wrong in the same order each time."""
    await session.fetch(_SAME_ORDER)


async def check_index(session: Session, amcheck: Amcheck, index_oid: int) -> IndexFault | None:
    """Check an index's structure, and that it knows every row of its table; return what is wrong, None where nothing.

    Each call takes a new snapshot. A row that is not indexed is found with a probability of at least 98%, as long as
    maintenance_work_mem has room for 2 bytes a row (PostgreSQL manual, amcheck, heapallindexed). Raises what the
    session raises where the check could not be done.
    """
    function = Name(raw_name(amcheck.schema), b"bt_index_check")
    statement = sql.SQL("SELECT {}({}::bigint::oid::regclass, true)").format(function, sql.Literal(index_oid))
    try:
        await session.fetch(statement)
    except StatementFailed as error:
        if not is_report(error):
            raise
        return fault_of(error)
    return None


async def stale_collations(session: Session, index_oid: int) -> tuple[str, ...]:
    """Return the collations an index sorts by that the server's libraries have in another version than was recorded."""
    try:
        names = [
            qualified(text(schema), text(name)) for schema, name in await session.fetch(STALE_COLLATIONS, [index_oid])
        ]
        if session.server_version_num >= 150000:
            ((stale,),) = await session.fetch(STALE_DEFAULT, [index_oid])
            names += ["of the database"] if stale else []
    except StatementFailed:
        # A collation that this server's libraries do not know at all makes the function fail.
        return ()
    return tuple(dict.fromkeys(names))


def is_report(error: StatementFailed) -> bool:
    """Return whether an error of a check tells that something is wrong, rather than that it could not be done."""
    # A missing library (58P01) and a missing file of the index differ in their wording alone.
    return error.sqlstate in _REPORTED_SQLSTATES or (is_corruption(error) and bool(error.detail))


def fault_of(error: StatementFailed) -> IndexFault:
    """Return what a check reported, without its words."""
    cause = error.__cause__
    said = (cause.diag.message_primary or "") if isinstance(cause, psycopg.Error) else ""
    row = _UNINDEXED_ROW.match(said)
    block = _AT_BLOCK.fullmatch(said)
    return IndexFault(
        sqlstate=error.sqlstate,
        row=(int(row[1]), int(row[2])) if row else None,
        block=int(block[1]) if block else None,
        mark=hashlib.sha256(f"{error.sqlstate} {said}".encode("utf-8", "replace")).hexdigest()[:16],
    )
