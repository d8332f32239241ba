"""Which relations a database holds, what they are made of, and whether that has changed.

Lists are read inside a lane's snapshot, so that both sides of a comparison list the same moment. Names travel as raw
bytes, because they need not fit any codec.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from psycopg import sql

from replcheck.errors import StatementFailed
from replcheck.model.audit import RelationKind
from replcheck.model.filters import RowFilter
from replcheck.model.names import qualified
from replcheck.model.progress import RelationState
from replcheck.postgres.nodes import raw_name, text
from replcheck.postgres.session import Row, Session, Statement

# Purpose: every relation that holds rows, as of the snapshot, with the file nodes then and now. TOAST tables are left
# out: their values are read with the rows they belong to. PostgreSQL 14+, no privilege.
_RELATIONS: Statement = """
    SELECT c.oid::bigint, pg_catalog.textsend(n.nspname::text), pg_catalog.textsend(c.relname::text),
           ascii(c.relkind::text), ascii(c.relpersistence::text),
           c.relfilenode::bigint, pg_catalog.pg_relation_filenode(c.oid)::bigint,
           c.relisshared, pg_catalog.textsend(coalesce(am.amname::text, '')),
           pg_catalog.row_security_active(c.oid), pg_catalog.has_table_privilege(c.oid, 'SELECT'),
           pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
           c.relispopulated
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_am AS am ON am.oid = c.relam
    WHERE c.relkind IN ('r', 'm', 'S', 'f') AND (%s::bigint[] IS NULL OR c.oid = ANY (%s::bigint[]::oid[]))
        AND NOT EXISTS (SELECT FROM unnest(%s::bigint[]) AS k (oid) WHERE k.oid::oid = c.oid)
    ORDER BY c.oid
"""

# Purpose: the names alone of every relation that holds rows, however many there are. PostgreSQL 14+, no privilege.
_NAMES: Statement = """
    SELECT c.oid::bigint, pg_catalog.textsend(n.nspname::text), pg_catalog.textsend(c.relname::text)
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'S', 'f')
"""

# Purpose: bytes of relations and of their TOAST tables. Takes each relation's lock for a moment, so it can meet DDL.
# PostgreSQL 14+, no privilege.
_SIZES = """
    SELECT c.oid::bigint, coalesce(pg_catalog.pg_relation_size(c.oid), 0),
           CASE WHEN c.reltoastrelid <> 0 THEN coalesce(pg_catalog.pg_relation_size(c.reltoastrelid), 0) ELSE 0 END
    FROM pg_catalog.pg_class AS c WHERE c.oid = ANY ({oids}::bigint[]::oid[])
"""

# Purpose: the same as vacuum last saw it, where a lock is in the way. PostgreSQL 14+, no privilege.
_ESTIMATED_SIZES = """
    SELECT c.oid::bigint, greatest(c.relpages, 0) * pg_catalog.current_setting('block_size')::bigint, 0::bigint
    FROM pg_catalog.pg_class AS c WHERE c.oid = ANY ({oids}::bigint[]::oid[])
"""

# Purpose: the columns of relations, with what their types can do. A type can be sent where it and everything inside it
# has a send function: aclitem[] has one and fails at run time; anyarray depends on its rows. That of xml rewrites what
# is stored, so xml goes as text. For the `fast` level only types count as hashable whose hash function keeps apart all
# that is not equal: that of bigint and of the times folds 64 bits into 32, that of numeric leaves the sign out, that of
# arrays their bounds. Nor does a column whose collation is not deterministic: there the hash is of ICU's sort key, and
# another version of the library makes another one (hashfunc.c, hashtextextended). Virtual generated columns hold
# nothing. PostgreSQL 14+, no privilege.
_COLUMNS: Statement = """
    WITH RECURSIVE wanted AS (
        SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.attcollation FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = ANY (%s::bigint[]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
    ), part (root, typid) AS (
        SELECT DISTINCT w.atttypid, w.atttypid FROM wanted AS w
        UNION
        SELECT p.root, i.typid
        FROM part AS p
        JOIN pg_catalog.pg_type AS t ON t.oid = p.typid
        CROSS JOIN LATERAL (
            SELECT t.typelem WHERE t.typelem <> 0 AND t.typlen = -1 AND t.typtype = 'b'
                AND t.typoutput = 'pg_catalog.array_out'::regproc
            UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
            UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute AS a
                WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE r.rngtypid = t.oid
            UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range AS r WHERE r.rngmultitypid = t.oid
        ) AS i (typid)
    ), can AS (
        SELECT p.root, CASE WHEN p.root = 'pg_catalog.xml'::regtype THEN 'x'
                            WHEN p.root = 'pg_catalog.xml[]'::regtype THEN 'y'
                            WHEN bool_and(t.typsend <> 0 AND t.typtype <> 'p') THEN 's' ELSE 'o' END AS form
        FROM part AS p JOIN pg_catalog.pg_type AS t ON t.oid = p.typid
        GROUP BY p.root
    )
    SELECT w.attrelid::bigint, array_agg(pg_catalog.textsend(w.attname::text) ORDER BY w.attnum),
           array_agg(ascii(can.form) ORDER BY w.attnum),
           array_agg((t.typtype = 'e' OR t.oid = ANY (
               '{bool,bytea,"char",name,int2,int4,oid,float4,float8,text,varchar,bpchar,uuid,date}'::regtype[]
           )) AND coalesce(c.collisdeterministic, true) ORDER BY w.attnum)
    FROM wanted AS w
    JOIN can ON can.root = w.atttypid
    JOIN pg_catalog.pg_type AS t ON t.oid = w.atttypid
    LEFT JOIN pg_catalog.pg_collation AS c ON c.oid = w.attcollation
    GROUP BY w.attrelid
"""

# Purpose: one number per relation that changes with anything that alters what its rows send or what its name means:
# schema, name, columns, their types, missing values, enum labels, parts of composites. The xmin of the catalog's rows
# is in it, so that a change and its reversal show; a physical replica has the same. System columns are left out: they
# are made with the relation and can't be altered. PostgreSQL 14+, no privilege.
_TOKENS: Statement = """
    WITH RECURSIVE part (rel, typid) AS (
        SELECT a.attrelid, a.atttypid FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = ANY (%s::bigint[]::oid[]) AND a.attnum > 0 AND a.atttypid >= 16384
        UNION
        SELECT p.rel, i.typid
        FROM part AS p
        JOIN pg_catalog.pg_type AS t ON t.oid = p.typid
        CROSS JOIN LATERAL (
            SELECT t.typelem WHERE t.typelem >= 16384
            UNION ALL SELECT t.typbasetype WHERE t.typbasetype >= 16384
            UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute AS a
                WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND a.atttypid >= 16384
            UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range AS r
                WHERE r.rngtypid = t.oid AND r.rngsubtype >= 16384
            UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range AS r WHERE r.rngmultitypid = t.oid
        ) AS i (typid)
    ), fact (rel, what) AS (
        SELECT c.oid, 'c ' || c.xmin::text || ' ' || n.oid::text || ' ' || n.xmin::text || ' '
               || pg_catalog.encode(pg_catalog.textsend(n.nspname::text), 'hex') || ' '
               || pg_catalog.encode(pg_catalog.textsend(c.relname::text), 'hex')
        FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (%s::bigint[]::oid[])
        UNION ALL
        SELECT a.attrelid, 'a ' || a.attnum::text || ' ' || a.atttypid::text || ' ' || a.xmin::text
        FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = ANY (%s::bigint[]::oid[]) AND a.attnum > 0
        UNION ALL
        SELECT p.rel, 't ' || t.oid::text || ' ' || t.xmin::text
        FROM part AS p JOIN pg_catalog.pg_type AS t ON t.oid = p.typid
        UNION ALL
        SELECT p.rel, 'e ' || e.oid::text || ' ' || e.xmin::text
        FROM part AS p JOIN pg_catalog.pg_enum AS e ON e.enumtypid = p.typid
        UNION ALL
        SELECT p.rel, 'f ' || a.attrelid::text || ' ' || a.attnum::text || ' ' || a.xmin::text
        FROM part AS p JOIN pg_catalog.pg_type AS t ON t.oid = p.typid AND t.typtype = 'c'
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.typrelid
    )
    SELECT rel::bigint, pg_catalog.hashtextextended(string_agg(what, E'\\n' ORDER BY what COLLATE "C"), 0)
    FROM fact GROUP BY rel
"""

# Purpose: the newest file node of relations, whatever the snapshot: a rewrite gives a new one, and none comes back.
# PostgreSQL 14+, no privilege.
_FILENODES: Statement = """
    SELECT o.oid, pg_catalog.pg_relation_filenode(o.oid::oid)::bigint FROM unnest(%s::bigint[]) AS o (oid)
"""

_KINDS = {"r": RelationKind.TABLE, "m": RelationKind.MATERIALIZED_VIEW, "S": RelationKind.SEQUENCE}
FIRST_USER_OID = 16384
"""Oids below are assigned by initdb (PostgreSQL source, access/transam.h)."""

UPDATED_IN_PLACE = {
    "pg_class": (
        "relpages",
        "reltuples",
        "relallvisible",
        "relallfrozen",
        "relhasindex",
        "relhasrules",
        "relhastriggers",
        "relfrozenxid",
        "relminmxid",
    ),
    "pg_database": ("datfrozenxid", "datminmxid", "dathasloginevt", "datconnlimit"),
}
"""Catalog columns that the server overwrites outside transactions (PostgreSQL source, heap_inplace_update callers):
no snapshot decides what they show, so they are left out."""


class Form(Enum):
    """How the values of a column become bytes."""

    SENT = "s"
    """By the binary send function of the type, and of everything inside it."""
    PRINTED = "o"
    """By the output function of a type that cannot be sent."""
    XML = "x"
    """As it is stored: the send function of xml rewrites its declaration."""
    XML_ARRAY = "y"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column that holds data."""

    name: bytes
    form: Form
    hashed: bool
    """Whether its type has a hash function that keeps unequal values apart, and computes the same on every node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationName:
    """What a relation is called, and whether initdb made it."""

    schema: str
    name: str
    is_catalog: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A relation as one node's snapshot lists it."""

    oid: int
    schema: str
    name: str
    kind: RelationKind | None
    """None for a foreign table."""
    persistence: str
    """`p` permanent, `u` unlogged, `t` temporary."""
    filenode: int
    """As of the snapshot; 0 for a mapped catalog."""
    filenode_now: int | None
    shared: bool
    access_method: str
    row_security: bool | None
    readable: bool | None
    """None where it is gone by now."""
    schema_usable: bool | None
    populated: bool
    size_bytes: int = 0
    toast_bytes: int = 0
    columns: tuple[Column, ...] = ()
    token: int = 0
    row_filter: RowFilter | None = None
    """Which of its rows are compared; None for all."""
    condition: bytes = field(default=b"", repr=False)
    """The filter as statements hold it, over the relation as `t`; empty for all rows."""
    filter_lack: str = ""
    """Why its filter cannot be applied; then it must not be read."""

    @property
    def label(self) -> str:
        """Return the schema-qualified name, quoted where SQL needs it."""
        return qualified(self.schema, self.name)

    def state(self, database: int) -> RelationState:
        """Return what a proof of the relation holds for; `database` is the oid of the one it lies in."""
        return RelationState(
            database=database,
            relation=self.oid,
            token=self.token,
            filenode=self.filenode_now,
            filter=self.row_filter.digest if self.row_filter else "",
        )

    @property
    def raw_path(self) -> tuple[bytes, bytes]:
        """Return schema and name in the bytes of the database."""
        return raw_name(self.schema), raw_name(self.name)

    @property
    def total_bytes(self) -> int:
        """Return the bytes of its rows, with the values stored outside of them."""
        return self.size_bytes + self.toast_bytes

    @property
    def is_catalog(self) -> bool:
        """Return whether initdb made it."""
        return self.oid < FIRST_USER_OID

    @property
    def unlogged(self) -> bool:
        """Return whether its rows are on no replica by design."""
        return self.persistence == "u"


async def read_relations(
    session: Session,
    oids: Sequence[int] | None = None,
    *,
    but: Iterable[int] = (),
    detailed: Callable[[Relation], bool] = lambda _: True,
    columns: bool = True,
) -> dict[int, Relation]:
    """List relations by oid, all or some, those that are to be `detailed` with columns, sizes and definition tokens.

    In a transaction everything is as of its snapshot, except `filenode_now`, the sizes and the privileges. Those in
    `but` are left out. Where `columns` are not wanted, nobody has them.
    """
    wanted = None if oids is None else list(oids)
    listed = [_relation(row) for row in await session.read(_RELATIONS, [wanted, wanted, list(but)])]
    known = [relation.oid for relation in listed if detailed(relation)]
    relations = {relation.oid: relation for relation in listed}
    if not known:
        return relations
    stored = [oid for oid in known if relations[oid].kind is not None]
    made_of = {oid: rest for oid, *rest in await session.read(_COLUMNS, [stored])} if columns else {}
    sizes = await _read_sizes(session, stored)
    tokens = await read_tokens(session, known)
    for oid in known:
        size, toast = sizes.get(oid, (0, 0))
        relation = relations[oid]
        relations[oid] = replace(
            relation,
            columns=_columns(relation, *made_of[oid]) if oid in made_of else (),
            size_bytes=size,
            toast_bytes=toast,
            token=tokens.get(oid, 0),
        )
    return relations


async def read_names(session: Session) -> list[RelationName]:
    """List what every relation is called that holds rows."""
    return [
        RelationName(schema=text(schema), name=text(name), is_catalog=oid < FIRST_USER_OID)
        for oid, schema, name in await session.read(_NAMES)
    ]


async def read_tokens(session: Session, oids: Sequence[int]) -> dict[int, int]:
    """Return the definition token of each relation; one that is gone is absent."""
    wanted = list(oids)
    return {row[0]: row[1] for row in await session.read(_TOKENS, [wanted, wanted, wanted])}


async def read_filenodes(session: Session, oids: Sequence[int]) -> dict[int, int | None]:
    """Return the newest file node of each relation, None for one that is gone."""
    return {row[0]: row[1] for row in await session.read(_FILENODES, [list(oids)])}


async def _read_sizes(session: Session, oids: Sequence[int]) -> dict[int, tuple[int, int]]:
    literal = sql.Literal(list(oids))
    try:
        rows = await session.read(sql.SQL(_SIZES).format(oids=literal))
    except StatementFailed:
        rows = await session.read(sql.SQL(_ESTIMATED_SIZES).format(oids=literal))
    return {oid: (heap, toast) for oid, heap, toast in rows}


def _relation(row: Row) -> Relation:
    (
        oid, schema, name, kind, persistence, filenode, filenode_now, shared, method,
        row_security, readable, usable, populated,
    ) = row  # fmt: skip
    called = text(name)
    return Relation(
        oid=oid,
        schema=text(schema),
        name=called,
        kind=_kind(chr(kind), oid, called),
        persistence=chr(persistence),
        filenode=filenode,
        filenode_now=filenode_now,
        shared=shared,
        access_method=text(method),
        row_security=row_security,
        readable=readable,
        schema_usable=usable,
        populated=populated,
    )


def _kind(letter: str, oid: int, name: str) -> RelationKind | None:
    if letter == "r" and oid < FIRST_USER_OID:
        return RelationKind.LARGE_OBJECTS if name.startswith("pg_largeobject") else RelationKind.CATALOG
    return _KINDS.get(letter)


def _columns(relation: Relation, names: list[bytes], forms: list[int], hashed: list[bool]) -> tuple[Column, ...]:
    skipped = UPDATED_IN_PLACE.get(relation.name, ()) if relation.is_catalog else ()
    columns = [
        Column(name=bytes(name), form=Form(chr(form)), hashed=good)
        for name, form, good in zip(names, forms, hashed, strict=True)
    ]
    return tuple(column for column in columns if text(column.name) not in skipped)
