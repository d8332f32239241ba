"""What a node's software makes of the same data: versions of extensions and collations, per database."""

from dataclasses import dataclass

from replcheck.errors import StatementFailed
from replcheck.postgres.nodes import text
from replcheck.postgres.session import Session, Statement

# Purpose: installed extensions with the version whose files lie on this server. The catalog is the same on a physical
# replica; the files are not. PostgreSQL 14+, no privilege.
_EXTENSIONS: Statement = """
    SELECT pg_catalog.textsend(e.extname::text), pg_catalog.textsend(coalesce(a.default_version, '(not installed)'))
    FROM pg_catalog.pg_extension AS e
    LEFT JOIN pg_catalog.pg_available_extensions() AS a ON a.name = e.extname
"""

# Purpose: collations whose provider has versions, as this server's libraries have them. PostgreSQL 14+, no privilege.
_COLLATIONS: Statement = """
    SELECT pg_catalog.textsend(c.collname::text), pg_catalog.textsend(pg_catalog.pg_collation_actual_version(c.oid))
    FROM pg_catalog.pg_collation AS c
    WHERE c.collversion IS NOT NULL AND c.collname NOT LIKE '%-x-icu'
"""

# Purpose: the database's own collation likewise. PostgreSQL 15+, no privilege.
_DATABASE_COLLATION: Statement = """
    SELECT pg_catalog.textsend(coalesce(pg_catalog.pg_database_collation_actual_version(d.oid), ''))
    FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """Versions by name, as one node has them."""

    extensions: dict[str, str]
    collations: dict[str, str]


async def read_software(session: Session) -> Software:
    """Read a node's versions for the session's database."""
    extensions = {text(name): text(version) for name, version in await session.read(_EXTENSIONS)}
    try:
        collations = {
            text(name): text(version) for name, version in await session.read(_COLLATIONS) if version is not None
        }
    except StatementFailed:
        # A collation that the libraries of this server do not know at all makes the function fail.
        collations = {}
    if session.server_version_num >= 150000:
        ((version,),) = await session.read(_DATABASE_COLLATION)
        collations["(database default)"] = text(version)
    return Software(extensions=extensions, collations=collations)
