"""Does the work that is due before the controls are looked at: audits and drills as the configuration describes them.

What is due and cannot be done is told, and leaves the controls to say what they find: a check never ends because of it.
Only an interrupt ends the check too.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from replcheck.check.due import AUDIT, DRILL, THE_END, Verdict, due_runs
from replcheck.check.facts import Facts
from replcheck.errors import Interrupted, ReplcheckError
from replcheck.model.audit import StopCode
from replcheck.model.control import DueRun
from replcheck.model.drill import LayerName, TargetKind
from replcheck.runs.audit import FinishedAudit, Tell, run_audit
from replcheck.runs.check_facts import open_store, tried
from replcheck.runs.check_request import CheckRequest
from replcheck.runs.demo_stop import StopWish
from replcheck.runs.drill import FinishedDrill, run_drills
from replcheck.runs.drill_request import DrillFlags, DrillRequest, drill_request
from replcheck.runs.request import AuditFlags, AuditRequest, audit_request

_LEAST_S = 1.0
"""With less time than that nothing is begun."""
_OVER = "the time budget has ended"


def _audit(request: AuditRequest, store: Path | None, tell: Tell) -> FinishedAudit:
    return run_audit(request, store=store, tell=tell)


def _drill(request: DrillRequest, store: Path | None, tell: Tell) -> FinishedDrill:
    with StopWish(tell, "the check").on_signals() as wish:
        [finished] = run_drills(request, store=store, tell=tell, wish=wish)
        wish.obey()  # a drill ends in order, with a result of its own; the check does not go on
    return finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What does the work; tests bring their own."""

    audit: Callable[[AuditRequest, Path | None, Tell], FinishedAudit] = _audit
    drill: Callable[[DrillRequest, Path | None, Tell], FinishedDrill] = _drill


def do_due_work(
    request: CheckRequest, facts: Facts, store: Path | None, work: Work, *, deadline: float | None, tell: Tell
) -> tuple[DueRun, ...]:
    """Do what is due until `deadline` (on the monotonic clock; None for none), and return what became of each.

    Raises Interrupted where a run was interrupted.
    """
    drills = _drill_requests(request)
    digests = {key: drill.argument_digest for key, drill in drills.items()}
    ends = {name for (kind, name), drill in drills.items() if kind == DRILL and drill.target.kind is TargetKind.LATEST}
    begun = tried(request, open_store(store), facts, digests, ends)
    verdicts = due_runs(request.run, request.policy, facts, begun, ends)
    doing = _Doing(request, drills, store, work, deadline, tell)
    return tuple(doing.settle(verdict) for verdict in verdicts)


def _drill_requests(request: CheckRequest) -> dict[tuple[str, str], DrillRequest]:
    """Return the drill of each backup, and that to the end of its archive where it has one; none where none is wanted.

    The end of an archive has no seal: what is required of it there is all but that.
    """
    backups = request.backups if DRILL in request.run else ()
    made: dict[tuple[str, str], DrillRequest] = {}
    for backup in backups:
        made[DRILL, backup.name] = drill_request(DrillFlags(backup=backup.name), request.configuration)
        if backup.archive:
            ended = drill_request(DrillFlags(backup=backup.name, target="latest"), request.configuration)
            made[THE_END, backup.name] = replace(ended, required=ended.required - {LayerName.SEAL})
    return made


@dataclass(frozen=True, slots=True)
class _Doing:
    request: CheckRequest
    drills: dict[tuple[str, str], DrillRequest]
    store: Path | None
    work: Work
    deadline: float | None
    tell: Tell

    def settle(self, verdict: Verdict) -> DueRun:
        """Do one run where it is due and there is time for it."""
        left = DueRun(kind=verdict.kind, subject=verdict.subject, reason=verdict.reason)
        if not verdict.due:
            return left
        left_s = self._left_s()
        if left_s is not None and left_s < _LEAST_S:
            return replace(left, reason=f"{_OVER}; {verdict.reason}")
        try:
            finished = self._audited(left_s) if verdict.kind == AUDIT else self._drilled(verdict, left_s)
        except Interrupted:
            raise
        except ReplcheckError as error:
            return replace(left, reason=error.message)
        reason = finished.error.message if finished.error else finished.record.summary.rstrip(".")
        return replace(left, reason=reason, run_id=finished.record.run_id, outcome=finished.record.outcome)

    def _left_s(self) -> float | None:
        return self.deadline - time.monotonic() if self.deadline is not None else None

    def _audited(self, left_s: float | None) -> FinishedAudit:
        asked = audit_request(AuditFlags(), self.request.configuration)
        budget_s = _least(asked.options.time_budget_s, left_s)
        finished = self.work.audit(
            replace(asked, options=replace(asked.options, time_budget_s=budget_s)), self.store, self.tell
        )
        stopped = finished.result.stop_code if finished.result else None
        if stopped is StopCode.INTERRUPTED or isinstance(finished.error, Interrupted):
            raise Interrupted("the audit that was due was interrupted")
        return finished

    def _drilled(self, verdict: Verdict, left_s: float | None) -> FinishedDrill:
        asked = self.drills[verdict.key]
        return self.work.drill(replace(asked, timeout_s=_least(asked.timeout_s, left_s)), self.store, self.tell)


def _least(one: float | None, other: float | None) -> float | None:
    return min((value for value in (one, other) if value is not None), default=None)
