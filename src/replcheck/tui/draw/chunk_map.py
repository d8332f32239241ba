"""Maps of chunks: one sign for so many bytes of a whole audit, or so many blocks of one relation."""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import pairwise

from textual.content import Content

from replcheck.tui.audit_state import AuditModel, Rank, RelationProgress
from replcheck.tui.look import BAD, FAINT, GOOD, QUIET, UNSURE, WARN
from replcheck.tui.ranges import Ranges, overlap


class Tone(IntEnum):
    """What a cell of a map shows: the highest of what lies in it."""

    NOT_YET = 0
    PROVEN = 1
    PARTLY = 2
    """Something in it matched or is proven, and not all of it is proven."""
    UNPROVEN = 3
    """Something in it could not be proven."""
    IN_FLIGHT = 4
    DIVERGED = 5


_MARKS = {
    Tone.NOT_YET: ("·", FAINT),
    Tone.PROVEN: ("■", GOOD),
    Tone.PARTLY: ("▪", GOOD),
    Tone.UNPROVEN: ("?", UNSURE),
    Tone.IN_FLIGHT: ("□", WARN),
    Tone.DIVERGED: ("✘", f"bold {BAD}"),
}
_WORDS = {
    Tone.PROVEN: "proven",
    Tone.PARTLY: "matched",
    Tone.IN_FLIGHT: "in flight",
    Tone.DIVERGED: "diverged",
    Tone.UNPROVEN: "not proven",
    Tone.NOT_YET: "not yet",
}
_WIDE = 76
_UNPROVEN = {Rank.UNCHECKED, Rank.INCONCLUSIVE}


def legend(note: str, width: int) -> Content:
    """Return what the signs mean, and how much one of them stands for."""
    signs = _signs([tone for tone in _WORDS if width >= _WIDE or tone is not Tone.UNPROVEN])
    room = width - signs.cell_length
    return signs if room < len(note) else Content.assemble(signs, (note.rjust(room), QUIET))


def _signs(tones: Iterable[Tone]) -> Content:
    parts: list[Content | tuple[str, str] | str] = []
    for tone in tones:
        parts += [_MARKS[tone], " ", (f"{_WORDS[tone]}  ", QUIET)]
    return Content.assemble(*parts)


def drawn_map(tones: Sequence[Tone], width: int) -> list[Content]:
    """Return the cells in lines of `width`."""
    return [_line(tones[at : at + width]) for at in range(0, len(tones), width)]


def _line(tones: Sequence[Tone]) -> Content:
    """Return one line; neighbours that look alike are one span, which is what makes a large map cheap."""
    parts: list[tuple[str, str]] = []
    at = 0
    while at < len(tones):
        end = at
        while end < len(tones) and tones[end] == tones[at]:
            end += 1
        sign, style = _MARKS[tones[at]]
        parts.append((sign * (end - at), style))
        at = end
    return Content.assemble(*parts)


def relation_tones(relation: RelationProgress, cells: int) -> list[Tone]:
    """Return the map of one relation's blocks; never more cells than blocks."""
    cells = max(1, min(cells, relation.blocks))
    edges = [cell * relation.blocks // cells for cell in range(cells + 1)]
    return [_tone(relation, first, end) for first, end in pairwise(edges)]


def _tone(relation: RelationProgress, first: int, end: int) -> Tone:
    if _touches(relation.diverged, first, end):
        return Tone.DIVERGED
    if _touches(relation.in_flight, first, end):
        return Tone.IN_FLIGHT
    proven = overlap(relation.proven, first, end)
    if proven >= end - first:
        return Tone.PROVEN
    if relation.rank in _UNPROVEN or relation.report is not None:
        return Tone.UNPROVEN
    return Tone.PARTLY if proven or _touches(relation.matched, first, end) else Tone.NOT_YET


def _touches(ranges: Ranges, first: int, end: int) -> bool:
    return bool(ranges) and overlap(ranges, first, end) > 0


class AuditMap:
    """The map of a whole audit: relations in the order of their numbers, each as large as it is.

    What has not changed since the last drawing is not worked out again: of five thousand relations, few change a tick.
    """

    def __init__(self) -> None:
        self._shape: tuple[int, int, int] = (0, 0, 0)
        self._relations: Sequence[RelationProgress] = ()
        self._spans: Sequence[tuple[int, int]] = ()
        """Of each relation the first cell, and the cell behind the last."""
        self._inside: Sequence[list[int]] = ()
        """Of each cell the relations that lie in it, by their place in the order."""
        self._tones: list[Tone] = []

    def tones(self, audit: AuditModel, cells: int) -> Sequence[Tone]:
        """Return so many cells of the audit as it is now."""
        before, self._relations = self._relations, tuple(audit.relations.values())
        total = max(audit.planned_bytes, sum(relation.size_bytes for relation in self._relations), 1)
        shape = (len(self._relations), total, cells)
        if shape != self._shape:
            self._shape = shape
            self._lay_out(total, cells)
            self._tones = [self._cell(cell) for cell in range(cells)]
            return self._tones
        pairs = zip(before, self._relations, strict=True)
        changed = [number for number, (old, new) in enumerate(pairs) if old is not new]
        for cell in {cell for number in changed for cell in range(*self._spans[number])}:
            self._tones[cell] = self._cell(cell)
        return self._tones

    def _lay_out(self, total: int, cells: int) -> None:
        offset, spans = 0, []
        inside: list[list[int]] = [[] for _ in range(cells)]
        for number, relation in enumerate(self._relations):
            first = min(offset * cells // total, cells - 1)
            offset += relation.size_bytes
            end = max(first + 1, offset * cells // total)
            spans.append((first, end))
            for cell in range(first, end):
                inside[cell].append(number)
        self._spans, self._inside = spans, inside

    def _cell(self, cell: int) -> Tone:
        tones = {self._part(number, cell) for number in self._inside[cell]}
        highest = max(tones, default=Tone.NOT_YET)
        return Tone.PARTLY if highest is Tone.PROVEN and Tone.NOT_YET in tones else highest

    def _part(self, number: int, cell: int) -> Tone:
        relation, (first, end) = self._relations[number], self._spans[number]
        if end - first == 1:
            return _whole_tone(relation)
        low = (cell - first) * relation.blocks // (end - first)
        high = (cell - first + 1) * relation.blocks // (end - first)
        return _tone(relation, low, max(low + 1, high))


def _whole_tone(relation: RelationProgress) -> Tone:
    """Return what a relation is as a whole: one that is too small for a cell of its own."""
    if relation.rank is Rank.PROVEN:
        return Tone.PROVEN
    if relation.rank is Rank.DIVERGED:
        return Tone.DIVERGED
    if relation.rank in _UNPROVEN:
        return Tone.UNPROVEN
    if relation.in_flight:
        return Tone.IN_FLIGHT
    return Tone.PARTLY if relation.proven or relation.matched else Tone.NOT_YET
