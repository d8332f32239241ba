"""Streams the rows of block ranges to the client, by binary COPY, and hashes them there.

It shares nothing with the digests but the send functions of the types: no hash function of the server, and no sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
import xxhash
from psycopg import sql

from replcheck.postgres.catalog import Relation
from replcheck.postgres.digests import LAST_BLOCK, NO_SEQUENTIAL_SCAN, rows_of, value_of
from replcheck.postgres.session import Buffer, Session

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER_BYTES = len(_SIGNATURE) + 4
_TRAILER = b"\xff\xff"
_BLOCK = slice(6, 10)
"""Where a row's message has the block: after the number of fields and the length of the first, its ctid."""


@dataclass(slots=True)
class Stream:
    """What a client makes of streamed rows: how many, and one xxh3-128 for each block that holds any.

    Nothing else is kept, whatever the width of the rows.
    """

    rows: int = 0
    blocks: dict[int, bytes] = field(default_factory=dict)
    _begun: bool = False
    _block: int = -1
    _hash: xxhash.xxh3_128 = field(default_factory=xxhash.xxh3_128)

    def begin(self) -> None:
        """Expect the header of another COPY."""
        self._begun = False

    def take(self, message: Buffer) -> None:
        """Take in a message of a COPY: one row, the first after the header, the last a trailer.

        Follows the PostgreSQL manual, COPY, Binary Format. Raises DataError where it is not followed.
        """
        if not self._begun:
            message = _without_header(message)
            self._begun = True
        if not message or message == _TRAILER:
            return
        block = int.from_bytes(message[_BLOCK], "big")
        if block != self._block:
            self.end()
            self._block = block
        self._hash.update(message)
        self.rows += 1

    def end(self) -> None:
        """Close the block at hand."""
        if self._block >= 0:
            # A range is read in physical order; should a block come twice, both parts count, in their order.
            self.blocks[self._block] = self.blocks.get(self._block, b"") + self._hash.digest()
            self._block = -1
            self._hash = xxhash.xxh3_128()


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """What one node's rows are, seen from the client."""

    filenode: int | None
    """The newest file node, read under the lock of the rows; None where the relation is gone."""
    in_recovery: bool
    rows: int
    blocks: dict[int, bytes]


async def stream_ranges(session: Session, relation: Relation, ranges: Sequence[tuple[int, int]]) -> Streamed:
    """Stream the rows of ranges of blocks, each `first` to `end` - 1, in their physical order; keep hashes only.

    A row that exceeds 1 GB cannot be copied, and fails as `is_too_wide` tells.
    """
    stream = Stream()
    facts = sql.SQL("SELECT pg_catalog.pg_relation_filenode({})::bigint, pg_catalog.pg_is_in_recovery()").format(
        sql.Literal(relation.oid)
    )
    ((filenode, in_recovery),) = await session.copy_in_savepoint(
        [_copy(relation, first, end) for first, end in ranges],
        stream,
        before=NO_SEQUENTIAL_SCAN,
        after=facts,
    )
    stream.end()
    return Streamed(filenode=filenode, in_recovery=in_recovery, rows=stream.rows, blocks=stream.blocks)


def _copy(relation: Relation, first: int, end: int) -> sql.Composed:
    # The upper bound is left out where there is none: no tuple position is above the last block's.
    conditions = [sql.SQL("t.ctid >= {}::tid").format(sql.Literal(f"({first},0)"))]
    conditions += [sql.SQL("t.ctid < {}::tid").format(sql.Literal(f"({end},0)"))] if end != LAST_BLOCK else []
    columns = [sql.SQL("t.ctid"), *map(value_of, relation.columns)]
    return sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)").format(
        sql.SQL(", ").join(columns), rows_of(relation, *conditions)
    )


def _without_header(message: Buffer) -> Buffer:
    if bytes(message[: len(_SIGNATURE)]) != _SIGNATURE:
        raise psycopg.DataError("a binary COPY does not begin with its signature")
    extension = int.from_bytes(message[_HEADER_BYTES : _HEADER_BYTES + 4], "big")
    return message[_HEADER_BYTES + 4 + extension :]
