"""Keeps a run's beginning and end in the history; what goes wrong with that is remembered and never raised.

Every end is appended to the cluster's chain of evidence in the same transaction: there is no end without its record.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from replcheck.errors import StoreError
from replcheck.model.evidence import EvidenceHead, head_of
from replcheck.model.plain import Plain
from replcheck.model.run import RunRecord, RunStart
from replcheck.runs.signing import UNSIGNED, Signing

if TYPE_CHECKING:
    from replcheck.evidence.notary import Notary
    from replcheck.store import AuditParts, History


class Recorder:
    """Writes to a history while there is one; `problem` is why it stopped, empty while it works.

    Making one raises ConfigurationError where the signing key cannot be used.
    """

    def __init__(self, store: Path | None, signing: Signing = UNSIGNED) -> None:
        self.problem = ""
        self.history: History | None = None
        self.evidence: EvidenceHead | None = None
        """The record of the run that ended; None before, and where none is kept."""
        # A key is read at the beginning: its file may be gone at the end, and an end must be recorded.
        self._signed_by = signing.notary() if store is not None and signing.key is not None else None
        self._signing = signing
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
                evidence = self._notary().of_run(record, document)
                self.evidence = head_of(self.history.finish(record, document, parts, evidence=evidence))
                self.problem = ""
        except StoreError as error:
            self._give_up(error)
        except ValueError:
            self._give_up(StoreError("its result holds what JSON does not know"))

    def _notary(self) -> "Notary":
        return self._signed_by or self._signing.notary()

    def _give_up(self, error: StoreError) -> None:
        self.problem = error.message
        self.history = None
