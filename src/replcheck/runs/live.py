"""The use case `watch`: samples a cluster, folds them into what it is and what happens to it, and hands that out.

The history, screens and lines of text are readers of the same updates; none of them can end the watch, and neither can
an audit that it begins. What a watch finds is recorded by one process a history and cluster: the others read it there.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from replcheck.errors import ReplcheckError
from replcheck.model.copies import AuditProof, CopyStanding, as_configured
from replcheck.model.live import ClusterEvent, ClusterView, EventKind, Sample, Severity
from replcheck.model.plain import Plain, to_plain
from replcheck.model.spanning import Spans
from replcheck.model.spans import GAP_S
from replcheck.model.units import format_duration
from replcheck.runs.audit import Auditor
from replcheck.runs.background import Audit, Bench
from replcheck.runs.live_config import LiveRequest
from replcheck.runs.live_store import LiveStore
from replcheck.runs.lock import lock_file, only_run
from replcheck.runs.owed import OwedProofs
from replcheck.runs.own_audits import NAME as AUDITS
from replcheck.runs.own_audits import AuditsKeeper, OwnAudits
from replcheck.runs.pace import NAME as PACE
from replcheck.runs.pace import Pace
from replcheck.runs.recording import open_recording
from replcheck.runs.scrub import Scrub
from replcheck.runs.signals import stop_on_signals
from replcheck.runs.sinks import Sink
from replcheck.store import Keep
from replcheck.watch.topology import FoldState, begin, fold

Tell = Callable[[str], None]
_OWED = "owed proofs"
_ALL_TIME_S = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveUpdate:
    """What is known after one sample, and what happened with it."""

    view: ClusterView
    events: tuple[ClusterEvent, ...] = ()
    standings: Mapping[str, CopyStanding] = field(default_factory=dict)
    audits: OwnAudits = field(default_factory=OwnAudits)
    """What whoever samples proves of its own accord."""
    interval_s: float = 1.0
    """How often whoever samples asks each node."""


LiveSink = Callable[[LiveUpdate], None]
"""Takes one update after another; one that raises costs itself the rest of them."""


class Sampling(Protocol):
    """What takes the samples."""

    async def run(self, take: Callable[[Sample], None], stop: asyncio.Event) -> None:
        """Hand each sample to `take` until `stop` is set."""


class HandOut:
    """Hands every update to every sink, and drops a sink at its first failure."""

    def __init__(self, sinks: Sequence[LiveSink], tell: Tell) -> None:
        self._sinks = list(sinks)
        self._tell = tell

    def __call__(self, update: LiveUpdate) -> None:
        """Hand on one update; never raises."""
        for sink in tuple(self._sinks):
            try:
                sink(update)
            except Exception as error:  # noqa: BLE001 - the watch must not end because somebody stopped reading
                self._sinks.remove(sink)
                reason = error.message if isinstance(error, ReplcheckError) else type(error).__name__
                self._tell(f"warning: somebody who read along does so no more: {reason}")


class Watch:
    """One watch: takes samples, and knows, tells, keeps and begins what follows from them."""

    def __init__(
        self,
        request: LiveRequest,
        store: LiveStore | None,
        sinks: Sequence[LiveSink],
        *,
        tell: Tell = lambda _: None,
        bench: Bench | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request = request
        self._store = store
        self._hand_out = HandOut(sinks, tell)
        self._state = begin(request.cluster, request.watched)
        self._proofs: dict[tuple[str, str], AuditProof] = {}
        self._last_watch: tuple[datetime, bool] | None = None
        bench = bench or Bench(request=request.audit, store=store.path if store else None, tell=tell)
        self._owed = OwedProofs(bench, clock, remember=self._remember) if request.audits else None
        self._scrub = Scrub(bench, request.scrub_s, clock) if request.scrub_s is not None and store else None
        self._keeper = AuditsKeeper(self._keep_audits, clock)
        self._begin()

    @property
    def state(self) -> FoldState:
        """Return what is known now."""
        return self._state

    def take(self, sample: Sample) -> None:
        """Take one sample."""
        self._take_new_proofs()
        state, events = fold(self._state, sample, self._request.limits)
        if state is self._state or state.view is None:
            return
        self._state = state
        if any(event.kind is EventKind.WATCH_BEGAN for event in events):
            others = (event for event in events if event.kind is not EventKind.WATCH_GAP)
            events = (*self._since_the_last_watch(state.view.at), *others)
        if self._store is not None:
            self._store.put(state.view, events)
        self._audit(state, state.view, events)
        audits = OwnAudits(
            scrub=self._scrub.state() if self._scrub else None, owed=self._owed.state() if self._owed else None
        )
        self._keeper.take(audits)
        interval_s = self._request.interval_s
        self._hand_out(
            LiveUpdate(view=state.view, events=events, standings=state.standings, audits=audits, interval_s=interval_s)
        )

    def end(self) -> None:
        """End what was begun, and tell that nothing is watched any more."""
        for audits in (self._owed, self._scrub):
            if audits is not None:
                audits.end()
        self._keeper.take(OwnAudits())
        if self._state.view is None:
            return
        view = self._state.view
        watched = format_duration((view.at - view.watched_since).total_seconds())
        ended = ClusterEvent(
            kind=EventKind.WATCH_ENDED,
            severity=Severity.INFO,
            at=view.at,
            node=None,
            what=f"the watch ended after {watched}",
            began_at=view.watched_since,
        )
        if self._store is not None:
            self._store.put(None, (ended,))
        self._hand_out(LiveUpdate(view=view, events=(ended,), standings=self._state.standings))

    def _begin(self) -> None:
        if self._store is None:
            # What was proven before is not known then: no count of proven copies would be true.
            return
        self._store.keep_state(PACE, to_plain(Pace(interval_s=self._request.interval_s)))
        known_for = timedelta(seconds=max(self._request.limits.max_proof_age_s, self._request.scrub_s or 0.0))
        self._last_watch = last = self._store.last_watched()
        earlier = self._store.latest_view()
        if earlier is not None:
            limits = self._request.limits
            self._state = begin(self._request.cluster, self._request.watched, earlier=earlier, limits=limits)
        if last is not None:
            spans = Spans(nodes=tuple(self._store.spans(last[0] - known_for))).thinned(_ALL_TIME_S).nodes
            self._state = self._state.with_proofs((), spans)
        owed = self._store.state(_OWED)
        if self._owed is not None and isinstance(owed, list):
            configured = {target.name for target in self._request.targets}
            self._owed.owed = frozenset(name for name in owed if isinstance(name, str)) & configured
        self._take_new_proofs()

    def _since_the_last_watch(self, at: datetime) -> tuple[ClusterEvent, ...]:
        if self._last_watch is None:
            return ()
        until, in_order = self._last_watch
        gap_s = (at - until).total_seconds()
        if gap_s <= 0 or (in_order and gap_s <= GAP_S):
            return ()
        how = "the last watch ended then" if in_order else "the last watch did not end in order"
        return (
            ClusterEvent(
                kind=EventKind.WATCH_GAP,
                severity=Severity.INFO if in_order else Severity.WARNING,
                at=at,
                node=None,
                what=f"nothing was watching for {format_duration(gap_s)}: {how}",
                began_at=until,
                seconds=gap_s,
            ),
        )

    def _audit(self, state: FoldState, view: ClusterView, events: Sequence[ClusterEvent]) -> None:
        proofs: tuple[AuditProof, ...] = ()
        if self._owed is not None:
            proofs += self._owed.seen(view, events)
        if self._scrub is not None:
            proofs += self._scrub.seen(state)
        if proofs and self._store is not None:
            self._know(proofs)

    def _take_new_proofs(self) -> None:
        proofs = self._store.new_proofs() if self._store is not None else None
        if proofs is not None:
            self._know(proofs)

    def _know(self, proofs: Sequence[AuditProof]) -> None:
        known = self._proofs | {(proof.run_id, proof.node): proof for proof in proofs}
        if known.keys() == self._proofs.keys() and self._state.proofs.known:
            return
        newest = max((proof.finished_at for proof in known.values()), default=None)
        if newest is not None:
            oldest = newest - timedelta(
                seconds=3 * max(self._request.limits.max_proof_age_s, self._request.scrub_s or 0)
            )
            known = {key: proof for key, proof in known.items() if proof.finished_at >= oldest}
        self._proofs = known
        self._state = self._state.with_proofs(as_configured(known.values(), self._request.audit.extent.digest))

    def _keep_audits(self, audits: Plain) -> None:
        if self._store is not None:
            self._store.keep_state(AUDITS, audits)

    def _remember(self, owed: frozenset[str]) -> None:
        if self._store is not None:
            names: list[Plain] = [*sorted(owed)]
            self._store.keep_state(_OWED, names)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """Where a watch keeps what it sees, and who reads along."""

    store: Path | None
    keep: Keep
    sinks: Sequence[LiveSink] = ()
    run_sinks: Sequence[Sink] = ()
    """Take the events of audits that are owed because of what happened."""
    audited: Callable[[Audit], None] = lambda _: None
    """Is told each of those audits when it is over."""
    recording: Path | None = None
    """New file for every sample; None where none is wanted."""
    tell: Tell = lambda _: None
    auditor: Auditor | None = None
    """None is the real one."""


def recorder_lock(store: Path | None, cluster: str) -> AbstractContextManager[None]:
    """Return what holds the lock of a history's recorder; it raises UsageError where another process holds it."""
    if store is None:
        return nullcontext()
    return only_run(recorder_lock_file(store, cluster), f'a recorder of cluster "{cluster}" on {store}')


def recorder_lock_file(store: Path, cluster: str) -> Path:
    """Return the lock of a cluster's recorder."""
    return lock_file(store, f"watch-{cluster}")


def run_live(request: LiveRequest, settings: LiveSettings, *, sampler: Sampling | None = None) -> None:
    """Watch and record until a signal comes.

    Raises UsageError where another process records the same cluster in the same history, StoreError where the history
    cannot be opened. Must not be called from a running event loop.
    """
    with recorder_lock(settings.store, request.cluster):
        asyncio.run(_until_signal(request, settings, sampler))


async def _until_signal(request: LiveRequest, settings: LiveSettings, sampler: Sampling | None) -> None:
    stop = asyncio.Event()
    with stop_on_signals(stop, settings.tell):
        await record(request, settings, stop, sampler=sampler)


async def record(
    request: LiveRequest, settings: LiveSettings, stop: asyncio.Event, *, sampler: Sampling | None = None
) -> None:
    """Watch until `stop` is set; the caller holds the recorder's lock. Raises StoreError."""
    store = _opened(request, settings)
    recording = open_recording(request, settings.recording, settings.tell) if settings.recording else None
    bench = Bench(
        request=request.audit,
        store=settings.store,
        tell=settings.tell,
        sinks=settings.run_sinks,
        auditor=settings.auditor,
        ended=settings.audited,
    )
    try:
        watch = Watch(request, store, settings.sinks, tell=settings.tell, bench=bench)
        if store is not None:
            store.start()
        try:
            await (sampler or _sampler(request)).run(recording.beside(watch.take) if recording else watch.take, stop)
        finally:
            watch.end()
    finally:
        if store is not None:
            store.close()
        if recording is not None:
            recording.close()


def _opened(request: LiveRequest, settings: LiveSettings) -> LiveStore | None:
    if settings.store is None:
        return None
    proofs_for_s = 3 * max(request.limits.max_proof_age_s, request.scrub_s or 0.0)
    return LiveStore(settings.store, request.cluster, keep=settings.keep, proofs_for_s=proofs_for_s, tell=settings.tell)


def _sampler(request: LiveRequest) -> Sampling:
    from replcheck.watch.sampler import Sampler

    return Sampler(request.targets, request.interval_s)
