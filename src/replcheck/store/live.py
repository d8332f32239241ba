"""Writes what a cluster does into a history, second by second, for as long as somebody watches.

Events are written at once and for good, spans of samples every ten seconds, the newest view with every call. A history
that cannot be written costs nothing but patience: what waits is kept in memory, thinned where it grows, and written
when that is possible again; who asked for it is told once that it fails and once that it works again.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, update

from replcheck.errors import StoreError
from replcheck.model.live import ClusterEvent, ClusterView
from replcheck.model.plain import to_plain, utc_text
from replcheck.model.spanning import SPAN_S, SpanBuilder, Spans
from replcheck.store.history import open_history, told, writing_engine
from replcheck.store.live_rows import event_values, node_span_values, watch_span_values
from replcheck.store.live_tables import CLUSTER_EVENTS, LIVE_VIEWS, NODE_SPANS, WATCH_SPANS
from replcheck.store.thinning import KEEP_FOR_EVER, Keep, thin

RETRY_S = 10.0
"""How long a history that could not be written is left alone."""
THIN_EVERY_S = 600.0
TELL_EVERY_S = 3600.0
"""How often it is told at most that a history cannot be written."""
_BUSY_TIMEOUT_S = 2.0
_MOST_SPANS = 20_000
_MOST_EVENTS = 20_000
_FIRST_THIN_S = 60.0
Tell = Callable[[str], None]


def open_live_writer(
    path: Path,
    cluster: str,
    *,
    keep: Keep = KEEP_FOR_EVER,
    tell: Tell = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> "LiveWriter":
    """Open a history for what is watched, and create it where there is none; raise StoreError where that fails."""
    open_history(path)
    return LiveWriter(path, cluster, keep=keep, tell=tell, clock=clock)


@dataclass(slots=True)
class _Waiting:
    """What is not written yet."""

    spans: Spans = field(default_factory=Spans)
    events: list[ClusterEvent] = field(default_factory=list)
    dropped: int = 0
    """Events that were given up for want of room."""

    def add(self, spans: Spans, events: Sequence[ClusterEvent]) -> None:
        if spans:
            self.spans += spans
            if len(self.spans) > _MOST_SPANS:
                self._make_room()
        self.events += events
        self.dropped += max(0, len(self.events) - _MOST_EVENTS)
        del self.events[:-_MOST_EVENTS]

    def _make_room(self) -> None:
        for resolution_s in (60.0, 3600.0):
            self.spans = self.spans.thinned(resolution_s)
            if len(self.spans) <= _MOST_SPANS // 2:
                return
        # What changes so often that thinning does not help is kept from its end: the gap before it is seen as one.
        self.spans = Spans(nodes=self.spans.nodes[-_MOST_SPANS // 2 :], watch=self.spans.watch[-_MOST_SPANS // 2 :])


class LiveWriter:
    """Takes one view after another; never raises for a history that cannot be written.

    `add` may be called by another thread than the one that calls everything else, and waits for nothing.
    """

    def __init__(self, path: Path, cluster: str, *, keep: Keep, tell: Tell, clock: Callable[[], float]) -> None:
        self.path = path
        self.cluster = cluster
        self.problem = ""
        """Why nothing is written at the moment; empty while all is."""
        self._keep, self._tell, self._clock = keep, tell, clock
        self._mutex = threading.Lock()
        self._builder = SpanBuilder()
        self._waiting = _Waiting()
        self._view: ClusterView | None = None
        self._seen_at: datetime | None = None
        self._connections: _Connections | None = None
        self._not_before = self._quiet_until = float("-inf")
        self._told = False
        self._spans_at = clock()
        self._thin_at = clock() + _FIRST_THIN_S

    def take(self, view: ClusterView, events: Sequence[ClusterEvent] = ()) -> None:
        """Take the newest view and what happened since the one before it, and write what is due."""
        self.add(view, events)
        self.flush()

    def add(self, view: ClusterView | None, events: Sequence[ClusterEvent] = ()) -> None:
        """Take the same without writing; None for events that no view came with."""
        with self._mutex:
            self._waiting.add(self._builder.take(view) if view else Spans(), events)
            if view is not None:
                self._view, self._seen_at = view, view.at

    def flush(self) -> None:
        """Write what is due."""
        if self._clock() >= self._not_before:
            self._try(last=False)

    def close(self) -> None:
        """Write what is left and let go of the file; what cannot be written now is lost, which is told."""
        with self._mutex:
            self._waiting.add(self._builder.rest(), ())
        self._try(last=True)
        if self._waiting.spans or self._waiting.events:
            self._tell(f"warning: the last of what was watched is not kept: {self.problem}")
        self._let_go()

    def _try(self, *, last: bool) -> None:
        try:
            self._write(last=last)
        except StoreError as error:
            self._let_go()
            self._not_before = self._clock() + RETRY_S
            if self._clock() >= self._quiet_until:
                # A disk that is all but full takes some writes and refuses others.
                self._quiet_until = self._clock() + TELL_EVERY_S
                self._told = True
                self._tell(f"warning: what is watched is kept in memory for now: {error.message}")
            self.problem = error.message
            return
        if self.problem and self._told:
            self._told = False
            self._tell("the history is written again" + self._lack())
        self.problem = ""

    def _lack(self) -> str:
        dropped, self._waiting.dropped = self._waiting.dropped, 0
        return f"; {dropped} events were too many to keep" if dropped else ""

    def _write(self, *, last: bool) -> None:
        with told(str(self.path)):
            connections, now = self._opened(), self._clock()
            with self._mutex:
                view, self._view = self._view, None
                due = last or bool(self.problem) or now - self._spans_at >= SPAN_S
                waiting = self._waiting if self._waiting.events or (due and self._waiting.spans) else None
                if waiting is not None:
                    self._waiting = _Waiting(dropped=waiting.dropped)
            try:
                if waiting is not None:
                    self._write_all(connections.durable, waiting, view)
                    self._spans_at = now
                elif view is not None:
                    with connections.quick.begin():
                        self._write_view(connections.quick, view)
            except BaseException:
                self._take_back(waiting, view)
                raise
            if now >= self._thin_at:
                self._thin_at = now + THIN_EVERY_S
                thin(connections.durable, self.cluster, self._keep, self._seen_at or datetime.now(UTC))

    def _take_back(self, waiting: _Waiting | None, view: ClusterView | None) -> None:
        with self._mutex:
            self._view = self._view or view
            if waiting is not None:
                newer, self._waiting = self._waiting, waiting
                self._waiting.add(newer.spans, newer.events)

    def _opened(self) -> "_Connections":
        if self._connections is not None and not self._connections.stale(self.path):
            return self._connections
        self._let_go()
        open_history(self.path, busy_timeout_s=_BUSY_TIMEOUT_S)
        try:
            self._connections = _Connections.of(self.path)
        except OSError as error:
            raise StoreError(f"cannot open history {self.path}: {(error.strerror or 'unknown').lower()}") from error
        return self._connections

    def _write_all(self, connection: Connection, waiting: _Waiting, view: ClusterView | None) -> None:
        tables = (
            (CLUSTER_EVENTS, [event_values(self.cluster, event) for event in waiting.events]),
            (NODE_SPANS, [node_span_values(self.cluster, span, 0) for span in waiting.spans.nodes]),
            (WATCH_SPANS, [watch_span_values(self.cluster, span, 0) for span in waiting.spans.watch]),
        )
        with connection.begin():
            for table, rows in tables:
                if rows:
                    # An event that a failed commit kept after all is not kept twice.
                    connection.execute(insert(table).prefix_with("OR IGNORE", dialect="sqlite"), rows)
            if view is not None:
                self._write_view(connection, view)

    def _write_view(self, connection: Connection, view: ClusterView) -> None:
        values = {"written_at": utc_text(datetime.now(UTC)), "document": to_plain(view)}
        done = connection.execute(update(LIVE_VIEWS).where(LIVE_VIEWS.c.cluster == self.cluster).values(**values))
        if done.rowcount == 0:
            connection.execute(insert(LIVE_VIEWS).values(cluster=self.cluster, **values))

    def _let_go(self) -> None:
        if self._connections is not None:
            self._connections.close()
            self._connections = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Connections:
    """Two connections that stay open: opening one for each view would write the whole file to disk each time."""

    durable: Connection
    quick: Connection
    engines: tuple[Engine, Engine]
    file: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> "_Connections":
        engines = (
            writing_engine(path, busy_timeout_s=_BUSY_TIMEOUT_S),
            writing_engine(path, durable=False, busy_timeout_s=_BUSY_TIMEOUT_S),
        )
        durable, quick = (engine.connect() for engine in engines)
        found = path.stat()
        return cls(durable=durable, quick=quick, engines=engines, file=(found.st_dev, found.st_ino))

    def stale(self, path: Path) -> bool:
        """Return whether the file was taken away or replaced: what is written to it then is seen by nobody."""
        try:
            found = path.stat()
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self.file

    def close(self) -> None:
        for connection in (self.durable, self.quick):
            # What cannot be ended in order is ended with the file's descriptor.
            with contextlib.suppress(Exception):
                connection.close()
        for engine in self.engines:
            engine.dispose()
