"""`replcheck watch` as its users run it, on real servers: what happens is seen, kept and found again."""

import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from replcheck.errors import StoreError
from replcheck.lab.cluster import LabCluster
from replcheck.model.live import EventKind, NodeState
from replcheck.store import LiveReader, RunFilter, open_live_reader
from tests.commands import (
    Ended,
    assert_nothing_left,
    assert_one_line,
    finished,
    run_command,
    started,
    wait_for,
)
from tests.staged import newest_only, session_on

pytestmark = newest_only
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def home(cluster: LabCluster, tmp_path: Path) -> Path:
    """A folder with the configuration of the shared cluster, which no test here breaks."""
    return configured(cluster, tmp_path)


@pytest.fixture
def broken_home(fresh_cluster: LabCluster, tmp_path: Path) -> Path:
    """A folder with the configuration of the cluster that the test breaks."""
    return configured(fresh_cluster, tmp_path)


def configured(cluster: LabCluster, folder: Path, more: str = "") -> Path:
    nodes = "\n".join(f'{name} = {{ dsn = "{cluster.audit_dsn(name)}" }}' for name in cluster.nodes)
    (folder / "replcheck.toml").write_text(
        f'cluster = "clinic"\n{more}\n[nodes]\n{nodes}\n[output]\nstore = "{folder / "clinic.db"}"\n'
    )
    return folder


def events_in(home: Path) -> list[EventKind]:
    """Return what the history tells, oldest first."""
    reader = reader_of(home)
    return [event.kind for event in reader.events("clinic")[::-1]] if reader else []


def reader_of(home: Path) -> LiveReader | None:
    """Return a reader of the history; None while the recorder has not made it yet."""
    try:
        return open_live_reader(home / "clinic.db")
    except StoreError:
        return None


def running_in(home: Path) -> int:
    """Return how many copies run by the newest view."""
    reader = reader_of(home)
    stored = reader.latest_view("clinic") if reader else None
    return stored.view.running_copies if stored else 0


def samples_in(home: Path, node: str) -> int:
    """Return how many samples the history holds of a node."""
    reader = reader_of(home)
    spans = reader.node_spans("clinic", LONG_AGO, datetime.now(UTC) + timedelta(days=1)) if reader else []
    return sum(span.samples for span in spans if span.node == node)


@contextmanager
def recording(home: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a recorder until the end of the block, at least until it sees the cluster."""
    before = events_in(home).count(EventKind.WATCH_BEGAN)
    with started("watch", "--headless", "--interval", "0.3s", *words, home=home) as process:
        wait_for(
            lambda: (
                process.poll() is not None
                or (events_in(home).count(EventKind.WATCH_BEGAN) > before and running_in(home) == 3)
            )
        )
        assert process.poll() is None, process.communicate()
        yield process


def terminated(process: "subprocess.Popen[str]") -> Ended:
    process.send_signal(signal.SIGTERM)
    return finished(process)


def test_a_killed_standby_is_seen_recorded_and_found_again(fresh_cluster: LabCluster, broken_home: Path) -> None:
    standby = fresh_cluster.standbys[0]
    with recording(broken_home) as process:
        killed_at = datetime.now(UTC)
        standby.kill()
        wait_for(lambda: EventKind.STANDBY_LOST in events_in(broken_home))
        standby.start()
        wait_for(lambda: EventKind.NODE_BACK in events_in(broken_home))
        ended = terminated(process)
    assert ended.status == 0, ended
    assert [line.split()[2] for line in ended.out.splitlines() if " is lost" in line] == ["warning"]
    found = run_command("history", "events", home=broken_home)
    assert found.status == 0
    assert [line for line in found.out.splitlines() if f"standby {standby.name} is lost" in line]
    machine = json.loads(run_command("history", "events", "--format", "json", home=broken_home).out)
    [lost] = [event for event in machine["events"] if event["kind"] == "standby lost"]
    assert (lost["node"], lost["cluster"]) == (standby.name, "clinic")
    assert 0 <= (datetime.fromisoformat(lost["at"]) - killed_at).total_seconds() < 10
    kinds = [event["kind"] for event in machine["events"]]
    assert (kinds[0], kinds[-1]) == ("watch ended", "watch began")
    assert_nothing_left(fresh_cluster)


def test_a_recorder_that_was_killed_goes_on_and_tells_the_gap(cluster: LabCluster, home: Path) -> None:
    with recording(home) as process:
        wait_for(lambda: samples_in(home, "primary") > 0, within_s=30)
        process.kill()
        process.wait()
    kept = samples_in(home, "primary")
    with recording(home) as process:
        wait_for(lambda: EventKind.WATCH_GAP in events_in(home))
        assert terminated(process).status == 0
    assert events_in(home) == [
        EventKind.WATCH_BEGAN,
        EventKind.WATCH_GAP,
        EventKind.WATCH_BEGAN,
        EventKind.WATCH_ENDED,
    ]
    assert samples_in(home, "primary") > kept
    with closing(sqlite3.connect(home / "clinic.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert_nothing_left(cluster)


def test_a_second_recorder_is_refused(cluster: LabCluster, home: Path) -> None:
    with recording(home) as process:
        refused = run_command("watch", "--headless", home=home)
        assert 'a recorder of cluster "clinic" on' in assert_one_line(refused)
        assert "is already running" in refused.err
        assert terminated(process).status == 0


def test_a_second_watch_reads_along_and_takes_over(cluster: LabCluster, home: Path) -> None:
    with recording(home) as process, started("watch", "--plain", "--interval", "0.3s", home=home) as reader:
        assert reader.stdout is not None
        first = [reader.stdout.readline() for _ in range(4)]
        assert "3 of 3 copies run" in first[0]
        assert [line.split()[2] for line in first[1:]] == list(cluster.nodes)
        assert terminated(process).status == 0
        wait_for(lambda: events_in(home).count(EventKind.WATCH_BEGAN) == 2)
        ended = terminated(reader)
    assert ended.status == 0
    assert events_in(home)[-1] is EventKind.WATCH_ENDED


def test_lines_tell_the_state_and_what_happens_where_there_is_no_terminal(cluster: LabCluster, home: Path) -> None:
    with started("watch", "--no-store", home=home) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        ended = terminated(process)
    assert "the watch of 3 nodes began" in lines[0]
    assert "clinic: primary primary, 3 of 3 copies run, proofs unknown" in lines[1]
    assert NodeState.STREAMING.value in lines[3]
    assert "the watch ended after" in ended.out
    assert not (home / "clinic.db").exists()


def test_what_happens_goes_to_a_file_for_machines(cluster: LabCluster, home: Path) -> None:
    events = home / "events.jsonl"
    with recording(home, "--events", str(events)) as process:
        assert terminated(process).status == 0
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert [(event["event"], event["kind"]) for event in told] == [
        ("cluster_event", "watch began"),
        ("cluster_event", "watch ended"),
    ]


def test_a_reader_of_lines_that_goes_away_ends_the_watch_in_order(cluster: LabCluster, home: Path) -> None:
    with started("watch", "--plain", "--interval", "0.3s", home=home) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        cluster_name = cluster.standbys[0].name
        assert cluster_name
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in {0, 3}
    wait_for(lambda: events_in(home)[-1:] == [EventKind.WATCH_ENDED])


def test_a_recording_is_made_and_shown_again(cluster: LabCluster, home: Path) -> None:
    with started("watch", "--plain", "--interval", "0.3s", "--no-store", "--record", "r.jsonl", home=home) as process:
        wait_for(lambda: (home / "r.jsonl").exists() and len((home / "r.jsonl").read_text().splitlines()) > 4)
        assert terminated(process).status == 0
    shown = run_command("watch", "--replay", "r.jsonl", home=home)
    assert shown.status == 0
    assert "the watch of 3 nodes began" in shown.out
    assert shown.out.count("3 of 3 copies run") == 2
    (home / "r.jsonl").write_text((home / "r.jsonl").read_text() + '{"kind": "sample", "at": 7}\n')
    assert "of recording r.jsonl cannot be read" in run_command("watch", "--replay", "r.jsonl", home=home).err


@pytest.mark.long
def test_everything_is_proven_by_a_rolling_audit_and_counts(fresh_cluster: LabCluster, broken_home: Path) -> None:
    configured(
        fresh_cluster, broken_home, '[policy]\ncopies = { running = 3, proven = 3 }\n[audit]\nreplay_wait = "5s"'
    )
    with recording(broken_home, "--scrub", "60s") as process:
        wait_for(lambda: len(open_live_reader(broken_home / "clinic.db").proofs("clinic")) >= 2, within_s=90)
        wait_for(lambda: EventKind.PROVEN_BACK in events_in(broken_home), within_s=90)
        ended = terminated(process)
    assert ended.status == 0, ended
    proofs = open_live_reader(broken_home / "clinic.db").proofs("clinic")
    assert {(proof.node, proof.verdict.value, proof.whole) for proof in proofs} >= {
        (name, "consistent", True) for name in ("standby1", "standby2")
    }
    assert "scrub" in run_command("history", home=broken_home).out
    assert_nothing_left(fresh_cluster)


@pytest.mark.long
def test_a_rolling_audit_goes_on_where_a_killed_recorder_had_come_to(
    fresh_cluster: LabCluster, broken_home: Path
) -> None:
    with session_on(fresh_cluster.primary, "postgres", autocommit=True) as connection:
        for number in range(80):
            connection.execute(f"create table t{number} as select g as id from generate_series(1, 20000) g")
    fresh_cluster.catch_up()
    history = broken_home / "clinic.db"

    def kept() -> int:
        with closing(sqlite3.connect(history)) as connection:
            return int(connection.execute("select count(*) from proven_blocks").fetchone()[0])

    with recording(broken_home, "--scrub", "300s") as process:
        wait_for(lambda: kept() > 30, within_s=120)
        process.kill()
        process.wait()
    with recording(broken_home, "--scrub", "300s") as process:
        wait_for(lambda: len(open_live_reader(history).proofs("clinic")) >= 2, within_s=200)
        assert terminated(process).status == 0
    reader = open_live_reader(history)
    last, first = reader.runs(RunFilter(kind="scrub"))
    result = reader.result(last.run_id)
    assert isinstance(result, dict)
    assert isinstance(result["resumed"], dict)
    assert (result["verdict"], result["resumed"]["run_id"]) == ("consistent", first.run_id)
    assert {proof.proven_at < last.started_at for proof in reader.proofs("clinic")} == {True}
    assert_nothing_left(fresh_cluster)


def test_survivors_are_audited_at_once_after_a_promotion(fresh_cluster: LabCluster, broken_home: Path) -> None:
    first, second = fresh_cluster.standbys
    with recording(broken_home) as process:
        fresh_cluster.primary.kill()
        first.promote()
        second.follow(first)
        second.restart()
        path = broken_home / "clinic.db"
        wait_for(lambda: bool(open_live_reader(path).proofs("clinic")))
        ended = terminated(process)
    assert ended.status == 0
    assert f"auditing {second.name} against {first.name}, because of what happened" in ended.err
    [proof] = open_live_reader(path).proofs("clinic")
    assert (proof.node, proof.primary, proof.verdict.value) == (second.name, first.name, "consistent")
    kinds = events_in(broken_home)
    assert kinds.index(EventKind.PRIMARY_LOST) < kinds.index(EventKind.PROMOTED)
