"""The use case `check`: due work first where that is wanted, one look at the nodes, every control, one record.

A check judges what the history holds and what it sees; it changes nothing on any node but what an audit or a drill
does. A history that cannot be written costs the record, never the verdict.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from replcheck.check.evaluate import evaluate
from replcheck.check.facts import Facts
from replcheck.check.policy import asked_names
from replcheck.errors import Interrupted, ReplcheckError
from replcheck.model.control import CheckResult, DueRun, Standing
from replcheck.model.evidence import EvidenceHead
from replcheck.model.live import ClusterView
from replcheck.model.run import RunRecord, RunStart, new_run_id
from replcheck.report.check_document import check_document
from replcheck.report.check_words import check_sentence, check_verdict
from replcheck.runs.check_evidence import head_before, with_evidence
from replcheck.runs.check_facts import CHECK, Looked, gather, last_view, open_store
from replcheck.runs.check_request import CheckRequest, waived_unasked
from replcheck.runs.lock import lock_file, only_run
from replcheck.runs.ping import Patience, Ping, Tell
from replcheck.runs.recorder import Recorder
from replcheck.runs.records import ended, failed, now, started
from replcheck.runs.signing import UNSIGNED, signing_of
from replcheck.runs.turn import turn_of

if TYPE_CHECKING:
    from replcheck.runs.check_due import Work

Clock = Callable[[], datetime]
_ENDING = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCheck:
    """How a check ended: with a result, or with the error that kept it from one."""

    record: RunRecord
    result: CheckResult | None
    error: ReplcheckError | None
    unrecorded: str = ""
    """Why the history lacks this check; empty where it was kept or no record was wanted."""
    evidence: EvidenceHead | None = None
    """The check's record in the chain of its cluster; None where none was kept."""


class Look(Protocol):
    """What looks at the nodes."""

    def __call__(self, request: CheckRequest, earlier: ClusterView | None) -> Looked:
        """Return what it saw; `earlier` is the last view that is known, however old."""


def _look(request: CheckRequest, earlier: ClusterView | None) -> Looked:
    from replcheck.runs.check_look import look_at_nodes  # what answers from the history alone needs no driver

    return look_at_nodes(request, earlier)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckParts:
    """What a check is made of; tests bring their own."""

    look: Look = _look
    work: "Work | None" = None
    """None is what really audits and drills."""
    clock: Clock = now
    patience: Patience = field(default_factory=Patience)


def run_check(
    request: CheckRequest,
    *,
    store: Path | None,
    record: bool = True,
    tell: Tell = lambda _: None,
    parts: CheckParts | None = None,
) -> FinishedCheck:
    """Evaluate the controls, keep the record, and return both.

    `store` is the file of the history; without `record` it is only read. `tell` takes lines about what goes wrong
    beside the check. Raises AlreadyRunning where another check of the same cluster is at work, and ConfigurationError
    where the signing key cannot be used; every other ReplcheckError is returned. Must not be called from a running
    event loop.
    """
    parts = parts or CheckParts()
    start, signing = _start(request, parts.clock), signing_of(request.configuration)
    kept = store if record else None
    if kept is not None:
        signing.check()
    unchecked = Standing.UNCHECKED.value
    turn = turn_of(start, _lock(request, store), store=kept, signing=signing, unchecked=unchecked)
    with turn, _ending_as_errors():
        ping = Ping(request.ping, tell, parts.patience)
        recorder = Recorder(kept, signing)
        recorder.begin(start)  # first: whoever ends the check while a monitor is slow finds it in the history
        try:
            ping.start()
            finished = _succeeded(start, _checked(request, start, store, parts, tell), parts.clock)
        except ReplcheckError as error:
            finished = _failed(start, error, parts.clock)
        except BaseException as defect:
            ended_by = ReplcheckError(f"ended by {type(defect).__name__}")
            recorder.finish(_failed(start, ended_by, parts.clock).record)
            ping.failure(ended_by.message)
            raise
        recorder.finish(finished.record, check_document(finished.result) if finished.result else None)
        finished = replace(finished, unrecorded=recorder.problem, evidence=recorder.evidence)
        _ping_end(ping, finished)
    return finished


def answer_from_history(request: CheckRequest, store: Path | None, clock: Clock = now) -> CheckResult:
    """Evaluate the controls from what the history holds alone: no node is asked, nothing is written.

    Raises StoreError where the history cannot be read. What was last seen too long ago is not known any more.
    """
    start = _start(request, clock)
    reader = open_store(store)
    moment = clock()
    facts = gather(request, reader, None, last_view(request, reader, moment), moment)
    facts = with_evidence(request, store, facts, UNSIGNED, at_leisure=False)
    result = _result(request, start, facts, clock())
    return replace(result, view=facts.view, fresh=False, evidence_head=head_before(request, store))


def _checked(request: CheckRequest, start: RunStart, store: Path | None, parts: CheckParts, tell: Tell) -> CheckResult:
    begun = time.monotonic()
    reader = open_store(store)
    earlier = last_view(request, reader, parts.clock())
    due: tuple[DueRun, ...] = ()
    if request.run:
        known = gather(request, reader, None, earlier, parts.clock())
        deadline = begun + request.time_budget_s if request.time_budget_s is not None else None
        due = _done(request, known, store, parts.work, deadline=deadline, tell=tell)
        reader = open_store(store)
        earlier = last_view(request, reader, parts.clock())  # work takes its time
    looked = parts.look(request, earlier)
    facts = gather(request, reader, looked, None, parts.clock())
    facts = with_evidence(request, store, facts, signing_of(request.configuration), at_leisure=True)
    result = _result(request, start, facts, parts.clock())
    head = head_before(request, store)
    return replace(result, view=facts.view, due=due, notes=_notes(request), evidence_head=head)


def _done(
    request: CheckRequest, known: Facts, store: Path | None, work: "Work | None", *, deadline: float | None, tell: Tell
) -> tuple[DueRun, ...]:
    from replcheck.runs.check_due import Work, do_due_work  # all of audits and drills

    return do_due_work(request, known, store, work or Work(), deadline=deadline, tell=tell)


def _result(request: CheckRequest, start: RunStart, facts: Facts, at: datetime) -> CheckResult:
    return CheckResult(
        run_id=start.run_id,
        cluster=request.cluster,
        started_at=start.started_at,
        finished_at=at,
        tool_version=start.tool_version,
        controls=evaluate(request.policy, facts, request.configuration.waivers, request.wanted),
        left_out=tuple(name for name in asked_names(request.policy) if name not in request.wanted),
    )


def _notes(request: CheckRequest) -> tuple[str, ...]:
    return tuple(f"waivers.{name} excuses a control that nobody asks for" for name in waived_unasked(request))


def _ping_end(ping: Ping, finished: FinishedCheck) -> None:
    lines = [finished.record.summary, f"run {finished.record.run_id}"]
    if finished.evidence is not None:
        lines.append(f"evidence head {finished.evidence.sha256}, record {finished.evidence.sequence}")
    body = "\n".join(lines)
    proven = finished.result is not None and finished.record.exit_status == 0
    ping.success(body) if proven else ping.failure(body)


def _start(request: CheckRequest, clock: Clock) -> RunStart:
    # By the clock that the controls are evaluated by: its own record must not look like one of a later time.
    moment = clock()
    start = started(CHECK, request.cluster, request.argument_digest)
    return replace(start, run_id=new_run_id(moment), started_at=moment)


def _succeeded(start: RunStart, result: CheckResult, clock: Clock) -> FinishedCheck:
    record = ended(start, result.outcome, check_verdict(result).value, check_sentence(result))
    return FinishedCheck(record=replace(record, finished_at=clock()), result=result, error=None)


def _failed(start: RunStart, error: ReplcheckError, clock: Clock) -> FinishedCheck:
    record = failed(start, Standing.UNCHECKED.value, error)
    return FinishedCheck(record=replace(record, finished_at=clock()), result=None, error=error)


def _lock(request: CheckRequest, store: Path | None) -> AbstractContextManager[None]:
    if store is None:
        return nullcontext()
    return only_run(lock_file(store, CHECK), f'a check of cluster "{request.cluster}"')


@contextmanager
def _ending_as_errors() -> Iterator[None]:
    """Raise Interrupted where the process is asked to end, so that the end is recorded and told.

    Does nothing outside the main thread, where Python allows no handlers, and leaves a signal alone that the caller's
    parent ignores (nohup).
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(f"the check was ended by {signal.Signals(number).name}")

    mine = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _ENDING} if mine else {}
    taken = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
