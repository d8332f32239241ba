"""What controls are evaluated from: facts, each possibly unknown with the reason why.

They are gathered by `runs.check`, and by tests from lists.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from replcheck.model.copies import AuditProof
from replcheck.model.drill import DrillVerdict, LayerState
from replcheck.model.evidence import EvidenceState
from replcheck.model.live import ClusterEvent, ClusterView, NodeState, NodeView
from replcheck.model.outcome import Outcome
from replcheck.model.spans import GAP_S, NodeSpan, WatchSpan, span_of_moment
from replcheck.model.wal import Lsn

CLOCK_SLACK_S = 5.0
"""By how much a fact may be ahead of the clock: clocks are set by fractions of seconds, and differ by one or two."""
_ANSWERING = frozenset(
    {NodeState.PRIMARY, NodeState.STREAMING, NodeState.DETACHED, NodeState.STRAYED, NodeState.FOREIGN}
)
"""States of nodes that answered; what a span of another state tells of its node may be from long before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredNode:
    """A node as the configuration names it."""

    name: str
    zone: str | None = None
    """The rack or zone that its owner attests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredBackup:
    """A backup as the configuration names it."""

    name: str
    manifest: bool = False
    """Whether backups of its kind carry checksums of their own."""
    archive: bool = False
    """Whether a restore of it goes on through an archive of WAL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillFact:
    """What a control needs of one drill."""

    run_id: str
    backup: str
    started_at: datetime
    finished_at: datetime
    verdict: DrillVerdict
    copy: str = ""
    """Which of the source's backups; empty where none was found."""
    taken_at: datetime | None = None
    """When that backup was taken; None where it does not tell."""
    problem: str = ""
    """Why it is not restored, in one clause; empty where it is."""
    recovery_time_s: float | None = None
    """None where the copy never opened."""
    recovery_point_age_s: float | None = None
    """From the newest recovered commit to the start of the drill; None where it cannot be told."""
    to_the_end: bool = False
    """Whether it recovered to the end of the archive."""
    replayed: Lsn | None = None
    """Where recovery ended; None for dumps, and where it never opened."""
    timeline: int | None = None
    manifest: LayerState | None = None
    """How the layer of the backup's own checksums ended; None where it did not run by design."""
    pages: LayerState | None = None
    """How the layer of page checksums ended, alike."""
    lacks_only_rows: bool = False
    """Whether it came back, and nobody could compare rows: that proves no restore, and says nothing against one."""


class Untold(Enum):
    """Why nothing but its record tells of a drill."""

    ERROR = "error"
    """It ended in an error, or was killed: it looked at nothing."""
    FAILED = "failed"
    """It failed, and its report is not to be had."""
    UNREADABLE = "unreadable"
    """Its report, or its record, is not to be had, and the record does not say that it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UntoldDrill:
    """A drill without a report: it proves nothing, and an older one does not take its place."""

    run_id: str
    backup: str
    """Empty where that is not known: it may have been of any."""
    started_at: datetime | None
    """None where that is not known: it may have been at any time."""
    loss: Untold
    what: str
    """What is known of it, in one clause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadProof:
    """What an audit said of a replica, and what is damaged."""

    node: str
    """Empty where that is not known: it may have been of any."""
    at: datetime | None
    """When the audit ended; None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalSeen:
    """Where the primary's WAL had come to at some time, as an audit saw it."""

    at: datetime
    lsn: Lsn
    timeline: int | None
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LagLimits:
    """How far a standby may be behind and still keep up; None for any distance."""

    size_bytes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known of a cluster at a moment."""

    now: datetime
    nodes: tuple[ConfiguredNode, ...]
    backups: tuple[ConfiguredBackup, ...] = ()
    view: ClusterView | None = None
    """The last look at the nodes; its `at` tells when. None where there is none that is young enough."""
    view_problem: str = "the nodes were not looked at"
    """Why there is none, in one clause."""
    stale_after_s: float = GAP_S
    """How long ago a node may have answered whose answer still is one of now."""
    history_problem: str = ""
    """Why the history tells nothing, in one clause; empty where it can be read, also where it holds nothing yet."""
    clock_problem: str = ""
    """Why ages can't be told, in one clause; empty where they can."""
    spans: tuple[NodeSpan, ...] = ()
    watch: tuple[WatchSpan, ...] = ()
    events: tuple[ClusterEvent, ...] = ()
    """In the order in which they happened."""
    unread_events: int = 0
    """How many others cannot be read."""
    proofs: tuple[AuditProof, ...] = ()
    unread_proofs: tuple[UnreadProof, ...] = ()
    drills: tuple[DrillFact, ...] = ()
    """In the order in which they began."""
    untold_drills: tuple[UntoldDrill, ...] = ()
    wal_seen: tuple[WalSeen, ...] = ()
    evidence: EvidenceState | None = None
    evidence_problem: str = "the chain of evidence was not looked at"
    """Why there is none, in one clause."""
    lag: LagLimits = field(default_factory=LagLimits)
    left_out: tuple[str, ...] = ()
    """What the configuration keeps out of every audit, a clause each."""

    @property
    def node_names(self) -> tuple[str, ...]:
        """Return the names of the configured nodes."""
        return tuple(node.name for node in self.nodes)

    def viewed(self) -> dict[str, NodeView]:
        """Return the configured nodes that the last look shows, by name; empty where there is none."""
        held = {node.node: node for node in self.view.nodes} if self.view else {}
        return {name: held[name] for name in self.node_names if name in held}

    def age_s(self, moment: datetime) -> float:
        """Return how long ago a moment was, in seconds; negative where it is ahead of the clock by more than slack."""
        seconds = (self.now - moment).total_seconds()
        return 0.0 if -CLOCK_SLACK_S <= seconds < 0 else seconds

    def is_ahead(self, moment: datetime) -> bool:
        """Return whether a moment is still to come: how old it is cannot be told, and it would never grow old."""
        return self.age_s(moment) < 0

    def lately_told(self) -> tuple[NodeSpan, ...]:
        """Return what nodes told of themselves that answered lately enough, the newest last.

        A node that is silent is shown with its last answer, in a view as in a span: that may be long ago.
        """
        looks = [
            span_of_moment(node, node.answered_at)
            for node in (self.view.nodes if self.view else ())
            if node.answered_at is not None
        ]
        told = [*(span for span in self.spans if span.state in _ANSWERING), *looks]
        fresh = [span for span in told if 0 <= self.age_s(span.ended_at) <= self.stale_after_s]
        return tuple(sorted(fresh, key=lambda span: span.ended_at))

    def untold_since(self, backup: str, moment: datetime | None, *losses: Untold) -> list[UntoldDrill]:
        """Return the drills without a report that may have been of a backup, and later than `moment`; None for all."""
        return [
            drill
            for drill in self.untold_drills
            if drill.backup in {"", backup}
            and drill.loss in losses
            and (moment is None or drill.started_at is None or drill.started_at > moment)
        ]

    def spans_with_look(self) -> tuple[NodeSpan, ...]:
        """Return the spans, and one for each node that the last look shows later than they do."""
        seen: dict[str, datetime] = {}
        for span in self.spans:
            seen[span.node] = max(span.ended_at, seen.get(span.node, span.ended_at))
        at = self.view.at if self.view else self.now
        looks = [
            span_of_moment(node, at)
            for node in (self.view.nodes if self.view else ())
            if node.node not in seen or seen[node.node] <= at
        ]
        return (*self.spans, *looks)

    def since(self, seconds: float) -> datetime:
        """Return the moment so many seconds ago."""
        return self.now - timedelta(seconds=seconds)


def newest_proofs(facts: Facts) -> dict[str, AuditProof]:
    """Return the newest whole proof of each node that found it consistent, by node.

    One that is ahead of the clock proves nothing: it would stay young until the clock has come there.
    """
    held: dict[str, AuditProof] = {}
    for proof in facts.proofs:
        if proof.whole and proof.verdict.outcome is Outcome.PROVEN and not is_proof_ahead(proof, facts):
            held[proof.node] = max(held.get(proof.node, proof), proof, key=lambda one: one.proven_at)
    return held


def is_proof_ahead(proof: AuditProof, facts: Facts) -> bool:
    """Return whether an audit is ahead of the clock."""
    return facts.is_ahead(proof.proven_at) or facts.is_ahead(proof.finished_at)
