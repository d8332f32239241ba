"""Keeps what is watched in the history from a thread of its own: a slow disk delays no sample.

Whatever goes wrong with the history is told once and tried again; the watch goes on meanwhile.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from replcheck.errors import StoreError
from replcheck.model.copies import AuditProof
from replcheck.model.live import ClusterEvent, ClusterView
from replcheck.model.plain import Plain
from replcheck.model.spans import NodeSpan
from replcheck.store import Keep, open_history, open_live_reader, open_live_writer

_PROOFS_EVERY_S = 5.0
_TICK_S = 1.0


class LiveStore:
    """The history of one watch; raises StoreError only while it is opened."""

    def __init__(
        self, path: Path, cluster: str, *, keep: Keep, proofs_for_s: float, tell: Callable[[str], None]
    ) -> None:
        self.path, self.cluster = path, cluster
        self._writer = open_live_writer(path, cluster, keep=keep, tell=tell)
        self._history = open_history(path)
        self._reader = open_live_reader(path)
        self._proofs_for = timedelta(seconds=proofs_for_s)
        self._proofs: tuple[AuditProof, ...] | None = None
        self._proofs_at = float("-inf")
        self._kept: int | None = None
        self._mutex = threading.Lock()
        self._states: dict[str, Plain] = {}
        """What waits to be kept, by name: of each the newest alone."""
        self._wake, self._ending = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="replcheck history", daemon=True)
        self._read_proofs()

    def last_watched(self) -> tuple[datetime, bool] | None:
        """Return when the last watch saw its last sample, and whether it ended in order; None where there was none."""
        return self._reader.last_watched(self.cluster)

    def latest_view(self) -> ClusterView | None:
        """Return the last view of the last watch; None where there was none."""
        stored = self._reader.latest_view(self.cluster)
        return stored.view if stored is not None else None

    def spans(self, since: datetime) -> list[NodeSpan]:
        """Return what earlier watches saw of the nodes."""
        return self._reader.node_spans(self.cluster, since, datetime.max.replace(tzinfo=UTC))

    def state(self, name: str) -> Plain:
        """Return what an earlier watch kept under a name."""
        return self._history.state(self.cluster, name)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, view: ClusterView | None, events: Sequence[ClusterEvent]) -> None:
        """Take a view and what happened with it, to be written soon; waits for nothing."""
        self._writer.add(view, events)
        self._wake.set()

    def keep_state(self, name: str, document: Plain) -> None:
        """Keep something under a name, soon."""
        with self._mutex:
            self._states[name] = document
        self._wake.set()

    def new_proofs(self) -> tuple[AuditProof, ...] | None:
        """Return the proofs of the history where they were read since this was last asked; None where not."""
        proofs, self._proofs = self._proofs, None
        return proofs

    def close(self) -> None:
        """Write what is left, and end."""
        self._ending = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._writer.flush()
        self._keep_states()
        self._writer.close()

    def _work(self) -> None:
        while not self._ending:
            self._wake.wait(_TICK_S)
            self._wake.clear()
            self._writer.flush()
            self._keep_states()
            self._look_for_proofs()

    def _keep_states(self) -> None:
        while not self._writer.problem:
            with self._mutex:
                name, document = next(iter(self._states.items()), (None, None))
            if name is None:
                return
            try:
                self._history.keep_state(self.cluster, name, document)
            except StoreError:
                # The writer tells of a history that cannot be written.
                return
            with self._mutex:
                if self._states.get(name) is document:
                    del self._states[name]

    def _look_for_proofs(self) -> None:
        if time.monotonic() - self._proofs_at < _PROOFS_EVERY_S:
            return
        self._proofs_at = time.monotonic()
        kept = self._writer.audits_kept()
        if kept is not None and kept != self._kept:
            self._kept = kept
            self._read_proofs()

    def _read_proofs(self) -> None:
        try:
            self._proofs = tuple(self._reader.proofs(self.cluster, datetime.now(UTC) - self._proofs_for))
        except StoreError:
            return
