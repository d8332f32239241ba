"""An audit for people: who was compared, how well it could be, what differs, what was not checked, the verdict last.

The last lines are the verdict and what to do, since they are what a terminal shows when the run ends.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from statistics import median

from rich.console import Console
from rich.text import Text

from replcheck.model.audit import (
    AlignmentReport,
    AuditResult,
    DifferenceKind,
    Divergence,
    IndexNode,
    IndexReport,
    NotChecked,
    RelationReplica,
    RelationReport,
    ReplicaReport,
)
from replcheck.model.names import qualified
from replcheck.model.node import NodeReport
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.units import format_duration, format_size
from replcheck.report.audit_words import (
    FINDING_WORDS,
    INDEX_WORDS,
    cross_check_sentence,
    elapsed_s,
    how_many,
    place_of,
    ranges_of,
)
from replcheck.report.style import Style, cell, heading, line, plain_table, verbatim
from replcheck.report.verdict import counted, joined, next_steps, sentence, verdict_of

_EXAMPLES_SHOWN = 3


def print_audit(result: AuditResult, console: Console, style: Style, *, verbose: bool = False) -> None:
    """Print the report; `verbose` lists every relation and alignment, and all that is skipped by design."""
    _print_header(result, console, style)
    _print_nodes(result, console, style)
    _print_alignments(result, console, style, verbose=verbose)
    _print_relations(result, console, style, verbose=verbose)
    _print_indexes(result, console, style, verbose=verbose)
    print_divergences(result, console, style)
    _print_findings(result, console, style)
    print_not_checked(result.not_checked, console, verbose=verbose)
    print_verdict(result, console, style)


def print_verdict(result: AuditResult, console: Console, style: Style, *, alone: bool = False) -> None:
    """Print the verdict in one sentence and what to do next; `alone` where nothing of the report stands above."""
    console.print()
    line(console, style.verdict(verdict_of(result), upper=True), "  ", sentence(result), indent=0)
    steps = next_steps(result, alone=alone)
    if steps:
        heading(console, "What to do next")
        for number, step in enumerate(steps, start=1):
            line(console, f"{number}. {step}")


def _print_header(result: AuditResult, console: Console, style: Style) -> None:
    took = elapsed_s(result.started_at, result.finished_at)
    title = Text(f"replcheck audit of {result.cluster}", style="bold")
    line(console, title, f": {verdict_of(result).value}", indent=0)
    line(
        console,
        f"{style.time(result.started_at)}, took {format_duration(took)}, level {result.level}"
        f" ({result.encoding}), replcheck {result.tool_version}",
        indent=0,
    )
    line(console, f"run {result.run_id}", indent=0)
    if result.resumed is not None:
        oldest = min((found.proven_since for found in result.relations if found.proven_since), default=None)
        since = f", the oldest proof of {style.time(oldest)}" if oldest else ""
        line(
            console,
            f"goes on with run {result.resumed.run_id} of {style.time(result.resumed.started_at)}{since}",
            indent=0,
        )
    if result.held_s:
        line(console, f"held still for {format_duration(result.held_s)}", indent=0)


def _print_nodes(result: AuditResult, console: Console, style: Style) -> None:
    heading(console, "Nodes")
    table = plain_table("node", "role", "version", "timeline", "LSN", "behind", "verdict", right=("timeline", "behind"))
    rows: list[tuple[NodeReport, Verdict | None]] = [(result.primary, None)]
    rows += [(replica.node, replica.verdict) for replica in result.replicas]
    for node, verdict in rows:
        table.add_row(
            cell(node.name),
            cell(node.role.value),
            cell(node.server_version),
            cell(node.timeline),
            cell(node.lsn),
            cell(None if node.lag_bytes is None else format_size(max(node.lag_bytes, 0))),
            style.verdict(verdict) if verdict else cell(None),
        )
    console.print(table)
    for node, _ in rows:
        source = f", streams from {node.upstream}" if node.upstream else ""
        line(console, f"{node.name} at {node.address}{source}")
    for system, names in _systems([node for node, _ in rows]).items():
        line(console, f"system identifier {system}: {joined(names)}")
    for replica in result.replicas:
        if replica.reason:
            line(console, f"{replica.node.name} is {replica.verdict.value}: {replica.reason}")


def _systems(nodes: list[NodeReport]) -> dict[str, list[str]]:
    systems: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        systems[node.system_identifier].append(node.name)
    return systems


def _print_alignments(result: AuditResult, console: Console, style: Style, *, verbose: bool) -> None:
    heading(console, "Snapshots aligned with the primary's")
    table = plain_table(
        "replica",
        "alignments",
        "exact",
        "attempts median/max",
        "time median/max",
        "unsettled max",
        right=("alignments", "exact", "attempts median/max", "time median/max", "unsettled max"),
    )
    for replica in result.replicas:
        table.add_row(*_alignment_cells(replica))
    console.print(table)
    if verbose:
        for replica in result.replicas:
            for alignment in replica.alignments:
                line(console, _alignment_line(replica.node.name, alignment, style))


def _alignment_cells(replica: ReplicaReport) -> tuple[Text, ...]:
    taken = replica.alignments
    if not taken:
        return (cell(replica.node.name), cell(0), *(cell(None) for _ in range(4)))
    exact = sum(alignment.exact for alignment in taken)
    attempts = [alignment.attempts for alignment in taken]
    times = [alignment.elapsed_s for alignment in taken]
    return (
        cell(replica.node.name),
        cell(len(taken)),
        cell(f"{100 * exact // len(taken)}%"),
        cell(f"{median(attempts):.0f}/{max(attempts)}"),
        cell(f"{format_duration(median(times))}/{format_duration(max(times))}"),
        cell(max(alignment.unsettled for alignment in taken)),
    )


def _alignment_line(node: str, alignment: AlignmentReport, style: Style) -> str:
    how = "exact" if alignment.exact else counted(alignment.unsettled, "unsettled transaction")
    return (
        f"{node} lane {alignment.lane} {alignment.database} at {alignment.lsn} {style.time(alignment.taken_at)}: {how}"
        f" after {counted(alignment.attempts, 'attempt')} in {format_duration(alignment.elapsed_s)},"
        f" {counted(alignment.chunks, 'chunk')}"
    )


def _print_relations(result: AuditResult, console: Console, style: Style, *, verbose: bool) -> None:
    heading(console, "Relations")
    counts = Counter(relation.verdict for relation in result.relations)
    told = [f"{counts[verdict]:,} {verdict.value}" for verdict in Verdict if counts[verdict]]
    line(
        console,
        f"{counted(len(result.relations), 'relation')}: {', '.join(told) or 'none in scope'};"
        f" {counted(result.rows, 'row')}, {format_size(result.size_bytes)} compared",
    )
    if result.cross_check is not None:
        line(console, cross_check_sentence(result.cross_check))
    shown = [relation for relation in result.relations if verbose or relation.verdict is not Verdict.CONSISTENT]
    if not shown:
        return
    table = plain_table(
        "relation", "replica", "verdict", "rows", "differ", "in flight", right=("rows", "differ", "in flight")
    )
    for relation in shown:
        for replica in relation.replicas:
            if verbose or replica.verdict is not Verdict.CONSISTENT:
                table.add_row(*_relation_cells(relation, replica, style))
    console.print(table)


def _relation_cells(relation: RelationReport, replica: RelationReplica, style: Style) -> tuple[Text, ...]:
    more = "+" if replica.capped else ""
    return (
        cell(f"{relation.database}.{qualified(relation.schema, relation.name)}"),
        cell(replica.node),
        style.verdict(replica.verdict),
        cell(None if relation.rows is None else f"{relation.rows:,}"),
        cell(f"{replica.rows_differing:,}{more}"),
        cell(f"{replica.rows_in_flight:,}"),
    )


def _print_indexes(result: AuditResult, console: Console, style: Style, *, verbose: bool) -> None:
    if not result.scope.indexes:
        return
    heading(console, "Indexes against their tables, on every node")
    counts = Counter(index.verdict for index in result.indexes)
    told = [f"{counts[verdict]:,} {INDEX_WORDS[verdict]}" for verdict in Verdict if counts[verdict]]
    line(console, f"{counted(len(result.indexes), 'index', 'indexes')}: {', '.join(told) or 'none in scope'}")
    shown = [index for index in result.indexes if verbose or index.verdict is not Verdict.CONSISTENT]
    if not shown:
        return
    table = plain_table("index", "node", "verdict", "of table")
    for index in shown:
        for node in index.nodes:
            if verbose or node.verdict is not Verdict.CONSISTENT:
                table.add_row(*_index_cells(index, node, style))
    console.print(table)


def _index_cells(index: IndexReport, node: IndexNode, style: Style) -> tuple[Text, ...]:
    return (
        cell(f"{index.database}.{index.name}"),
        cell(node.node),
        style.outcome(node.verdict.outcome, INDEX_WORDS[node.verdict]),
        cell(index.relation),
    )


def print_divergences(result: AuditResult, console: Console, style: Style) -> None:
    """Print each difference with its node, place and query; nothing where there is none."""
    indexes = [found for found in result.divergences if found.kind is DifferenceKind.INDEX]
    rows = [found for found in result.divergences if found.kind is not DifferenceKind.INDEX]
    _print_differences("Where they differ (each seen under two independent alignments)", rows, console, style)
    _print_differences("Indexes that do not match their tables (each seen twice)", indexes, console, style)


def _print_differences(title: str, divergences: list[Divergence], console: Console, style: Style) -> None:
    if not divergences:
        return
    heading(console, title)
    for divergence in divergences:
        line(
            console,
            style.outcome(Outcome.REFUTED, divergence.kind.value),
            f"  {divergence.node}  {divergence.database}.{divergence.relation}  {how_many(divergence)}",
        )
        if divergence.ranges:
            line(console, f"at ctid {ranges_of(divergence)}", indent=4)
        if divergence.query:
            verbatim(console, divergence.query)


def _print_findings(result: AuditResult, console: Console, style: Style) -> None:
    if not result.findings:
        return
    heading(console, "Findings")
    for finding in result.findings:
        known = FINDING_WORDS.get(finding.outcome)
        word = style.outcome(finding.outcome, known) if known else Text("- note")
        where = f"{finding.node}: " if finding.node else ""
        line(console, word, f"  {where}{finding.what} ({finding.code})")


def print_not_checked(entries: Iterable[NotChecked], console: Console, *, verbose: bool) -> None:
    """Print what is not checked, by reason; of what is not by design, a few examples unless `verbose`."""
    entries = list(entries)
    unproven = [entry for entry in entries if not entry.by_design]
    by_design = [entry for entry in entries if entry.by_design]
    if unproven:
        heading(console, "Not checked")
        _print_groups(unproven, console, limit=None)
    if by_design:
        heading(console, "Not checked by design (no effect on the verdict)")
        _print_groups(by_design, console, limit=None if verbose else _EXAMPLES_SHOWN)


def _print_groups(entries: list[NotChecked], console: Console, *, limit: int | None) -> None:
    groups: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        groups[entry.reason].append(place_of(entry))
    for reason, places in groups.items():
        shown = ", ".join(places[:limit])
        rest = len(places) - len(places[:limit])
        more = f" and {rest:,} more" if rest else ""
        line(console, f"{reason} ({len(places):,}): {shown}{more}")
