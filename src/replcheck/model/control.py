"""What a policy asks and what was found: the controls, where each stands, and one check of all of them.

A control that nobody configured is `not asked`, and one that could not be measured is `unchecked`: neither counts as
passed. A waiver excuses, it proves nothing: what it covers is shown as `waived` and ends as `partial`.
"""

from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum

from replcheck.model.live import ClusterView
from replcheck.model.outcome import Outcome, worst


class ControlName(Enum):
    """The claims that a policy can make, in the order in which they are told."""

    COPIES = "copies"
    CONSISTENCY = "consistency"
    RECOVERY_POINT = "recovery-point"
    RESTORE = "restore"
    FAILOVER = "failover"
    REPLACEMENT = "replacement"
    PLACEMENT = "placement"
    INTEGRITY = "integrity"
    EVIDENCE = "evidence"


class Standing(Enum):
    """Where one control stands."""

    NOT_ASKED = "not asked"
    MET = "met"
    AT_RISK = "at risk"
    BREACHED = "breached"
    UNCHECKED = "unchecked"
    WAIVED = "waived"
    """Breached or unchecked, and excused until a day that is not past."""

    @property
    def outcome(self) -> Outcome | None:
        """Return the outcome this stands for; None where nobody asked."""
        return _OUTCOME_OF[self]


_OUTCOME_OF = {
    Standing.NOT_ASKED: None,
    Standing.MET: Outcome.PROVEN,
    Standing.AT_RISK: Outcome.PARTIAL,
    Standing.BREACHED: Outcome.REFUTED,
    Standing.UNCHECKED: Outcome.UNCHECKED,
    Standing.WAIVED: Outcome.PARTIAL,
}


class Unit(Enum):
    """What a measure is counted in."""

    COUNT = "count"
    SECONDS = "seconds"
    BYTES = "bytes"
    PERCENT = "percent"


class Bound(Enum):
    """On which side of its limit a measure is good; a limit itself still is."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number that a control rests on, beside the limits set for it."""

    name: str
    """Words in lower case joined by underscores, without the unit; with `subject` it is unique in its control."""
    unit: Unit
    value: float | None
    """None where it could not be measured."""
    bound: Bound = Bound.AT_MOST
    limit: float | None = None
    """Beyond it the control is breached; None where it is told without a limit."""
    warn: float | None = None
    """Beyond it the control is at risk."""
    subject: str = ""
    """The node, backup or database it is of; empty where the whole cluster is meant."""

    @property
    def standing(self) -> Standing:
        """Return where this number alone stands; without a limit it is met as soon as it is known."""
        if self.value is None:
            return Standing.UNCHECKED
        if self.limit is not None and self._beyond(self.limit, self.value):
            return Standing.BREACHED
        return Standing.AT_RISK if self.warn is not None and self._beyond(self.warn, self.value) else Standing.MET

    def _beyond(self, limit: float, value: float) -> bool:
        return value < limit if self.bound is Bound.AT_LEAST else value > limit


@dataclass(frozen=True, slots=True, kw_only=True)
class WaiverNote:
    """Why a control is excused for a while, and who decided it."""

    reason: str
    by: str
    until: date
    """The last day on which it is in force, in UTC."""
    excuses: Standing | None = None
    """What the control would be without it; None where there is nothing to excuse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlResult:
    """One control as it was found."""

    name: ControlName
    standing: Standing
    claim: str
    """What was promised: in the words of who promised it, else in replcheck's own."""
    measured: str = ""
    """What was found, in one clause; empty where nobody asked."""
    limit: str = ""
    """What was asked for, in one clause."""
    problems: tuple[str, ...] = ()
    """Why it is not met, a clause each, the worst first; empty where it is."""
    measures: tuple[Measure, ...] = ()
    runs: tuple[str, ...] = ()
    """Ids of the runs that it rests on."""
    not_proven: tuple[str, ...] = ()
    """What the claim may seem to say and this does not prove, a sentence without a full stop each."""
    as_of: datetime | None = None
    """The oldest of the facts that it rests on; None where there are none."""
    waiver: WaiverNote | None = None

    @property
    def outcome(self) -> Outcome | None:
        """Return the outcome of this control; None where nobody asked."""
        return self.standing.outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRun:
    """One run that a check looked whether it was due, and did or left undone."""

    kind: str
    """`audit` or `drill`."""
    subject: str = ""
    """The backup of a drill."""
    reason: str = ""
    """Why it was due or not, or was left undone, in one clause."""
    run_id: str | None = None
    """None where it was not done."""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """All controls of a policy at one moment."""

    run_id: str
    cluster: str
    started_at: datetime
    finished_at: datetime
    tool_version: str
    controls: tuple[ControlResult, ...]
    """One for each name, in their order, also those that nobody asked for."""
    left_out: tuple[ControlName, ...] = ()
    """Those that the policy asks for and that this check was told to leave out; it is one of the whole policy where
    there are none. They are told as `not asked`."""
    view: ClusterView | None = None
    """The nodes as they were last seen; None where they never were, or too long ago."""
    fresh: bool = True
    """Whether this check looked at the nodes itself; False where it answers from the history alone."""
    due: tuple[DueRun, ...] = ()
    notes: tuple[str, ...] = ()
    """What else whoever reads the result has to know: a clock that was moved back, a budget that ended."""
    evidence_head: str = ""
    """SHA-256 of the record before the check's own in the chain of evidence, in hex; empty where there was none."""

    @property
    def outcome(self) -> Outcome:
        """Return the worst outcome of what was asked; nothing asked is `unchecked`."""
        return worst(result.outcome for result in self.controls if result.outcome is not None)

    def control(self, name: ControlName) -> ControlResult:
        """Return the result of one control."""
        return next(result for result in self.controls if result.name is name)
