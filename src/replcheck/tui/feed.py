"""What the screen reads and what it may ask for: the seam between it and whatever watches, records or runs.

A feed hands over frozen updates; the screen folds them and knows nothing else. Neither side waits for the other: `take`
only puts an update aside, and a command returns at once and tells how it goes by updates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from replcheck.model.control import Standing
from replcheck.model.copies import CopyStanding
from replcheck.model.live import ClusterEvent, ClusterView, Severity
from replcheck.model.spans import NodeSpan, WatchSpan

if TYPE_CHECKING:
    # What only some screens need is not loaded before the first picture.
    from rich.console import Console

    from replcheck.events import Event
    from replcheck.model.audit import AuditResult
    from replcheck.model.drill import DrillResult
    from replcheck.report.history import PastRun
    from replcheck.report.style import Style


class Link(Enum):
    """Where what is shown comes from."""

    CONNECTING = "connecting"
    SAMPLING = "live"
    """This process samples the nodes itself."""
    READING = "recorder"
    """A recorder samples, and its history is read."""
    REPLAY = "replay"
    LOST = "lost"
    """What was read is gone: nothing new comes until that is mended, and what is shown is what was last seen."""
    ENDED = "ended"
    """A recorded stream came to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim of the policy: whether it holds at this moment, and whether it held over the window."""

    name: str
    """The control's name, as in the configuration."""
    sentence: str
    """What was promised."""
    now: Standing
    window: Standing
    """Over the time that the policy looks back; NOT_ASKED for a claim of the moment only."""
    measured: str = ""
    """What was found, in one clause."""
    problems: tuple[str, ...] = ()
    """Why it is not met, a clause each, the worst first."""
    as_of: datetime | None = None
    """The oldest of the facts that it rests on; None where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Limits that the policy sets; None where it asks for nothing of the kind."""

    running_copies: int | None = None
    proven_copies: int | None = None
    proof_age_s: float | None = None
    lag_bytes: int | None = None
    lag_s: float | None = None
    recovery_age_s: float | None = None
    window_s: float = 30 * 86400.0
    """How far back the claims look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Something the screen did not know before, as of `at`."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduced(Update):
    """Which cluster it is, what its policy asks and in which zone its people live, where that is known late."""

    cluster: str
    asked: Asked
    zone: tzinfo | None = None
    """None is the machine's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed(Update):
    """Nothing will ever be told: the screen is left, and whoever started it tells why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanged(Update):
    """Another source, or none."""

    link: Link
    what: str = ""
    """One clause for people: which recorder, why it is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewTaken(Update):
    """The cluster as the newest sample shows it."""

    view: ClusterView
    interval_s: float = 1.0
    """How often whoever samples asks each node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsTaken(Update):
    """What happened to the cluster, in any order; what was told before may come again."""

    events: tuple[ClusterEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingsTaken(Update):
    """Which nodes are proven copies, all of them."""

    standings: Mapping[str, CopyStanding]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsTaken(Update):
    """The claims of the policy, all of them."""

    claims: tuple[Claim, ...] | None
    """Empty where the policy asks for nothing; None where they were never evaluated."""
    problem: str = ""
    """Why they cannot be evaluated now, in one clause: `claims` are what was found last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpansRead(Update):
    """What was watched in the past: when anything did, and how the nodes were."""

    since: datetime
    """How far back this looks; what no span covers since then was watched by nothing."""
    watch: tuple[WatchSpan, ...]
    nodes: tuple[NodeSpan, ...] = ()
    """Of the last minutes, for the curves of lag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingAudit:
    """Where the rolling audit stands, which proves everything over and over."""

    period_s: float
    """In which time all is to be proven."""
    nodes: tuple[str, ...]
    """Replicas that it proves now; none while no audit runs."""
    share: float
    """Of the audit that goes on, 0 to 1."""
    resting: str = ""
    """Why it reads nothing now, in one clause; empty while it does."""
    deadline: datetime | None = None
    """When they should be proven; None where that is at once."""
    proven: tuple[str, ...] = ()
    """While no audit runs, the replicas that are proven for long enough,"""
    diverged: tuple[str, ...] = ()
    """those that were found diverged,"""
    unfit: tuple[str, ...] = ()
    """and those that cannot be audited now."""
    again_at: datetime | None = None
    """When it begins anew after an audit that settled not everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedAudit:
    """Where an audit stands that whoever samples makes because of what happened."""

    primary: str
    replicas: tuple[str, ...]
    began_at: datetime
    share: float
    """The part that is done, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditsTold(Update):
    """What whoever samples proves of its own accord, be it this process or a recorder."""

    rolling: RollingAudit | None = None
    """None where there is no rolling audit."""
    owed: OwedAudit | None = None
    """None while there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTold(Update):
    """What a running audit or drill tells; the events of other runs are passed over."""

    kind: str
    """`audit` or `drill`: of the run that tells it."""
    event: "Event"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEnded(Update):
    """The result of an audit; None where it has none, and the run's own end says why."""

    result: "AuditResult | None"
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillEnded(Update):
    """The result of a drill; None where it has none, and the run's own end says why."""

    result: "DrillResult | None"
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsRead(Update):
    """The runs of the history, newest first, all that are to be shown."""

    runs: "tuple[PastRun, ...]"
    problem: str = ""
    """Why there are none, or not all; empty where nothing is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted(Update):
    """One line for people that needs no place of its own."""

    text: str
    severity: Severity = Severity.INFO


Take = Callable[[Update], None]
"""Takes an update; may be called from any thread, never blocks and never raises."""


class Feed(Protocol):
    """Where updates come from."""

    def subscribe(self, take: Take) -> None:
        """Hand every update to `take` from now on, what is known already first; return at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One thing that can be started."""

    name: str
    """What starts it: the cluster of an audit, the backup of a drill."""
    sentence: str
    """What will happen, for the question that is asked before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """What can be started from here; where nothing can, why not."""

    audit: Offer | None = None
    drills: tuple[Offer, ...] = ()
    why_no_audit: str = ""
    """One clause without a full stop."""
    why_no_drill: str = ""
    controls: bool = True
    """Whether what runs can be paused and ended from here."""


class Commands(Protocol):
    """What the screen may ask for; every method but `print_report` returns at once.

    What cannot be done raises a ReplcheckError, which is told to whoever pressed the key.
    """

    def offers(self) -> Offers:
        """Return what can be started now."""

    def start_audit(self) -> None:
        """Start the audit that was offered."""

    def pause(self) -> None:
        """Hold the running audit still."""

    def resume(self) -> None:
        """Let it go on."""

    def cancel(self) -> None:
        """End the running audit; what it has proven is kept."""

    def start_drill(self, backup: str) -> None:
        """Start a drill of one of the backups that were offered."""

    def cancel_drill(self) -> None:
        """End the running drill and remove its scratch copy."""

    def print_report(self, run_id: str, console: "Console", style: "Style") -> None:
        """Print the report of a past run, as the command line would; called by a thread of its own, may take a while.

        Raises a ReplcheckError where there is none.
        """
