"""What a period's summary for people says beside the audits: the record, controls, drills, evidence, a line each."""

from rich.console import Console

from replcheck.model.control import Standing
from replcheck.model.outcome import Outcome
from replcheck.model.units import format_duration, format_percent
from replcheck.report.checks_made import age_words, failed_sentence, limited_sentence, never_words, old_sentence
from replcheck.report.papers.evidence import STANDINGS, altered_sentence, compared_words
from replcheck.report.papers.runs import drills_sentence
from replcheck.report.period_facts import PeriodFacts
from replcheck.report.style import Style, cell, heading, line, plain_table
from replcheck.report.verdict import counted, joined


def print_facts(facts: PeriodFacts, console: Console, style: Style) -> None:
    """Print them; a part of which the history holds nothing says so."""
    _print_record(facts, console)
    _print_controls(facts, console, style)
    heading(console, "Trial restores")
    line(console, drills_sentence(facts.drills))
    _print_evidence(facts, console, style)


def _print_evidence(facts: PeriodFacts, console: Console, style: Style) -> None:
    heading(console, "Evidence")
    state = facts.evidence
    if state is None:
        line(console, f"how the chain stands is not known: {facts.evidence_problem}")
    elif state.head is None:
        line(console, "there is no chain yet: that nobody changed this history afterwards is not shown")
    else:
        standing = style.outcome(state.outcome, f"the chain is {STANDINGS[state.outcome]}")
        line(console, standing, f": {state.problem}" if state.problem else f", {counted(state.records, 'record')}")
        line(console, f"compared: {compared_words(facts)}")
    if facts.altered:
        line(console, style.outcome(Outcome.REFUTED, altered_sentence(facts)))
    for run_id, reason in facts.unread.items():
        line(console, f"run {run_id}: {reason}")


def _print_record(facts: PeriodFacts, console: Console) -> None:
    heading(console, "Record")
    seen, copies, asked = facts.watched, facts.copies, facts.asked.copies
    if not seen.samples:
        line(console, "nothing watched the cluster in this period: of copies over time nothing is known")
        return
    line(console, f"something watched {format_percent(seen.share)} of the period: {seen.samples:,} samples")
    if seen.gaps:
        gaps = counted(len(seen.gaps), "gap")
        line(console, f"nothing was watching for {format_duration(seen.unwatched_s)}, in {gaps}")
    enough = counted(asked.proven, "proven copy", "proven copies")
    line(console, f"{enough} or more {format_percent(copies.share)} of the period")


def _print_controls(facts: PeriodFacts, console: Console, style: Style) -> None:
    heading(console, "Controls")
    checks = facts.checks
    for sentence in (old_sentence(checks), failed_sentence(checks), limited_sentence(checks)):
        if sentence:
            line(console, sentence)
    if facts.controls_at is None:
        line(console, never_words(checks))
        return
    table = plain_table("  control", "standing", "measured", "limit")
    asked = [control for control in facts.controls if control.outcome is not None]
    for control in asked:
        outcome = control.outcome
        assert outcome is not None  # noqa: S101 - of those that were asked
        word = style.outcome(outcome, control.standing.value)
        table.add_row(cell(f"  {control.name.value}"), word, cell(control.measured), cell(control.limit))
    if asked:
        console.print(table)
    missing = [control.name.value for control in facts.controls if control.standing is Standing.NOT_ASKED]
    if missing:
        line(console, f"not asked: {joined(missing)}")
    line(console, f"as the check of {style.time(facts.controls_at)}{age_words(checks)}, found them")
    for control in asked:
        if control.name in facts.rechecked:
            line(
                console,
                f"{control.name.value}: as a later check found it, of {style.time(facts.rechecked[control.name])}",
            )
