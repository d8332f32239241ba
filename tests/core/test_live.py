"""A watch from its samples to what is kept and told of it, without a server."""

import asyncio
import gc
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from replcheck.errors import StoreError, UsageError
from replcheck.model.copies import AuditProof
from replcheck.model.live import EventKind
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.model.outcome import Verdict
from replcheck.model.plain import to_plain
from replcheck.model.spans import GAP_S
from replcheck.report.style import Style
from replcheck.report.watch_lines import state_lines
from replcheck.runs.following import Follower, Source, watch_or_follow
from replcheck.runs.live import LiveSettings, Watch, record, recorder_lock, run_live
from replcheck.runs.live_config import LiveRequest
from replcheck.runs.owed import UnderWay
from replcheck.runs.own_audits import NAME, AuditsKeeper, OwnAudits, read_back
from replcheck.runs.pace import Pace
from replcheck.runs.pace import read_back as read_pace
from replcheck.runs.replaying import replayed
from replcheck.runs.request import AuditRequest
from replcheck.store import KEEP_FOR_EVER, AuditParts, open_history, open_live_reader
from replcheck.watch.limits import WatchLimits
from tests.commands import wait_for
from tests.core.test_store import record as record_of
from tests.core.test_store import start
from tests.core.watched import IDENTIFIER, detached, healthy, kinds, primary, sample, second, silence, standby
from tests.factories import consistent, node, replica
from tests.fakes import REQUEST

TEN_YEARS_S = 10 * 365 * 86_400.0
TARGETS = tuple(NodeTarget(name=name, dsn=f"host={name}") for name in ("db1", "db2", "db3"))


def request(**changes) -> LiveRequest:
    made = LiveRequest(
        cluster="clinic",
        targets=TARGETS,
        limits=WatchLimits(),
        interval_s=1.0,
        audit=AuditRequest(cluster="clinic", targets=TARGETS, options=REQUEST.options),
        audits=True,
        scrub_s=None,
    )
    return replace(made, **changes)


class Samples:
    """A sampler of recorded samples; then it waits until it is stopped, if it is to."""

    def __init__(self, *samples, wait=False, between=lambda: None):
        self._samples = samples
        self._wait = wait
        self._between = between
        self.taken = asyncio.Event()

    async def run(self, take, stop):
        for each in self._samples:
            take(each)
            self._between()
            await asyncio.sleep(0)
        self.taken.set()
        if self._wait:
            await stop.wait()


@pytest.fixture
def store(tmp_path):
    return tmp_path / "clinic.db"


def watch(store, *samples, asked=None, sinks=(), between=lambda: None, **settings):
    """Record some samples from beginning to end."""
    told = []
    made = LiveSettings(store=store, keep=KEEP_FOR_EVER, sinks=sinks, tell=told.append, **settings)
    asyncio.run(record(asked or request(), made, asyncio.Event(), sampler=Samples(*samples, between=between)))
    return told


def events_in(store):
    """Return what the history tells of the cluster, oldest first."""
    return open_live_reader(store).events("clinic")[::-1]


def test_what_is_watched_is_in_the_history_when_the_watch_has_ended(store):
    lost = [sample(at, primary(at), standby(at), silence(at, "db3")) for at in (2, 3, 4)]
    told = watch(store, healthy(0), healthy(1), *lost)
    assert [event.kind for event in events_in(store)] == [
        EventKind.WATCH_BEGAN,
        EventKind.STANDBY_LOST,
        EventKind.WATCH_ENDED,
    ]
    reader = open_live_reader(store)
    stored = reader.latest_view("clinic")
    assert stored is not None
    assert stored.view.running_copies == 2
    assert {span.samples for span in reader.node_spans("clinic", second(0), second(9)) if span.node == "db2"} == {5}
    assert told == []


def test_every_reader_gets_every_update_and_a_broken_one_is_dropped(store):
    seen, broken = [], []

    def breaks(update):
        broken.append(update)
        raise OSError("nobody listens")

    told = watch(store, healthy(0), healthy(1), sinks=[breaks, seen.append])
    assert len(broken) == 1
    assert [kinds(update.events) for update in seen] == [[], [], [EventKind.WATCH_ENDED]]
    assert told == ["warning: somebody who read along does so no more: OSError"]


def killed(store, *samples):
    """Record samples, and leave what a recorder leaves that was killed: nothing tells of its end."""
    watch(store, *samples)
    with open_history(store)._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM cluster_events WHERE kind = 'watch ended'")


def test_a_watch_after_one_that_was_killed_tells_the_gap(store):
    killed(store, healthy(0), healthy(1))
    watch(store, healthy(20))
    [gap] = [event for event in events_in(store) if event.kind is EventKind.WATCH_GAP]
    assert gap.began_at == second(1.01)
    assert gap.at == second(20.01)
    assert gap.seconds == 19.0
    assert gap.what == "nothing was watching for 19s: the last watch did not end in order"


def test_a_watch_soon_after_one_that_ended_in_order_tells_no_gap(store):
    watch(store, healthy(0), healthy(1))
    watch(store, healthy(20))
    assert EventKind.WATCH_GAP not in {event.kind for event in events_in(store)}


def test_a_long_time_without_a_watch_is_a_gap_however_it_ended(store):
    watch(store, healthy(0), healthy(1))
    watch(store, healthy(2 + GAP_S))
    [gap] = [event for event in events_in(store) if event.kind is EventKind.WATCH_GAP]
    assert gap.what == "nothing was watching for 1min 1s: the last watch ended then"


def test_what_happened_while_nothing_was_watching_is_told(store):
    watch(store, healthy(0), healthy(1))
    watch(store, promoted(20), promoted(21), promoted(22), asked=request(audits=False))
    assert EventKind.PROMOTED in {event.kind for event in events_in(store)}


def proven(name, begun):
    """Return what an audit of that second said of a replica."""
    return AuditProof(
        run_id="an audit",
        proven_at=second(begun),
        finished_at=second(begun + 1),
        node=name,
        primary="db1",
        verdict=Verdict.CONSISTENT,
        whole=True,
        system_identifier=IDENTIFIER,
        timeline=1,
        level="exact",
    )


@pytest.mark.parametrize(("pause_s", "counts"), [(20, True), (70, False)])
def test_a_proof_outlives_a_restart_and_no_time_without_a_watch(store, pause_s, counts):
    history, begun = open_history(store), start()
    history.begin(begun)
    proofs = (proven("db2", 3), proven("db3", 3))
    history.finish(record_of(begun), {}, AuditParts(result=consistent(), proofs=proofs))
    seen, asked = [], request(limits=WatchLimits(max_proof_age_s=TEN_YEARS_S))
    watch(store, *(healthy(at) for at in range(200)), sinks=[seen.append], asked=asked)
    assert seen[0].standings["db2"].proven is False
    assert {name for name, standing in seen[-1].standings.items() if standing.proven} == {"db1", "db2", "db3"}
    watch(store, healthy(200 + pause_s), healthy(201 + pause_s), sinks=[seen.append], asked=asked)
    assert {standing.proven for standing in seen[-1].standings.values()} == {counts}


def test_a_second_recorder_of_one_history_is_refused(store):
    with recorder_lock(store, "clinic"):
        with pytest.raises(UsageError, match='a recorder of cluster "clinic" on'):
            run_live(request(), LiveSettings(store=store, keep=KEEP_FOR_EVER), sampler=Samples(healthy(0)))
        run_live(request(cluster="ward"), LiveSettings(store=store, keep=KEEP_FOR_EVER), sampler=Samples(healthy(0)))
    run_live(request(), LiveSettings(store=store, keep=KEEP_FOR_EVER), sampler=Samples(healthy(0)))


def test_a_history_that_cannot_be_opened_ends_the_watch_before_it_begins(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open history"):
        watch(tmp_path / "file" / "x.db", healthy(0))


def put_a_folder_in_place_of(path):
    """Return whether that was done: a recorder that misses its file may make it anew in between."""
    path.unlink(missing_ok=True)
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def test_a_history_that_goes_away_ends_no_watch(store, monkeypatch):
    monkeypatch.setattr("replcheck.store.live.RETRY_S", 0.0)
    seen, told, moves = [], [], iter(range(100))

    def move():
        number = next(moves)
        if number == 2:
            wait_for(lambda: put_a_folder_in_place_of(store))
            wait_for(lambda: bool(told))
        if number == 5:
            store.rmdir()

    made = LiveSettings(store=store, keep=KEEP_FOR_EVER, sinks=[seen.append], tell=told.append)
    lost = [sample(at, primary(at), standby(at), silence(at, "db3")) for at in range(3, 9)]
    samples = Samples(*(healthy(at) for at in range(3)), *lost, between=move)
    asyncio.run(record(request(), made, asyncio.Event(), sampler=samples))
    assert len(seen) == 10
    assert told[0].startswith("warning: what is watched is kept in memory for now: ")
    assert told[1:] == ["the history is written again"]
    assert EventKind.STANDBY_LOST in {event.kind for event in events_in(store)}


# --- audits of what a change put in doubt ---


def promoted(at):
    """Return what is seen after db2 took over from db1, and db3 follows it."""
    new = primary(at, "db2", lsn=2000, timeline=2, started_at=second(-9999))
    follows = standby(at, "db3", lsn=2000, timeline=2)
    return sample(at, silence(at, "db1"), new, follows)


def lost(at):
    """Return what is seen between."""
    return sample(at, silence(at, "db1"), detached(at, "db2"), detached(at, "db3"))


class Audits:
    """An auditor that takes note of what it is asked for, and finds every replica consistent."""

    def __init__(self, *verdicts):
        self.asked: list[list[str]] = []
        self._verdicts = list(verdicts)

    async def __call__(self, targets, options, *, run_id, cluster, emit, stop, gate, earlier):
        names = [target.name for target in targets]
        self.asked.append(names)
        verdict = self._verdicts.pop(0) if self._verdicts else Verdict.CONSISTENT
        return consistent(
            primary=node(names[0], NodeRole.PRIMARY),
            verdict=verdict,
            replicas=tuple(replica(name, verdict) for name in names[1:]),
        )


def test_surviving_replicas_are_audited_at_once_after_a_switch_over(store):
    audits = Audits()
    story = [healthy(0), healthy(1), *(lost(at) for at in (2, 3)), *(promoted(at) for at in range(4, 12))]
    told = watch(store, *story, auditor=audits, between=lambda: pause(audits))
    assert EventKind.PROMOTED in {event.kind for event in events_in(store)}
    assert audits.asked == [["db2", "db3"]]
    assert "auditing db3 against db2, because of what happened" in told
    [run] = open_history(store).runs()
    assert (run.kind, run.cluster) == ("audit", "clinic")
    assert open_history(store).state("clinic", "owed proofs") == ["db1"]


def pause(audits):
    """Let time pass for what runs beside the samples."""
    threading.Event().wait(0.1)


class SlowAudits(Audits):
    """Audits that go on until they are ended."""

    async def __call__(self, targets, options, *, stop, **others):
        result = await super().__call__(targets, options, stop=stop, **others)
        await stop.wait()
        return result


def follower_of(store, sinks=(), **changes) -> Follower:
    return Follower(store=store, cluster="clinic", max_proof_age_s=3600.0, scope_digest="", sinks=sinks, **changes)


def test_who_reads_along_sees_the_audit_that_the_recorder_makes(store):
    audits, known = SlowAudits(), []

    def between():
        pause(audits)
        if audits.asked and not known:
            wait_for(lambda: read_back(open_live_reader(store).state("clinic", NAME)).owed is not None)
            update = follower_of(store).look()
            assert update is not None
            known.append(update.audits.owed)

    story = [healthy(0), healthy(1), *(lost(at) for at in (2, 3)), *(promoted(at) for at in range(4, 12))]
    watch(store, *story, auditor=audits, between=between)
    [owed] = known
    assert owed is not None
    assert (owed.primary, owed.replicas, owed.share) == ("db2", ("db3",), 0.0)
    # It ended with the recorder, and what the next one finds is that nothing runs.
    assert open_live_reader(store).state("clinic", NAME) == to_plain(OwnAudits())


def test_a_slow_recorder_is_not_stuck_between_two_of_its_samples(store):
    watch(store, healthy(0), asked=request(interval_s=20.0))
    stored = open_live_reader(store).latest_view("clinic")
    assert stored is not None
    written = stored.written_at
    why = []
    for late_s in (45, 70):
        follower = follower_of(store, lost=why.append, now=lambda late_s=late_s: written + timedelta(seconds=late_s))
        update = follower.look()
        assert (update.interval_s if update else None) == (20.0 if late_s == 45 else None)
    assert len(why) == 1
    assert "has written nothing since" in why[0]


@pytest.mark.parametrize("kept", [None, [], {"interval_s": "1"}, {}])
def test_a_recorder_that_does_not_tell_its_pace_is_taken_to_have_this_ones(kept):
    assert read_pace(kept, Pace(interval_s=7.0)) == Pace(interval_s=7.0)


@pytest.mark.parametrize("kept", [None, [], {"owed": {"primary": 7}}, {"scrub": None, "owed": None, "later": 1}])
def test_what_another_version_kept_of_its_audits_is_passed_over(kept):
    assert read_back(kept) == OwnAudits()


def test_audits_are_kept_when_they_change_and_their_progress_now_and_then():
    kept, times = [], iter([0.0, 1.0, 2.0, 7.0, 8.0])
    keeper = AuditsKeeper(kept.append, lambda: next(times))
    owed = UnderWay(primary="db1", replicas=("db2",), began_at=second(0), share=0.0)
    for audits in (
        OwnAudits(owed=owed),
        OwnAudits(owed=replace(owed, share=0.1)),
        OwnAudits(owed=replace(owed, share=0.2)),
        OwnAudits(owed=replace(owed, share=0.3)),
        OwnAudits(owed=replace(owed, share=0.3)),
        OwnAudits(),
    ):
        keeper.take(audits)
    assert [read_back(one) for one in kept] == [
        OwnAudits(owed=owed),
        OwnAudits(owed=replace(owed, share=0.3)),
        OwnAudits(),
    ]


def test_what_is_owed_outlives_the_recorder(store):
    unsure = Audits(Verdict.INCONCLUSIVE)
    story = [healthy(0), healthy(1), *(lost(at) for at in (2, 3)), *(promoted(at) for at in range(4, 12))]
    watch(store, *story, auditor=unsure, between=lambda: pause(unsure))
    assert unsure.asked == [["db2", "db3"]]
    sure = Audits()
    watch(store, *(promoted(at) for at in range(40, 48)), auditor=sure, between=lambda: pause(sure))
    assert sure.asked == [["db2", "db3"]]


def test_no_audit_is_begun_where_none_is_wanted(store):
    audits = Audits()
    story = [healthy(0), healthy(1), *(lost(at) for at in (2, 3)), *(promoted(at) for at in range(4, 12))]
    watch(store, *story, auditor=audits, asked=request(audits=False), between=lambda: pause(audits))
    assert audits.asked == []


# --- reading along ---


def test_who_reads_along_sees_what_the_recorder_sees(store):
    watch(store, healthy(0))
    seen = []
    problems = []
    follower = follower_of(store, [seen.append], lost=problems.append)
    first = follower.look()
    assert first is not None
    assert (first.view.at, first.events) == (second(0.01), ())
    assert set(first.standings) == {"db1", "db2", "db3"}
    assert follower.look() is None
    gone = [sample(at, primary(at), standby(at), silence(at, "db3")) for at in (2, 3, 4)]
    watch(store, healthy(1), *gone)
    update = follower.look()
    assert update is not None
    assert EventKind.STANDBY_LOST in {event.kind for event in update.events}
    assert update.view.at == second(4.01)
    follower.now = lambda: datetime.now(UTC) + timedelta(seconds=30)
    assert follower.look() is None
    follower.now = lambda: datetime.now(UTC)
    follower.look()
    assert [problem[:38] for problem in problems] == ["the recorder has written nothing since", ""]


def test_who_reads_along_takes_over_when_the_recorder_ends(store, monkeypatch):
    monkeypatch.setattr("replcheck.runs.following._LOOK_S", 0.05)
    watch(store, healthy(0))
    sources, seen = [], []
    sampler = Samples(healthy(5), wait=True)
    monkeypatch.setattr("replcheck.runs.live._sampler", lambda _: sampler)

    async def story():
        stop = asyncio.Event()
        settings = LiveSettings(store=store, keep=KEEP_FOR_EVER, sinks=[seen.append])
        with recorder_lock(store, "clinic"):
            reading = asyncio.create_task(
                watch_or_follow(request(), settings, stop, source=lambda source, why: sources.append(source))
            )
            await asyncio.to_thread(wait_for, lambda: bool(seen))
        await sampler.taken.wait()
        stop.set()
        await reading

    asyncio.run(story())
    assert sources == [Source.RECORDER, Source.OWN]
    assert [update.view.at for update in seen][-1] == second(5.01)


def test_a_recording_is_shown_as_it_was_seen(store, tmp_path):
    seen, path = [], tmp_path / "r.jsonl"
    gone = [sample(at, primary(at), standby(at), silence(at, "db3")) for at in (2, 3, 4)]
    watch(None, healthy(0), healthy(1), *gone, sinks=[seen.append], recording=path)
    again = list(replayed(path, WatchLimits()))
    assert [(update.view.nodes, update.events) for update in again] == [
        (update.view.nodes, update.events) for update in seen[:-1]
    ]


def test_a_watch_without_a_history_counts_no_proven_copies():
    seen = []
    limits = WatchLimits(proven=2)
    watched = Watch(request(limits=limits), None, [seen.append])
    for at in range(5):
        watched.take(healthy(at))
    assert [update.view.proven_copies for update in seen] == [None] * 5
    assert kinds([event for update in seen for event in update.events]) == []
    assert "proofs unknown" in next(state_lines(seen[-1].view, seen[-1].standings, Style()))


def test_a_watch_without_a_history_counts_none_either_after_an_audit_of_its_own(monkeypatch):
    monkeypatch.setattr("replcheck.runs.owed.OwedProofs.seen", lambda *_: (proven("db2", 1),))
    seen = []
    watched = Watch(request(), None, [seen.append])
    watched.take(healthy(0))
    watched.take(healthy(2))
    assert [update.view.proven_copies for update in seen] == [None, None]


def test_a_recording_that_cannot_go_on_ends_no_watch(store, tmp_path, monkeypatch):
    def full(self, sample):
        raise UsageError("the recording cannot be written: no space left on device")

    monkeypatch.setattr("replcheck.watch.replay.Recording.take", full)
    told = watch(store, healthy(0), healthy(1), recording=tmp_path / "r.jsonl")
    assert told == ["warning: the recording ends here: the recording cannot be written: no space left on device"]
    assert len(events_in(store)) == 2


def memory_of(hours, interval_s, looks):
    """Watch for so many simulated hours; return the blocks of memory in use after each of the hours asked for."""
    used = {}
    watched = Watch(request(scrub_s=None, audits=False), None, [])
    for number in range(int(hours * 3600 / interval_s)):
        at, lsn = number * interval_s, 1000 + number * 100
        gone = number % 200 in range(3)
        third = silence(at, "db3") if gone else standby(at, "db3", lsn=lsn)
        watched.take(sample(at, primary(at, lsn=lsn), standby(at, "db2", lsn=lsn), third))
        if at / 3600 in looks:
            gc.collect()
            used[at / 3600] = sys.getallocatedblocks()
    return used


def test_memory_of_a_watch_is_flat():
    used = memory_of(7, 10.0, {3, 6})
    assert used[6] < used[3] + 2000


@pytest.mark.long
def test_memory_of_a_watch_is_flat_over_a_day_of_seconds():
    used = memory_of(24, 1.0, {2, 23})
    assert used[23] < used[2] + 2000
