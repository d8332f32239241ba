"""The paper of one audit: its verdict first, then what differs, what was compared, and what was not."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from replcheck.model.audit import (
    AuditResult,
    DifferenceKind,
    Divergence,
    Finding,
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
from replcheck.report.paper import (
    Block,
    Code,
    Column,
    Figure,
    Inline,
    Items,
    Mark,
    Moment,
    Notice,
    Pairs,
    Paper,
    Prose,
    Section,
    Strong,
    Table,
    Verbatim,
    Words,
    columns,
    joined_words,
    known,
    table,
    words,
)
from replcheck.report.pictures.chunk_map import chunk_map
from replcheck.report.verdict import counted, joined, next_steps, sentence, verdict_of

_DIFFERENCES_SHOWN = 100
_PLACES_SHOWN = 50


def audit_paper(result: AuditResult) -> Paper:
    """Lay out one audit."""
    sections = (
        _differences(result),
        steps_section(next_steps(result)),
        _nodes(result),
        _relations(result),
        _alignments(result),
        _indexes(result),
        _findings(result.findings),
        _not_checked(result.not_checked),
        _meaning(result),
    )
    return Paper(
        title=f"Audit of {result.cluster}",
        mark=verdict_mark(verdict_of(result)),
        summary=words(sentence(result)),
        facts=tuple(_facts(result)),
        sections=tuple(section for section in sections if section is not None),
        made_by=f"replcheck {result.tool_version}",
    )


def verdict_mark(verdict: Verdict) -> Mark:
    """Return the mark of a verdict."""
    return Mark(outcome=verdict.outcome, word=verdict.value)


def steps_section(steps: Sequence[str]) -> Section | None:
    """Return what the reader should do now; None where all is well."""
    if not steps:
        return None
    return Section(
        anchor="next",
        title="What to do next",
        blocks=(Items(items=tuple(words(step) for step in steps), ordered=True),),
    )


def _facts(result: AuditResult) -> Iterable[tuple[str, Words]]:
    took = elapsed_s(result.started_at, result.finished_at)
    yield "Run", words(Code(result.run_id))
    yield "Began", words(Moment(result.started_at), f", took {format_duration(took)}")
    yield "Primary", words(Strong(result.primary.name))
    yield "Replicas", words(joined([replica.node.name for replica in result.replicas]) or "none")
    yield "Compared", words(f"{counted(result.rows, 'row')}, {format_size(result.size_bytes)}")
    yield "Level", words(f"{result.level}, row encoding {result.encoding}")
    if result.resumed is not None:
        yield (
            "Goes on with",
            words("run ", Code(result.resumed.run_id), " of ", Moment(result.resumed.started_at)),
        )
    if result.held_s:
        yield "Held still", words(f"for {format_duration(result.held_s)}")
    if result.stopped:
        yield "Ended early", words(result.stopped)


def _nodes(result: AuditResult) -> Section:
    rows: list[tuple[NodeReport, Verdict | None]] = [(result.primary, None)]
    rows += [(replica.node, replica.verdict) for replica in result.replicas]
    shown = table(
        "The servers that were compared, as observed when the audit began",
        columns("Node", "Verdict", "Role", "Version", "Timeline", "LSN", "Behind", "Address", numeric=("Behind",)),
        (
            (
                words(node.name),
                words(verdict_mark(verdict)) if verdict else known(None),
                words(node.role.value),
                words(node.server_version),
                known(node.timeline),
                words(Code(str(node.lsn))) if node.lsn is not None else known(None),
                known(None if node.lag_bytes is None else format_size(max(node.lag_bytes, 0))),
                words(Code(node.address), *([f", streams from {node.upstream}"] if node.upstream else [])),
            )
            for node, verdict in rows
        ),
    )
    systems: dict[str, list[str]] = defaultdict(list)
    for node, _ in rows:
        systems[node.system_identifier].append(node.name)
    notes = [words("System identifier ", Code(system), f": {joined(names)}") for system, names in systems.items()]
    notes += [
        words(Strong(replica.node.name), f" is {replica.verdict.value}: {replica.reason}")
        for replica in result.replicas
        if replica.reason
    ]
    return Section(anchor="nodes", title="Nodes", blocks=(shown, Items(items=tuple(notes))))


def _differences(result: AuditResult) -> Section | None:
    if not result.divergences:
        return None
    of_rows = [found for found in result.divergences if found.kind is not DifferenceKind.INDEX]
    of_indexes = [found for found in result.divergences if found.kind is DifferenceKind.INDEX]
    blocks: list[Block] = []
    if of_rows:
        blocks.append(Prose(words("Each difference was seen under two independent alignments.")))
        blocks.append(_difference_table("Rows that differ, judged from the replica", of_rows))
    if of_indexes:
        blocks.append(_difference_table("Indexes that do not match their tables (each seen twice)", of_indexes))
    queries = list(dict.fromkeys(found.query for found in result.divergences if found.query))
    if queries:
        blocks.append(
            Prose(
                words("The rows themselves stay in the database. To look at them, under your own role, on each node:")
            )
        )
        blocks.append(Verbatim(tuple(queries[:_DIFFERENCES_SHOWN])))
    return Section(anchor="differences", title="Where they differ", blocks=tuple(blocks))


def _difference_table(caption: str, found: Sequence[Divergence]) -> Table:
    return table(
        caption,
        columns("Relation", "Node", "Kind", "How many", "Tuple positions (ctid)"),
        (
            (
                words(Code(f"{one.database}.{one.relation}")),
                words(one.node),
                words(Mark(outcome=Outcome.REFUTED, word=one.kind.value)),
                words(how_many(one)),
                words(Code(ranges_of(one))) if one.ranges else known(None),
            )
            for one in found
        ),
        limit=_DIFFERENCES_SHOWN,
    )


def _relations(result: AuditResult) -> Section:
    counts = {verdict: sum(found.verdict is verdict for found in result.relations) for verdict in Verdict}
    told = ", ".join(f"{count:,} {verdict.value}" for verdict, count in counts.items() if count)
    blocks: list[Block] = [
        Prose(
            words(
                f"{counted(len(result.relations), 'relation')}: {told or 'none in scope'};"
                f" {counted(result.rows, 'row')}, {format_size(result.size_bytes)} compared."
            )
        )
    ]
    if result.cross_check is not None:
        blocks.append(Prose(words(f"{cross_check_sentence(result.cross_check).capitalize()}.")))
    shown = _relation_table(result)
    if result.relations:
        caption = "What became of the chunks of each relation, on each replica. Cells divide a relation evenly."
        blocks.append(Figure(caption=caption, drawing=chunk_map(result), table=shown))
    return Section(anchor="relations", title="Relations", blocks=tuple(blocks))


def _relation_table(result: AuditResult) -> Table:
    worst_first = sorted(result.relations, key=lambda found: (found.verdict is Verdict.CONSISTENT, -found.size_bytes))
    return table(
        "Relations, those that are not consistent first, then by size",
        (
            Column(title="Relation"),
            *(Column(title=replica.node.name) for replica in result.replicas),
            *columns("Kind", "Rows", "Size", "Chunks", numeric=("Rows", "Size", "Chunks")),
        ),
        (_relation_row(relation, result.replicas) for relation in worst_first),
    )


def _relation_row(relation: RelationReport, replicas: Sequence[ReplicaReport]) -> tuple[Words, ...]:
    by_node = {replica.node: replica for replica in relation.replicas}
    name: list[Inline] = [Code(f"{relation.database}.{qualified(relation.schema, relation.name)}")]
    name += [" (only the rows of its filter)"] if relation.filter_digest else []
    return (
        tuple(name),
        *(_on_replica(by_node.get(replica.node.name)) for replica in replicas),
        words(relation.kind.value),
        known(None if relation.rows is None else f"{relation.rows:,}"),
        words(format_size(relation.size_bytes)),
        words(f"{relation.chunks:,}"),
    )


def _on_replica(replica: RelationReplica | None) -> Words:
    if replica is None:
        return known(None)
    told = []
    if replica.rows_differing:
        told.append(f"{replica.rows_differing:,}{'+' if replica.capped else ''} differ")
    if replica.rows_in_flight:
        told.append(f"{replica.rows_in_flight:,} in flight")
    more = f" ({', '.join(told)})" if told else ""
    return words(verdict_mark(replica.verdict), more) if more else words(verdict_mark(replica.verdict))


def _alignments(result: AuditResult) -> Section:
    shown = table(
        "Pairs of snapshots that were taken, and how many saw exactly the same transactions",
        columns(
            *("Replica", "Alignments", "Exact", "Attempts, median", "Attempts, most", "Time, median", "Time, longest"),
            "Unsettled, most",
            numeric=(
                *("Alignments", "Exact", "Attempts, median", "Attempts, most", "Time, median", "Time, longest"),
                "Unsettled, most",
            ),
        ),
        (_alignment_row(replica) for replica in result.replicas),
    )
    told = (
        "Each comparison was made under a snapshot of the primary and one of the replica that see the same"
        " transactions. What an unsettled transaction touched was proven again under a later alignment."
    )
    return Section(anchor="alignments", title="Snapshots aligned", blocks=(Prose(words(told)), shown))


def _alignment_row(replica: ReplicaReport) -> tuple[Words, ...]:
    taken = replica.alignments
    if not taken:
        return (words(replica.node.name), words("0"), *(known(None) for _ in range(6)))
    attempts = [alignment.attempts for alignment in taken]
    times = [alignment.elapsed_s for alignment in taken]
    return (
        words(replica.node.name),
        words(f"{len(taken):,}"),
        words(f"{100 * sum(alignment.exact for alignment in taken) // len(taken)}%"),
        words(f"{median(attempts):.0f}"),
        words(f"{max(attempts):,}"),
        words(format_duration(median(times))),
        words(format_duration(max(times))),
        words(f"{max(alignment.unsettled for alignment in taken):,}"),
    )


def _indexes(result: AuditResult) -> Section | None:
    if not result.scope.indexes:
        return None
    sound = sum(index.verdict is Verdict.CONSISTENT for index in result.indexes)
    told = words(f"{counted(len(result.indexes), 'index was', 'indexes were')} checked on every node, {sound:,} sound.")
    shown = table(
        "Indexes that are not sound",
        columns("Index", "Of table", "Node", "State", "Why"),
        (
            (
                words(Code(f"{index.database}.{index.name}")),
                words(Code(index.relation)),
                words(node.node),
                words(Mark(outcome=node.verdict.outcome, word=INDEX_WORDS[node.verdict])),
                known(node.reason),
            )
            for index in result.indexes
            for node in index.nodes
            if node.verdict is not Verdict.CONSISTENT
        ),
    )
    blocks: tuple[Block, ...] = (Prose(told), shown) if shown.rows else (Prose(words=told),)
    return Section(anchor="indexes", title="Indexes against their tables", blocks=blocks)


def _findings(findings: Sequence[Finding]) -> Section | None:
    if not findings:
        return None
    shown = table(
        "Facts beside the rows; a note changes nothing",
        columns("Weight", "Node", "What", "Code"),
        (
            (
                words(_finding_mark(found)),
                known(found.node),
                words(found.what),
                words(Code(found.code)),
            )
            for found in findings
        ),
    )
    return Section(anchor="findings", title="Findings", blocks=(shown,))


def _finding_mark(found: Finding) -> Mark:
    word = FINDING_WORDS.get(found.outcome)
    return Mark(outcome=found.outcome, word=word) if word else Mark(outcome=None, word="note")


def _not_checked(entries: Sequence[NotChecked]) -> Section:
    unproven = [entry for entry in entries if not entry.by_design]
    by_design = [entry for entry in entries if entry.by_design]
    blocks: list[Block] = []
    if unproven:
        told = f"Unproven, because {counted(len(unproven), 'thing was', 'things were')} not checked."
        blocks += [Notice(outcome=Outcome.UNCHECKED, words=words(told)), _reasons("Not checked", unproven)]
    if by_design:
        blocks.append(_reasons("Not checked by design: no effect on the verdict", by_design))
    if not entries:
        blocks.append(Prose(words("Everything in scope was looked at.")))
    return Section(anchor="not-checked", title="What was not checked", blocks=tuple(blocks))


def _reasons(caption: str, entries: Sequence[NotChecked]) -> Table:
    groups: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        groups[entry.reason].append(place_of(entry))
    return table(
        caption,
        columns("Reason", "Count", "What", numeric=("Count",)),
        ((words(reason), words(f"{len(places):,}"), _places(places)) for reason, places in groups.items()),
    )


def _places(places: Sequence[str]) -> Words:
    shown = joined_words(words(Code(place)) for place in places[:_PLACES_SHOWN])
    rest = len(places) - _PLACES_SHOWN
    return (*shown, f" and {rest:,} more") if rest > 0 else shown


def _meaning(result: AuditResult) -> Section:
    scope = result.scope
    limits = [
        ("Databases", scope.databases),
        ("Relations", scope.tables),
        ("Left out", scope.excludes),
        ("Filtered", tuple(used.pattern for used in scope.filters)),
    ]
    pairs = [(term, joined_words(words(Code(text)) for text in given)) for term, given in limits if given]
    if not scope.catalogs:
        pairs.append(("System catalogs", words("left out")))
    blocks: list[Block] = [
        Prose(
            words(
                "Consistent means that every row of every relation in scope was compared, byte by byte through a digest"
                " that each server computes, and matched. The audit only read. What could not be compared is named"
                " above and never counts as proven."
            )
        ),
        Prose(
            words(
                "An audit does not prove that the primary holds what the application meant to write, that rows stay"
                " equal after it ended, or that the server programs tell the truth."
            )
        ),
    ]
    if pairs:
        blocks.append(Prose(words("The scope was narrowed by whoever ran it:")))
        blocks.append(Pairs(pairs=tuple(pairs)))
    return Section(anchor="meaning", title="What this proves, and what not", blocks=tuple(blocks))
