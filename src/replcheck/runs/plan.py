"""The use case `audit --plan`: what an audit would do, with its time estimated by what the history knows.

A plan proves nothing: it takes no lock and leaves no record, and a history that can't be read costs only the better
estimate.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from replcheck.audit.options import AuditOptions
from replcheck.errors import StoreError
from replcheck.model.node import NodeTarget
from replcheck.model.plain import Plain
from replcheck.model.plan import AuditPlan, Rate
from replcheck.model.run import RunRecord
from replcheck.runs.audit import KIND
from replcheck.runs.request import AuditRequest
from replcheck.store import open_history

_RUNS_LOOKED_AT = 200
_LEAST_SHARE = 0.1
"""How much of the planned bytes a run must have compared for its rate to mean something."""


class Planner(Protocol):
    """What plans; raises a ReplcheckError where the audit could not start."""

    def __call__(
        self, targets: Sequence[NodeTarget], options: AuditOptions, *, cluster: str
    ) -> Coroutine[Any, Any, AuditPlan]:
        """Return what an audit of the targets would do."""


def plan_audit(
    request: AuditRequest,
    *,
    store: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
    planner: Planner | None = None,
) -> AuditPlan:
    """Return what the audit of a request would do; raise the ReplcheckError that would keep it from beginning.

    `store` is the file of the history, None for none; that it can't be read is told through `tell`. Must not be called
    from a running event loop.
    """
    from replcheck.audit.planning import plan_cluster, with_rate

    plan = asyncio.run((planner or plan_cluster)(request.targets, request.options, cluster=request.cluster))
    try:
        rate = _last_rate(store, plan, request.argument_digest) if store is not None and store.is_file() else None
    except StoreError as error:
        tell(f"warning: no run is looked up for the estimate: {error.message}")
        rate = None
    except OSError:
        rate = None
    return plan if rate is None else with_rate(plan, rate)


def rate_of(document: Plain, plan: AuditPlan) -> Rate | None:
    """Return how quickly a recorded audit compared what it compared; None where it tells nothing of this plan.

    It does where it was of the same servers and level, read all by itself to its end, and compared a tenth of the
    planned bytes or more: small runs are mostly waiting. The time in which it was held still does not count.
    """
    match document:
        case {
            "run_id": str(run_id),
            "level": plan.level,
            "stopped": "",
            "resumed": None,
            "held_s": int() | float() as held_s,
            "size_bytes": int(size_bytes),
            "primary": {"system_identifier": plan.primary.node.system_identifier},
            "started_at": str(started_at),
            "finished_at": str(finished_at),
        }:
            measured_at = datetime.fromisoformat(finished_at)
            elapsed_s = (measured_at - datetime.fromisoformat(started_at)).total_seconds() - held_s
            if elapsed_s > 0 and size_bytes > 0 and size_bytes >= _LEAST_SHARE * plan.size_bytes:
                return Rate(bytes_per_s=size_bytes / elapsed_s, run_id=run_id, measured_at=measured_at)
    return None


def _last_rate(store: Path, plan: AuditPlan, argument_digest: str) -> Rate | None:
    """Return the rate of the newest run that was asked for the same, else of the newest that tells one at all."""
    history = open_history(store)
    audits = [
        run
        for run in history.runs(limit=_RUNS_LOOKED_AT)
        if run.kind == KIND and run.cluster == plan.cluster and isinstance(run, RunRecord) and run.failure is None
    ]
    # Sorting is stable: the newest of each kind stay first.
    for run in sorted(audits, key=lambda run: run.argument_digest != argument_digest):
        rate = rate_of(history.result(run.run_id), plan)
        if rate is not None:
            return rate
    return None
