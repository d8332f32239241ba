"""The rolling audit: while a cluster is watched, it proves all of it over and over, so that no proof grows too old.

It is made of whole audits at gentle pace, of the replicas whose last whole proof is older than half of the configured
time, or that have none which counts. Such an audit has the other half of the time, and is held still in between so
that it takes no more of the servers than it must: therefore every chunk, and with them the whole proof that a copy's
standing rests on, is at every moment younger than the configured time. Within an audit what was proven since half of
that time is not read again, so the oldest proofs are made anew first.

Its state is what the history holds anyway: the proofs of finished audits, and the blocks that an unfinished one has
proven. A recorder that is killed goes on where it was.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from replcheck.audit.gate import Gate
from replcheck.audit.options import AuditOptions, Pacing
from replcheck.events import Emit
from replcheck.model.audit import AuditResult
from replcheck.model.copies import AuditProof, CopyStanding, standings
from replcheck.model.live import ClusterView, NodeState
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Verdict
from replcheck.model.progress import Progress
from replcheck.model.spans import GAP_S, NodeSpan
from replcheck.runs.audit import Auditor, Order
from replcheck.runs.background import Audit, Bench, fit_targets
from replcheck.runs.lock import is_held, lock_file
from replcheck.runs.parts import proofs_of
from replcheck.runs.scrub_pace import Pacer, ScrubProgress, working_share
from replcheck.watch.topology import FoldState

KIND = "scrub"
LEAST_S = 60.0
"""The shortest time that may be asked for."""
_LOOK_S = 2.0
_BACKOFF_S = 60.0
_LONGEST_BACKOFF_S = 3600.0
_PATIENCE_S = 60.0
"""How long a node that is being proven may be out of step before the audit goes on without it."""
_SETTLED = frozenset({Verdict.CONSISTENT, Verdict.DIVERGED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a rolling audit proves nothing at the moment: the replicas, each by what keeps it from being proven."""

    proven: tuple[str, ...] = ()
    """Proven for long enough."""
    diverged: tuple[str, ...] = ()
    """Found diverged: looked at again when half of the time is over."""
    unfit: tuple[str, ...] = ()
    """Not to be audited now: no replica that streams, or there is no primary."""
    again_at: datetime | None = None
    """When it begins anew after an audit that settled not everything; None where it waits for no such thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubState:
    """Where the rolling audit stands."""

    period_s: float
    running: bool
    share: float
    """Of the audit that runs, 0 to 1."""
    resting: str
    """Why it reads nothing now; empty while it does."""
    nodes: tuple[str, ...]
    """Replicas that it proves now, or would have to."""
    deadline: datetime | None
    """When they should be proven; None where that is at once."""
    waiting: Waiting | None = None
    """Why no audit runs; None while one does, and before it was looked what is due."""


def due_replicas(
    names: Sequence[str], standings: Mapping[str, CopyStanding], *, period_s: float
) -> tuple[tuple[str, ...], float | None]:
    """Return the replicas that are to be proven now, and how long that may take; None where it is at once.

    `standings` are those by which a proof counts for `period_s`. A copy that an audit has refuted is not looked at
    again before half of the time is over, like one that it proved.
    """
    due = tuple(name for name in names if _is_due(standings.get(name), period_s / 2))
    if due:
        # Those that will be due soon are read along, so that in time all are read together.
        due = tuple(name for name in names if _is_due(standings.get(name), period_s / 4))
    times_left = [_time_left_s(standings.get(name), period_s) for name in due]
    if any(left is None for left in times_left):
        return due, None
    return due, min((left for left in times_left if left is not None), default=None)


def _is_due(standing: CopyStanding | None, from_age_s: float) -> bool:
    if standing is None or standing.proof is None or standing.age_s is None:
        return True
    if standing.age_s >= from_age_s:
        return True
    return not standing.proven and standing.proof.verdict is not Verdict.DIVERGED


def _time_left_s(standing: CopyStanding | None, period_s: float) -> float | None:
    if standing is None or not standing.proven or standing.age_s is None:
        return None
    return max(0.0, period_s - standing.age_s)


def steady_since(spans: Sequence[NodeSpan]) -> datetime | None:
    """Return since when a replica has streamed and was watched without a gap; None where it does not stream.

    `spans` are those of the replica, in the order of time.
    """
    since: datetime | None = None
    until: datetime | None = None
    for span in spans:
        gap_s = (span.began_at - until).total_seconds() if until is not None else 0.0
        if span.state is not NodeState.STREAMING:
            since = None
        elif span.longest_gap_s > GAP_S and span.samples > 1:
            since = span.ended_at
        elif since is None or max(gap_s, span.longest_gap_s) > GAP_S:
            since = span.began_at
        until = span.ended_at
    return since


def gentle(options: AuditOptions) -> AuditOptions:
    """Return the options of an audit as a rolling one takes them: rows only, one lane that rests, no limit of time."""
    return replace(
        options, pacing=Pacing.GENTLE, jobs=1, indexes=False, fail_fast=False, time_budget_s=None, cross_check=0.0
    )


class Scrub:
    """Begins, paces and ends the audits of a rolling one; `seen` is called with every sample and waits for nothing."""

    def __init__(self, bench: Bench, period_s: float, clock: Callable[[], float]) -> None:
        assert bench.store is not None  # noqa: S101 - without a history nothing would be known of what is proven
        request = replace(bench.request, options=gentle(bench.request.options))
        # What it reads by and by is told by its state, not among the events of audits that somebody asked for.
        self._bench = replace(
            bench, request=request, auditor=self._planned(bench.auditor), sinks=(), ended=lambda _: None
        )
        self._store = bench.store
        self._period_s = period_s
        self._clock = clock
        self._audit: Audit | None = None
        self._progress = ScrubProgress()
        self._pacer = Pacer()
        self._deadline: datetime | None = None
        self._looked_at = float("-inf")
        self._not_before = float("-inf")
        self._backoff_s = _BACKOFF_S
        self._out_of_step_since: float | None = None
        self._waiting: Waiting | None = None

    def state(self) -> ScrubState:
        """Return where it stands."""
        audit = self._audit
        return ScrubState(
            period_s=self._period_s,
            running=audit is not None,
            share=self._progress.share if audit else 0.0,
            resting=audit.reins.held if audit else "",
            nodes=tuple(target.name for target in audit.request.targets[1:]) if audit else (),
            deadline=self._deadline if audit else None,
            waiting=self._waiting if audit is None else None,
        )

    def seen(self, state: FoldState) -> tuple[AuditProof, ...]:
        """Take what is known after a sample; return what an audit that has ended said, each once."""
        now = self._clock()
        elapsed_s, looked_at = now - self._looked_at, self._looked_at
        if elapsed_s < _LOOK_S or state.view is None:
            return ()
        self._looked_at = now
        if self._audit is None:
            self._begin_if_due(state, state.view, now)
        elif self._audit.over:
            audit, self._audit = self._audit, None
            return self._settled(audit, now)
        else:
            if not self._audit.reins.held and looked_at > float("-inf"):
                self._progress.working_s += elapsed_s
            self._pace(self._audit, state.view, now)
            self._restart_if_changed(self._audit, state, state.view, now)
        return ()

    def end(self) -> None:
        """End the audit that runs; what it has proven is kept."""
        if self._audit is not None:
            self._audit.end()
            self._audit = None

    def _begin_if_due(self, state: FoldState, view: ClusterView, now: float) -> None:
        if now < self._not_before:
            self._waiting = self._waiting or Waiting(again_at=view.at + timedelta(seconds=self._not_before - now))
            return
        fit, due, time_left_s = self._due(state, view)
        if not due:
            self._waiting = self._why_none(state, view)
            return
        self._waiting = None
        since = view.at - timedelta(seconds=self._period_s / 2)
        # What was proven of a copy before it was out of step counts no more.
        since = max([since, *(steady_since(state.proofs.spans.get(name, ())) or view.at for name in due)])
        order = Order(kind=KIND, called="a rolling audit", since=since, max_age_s=self._period_s / 2)
        self._deadline = None if time_left_s is None else view.at + timedelta(seconds=time_left_s)
        self._progress, self._pacer, self._out_of_step_since = ScrubProgress(), Pacer(), None
        targets = (fit[0], *(target for target in fit[1:] if target.name in due))
        self._audit = self._bench.begin(targets, order, [self._progress])

    def _why_none(self, state: FoldState, view: ClusterView) -> Waiting:
        """Return what keeps each replica from being proven where none is due."""
        fit = {target.name for target in fit_targets(view, self._bench.request.targets)[1:]}
        found = self._standings(state, view)
        proven = {name for name in fit if (standing := found.get(name)) is not None and standing.proven}
        names = [target.name for target in self._bench.request.targets if target.name != view.primary]
        return Waiting(
            proven=tuple(name for name in names if name in proven),
            diverged=tuple(name for name in names if name in fit - proven),
            unfit=tuple(name for name in names if name not in fit),
        )

    def _standings(self, state: FoldState, view: ClusterView) -> Mapping[str, CopyStanding]:
        spans = (span for own in state.proofs.spans.values() for span in own)
        return standings(view.at, state.proofs.proofs, spans, max_age_s=self._period_s)

    def _due(self, state: FoldState, view: ClusterView) -> tuple[tuple[NodeTarget, ...], tuple[str, ...], float | None]:
        fit = fit_targets(view, self._bench.request.targets)
        found = self._standings(state, view)
        due, time_left_s = due_replicas([target.name for target in fit[1:]], found, period_s=self._period_s)
        return fit, due, time_left_s

    def _pace(self, audit: Audit, view: ClusterView, now: float) -> None:
        if is_held(lock_file(self._store)):
            audit.reins.hold("others", "another audit is running")
        else:
            audit.reins.release("others")
        left_s = 0.0 if self._deadline is None else (self._deadline - view.at).total_seconds()
        share = working_share(self._progress.left_bytes, self._progress.bytes_per_s, left_s)
        if self._pacer.works(now, share):
            audit.reins.release("pace")
        else:
            audit.reins.hold("pace", "it is ahead of its time")

    def _restart_if_changed(self, audit: Audit, state: FoldState, view: ClusterView, now: float) -> None:
        """End an audit whose nodes are no more those to be proven; the next goes on with what it has proven."""
        fit, due, _ = self._due(state, view)
        proving = {target.name for target in audit.request.targets}
        wanted = {target.name for target in fit[:1]} | set(due)
        if proving == wanted:
            self._out_of_step_since = None
        elif self._out_of_step_since is None:
            self._out_of_step_since = now
        elif now - self._out_of_step_since >= _PATIENCE_S:
            self._out_of_step_since = now
            audit.reins.cancel()

    def _settled(self, audit: Audit, now: float) -> tuple[AuditProof, ...]:
        result = audit.finished.result if audit.finished else None
        if result is not None and result.stopped:
            return ()
        self._bench.tell(audit.told)
        if result is not None and all(replica.verdict in _SETTLED for replica in result.replicas):
            self._backoff_s = _BACKOFF_S
        else:
            self._not_before = now + self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, _LONGEST_BACKOFF_S)
        return proofs_of(result) if result is not None else ()

    def _planned(self, auditor: Auditor | None) -> Auditor:
        """Return an auditor that first looks how much there is to read."""

        async def audit(
            targets: Sequence[NodeTarget],
            options: AuditOptions,
            *,
            run_id: str,
            cluster: str,
            emit: Emit,
            stop: asyncio.Event,
            gate: Gate,
            earlier: Sequence[Progress],
        ) -> AuditResult:
            from replcheck.audit.auditor import audit_cluster
            from replcheck.audit.planning import plan_cluster

            if auditor is None:
                plan = await plan_cluster(targets, options, cluster=cluster)
                self._progress.left = {database.name: database.size_bytes for database in plan.databases}
            return await (auditor or audit_cluster)(
                targets, options, run_id=run_id, cluster=cluster, emit=emit, stop=stop, gate=gate, earlier=earlier
            )

        return audit
