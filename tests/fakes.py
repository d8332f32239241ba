"""Auditors that need no server."""

import asyncio

from replcheck.audit.options import AuditOptions
from replcheck.events import Emit, Waited
from replcheck.model.audit import AuditResult
from replcheck.model.node import NodeTarget
from replcheck.runs.audit import Auditor
from replcheck.runs.request import AuditRequest
from tests.factories import BEGUN, consistent

REQUEST = AuditRequest(
    cluster="clinic",
    targets=(NodeTarget(name="db1", dsn="password=canary"), NodeTarget(name="db2", dsn="password=canary")),
    options=AuditOptions(),
)


def returning(result: AuditResult) -> Auditor:
    """Return an auditor that finds `result` after one event."""

    async def audit(
        targets, options, *, run_id, cluster, emit: Emit, stop: asyncio.Event, gate, earlier
    ) -> AuditResult:
        emit(Waited(at=BEGUN, node=None, reason="replay is behind", elapsed_s=0.1))
        return result

    return audit


def raising(error: BaseException) -> Auditor:
    """Return an auditor that cannot start."""

    async def audit(
        targets, options, *, run_id, cluster, emit: Emit, stop: asyncio.Event, gate, earlier
    ) -> AuditResult:
        raise error

    return audit


def waiting_for_stop(on_started=lambda: None) -> Auditor:
    """Return an auditor that works until it is stopped."""

    async def audit(
        targets, options, *, run_id, cluster, emit: Emit, stop: asyncio.Event, gate, earlier
    ) -> AuditResult:
        on_started()
        await stop.wait()
        return consistent(stopped="the run was stopped")

    return audit
