"""An examination for people: who answers, what the role may do, what is missing and what mends it, the audit last.

The same on several nodes is told once, with their names; statements stand on lines of their own, to be copied.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from replcheck.model.doctor import AuditCost, Check, CheckState, DoctorResult, NodeExamined, RoleReport
from replcheck.model.names import printable, quoted
from replcheck.model.outcome import ExitStatus, Outcome
from replcheck.model.units import format_duration, format_size
from replcheck.report.doctor import sentence, thing
from replcheck.report.style import Style, cell, heading, line, plain_table, verbatim
from replcheck.report.verdict import counted, joined

_SECTIONS = (
    (CheckState.MISSING, "Missing: an audit would end unproven"),
    (CheckState.WARNING, "Warnings: an audit works, and yet"),
    (CheckState.UNKNOWN, "Not to be seen: neither good nor bad"),
)
_OUTCOMES = {
    CheckState.MISSING: Outcome.REFUTED,
    CheckState.WARNING: Outcome.PARTIAL,
    CheckState.UNKNOWN: Outcome.UNCHECKED,
    CheckState.OK: Outcome.PROVEN,
}
_PLACES_SHOWN = 8
_DATABASES_SHOWN = 10


def print_doctor(result: DoctorResult, console: Console, style: Style, *, verbose: bool = False) -> None:
    """Print the report; `verbose` lists what is in order too, and every database."""
    _print_header(result, console, style)
    _print_nodes(result, console)
    _print_roles(result, console)
    for state, title in _SECTIONS:
        _print_checks(result, state, title, console, style)
    if verbose:
        _print_checks(result, CheckState.OK, "In order", console, style)
    else:
        _print_in_order(result, console)
    if result.cost is not None:
        _print_cost(result.cost, console, verbose=verbose)
    print_readiness(result, console, style)


def print_readiness(result: DoctorResult, console: Console, style: Style) -> None:
    """Print whether an audit can be proven, and the command to type next."""
    ready = result.exit_status is ExitStatus.PROVEN
    outcome = style.outcome(Outcome.PROVEN if ready else Outcome.REFUTED, "READY" if ready else "NOT READY")
    console.print()
    line(console, outcome, "  ", sentence(result), indent=0)
    heading(console, "What to do next")
    if not ready:
        line(console, "1. Mend what is missing, as told above, and run replcheck doctor again.")
    line(console, f"{'1' if ready else '2'}. {'Audit' if ready else 'Then audit'}:")
    verbatim(console, result.command, indent=5)


@dataclass(slots=True)
class _Group:
    """Checks that the same remedy mends."""

    first: Check
    places: dict[tuple[str | None, str], list[str]] = field(default_factory=dict)
    """Names of nodes by database and by what is so there."""
    sql_nodes: list[str] = field(default_factory=list)

    def lines(self, everybody: Sequence[str]) -> Iterator[str]:
        """Return one line for each place; `everybody` are all nodes."""
        for (database, what), nodes in self.places.items():
            where = "every node" if len(nodes) > 1 and nodes == list(everybody) else joined(nodes)
            if database is not None:
                where += f"{', ' if where else ''}database {quoted(database)}"
            yield f"{where}: {what}" if where else what


def _groups(checks: Iterable[Check]) -> list[_Group]:
    groups: dict[tuple[object, ...], _Group] = {}
    for check in checks:
        group = groups.setdefault(thing(check), _Group(check))
        if check.sql_node is not None and check.sql_node not in group.sql_nodes:
            group.sql_nodes.append(check.sql_node)
        nodes = group.places.setdefault((check.database, check.what), [])
        if check.node is not None and check.node not in nodes:
            nodes.append(check.node)
    return list(groups.values())


def _print_header(result: DoctorResult, console: Console, style: Style) -> None:
    took = (result.finished_at - result.started_at).total_seconds()
    ready = "ready" if result.exit_status is ExitStatus.PROVEN else "not ready"
    line(console, Text(printable(f"replcheck doctor of {result.cluster}"), style="bold"), f": {ready}", indent=0)
    line(
        console,
        f"{style.time(result.started_at)}, took {format_duration(took)}, for {counted(result.jobs, 'job')},"
        f" replcheck {result.tool_version}",
        indent=0,
    )


def _print_nodes(result: DoctorResult, console: Console) -> None:
    heading(console, "Nodes")
    table = plain_table("node", "role", "version", "timeline", "behind", "reached by", right=("timeline", "behind"))
    for node in result.nodes:
        seen = node.observed
        table.add_row(
            cell(node.name),
            cell(seen.role.value if seen else "not examined"),
            cell(seen.server_version if seen else None),
            cell(seen.timeline if seen else None),
            cell(format_size(seen.lag_bytes) if seen and seen.lag_bytes is not None else None),
            cell(node.transport),
        )
    console.print(table)
    for node in result.nodes:
        source = f", streams from {node.observed.upstream}" if node.observed and node.observed.upstream else ""
        platform = f", {node.platform}" if node.platform else ""
        line(console, f"{node.name} at {node.address}{platform}{source}")


def _print_roles(result: DoctorResult, console: Console) -> None:
    known: list[tuple[NodeExamined, RoleReport]] = [(node, node.role) for node in result.nodes if node.role]
    if not known:
        return
    heading(console, "What the role may do")
    connections = "connections needed/free"
    table = plain_table("node", "role", "read all data", "monitor", "bypass RLS", connections, right=(connections,))
    for node, role in known:
        able = ("superuser",) * 3 if role.superuser else ("", "", "")
        table.add_row(
            cell(node.name),
            cell(role.name),
            cell(able[0] or _yes(role.reads_all_data)),
            cell(able[1] or _yes(role.monitors)),
            cell(able[2] or _yes(role.bypasses_row_security)),
            cell(f"{result.connections_needed}/{'-' if node.connections_free is None else node.connections_free}"),
        )
    console.print(table)


def _yes(able: bool) -> str:
    return "yes" if able else "no"


def _print_checks(result: DoctorResult, state: CheckState, title: str, console: Console, style: Style) -> None:
    checks = [check for check in result.checks if check.state is state]
    if not checks:
        return
    heading(console, title)
    everybody = [node.name for node in result.nodes]
    for group in _groups(checks):
        _print_group(group, everybody, style.outcome(_OUTCOMES[state], ""), console)


def _print_group(group: _Group, everybody: Sequence[str], sign: Text, console: Console) -> None:
    told = list(group.lines(everybody))
    for text in told[:_PLACES_SHOWN]:
        line(console, sign, text)
    if len(told) > _PLACES_SHOWN:
        line(console, sign, f"and {counted(len(told) - _PLACES_SHOWN, 'place')} more, where the same is missing")
    check = group.first
    where = f"On {joined(group.sql_nodes) or 'the primary'}:" if check.sql else ""
    if check.remedy or where:
        line(console, " ".join(filter(None, (check.remedy, where))), indent=4)
    for statement in check.sql:
        verbatim(console, statement, indent=6)


def _print_in_order(result: DoctorResult, console: Console) -> None:
    fine = len({check.code for check in result.checks if check.state is CheckState.OK})
    if fine:
        heading(console, "In order")
        line(console, f"{counted(fine, 'thing')} that an audit stands on (--verbose lists them)")


def _print_cost(cost: AuditCost, console: Console, *, verbose: bool) -> None:
    heading(console, "What an audit costs")
    rate = format_size(cost.assumed_bytes_per_s)
    line(
        console,
        f"{format_size(cost.size_bytes)} in {counted(cost.relations, 'relation')} of"
        f" {counted(len(cost.databases), 'database')} are read once on each node, sizes as on {cost.node}",
    )
    line(
        console,
        f"about {format_duration(max(cost.duration_s, 1))} with {counted(cost.lanes, 'lane')} at pace {cost.pace},"
        f" where each reads {rate} a second while it reads (assumed, not measured)",
    )
    table = plain_table(
        "database",
        "relations",
        "size",
        "not all-visible",
        "left out",
        right=("relations", "size", "not all-visible", "left out"),
    )
    shown = sorted(cost.databases, key=lambda database: database.size_bytes, reverse=True)
    for database in shown if verbose else shown[:_DATABASES_SHOWN]:
        table.add_row(
            cell(database.name),
            cell(f"{database.relations:,}"),
            cell(format_size(database.size_bytes)),
            cell(format_size(database.not_visible_bytes)),
            cell(f"{database.left_out:,}"),
        )
    console.print(table)
    if not verbose and len(shown) > _DATABASES_SHOWN:
        line(console, f"and {counted(len(shown) - _DATABASES_SHOWN, 'smaller database')} (--verbose lists them)")
