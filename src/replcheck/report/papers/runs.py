"""The audits, the drills and the events of a period."""

from collections.abc import Iterable, Sequence
from datetime import tzinfo

from replcheck.model.drill import DrillResult, LayerState
from replcheck.model.live import ClusterEvent, EventKind, Severity
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.run import AUDIT_KINDS, RunRecord, short_id
from replcheck.model.units import format_duration
from replcheck.report.drill_words import rows_were_proven
from replcheck.report.history import PastRun, RunState
from replcheck.report.paper import (
    Block,
    Code,
    Figure,
    Inline,
    Mark,
    Moment,
    Notice,
    Prose,
    Section,
    Table,
    Words,
    columns,
    known,
    table,
    words,
)
from replcheck.report.papers.record import event_outcome, frame_of
from replcheck.report.period import Period, Proofs
from replcheck.report.period_facts import PastDrill, PeriodFacts
from replcheck.report.pictures.over_time import Limit, durations_over_time
from replcheck.report.verdict import counted

_GAPS_SHOWN = 5
_FAILED_SHOWN = 100
_DRILLS_SHOWN = 120
_EVENTS_SHOWN = 150
_EXERCISES = frozenset(
    {
        EventKind.PRIMARY_LOST,
        EventKind.PROMOTED,
        EventKind.SWITCHED_OVER,
        EventKind.WAL_LEFT_BEHIND,
        EventKind.COPY_RECREATED,
        EventKind.REJOINED,
    }
)
_VERDICT_OF = {verdict.outcome: verdict for verdict in Verdict}


def audits_section(facts: PeriodFacts) -> Section:
    """Return what the audits of the period proved, the times without a proof, and every audit that proved less."""
    period = facts.audits
    blocks: list[Block] = [Prose(words(audits_sentence(period)))]
    if period.replicas:
        blocks.append(_proofs_table("Verdicts by replica", period.replicas, of_relations=False))
    if period.gaps:
        blocks.append(_gap_table(period))
    doubtful = [proofs for proofs in period.relations if proofs.inconclusive or proofs.diverged or proofs.unchecked]
    always = len(period.relations) - len(doubtful)
    if always:
        noun = counted(always, "relation on a replica was", "relations on replicas were")
        blocks.append(
            Prose(words(f"{noun} consistent in every audit that looked at {'it' if always == 1 else 'them'}."))
        )
    if doubtful:
        blocks.append(_proofs_table("Relations that were not always consistent", doubtful, of_relations=True))
    blocks += _not_proven(facts)
    return Section(anchor="audits", title="Audits", blocks=tuple(blocks))


def audits_sentence(period: Period) -> str:
    """Return how many audits there were, and how they ended."""
    if not period.runs:
        return "No audit began in this period: that the replicas are copies was not proven once."
    told = [f"{count:,} {_VERDICT_OF[outcome].value}" for outcome, count in period.outcomes.items() if count]
    told += [f"{period.unended:,} did not end"] if period.unended else []
    told += [f"{period.running:,} without an end yet"] if period.running else []
    more = f"; {counted(period.failed, 'audit')} failed before anything was reported" if period.failed else ""
    more += f"; {counted(period.limited, 'proof was', 'proofs were')} of a part only" if period.limited else ""
    return f"{counted(period.runs, 'audit')}: {', '.join(told)}{more}."


def drills_section(facts: PeriodFacts, zone: tzinfo | None) -> Section:
    """Return every drill, with its recovery time, and whether a layer compared rows."""
    blocks: list[Block] = [Prose(words(drills_sentence(facts.drills)))]
    points = [
        (drill.run.started_at, drill.result.recovery_time_s, drill.run.outcome, _drill_tip(drill))
        for drill in facts.drills
        if drill.result is not None and drill.result.recovery_time_s is not None
    ]
    shown = _drill_table(facts.drills)
    limit = facts.asked.restore_limit_s
    if points:
        limits = [Limit(word="limit", seconds=limit)] if limit is not None else []
        drawing = durations_over_time(frame_of(facts, zone), points, limits, name="drills")
        caption = "A dot is a drill whose copy could be used. One that never could has no recovery time, and no dot."
        blocks.append(Figure(caption=caption, drawing=drawing, table=shown))
    elif facts.drills:
        blocks.append(shown)
    return Section(anchor="drills", title="Trial restores", blocks=tuple(blocks))


def drills_sentence(drills: Sequence[PastDrill]) -> str:
    """Return how many drills there were, and how they ended."""
    if not drills:
        return "No backup was restored in this period: that a backup comes back was not proven once."
    verdicts = [drill.verdict for drill in drills]
    told = "; ".join(f"{verdicts.count(verdict):,} {verdict}" for verdict in dict.fromkeys(verdicts))
    proven = sum(drill.result is not None and rows_were_proven(drill.result) for drill in drills)
    rows = f"rows were compared and matched in {proven:,} of them"
    return f"{counted(len(drills), 'drill')}: {told}; {rows}."


def events_section(facts: PeriodFacts) -> Section:
    """Return failures, switch-overs and replacements, and what else went beyond a limit."""
    exercised = [event for event in facts.events if event.kind in _EXERCISES]
    others = [event for event in facts.events if event.kind not in _EXERCISES and event.severity is not Severity.INFO]
    blocks: list[Block] = []
    if exercised:
        blocks.append(_event_table("Failures of the primary, switch-overs and replaced copies", exercised))
    else:
        told = (
            "No failure of the primary, no switch-over and no replaced copy was seen. That they would work was not"
            " exercised in this period."
        )
        blocks.append(Prose(words(told)))
    if others:
        blocks.append(_event_table("What else went wrong, the newest last", others))
    if facts.damaged_rows:
        told = f"{counted(facts.damaged_rows, 'sample or event', 'samples or events')} in the history cannot be read."
        blocks.append(Notice(outcome=Outcome.UNCHECKED, words=words(told)))
    return Section(anchor="events", title="Failures, switch-overs and other events", blocks=tuple(blocks))


def _proofs_table(caption: str, shown: Sequence[Proofs], *, of_relations: bool) -> Table:
    verdicts = [verdict.value for verdict in Verdict]
    name = "Relation" if of_relations else "Replica"
    titles = [name, *(["Replica"] if of_relations else []), *(word.capitalize() for word in verdicts)]
    return table(
        caption,
        columns(*titles, "Last verdict", "First proven", "Last proven", numeric=[w.capitalize() for w in verdicts]),
        (
            (
                *([words(Code(f"{one.database}.{one.relation}"))] if of_relations else []),
                words(one.node),
                *(words(f"{getattr(one, verdict):,}") for verdict in verdicts),
                words(Mark(outcome=one.last_verdict.outcome, word=one.last_verdict.value)),
                words(Moment(one.first_proven_at)) if one.first_proven_at else words("never"),
                words(Moment(one.last_proven_at)) if one.last_proven_at else words("never"),
            )
            for one in shown
        ),
    )


def _gap_table(period: Period) -> Table:
    return table(
        "The longest times without a new proof of everything",
        columns("From", "To", "How long", numeric=("How long",)),
        (
            (words(Moment(gap.since)), words(Moment(gap.until)), words(format_duration(gap.elapsed_s)))
            for gap in period.gaps[:_GAPS_SHOWN]
        ),
    )


def _not_proven(facts: PeriodFacts) -> Iterable[Block]:
    audits = [past for past in facts.runs if past.run.kind in AUDIT_KINDS and not _proven(past)]
    unread = {entry.run_id: entry.reason for entry in facts.audits.unread} | dict(facts.unread)
    if audits:
        yield table(
            "Audits that proved less than everything",
            columns("Began", "Run", "Ended as", "What it said"),
            (
                (words(Moment(past.run.started_at)), words(Code(short_id(past.run.run_id))), *_end_of(past))
                for past in reversed(audits)
            ),
            limit=_FAILED_SHOWN,
        )
    if unread:
        yield table(
            "Runs whose report cannot be read or believed: they are missing from the counts of replicas and relations",
            columns("Run", "Why"),
            ((words(Code(run_id)), words(reason)) for run_id, reason in unread.items()),
        )


def _proven(past: PastRun) -> bool:
    return isinstance(past.run, RunRecord) and past.run.outcome is Outcome.PROVEN


def _end_of(past: PastRun) -> tuple[Words, Words]:
    run = past.run
    if isinstance(run, RunRecord):
        return words(Mark(outcome=run.outcome, word=run.verdict)), words(run.summary)
    word = "did not end" if past.state is RunState.LOST else "no end yet"
    return words(Mark(outcome=Outcome.UNCHECKED, word=word)), known(None)


def _drill_table(drills: Sequence[PastDrill]) -> Table:
    return table(
        "Drills, the newest first",
        columns("Began", "Run", "Backup", "Ended as", "Recovery time", "Rows compared", numeric=("Recovery time",)),
        (
            (
                words(Moment(drill.run.started_at)),
                words(Code(short_id(drill.run.run_id))),
                words(Code(drill.result.backup)) if drill.result else known(None),
                words(Mark(outcome=drill.run.outcome, word=drill.verdict)),
                _recovery_time(drill.result),
                _rows(drill.result),
            )
            for drill in reversed(drills)
        ),
        limit=_DRILLS_SHOWN,
    )


def _recovery_time(result: DrillResult | None) -> Words:
    took = result.recovery_time_s if result is not None else None
    return words(format_duration(took)) if took is not None else known(None)


def _rows(result: DrillResult | None) -> Words:
    if result is None:
        return known(None)
    ran = [layer for layer in result.layers if layer.name.compares_rows and layer.state is not LayerState.NOT_RUN]
    told = [
        f"{layer.name.value}, {layer.rows or 0:,} matched"
        if layer.state is LayerState.PASSED
        else f"{layer.name.value}: {layer.state.value}"
        for layer in ran
    ]
    return words("; ".join(told) or "no")


def _drill_tip(drill: PastDrill) -> str:
    took = drill.result.recovery_time_s if drill.result is not None else None
    return f"{drill.verdict}{f', {format_duration(took)}' if took is not None else ''}"


def _event_table(caption: str, events: Sequence[ClusterEvent]) -> Table:
    newest = events[-_EVENTS_SHOWN:]
    made = table(
        caption,
        columns("When", "What", "Node", "Told", "How long", numeric=("How long",)),
        (_event_row(event) for event in newest),
    )
    return Table(caption=made.caption, columns=made.columns, rows=made.rows, more=len(events) - len(newest))


def _event_row(event: ClusterEvent) -> tuple[Words, ...]:
    told: Inline = event.what
    return (
        words(Moment(event.at)),
        words(Mark(outcome=event_outcome(event.severity), word=event.kind.value)),
        known(event.node),
        words(told),
        known(_lasted(event)),
    )


def _lasted(event: ClusterEvent) -> str | None:
    if event.seconds is None:
        return None
    return f"{'at most ' if event.unseen_s else ''}{format_duration(event.seconds)}"
