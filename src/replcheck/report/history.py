"""Past runs for people and machines: a list of them, and the record of one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from rich.console import Console
from rich.text import Text

from replcheck.model.evidence import EvidenceHead
from replcheck.model.names import printable
from replcheck.model.outcome import Outcome
from replcheck.model.plain import Plain, to_plain
from replcheck.model.run import RunRecord, RunStart, short_id
from replcheck.model.units import format_duration
from replcheck.report.style import Style, cell, fields, heading, line
from replcheck.report.verdict import counted

HISTORY_SCHEMA = "replcheck/history/1"
RUN_SCHEMA = "replcheck/run/1"


class RunState(Enum):
    """Where a run stands."""

    ENDED = "ended"
    RUNNING = "running"
    OPEN = "open"
    """It has no end; whether it still works cannot be told."""
    LOST = "lost"
    """It was killed before it could record its end."""


_STATE_WORDS = {RunState.RUNNING: "running", RunState.OPEN: "no end yet", RunState.LOST: "did not end"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PastNote:
    """What somebody noted later on the record of a run."""

    record: EvidenceHead
    """The note's own record."""
    reviewer: str
    text: str
    corrective_action: str
    """Empty where none is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """A run of the history, a RunRecord where it ended, and where it stands."""

    run: RunStart
    state: RunState
    evidence: EvidenceHead | None = None
    """Its record in the chain of its cluster; None where it has none."""
    notes: tuple[PastNote, ...] = ()
    """Oldest first; none in a list of runs."""


def run_document(past: PastRun) -> dict[str, Plain]:
    """Return one run as JSON has it; what is known only at its end is null before."""
    run = past.run
    ended = run if isinstance(run, RunRecord) else None
    return {
        "run_id": run.run_id,
        "kind": run.kind,
        "cluster": run.cluster,
        "state": past.state.value,
        "started_at": to_plain(run.started_at),
        "finished_at": to_plain(ended.finished_at) if ended else None,
        "outcome": ended.outcome.value if ended else None,
        "verdict": ended.verdict if ended else None,
        "exit_code": int(ended.exit_status) if ended else None,
        "summary": ended.summary if ended else None,
        "failure": to_plain(ended.failure) if ended else None,
        "tool_version": run.tool_version,
        "argument_digest": run.argument_digest,
        "evidence": to_plain(past.evidence),
    }


def history_json(runs: Sequence[PastRun], *, store: str) -> str:
    """Return the list as text, in ASCII, with a line break at its end."""
    document: dict[str, Plain] = {
        "schema": HISTORY_SCHEMA,
        "kind": "history",
        "store": store,
        "runs": [run_document(past) for past in runs],
    }
    return json.dumps(document, indent=2) + "\n"


def run_json(past: PastRun) -> str:
    """Return one run as text, in ASCII, with a line break at its end."""
    document = {"schema": RUN_SCHEMA, **run_document(past), "notes": to_plain(past.notes)}
    return json.dumps(document, indent=2) + "\n"


def print_history(runs: Sequence[PastRun], console: Console, style: Style, *, now: datetime) -> None:
    """Print the list, newest first, each run with its summary beneath it."""
    if not runs:
        line(console, "no run matches", indent=0)
        return
    table = [_cells(past, style, now) for past in runs]
    widths = [max(text.cell_len for text in column) for column in zip(*table, strict=True)]
    for past, cells in zip(runs, table, strict=True):
        row = Text("  ").join(_padded(text, width) for text, width in zip(cells, widths, strict=True))
        row.rstrip()
        console.print(row, soft_wrap=True)
        if isinstance(past.run, RunRecord):
            line(console, past.run.summary, indent=4)
    console.print()
    line(console, f"{counted(len(runs), 'run')}; one of them in full: replcheck history show RUN", indent=0)


def print_run(past: PastRun, console: Console, style: Style, *, now: datetime) -> None:
    """Print the record of one run."""
    run = past.run
    rows: list[tuple[str, str | Text]] = [
        ("run", run.run_id),
        ("kind", run.kind),
        ("cluster", run.cluster),
        ("began", style.time(run.started_at)),
    ]
    if isinstance(run, RunRecord):
        rows.append(("ended", f"{style.time(run.finished_at)}, after {_took(past, now)}"))
    rows.append(("verdict", _verdict(past, style)))
    if isinstance(run, RunRecord):
        rows += [("exit status", str(int(run.exit_status))), ("summary", run.summary)]
        if run.failure is not None:
            rows += [("failure", run.failure.error), ("hint", run.failure.hint)]
    rows += [("replcheck", run.tool_version), ("asked", f"SHA-256 {run.argument_digest}")]
    if past.evidence is not None:
        rows.append(("evidence", f"record {past.evidence.sequence}, SHA-256 {past.evidence.sha256}"))
        rows.append(("signed", f"by key {past.evidence.key_id}" if past.evidence.signed else "no"))
    if isinstance(run, RunRecord) and run.failure is None:
        rows.append(("report", f"replcheck report {short_id(run.run_id)}"))
    fields(console, rows, indent=0)
    for note in past.notes:
        _print_note(note, console, style)


def _print_note(note: PastNote, console: Console, style: Style) -> None:
    signed = f"signed by key {note.record.key_id}" if note.record.signed else "not signed"
    heading(console, f"Noted by {printable(note.reviewer)}" if note.reviewer else "Noted")
    line(console, note.text)
    if note.corrective_action:
        line(console, f"corrective action: {note.corrective_action}")
    line(console, f"{style.time(note.record.recorded_at)}, record {note.record.sequence}, {signed}")


def _cells(past: PastRun, style: Style, now: datetime) -> tuple[Text, ...]:
    run = past.run
    return (
        cell(short_id(run.run_id)),
        cell(style.time(run.started_at)),
        cell(_took(past, now)),
        cell(run.kind),
        cell(run.cluster),
        _verdict(past, style),
    )


def _verdict(past: PastRun, style: Style) -> Text:
    if isinstance(past.run, RunRecord):
        return style.outcome(past.run.outcome, past.run.verdict)
    word = _STATE_WORDS.get(past.state, past.state.value)
    return Text(f"- {word}") if past.state is RunState.RUNNING else style.outcome(Outcome.UNCHECKED, word)


def _took(past: PastRun, now: datetime) -> str | None:
    if isinstance(past.run, RunRecord):
        return format_duration(max(0.0, (past.run.finished_at - past.run.started_at).total_seconds()))
    if past.state is RunState.RUNNING:
        return format_duration(max(0.0, (now - past.run.started_at).total_seconds()))
    return None


def _padded(text: Text, width: int) -> Text:
    text = text.copy()
    text.pad_right(width - text.cell_len)
    return text
