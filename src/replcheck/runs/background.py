"""Runs audits in a thread of their own, so that nothing of them delays a sample of the cluster."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from replcheck.errors import ReplcheckError
from replcheck.model.live import ClusterView, NodeState
from replcheck.model.node import NodeTarget
from replcheck.runs.audit import AUDIT, Auditor, FinishedAudit, Order, run_audit
from replcheck.runs.reins import Reins
from replcheck.runs.request import AuditRequest
from replcheck.runs.sinks import Sink

_PATIENCE_S = 60.0
"""How long the end of an audit that was cancelled is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every audit that is begun beside a watch has in common."""

    request: AuditRequest
    store: Path | None
    tell: Callable[[str], None] = lambda _: None
    sinks: Sequence[Sink] = ()
    auditor: Auditor | None = None

    def begin(self, targets: tuple[NodeTarget, ...], order: Order = AUDIT, sinks: Sequence[Sink] = ()) -> "Audit":
        """Begin an audit of some of the nodes."""
        audit = Audit(self, replace(self.request, targets=targets), order, (*self.sinks, *sinks))
        audit.start()
        return audit


class Audit:
    """One audit in its thread; when it is over it has a result, or the error that kept it from one."""

    def __init__(self, bench: Bench, request: AuditRequest, order: Order, sinks: Sequence[Sink]) -> None:
        self.request = request
        self.reins = Reins(bench.auditor)
        self.finished: FinishedAudit | None = None
        self.error: ReplcheckError | None = None
        """Why it could not begin, where it did not."""
        self._bench, self._order, self._sinks = bench, order, sinks
        self._thread = threading.Thread(target=self._run, name=f"replcheck {order.kind}", daemon=True)

    @property
    def over(self) -> bool:
        """Return whether it has ended."""
        return not self._thread.is_alive()

    @property
    def told(self) -> str:
        """Return how it ended, as a line for people."""
        if self.finished is not None and self.finished.error is None:
            record = self.finished.record
            return f"{record.kind} {record.verdict}: {record.summary}"
        return f"warning: no audit was possible: {self.error.message if self.error else 'it has not ended'}"

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Ask it to end, and wait until it has."""
        self.reins.cancel()
        self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        try:
            self.finished = run_audit(
                self.request,
                sinks=self._sinks,
                store=self._bench.store,
                tell=self._bench.tell,
                auditor=self.reins.auditor,
                order=self._order,
            )
            self.error = self.finished.error
        except ReplcheckError as error:
            self.error = error
        except Exception as defect:  # noqa: BLE001 - a defect of an audit must not end the watch; it was recorded
            self.error = ReplcheckError(f"internal error: {type(defect).__name__}")


def fit_targets(view: ClusterView, targets: Sequence[NodeTarget]) -> tuple[NodeTarget, ...]:
    """Return the primary and the replicas that can be audited at a moment; nothing where there are not both."""
    states = {node.node: node.state for node in view.nodes}
    primary = tuple(target for target in targets if target.name == view.primary)
    replicas = tuple(target for target in targets if states.get(target.name) is NodeState.STREAMING)
    return (*primary, *replicas) if primary and replicas and not view.split_brain else ()
