"""The encoding `portable/1`: rows as a dump carries them, the same before it was taken and after it was restored.

A value goes in as its binary send function has it only where the type is built in, its oid the same in every cluster,
and text and bytes stand for each other one to one. Everything else is printed by its type's output function: what holds
type oids of this cluster (enums, domains, composites, types of extensions), what names objects by oid (regclass and its
like), what holds floats, whose NaN has several forms, arrays, which may carry a bitmap of NULLs without any, and xml,
which loses its declared encoding. An output function is what every SELECT calls, so no owner of a type runs code here
that reading the table does not run. Columns go by their names, because a restore may order those of inherited tables
anew. Positions are left out, so a relation is a multiset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from psycopg import sql

from replcheck.postgres.catalog import Column, Form
from replcheck.postgres.digests import hashes_bytes, record_hash, value_of
from replcheck.postgres.nodes import text
from replcheck.postgres.session import Session, Statement

# Purpose: the columns that a dump carries, by name, and whether their bytes are portable. PostgreSQL 14+, no privilege.
_COLUMNS: Statement = """
    SELECT a.attrelid::bigint, array_agg(pg_catalog.textsend(a.attname::text) ORDER BY a.attname),
           array_agg(a.atttypid = ANY (
               '{bool,bytea,"char",name,int2,int4,int8,oid,text,varchar,bpchar,uuid,date,time,timetz,timestamp,
                 timestamptz,interval,numeric,bit,varbit,inet,cidr,macaddr,macaddr8,money,json,jsonb}'::regtype[]
           ) ORDER BY a.attname)
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = ANY (%s::bigint[]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
    GROUP BY a.attrelid
"""

# Purpose: relations that belong to an extension: a dump leaves them to CREATE EXTENSION, but carries the rows of those
# that pg_extension_config_dump named, all or the ones that meet a condition. PostgreSQL 14+, no privilege.
_OF_EXTENSIONS: Statement = """
    SELECT d.objid::bigint, c.condition IS NOT NULL, coalesce(c.condition, '') <> ''
    FROM pg_catalog.pg_depend AS d
    LEFT JOIN LATERAL (
        SELECT coalesce(e.extcondition[p.n], '') AS condition
        FROM pg_catalog.pg_extension AS e CROSS JOIN LATERAL generate_subscripts(e.extconfig, 1) AS p (n)
        WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND e.oid = d.refobjid AND e.extconfig[p.n] = d.objid
        LIMIT 1
    ) AS c ON true
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'e' AND d.objid = ANY (%s::bigint[]::oid[])
"""

# Purpose: all large objects, with what they hold and how long they are. A restore writes out the pages that a sparse
# object lacks, so zeros at the end of a page and pages of zeros alone are left out, and the length is told apart.
# Needs pg_read_all_data or superuser; PostgreSQL 14+. A page is a quarter of a block (storage/large_object.h).
_LARGE_OBJECTS = """
    SELECT count(DISTINCT o.oid), count(*), coalesce(sum({hash}), 0)::text::bytea FROM (
        SELECT m.oid::bigint AS oid, 0::bigint AS part, 'm'::text AS what, ''::bytea AS data
        FROM pg_catalog.pg_largeobject_metadata AS m
        UNION ALL
        SELECT p.loid::bigint, max(p.pageno::bigint * {page} + length(p.data)), 'l', ''
        FROM pg_catalog.pg_largeobject AS p GROUP BY p.loid
        UNION ALL
        SELECT p.loid::bigint, p.pageno::bigint, 'p', rtrim(p.data, '\\x00'::bytea) FROM pg_catalog.pg_largeobject AS p
        WHERE rtrim(p.data, '\\x00'::bytea) <> ''
    ) AS o
"""


# Purpose: relations whose rows depend on the locale they are restored in: partitions, whose bounds may depend on the
# order of texts, and those with stored generated columns. PostgreSQL 14+, no privilege.
_COMPUTED: Statement = """
    SELECT c.oid::bigint FROM pg_catalog.pg_class AS c
    WHERE c.oid = ANY (%s::bigint[]::oid[]) AND (c.relispartition OR EXISTS (
        SELECT FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = 's'
    ))
"""


# Purpose: relations with a value of type money, also inside an array, a range, a domain or a composite: a dump holds
# its text, which lc_monetary decides. PostgreSQL 14+, no privilege.
_MONEYED: Statement = """
    WITH RECURSIVE part (relation, type) AS (
        SELECT a.attrelid, a.atttypid FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = ANY (%s::bigint[]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
        UNION
        SELECT p.relation, inner_type.oid FROM part AS p JOIN pg_catalog.pg_type AS t ON t.oid = p.type
        CROSS JOIN LATERAL (
            SELECT t.typelem UNION ALL SELECT t.typbasetype
            UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
        ) AS inner_type (oid)
        WHERE inner_type.oid <> 0
    )
    SELECT DISTINCT relation::bigint FROM part WHERE type = 'pg_catalog.money'::regtype
"""

# Purpose: the locale by which pg_dump and pg_restore print and read values of type money, connected as this session is:
# the session itself is pinned to another, and a reset would bring theirs back. PostgreSQL 14+, no privilege.
_MONETARY: Statement = "SELECT pg_catalog.textsend(reset_val) FROM pg_catalog.pg_settings WHERE name = 'lc_monetary'"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortableRow:
    """How the rows of one relation become numbers that do not depend on the cluster."""

    columns: tuple[Column, ...]
    """Ordered by name."""
    seeds: tuple[int, ...]
    by_column: bool = False
    direct: bool = False
    """As in RowHash."""

    def hashes(self) -> list[sql.Composed]:
        """Return one expression per seed, over a relation called `t`."""
        return [self._hash(sql.Literal(seed)) for seed in self.seeds]

    def _hash(self, seed: sql.Literal) -> sql.Composed:
        # The columns go in as one value: hash_record combines several linearly.
        values: list[sql.Composable] = [value_of(column) for column in self.columns]
        if self.by_column:
            values = [record_hash([value], seed, direct=self.direct) for value in values]
        return record_hash(values, seed, direct=self.direct)


class Carried(Enum):
    """Which rows of a relation of an extension a dump carries."""

    NONE = "none"
    SOME = "some"
    """CREATE EXTENSION makes the others."""
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeObjects:
    """All large objects of a database."""

    objects: int
    sums: tuple[int, ...]


async def read_portable_columns(session: Session, oids: Sequence[int]) -> Mapping[int, tuple[Column, ...]]:
    """Return the columns of relations by oid; one without columns is absent."""
    rows = await session.read(_COLUMNS, [list(oids)])
    return {
        oid: tuple(
            Column(name=bytes(name), form=Form.SENT if sent else Form.PRINTED, hashed=False)
            for name, sent in zip(names, portable, strict=True)
        )
        for oid, names, portable in rows
    }


async def read_extension_members(session: Session, oids: Sequence[int]) -> Mapping[int, Carried]:
    """Return those relations (by oid) that belong to an extension, and which of their rows a dump carries."""
    return {
        oid: Carried.SOME if limited else Carried.ALL if configured else Carried.NONE
        for oid, configured, limited in await session.read(_OF_EXTENSIONS, [list(oids)])
    }


async def read_computed(session: Session, oids: Sequence[int]) -> frozenset[int]:
    """Return those relations (by oid) whose rows depend on the locale that they are restored in."""
    return frozenset(oid for (oid,) in await session.read(_COMPUTED, [list(oids)]))


async def read_moneyed(session: Session, oids: Sequence[int]) -> frozenset[int]:
    """Return those relations (by oid) that hold values of type money."""
    return frozenset(oid for (oid,) in await session.read(_MONEYED, [list(oids)]))


async def read_monetary_locale(session: Session) -> str:
    """Return the locale by which a dump's values of type money are written or read here."""
    ((locale,),) = await session.read(_MONETARY)
    return text(locale)


async def digest_large_objects(session: Session, seeds: Sequence[int], *, block_size: int) -> LargeObjects:
    """Digest what all large objects hold."""
    sums, objects = [], 0
    for seed in seeds:
        values = [sql.SQL("o.oid"), sql.SQL("o.part"), sql.SQL("o.what"), sql.SQL("o.data")]
        statement = sql.SQL(_LARGE_OBJECTS).format(
            hash=record_hash(values, sql.Literal(seed), direct=hashes_bytes(session.server_version_num)),
            page=sql.Literal(block_size // 4),
        )
        ((objects, _, total),) = await session.read(statement)
        sums.append(int(bytes(total)))
    return LargeObjects(objects=objects, sums=tuple(sums))
