"""Measure things side by side: what is compared takes turns, so that a slow minute of the machine strikes all alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure, with all it was made from."""

    name: str
    what: str
    """What was done, in one sentence."""
    unit: str
    series: Mapping[str, tuple[float, ...]]
    """Every value, by what was measured, in the order of the rounds."""
    figure: float
    """What is compared with `reach`: nearly always the ratio of two medians."""
    figure_is: str
    reach: str
    """What the figure should be; empty where it is only reported."""
    reached: bool | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "series": {
                label: {
                    "values": [round(value, 4) for value in values],
                    "median": round(statistics.median(values), 4),
                    "spread": round(spread(values), 3),
                }
                for label, values in self.series.items()
            },
            "figure": round(self.figure, 3),
            "figure_is": self.figure_is,
            "reach": self.reach,
            "reached": self.reached,
            "notes": dict(self.notes),
        }


def in_turns(rounds: int, things: Mapping[str, Callable[[], float]]) -> dict[str, tuple[float, ...]]:
    """Do each thing once a round, in an order that turns round every time; return what each gave."""
    found: dict[str, list[float]] = {label: [] for label in things}
    for number in range(rounds):
        for label in list(things) if number % 2 == 0 else reversed(list(things)):
            found[label].append(things[label]())
    return {label: tuple(values) for label, values in found.items()}


def median(values: tuple[float, ...]) -> float:
    """Return the median."""
    return statistics.median(values)


def spread(values: tuple[float, ...]) -> float:
    """Return how far the values lie apart, as a part of their median.

    >>> spread((1.0, 1.1, 0.9))
    0.2
    """
    middle = statistics.median(values)
    return round((max(values) - min(values)) / middle, 6) if middle else 0.0


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """Return a thing that gives the seconds which a piece of work takes."""

    def run() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return run
