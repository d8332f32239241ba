"""Judge rows of a copy that stands still at an earlier point against those of the live primary. Pure.

A tuple keeps its position, so a row that the primary still shows and that was committed before the copy's point must be
in the copy, at that position and with the same bytes. A row that only the copy shows may have been deleted or updated
since, and nothing that SQL can read tells when: it has moved on, and is neither proven nor held against the copy.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from replcheck.audit.explanation import Ctid
from replcheck.postgres.digests import ListedRow

_EPOCH = 1 << 32


def full_xid(narrow: int, below: int) -> int:
    """Return the newest 64-bit transaction id below a bound whose lower 32 bits are `narrow`.

    >>> full_xid(5, 10), full_xid(5, (1 << 32) + 3), full_xid(1, (1 << 32) + 3) == (1 << 32) + 1
    (5, 5, True)
    """
    candidate = (below - 1) // _EPOCH * _EPOCH + narrow
    return candidate if candidate < below else candidate - _EPOCH


@dataclass(slots=True, kw_only=True)
class Judged:
    """What some parts showed."""

    equal: int = 0
    moved_on: int = 0
    """Rows of the copy whose fate on the primary cannot be told."""
    later: int = 0
    """Rows of the primary that were written after the copy's point, at positions where the copy has none."""
    missing: list[Ctid] = field(default_factory=list)
    changed: list[Ctid] = field(default_factory=list)

    @property
    def nothing_shown(self) -> bool:
        """Return whether the primary has rows, all written since, and not one row of the copy was compared.

        A relation that was empty then shows this, and so does one that was restored without its rows.
        """
        return self.later > 0 and not (self.equal or self.moved_on or self.suspects)

    @property
    def suspects(self) -> frozenset[Ctid]:
        """Return the positions that are held against the copy."""
        return frozenset((*self.missing, *self.changed))


def judge_rows(there: Iterable[ListedRow], here: Iterable[ListedRow], *, is_later: Callable[[int], bool]) -> Judged:
    """Judge the rows of the same blocks; `is_later` tells of a 32-bit xid whether the copy's point precedes it.

    >>> row = ListedRow(0, 1, 7, 0, (1,))
    >>> judge_rows([row], [row], is_later=lambda xid: False).equal
    1
    >>> judge_rows([ListedRow(0, 1, 9, 0, (1,))], [], is_later=lambda xid: xid > 8).later
    1
    >>> judge_rows([row], [], is_later=lambda xid: xid > 8).missing
    [(0, 1)]
    """
    primary, copy = _by_position(there), _by_position(here)
    judged = Judged()
    for ctid in sorted(primary.keys() | copy.keys()):
        row, mine = primary.get(ctid), copy.get(ctid)
        if row is None:
            judged.moved_on += 1
        elif mine is None:
            if is_later(row.xmin):
                judged.later += 1
            else:
                judged.missing.append(ctid)
        elif row.sums == mine.sums:
            judged.equal += 1
        elif is_later(row.xmin):
            judged.moved_on += 1
        else:
            judged.changed.append(ctid)
    return judged


def confirmed(first: Judged, second: Judged) -> Judged:
    """Return the second look with only those suspects that the first showed too; the others have moved on meanwhile."""
    doubtful = second.suspects - first.suspects
    return Judged(
        equal=second.equal,
        moved_on=second.moved_on + len(doubtful),
        later=second.later,
        missing=[ctid for ctid in second.missing if ctid not in doubtful],
        changed=[ctid for ctid in second.changed if ctid not in doubtful],
    )


def _by_position(rows: Iterable[ListedRow]) -> Mapping[Ctid, ListedRow]:
    return {(row.block, row.offset): row for row in rows}
