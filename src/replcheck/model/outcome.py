"""The one table of outcomes: what a run, a relation or a control may end as, and its exit status.

The exit status is an API. The worst of refuted, unchecked, partial and proven, in this order, wins.
"""

from collections.abc import Iterable
from enum import Enum, IntEnum


class ExitStatus(IntEnum):
    """What the process tells its caller; also the codes of monitoring plugins."""

    PROVEN = 0
    PARTIAL = 1
    REFUTED = 2
    UNCHECKED = 3


class Outcome(Enum):
    """How far a claim was proven."""

    PROVEN = "proven"
    PARTIAL = "partial"
    REFUTED = "refuted"
    UNCHECKED = "unchecked"

    @property
    def exit_status(self) -> ExitStatus:
        """Return the process exit status of this outcome."""
        return ExitStatus[self.name]


class Verdict(Enum):
    """The word an audit uses for an outcome, of a run, a node or a relation."""

    CONSISTENT = "consistent"
    INCONCLUSIVE = "inconclusive"
    DIVERGED = "diverged"
    UNCHECKED = "unchecked"

    @property
    def outcome(self) -> Outcome:
        """Return the outcome this verdict stands for."""
        return _OUTCOME_OF[self]


_OUTCOME_OF = {
    Verdict.CONSISTENT: Outcome.PROVEN,
    Verdict.INCONCLUSIVE: Outcome.PARTIAL,
    Verdict.DIVERGED: Outcome.REFUTED,
    Verdict.UNCHECKED: Outcome.UNCHECKED,
}
_VERDICT_OF = {outcome: verdict for verdict, outcome in _OUTCOME_OF.items()}
_WORST_FIRST = (Outcome.REFUTED, Outcome.UNCHECKED, Outcome.PARTIAL, Outcome.PROVEN)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcome that wins; nothing at all is `unchecked`, since nothing was looked at.

    >>> worst([Outcome.PROVEN, Outcome.PARTIAL, Outcome.UNCHECKED]).value
    'unchecked'
    >>> worst([]).value
    'unchecked'
    """
    seen = set(outcomes)
    return next((outcome for outcome in _WORST_FIRST if outcome in seen), Outcome.UNCHECKED)


def worst_verdict(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict that wins, in the order of `worst`."""
    return _VERDICT_OF[worst(verdict.outcome for verdict in verdicts)]
