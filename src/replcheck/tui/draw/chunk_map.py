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
    """Something in it is proven, and something is not read yet."""
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
    Tone.PARTLY: "in part",
    Tone.IN_FLIGHT: "in flight",
    Tone.DIVERGED: "diverged",
    Tone.UNPROVEN: "not proven",
    Tone.NOT_YET: "not yet",
}
_UNPROVEN = {Rank.UNCHECKED, Rank.INCONCLUSIVE}


def legend(note: str, width: int) -> Content:
    """Return what the signs mean, and how much one of them stands for."""
    parts: list[Content | tuple[str, str] | str] = []
    for tone, word in _WORDS.items():
        parts += [_MARKS[tone], " ", (f"{word}  ", QUIET)]
    signs = Content.assemble(*parts)
    room = width - signs.cell_length
    return signs if room < len(note) else Content.assemble(signs, (note.rjust(room), QUIET))


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
    if relation.rank in _UNPROVEN:
        return Tone.UNPROVEN
    return Tone.PARTLY if proven else Tone.NOT_YET


def _touches(ranges: Ranges, first: int, end: int) -> bool:
    return bool(ranges) and overlap(ranges, first, end) > 0


def audit_tones(audit: AuditModel, cells: int) -> list[Tone]:
    """Return the map of the whole audit: relations in the order in which they were begun, each as large as it is."""
    known = sum(relation.size_bytes for relation in audit.relations.values())
    total = max(audit.planned_bytes, known, 1)
    return _laid_out(audit.relations.values(), total, cells)


def _laid_out(relations: Iterable[RelationProgress], total: int, cells: int) -> list[Tone]:
    """Lay relations out by their size; one too small for a cell of its own shares one with its neighbours."""
    tones = [Tone.NOT_YET] * cells
    filled = [0] * cells
    offset = 0
    for relation in relations:
        first, end = offset * cells // total, (offset + relation.size_bytes) * cells // total
        offset += relation.size_bytes
        if end - first <= 1:
            cell = min(first, cells - 1)
            tone = _whole_tone(relation)
            tones[cell] = max(tones[cell], tone)
            filled[cell] += relation.size_bytes if tone is Tone.PROVEN else 0
            continue
        for cell, tone in zip(range(first, end), _stretched(relation, end - first), strict=True):
            tones[cell] = max(tones[cell], tone)
    return [
        Tone.PARTLY if tone is Tone.PROVEN and 0 < filled[cell] < total // cells * 0.9 else tone
        for cell, tone in enumerate(tones)
    ]


def _whole_tone(relation: RelationProgress) -> Tone:
    if relation.rank is Rank.PROVEN:
        return Tone.PROVEN
    if relation.rank is Rank.DIVERGED:
        return Tone.DIVERGED
    if relation.rank in _UNPROVEN:
        return Tone.UNPROVEN
    if relation.in_flight:
        return Tone.IN_FLIGHT
    return Tone.PARTLY if relation.proven else Tone.NOT_YET


def _stretched(relation: RelationProgress, cells: int) -> list[Tone]:
    """Return its map in exactly so many cells, also where it has fewer blocks."""
    tones = relation_tones(relation, cells)
    return [tones[cell * len(tones) // cells] for cell in range(cells)]
