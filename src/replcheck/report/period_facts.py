"""All that a report of a period says, as frozen facts: gathered elsewhere, told by the papers of this package."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from replcheck.model.control import ControlName, ControlResult, Standing
from replcheck.model.copy_times import CopiesAsked, CopiesOverTime
from replcheck.model.drill import DrillResult
from replcheck.model.evidence import EvidenceState
from replcheck.model.live import ClusterEvent
from replcheck.model.run import RunRecord
from replcheck.model.spans import NodeSpan, WatchSpan
from replcheck.report.checks_made import ChecksMade
from replcheck.report.history import PastRun
from replcheck.report.period import Period
from replcheck.report.watched import Watched


@dataclass(frozen=True, slots=True, kw_only=True)
class PastDrill:
    """One drill of the period."""

    run: RunRecord
    result: DrillResult | None
    """None where it has no report, or none that can be read."""

    @property
    def verdict(self) -> str:
        """Return the word of its report, which is true whatever older versions called it; else that of its record."""
        return self.result.verdict.value if self.result is not None else self.run.verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlTally:
    """Where one control stood in the checks of the period that looked at it, or were to."""

    name: ControlName
    standings: Mapping[Standing, int]
    """How many checks found it so."""
    last_not_met_at: datetime | None
    """When a check last found it other than met, or came to no result; None where none did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the policy promises of copies, or what is taken where there is none."""

    copies: CopiesAsked
    from_policy: bool
    recovery_limit_s: float | None = None
    recovery_warn_s: float | None = None
    restore_limit_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodFacts:
    """One cluster over a period."""

    cluster: str
    since: datetime
    until: datetime
    made_at: datetime
    tool_version: str
    audits: Period
    runs: tuple[PastRun, ...]
    """Of every kind, oldest first."""
    drills: tuple[PastDrill, ...]
    """Oldest first."""
    events: tuple[ClusterEvent, ...]
    """Oldest first."""
    node_spans: tuple[NodeSpan, ...]
    watch_spans: tuple[WatchSpan, ...]
    watched: Watched
    copies: CopiesOverTime
    asked: Asked
    controls: tuple[ControlResult, ...] = ()
    """As the last check of the whole policy found them, or a later one of some of them; empty where there was none."""
    controls_at: datetime | None = None
    """When the last check of the whole policy ended."""
    rechecked: Mapping[ControlName, datetime] = field(default_factory=dict)
    """The controls that a later check of some of them looked at again, and when that ended."""
    checks: ChecksMade = field(default_factory=ChecksMade)
    tallies: tuple[ControlTally, ...] = ()
    checks_left_out: int = 0
    """Checks that did not prove everything and are in no tally."""
    evidence_head: str = ""
    """SHA-256 of the newest record of the chain of evidence at that check; empty where it knew none."""
    evidence: EvidenceState | None = None
    """How the chain of evidence stood when the report was written; None where that could not be told."""
    evidence_problem: str = ""
    """Why it could not, in one clause."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Runs that cannot be read or believed, with the reason, beside those of `audits`."""
    altered: tuple[str, ...] = ()
    """Of these and of those of `audits`, the runs that are not as the chain of evidence recorded them."""
    without_record: int = 0
    """Runs that ended and that no record in the history's chain of evidence tells of: nothing vouches for them."""
    damaged_rows: int = 0
    """Samples and events that cannot be read."""

    def checked_at(self, name: ControlName) -> datetime | None:
        """Return when the check ended that found a control as it is told; None where none did."""
        return self.rechecked.get(name, self.controls_at)
