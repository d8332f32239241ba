"""Keeps a run's beginning and end in the history; what goes wrong with that is remembered and never raised."""

from pathlib import Path
from typing import TYPE_CHECKING

from replcheck.errors import StoreError
from replcheck.model.plain import Plain
from replcheck.model.run import RunRecord, RunStart

if TYPE_CHECKING:
    from replcheck.store import AuditParts, History


class Recorder:
    """Writes to a history while there is one; `problem` is why it stopped, empty while it works."""

    def __init__(self, store: Path | None) -> None:
        self.problem = ""
        self.history: History | None = None
        if store is None:
            return
        from replcheck.store import open_history  # large, and a run without a history needs none of it

        try:
            self.history = open_history(store)
        except StoreError as error:
            self._give_up(error)

    def begin(self, start: RunStart) -> None:
        """Write that the run began."""
        try:
            if self.history:
                self.history.begin(start)
        except StoreError as error:
            # The end is still worth a try: a full disk may have room again by then.
            self.problem = error.message

    def finish(self, record: RunRecord, document: Plain = None, parts: "AuditParts | None" = None) -> None:
        """Write how the run ended, its result where it has one, and what is asked of an audit later on."""
        try:
            if self.history:
                self.history.finish(record, document, parts)
                self.problem = ""
        except StoreError as error:
            self._give_up(error)

    def _give_up(self, error: StoreError) -> None:
        self.problem = error.message
        self.history = None
