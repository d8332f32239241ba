"""A self-test for people and machines: a line for each planted difference, then the sentence that counts them.

The document is described by schemas/selftest.schema.json; keys are only ever added.
"""

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from rich.console import Console
from rich.text import Text

from replcheck.model.outcome import Outcome
from replcheck.model.plain import Plain, to_plain
from replcheck.model.selftest import DifferenceReport, Innocence, SelftestResult, Sight, Twin
from replcheck.model.units import format_duration
from replcheck.report.style import Style, heading, line
from replcheck.report.verdict import counted

SCHEMA = "replcheck/selftest/1"
UNTRIED = "not run"
_VERDICTS = {
    Outcome.PROVEN: "passed",
    Outcome.PARTIAL: "inconclusive",
    Outcome.REFUTED: "failed",
    Outcome.UNCHECKED: UNTRIED,
}
_GROUPS = {
    "rows": "Rows: what storage, memory and software do to them",
    "values": "Values that are easily confused, exchanged for one another",
    "definitions": "Definitions, sequences, large objects and catalogs",
    "indexes": "Indexes, with --indexes",
    "nodes": "Whole nodes",
}
_INNOCENCE = {
    Innocence.CLEAN: (Outcome.PROVEN, "twins clean"),
    Innocence.ACCUSED: (Outcome.REFUTED, "twin ACCUSED"),
    Innocence.UNPROVEN: (Outcome.PARTIAL, "twin unproven"),
}
_WORST_FIRST = (Innocence.ACCUSED, Innocence.UNPROVEN, Innocence.CLEAN)


def selftest_verdict(result: SelftestResult) -> str:
    """Return the word for the outcome."""
    return _VERDICTS[result.outcome]


def selftest_sentence(result: SelftestResult) -> str:
    """Return the scores in one sentence."""
    unproven = f", {counted(result.unproven, 'twin was', 'twins were')} not proven" if result.unproven else ""
    tried = f"; {counted(len(result.not_tried), 'difference')} could not be tried here" if result.not_tried else ""
    return (
        f"{result.seen:,} of {counted(len(result.differences), 'known difference')} seen,"
        f" {result.accused:,} of {counted(len(result.twins), 'healthy twin')} accused{unproven}{tried}."
    )


def print_selftest(result: SelftestResult, console: Console, style: Style) -> None:
    """Print the report: one line for each difference and its twins, the scores last."""
    took = (result.finished_at - result.started_at).total_seconds()
    line(console, Text("replcheck selftest", style="bold"), f": {selftest_verdict(result)}", indent=0)
    quick = ", quick" if result.quick else ""
    line(
        console,
        f"{style.time(result.started_at)}, took {format_duration(took)}, PostgreSQL {result.server_version}{quick},"
        f" replcheck {result.tool_version}",
        indent=0,
    )
    line(console, f"run {result.run_id}", indent=0)
    for group in dict.fromkeys(found.group for found in result.differences):
        of_group = [found for found in result.differences if found.group == group]
        seen = sum(found.sight is Sight.SEEN for found in of_group)
        heading(console, f"{_GROUPS.get(group, group)} ({seen:,} of {len(of_group):,} seen)")
        for found in of_group:
            _print_difference(found, console, style)
    heading(console, "Everything beside them")
    for twin in result.bystanders:
        outcome, word = _INNOCENCE[twin.state]
        reason = f": {twin.reason}" if twin.reason else ""
        line(console, style.outcome(outcome, word.partition(" ")[2]), f"  {twin.where}{reason}")
    if result.not_tried:
        heading(console, "Not tried")
        for one in result.not_tried:
            line(console, f"{one.name}: {one.reason}")
    console.print()
    told = Text(f"{style.sign(result.outcome)} {selftest_verdict(result).upper()}")
    line(console, told, "  ", selftest_sentence(result), indent=0)


def _print_difference(found: DifferenceReport, console: Console, style: Style) -> None:
    seen = found.sight is Sight.SEEN
    word = style.outcome(Outcome.PROVEN, "seen  ") if seen else style.outcome(Outcome.REFUTED, "MISSED")
    worst = _worst(found.twins)
    if worst is None:
        line(console, word, "                 ", found.name)
    else:
        outcome, said = _INNOCENCE[worst.state]
        line(console, word, "  ", style.outcome(outcome, f"{said:13}"), f"  {found.name}")
    for reason in (found.reason, worst.reason if worst else ""):
        if reason:
            line(console, reason, indent=4)


def _worst(twins: Sequence[Twin]) -> Twin | None:
    return min(twins, key=lambda twin: _WORST_FIRST.index(twin.state), default=None)


def selftest_document(result: SelftestResult) -> dict[str, Plain]:
    """Return the whole result as JSON has it."""
    return {
        "schema": SCHEMA,
        "kind": "selftest",
        "run_id": result.run_id,
        "outcome": result.outcome.value,
        "verdict": selftest_verdict(result),
        "exit_code": int(result.outcome.exit_status),
        "summary": selftest_sentence(result),
        "started_at": to_plain(result.started_at),
        "finished_at": to_plain(result.finished_at),
        "tool_version": result.tool_version,
        "server_version": result.server_version,
        "quick": result.quick,
        "differences_planted": len(result.differences),
        "differences_seen": result.seen,
        "twins": len(result.twins),
        "twins_accused": result.accused,
        "twins_unproven": result.unproven,
        "differences": to_plain(result.differences),
        "bystanders": to_plain(result.bystanders),
        "not_tried": to_plain(result.not_tried),
    }


def selftest_json(result: SelftestResult) -> str:
    """Return the document as text, in ASCII, with a line break at its end."""
    return json.dumps(selftest_document(result), indent=2) + "\n"


def selftest_schema() -> dict[str, Any]:
    """Return the JSON schema of the document."""
    text = resources.files("replcheck.report").joinpath("schemas/selftest.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
