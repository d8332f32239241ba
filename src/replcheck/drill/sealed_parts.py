"""How a relation is cut for a seal, and what is gathered of it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from replcheck.model.audit import RelationKind
from replcheck.model.seal import PartDigest, PortableDigest, SealedRelation
from replcheck.postgres.catalog import Column, Relation
from replcheck.postgres.digests import LAST_BLOCK, Digest

SMALLEST_PART_BLOCKS = 16
MOST_PARTS = 4096
_FIRST_CHUNK_BLOCKS = 4096
_SMALLEST_CHUNK_BLOCKS = 64
_LARGEST_CHUNK_BLOCKS = 131_072
_CHUNK_S = 1.0
"""How long one statement should hold the lock of its relation."""


def part_blocks(blocks: int) -> int:
    """Return the width of the parts of a relation of so many blocks, so that a manifest stays small.

    >>> part_blocks(0), part_blocks(65_536), part_blocks(65_537)
    (16, 16, 17)
    """
    return max(SMALLEST_PART_BLOCKS, -(-blocks // MOST_PARTS))


def part_ranges(blocks: int, width: int) -> list[tuple[int, int]]:
    """Return the parts, each `first` to `end` - 1; the last has no upper bound.

    >>> part_ranges(40, 16) == [(0, 16), (16, 32), (32, LAST_BLOCK)]
    True
    >>> part_ranges(0, 16) == [(0, LAST_BLOCK)]
    True
    """
    firsts = list(range(0, max(blocks, 1), width))
    return [*pairwise(firsts), (firsts[-1], LAST_BLOCK)]


def merged(parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return consecutive parts as ranges for one statement: the one without an upper bound stays by itself.

    >>> merged([(0, 16), (16, 32), (32, LAST_BLOCK)]) == [(0, 32), (32, LAST_BLOCK)]
    True
    """
    ranges: list[tuple[int, int]] = []
    for first, end in parts:
        if ranges and ranges[-1][1] == first and end != LAST_BLOCK:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((first, end))
    return ranges


@dataclass(frozen=True, slots=True)
class Taken:
    """Numbers of parts, `first` to `end` - 1, that somebody reads; void where the relation is read anew meanwhile."""

    first: int
    end: int
    epoch: int

    def __len__(self) -> int:
        return self.end - self.first


@dataclass(frozen=True, slots=True)
class Damage:
    """Why a part cannot be read."""

    sqlstate: str
    block: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Why a relation was not read to its end."""

    code: str
    reason: str
    hint: str = ""


@dataclass(slots=True, kw_only=True)
class Gathering:
    """One relation while its parts are read, by one reader or several; numbers of parts count from 0."""

    database: str
    relation: Relation
    width: int
    ranges: Sequence[tuple[int, int]]
    blocks: int = 0
    """Of the relation, as it was when it was listed."""
    portable: tuple[Column, ...] | None = None
    """The columns that a dump carries, None where no portable digest is wanted."""
    recomputed: bool = False
    """Whether a restore makes some of its rows anew, rather than from the dump."""
    by_column: bool = False
    parts: dict[int, PartDigest] = field(default_factory=dict)
    sums: list[int] = field(default_factory=list)
    elapsed_s: float = 0.0
    chunk_parts: int = 0
    """Parts that a statement should read."""
    epoch: int = 0
    damaged: dict[int, "Damage"] = field(default_factory=dict)
    """Parts that cannot be read, by number."""
    lack: "Lack | None" = None
    """Why it is not read to its end; None while nothing keeps us from it."""
    kept_out_since: float | None = None
    """Since when a lock keeps us out, on the monotonic clock."""
    not_before: float = 0.0
    queued: bool = False
    told: bool = False
    """Whether its end was told."""
    _next: int = 0
    _returned: list["Taken"] = field(default_factory=list)

    def take(self) -> "Taken | None":
        """Return the next parts to read; None where all are taken."""
        if self._returned:
            return self._returned.pop()
        if self._next >= len(self.ranges):
            return None
        first = self._next
        self._next = min(first + self._step(), len(self.ranges))
        return Taken(first, self._next, self.epoch)

    def put_back(self, taken: "Taken") -> None:
        """Return parts that could not be read, to be taken again."""
        if taken.epoch == self.epoch:
            self._returned.append(taken)

    def halve(self, taken: "Taken") -> bool:
        """Return parts in two halves, because together they cannot be read; False where it is a single part."""
        if len(taken) < 2:
            return False
        middle = (taken.first + taken.end) // 2
        self.put_back(Taken(middle, taken.end, taken.epoch))
        self.put_back(Taken(taken.first, middle, taken.epoch))
        self.chunk_parts = max(1, len(taken) // 4)
        return True

    def read_by_column(self) -> None:
        """Forget what was read: all of it is to be read column by column."""
        self.by_column = True
        self.epoch += 1
        self.parts.clear()
        self.damaged.clear()
        self.sums.clear()
        self._returned.clear()
        self._next = 0

    def keep(
        self, taken: "Taken", digests: Sequence[Digest], marked: Sequence[int], sums: Sequence[int], elapsed_s: float
    ) -> None:
        """Take in what was read."""
        if taken.epoch != self.epoch:
            return
        for number, digest, marks in zip(range(taken.first, taken.end), digests, marked, strict=True):
            self.parts[number] = PartDigest(rows=digest.rows, sums=tuple(map(str, digest.sums)), marked=marks)
        self.sums = [a + b for a, b in zip(self.sums or [0] * len(sums), sums, strict=True)]
        self.elapsed_s += elapsed_s
        if elapsed_s > 0 and len(taken) > 1:
            self.chunk_parts = self._bounded(int(len(taken) * _CHUNK_S / elapsed_s))

    def refuse(self, taken: "Taken", damage: "Damage") -> None:
        """Take note that a single part cannot be read because its file is damaged."""
        if taken.epoch == self.epoch:
            self.damaged[taken.first] = damage

    @property
    def done(self) -> bool:
        """Return whether every part is read, or known to be unreadable."""
        return len(self.parts) + len(self.damaged) == len(self.ranges)

    @property
    def rows(self) -> int:
        """Return the rows that were read."""
        return sum(part.rows for part in self.parts.values())

    def sealed(self, columns: str, *, unsettled: bool) -> SealedRelation:
        """Return the relation as the manifest holds it; `columns` is the digest of its column names."""
        relation, parts = self.relation, [self.parts[number] for number in range(len(self.ranges))]
        if not unsettled:
            parts = [PartDigest(rows=part.rows, sums=part.sums) for part in parts]
        portable = None
        if self.portable is not None:
            portable = PortableDigest(
                rows=self.rows,
                sums=tuple(map(str, self.sums)),
                columns=columns,
                recomputed=self.recomputed or relation.kind is RelationKind.MATERIALIZED_VIEW,
            )
        return SealedRelation(
            schema=relation.schema,
            name=relation.name,
            kind=relation.kind or RelationKind.TABLE,
            oid=relation.oid,
            filenode=relation.filenode_now or 0,
            token=relation.token,
            rows=self.rows,
            size_bytes=relation.total_bytes,
            part_blocks=self.width,
            parts=tuple(parts),
            by_column=self.by_column,
            portable=portable,
        )

    def _step(self) -> int:
        return self.chunk_parts or self._bounded(_FIRST_CHUNK_BLOCKS // self.width)

    def _bounded(self, parts: int) -> int:
        low, high = _SMALLEST_CHUNK_BLOCKS // self.width, _LARGEST_CHUNK_BLOCKS // self.width
        return max(1, min(max(parts, low), max(high, 1)))
