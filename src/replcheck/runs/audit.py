"""The use case `audit`: one proof from request to record.

Every run ends in one RunRecord, whether it proved something, failed or was interrupted. A history that cannot be
written costs the record, never the verdict.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from replcheck.audit.gate import Gate
from replcheck.audit.options import AuditOptions
from replcheck.errors import ReplcheckError, UsageError
from replcheck.events import Emit, RunFinished, RunStarted
from replcheck.model.audit import AuditResult
from replcheck.model.evidence import EvidenceHead
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Verdict
from replcheck.model.progress import MAX_AGE_S, Progress
from replcheck.model.run import UNNAMED_CLUSTER, RunRecord, RunStart
from replcheck.report.document import audit_document
from replcheck.report.verdict import outcome_of, sentence, verdict_of
from replcheck.runs.controls import Hands, NoHands, pausable
from replcheck.runs.keeper import Keeper
from replcheck.runs.lock import lock_file, one_of_several_runs, only_run
from replcheck.runs.parts import parts_of
from replcheck.runs.recorder import Recorder
from replcheck.runs.records import ended, failed, started
from replcheck.runs.request import AuditRequest
from replcheck.runs.signals import stop_on_signals
from replcheck.runs.sinks import FanOut, Sink
from replcheck.runs.turn import turn_of

KIND = "audit"
Tell = Callable[[str], None]
"""Takes one line for people."""


class Auditor(Protocol):
    """What proves; raises a ReplcheckError where the audit cannot start."""

    def __call__(
        self,
        targets: Sequence[NodeTarget],
        options: AuditOptions,
        *,
        run_id: str,
        cluster: str,
        emit: Emit,
        stop: asyncio.Event,
        gate: Gate,
        earlier: Sequence[Progress],
    ) -> Coroutine[Any, Any, AuditResult]:
        """Audit the targets until done or until `stop` is set; hold still while `gate` is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedAudit:
    """How an audit ended: with a result, or with the error that kept it from one."""

    record: RunRecord
    result: AuditResult | None
    error: ReplcheckError | None
    unrecorded: str = ""
    """Why the history lacks this run; empty where it was kept or none was wanted."""
    evidence: EvidenceHead | None = None
    """The run's record in the chain of its cluster; None where none was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """By whom an audit is asked for: of two kinds, neither is in the other's way nor builds upon its proofs."""

    kind: str = KIND
    called: str = "an audit"
    since: datetime | None = None
    """Go on with whatever runs of this kind have proven since then, if anything; None leaves that to the request."""
    max_age_s: float = MAX_AGE_S
    """How old a proof may be for a later run of this kind to build upon it."""


AUDIT = Order()


def run_audit(
    request: AuditRequest,
    *,
    sinks: Sequence[Sink] = (),
    store: Path | None = None,
    tell: Tell = lambda _: None,
    hands: Hands | None = None,
    auditor: Auditor | None = None,
    order: Order = AUDIT,
) -> FinishedAudit:
    """Audit a cluster, keep the record, and return both.

    `store` is the file of the history, None for none. A broken sink, a signal and proofs that cannot be kept are told
    through `tell`; `hands` may pause the run. Raises UsageError where another run of the same kind, cluster and store
    is at work, or where there is no run to go on with, and ConfigurationError where the signing key cannot be used;
    every other ReplcheckError is returned. Must not be called from a running event loop.
    """
    start = started(order.kind, request.cluster, request.argument_digest)
    if store is not None:
        request.signing.check()
    unchecked = Verdict.UNCHECKED.value
    with turn_of(start, _lock(request, store, order), store=store, signing=request.signing, unchecked=unchecked):
        recorder = Recorder(store, request.signing)
        earlier = _earlier(request, recorder, order)
        recorder.begin(start)
        keeper = Keeper(
            recorder.history, start.run_id, request.extent, tell, kind=order.kind, max_age_s=order.max_age_s
        )
        if recorder.history is not None and recorder.problem:
            keeper.give_up(recorder.problem)  # proofs of a run that the history knows nothing of have no place in it
        emit = FanOut([*sinks, keeper], report_broken=tell)
        emit(RunStarted(at=start.started_at, run_id=start.run_id, kind=order.kind, cluster=request.cluster))
        try:
            run = _Run(request, start.run_id, auditor or default_auditor(), earlier, hands or NoHands())
            finished = _succeeded(start, run.prove(emit, tell))
        except ReplcheckError as error:
            finished = _failed(start, error)
        except BaseException as defect:
            recorder.finish(_failed(start, ReplcheckError(f"ended by {type(defect).__name__}")).record)
            raise
        record, result = finished.record, finished.result
        keeper.end(result)
        if result is not None and recorder.history is not None:
            recorder.finish(record, audit_document(result), parts_of(result))
        else:
            recorder.finish(record)
        emit(RunFinished(at=record.finished_at, run_id=record.run_id, outcome=record.outcome, summary=record.summary))
    return replace(finished, unrecorded=recorder.problem, evidence=recorder.evidence)


def _succeeded(start: RunStart, result: AuditResult) -> FinishedAudit:
    record = ended(start, outcome_of(result), verdict_of(result).value, sentence(result))
    return FinishedAudit(record=record, result=result, error=None)


def _failed(start: RunStart, error: ReplcheckError) -> FinishedAudit:
    record = failed(start, Verdict.UNCHECKED.value, error)
    return FinishedAudit(record=record, result=None, error=error)


def _lock(request: AuditRequest, store: Path | None, order: Order) -> AbstractContextManager[None]:
    if store is None:
        return nullcontext()
    if request.cluster == UNNAMED_CLUSTER:
        return one_of_several_runs(lock_file(store, order.kind))
    return only_run(lock_file(store, order.kind), f'{order.called} of cluster "{request.cluster}"')


def default_auditor() -> Auditor:
    """Return what audits where no other is given; it loads the driver."""
    from replcheck.audit.auditor import audit_cluster

    return audit_cluster


def _earlier(request: AuditRequest, recorder: Recorder, order: Order) -> tuple[Progress, ...]:
    if order.since is not None:
        return (
            _proven_since(order, recorder.history.unfinished(request.cluster, kind=order.kind))
            if recorder.history
            else ()
        )
    if not request.resume:
        return ()
    if recorder.history is None:
        raise UsageError(
            f"cannot go on with an earlier run: {recorder.problem or 'there is no history'}",
            hint="--resume needs the history of the run that it goes on with.",
        )
    earlier = recorder.history.unfinished(request.cluster)
    if not earlier:
        raise UsageError(
            f'no audit of cluster "{request.cluster}" is left to go on with', hint="Run it without --resume."
        )
    return earlier


def _proven_since(order: Order, runs: Sequence[Progress]) -> tuple[Progress, ...]:
    """Return the runs of which something is young enough to be built upon, with that alone."""
    since = order.since
    recent = (
        replace(
            run,
            max_age_s=order.max_age_s,
            proofs=tuple(proof for proof in run.proofs if since is None or proof.proven_at >= since),
        )
        for run in runs
    )
    return tuple(run for run in recent if run.proofs)


@dataclass(frozen=True, slots=True)
class _Run:
    request: AuditRequest
    run_id: str
    auditor: Auditor
    earlier: tuple[Progress, ...]
    hands: Hands

    def prove(self, emit: Emit, tell: Tell) -> AuditResult:
        try:
            return asyncio.run(self._prove(emit, tell))
        except BaseExceptionGroup as group:
            known = _known_failure(group)
            if known is None:
                raise
            raise known from group

    async def _prove(self, emit: Emit, tell: Tell) -> AuditResult:
        stop, gate = asyncio.Event(), Gate()
        with stop_on_signals(stop, tell, let_go=self.hands.let_go, last=True), self.hands.on(gate):
            async with pausable(gate, self.request.pause_file):
                return await self.auditor(
                    self.request.targets,
                    self.request.options,
                    run_id=self.run_id,
                    cluster=self.request.cluster,
                    emit=emit,
                    stop=stop,
                    gate=gate,
                    earlier=self.earlier,
                )


def _known_failure(group: BaseExceptionGroup[BaseException]) -> ReplcheckError | None:
    # Tasks that fail together arrive as one group; it is told as its first failure if there is no defect among them.
    failures = [leaf for leaf in _leaves(group) if not isinstance(leaf, asyncio.CancelledError)]
    known = [failure for failure in failures if isinstance(failure, ReplcheckError)]
    return known[0] if known and len(known) == len(failures) else None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
