"""What a node's software makes of the same data: versions of extensions and collations, per database."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from replcheck.errors import StatementCancelled, StatementFailed
from replcheck.model.names import qualified
from replcheck.postgres.nodes import text
from replcheck.postgres.programs import Programs
from replcheck.postgres.session import Session, Statement

# Purpose: installed extensions with the version whose files lie on this server. The catalog is the same on a physical
# replica; the files are not. PostgreSQL 14+, no privilege.
_EXTENSIONS: Statement = """
    SELECT pg_catalog.textsend(e.extname::text), pg_catalog.textsend(coalesce(a.default_version, '(not installed)'))
    FROM pg_catalog.pg_extension AS e
    LEFT JOIN pg_catalog.pg_available_extensions() AS a ON a.name = e.extname
"""

# Purpose: collations whose provider has versions. Those of the ICU locales that initdb lists are left out: there are
# hundreds, and all have the version of the library. PostgreSQL 14+, no privilege.
_COLLATIONS: Statement = """
    SELECT c.oid::bigint, pg_catalog.textsend(n.nspname::text), pg_catalog.textsend(c.collname::text)
    FROM pg_catalog.pg_collation AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.collnamespace
    WHERE c.collversion IS NOT NULL AND c.collname NOT LIKE '%-x-icu'
    ORDER BY c.oid
"""

# Purpose: the versions that this server's libraries have of collations; fails where they do not know one of them.
# PostgreSQL 14+, no privilege.
_COLLATION_VERSIONS: Statement = """
    SELECT o.oid, pg_catalog.textsend(pg_catalog.pg_collation_actual_version(o.oid::oid))
    FROM unnest(%s::bigint[]) AS o (oid)
"""

# Purpose: the database's own collation likewise. PostgreSQL 15+, no privilege.
_DATABASE_COLLATION: Statement = """
    SELECT pg_catalog.textsend(coalesce(pg_catalog.pg_database_collation_actual_version(d.oid), ''))
    FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()
"""


DATABASE_DEFAULT = "(database default)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """Versions by name, as one node has them."""

    extensions: Mapping[str, str]
    collations: Mapping[str, str | None]
    """None where the node's libraries do not know a collation at all."""


async def read_software(session: Session) -> Software:
    """Read a node's versions for the session's database."""
    extensions = {text(name): text(version) for name, version in await session.read(_EXTENSIONS)}
    collations = await _read_collations(session)
    if session.server_version_num >= 150000:
        try:
            ((version,),) = await session.read(_DATABASE_COLLATION)
            collations[DATABASE_DEFAULT] = text(version)
        except StatementCancelled:
            raise
        except StatementFailed:
            collations[DATABASE_DEFAULT] = None
    return Software(extensions=extensions, collations=collations)


def available_extensions(programs: Programs) -> frozenset[str] | None:
    """Return the names of the extensions whose files lie beside some programs; None where that cannot be told."""
    base = programs.bindir.parent
    places = [base / "share" / "extension", base / "share" / "postgresql" / "extension"]
    places.append(Path("/usr/share/postgresql") / str(programs.major) / "extension")
    for place in places:
        # Every installation has this one.
        if (place / "plpgsql.control").is_file():
            return frozenset(control.stem for control in place.glob("*.control"))
    return None


async def _read_collations(session: Session) -> dict[str, str | None]:
    named = {oid: _label(text(schema), text(name)) for oid, schema, name in await session.read(_COLLATIONS)}
    try:
        versions = await _read_versions(session, list(named))
    except StatementCancelled:
        raise
    except StatementFailed:
        versions = {}
        for oid in named:
            versions |= await _read_alone(session, oid)
    return {named[oid]: version for oid, version in versions.items()}


async def _read_versions(session: Session, oids: list[int]) -> dict[int, str | None]:
    rows = await session.read(_COLLATION_VERSIONS, [oids])
    return {oid: text(version) for oid, version in rows if version is not None}


async def _read_alone(session: Session, oid: int) -> dict[int, str | None]:
    """Read the version of one collation, None where this server's libraries do not know it."""
    try:
        return await _read_versions(session, [oid])
    except StatementCancelled:
        raise
    except StatementFailed:
        return {oid: None}


def _label(schema: str, name: str) -> str:
    return name if schema == "pg_catalog" else qualified(schema, name)
