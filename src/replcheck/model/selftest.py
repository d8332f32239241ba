"""What a self-test plants, and what it found, as plain data.

A difference is planted on one node; its twins are the same data where nothing was planted. Neither holds a row's value.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from replcheck.model.audit import CtidRange, DifferenceKind
from replcheck.model.outcome import Outcome, worst


class Sight(Enum):
    """Whether a planted difference was seen."""

    SEEN = "seen"
    MISSED = "missed"


class Innocence(Enum):
    """What was said of a healthy twin."""

    CLEAN = "clean"
    ACCUSED = "accused"
    UNPROVEN = "unproven"
    """Accused of nothing, but not proven either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that was planted on one node, and how an audit should name it."""

    group: str
    """What kind of difference it is: rows, values, definitions, indexes, nodes."""
    name: str
    node: str
    database: str
    relations: tuple[str, ...]
    """Relations that must all be named, as reports write them."""
    kinds: frozenset[DifferenceKind] = frozenset()
    """Kinds that it may be reported as; empty where any will do."""
    place: CtidRange | None = None
    """Where it lies, if that must be named too."""
    also: tuple[str, ...] = ()
    """Other relations that may be named for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """The same data where nothing was planted."""

    where: str
    """Which audit and which nodes, for instance `before, under load`."""
    state: Innocence
    reason: str = ""
    """Why it is not clean; empty where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceReport:
    """One planted difference, with its healthy twins."""

    group: str
    name: str
    node: str
    database: str
    relations: tuple[str, ...]
    sight: Sight
    reason: str = ""
    """How it was missed; empty where it was seen."""
    twins: tuple[Twin, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTried:
    """A difference that could not be planted on this server."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestResult:
    """Everything one self-test found."""

    run_id: str
    started_at: datetime
    finished_at: datetime
    tool_version: str
    server_version: str
    quick: bool
    differences: tuple[DifferenceReport, ...]
    bystanders: tuple[Twin, ...]
    """What lies beside the planted differences: in each audit, all relations in which nothing was planted."""
    not_tried: tuple[NotTried, ...] = ()

    @property
    def seen(self) -> int:
        """Return how many differences were seen."""
        return sum(found.sight is Sight.SEEN for found in self.differences)

    @property
    def twins(self) -> tuple[Twin, ...]:
        """Return every healthy twin."""
        return (*(twin for found in self.differences for twin in found.twins), *self.bystanders)

    @property
    def accused(self) -> int:
        """Return how many healthy twins were accused."""
        return _count(self.twins, Innocence.ACCUSED)

    @property
    def unproven(self) -> int:
        """Return how many healthy twins were not proven."""
        return _count(self.twins, Innocence.UNPROVEN)

    @property
    def outcome(self) -> Outcome:
        """Return PROVEN where all was seen and nobody accused, REFUTED otherwise; PARTIAL with a twin unproven.

        Nothing planted, or no twin beside it, proves nothing: UNCHECKED.
        """
        if not self.differences or not self.twins:
            return Outcome.UNCHECKED
        failed = self.seen < len(self.differences) or self.accused
        return worst(
            [
                Outcome.REFUTED if failed else Outcome.PROVEN,
                Outcome.PARTIAL if self.unproven else Outcome.PROVEN,
            ]
        )


def _count(twins: Iterable[Twin], state: Innocence) -> int:
    return sum(twin.state is state for twin in twins)
