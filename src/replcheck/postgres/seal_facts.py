"""What must come back with a cluster besides its rows: roles, tablespaces, extensions, collations, invalid indexes."""

from datetime import UTC, datetime

from replcheck.model.names import qualified
from replcheck.model.seal import DatabaseFacts, PreparedTransaction
from replcheck.postgres.catalog import FIRST_USER_OID
from replcheck.postgres.nodes import text
from replcheck.postgres.portable import read_monetary_locale
from replcheck.postgres.session import Session, Statement
from replcheck.postgres.software import read_software

# Purpose: roles and tablespaces that somebody made. PostgreSQL 14+, no privilege.
_ROLES: Statement = """
    SELECT pg_catalog.textsend(rolname::text) FROM pg_catalog.pg_roles
    WHERE oid >= %s AND rolname NOT LIKE 'pg\\_%%' ORDER BY rolname
"""
_TABLESPACES: Statement = """
    SELECT pg_catalog.textsend(spcname::text) FROM pg_catalog.pg_tablespace
    WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY spcname
"""

# Purpose: prepared transactions, of all databases. PostgreSQL 14+, no privilege.
_PREPARED: Statement = """
    SELECT transaction::text::bigint, extract(epoch FROM prepared)::float8 FROM pg_catalog.pg_prepared_xacts
"""

# Purpose: this database's encoding and locale, and counts of what it holds. PostgreSQL 14+, no privilege.
_DATABASE: Statement = """
    SELECT pg_catalog.textsend(d.datname::text), pg_catalog.textsend(pg_catalog.pg_encoding_to_char(d.encoding)::text),
           pg_catalog.textsend(d.datcollate::text), pg_catalog.textsend(d.datctype::text),
           (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata),
           (SELECT count(*) FROM pg_catalog.pg_class WHERE relkind = 'S' AND oid >= %s AND relpersistence = 'p'),
           (SELECT count(*) FROM pg_catalog.pg_class
            WHERE relkind IN ('r', 'm') AND oid >= %s AND relpersistence = 'p')
    FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()
"""
_EXTENSIONS: Statement = """
    SELECT pg_catalog.textsend(extname::text), pg_catalog.textsend(extversion) FROM pg_catalog.pg_extension
"""
_INVALID_INDEXES: Statement = """
    SELECT pg_catalog.textsend(n.nspname::text), pg_catalog.textsend(c.relname::text)
    FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE NOT i.indisvalid ORDER BY 1, 2
"""
_UNPOPULATED: Statement = """
    SELECT pg_catalog.textsend(n.nspname::text), pg_catalog.textsend(c.relname::text)
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY 1, 2
"""


async def read_roles(session: Session) -> tuple[str, ...]:
    """Return the roles that somebody made."""
    return tuple(text(name) for (name,) in await session.read(_ROLES, [FIRST_USER_OID]))


async def read_tablespaces(session: Session) -> tuple[str, ...]:
    """Return the tablespaces that somebody made."""
    return tuple(text(name) for (name,) in await session.read(_TABLESPACES))


async def read_prepared(session: Session) -> frozenset[PreparedTransaction]:
    """Return the transactions that are prepared now, whatever the session's snapshot shows."""
    rows = await session.read(_PREPARED)
    return frozenset(PreparedTransaction(xid=xid, prepared_at=datetime.fromtimestamp(at, UTC)) for xid, at in rows)


async def read_database_facts(session: Session) -> DatabaseFacts:
    """Return the facts of the session's database, as of its snapshot."""
    ((name, encoding, collate, ctype, objects, sequences, relations),) = await session.read(
        _DATABASE, [FIRST_USER_OID, FIRST_USER_OID]
    )
    software = await read_software(session)
    return DatabaseFacts(
        name=text(name),
        encoding=text(encoding),
        collate=text(collate),
        ctype=text(ctype),
        lc_monetary=await read_monetary_locale(session),
        extensions={text(name): text(version) for name, version in await session.read(_EXTENSIONS)},
        collation_versions=dict(software.collations),
        large_objects=objects,
        sequences=sequences,
        relations=relations,
        invalid_indexes=await _names(session, _INVALID_INDEXES),
        unpopulated_views=await _names(session, _UNPOPULATED),
    )


async def _names(session: Session, statement: Statement) -> tuple[str, ...]:
    return tuple(qualified(text(schema), text(name)) for schema, name in await session.read(statement))
