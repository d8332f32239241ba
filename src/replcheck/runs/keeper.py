"""Keeps what a run has proven in the history while it works, so that another can go on where it ended.

It reads the run's events like any other sink. What can't be kept costs the wish to go on, never the run: it is told at
once, before anybody ends a run in the belief that another could go on with it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from replcheck.errors import StoreError
from replcheck.events import BlocksProven, Event, ProvingBegan
from replcheck.model.audit import AuditResult
from replcheck.model.outcome import Verdict
from replcheck.model.progress import MAX_AGE_S, Extent, Premises, ProvenBlocks

if TYPE_CHECKING:
    from replcheck.store import History

_WRITE_EVERY_S = 1.0
_WRITE_AT = 1000


@dataclass(slots=True)
class Keeper:
    """Writes proofs about once a second, until it can't, which it tells once through `tell`."""

    history: "History | None"
    run_id: str
    extent: Extent
    tell: Callable[[str], None] = lambda _: None
    kind: str = "audit"
    max_age_s: float = MAX_AGE_S
    """How old a proof may be for a later run of this kind to build upon it."""
    clock: Callable[[], float] = time.monotonic
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
        """Write the rest, and drop what no run will go on with any more.

        What runs have proven that were asked for more than this one stays, and so does all where this one ended early.
        """
        self._write()
        if self.history is None or self._premises is None:
            return
        try:
            if result and is_whole(result):
                self.history.forget_proofs(self._premises, self.extent, kind=self.kind)
            before = datetime.now(UTC) - timedelta(seconds=self.max_age_s)
            self.history.forget_old_proofs(self._premises, before, kind=self.kind)
        except StoreError as error:
            self.give_up(error.message)

    def give_up(self, why: str) -> None:
        """Keep nothing any more, and tell why."""
        self.history = None
        self.tell(f"warning: what is proven from now on is not kept, and --resume cannot build upon it: {why}")

    def _write(self) -> None:
        if self.history is None or self._premises is None:
            return
        try:
            self.history.keep_proofs(self.run_id, self._premises, self.extent, self._waiting)
        except StoreError as error:
            self.give_up(error.message)
        self._waiting.clear()
        self._written_at = self.clock()


def is_whole(result: AuditResult) -> bool:
    """Return whether an audit has settled all that it could: there is nothing to go on with."""
    open_verdicts = {Verdict.INCONCLUSIVE, Verdict.UNCHECKED}
    return not result.stopped and not any(relation.verdict in open_verdicts for relation in result.relations)
