"""Holds, releases and ends an audit that runs in another thread."""

import asyncio
import threading
from collections.abc import Sequence

from replcheck.audit.gate import Gate
from replcheck.audit.options import AuditOptions
from replcheck.events import Emit
from replcheck.model.audit import AuditResult
from replcheck.model.node import NodeTarget
from replcheck.model.progress import Progress
from replcheck.runs.audit import Auditor, default_auditor


class Reins:
    """Its `auditor` is given to `run_audit`; what was wished before that audit began counts from its beginning."""

    def __init__(self, auditor: Auditor | None = None) -> None:
        self._auditor = auditor
        self._mutex = threading.Lock()
        self._held: dict[str, str] = {}
        self._cancelled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gate: Gate | None = None
        self._stop: asyncio.Event | None = None

    @property
    def held(self) -> str:
        """Return why the audit is held still by these reins; empty while it is not."""
        with self._mutex:
            return "; ".join(self._held.values())

    def hold(self, who: str, reason: str) -> None:
        """Hold the audit still until `who` releases it."""
        with self._mutex:
            if self._held.get(who) == reason:
                return
            self._held[who] = reason
            if self._loop is not None and self._gate is not None:
                self._loop.call_soon_threadsafe(self._gate.close, who, reason)

    def release(self, who: str) -> None:
        """Take back what `who` held it for."""
        with self._mutex:
            if self._held.pop(who, None) is not None and self._loop is not None and self._gate is not None:
                self._loop.call_soon_threadsafe(self._gate.open, who)

    def cancel(self) -> None:
        """End the audit as a signal would: what was proven is kept."""
        with self._mutex:
            self._cancelled = True
            if self._loop is not None and self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)

    async def auditor(
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
    ) -> AuditResult:
        """Audit as always, with these reins on."""
        audit = self._auditor or default_auditor()
        self._take(asyncio.get_running_loop(), gate, stop)
        try:
            return await audit(
                targets, options, run_id=run_id, cluster=cluster, emit=emit, stop=stop, gate=gate, earlier=earlier
            )
        finally:
            with self._mutex:
                self._loop = self._gate = self._stop = None

    def _take(self, loop: asyncio.AbstractEventLoop, gate: Gate, stop: asyncio.Event) -> None:
        with self._mutex:
            self._loop, self._gate, self._stop = loop, gate, stop
            for who, reason in self._held.items():
                gate.close(who, reason)
            if self._cancelled:
                stop.set()
