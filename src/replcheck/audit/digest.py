"""Digest levels and seeds.

A digest is the row count and the sum of the rows' hashes. Digests of different encodings are never compared. The seed
is random per run, so that a collision can be neither prepared nor lasting, and is kept out of every report; so are the
digests, which say nothing outside their run.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from replcheck.audit.options import Level
from replcheck.postgres.digests import Digest, RowHash, hashes_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a level turns rows into numbers. Once released, an encoding stays computable under its name."""

    name: str
    seeds: int
    """How many 64-bit hashes a row gets."""
    by_equality: bool
    """Whether values of some types are compared by equality (1.0 and 1.00 alike) rather than byte by byte."""


ENCODINGS: Mapping[Level, Encoding] = {
    Level.FAST: Encoding(name="fast/1", seeds=1, by_equality=True),
    Level.EXACT: Encoding(name="exact/1", seeds=1, by_equality=False),
    Level.STRONG: Encoding(name="strong/1", seeds=2, by_equality=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hasher:
    """The encoding and the seeds of one run."""

    encoding: Encoding
    seeds: tuple[int, ...]
    direct: bool = False
    """Whether every node hashes bytes as they are (`digests.hashes_bytes`)."""

    def how(self, *, by_column: bool = False) -> RowHash:
        """Return how to hash rows; `by_column` is for those that exceed the server's largest value."""
        by_equality = self.encoding.by_equality and not by_column
        return RowHash(seeds=self.seeds, by_equality=by_equality, by_column=by_column, direct=self.direct)


def new_hasher(level: Level, versions: Iterable[int] = (0,)) -> Hasher:
    """Draw the seeds of a run over nodes of these versions, each as its server reports it (180006)."""
    encoding = ENCODINGS[level]
    seeds = tuple(secrets.randbits(63) for _ in range(encoding.seeds))
    return Hasher(encoding=encoding, seeds=seeds, direct=all(map(hashes_bytes, versions)))


def added(digests: Iterable[Digest]) -> Digest:
    """Return the digest of several parts together.

    >>> added([Digest(1, (5,)), Digest(2, (-7,))])
    Digest(rows=3, sums=(-2,))
    """
    parts = list(digests)
    sums = zip(*(part.sums for part in parts), strict=True)
    return Digest(sum(part.rows for part in parts), tuple(sum(values) for values in sums))
