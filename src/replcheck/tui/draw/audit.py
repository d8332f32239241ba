"""A running audit: how far it is, and each relation as a line."""

from functools import lru_cache
from itertools import pairwise

from textual.content import Content

from replcheck.model.names import printable
from replcheck.model.outcome import Outcome
from replcheck.model.units import format_duration, format_size
from replcheck.tui.audit_state import AuditModel, Phase, Rank, RelationProgress
from replcheck.tui.draw.ranks import RANK_OUTCOME, RANK_WORD
from replcheck.tui.draw.spark import bar, curve
from replcheck.tui.draw.table import Cell, Column, Layout, laid_out
from replcheck.tui.look import (
    BAD,
    COLOUR,
    FAINT,
    QUIET,
    SIGN,
    VALUE,
    WARN,
    Look,
    age,
)

_RATES_SHOWN = 20
_PHASES = {
    Phase.CONNECTING: ("◌", "$primary"),
    Phase.READING: ("▶", "$primary"),
    Phase.HELD: ("■", WARN),
}


def headline(audit: AuditModel, look: Look, width: int) -> list[Content]:
    """Return how far the audit is, in three lines, or four where its verdict takes two."""
    return [*shortened(_first(audit, look), width, 2), _second(audit, look, width), _third(audit)]


def shortened(told: Content, width: int, most: int) -> list[Content]:
    """Return a text in at most so many lines, with a sign where there would be more."""
    lines = told.wrap(width)
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], Content.assemble(lines[most - 1].truncate(width - 2).rstrip(), " …")]


def _first(audit: AuditModel, look: Look) -> Content:
    if audit.outcome is not None:
        return ended(audit.outcome, audit.summary)
    sign, colour = _PHASES[audit.phase]
    since = f"began {look.moment(audit.started_at)}"
    nodes = ", ".join(node.name for node in audit.nodes)
    return Content.assemble(
        (f"{sign} {audit.phase.value}", f"bold {colour}"),
        "  ",
        (f"{since}{': ' + printable(nodes) if nodes else ''}", QUIET),
    )


def ended(outcome: Outcome, summary: str) -> Content:
    """Return how a run ended: its outcome, and the verdict in one sentence."""
    return Content.assemble((f"{SIGN[outcome]} {outcome.value}", f"bold {COLOUR[outcome]}"), "  ", printable(summary))


def _second(audit: AuditModel, look: Look, width: int) -> Content:
    figures = [
        f"{audit.share:4.0%}",
        f"{format_size(audit.compared_bytes)} of {format_size(max(audit.planned_bytes, audit.compared_bytes))}",
        f"{audit.rows_per_s(look.now):,.0f} rows/s",
        _time(audit, look),
    ]
    text = "  ".join(figures)
    room = width - len(text) - 2
    rates = _rates(audit) if room >= 40 else []
    drawn = bar(
        audit.share,
        max(8, room - (_RATES_SHOWN + 2 if rates else 0)),
        COLOUR[audit.outcome] if audit.outcome else "$primary",
    )
    tail = Content.assemble("  ", curve(rates, _RATES_SHOWN)) if rates else Content("")
    return Content.assemble(drawn, "  ", (text, VALUE), tail)


def _time(audit: AuditModel, look: Look) -> str:
    left = audit.seconds_left(look.now)
    if left is not None:
        return f"{age(left)} left"
    worked_s = audit.worked_s(look.now)
    return f"{age(worked_s)} so far" if audit.running else f"took {format_duration(worked_s)}"


def _rates(audit: AuditModel) -> list[float]:
    pairs = pairwise(audit.points[-_RATES_SHOWN - 1 :])
    return [(after.rows - before.rows) / max((after.at - before.at).total_seconds(), 1e-3) for before, after in pairs]


def _third(audit: AuditModel) -> Content:
    if audit.phase is Phase.HELD:
        return Content.styled(f"holding still: {printable(audit.held_because)}", WARN)
    if audit.away:
        told = "; ".join(f"{node} is away: {reason}" for node, reason in audit.away.items())
        return Content.styled(f"✘ {printable(told)}", BAD)
    parts = [_lanes(audit)] if audit.running else []
    parts += [f"{audit.rows:,} rows", f"{audit.chunks:,} chunks", f"{audit.chunks_again:,} read again"]
    if audit.indexes:
        parts.append(f"{audit.indexes_checked:,} index checks")
    if audit.skipped:
        parts.append(f"{audit.skipped:,} not checked")
    warnings = [finding for finding in audit.findings if finding.outcome is not Outcome.PROVEN]
    if warnings:
        parts.append(f"{len(warnings):,} findings")
    return Content.styled(printable("  ".join(part for part in parts if part)), QUIET)


def _lanes(audit: AuditModel) -> str:
    reading = sorted({lane.relation for lane in audit.lanes.values() if lane.relation})
    return ", ".join(reading[:3]) or audit.doing


@lru_cache(32)
def relation_layout(replicas: tuple[str, ...], width: int) -> Layout:
    """Return the columns of the relations that fit: one for each replica, however narrow."""
    each = max(4, min(20, (width - 46) // max(1, len(replicas)) - 2))
    columns = [
        Column(key="verdict", title="VERDICT", least=14),
        Column(key="relation", title="relation", least=26, most=60, cut=True),
        Column(key="done", title="done", least=8, most=40, keep=4),
        Column(key="rows", title="rows", least=11, right=True, keep=3),
        Column(key="size", title="size", least=6, right=True, keep=5),
        Column(key="chunks", title="chunks", least=6, right=True, keep=1),
        *(Column(key=f"replica {name}", title=name, least=min(each, max(4, len(name)))) for name in replicas),
    ]
    return laid_out(columns, width)


def relation_row(layout: Layout, relation: RelationProgress) -> Content:
    """Return one relation as a line."""
    sign, word, colour = _mark(relation)
    cells: dict[str, Cell] = {
        "verdict": (f"{sign} {word}", colour),
        "relation": _name(relation),
        "done": _done(relation, layout.width("done"), colour),
        "rows": f"{relation.rows:,}" if relation.rank is not Rank.WAITING else "",
        "size": format_size(relation.size_bytes),
        "chunks": f"{relation.chunks:,}" if relation.chunks else "",
    }
    for column, _ in layout.columns:
        if column.key.startswith("replica "):
            cells[column.key] = _replica(relation, column.title)
    return layout.row(cells)


def _mark(relation: RelationProgress) -> tuple[str, str, str]:
    if relation.awaits_settling:
        return "▪", "matched", "$primary"
    outcome = RANK_OUTCOME[relation.rank]
    sign = "▶" if relation.rank is Rank.READING else SIGN[outcome]
    colour = {Rank.READING: "$primary", Rank.WAITING: FAINT}.get(relation.rank, COLOUR[outcome])
    return sign, RANK_WORD[relation.rank], colour


def _name(relation: RelationProgress) -> Content:
    return Content.assemble((printable(f"{relation.database}."), FAINT), printable(relation.relation))


def _done(relation: RelationProgress, width: int, colour: str) -> Cell:
    if relation.report is not None:
        return ("━" * width, colour)
    return bar(relation.share, width)


def _replica(relation: RelationProgress, name: str) -> Cell:
    if relation.report is not None:
        for replica in relation.report.replicas:
            if replica.node == name:
                outcome = replica.verdict.outcome
                more = f" {replica.rows_differing:,}" if replica.rows_differing else ""
                more += "+" if more and replica.capped else ""
                return f"{SIGN[outcome]}{more}", COLOUR[outcome]
        return "", ""
    found = relation.differences.get(name)
    if found is None or not (found.rows or found.in_flight):
        return "·", FAINT
    if found.rows and found.look > 1:
        return f"✘ {found.rows:,}", BAD
    return f"~ {found.rows + found.in_flight:,}", WARN
