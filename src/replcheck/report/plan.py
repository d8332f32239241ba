"""A plan for people: what would be read and how, what would not and why, what it takes; the estimate last."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from replcheck.model.names import printable, qualified
from replcheck.model.plan import AuditPlan, PlannedDatabase, PlannedRelation
from replcheck.model.units import format_duration, format_size
from replcheck.report.human import print_not_checked
from replcheck.report.style import Style, cell, heading, line, plain_table, verbatim
from replcheck.report.verdict import counted

_RELATIONS_SHOWN = 10


def print_plan(plan: AuditPlan, console: Console, style: Style, *, verbose: bool = False) -> None:
    """Print the plan; `verbose` lists every relation, and all that is not checked by design."""
    line(console, Text(f"replcheck plan of {plan.cluster}", style="bold"), indent=0)
    line(
        console,
        f"{style.time(plan.made_at)}, level {plan.level} ({plan.encoding}), replcheck {plan.tool_version};"
        " only catalogs were read",
        indent=0,
    )
    _print_nodes(plan, console)
    for database in plan.databases:
        _print_database(database, console, verbose=verbose)
    print_not_checked(plan.not_checked, console, verbose=verbose)
    _print_hints(plan, console)
    print_estimate(plan, console, style)


def print_estimate(plan: AuditPlan, console: Console, style: Style) -> None:
    """Print in a few lines what the audit takes, and what the estimate of its time rests on."""
    heading(console, "What it takes")
    line(
        console,
        f"{counted(plan.relation_count, 'relation')} in {counted(len(plan.databases), 'database')},"
        f" {format_size(plan.size_bytes)}, about {counted(plan.chunks, 'chunk')}, read on"
        f" {counted(len(plan.nodes), 'node')} by {counted(plan.lanes, 'lane')}",
    )
    seconds, rate = plan.estimate.seconds, rate_text(plan.estimate.rate.bytes_per_s)
    if plan.estimate.rate.run_id is None:
        line(
            console,
            f"time: at least {_rounded(seconds)}, if a lane compares {rate}. This rate is assumed: no run of these"
            " servers is recorded that tells it; small relations and busy servers take longer",
        )
        return
    when = plan.estimate.rate.measured_at
    line(
        console,
        f"time: about {_rounded(seconds)}, if it goes as quickly as run {plan.estimate.rate.run_id}"
        f"{f' of {style.time(when)}' if when else ''}: {rate}",
    )


def rate_text(bytes_per_s: float) -> str:
    """Return a rate for people.

    >>> rate_text(100_000_000)
    '95MB a second'
    """
    return f"{format_size(round(bytes_per_s))} a second"


def _print_nodes(plan: AuditPlan, console: Console) -> None:
    heading(console, "Nodes")
    table = plain_table(
        "node",
        "role",
        "version",
        "behind",
        "connections",
        "free",
        "snapshots live at most",
        right=("behind", "connections", "free", "snapshots live at most"),
    )
    for planned in plan.nodes:
        node = planned.node
        table.add_row(
            cell(node.name),
            cell(node.role.value),
            cell(node.server_version),
            cell(None if node.lag_bytes is None else format_size(node.lag_bytes)),
            cell(planned.connections_needed),
            cell(planned.connections_free),
            cell(format_duration(planned.max_snapshot_age_s)),
        )
    console.print(table)
    for planned in plan.nodes:
        source = f", streams from {planned.node.upstream}" if planned.node.upstream else ""
        line(console, f"{planned.node.name} at {planned.node.address}{source}")


def _print_database(database: PlannedDatabase, console: Console, *, verbose: bool) -> None:
    heading(console, f"Database {printable(database.name)}")
    line(
        console,
        f"{counted(len(database.relations), 'relation')}, {format_size(database.size_bytes)},"
        f" {counted(database.chunks, 'chunk')}; {counted(len(database.sequences), 'sequence')} bracketed",
    )
    if not database.relations:
        return
    shown = database.relations if verbose else database.relations[:_RELATIONS_SHOWN]
    table = plain_table("relation", "kind", "size", "chunks", "read", right=("size", "chunks"))
    for relation in shown:
        table.add_row(*_cells(relation))
    _add_rest(table, database.relations[len(shown) :])
    console.print(table)
    if verbose and database.sequences:
        line(console, f"sequences: {', '.join(database.sequences)}")


def _cells(relation: PlannedRelation) -> tuple[Text, ...]:
    return (
        cell(qualified(relation.schema, relation.name)),
        cell(relation.kind.value),
        cell(format_size(relation.size_bytes)),
        cell(f"{relation.chunks:,}"),
        cell(relation.reading.value),
    )


def _add_rest(table: Table, rest: Sequence[PlannedRelation]) -> None:
    if rest:
        size, chunks = sum(relation.size_bytes for relation in rest), sum(relation.chunks for relation in rest)
        table.add_row(cell(f"and {len(rest):,} more"), cell(""), cell(format_size(size)), cell(f"{chunks:,}"), cell(""))


def _print_hints(plan: AuditPlan, console: Console) -> None:
    hints = dict.fromkeys(entry.hint for entry in plan.not_checked if entry.hint and not entry.by_design)
    if hints:
        heading(console, "What would let it check them")
        for hint in hints:
            verbatim(console, hint, indent=2)


def _rounded(seconds: float) -> str:
    return format_duration(max(1.0, float(round(seconds))))
