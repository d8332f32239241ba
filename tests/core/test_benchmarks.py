"""The benchmarks' own arithmetic and files; what they measure is measured by `make bench`."""

import json
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.machine import Machine, this_machine
from benchmarks.measuring import Measure, in_turns, spread
from benchmarks.subjects import digest_of, percentile

MACHINE = Machine(
    date="2026-01-02",
    cores=2,
    processor="one",
    memory_bytes=8 << 30,
    kernel="6.1",
    python="3.11.7",
    postgresql=("18.1",),
    replcheck="0.1.0",
)


def measure(**changes: Any) -> Measure:
    made: dict[str, Any] = {
        "name": "digest",
        "what": "an audit against the bare query",
        "unit": "s",
        "series": {"audit": (2.0, 2.2, 1.8), "bare": (2.0, 2.0, 2.0)},
        "figure": 1.0,
        "figure_is": "times the bare query",
        "reach": "at most 1.15",
        "reached": True,
    }
    return Measure(**made | changes)


def test_what_is_compared_takes_turns() -> None:
    order: list[str] = []

    def thing(label: str) -> float:
        order.append(label)
        return float(len(order))

    found = in_turns(3, {"a": lambda: thing("a"), "b": lambda: thing("b")})
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": (1.0, 4.0, 5.0), "b": (2.0, 3.0, 6.0)}


def test_the_spread_is_told_in_parts_of_the_median() -> None:
    assert spread((1.0, 1.5, 2.0, 1.5)) == 0.666667
    assert spread((0.0, 0.0)) == 0.0


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.99), percentile(values, 1.0), percentile([3.0], 0.5)) == (99.0, 100.0, 3.0)


def test_a_digest_covers_every_column() -> None:
    text = digest_of("records", ("id", 'no"te')).as_string(None)
    assert 'row(t."id", t."no""te")' in text
    assert 'from only "records"' in text


def test_results_of_a_day_are_gathered_and_measured_anew_replace_the_old(tmp_path: Path) -> None:
    folder, table = tmp_path / "results", tmp_path / "RESULTS.md"
    results.write(folder, table, MACHINE, {"rows": 10}, [measure(), measure(name="help")])
    file = results.write(folder, table, MACHINE, {"rows": 20}, [measure(figure=1.5, reached=False)])
    assert file.name == "2026-01-02.json"
    measures = json.loads(file.read_text("utf-8"))["measures"]
    entries = {entry["name"]: entry for entry in measures}
    assert sorted(entry["name"] for entry in measures) == ["digest", "help"]
    assert (entries["digest"]["figure"], entries["digest"]["setup"]) == (1.5, {"rows": 20})
    assert entries["digest"]["series"]["audit"] == {"values": [2.0, 2.2, 1.8], "median": 2.0, "spread": 0.2}
    text = table.read_text("utf-8")
    assert "**not reached**" in text
    assert "2 cores (one), 8 GB of memory" in text
    assert "fsync = off" in text


def test_figures_that_are_only_reported_are_neither_reached_nor_missed(tmp_path: Path) -> None:
    told = results.told(measure(reach="", reached=None))
    assert "reported" in told
    assert "reached" not in told.replace("reported", "")


def test_the_machine_is_this_one() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.memory_bytes > 1 << 28
    assert "{" not in "".join(machine.lines())
