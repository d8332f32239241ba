"""What explains a row that differs: a transaction that one snapshot sees and the other does not.

Pure. An explanation only ever defers: an in-flight row is proven again under a new alignment, so `consistent` always
means every row. Row headers hold 32-bit xids, so sets of 64-bit xids are compared modulo 2^32.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from replcheck.audit.visibility import Unsettled
from replcheck.model.audit import DifferenceKind

Ctid = tuple[int, int]
"""Block and offset of a tuple."""
_EPOCH = 1 << 32


@dataclass(frozen=True, slots=True)
class RowVersion:
    """A row as one snapshot sees it: position, header and the digest of its columns; never a value."""

    ctid: Ctid
    xmin: int
    """32-bit."""
    xmax: int
    """32-bit; 0, a deleter, a locker or a multixact id: the header alone does not tell which."""
    digest: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDifference:
    """One tuple position that differs between the primary and a replica."""

    ctid: Ctid
    kind: DifferenceKind
    in_flight: bool
    lone: str | None = None
    """The node that differs here from all the others, where three or more were compared."""


Updaters = Mapping[int, frozenset[int]]
"""Multixact id -> its updating members, 32-bit; ids that are none or are gone are absent."""


def differing(primary: Iterable[RowVersion], replica: Iterable[RowVersion]) -> dict[Ctid, DifferenceKind]:
    """Return the positions whose rows differ, judged from the replica."""
    there = {row.ctid: row for row in primary}
    here = {row.ctid: row for row in replica}
    kinds: dict[Ctid, DifferenceKind] = {}
    for ctid in there.keys() | here.keys():
        if ctid not in here:
            kinds[ctid] = DifferenceKind.MISSING
        elif ctid not in there:
            kinds[ctid] = DifferenceKind.EXTRA
        elif there[ctid].digest != here[ctid].digest:
            kinds[ctid] = DifferenceKind.CHANGED
    return kinds


def questionable_multixacts(
    primary: Iterable[RowVersion], replica: Iterable[RowVersion], difference: Unsettled
) -> frozenset[int]:
    """Return the xmax values of differing rows that could be multixact ids hiding an unsettled updater."""
    if not len(difference):
        return frozenset()
    known = _narrow(difference.behind | difference.ahead)
    kinds = differing(primary, replica)
    rows = [row for row in (*primary, *replica) if row.ctid in kinds]
    return frozenset(row.xmax for row in rows if row.xmax and row.xmax not in known)


def explain(
    primary: Iterable[RowVersion],
    replica: Iterable[RowVersion],
    difference: Unsettled,
    updaters: Updaters,
) -> tuple[RowDifference, ...]:
    """Tell of every differing row whether an unsettled transaction explains it in the right direction.

    A row on one side only is explained by its inserter where that side is the later one, and by its deleter where that
    side is the earlier one. A changed row needs both: two versions that took turns at one position.
    """
    there = {row.ctid: row for row in primary}
    here = {row.ctid: row for row in replica}
    behind, ahead = _narrow(difference.behind), _narrow(difference.ahead)
    return tuple(
        RowDifference(
            ctid=ctid,
            kind=kind,
            in_flight=_comes_and_goes(there.get(ctid), behind, ahead, updaters)
            and _comes_and_goes(here.get(ctid), ahead, behind, updaters)
            and not _same_version(there.get(ctid), here.get(ctid)),
        )
        for ctid, kind in sorted(differing(there.values(), here.values()).items())
    )


def _comes_and_goes(row: RowVersion | None, later: frozenset[int], earlier: frozenset[int], updaters: Updaters) -> bool:
    if row is None:
        return True
    return row.xmin in later or row.xmax in earlier or bool(updaters.get(row.xmax, frozenset()) & earlier)


def _same_version(there: RowVersion | None, here: RowVersion | None) -> bool:
    return there is not None and here is not None and there.xmin == here.xmin


def _narrow(xids: frozenset[int]) -> frozenset[int]:
    return frozenset(xid % _EPOCH for xid in xids)
