"""Compare what was read of a copy with its seal. Pure.

A differing part accuses the copy only where no transaction explains it that was unsettled at the seal's restore point
and is committed in the copy. Such a transaction leaves rows of its own in the copy, or took rows away that the seal
counted as marked when it read them.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from replcheck.drill.sealed_parts import Gathering
from replcheck.model.drill import LayerName, LayerReport, LayerState, RowDifference
from replcheck.model.seal import PartDigest, SealedRelation
from replcheck.postgres.digests import LAST_BLOCK

_MOST_NAMED = 5
NOTHING_THERE = "nothing was there to compare"
"""What is not looked at is never proven."""


@dataclass(slots=True, kw_only=True)
class Findings:
    """What a layer has gathered so far."""

    differences: list[RowDifference] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    """What could not be proven, a clause each."""
    relations: int = 0
    """That were compared, sequences included."""
    rows: int = 0
    """That were compared and matched."""

    def add(self, more: "Findings") -> None:
        """Take in what another part found."""
        self.differences += more.differences
        self.doubts += more.doubts
        self.relations += more.relations
        self.rows += more.rows

    def report(self, name: LayerName, elapsed_s: float) -> LayerReport:
        """Return the report of the layer."""
        state, reason = LayerState.PASSED, ""
        if self.differences:
            state = LayerState.FAILED
            differing = {(found.database, found.relation) for found in self.differences}
            reason = f"{_counted(len(differing), 'relation differs', 'relations differ')}"
        elif self.doubts:
            state, reason = LayerState.INCONCLUSIVE, _listed(self.doubts)
        elif not self.relations:
            state, reason = LayerState.INCONCLUSIVE, NOTHING_THERE
        return LayerReport(
            name=name,
            state=state,
            reason=reason,
            checked=f"{_counted(self.relations, 'relation', 'relations')}, {_counted(self.rows, 'row', 'rows')}",
            rows=self.rows,
            relations=self.relations,
            differences=tuple(self.differences),
            elapsed_s=elapsed_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What of the place of a restored dump may make its rows differ, with nothing wrong in the dump."""

    lacking: bool = False
    """Whether something was not restored that this machine does not have, or does not allow."""
    other_locale: bool = False
    other_money: bool = False
    """Whether values of type money are read here by another locale than the one by which they were written."""

    def excuse(self, kind: str, *, empty: bool, computed: bool, moneyed: bool = False) -> str:
        """Return why a difference of a relation does not accuse the dump; empty where it does.

        `empty` says that the copy has no row of it: rows come by one statement, so that all are refused or none.
        `computed` says that it has a stored generated column, or is a partition, whose bounds depend on the order of
        texts; `moneyed` that it holds values of type money: those that are misread leave their number as it is.

        >>> Surroundings().excuse("changed", empty=False, computed=True)
        ''
        """
        gone = empty or kind == "absent"
        if self.lacking and gone:
            return "it did not come back, and neither did something that this machine lacks"
        if self.other_locale and (gone or computed):
            return "the database has another locale here, which its rows may depend on"
        if self.other_money and moneyed and (gone or kind == "changed"):
            return "values of type money are read by another lc_monetary here than they were written by"
        return ""


def differing_parts(sealed: SealedRelation, gathering: Gathering) -> list[int]:
    """Return the numbers of the parts that were read and are not as they were sealed."""
    return [
        number
        for number, (there, here) in enumerate(_pairs(sealed, gathering))
        if here is not None and (there.rows, there.sums) != (here.rows, here.sums)
    ]


def matched_rows(sealed: SealedRelation, gathering: Gathering) -> int:
    """Return how many rows lie in parts that are as they were sealed."""
    return sum(
        here.rows
        for there, here in _pairs(sealed, gathering)
        if here is not None and (there.rows, there.sums) == (here.rows, here.sums)
    )


def _pairs(sealed: SealedRelation, gathering: Gathering) -> Iterable[tuple[PartDigest, PartDigest | None]]:
    return ((there, gathering.parts.get(number)) for number, there in enumerate(sealed.parts))


def row_differences(sealed: SealedRelation, gathering: Gathering, numbers: Collection[int]) -> list[RowDifference]:
    """Return how the rows of those parts differ, one difference a kind, with the least number of rows."""
    found: dict[str, list[tuple[int, int]]] = {}
    for number in sorted(numbers):
        more = gathering.parts[number].rows - sealed.parts[number].rows
        kind = "extra" if more > 0 else "missing" if more < 0 else "changed"
        found.setdefault(kind, []).append((number, abs(more) or 1))
    return [
        _difference(gathering, kind, [number for number, _ in parts], sum(count for _, count in parts))
        for kind, parts in found.items()
    ]


def unreadable_parts(gathering: Gathering) -> list[RowDifference]:
    """Return what cannot be read of the copy although the primary could read it, as one difference."""
    if not gathering.damaged:
        return []
    blocks = [damage.block for damage in gathering.damaged.values()]
    found = _difference(gathering, "unreadable", sorted(gathering.damaged), None)
    known = [block for block in blocks if block is not None]
    if len(known) < len(blocks):
        return [found]
    return [_between(gathering, "unreadable", None, min(known), max(known))]


def unreadable(gathering: Gathering) -> RowDifference:
    """Return the difference of a relation somewhere in which the copy cannot be read."""
    return _between(gathering, "unreadable", None, 0, max(gathering.blocks - 1, 0))


def absent(database: str, relation: str) -> RowDifference:
    """Return the difference of a relation that the copy lacks."""
    return RowDifference(database=database, relation=relation, kind="absent", count=None)


def unexpected(database: str, relation: str) -> RowDifference:
    """Return the difference of a relation that only the copy has."""
    return RowDifference(database=database, relation=relation, kind="unexpected", count=None)


def changed(database: str, relation: str, count: int | None = None) -> RowDifference:
    """Return the difference of a relation of which no more is known than that it is another."""
    return RowDifference(database=database, relation=relation, kind="changed", count=count)


def block_ranges(gathering: Gathering, numbers: Sequence[int]) -> str:
    """Return the blocks of parts for people, a few of them."""
    ends = [_ends(gathering, number) for number in numbers[:_MOST_NAMED]]
    told = ", ".join(f"{first} to {last}" for first, last in ends)
    return told + (f" and {len(numbers) - _MOST_NAMED} more parts" if len(numbers) > _MOST_NAMED else "")


def _difference(gathering: Gathering, kind: str, numbers: Sequence[int], count: int | None) -> RowDifference:
    return _between(gathering, kind, count, _ends(gathering, numbers[0])[0], _ends(gathering, numbers[-1])[1])


def _between(gathering: Gathering, kind: str, count: int | None, first: int, last: int) -> RowDifference:
    return RowDifference(
        database=gathering.database,
        relation=gathering.relation.label,
        kind=kind,
        count=count,
        first_block=first,
        last_block=last,
    )


def _ends(gathering: Gathering, number: int) -> tuple[int, int]:
    """Return the first and last block of a part; the last part ends where the relation does."""
    first, end = gathering.ranges[number]
    if end == LAST_BLOCK:
        end = max(first + 1, gathering.blocks)
    return first, end - 1


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _listed(doubts: Sequence[str]) -> str:
    told = "; ".join(doubts[:_MOST_NAMED])
    return told + (f"; and {len(doubts) - _MOST_NAMED} more" if len(doubts) > _MOST_NAMED else "")
