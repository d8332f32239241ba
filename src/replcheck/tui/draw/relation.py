"""One relation of an audit, down to its blocks and tuple positions."""

from collections.abc import Iterable

from textual.content import Content

from replcheck.model.audit import Divergence
from replcheck.model.names import printable
from replcheck.model.units import format_size
from replcheck.report.verdict import counted
from replcheck.tui.audit_state import AuditModel, RelationProgress
from replcheck.tui.draw.chunk_map import drawn_map, legend, relation_tones
from replcheck.tui.draw.ranks import RANK_OUTCOME, RANK_WORD
from replcheck.tui.draw.table import styled
from replcheck.tui.look import BAD, COLOUR, QUIET, SIGN, VALUE, WARN, verdict_mark
from replcheck.tui.ranges import Ranges

_MAP_LINES = 6
_RANGES_SHOWN = 12


def relation_details(audit: AuditModel, relation: RelationProgress, width: int) -> list[Content]:
    """Return all that is known of a relation: its map, each replica's verdict, where rows differ and how to look."""
    outcome = RANK_OUTCOME[relation.rank]
    cells = min(relation.blocks, _MAP_LINES * width)
    size = f"{format_size(relation.size_bytes)}, {counted(relation.rows, 'row')}, {counted(relation.chunks, 'chunk')}"
    return [
        Content.assemble(
            (f"{SIGN[outcome]} {RANK_WORD[relation.rank]}", f"bold {COLOUR[outcome]}"), "  ", (size, QUIET)
        ),
        Content(""),
        *drawn_map(relation_tones(relation, cells), width),
        legend(f"{relation.blocks:,} blocks", width),
        Content(""),
        *_replicas(audit, relation),
        *_blocks(relation),
        *_divergences(audit, relation),
        *_not_checked(audit, relation),
    ]


def _replicas(audit: AuditModel, relation: RelationProgress) -> list[Content]:
    if relation.report is not None:
        lines = []
        for replica in relation.report.replicas:
            told = [_rows_differ(replica.rows_differing, capped=replica.capped)] * bool(replica.rows_differing)
            told += [f"{replica.rows_in_flight:,} in flight"] * bool(replica.rows_in_flight)
            lines.append(_named(replica.node, verdict_mark(replica.verdict), ", ".join(told)))
        return lines
    lines = []
    for name in audit.replicas:
        found = relation.differences.get(name)
        if found is None:
            lines.append(_named(name, ("nothing differs so far", QUIET), ""))
        else:
            again = f"{found.in_flight:,} in flight, look {found.look}"
            lines.append(_named(name, (_rows_differ(found.rows), WARN if found.look == 1 else BAD), again))
    return lines


def _rows_differ(rows: int, *, capped: bool = False) -> str:
    least = "at least " if capped else ""
    return f"{least}{rows:,} row{'' if rows == 1 else 's'} differ{'s' if rows == 1 else ''}"


def _named(name: str, mark: tuple[str, str], more: str) -> Content:
    return Content.assemble((printable(name).ljust(14), VALUE), styled(mark), (f"  {printable(more)}", QUIET))


def _blocks(relation: RelationProgress) -> list[Content]:
    lines = []
    for word, ranges, colour in (("diverged", relation.diverged, BAD), ("in flight", relation.in_flight, WARN)):
        if ranges:
            lines.append(Content.assemble((f"blocks {word}".ljust(18), QUIET), (_told(ranges), colour)))
    return [Content(""), *lines] if lines else []


def _told(ranges: Ranges) -> str:
    shown = [f"{first:,}" if end == first + 1 else f"{first:,} to {end - 1:,}" for first, end in ranges[:_RANGES_SHOWN]]
    more = len(ranges) - _RANGES_SHOWN
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def _divergences(audit: AuditModel, relation: RelationProgress) -> list[Content]:
    own = [found for found in audit.divergences if (found.database, found.relation) == relation.key]
    return [line for found in own for line in _divergence(found)]


def _divergence(found: Divergence) -> Iterable[Content]:
    count = f"{found.count:,}{' or more' if found.capped else ''}"
    yield Content("")
    yield Content.assemble((f"✘ {found.kind.value}", f"bold {BAD}"), f"  {count} on ", (printable(found.node), VALUE))
    if found.what:
        yield Content(printable(f"  {found.what}"))
    if found.sqlstate:
        block = f", block {found.block:,}" if found.block is not None else ""
        yield Content(f"  SQLSTATE {found.sqlstate}{block}")
    if found.ranges:
        shown = "  ".join(str(part) for part in found.ranges[:_RANGES_SHOWN])
        more = len(found.ranges) - _RANGES_SHOWN
        yield Content.assemble(("  ctid  ", QUIET), shown, (f"  and {more:,} more" if more > 0 else "", QUIET))
    if found.query:
        yield Content.styled("  look at the rows under your own role:", QUIET)
        yield Content(printable(f"  {found.query}"))


def _not_checked(audit: AuditModel, relation: RelationProgress) -> list[Content]:
    if audit.result is None:
        return []
    own = [note for note in audit.result.not_checked if (note.database, note.relation) == relation.key]
    lines = [Content.assemble((f"{note.node or 'not checked'}: ", QUIET), printable(note.reason)) for note in own]
    lines += [Content(printable(f"  {note.hint}")) for note in own if note.hint]
    return [Content(""), *lines] if lines else []
