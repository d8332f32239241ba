"""Results as files: one JSON file a day with every value, and the newest figures as a table for people."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import Machine
from benchmarks.measuring import Measure, median, spread

FOLDER = Path(__file__).parent / "results"
TABLE = Path(__file__).parent / "RESULTS.md"
CAVEAT = (
    "The servers are the lab's, on the machine of the client, with `fsync = off`: ratios mean more than seconds."
    " What is compared takes turns; the middle value of each is given, with the distance between its largest and"
    " smallest as a part of it."
)


def write(folder: Path, table: Path, machine: Machine, setup: dict[str, Any], measures: Sequence[Measure]) -> Path:
    """Write both files, measures of the same day and name anew, and return the path of the JSON file."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{machine.date}.json"
    before = json.loads(file.read_text("utf-8"))["measures"] if file.exists() else []
    names = {measure.name for measure in measures}
    entries = [entry for entry in before if entry["name"] not in names]
    entries += [measure.document() | {"setup": setup, "machine": machine.document()} for measure in measures]
    file.write_text(json.dumps({"caveat": CAVEAT, "measures": entries}, indent=2) + "\n", encoding="utf-8")
    table.write_text(_table(machine, _newest(folder)), encoding="utf-8")
    return file


def _newest(folder: Path) -> list[dict[str, Any]]:
    """Return the newest entry of each measure, of whatever day it is."""
    newest: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.json")):
        newest |= {entry["name"]: entry for entry in json.loads(file.read_text("utf-8"))["measures"]}
    return list(newest.values())


def told(measure: Measure) -> str:
    """Return a measure in a line for people."""
    values = ", ".join(
        f"{label} {median(values):.3g} {measure.unit} (±{spread(values) / 2:.0%})"
        for label, values in measure.series.items()
    )
    reached = {True: "reached", False: "NOT reached", None: "reported"}[measure.reached]
    return f"{measure.name}: {measure.figure:.3g} {measure.figure_is} ({measure.reach or '-'}: {reached}); {values}"


def _table(machine: Machine, entries: Sequence[dict[str, Any]]) -> str:
    lines = ["# Figures", "", CAVEAT, "", "Written by `make bench`.", "", *(f"    {line}" for line in machine.lines())]
    lines += ["", "| measure | what | values | figure | reach | | date |", "|---|---|---|---|---|---|---|"]
    for entry in entries:
        values = "<br>".join(
            f"{label}: {series['median']:.3g} {entry['unit']} ({series['spread']:.0%})"
            for label, series in entry["series"].items()
        )
        reached = {True: "reached", False: "**not reached**", None: ""}[entry["reached"]]
        lines.append(
            f"| {entry['name']} | {entry['what']} | {values} | {entry['figure']:.3g} {entry['figure_is']} |"
            f" {entry['reach']} | {reached} | {entry['machine']['date']} |"
        )
    lines += _writers(entries)
    return "\n".join(lines) + "\n"


def _writers(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Return what else is known of those who write beside an audit."""
    paced = [entry for entry in entries if "p99_ms" in entry["notes"]]
    if not paced:
        return []
    lines = ["", "| beside | 99th percentile of latency, ms | hot set in the buffers |", "|---|---|---|"]
    for entry in paced:
        notes = entry["notes"]
        for label in notes["p99_ms"]:
            if label != "none" or entry is paced[0]:
                latency, resident = (median(tuple(notes[key][label])) for key in ("p99_ms", "hot_set_resident"))
                lines.append(f"| {label} | {latency:.3g} | {resident:.0%} |")
    return lines
