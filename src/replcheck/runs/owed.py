"""Proves what a change of the cluster has put in doubt: at once, as soon as the copies can be audited.

After a promotion every surviving replica is owed a proof against the new primary; a copy that was recreated and an old
primary that came back are owed one too. What is owed is remembered until an audit has settled it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from replcheck.model.copies import AuditProof
from replcheck.model.live import ClusterEvent, ClusterView, EventKind, NodeState
from replcheck.model.outcome import Verdict
from replcheck.runs.background import Audit, Bench, fit_targets
from replcheck.runs.parts import proofs_of
from replcheck.runs.scrub_pace import ScrubProgress

ALL = frozenset({EventKind.PROMOTED, EventKind.SWITCHED_OVER})
ONE = frozenset({EventKind.COPY_RECREATED, EventKind.REJOINED})
_SETTLED = frozenset({Verdict.CONSISTENT, Verdict.DIVERGED})
_ON_THE_WAY = frozenset({NodeState.DETACHED, NodeState.STARTING})
"""States in which a replica that is owed a proof may soon be one that can be audited."""
_COMPANY_S = 5.0
"""How long a replica that can be audited waits for the others that are owed a proof, so that one audit does for all."""
_FIRST_RETRY_S = 15.0
_LAST_RETRY_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """An audit that runs, as far as it got."""

    primary: str
    replicas: tuple[str, ...]
    began_at: datetime
    share: float
    """The part that is done of the databases that it has entered, 0 to 0.99: it is over when it has ended."""


def owed_by(events: Iterable[ClusterEvent], view: ClusterView) -> frozenset[str]:
    """Return the nodes that are owed a proof because of what happened."""
    owed: set[str] = set()
    for event in events:
        if event.kind in ALL:
            owed |= {node.node for node in view.nodes if node.configured}
        elif event.kind in ONE and event.node is not None:
            owed.add(event.node)
    return frozenset(owed - {view.primary})


@dataclass(slots=True)
class OwedProofs:
    """Begins audits of what is owed a proof; `seen` is called with every sample and waits for nothing."""

    bench: Bench
    clock: Callable[[], float]
    owed: frozenset[str] = frozenset()
    remember: Callable[[frozenset[str]], None] = lambda _: None
    """Is told each time what is owed has changed."""
    _audit: Audit | None = None
    _began_at: datetime | None = None
    _progress: ScrubProgress = field(default_factory=ScrubProgress)
    _since: float | None = None
    """Since when one of them could be audited."""
    _not_before: float = 0.0
    _retry_s: float = field(default=_FIRST_RETRY_S)

    def seen(self, view: ClusterView, events: Sequence[ClusterEvent]) -> tuple[AuditProof, ...]:
        """Take one view and what happened with it; return what an audit that has ended said, each once."""
        more = owed_by(events, view) - self.owed
        if more:
            self._owe((self.owed | more) - {view.primary})
            self._not_before, self._retry_s = 0.0, _FIRST_RETRY_S
        if self._audit is not None:
            if self._audit.over:
                audit, self._audit = self._audit, None
                return self._settled(audit)
        elif self.owed:
            self._begin_if_due(view)
        return ()

    def end(self) -> None:
        """End the audit that runs; what is owed stays so."""
        if self._audit is not None:
            self._audit.end()
            self._settled(self._audit)
            self._audit = None

    @property
    def busy(self) -> bool:
        """Return whether an audit runs."""
        return self._audit is not None

    def state(self) -> UnderWay | None:
        """Return where the audit stands; None while none runs."""
        if self._audit is None or self._audit.over or self._began_at is None:
            return None
        primary, *replicas = (target.name for target in self._audit.request.targets)
        share = min(self._progress.share, 0.99)
        return UnderWay(primary=primary, replicas=tuple(replicas), began_at=self._began_at, share=share)

    def _begin_if_due(self, view: ClusterView) -> None:
        fit = fit_targets(view, self.bench.request.targets)
        ready = [target.name for target in fit[1:] if target.name in self.owed]
        now = self.clock()
        if not ready or now < self._not_before:
            self._since = None
            return
        self._since = now if self._since is None else self._since
        on_the_way = {node.node for node in view.nodes if node.state in _ON_THE_WAY and node.node in self.owed}
        if not on_the_way or now - self._since >= _COMPANY_S:
            self._since = None
            self.bench.tell(f"auditing {', '.join(ready)} against {view.primary}, because of what happened")
            self._began_at, self._progress = view.at, ScrubProgress()
            targets = (fit[0], *(target for target in fit[1:] if target.name in ready))
            self._audit = self.bench.begin(targets, sinks=[self._progress])

    def _settled(self, audit: Audit) -> tuple[AuditProof, ...]:
        result = audit.finished.result if audit.finished else None
        verdicts = {replica.node.name: replica.verdict for replica in result.replicas} if result else {}
        stopped = result is not None and bool(result.stopped)
        settled = {node for node, verdict in verdicts.items() if verdict in _SETTLED and not stopped}
        self.bench.tell(audit.told)
        if settled & self.owed:
            self._owe(self.owed - settled)
            self._retry_s = _FIRST_RETRY_S
        if {target.name for target in audit.request.targets[1:]} & self.owed:
            self._not_before = self.clock() + self._retry_s
            self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)
        return proofs_of(result) if result is not None else ()

    def _owe(self, owed: frozenset[str]) -> None:
        self.owed = owed
        self.remember(owed)
