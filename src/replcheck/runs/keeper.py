"""Keeps what a run has proven in the history while it works, so that another can go on where it ended.

It reads the run's events like any other sink. What can't be kept costs the wish to go on, never the run.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from replcheck.errors import StoreError
from replcheck.events import BlocksProven, Event, ProvingBegan
from replcheck.model.audit import AuditResult
from replcheck.model.outcome import Verdict
from replcheck.model.progress import Premises, ProvenBlocks

if TYPE_CHECKING:
    from replcheck.store import History

_WRITE_EVERY_S = 1.0
_WRITE_AT = 1000


@dataclass(slots=True)
class Keeper:
    """Writes proofs about once a second; `problem` is why it stopped, empty while it works."""

    history: "History | None"
    run_id: str
    clock: Callable[[], float] = time.monotonic
    problem: str = ""
    _premises: Premises | None = None
    _waiting: list[ProvenBlocks] = field(default_factory=list)
    _written_at: float = 0.0

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case ProvingBegan():
                self._premises = event.premises
                self._write()
            case BlocksProven():
                self._waiting.append(event.proof)
                if len(self._waiting) >= _WRITE_AT or self.clock() - self._written_at >= _WRITE_EVERY_S:
                    self._write()

    def end(self, result: AuditResult | None) -> None:
        """Write the rest, and drop what no run will go on with any more."""
        self._write()
        if self.history is None or self._premises is None:
            return
        try:
            self.history.forget_proofs(self._premises, but=None if result and is_whole(result) else self.run_id)
        except StoreError as error:
            self._give_up(error)

    def _write(self) -> None:
        if self.history is None or self._premises is None:
            return
        try:
            self.history.keep_proofs(self.run_id, self._premises, self._waiting)
        except StoreError as error:
            self._give_up(error)
        self._waiting.clear()
        self._written_at = self.clock()

    def _give_up(self, error: StoreError) -> None:
        self.problem, self.history = error.message, None


def is_whole(result: AuditResult) -> bool:
    """Return whether an audit has settled all that it could: there is nothing to go on with."""
    open_verdicts = {Verdict.INCONCLUSIVE, Verdict.UNCHECKED}
    return not result.stopped and not any(relation.verdict in open_verdicts for relation in result.relations)
