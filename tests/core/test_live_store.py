"""What is watched is kept: whoever else writes, however the recorder ends, and whatever becomes of its disk."""

import gc
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from replcheck.errors import StoreError
from replcheck.model.copies import AuditProof
from replcheck.model.live import EventKind, NodeState
from replcheck.model.outcome import Verdict
from replcheck.runs.parts import parts_of
from replcheck.store import Keep, open_history, open_live_reader, open_live_writer
from replcheck.store.live import RETRY_S
from replcheck.store.thinning import KEEP_FOR_EVER, thin
from tests.core.lives import BEGAN, WELL, at, happened, view
from tests.core.test_store import record, start
from tests.factories import diverged

LONG_AGO, FAR_AHEAD = BEGAN - timedelta(days=900), BEGAN + timedelta(days=900)
ROOT = Path(__file__).parents[2]


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "clinic.db"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def writer(path, clock):
    made = open_live_writer(path, "clinic", clock=clock)
    yield made
    made.close()


def watch(writer, clock, seconds, *, states=WELL, events=()):
    """Take one view for each of the seconds."""
    for second in seconds:
        clock.now += 1
        writer.take(view(second, states), [event for event in events if event.at == at(second)])


def node_spans(path, node=None):
    spans = open_live_reader(path).node_spans("clinic", LONG_AGO, FAR_AHEAD)
    return [span for span in spans if node in (None, span.node)]


def test_the_newest_view_is_there_with_every_call(path, writer, clock):
    for second in range(3):
        watch(writer, clock, [second])
        stored = open_live_reader(path).latest_view("clinic")
        assert stored is not None
        assert stored.view == view(second)
    assert open_live_reader(path).latest_view("other") is None


def test_an_event_is_there_at_once_and_comes_back_as_it_was(path, writer, clock):
    lost = happened(EventKind.STANDBY_LOST, 1, "db2")
    over = happened(EventKind.SWITCHED_OVER, 2, "db3", seconds=4.5, timeline=2, began_at=at(1), detail="db1")
    watch(writer, clock, range(3), events=[lost, over])
    reader = open_live_reader(path)
    assert reader.events("clinic") == [over, lost]
    assert reader.events("clinic", since=at(2)) == [over]
    assert reader.events("clinic", until=at(2)) == [lost]
    assert reader.events("clinic", limit=1) == [over]
    assert reader.events("other") == []


def test_an_event_that_is_written_once_more_is_kept_once(path, writer, clock):
    lost = happened(EventKind.STANDBY_LOST, 1, "db2")
    watch(writer, clock, range(3), events=[lost])
    writer.add(None, [lost])
    writer.flush()
    assert open_live_reader(path).events("clinic") == [lost]
    assert writer.problem == ""


def test_what_comes_while_a_write_fails_is_kept_too(path, writer, clock, monkeypatch):
    first, second = happened(EventKind.STANDBY_LOST, 1, "db2"), happened(EventKind.NODE_BACK, 2, "db2")

    def fail(connection, waiting, view):
        writer.add(None, [second])
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(writer, "_write_all", fail)
        watch(writer, clock, [1], events=[first])
    clock.now += RETRY_S
    writer.flush()
    assert open_live_reader(path).events("clinic") == [second, first]


def test_events_can_be_followed_by_their_numbers(path, writer, clock):
    reader = open_live_reader(path)
    watch(writer, clock, [1], events=[happened(EventKind.STANDBY_LOST, 1, "db2")])
    [first] = reader.events_after("clinic", 0)
    watch(writer, clock, [2], events=[happened(EventKind.NODE_BACK, 2, "db2")])
    assert [found.event.kind for found in reader.events_after("clinic", first.number)] == [EventKind.NODE_BACK]


def test_spans_are_written_every_ten_seconds_and_at_the_end(path, clock):
    writer = open_live_writer(path, "clinic", clock=clock)
    watch(writer, clock, range(5))
    assert node_spans(path) == []
    watch(writer, clock, range(5, 25))
    assert [span.ended_at for span in node_spans(path, "db2")] == [at(9), at(19)]
    writer.close()
    assert [span.ended_at for span in node_spans(path, "db2")] == [at(9), at(19), at(24)]
    watched = open_live_reader(path).watch_spans("clinic", at(0), at(9))
    assert [(span.samples, span.primary, span.min_running_copies) for span in watched] == [(10, "db1", 3)]


def test_whether_a_watch_ended_in_order_can_be_told(path, clock):
    assert open_history(path).runs() == []
    reader = open_live_reader(path)
    assert reader.last_watched("clinic") is None
    writer = open_live_writer(path, "clinic", clock=clock)
    watch(writer, clock, range(3), events=[happened(EventKind.WATCH_BEGAN, 0)])
    assert reader.last_watched("clinic") == (at(2), False)
    writer.add(None, [happened(EventKind.WATCH_ENDED, 3)])
    writer.close()
    assert reader.last_watched("clinic") == (at(2), True)


# --- what goes wrong ---


def test_a_history_that_is_locked_costs_nothing_but_patience(path, clock, monkeypatch):
    monkeypatch.setattr("replcheck.store.live._BUSY_TIMEOUT_S", 0.05)
    told = []
    writer = open_live_writer(path, "clinic", tell=told.append, clock=clock)
    watch(writer, clock, range(3))
    lost = happened(EventKind.STANDBY_LOST, 4, "db2")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        watch(writer, clock, range(3, 14), events=[lost])
        holder.execute("ROLLBACK")
    assert open_live_reader(path).events("clinic") == []
    clock.now += RETRY_S
    watch(writer, clock, [14])
    assert open_live_reader(path).events("clinic") == [lost]
    assert next(span.ended_at for span in node_spans(path, "db2")) == at(9)
    assert told == [
        f"warning: what is watched is kept in memory for now: history {path}: database is locked",
        "the history is written again",
    ]
    writer.close()


def test_a_history_that_was_replaced_is_written_where_it_is_now(path, writer, clock):
    watch(writer, clock, range(3))
    for file in path.parent.iterdir():
        file.unlink()
    watch(writer, clock, [3], events=[happened(EventKind.STANDBY_LOST, 3, "db2")])
    assert [event.node for event in open_live_reader(path).events("clinic")] == ["db2"]


_LOOK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("select count(*) from cluster_events").fetchone()[0])
connection.close()
"""


def events_seen_by_another_process(path):
    done = subprocess.run([sys.executable, "-c", _LOOK, path], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_who_opens_the_history_beside_a_writer_takes_no_lock_from_it(path, writer, clock):
    watch(writer, clock, range(3))
    open_history(path)
    open_live_reader(path)
    # Who closes a database last takes its log of writes away: that must not be anybody else while this one is open.
    assert events_seen_by_another_process(path) == 0
    assert path.with_name("clinic.db-wal").exists()
    watch(writer, clock, [3], events=[happened(EventKind.STANDBY_LOST, 3, "db2")])
    assert events_seen_by_another_process(path) == 1
    assert writer.problem == ""


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB that is filled up and emptied by the test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill_up(path):
    """Write a file until its disk has no room."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"0" * 4096)
        except OSError:
            return


def test_a_full_disk_loses_nothing_that_was_kept_and_nothing_that_comes(small_disk, clock):
    path, told = small_disk / "clinic.db", []
    writer = open_live_writer(path, "clinic", tell=told.append, clock=clock)
    before, after = happened(EventKind.STANDBY_LOST, 1, "db2"), happened(EventKind.NODE_BACK, 295, "db2")
    watch(writer, clock, range(12), events=[before])
    filler = small_disk / "filler"
    fill_up(filler)
    watch(writer, clock, range(12, 300), events=[after])
    assert writer.problem
    assert open_live_reader(path).events("clinic") == [before]
    filler.unlink()
    clock.now += RETRY_S
    watch(writer, clock, [300])
    writer.close()
    assert open_live_reader(path).events("clinic") == [after, before]
    assert sum(span.samples for span in node_spans(path, "db2")) == 301
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert [line.partition(":")[0] for line in told] == ["warning", "the history is written again"]


_WATCH_FOR_EVER = """
import sys
from pathlib import Path
from replcheck.model.live import EventKind
from replcheck.store import open_live_writer
from tests.core.lives import happened, view
ticks = iter(range(1, 10**9))
writer = open_live_writer(Path(sys.argv[1]), "clinic", clock=lambda: float(next(ticks)))
for second in range(10**9):
    writer.take(view(second), [happened(EventKind.STANDBY_LOST, second, "db2")])
    print(second, flush=True)
"""


def test_a_recorder_that_is_killed_loses_no_event_that_it_had_kept(path):
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    with subprocess.Popen(
        [sys.executable, "-c", _WATCH_FOR_EVER, path], stdout=subprocess.PIPE, env=environment, text=True
    ) as recorder:
        assert recorder.stdout is not None
        for line in recorder.stdout:
            if int(line) == 50:
                recorder.send_signal(signal.SIGKILL)
        last = int(line)
    kept = open_live_reader(path).events("clinic")
    assert {event.at for event in kept} >= {at(second) for second in range(last + 1)}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    open_live_writer(path, "clinic").close()


def _watch_cluster(path: Path, cluster: str) -> None:
    writer = open_live_writer(path, cluster)
    for second in range(40):
        writer.take(view(second), [happened(EventKind.STANDBY_LOST, second, "db2")])
    writer.close()


def test_two_recorders_of_two_clusters_write_one_history(path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_watch_cluster, args=(path, name)) for name in ("clinic", "ward")]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    reader = open_live_reader(path)
    assert [len(reader.events(name)) for name in ("clinic", "ward")] == [40, 40]
    assert reader.clusters() == ("clinic", "ward")


def test_memory_stays_bounded_while_nothing_can_be_written(path, clock, monkeypatch):
    monkeypatch.setattr("replcheck.store.live._MOST_SPANS", 200)
    monkeypatch.setattr("replcheck.store.live._MOST_EVENTS", 50)
    told = []
    writer = open_live_writer(path, "clinic", tell=told.append, clock=clock)
    path.unlink()
    path.mkdir()
    flapping = [WELL, {**WELL, "db3": NodeState.LOST}]
    for second in range(2000):
        clock.now += 1
        events = [happened(EventKind.STANDBY_LOST, second, "db3")]
        writer.take(view(second, flapping[second % 2]), events)
    assert len(writer._waiting.spans) <= 200
    assert len(writer._waiting.events) == 50
    path.rmdir()
    clock.now += RETRY_S
    writer.take(view(2000))
    assert told[-1] == "the history is written again; 1950 events were too many to keep"
    assert len(open_live_reader(path).events("clinic")) == 50
    writer.close()


# --- age ---


def test_spans_grow_longer_with_age_and_lose_no_change(path, clock):
    writer = open_live_writer(path, "clinic", clock=clock)
    watch(writer, clock, range(600))
    watch(writer, clock, range(600, 605), states={**WELL, "db2": NodeState.LOST})
    watch(writer, clock, range(605, 1200))
    writer.close()
    fine = node_spans(path, "db2")
    history = open_history(path)
    for age, most in ((timedelta(days=1, hours=1), 24), (timedelta(days=9), 4)):
        with history._engine.connect() as connection:
            thin(connection, "clinic", KEEP_FOR_EVER, at(1200) + age)
        coarse = node_spans(path, "db2")
        assert len(coarse) <= most < len(fine)
        assert sum(span.samples for span in coarse) == 1200
        [lost] = [span for span in coarse if span.state is NodeState.LOST]
        assert (lost.began_at, lost.ended_at) == (at(600), at(604))


def test_what_is_young_stays_as_it_is(path, clock):
    writer = open_live_writer(path, "clinic", clock=clock)
    watch(writer, clock, range(100))
    writer.close()
    fine = node_spans(path)
    with open_history(path)._engine.connect() as connection:
        thin(connection, "clinic", KEEP_FOR_EVER, at(100) + timedelta(minutes=50))
    assert node_spans(path) == fine


def test_what_is_too_old_is_dropped_and_records_never_are(path, clock):
    writer = open_live_writer(path, "clinic", clock=clock)
    watch(writer, clock, range(30), events=[happened(EventKind.STANDBY_LOST, 1, "db2")])
    writer.close()
    history, begun = open_history(path), start()
    history.begin(begun)
    history.finish(record(begun), {"relations": []}, parts_of(diverged()))
    keep = Keep(samples_s=86400.0, events_s=10 * 86400.0, parts_s=86400.0)
    with history._engine.connect() as connection:
        thin(connection, "clinic", keep, at(0) + timedelta(days=5))
    reader = open_live_reader(path)
    assert node_spans(path) == []
    assert reader.watch_spans("clinic", LONG_AGO, FAR_AHEAD) == []
    assert len(reader.events("clinic")) == 1
    with history._engine.connect() as connection:
        thin(connection, "clinic", keep, at(0) + timedelta(days=11))
    assert reader.events("clinic") == []
    assert reader.runs() == [record(begun)]
    assert reader.result(begun.run_id) == {"relations": []}
    assert len(reader.proofs("clinic")) == 2
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM relation_verdicts").fetchone() == (0,)


def test_another_cluster_of_the_same_history_keeps_what_it_has(path, clock):
    writer = open_live_writer(path, "ward", clock=clock)
    watch(writer, clock, range(30))
    writer.close()
    with open_history(path)._engine.connect() as connection:
        thin(connection, "clinic", Keep(samples_s=60.0), at(0) + timedelta(days=50))
    assert open_live_reader(path).node_spans("ward", LONG_AGO, FAR_AHEAD) != []


# --- what audits leave ---


def test_what_an_audit_said_of_each_copy_is_kept_with_its_end(path):
    history, begun = open_history(path), start()
    history.begin(begun)
    result = diverged()
    history.finish(record(begun), {}, parts_of(result))
    proofs = open_live_reader(path).proofs("clinic")
    assert [(proof.node, proof.verdict, proof.whole, proof.run_id) for proof in proofs] == [
        ("db2", Verdict.CONSISTENT, True, begun.run_id),
        ("db3", Verdict.DIVERGED, True, begun.run_id),
    ]
    assert all(isinstance(proof, AuditProof) for proof in proofs)
    assert open_live_reader(path).proofs("clinic", since=result.finished_at + timedelta(seconds=1)) == []
    assert open_live_reader(path).proofs("ward") == []
    with closing(sqlite3.connect(path)) as connection:
        verdicts = connection.execute(
            "SELECT relation, node, verdict, rows_differing FROM relation_verdicts WHERE node = 'db3' ORDER BY 1"
        ).fetchall()
        assert ("public.visit", "db3", "diverged", 17) in verdicts
        [alignments] = connection.execute("SELECT count(*) FROM alignments").fetchone()
        assert alignments == sum(len(replica.alignments) for replica in result.replicas)


def test_a_proof_that_was_taken_over_makes_the_whole_as_old_as_it_is():
    result = diverged()
    older = result.started_at - timedelta(hours=3)
    relations = (replace(result.relations[0], proven_since=older), *result.relations[1:])
    assert {proof.proven_at for proof in parts_of(replace(result, relations=relations)).proofs} == {older}


def test_an_audit_that_ended_early_is_no_whole_proof():
    assert [proof.whole for proof in parts_of(diverged(stopped="the time was over")).proofs] == [False, False]


# --- versions ---


LIVE_TABLES = (
    "audit_nodes",
    "relation_verdicts",
    "alignments",
    "cluster_events",
    "node_spans",
    "watch_spans",
    "live_states",
    "live_views",
)


def as_version_3(path):
    """Turn a history into one of the version before anything was watched."""
    with closing(sqlite3.connect(path)) as connection:
        for table in LIVE_TABLES:
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE replcheck_meta SET value = '3'")
        connection.commit()


def test_a_history_that_knew_nothing_of_watching_is_brought_up_to_date(path, clock):
    history, begun = open_history(path), start()
    history.begin(begun)
    history.finish(record(begun))
    as_version_3(path)
    writer = open_live_writer(path, "clinic", clock=clock)
    watch(writer, clock, [1], events=[happened(EventKind.STANDBY_LOST, 1, "db2")])
    writer.close()
    reader = open_live_reader(path)
    assert reader.runs() == [record(begun)]
    assert len(reader.events("clinic")) == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT value FROM replcheck_meta").fetchone() == ("6",)


def test_an_older_history_is_read_as_one_in_which_nothing_was_watched(path):
    open_history(path)
    as_version_3(path)
    reader = open_live_reader(path)
    assert (reader.latest_view("clinic"), reader.events("clinic"), reader.proofs("clinic")) == (None, [], [])
    assert reader.last_watched("clinic") is None


def test_a_newer_history_is_refused_by_readers_and_writers(path):
    open_history(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE replcheck_meta SET value = '99'")
        connection.commit()
    for opened in (open_live_reader, lambda path: open_live_writer(path, "clinic")):
        with pytest.raises(StoreError, match="has schema version 99, and this replcheck knows 6"):
            opened(path)


def test_a_damaged_row_is_left_out_and_counted(path, writer, clock):
    watch(
        writer,
        clock,
        [1, 2],
        events=[happened(EventKind.STANDBY_LOST, 1, "db2"), happened(EventKind.NODE_BACK, 2, "db2")],
    )
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE cluster_events SET document = '{\"kind\": 7' WHERE kind = 'standby lost'")
        connection.commit()
    reader = open_live_reader(path)
    assert [event.kind for event in reader.events("clinic")] == [EventKind.NODE_BACK]
    assert reader.damaged_rows == 1


def test_what_a_watch_must_know_again_is_kept_by_name(path):
    history = open_history(path)
    assert history.state("clinic", "owed") is None
    history.keep_state("clinic", "owed", ["db2"])
    history.keep_state("clinic", "owed", ["db3"])
    assert open_history(path).state("clinic", "owed") == ["db3"]
    assert history.state("ward", "owed") is None


def month_of_views(path, hours, memory_at):
    """Watch for so many simulated hours; return the blocks of memory in use after each of the hours asked for."""
    clock, used = Clock(), {}
    writer = open_live_writer(path, "clinic", clock=clock)
    for minute in range(hours * 60):
        clock.now += 60
        writer.take(view(60 * minute))
        if minute / 60 in memory_at:
            gc.collect()
            used[minute // 60] = sys.getallocatedblocks()
    writer.close()
    return used


def test_memory_is_flat_however_long_it_records(path):
    used = month_of_views(path, 8, {2, 7})
    assert used[7] < used[2] + 1000


@pytest.mark.long
def test_a_month_costs_no_memory_and_little_disk(path):
    used = month_of_views(path, 24 * 31, {24, 24 * 30})
    assert used[24 * 30] < used[24] + 1000
    assert path.stat().st_size < 20_000_000


def test_writing_a_view_each_second_is_cheap(path, clock):
    writer = open_live_writer(path, "clinic", clock=clock)
    watch(writer, clock, range(50))
    began = os.times()
    watch(writer, clock, range(50, 550))
    ended = os.times()
    writer.close()
    assert ended.user + ended.system - began.user - began.system < 500 * 0.005
    assert datetime.now(UTC) > BEGAN
