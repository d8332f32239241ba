"""The statement that digests parts of a relation for a seal: rows at their positions, and as a dump carries them.

It reads each part by a TID range scan of its own: measured as fast as one bare scan, where grouping rows into parts
costs up to half as much again, and its lock goes after a second, not after the relation. Rows that somebody deleted or
locked are counted, because only such rows can be gone by a transaction that the snapshot does not see.

A row is sent once, and what was sent is hashed for each seed: sending costs more than hashing, and the server does the
same expression twice where it stands twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from replcheck.postgres.catalog import Column, Relation
from replcheck.postgres.digests import (
    IN_PART,
    NO_SEQUENTIAL_SCAN,
    Digest,
    RowHash,
    parts_between,
    position_seed,
    row_hashes,
    rows_of,
    sent_hash,
    sent_record,
    value_of,
)
from replcheck.postgres.portable import PortableRow
from replcheck.postgres.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedParts:
    """Consecutive parts, as one snapshot sees them."""

    filenode: int | None
    """The newest file node, read under the lock of the rows; None where the relation is gone."""
    in_recovery: bool
    digests: tuple[Digest, ...]
    marked: tuple[int, ...]
    """Rows of each part whose header names somebody who deleted or locked them."""
    portable: tuple[int, ...]
    """Sums over all parts together; empty where none were asked for."""


async def digest_parts(
    session: Session,
    relation: Relation,
    how: RowHash,
    ranges: Sequence[tuple[int, int]],
    width: int,
    *,
    portable: PortableRow | None = None,
) -> SealedParts:
    """Digest ranges of blocks, each `first` to `end` - 1 in parts of `width`, inside a savepoint that is rolled back.

    A range that ends at LAST_BLOCK has no upper bound and is one part.
    """
    rows: list[sql.Composable] = [sql.SQL("t.xmax <> '0'::xid AS marked")]
    exact = _named("h", _exact(relation, how, rows))
    carried = _named("p", _carried(portable, rows) if portable is not None else [])
    comma = sql.SQL(", ")
    # Without OFFSET 0 the two would be made one, and each row sent for every seed again.
    part = sql.SQL(
        "SELECT count(*) AS n, count(*) FILTER (WHERE r.marked) AS m, {sums}"
        " FROM (SELECT {rows} FROM {source} OFFSET 0) AS r"
    ).format(
        sums=comma.join(
            sql.SQL("coalesce(sum({}), 0) AS {}").format(value, name) for name, value in (*exact, *carried)
        ),
        rows=comma.join(rows),
        source=rows_of(relation, IN_PART),
    )
    statement = sql.SQL(
        "SELECT pg_catalog.pg_relation_filenode({oid})::bigint, pg_catalog.pg_is_in_recovery(),"
        " array_agg(d.n ORDER BY p.part), array_agg(d.m ORDER BY p.part), {sums}"
        " FROM ({bounds}) AS p CROSS JOIN LATERAL ({part}) AS d"
    ).format(
        oid=sql.Literal(relation.oid),
        sums=comma.join(
            [
                *(sql.SQL("array_agg(d.{} ORDER BY p.part)").format(name) for name, _ in exact),
                *(sql.SQL("sum(d.{})").format(name) for name, _ in carried),
            ]
        ),
        bounds=parts_between(ranges, width),
        part=part,
    )
    ((filenode, in_recovery, counts, marked, *sums),) = await session.in_savepoint(statement, before=NO_SEQUENTIAL_SCAN)
    columns = sums[: len(exact)]
    return SealedParts(
        filenode=filenode,
        in_recovery=in_recovery,
        digests=tuple(
            Digest(count, tuple(int(value) for value in values))
            for count, *values in zip(counts, *columns, strict=True)
        ),
        marked=tuple(marked),
        portable=tuple(int(value) for value in sums[len(exact) :]),
    )


def _exact(relation: Relation, how: RowHash, rows: list[sql.Composable]) -> list[sql.Composable]:
    """Return a row's hash at its position for each seed, over the columns that are added to `rows`, called `r`."""
    if how.by_column or how.by_equality:
        return _passed("exact", row_hashes(relation.columns, how), rows)
    rows += [sql.SQL("t.ctid AS position"), _sent(relation.columns, "sent")]
    sent, position = sql.SQL("r.sent"), sql.SQL("r.position")
    return [sent_hash(sent, position_seed(position, sql.Literal(seed)), direct=how.direct) for seed in how.seeds]


def _carried(portable: PortableRow, rows: list[sql.Composable]) -> list[sql.Composable]:
    """Return a row's hash as a dump carries it for each seed, as `_exact` does."""
    if portable.by_column:
        return _passed("portable", portable.hashes(), rows)
    rows.append(_sent(portable.columns, "carried"))
    return [sent_hash(sql.SQL("r.carried"), sql.Literal(seed), direct=portable.direct) for seed in portable.seeds]


def _passed(prefix: str, hashes: Sequence[sql.Composable], rows: list[sql.Composable]) -> list[sql.Composable]:
    names = [sql.Identifier(f"{prefix}{number}") for number in range(len(hashes))]
    rows += [sql.SQL("{} AS {}").format(value, name) for name, value in zip(names, hashes, strict=True)]
    return [sql.SQL("r.{}").format(name) for name in names]


def _sent(columns: Sequence[Column], name: str) -> sql.Composed:
    return sql.SQL("{} AS {}").format(sent_record(value_of(column) for column in columns), sql.Identifier(name))


def _named(prefix: str, values: Sequence[sql.Composable]) -> list[tuple[sql.Identifier, sql.Composable]]:
    return [(sql.Identifier(f"{prefix}{number}"), value) for number, value in enumerate(values)]


async def blocks_with(
    session: Session, relation: Relation, xids: Sequence[int], ranges: Sequence[tuple[int, int]]
) -> frozenset[int]:
    """Return the first blocks of those ranges in which a visible row was inserted by one of the transactions (64-bit).

    Row headers hold the lower 32 bits of a transaction id.
    """
    statement = sql.SQL(
        "SELECT p.first FROM unnest({firsts}::bigint[], {ends}::bigint[]) AS p (first, last)"
        " WHERE EXISTS (SELECT FROM {source} OFFSET 0)"
    ).format(
        firsts=sql.Literal([first for first, _ in ranges]),
        ends=sql.Literal([end for _, end in ranges]),
        source=rows_of(
            relation,
            sql.SQL("t.ctid >= ('(' || p.first::text || ',0)')::tid"),
            sql.SQL("t.ctid < ('(' || p.last::text || ',0)')::tid"),
            sql.SQL("t.xmin = ANY ({}::text[]::xid[])").format(sql.Literal([str(xid % (1 << 32)) for xid in xids])),
        ),
    )
    return frozenset(first for (first,) in await session.in_savepoint(statement, before=NO_SEQUENTIAL_SCAN))
