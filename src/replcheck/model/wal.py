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


def file_end(name: str, segment_size: int) -> Lsn | None:
    """Return where a WAL file of that name ends; None for other files of the archive (PostgreSQL, xlog_internal.h).

    >>> file_end("000000010000000000000002", 16 << 20), file_end("00000002.history", 16 << 20)
    (0/3000000, None)
    """
    if len(name) != 24:
        return None
    try:
        log, number = int(name[8:16], 16), int(name[16:], 16)
    except ValueError:
        return None
    return Lsn((log << 32) + (number + 1) * segment_size)
