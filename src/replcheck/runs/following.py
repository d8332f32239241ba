"""Reads what a recorder of another process writes, as updates like those of a watch of one's own."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

from replcheck.errors import StoreError, UsageError
from replcheck.model.copies import CopyStanding, as_configured, standings
from replcheck.model.live import ClusterEvent, ClusterView
from replcheck.model.plain import utc_text
from replcheck.model.spanning import Spans, latest_spans
from replcheck.runs.live import (
    HandOut,
    LiveSettings,
    LiveSink,
    LiveUpdate,
    Tell,
    record,
    recorder_lock,
    recorder_lock_file,
)
from replcheck.runs.live_config import LiveRequest
from replcheck.runs.lock import is_held
from replcheck.runs.own_audits import NAME as AUDITS
from replcheck.runs.own_audits import read_back
from replcheck.runs.pace import NAME as PACE
from replcheck.runs.pace import Pace
from replcheck.runs.pace import read_back as read_pace
from replcheck.runs.signals import stop_on_signals
from replcheck.store import LiveReader, open_live_reader

_LOOK_S = 1.0
_STANDINGS_EVERY = 5
_ALL_TIME_S = 1e12


class Source(Enum):
    """Where updates come from."""

    OWN = "own samples"
    RECORDER = "recorder"
    LOST = "lost"
    """There is a recorder, and what it writes cannot be read."""


@dataclass(slots=True)
class Follower:
    """Hands out what a recorder has written since the last look."""

    store: Path
    cluster: str
    max_proof_age_s: float
    scope_digest: str
    """Of what the configuration has audits compare."""
    sinks: Sequence[LiveSink]
    own_pace: Pace = Pace(interval_s=1.0)  # noqa: RUF009 - frozen
    """At which this process would ask the nodes: that of a recorder which does not tell its own."""
    tell: Tell = lambda _: None
    lost: Callable[[str], None] = lambda _: None
    """Is told why the history cannot be read, once, and the empty text when it can be again."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _reader: LiveReader | None = None
    _number: int | None = None
    _view: ClusterView | None = None
    _spans: Spans = field(default_factory=Spans)
    _standings: Mapping[str, CopyStanding] = field(default_factory=dict)
    _looks: int = 0
    _problem: str = ""

    async def run(self, lock: Path, stop: asyncio.Event) -> None:
        """Follow until `stop` is set or nobody holds the recorder's lock any more."""
        hand_out = HandOut(self.sinks, self.tell)
        while not stop.is_set() and is_held(lock):
            update = await asyncio.to_thread(self.look)
            if update is not None:
                hand_out(update)
            await _wait(stop, _LOOK_S)

    def look(self) -> LiveUpdate | None:
        """Return what is new; None where nothing is, or the history cannot be read."""
        try:
            update = self._look()
        except StoreError as error:
            self._reader = None
            self._tell_problem(error.message)
            return None
        self._tell_problem("")
        return update

    def _tell_problem(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self.lost(problem)

    def _look(self) -> LiveUpdate | None:
        self._reader = reader = self._reader or open_live_reader(self.store)
        stored = reader.latest_view(self.cluster)
        pace = read_pace(reader.state(self.cluster, PACE), self.own_pace)
        if stored is not None and (self.now() - stored.written_at).total_seconds() > pace.stuck_after_s:
            raise StoreError(f"the recorder has written nothing since {utc_text(stored.written_at)}")
        events = self._new_events(reader)
        if stored is None or (stored.view == self._view and not events):
            return None
        self._view = stored.view
        if self._looks % _STANDINGS_EVERY == 0 or events:
            self._standings = self._standing(reader, stored.view)
        self._looks += 1
        audits = read_back(reader.state(self.cluster, AUDITS))
        return LiveUpdate(
            view=stored.view, events=events, standings=self._standings, audits=audits, interval_s=pace.interval_s
        )

    def _new_events(self, reader: LiveReader) -> tuple[ClusterEvent, ...]:
        if self._number is None:
            # What happened before is told by whoever wants it; this tells what happens from now on.
            self._number = reader.last_event_number(self.cluster)
            return ()
        new = reader.events_after(self.cluster, self._number)
        self._number = new[-1].number if new else self._number
        return tuple(found.event for found in new)

    def _standing(self, reader: LiveReader, view: ClusterView) -> Mapping[str, CopyStanding]:
        oldest = view.at - timedelta(seconds=self.max_proof_age_s)
        until = {span.node: span.ended_at for span in self._spans.nodes}
        since = min(until.values(), default=oldest)
        read = reader.node_spans(self.cluster, since, view.at)
        new = tuple(span for span in read if span.node not in until or span.began_at > until[span.node])
        spans = (self._spans + Spans(nodes=new)).thinned(_ALL_TIME_S).nodes
        self._spans = Spans(nodes=tuple(span for span in spans if span.ended_at >= oldest))
        found = reader.proofs(self.cluster, view.at - 3 * timedelta(seconds=self.max_proof_age_s))
        proofs = as_configured(found, self.scope_digest)
        every = (*self._spans.nodes, *latest_spans(view))
        return standings(view.at, proofs, every, max_age_s=self.max_proof_age_s)


async def watch_or_follow(
    request: LiveRequest,
    settings: LiveSettings,
    stop: asyncio.Event,
    *,
    source: Callable[[Source, str], None] = lambda _source, _why: None,
) -> None:
    """Watch, or read along where a recorder of the same history is at work, until `stop` is set.

    When a recorder ends its place is taken over. `source` is told where the updates come from, and why they do not.
    """
    while not stop.is_set():
        store = settings.store
        if store is not None and is_held(recorder_lock_file(store, request.cluster)):
            source(Source.RECORDER, "")
            await _follow(request, settings, store, stop, source)
            continue
        try:
            with recorder_lock(store, request.cluster):
                source(Source.OWN, "")
                await record(request, settings, stop)
        except UsageError:
            # Somebody else was quicker.
            if store is None or not is_held(recorder_lock_file(store, request.cluster)):
                raise


async def _follow(
    request: LiveRequest,
    settings: LiveSettings,
    store: Path,
    stop: asyncio.Event,
    source: Callable[[Source, str], None],
) -> None:
    def lost(why: str) -> None:
        source(Source.LOST if why else Source.RECORDER, why)

    follower = Follower(
        store=store,
        cluster=request.cluster,
        max_proof_age_s=request.limits.max_proof_age_s,
        scope_digest=request.audit.extent.digest,
        sinks=settings.sinks,
        own_pace=Pace(interval_s=request.interval_s),
        tell=settings.tell,
        lost=lost,
    )
    await follower.run(recorder_lock_file(store, request.cluster), stop)


def run_or_follow(
    request: LiveRequest,
    settings: LiveSettings,
    *,
    source: Callable[[Source, str], None] = lambda _source, _why: None,
) -> None:
    """Do the same until a signal comes. Must not be called from a running event loop."""

    async def until_signal() -> None:
        stop = asyncio.Event()
        with stop_on_signals(stop, settings.tell):
            await watch_or_follow(request, settings, stop, source=source)

    asyncio.run(until_signal())


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
