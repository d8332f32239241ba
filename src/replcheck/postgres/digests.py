"""The statements that digest and list the rows of a relation, all from one builder.

Each tells the relation's newest file node beside its answer, read under the very lock that the rows are read under: an
old snapshot sees a rewritten heap as empty, on both nodes alike, so a digest counts only where that file node is the
planned one. Statements name their columns, take no parameters, and run inside a savepoint.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import LiteralString

from psycopg import sql

from replcheck.errors import StatementFailed
from replcheck.model.names import printable
from replcheck.postgres.catalog import Column, Form, Relation
from replcheck.postgres.nodes import text
from replcheck.postgres.session import Name, Once, Rendered, Row, Session

LAST_BLOCK = 0xFFFFFFFF
"""Above every block number (PostgreSQL source, storage/block.h): a range up to here has no upper bound."""
_UPDATERS = ("nokeyupd", "upd")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_BYTEA_HASH_VERSION = 180000
SOON_OVER = "SELECT pg_catalog.set_config('statement_timeout', '250ms', true)"
"""Runs before a read of several relations, and bounds how long their locks are held."""
NO_SEQUENTIAL_SCAN = "SELECT pg_catalog.set_config('enable_seqscan', 'off', true)"
"""Runs before a read of block ranges, so that only these are read, and in their physical order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowHash:
    """How a row becomes one or more 64-bit numbers inside the server."""

    seeds: tuple[int, ...]
    by_equality: bool = False
    """Hash values by their types' own hash functions where those are good: faster, and blind to 1.0 and 1.00."""
    by_column: bool = False
    """Hash each column by itself first, for rows whose bytes exceed the server's 1 GB."""
    direct: bool = False
    """Whether the server hashes bytes as they are, see `hashes_bytes`: the same numbers at a lower cost."""


def hashes_bytes(version_num: int) -> bool:
    """Return whether a server of a version has hashbyteaextended, which no other needs to have for the same numbers.

    The hash of a record with one column is that of its column (PostgreSQL source, hash_record_extended in rowtypes.c),
    and both hash a bytea alike; without the record a row costs about a tenth less.
    """
    return version_num >= _BYTEA_HASH_VERSION


@dataclass(frozen=True, slots=True)
class Digest:
    """Rows of a part of a relation: how many, and the sum of their hashes for each seed.

    A sum, never XOR: two equal rows would cancel.
    """

    rows: int
    sums: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDigests:
    """Digests of consecutive parts, as one node's snapshot sees them."""

    filenode: int | None
    """The newest file node, read under the lock of the rows; None where the relation is gone."""
    in_recovery: bool
    digests: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class ListedRow:
    """A row by position, header and hash; xids are 32-bit as the header holds them."""

    block: int
    offset: int
    xmin: int
    xmax: int
    sums: tuple[int, ...]


async def digest_whole(session: Session, relation: Relation, how: RowHash) -> PartDigests:
    """Digest a relation in one plain scan, as a single part."""
    rows = _sub_select(relation, how)
    return _parts(await session.in_savepoint(_collected(relation, how, rows)))


def together(relations: Sequence[Relation], how: RowHash) -> sql.Composed:
    """Return one statement that digests several small relations, each as `digest_whole` does: a row for each.

    All are locked before any of them is read.
    """
    return sql.SQL(" UNION ALL ").join(
        sql.SQL(
            "SELECT {number} AS number, pg_catalog.pg_relation_filenode({oid})::bigint, pg_catalog.pg_is_in_recovery(),"
            " count(*), {sums} FROM {source}"
        ).format(
            number=sql.Literal(number),
            oid=sql.Literal(relation.oid),
            sums=_sums_of(relation.columns, how),
            source=rows_of(relation),
        )
        for number, relation in enumerate(relations)
    )


async def digest_together(session: Session, statement: bytes) -> list[PartDigests]:
    """Run what `together` returned, rendered, in one round trip; where one relation is refused, all are.

    The server ends it after a short time, since the locks of all the relations are held as long.
    """
    rows = await session.in_savepoint(statement, before=SOON_OVER)
    return [
        PartDigests(filenode=filenode, in_recovery=in_recovery, digests=(Digest(count, tuple(map(int, sums))),))
        for _, filenode, in_recovery, count, *sums in sorted(rows, key=itemgetter(0))
    ]


async def digest_sweep(session: Session, relation: Relation, how: RowHash, bounds: Sequence[int]) -> PartDigests:
    """Digest a relation in one plain scan, in parts that begin at block 0 and at each of `bounds`.

    A plain scan of a large relation goes through a small ring of buffers, which leaves the hot set in memory.
    """
    hashes = row_hashes(relation.columns, how)
    tids = sql.SQL(", ").join(sql.Literal(f"({block},0)") for block in bounds)
    # The planner takes each position for a group of its own and would sort all rows, on disk; of what comes out of a
    # sub-select that it must not flatten it knows nothing, assumes few groups, and hashes them.
    rows = sql.SQL(
        "SELECT pg_catalog.width_bucket(t.ctid, ARRAY[{tids}]::tid[]) AS part, {hashes} FROM {source} OFFSET 0"
    ).format(tids=tids, hashes=_called(hashes), source=rows_of(relation))
    grouped = sql.SQL("SELECT r.part, count(*) AS n, {sums} FROM ({rows}) AS r GROUP BY r.part").format(
        sums=_named(how, "sum(r.{0}) AS {0}"), rows=rows
    )
    filled = sql.SQL(
        "SELECT p.part, coalesce(g.n, 0) AS n, {sums} FROM generate_series(0, {last}) AS p (part)"
        " LEFT JOIN ({grouped}) AS g ON g.part = p.part"
    ).format(sums=_named(how, "coalesce(g.{0}, 0) AS {0}"), last=sql.Literal(len(bounds)), grouped=grouped)
    return _parts(await session.in_savepoint(_collected(relation, how, filled)))


async def digest_ranges(
    session: Session, relation: Relation, how: RowHash, ranges: Sequence[tuple[int, int]], width: int
) -> PartDigests:
    """Digest ranges of blocks, each `first` to `end` - 1 in parts of `width` blocks, by TID range scans.

    A range that ends at LAST_BLOCK has no upper bound and is one part.
    """
    parts = sql.SQL("SELECT p.part, d.n, {sums} FROM ({bounds}) AS p CROSS JOIN LATERAL ({digest}) AS d").format(
        sums=_named(how, "d.{0}"), bounds=parts_between(ranges, width), digest=_sub_select(relation, how, IN_PART)
    )
    return _parts(await session.in_savepoint(_collected(relation, how, parts), before=NO_SEQUENTIAL_SCAN))


async def list_rows(
    session: Session, relation: Relation, how: RowHash, ranges: Sequence[tuple[int, int]]
) -> tuple[int | None, list[ListedRow]]:
    """List the rows of ranges of blocks, each `first` to `end` - 1, after the newest file node."""
    hashes = row_hashes(relation.columns, how)
    rows = sql.SQL(
        "SELECT (t.ctid::text::point)[0]::bigint AS block, (t.ctid::text::point)[1]::int AS place,"
        " t.xmin::text::bigint AS xmin, t.xmax::text::bigint AS xmax, {hashes}"
        " FROM {source} OFFSET 0"
    ).format(
        hashes=_called(hashes),
        source=rows_of(relation, IN_PART),
    )
    gathered = sql.SQL(
        "SELECT pg_catalog.pg_relation_filenode({oid})::bigint, array_agg(r.block), array_agg(r.place),"
        " array_agg(r.xmin), array_agg(r.xmax), {hashes} FROM ({bounds}) AS p CROSS JOIN LATERAL ({rows}) AS r"
    ).format(
        oid=sql.Literal(relation.oid),
        hashes=sql.SQL(", ").join(sql.SQL("array_agg(r.{})").format(_column(n)) for n in range(len(hashes))),
        bounds=parts_between(ranges, LAST_BLOCK),
        rows=rows,
    )
    ((filenode, blocks, *columns),) = await session.in_savepoint(gathered, before=NO_SEQUENTIAL_SCAN)
    if blocks is None:
        return filenode, []
    listed = zip(blocks, *columns, strict=True)
    return filenode, [ListedRow(block, place, xmin, xmax, tuple(sums)) for block, place, xmin, xmax, *sums in listed]


async def multixact_updaters(session: Session, multixacts: Sequence[int]) -> dict[int, frozenset[int]]:
    """Return the updating members (32-bit xids) of each multixact id; what is none, or is gone, is absent."""
    found = {}
    for multixact in multixacts:
        statement = sql.SQL(
            "SELECT m.xid::text::bigint, pg_catalog.textsend(m.mode)"
            " FROM pg_catalog.pg_get_multixact_members({}::text::xid) AS m"
        ).format(sql.Literal(str(multixact)))
        try:
            members = await session.in_savepoint(statement)
        except StatementFailed:
            continue
        found[multixact] = frozenset(xid for xid, mode in members if text(mode) in _UPDATERS)
    return found


def rows_query(relation: Relation, ranges: Sequence[tuple[str, str]]) -> str:
    """Return SQL with which an engineer looks at the rows between pairs of tuple positions, ends included.

    Its characters are all ones that reports show as they are, so that it can be copied from there.
    """
    conditions = [
        sql.SQL("ctid = {}").format(sql.Literal(first))
        if first == last
        else sql.SQL("ctid BETWEEN {} AND {}").format(sql.Literal(first), sql.Literal(last))
        for first, last in ranges
    ]
    where = sql.SQL(" WHERE {}").format(sql.SQL(" OR ").join(conditions)) if conditions else sql.SQL("")
    path = sql.SQL(".").join(_copyable(part) for part in relation.raw_path)
    statement = sql.SQL("SELECT ctid, xmin, xmax, * FROM ONLY {}{};").format(path, where)
    return text(statement.as_bytes())


def _copyable(part: bytes) -> sql.Composable:
    r"""Return an identifier; one that holds characters that reports escape is written with escapes of SQL.

    What is in an encoding that nothing is known of stays as it is. See the PostgreSQL manual, Lexical Structure:
    Identifiers and Key Words.

    >>> print(_copyable(b"Visit").as_string(), _copyable(b'a"\\\x1b').as_string())
    "Visit" U&"a""\\\001B"
    """
    name = text(part)
    if printable(name) == name or _SURROGATE.search(name):
        return Name(part)
    doubled = name.replace("\\", "\\\\").replace('"', '""')
    escaped = "".join(one if printable(one) == one else f"\\{ord(one):04X}" for one in doubled)
    return sql.SQL(f'U&"{escaped}"')


IN_PART = sql.SQL("t.ctid >= p.low AND t.ctid < p.high")


def rows_of(relation: Relation, *conditions: sql.Composable) -> sql.Composed:
    """Return the FROM and WHERE of every read of a relation, called `t`: the rows its filter selects, if it has one.

    The filter stands in all reads alike, so a digest, a list of rows and a stream speak of the same rows on every node;
    why a filter hides no difference is told in `filter_checks`.
    """
    conditions = (*conditions, *([Rendered(relation.condition)] if relation.condition else []))
    where = sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(conditions)) if conditions else sql.SQL("")
    return sql.SQL("ONLY {path} AS t{where}").format(path=Name(*relation.raw_path), where=where)


def row_hashes(columns: Sequence[Column], how: RowHash) -> list[sql.Composed]:
    """Return one expression per seed: a row's position and what it holds, as a 64-bit number.

    The position belongs to it: an index finds rows by it, so two rows that changed places are no copy. It goes in as
    the seed, because hash_record combines its columns linearly (PostgreSQL source, rowtypes.c): in a sum, values that
    changed places between rows would cancel.
    """
    return [_hash(columns, how, sql.Literal(seed)) for seed in how.seeds]


def _hash(columns: Sequence[Column], how: RowHash, seed: sql.Literal) -> sql.Composed:
    position = position_seed(sql.SQL("t.ctid"), seed)
    if how.by_equality:
        held = _row(_hashable(column) for column in columns)
        return sql.SQL("pg_catalog.hash_record_extended({}, {})").format(held, position)
    if how.by_column:
        each = [record_hash([value_of(column)], position, direct=how.direct) for column in columns]
        return record_hash(each, position, direct=how.direct)
    return record_hash([value_of(column) for column in columns], position, direct=how.direct)


def position_seed(position: sql.Composable, seed: sql.Literal) -> sql.Composed:
    """Return the seed of a row's hash, which its position (a tid) belongs to."""
    return sql.SQL("pg_catalog.hashtidextended({}, {}::bigint)").format(position, seed)


def record_hash(values: Iterable[sql.Composable], seed: sql.Composable, *, direct: bool) -> sql.Composed:
    """Return the hash of values as the server sends them together, as a 64-bit number; for `direct` see `RowHash`."""
    return sent_hash(sent_record(values), seed, direct=direct)


def sent_record(values: Iterable[sql.Composable]) -> sql.Composed:
    """Return values as the server sends them together, as bytes."""
    return sql.SQL("pg_catalog.record_send({})").format(_row(values))


def sent_hash(sent: sql.Composable, seed: sql.Composable, *, direct: bool) -> sql.Composed:
    """Return the hash of bytes that were sent, as a 64-bit number; for `direct` see `RowHash`."""
    if direct:
        return sql.SQL("pg_catalog.hashbyteaextended({}, {})").format(sent, seed)
    return sql.SQL("pg_catalog.hash_record_extended(ROW({}), {})").format(sent, seed)


def _hashable(column: Column) -> sql.Composed:
    if column.hashed:
        return sql.SQL("t.{}").format(Name(column.name))
    return sql.SQL("pg_catalog.record_send(ROW({}))").format(value_of(column))


def _row(values: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL("ROW({})").format(sql.SQL(", ").join(values))


# Never a cast that a type's owner may have made: it would run under the audit's role. Those of xml are the server's.
_FORMS: Mapping[Form, LiteralString] = {
    Form.SENT: "t.{}",
    Form.PRINTED: "pg_catalog.textin(pg_catalog.record_out(ROW(t.{})))",
    Form.XML: "t.{}::pg_catalog.text",
    Form.XML_ARRAY: "t.{}::pg_catalog.text[]",
}


def value_of(column: Column) -> sql.Composed:
    """Return a column of `t` in the form in which its values become bytes."""
    return sql.SQL(_FORMS[column.form]).format(Name(column.name))


def _sub_select(relation: Relation, how: RowHash, *conditions: sql.Composable) -> sql.Composed:
    return sql.SQL("SELECT 0 AS part, count(*) AS n, {sums} FROM {source}").format(
        sums=_summed(row_hashes(relation.columns, how)), source=rows_of(relation, *conditions)
    )


def _summed(hashes: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("coalesce(sum({}), 0) AS {}").format(expression, _column(number))
        for number, expression in enumerate(hashes)
    )


def _called(hashes: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(expression, _column(number)) for number, expression in enumerate(hashes)
    )


@lru_cache(maxsize=256)
def _sums_of(columns: tuple[Column, ...], how: RowHash) -> Once:
    """Return the sums over rows of these columns; thousands of relations are often made of the same ones."""
    return Once(_summed(row_hashes(columns, how)))


def _named(how: RowHash, template: LiteralString) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(template).format(_column(number)) for number in range(len(how.seeds)))


def _collected(relation: Relation, how: RowHash, parts: sql.Composable) -> sql.Composed:
    return sql.SQL(
        "SELECT pg_catalog.pg_relation_filenode({oid})::bigint, pg_catalog.pg_is_in_recovery(),"
        " array_agg(d.n ORDER BY d.part), {sums} FROM ({parts}) AS d"
    ).format(oid=sql.Literal(relation.oid), sums=_named(how, "array_agg(d.{} ORDER BY d.part)"), parts=parts)


def _parts(rows: list[Row]) -> PartDigests:
    ((filenode, in_recovery, counts, *sums),) = rows
    by_part = zip(counts, *sums, strict=True)
    return PartDigests(
        filenode=filenode,
        in_recovery=in_recovery,
        digests=tuple(Digest(count, tuple(int(value) for value in values)) for count, *values in by_part),
    )


def _column(number: int) -> sql.Identifier:
    return sql.Identifier(f"h{number}")


def parts_between(ranges: Sequence[tuple[int, int]], width: int) -> sql.Composed:
    """Return rows of (part, low, high): tuple positions between which each part lies."""
    step = sql.SQL("CASE WHEN r.last = {} THEN r.last ELSE {} END").format(sql.Literal(LAST_BLOCK), sql.Literal(width))
    return sql.SQL(
        "SELECT row_number() OVER (ORDER BY b.block) AS part, ('(' || b.block::text || ',0)')::tid AS low,"
        " ('(' || least(b.block + {step}, r.last)::text || ',0)')::tid AS high"
        " FROM unnest({firsts}::bigint[], {ends}::bigint[]) AS r (first, last)"
        " CROSS JOIN LATERAL generate_series(r.first, r.last - 1, {step}) AS b (block)"
    ).format(
        step=step,
        firsts=sql.Literal([first for first, _ in ranges]),
        ends=sql.Literal([end for _, end in ranges]),
    )
