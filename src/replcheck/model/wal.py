"""Positions in the write-ahead log."""

from typing import Self


class Lsn(int):
    """A byte position in the WAL, written as PostgreSQL writes pg_lsn.

    >>> str(Lsn.parse("16/B374D848"))
    '16/B374D848'
    >>> int(Lsn.parse("0/10")), Lsn.parse("0/20") - Lsn.parse("0/10")
    (16, 16)
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `high/low`, both hexadecimal; raise ValueError for anything else."""
        high, _, low = text.partition("/")
        return cls((int(high, 16) << 32) | int(low, 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    __repr__ = __str__
