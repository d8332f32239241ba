"""How often a policy was checked in a period, and how old the last check of all of it was at its end.

A check is of one moment. What it found says little of a time long after it: where checks stopped coming, or end in
errors, where the controls stand is unknown, however green the last one was.
"""

from dataclasses import dataclass

from replcheck.model.units import format_duration
from replcheck.report.verdict import counted

MISSES = 3
"""How many times the usual distance of checks the last one may be old: one that is missed may be a restart of the
machine, or work that took its time, and so may the next; the third is no chance."""
LEAST_S = 3600.0
"""What is never called old: samples check by the hour, and a few checks in a row by hand make no rhythm."""
ASSUMED_S = 86_400.0
"""How old the only check may be, which tells of no distance: as old as a proof may be where no policy says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksMade:
    """The checks of a period, by what became of them."""

    whole: int = 0
    """Those that looked at all that the policy asked for, and came to a result."""
    limited: int = 0
    """Those that were told to look at some of the controls only."""
    failed: int = 0
    """Those that ended in an error, or were killed, and so looked at nothing."""
    failed_since: int = 0
    """Of these, those behind the last whole one."""
    uncounted: int = 0
    """Those of which nothing tells what they looked at: their reports cannot be read."""
    every_s: float | None = None
    """How far apart whole checks began as a rule, with a result or without: the median; None below two of them."""
    age_s: float | None = None
    """How old the last whole one was at the end of the period; None where there was none."""

    @property
    def most_s(self) -> float:
        """Return how old the last one may be for what it found to be told as how things stand, in seconds."""
        return ASSUMED_S if self.every_s is None else max(MISSES * self.every_s, LEAST_S)

    @property
    def are_old(self) -> bool:
        """Return whether the last whole check is too old for that."""
        return self.age_s is not None and self.age_s > self.most_s

    @property
    def happened(self) -> bool:
        """Return whether there was any check at all, be it one that failed."""
        return bool(self.whole or self.limited or self.failed or self.uncounted)


def never_words(checks: ChecksMade) -> str:
    """Return why no check of the whole policy tells anything, as a clause."""
    return "the policy was never checked as a whole" if checks.happened else "no check of a policy is in this history"


def checks_sentence(checks: ChecksMade) -> str:
    """Return how many checks there were, and of which kind; empty where there was none."""
    if not checks.happened:
        return ""
    told = [f"{counted(checks.whole, 'check')} of the whole policy"]
    told += [f"{checks.limited:,} of some of its controls"] if checks.limited else []
    told += [f"{checks.failed:,} that ended in an error or were killed"] if checks.failed else []
    told += [f"{checks.uncounted:,} whose report cannot be read"] if checks.uncounted else []
    return f"{', '.join(told)}."


def age_words(checks: ChecksMade) -> str:
    """Return how old the last whole check was, as a clause behind its time; empty where it was the last thing done."""
    if checks.age_s is None or checks.age_s < 1:
        return ""
    return f", {format_duration(checks.age_s)} before the end of the period"


def old_sentence(checks: ChecksMade) -> str:
    """Return that the last whole check is too old to tell how things stand; empty where it is not."""
    if not checks.are_old or checks.age_s is None:
        return ""
    usual = f"until then one began every {format_duration(checks.every_s)}" if checks.every_s else "it was the only one"
    return (
        f"In the last {format_duration(checks.age_s)} of the period the policy was not checked as a whole; {usual}."
        " How the controls stood since is not known."
    )


def failed_sentence(checks: ChecksMade) -> str:
    """Return how checks that ended without a result are counted; empty where there are none."""
    if not checks.failed:
        return ""
    if checks.failed == 1:
        since = ", after the last whole one" if checks.failed_since else ""
        return f"1 check ended in an error or was killed{since}: counted as unchecked."
    since = f", {checks.failed_since:,} of them since the last whole one" if checks.failed_since else ""
    return f"{checks.failed:,} checks ended in an error or were killed{since}: counted as unchecked."


def limited_sentence(checks: ChecksMade) -> str:
    """Return how checks of some controls are counted; empty where there are none."""
    if not checks.limited:
        return ""
    what = counted(checks.limited, "check")
    return f"{what} looked at some of the controls only (--control): counted for these alone."
