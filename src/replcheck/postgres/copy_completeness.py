"""What belongs to a restored database beside its rows, asked of the copy's catalogs.

Of a sequence and its column only whether one is behind the other leaves the server, never a value.
"""

from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from replcheck.errors import StatementFailed
from replcheck.model.names import qualified
from replcheck.postgres.catalog import FIRST_USER_OID
from replcheck.postgres.copies import CopyConnection
from replcheck.postgres.dump_databases import PLACEHOLDER
from replcheck.postgres.session import Statement

# Purpose: roles that somebody made, those that are placeholders told apart. PostgreSQL 14+, no privilege.
_ROLES: Statement = """
    SELECT r.rolname::text, coalesce(pg_catalog.shobj_description(r.oid, 'pg_authid') = %s, false)
    FROM pg_catalog.pg_roles AS r WHERE r.oid >= %s::bigint::oid ORDER BY 1
"""

# Purpose: how many roles own something or are granted something in this database, or all, and are not there.
# PostgreSQL 14+, no privilege.
_DANGLING_ROLES: Statement = """
    SELECT count(DISTINCT d.refobjid) FROM pg_catalog.pg_shdepend AS d
    WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass
      AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.oid = d.refobjid)
"""

# Purpose: databases that a DROP DATABASE left half-way. PostgreSQL 14+, no privilege.
_INVALID_DATABASES: Statement = """
    SELECT d.datname::text FROM pg_catalog.pg_database AS d WHERE d.datconnlimit = -2 ORDER BY 1
"""

# Purpose: installed extensions, and whether their files lie on this server. PostgreSQL 14+, no privilege.
_EXTENSIONS: Statement = """
    SELECT e.extname::text, a.name IS NOT NULL FROM pg_catalog.pg_extension AS e
    LEFT JOIN pg_catalog.pg_available_extensions() AS a ON a.name = e.extname ORDER BY 1
"""

# Purpose: materialized views that hold nothing. PostgreSQL 14+, no privilege.
_UNPOPULATED: Statement = """
    SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY 1, 2
"""

# Purpose: indexes that queries do not use, because making them failed or is not finished. PostgreSQL 14+, no privilege.
_INVALID_INDEXES: Statement = """
    SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_index AS i
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE NOT (i.indisvalid AND i.indisready) ORDER BY 1, 2
"""

# Purpose: counts of users' tables, sequences, unlogged tables and large objects. PostgreSQL 14+, no privilege.
_COUNTS: Statement = """
    SELECT count(*) FILTER (WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p'),
           count(*) FILTER (WHERE c.relkind = 'S' AND c.relpersistence = 'p'),
           count(*) FILTER (WHERE c.relkind = 'r' AND c.relpersistence = 'u'),
           (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata)
    FROM pg_catalog.pg_class AS c WHERE c.oid >= %s::bigint::oid
"""

# Purpose: sequences that feed a column of whole numbers, and do not cycle. PostgreSQL 14+, no privilege.
_OWNED_SEQUENCES: Statement = """
    SELECT sn.nspname::text, s.relname::text, tn.nspname::text, t.relname::text, a.attname::text, q.seqincrement > 0
    FROM pg_catalog.pg_depend AS d
    JOIN pg_catalog.pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
    JOIN pg_catalog.pg_sequence AS q ON q.seqrelid = s.oid AND NOT q.seqcycle
    JOIN pg_catalog.pg_namespace AS sn ON sn.oid = s.relnamespace
    JOIN pg_catalog.pg_class AS t ON t.oid = d.refobjid AND t.relkind IN ('r', 'p')
    JOIN pg_catalog.pg_namespace AS tn ON tn.oid = t.relnamespace
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid AND NOT a.attisdropped
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
      AND d.deptype IN ('a', 'i') AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
      AND NOT (pg_catalog.pg_is_in_recovery() AND 'u' IN (s.relpersistence, t.relpersistence))
      AND 't' NOT IN (s.relpersistence, t.relpersistence)
    ORDER BY 1, 2
"""

# Purpose: collations, and the database's own, whose version here is another than was recorded. Fails where this
# server's libraries do not know one of them. PostgreSQL 14+, that of the database 15+, no privilege.
_STALE_COLLATIONS: Statement = """
    SELECT n.nspname::text, c.collname::text FROM pg_catalog.pg_collation AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.collnamespace
    WHERE c.collversion <> pg_catalog.pg_collation_actual_version(c.oid)
      AND (c.oid >= %s::bigint::oid
           OR EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE c.oid = ANY (i.indcollation::oid[])))
    ORDER BY 1, 2
"""
_STALE_DATABASE: Statement = """
    SELECT count(*) FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()
    AND d.datcollversion <> pg_catalog.pg_database_collation_actual_version(d.oid)
"""


# Purpose: when the latest checkpoint was begun, and the transactions that are prepared: of a copy in recovery a server
# tells none. PostgreSQL 14+, no privilege (pg_control_checkpoint is executable by everyone unless revoked).
_PREPARED: Statement = """
    SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
                THEN (SELECT checkpoint_time FROM pg_catalog.pg_control_checkpoint()) END,
           ARRAY (SELECT transaction::text::bigint FROM pg_catalog.pg_prepared_xacts)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedState:
    """Which prepared transactions a copy knows."""

    checkpoint_at: datetime | None
    """When the checkpoint began that its recovery started from, or that came last; None where it is not in recovery."""
    xids: frozenset[int]
    """Their ids, the lower 32 bits; empty in recovery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """What the databases of a copy share."""

    roles: tuple[str, ...]
    placeholders: tuple[str, ...]
    """Roles that were made because a dump names them, and that no backup held."""
    invalid_databases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseState:
    """What one database of a copy holds beside rows; names are as SQL wants them."""

    relations: int
    sequences: int
    unlogged: int
    large_objects: int
    dangling_roles: int
    """Roles that own or are granted something and do not exist."""
    extensions: tuple[str, ...]
    absent_extensions: tuple[str, ...]
    """Installed ones whose files are not on the copy's server."""
    unpopulated: tuple[str, ...]
    invalid_indexes: tuple[str, ...]
    sequences_behind: tuple[str, ...]
    sequences_unread: tuple[str, ...]
    """Sequences that could not be compared with their column."""
    stale_collations: tuple[str, ...]


def read_server_state(copy: CopyConnection) -> ServerState:
    """Return what the databases of a copy share."""
    roles = copy.fetch(_ROLES, [PLACEHOLDER, FIRST_USER_OID])
    return ServerState(
        roles=tuple(name for name, _ in roles),
        placeholders=tuple(name for name, placeholder in roles if placeholder),
        invalid_databases=tuple(name for (name,) in copy.fetch(_INVALID_DATABASES)),
    )


def read_prepared_state(copy: CopyConnection) -> PreparedState:
    """Return which prepared transactions the server of a copy knows."""
    ((checkpoint_at, xids),) = copy.fetch(_PREPARED)
    return PreparedState(checkpoint_at=checkpoint_at, xids=frozenset(xids))


def read_database_state(copy: CopyConnection) -> DatabaseState:
    """Return what the connection's database holds; reads the columns that sequences feed."""
    ((relations, sequences, unlogged, large_objects),) = copy.fetch(_COUNTS, [FIRST_USER_OID])
    ((dangling,),) = copy.fetch(_DANGLING_ROLES)
    extensions = copy.fetch(_EXTENSIONS)
    behind, unread = _sequences(copy)
    return DatabaseState(
        relations=relations,
        sequences=sequences,
        unlogged=unlogged,
        large_objects=large_objects,
        dangling_roles=dangling,
        extensions=tuple(name for name, _ in extensions),
        absent_extensions=tuple(name for name, there in extensions if not there),
        unpopulated=tuple(qualified(*names) for names in copy.fetch(_UNPOPULATED)),
        invalid_indexes=tuple(qualified(*names) for names in copy.fetch(_INVALID_INDEXES)),
        sequences_behind=behind,
        sequences_unread=unread,
        stale_collations=_stale_collations(copy),
    )


def _sequences(copy: CopyConnection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the sequences whose next value is not beyond their column's largest, and those that cannot be read."""
    behind, unread = [], []
    for schema, name, table_schema, table, column, ascending in copy.fetch(_OWNED_SEQUENCES):
        # The next value must lie beyond every value there is, in the direction of the sequence.
        statement = sql.SQL(
            "SELECT EXISTS (SELECT FROM {table} AS t, {sequence} AS s"
            " WHERE t.{column} {beyond} s.last_value OR (NOT s.is_called AND t.{column} = s.last_value))"
        ).format(
            table=sql.Identifier(table_schema, table),
            sequence=sql.Identifier(schema, name),
            column=sql.Identifier(column),
            beyond=sql.SQL(">") if ascending else sql.SQL("<"),
        )
        try:
            ((is_behind,),) = copy.fetch(statement)
        except StatementFailed:
            unread.append(qualified(schema, name))
            continue
        if is_behind:
            behind.append(qualified(schema, name))
    return tuple(behind), tuple(unread)


def _stale_collations(copy: CopyConnection) -> tuple[str, ...]:
    try:
        stale = [qualified(*names) for names in copy.fetch(_STALE_COLLATIONS, [FIRST_USER_OID])]
        if copy.version_num >= 150000:
            ((of_database,),) = copy.fetch(_STALE_DATABASE)
            stale += ["that of the database"] if of_database else []
    except StatementFailed:
        return ("one that this machine does not know",)
    return tuple(stale)
