"""A drill for people: which backup, what recovery did, how long it took, each layer of proof by name, what is wrong.

The last lines are the verdict and what to do, since they are what a terminal shows when the run ends.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from replcheck.drill.verdict import TOO_OLD, TOO_SLOW, UNMEASURED
from replcheck.model.drill import (
    FROM,
    RECOVERY_STAGES,
    BackupKind,
    Blame,
    CopyFacts,
    DrillResult,
    DrillVerdict,
    LayerState,
    RecoveryFacts,
    TargetKind,
)
from replcheck.model.outcome import Outcome
from replcheck.model.units import format_age, format_duration, format_size
from replcheck.report.audit_words import elapsed_s
from replcheck.report.drill_words import (
    all_drills,
    difference_sentence,
    drill_sentence,
    drill_steps,
    drill_word,
    drills_sentence,
    everything_wrong,
    layer_sentence,
)
from replcheck.report.style import Style, cell, heading, line, plain_table, step, verbatim
from replcheck.report.verdict import counted

_DIFFERENCES_SHOWN = 20


def print_drill(result: DrillResult, console: Console, style: Style, *, verbose: bool = False) -> None:
    """Print the report; `verbose` also lists layers that were left out by design, and every difference."""
    _print_header(result, console, style)
    _print_backup(result, console, style)
    if result.scratch is not None or verbose:
        # Where nothing was fetched there is nothing to measure or prove.
        _print_stages(result, console)
        _print_objectives(result, console, style)
        _print_layers(result, console, style, verbose=verbose)
    _print_wrong(result, console, style, verbose=verbose)
    _print_scratch(result, console, style)
    print_drill_verdict(result, console, style)


def print_drill_briefly(result: DrillResult, console: Console, style: Style) -> None:
    """Print the verdict and what to do next, and where the copy lies unless it was removed."""
    if result.scratch is not None and not result.scratch.removed:
        _print_scratch(result, console, style)
    print_drill_verdict(result, console, style)


def print_drill_verdict(result: DrillResult, console: Console, style: Style) -> None:
    """Print the verdict in one sentence and what to do next."""
    console.print()
    word = style.outcome(result.verdict.outcome, drill_word(result).upper())
    line(console, word, "  ", drill_sentence(result), indent=0)
    steps = drill_steps(result)
    if steps:
        heading(console, "What to do next")
        for number, told in enumerate(steps, start=1):
            step(console, number, told)


def print_all_drills(verdicts: Sequence[DrillVerdict], console: Console, style: Style) -> None:
    """Print what several drills come to."""
    console.print()
    line(console, _verdict(all_drills(verdicts), style), "  ", drills_sentence(verdicts), indent=0)


def _verdict(verdict: DrillVerdict, style: Style) -> Text:
    return style.outcome(verdict.outcome, verdict.value.upper())


def _print_header(result: DrillResult, console: Console, style: Style) -> None:
    took = elapsed_s(result.started_at, result.finished_at)
    title = Text(f"replcheck drill of {result.cluster}", style="bold")
    line(console, title, f": {drill_word(result)}", indent=0)
    line(
        console,
        f"{style.time(result.started_at)}, took {format_duration(took)}, replcheck {result.tool_version}",
        indent=0,
    )
    line(console, f"run {result.run_id}", indent=0)
    for note in result.tool_notes:
        line(console, f"note: {note}", indent=0)


def _print_backup(result: DrillResult, console: Console, style: Style) -> None:
    heading(console, "Backup and target")
    if result.copy is None:
        line(console, "no backup was found" if result.backup == FROM else f"{result.backup}: no backup was found")
    else:
        name = "" if result.backup == FROM else f"{result.backup}: "
        line(console, f"{name}{_copy(result.copy, style)}")
    line(console, f"target: {result.target.text}")
    if result.recovery is not None:
        line(console, _recovery(result.recovery, style))


def _copy(copy: CopyFacts, style: Style) -> str:
    kind = " ".join(dict.fromkeys(part for part in (copy.kind.value, copy.format) if part))
    parts = [
        f"{copy.label} ({kind})",
        f"of {style.time(copy.taken_at)}" if copy.taken_at else "",
        f"PostgreSQL {copy.major}" if copy.major is not None else "",
        format_size(copy.size_bytes) if copy.size_bytes is not None else "",
        f"consistent from {copy.end_lsn} on timeline {copy.timeline}" if copy.end_lsn and copy.timeline else "",
    ]
    return ", ".join(part for part in parts if part)


def _recovery(facts: RecoveryFacts, style: Style) -> str:
    files = f", {counted(facts.wal_files, 'WAL file')} from the archive" if facts.wal_files else ""
    newest = f"newest commit of {style.time(facts.last_commit_at)}" if facts.last_commit_at else "no commit replayed"
    how = "target reached" if facts.reached else "target NOT reached"
    return f"recovered to {facts.replayed} on timeline {facts.timeline}, {newest}{files}: {how}"


def _print_stages(result: DrillResult, console: Console) -> None:
    if not result.stages:
        return
    heading(console, "Stages")
    table = plain_table("  stage", "time", "moved", "", right=("time", "moved"))
    for stage in result.stages:
        table.add_row(
            cell(f"  {stage.stage.value}"),
            cell(format_duration(stage.elapsed_s)),
            cell(format_size(stage.size_bytes) if stage.size_bytes is not None else None),
            Text("" if stage.finished else "did not finish"),
        )
    console.print(table)


def _print_objectives(result: DrillResult, console: Console, style: Style) -> None:
    heading(console, "Recovery objectives")
    codes = {problem.code for problem in result.problems}
    took, limit = result.recovery_time_s, result.limits.max_time_s
    stages = ", ".join(stage.value for stage in RECOVERY_STAGES)
    measured = f"{format_duration(took)} ({stages})" if took is not None else "not measured: it could not be used"
    line(console, f"time (RTO): {measured}", _held(limit, TOO_SLOW in codes, took is None, style))
    age, limit = result.recovery_point_age_s, result.limits.max_age_s
    measured = "not known"
    if age is not None:
        measured = f"the newest recovered commit was {format_age(age)} when the drill began"
    if result.target.kind is not TargetKind.LATEST:
        line(console, "point (RPO): not judged: the target lies in the past on purpose")
        return
    line(console, f"point (RPO): {measured}", _held(limit, TOO_OLD in codes, UNMEASURED in codes or age is None, style))


def _held(limit_s: float | None, exceeded: bool, unmeasured: bool, style: Style) -> Text:
    if limit_s is None:
        return Text("; no limit is set")
    outcome, word = (Outcome.REFUTED, "exceeded") if exceeded else (Outcome.PROVEN, "met")
    if unmeasured:
        outcome, word = Outcome.UNCHECKED, "not measured"
    return Text.assemble(f"; limit {format_duration(limit_s)}: ", style.outcome(outcome, word))


def _print_layers(result: DrillResult, console: Console, style: Style, *, verbose: bool) -> None:
    heading(console, "Layers of proof")
    table = plain_table("  layer", "state", "what")
    for layer in result.layers:
        word = style.outcome(layer.state.outcome, layer.state.value)
        if layer.state is LayerState.NOT_RUN and layer.by_design:
            word = Text("- not run")
        table.add_row(cell(f"  {layer.name.value}"), word, cell(layer_sentence(layer, verbose=verbose)))
    console.print(table)


def _print_wrong(result: DrillResult, console: Console, style: Style, *, verbose: bool) -> None:
    problems = everything_wrong(result)
    differences = [(layer, found) for layer in result.layers for found in layer.differences]
    if not problems and not differences:
        return
    heading(console, "What is wrong")
    for problem in problems:
        word = "backup" if problem.blame is Blame.BACKUP else "here"
        line(console, style.outcome(problem.blame.outcome, word), f"  {problem.what} ({problem.code})")
    shown = differences if verbose else differences[:_DIFFERENCES_SHOWN]
    for layer, found in shown:
        line(console, style.outcome(layer.state.outcome, found.kind), f"  {difference_sentence(found)}")
    if len(differences) > len(shown):
        line(console, f"and {counted(len(differences) - len(shown), 'more difference')}: see --verbose")


def _removal(result: DrillResult) -> str:
    provided = result.copy is not None and result.copy.kind is BackupKind.COMMAND
    return "replcheck drill --clean" + (" and the same configuration" if provided else "")


def _print_scratch(result: DrillResult, console: Console, style: Style) -> None:
    scratch = result.scratch
    if scratch is None:
        return
    heading(console, "Scratch copy")
    if scratch.removed:
        line(console, f"it lay in {scratch.where} and was removed")
        return
    if scratch.connect:
        line(
            console,
            style.outcome(Outcome.PARTIAL, "kept"),
            f"  in {scratch.where}: it is as sensitive as the original; remove it with {_removal(result)}",
        )
        verbatim(console, scratch.connect)
        return
    line(
        console,
        style.outcome(Outcome.UNCHECKED, "NOT removed"),
        f"  {scratch.where}: it is as sensitive as the original; try replcheck drill --clean",
    )
