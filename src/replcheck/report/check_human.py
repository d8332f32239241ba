"""A check for people: what is not met and why, and with `verbose` everything that was looked at.

Whoever reads it by mail, from a cron job, has no terminal: a word stands beside every sign.
"""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from replcheck.model.control import CheckResult, ControlResult, Standing
from replcheck.model.names import printable
from replcheck.model.outcome import Outcome
from replcheck.model.run import short_id
from replcheck.report.check_words import check_sentence, check_verdict, not_met, problem_of
from replcheck.report.style import Style, cell, heading, line


def print_check(result: CheckResult, console: Console, style: Style, *, verbose: bool = False) -> None:
    """Print the controls that are not met, or with `verbose` all of them, and the verdict."""
    shown = list(result.controls) if verbose else not_met(result)
    for control in shown:
        if verbose:
            _print_whole(control, console, style, left_out=control.name in result.left_out)
        else:
            _print_briefly(control, console, style)
    _print_work(result, console, style, verbose=verbose)
    if shown or result.notes:
        console.print()
    print_check_verdict(result, console, style)


def print_check_verdict(result: CheckResult, console: Console, style: Style) -> None:
    """Print the verdict alone."""
    word = style.outcome(result.outcome, check_verdict(result).value.upper())
    line(console, word, f": {check_sentence(result)}", indent=0)


def _print_briefly(control: ControlResult, console: Console, style: Style) -> None:
    line(console, _standing(control, style), f"  {control.name.value}: {control.claim}", indent=0)
    line(console, problem_of(control), indent=4)


def _print_whole(control: ControlResult, console: Console, style: Style, *, left_out: bool) -> None:
    heading(console, printable(f"{control.name.value}: {control.claim}"))
    line(console, Text("- left out of this check") if left_out else _standing(control, style))
    if control.standing is Standing.NOT_ASKED:
        return
    rows = [("measured", control.measured), ("limit", control.limit)]
    rows += [("problem", problem) for problem in control.problems]
    if control.waiver is not None:
        waiver = control.waiver
        rows.append(("waiver", f"until {waiver.until.isoformat()}, by {waiver.by}: {waiver.reason}"))
    if control.as_of is not None:
        rows.append(("as of", style.time(control.as_of)))
    if control.runs:
        rows.append(("rests on", ", ".join(short_id(run) for run in control.runs)))
    rows += [("not proven", text) for text in control.not_proven]
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, text in rows:
        table.add_row(Text(f"    {name}"), cell(text))
    console.print(table)


def _standing(control: ControlResult, style: Style) -> Text:
    if control.outcome is None:
        return Text(f"- {control.standing.value}")
    return style.outcome(control.outcome, control.standing.value)


def _print_work(result: CheckResult, console: Console, style: Style, *, verbose: bool) -> None:
    done = [run for run in result.due if verbose or (run.outcome is not None and run.outcome is not Outcome.PROVEN)]
    if done:
        heading(console, "Work that was looked at")
    for run in done:
        what = f"{run.kind} {run.subject}".strip()
        if run.outcome is None:
            line(console, f"{what}: not done: {run.reason}")
        else:
            line(console, style.outcome(run.outcome, what), f": {run.reason}")
    if result.notes:
        heading(console, "Notes")
    for note in result.notes:
        line(console, note)
