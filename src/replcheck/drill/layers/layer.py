"""The interface that every layer of proof stands behind."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from replcheck.drill.backups.source import Restored
from replcheck.drill.stages import Course
from replcheck.model.drill import CopyFacts, LayerName, LayerReport, Target


class Moment(Enum):
    """When in the life of a scratch copy a layer runs."""

    FETCHED = "fetched"
    """The files lie in the scratch directory and no server has touched them."""
    OPEN = "open"
    """The copy answers; where it is in recovery, it stands still at its target."""
    STOPPED = "stopped"
    """The scratch server was shut down cleanly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a layer looks at."""

    copy: CopyFacts
    target: Target
    restored: Restored | None
    """None before it is open."""
    data_dir: Path | None
    """Of the scratch server; None where the copy lies elsewhere."""
    stages: Course
    """For progress and the wish to stop only."""


WRITING = frozenset({LayerName.AMCHECK})
"""Layers that write into a copy of ours where it takes writes, and take back what they wrote."""


class Layer(Protocol):
    """One way to prove a restored copy.

    A layer returns what it found and raises nothing but Interrupted: what keeps it from running is a report of the
    state NOT_RUN with its reason.
    """

    @property
    def name(self) -> LayerName:
        """Return which layer it is."""

    @property
    def moment(self) -> Moment:
        """Return when it runs."""

    def run(self, case: Case) -> LayerReport:
        """Look, and report."""
