"""How often a recorder asks the nodes, kept for those who read along: from it follows what silence of it means."""

from dataclasses import dataclass

from replcheck.model.plain import Plain
from replcheck.model.shape import from_plain

NAME = "pace"
"""Under which it is kept in the history."""
_STUCK_S = 20.0
_INTERVALS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The pace of one watch."""

    interval_s: float
    """How often each node is asked."""

    @property
    def stuck_after_s(self) -> float:
        """Return how old what such a recorder wrote last may be before it counts as stuck."""
        return max(_STUCK_S, _INTERVALS * self.interval_s)


def read_back(document: Plain, own: Pace) -> Pace:
    """Return what a recorder kept; `own` where it kept nothing, as one of an older version."""
    try:
        return from_plain(Pace, document) if isinstance(document, dict) else own
    except ValueError:
        return own
