"""What controls are evaluated from: facts, each possibly unknown with the reason why.

They are gathered by `runs.check`, and by tests from lists.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from replcheck.model.copies import AuditProof
from replcheck.model.drill import DrillVerdict, LayerState
from replcheck.model.evidence import EvidenceState
from replcheck.model.live import ClusterEvent, ClusterView, NodeView
from replcheck.model.outcome import Outcome
from replcheck.model.spans import NodeSpan, WatchSpan
from replcheck.model.wal import Lsn


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
    history_problem: str = ""
    """Why the history tells nothing, in one clause; empty where it can be read, also where it holds nothing yet."""
    clock_problem: str = ""
    """Why ages can't be told, in one clause; empty where they can."""
    spans: tuple[NodeSpan, ...] = ()
    watch: tuple[WatchSpan, ...] = ()
    events: tuple[ClusterEvent, ...] = ()
    """In the order in which they happened."""
    proofs: tuple[AuditProof, ...] = ()
    drills: tuple[DrillFact, ...] = ()
    """In the order in which they began."""
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
        """Return how long ago a moment was, in seconds."""
        return (self.now - moment).total_seconds()

    def spans_with_look(self) -> tuple[NodeSpan, ...]:
        """Return the spans, and one for each node that the last look shows later than they do."""
        seen: dict[str, datetime] = {}
        for span in self.spans:
            seen[span.node] = max(span.ended_at, seen.get(span.node, span.ended_at))
        at = self.view.at if self.view else self.now
        looks = [
            _span_of(node, at)
            for node in (self.view.nodes if self.view else ())
            if node.node not in seen or seen[node.node] <= at
        ]
        return (*self.spans, *looks)

    def since(self, seconds: float) -> datetime:
        """Return the moment so many seconds ago."""
        return self.now - timedelta(seconds=seconds)


def _span_of(node: NodeView, at: datetime) -> NodeSpan:
    return NodeSpan(
        node=node.node,
        began_at=at,
        ended_at=at,
        samples=1,
        longest_gap_s=0.0,
        state=node.state,
        system_identifier=node.system_identifier,
        timeline=node.timeline,
        host=node.host,
        max_lag_bytes=node.lag_bytes,
        max_lag_s=node.lag_s,
        replay_paused=node.replay_paused,
        checksum_failures=node.checksum_failures,
        data_checksums=node.data_checksums,
    )


def newest_proofs(proofs: Iterable[AuditProof]) -> dict[str, AuditProof]:
    """Return the newest whole proof of each node that found it consistent, by node."""
    held: dict[str, AuditProof] = {}
    for proof in proofs:
        if proof.whole and proof.verdict.outcome is Outcome.PROVEN:
            held[proof.node] = max(held.get(proof.node, proof), proof, key=lambda one: one.proven_at)
    return held
