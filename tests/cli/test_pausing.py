"""The command is paused by signal, file, key and limit, ends early where it is told to, and goes on where one ended."""

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from replcheck.lab.cluster import LabCluster
from replcheck.lab.faults import apply_fault
from tests.commands import COMMAND, environment, finished, run_command, started, wait_for
from tests.conftest import MakeCluster
from tests.staged import newest_only, paused, session_on

pytestmark = newest_only
MANY = 500


@pytest.fixture
def clinic(cluster: LabCluster, database: str, tmp_path: Path) -> str:
    """A database with many small tables, and a configuration in the folder of the command."""
    with session_on(cluster.primary, database, autocommit=True) as connection:
        for number in range(60):
            connection.execute(f"create table t{number} as select g as id from generate_series(1, 50) g")
    cluster.catch_up()
    nodes = "\n".join(f'{name} = {{ dsn = "{cluster.audit_dsn(name)}" }}' for name in cluster.nodes)
    (tmp_path / "replcheck.toml").write_text(
        f'cluster = "clinic"\n[nodes]\n{nodes}\n[audit]\ndatabases = ["{database}"]\ntables = ["public.*"]\n'
    )
    return database


def events_of(path: Path) -> list[dict]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def told(path: Path, event: str) -> list[dict]:
    return [found for found in events_of(path) if found["event"] == event]


@pytest.mark.parametrize("by", ["signal", "file"])
def test_it_holds_still_until_it_may_go_on(clinic: str, tmp_path: Path, by: str) -> None:
    events, pause_file = tmp_path / "events.jsonl", tmp_path / "pause"
    pause_file.touch()
    words = ("audit", "--events", str(events), "--pace", "gentle", "--pause-file", str(pause_file), "--format", "json")
    with started(*words, home=tmp_path) as process:
        wait_for(lambda: bool(told(events, "held_still")))
        if by == "signal":
            process.send_signal(signal.SIGUSR1)
            pause_file.unlink()
            wait_for(lambda: len(told(events, "held_still")) > 1)
            assert told(events, "held_still")[-1]["reason"].endswith("paused; SIGUSR2 goes on")
            process.send_signal(signal.SIGUSR2)
        else:
            assert told(events, "held_still")[0]["reason"] == f"{pause_file} exists"
            pause_file.unlink()
        ended = finished(process)
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["held_s"] > 0
    assert told(events, "waited")


def test_the_key_p_pauses_it_and_p_goes_on_and_the_terminal_is_as_before(clinic: str, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    controller, terminal = pty.openpty()
    before = subprocess.run(["stty", "-a"], stdin=terminal, capture_output=True, check=True).stdout
    with subprocess.Popen(
        [sys.executable, "-c", _IN_FOREGROUND, *COMMAND[1:], "audit", "--events", str(events), "--pace", "gentle"],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        cwd=tmp_path,
        env=environment(tmp_path, TERM="xterm"),
        start_new_session=True,
        text=True,
    ) as process:
        reader = _Reader(controller)
        wait_for(lambda: reader.read() or bool(told(events, "chunk_compared")))
        os.write(controller, b"p")
        wait_for(lambda: reader.read() or bool(told(events, "held_still")))
        assert told(events, "held_still")[0]["reason"] == "paused; p goes on"
        os.write(controller, b"p")
        wait_for(lambda: reader.read() or process.poll() is not None)
        assert process.returncode == 0
    assert subprocess.run(["stty", "-a"], stdin=terminal, capture_output=True, check=True).stdout == before
    os.close(controller)
    os.close(terminal)


_IN_FOREGROUND = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class _Reader:
    """Takes what the command draws, so that it never waits for the terminal."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    def read(self) -> bool:
        with suppress(BlockingIOError):
            os.read(self._descriptor, 65536)
        return False


def test_a_limit_of_the_command_line_holds_it_still_until_the_servers_are_within(
    cluster: LabCluster, clinic: str, tmp_path: Path
) -> None:
    events = tmp_path / "events.jsonl"
    limits = ("--pause-if", "lag=1MB", "--pause-if", "active_clients=1000")
    with ExitStack() as commands:
        with paused(cluster.nodes["standby1"]):
            cluster.primary.execute("select pg_logical_emit_message(false, 'test', repeat('x', 2097152))")
            process = commands.enter_context(
                started("audit", *limits, "--events", str(events), "--format", "json", home=tmp_path)
            )
            wait_for(lambda: bool(told(events, "held_still")) or process.poll() is not None)
            [held] = told(events, "held_still")
            assert held["reason"].startswith("standby1 is 2")
            assert held["reason"].endswith("of WAL behind (limit 1MB)")
        ended = finished(process)
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["held_s"] > 0


def test_a_diverged_cluster_ends_it_early_where_that_is_asked(
    make_cluster: MakeCluster, major: int, tmp_path: Path
) -> None:
    cluster = make_cluster(major=major, standbys=1)
    for database in ("postgres", cluster.create_database("read_later")):
        cluster.primary.execute("create table visit as select g as id from generate_series(1, 50) g", dbname=database)
    cluster.catch_up()
    apply_fault(cluster, "flip-row-bytes", node="standby1", database="postgres", relation="public.visit")
    events = tmp_path / "events.jsonl"
    nodes = ("--primary", cluster.audit_dsn("primary"), "--replica", cluster.audit_dsn("standby1"))
    scope = ("--table", "public.*", "--jobs", "1")
    ended = run_command("audit", *nodes, *scope, "--fail-fast", "--events", str(events), home=tmp_path)
    assert ended.status == 2, ended.err
    said = " ".join(ended.out.split())
    assert "replica1 is not a copy of primary: 1 row differs in 1 relation" in said
    assert "the whole database: the audit ended at the first divergence (2): read_later on replica1, template1" in said
    assert "Audit without --fail-fast to see everything that differs." in said
    assert {event["database"] for event in told(events, "chunk_compared")} == {"postgres"}


@pytest.mark.long
def test_out_of_its_time_it_tells_how_to_go_on_and_that_proves_the_rest(
    cluster: LabCluster, clinic: str, tmp_path: Path
) -> None:
    with session_on(cluster.primary, clinic) as somebody:
        somebody.execute("lock table t0 in access exclusive mode")
        first = run_command("audit", "--time-budget", "3s", home=tmp_path)
    said = " ".join(first.out.split())
    assert first.status == 1, first.err
    assert "its time budget of 3s was over" in said
    assert "Go on where this run ended with --resume." in said
    kept, again = _kept(tmp_path), tmp_path / "again.jsonl"
    assert 0 < kept < 60
    cluster.catch_up()
    second = run_command("audit", "--resume", "--events", str(again), "--format", "json", home=tmp_path)
    document = json.loads(second.out)
    assert (second.status, document["verdict"], document["resumed"]["relations"]) == (0, "consistent", kept)
    compared = {event["relation"] for event in told(again, "chunk_compared")}
    assert "public.t0" in compared
    assert len(compared) == 60 - kept


@pytest.mark.long
def test_a_killed_audit_is_gone_on_with(cluster: LabCluster, clinic: str, tmp_path: Path) -> None:
    # So many that the audit takes several alignments, however quick the machine is.
    with session_on(cluster.primary, clinic, autocommit=True) as connection:
        for number in range(60, MANY):
            connection.execute(f"create table t{number} as select g as id from generate_series(1, 50) g")
    cluster.catch_up()
    events = tmp_path / "events.jsonl"
    with started(
        "audit", "--events", str(events), "--pace", "gentle", "--max-snapshot-age", "1s", home=tmp_path
    ) as process:
        wait_for(lambda: len(told(events, "blocks_proven")) > 10)
        # What is proven is written about once a second.
        wait_for(lambda: _kept(tmp_path) > 10)
        process.kill()
        process.wait()
    kept = _kept(tmp_path)
    again = tmp_path / "again.jsonl"
    ended = run_command("audit", "--resume", "--events", str(again), "--format", "json", home=tmp_path)
    assert ended.status == 0, ended.err
    document = json.loads(ended.out)
    assert document["verdict"] == "consistent"
    assert document["resumed"]["relations"] == kept
    assert len(told(again, "chunk_compared")) == MANY - kept
    assert "earlier run that ended early" in document["summary"]
    assert _kept(tmp_path) == 0
    once_more = run_command("audit", "--resume", home=tmp_path)
    assert once_more.status == 3
    assert 'no audit of cluster "clinic" is left to go on with' in once_more.err


def _kept(home: Path) -> int:
    [store] = home.glob(".local/state/replcheck/clinic.db")
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    try:
        [(count,)] = connection.execute("select count(distinct relation) from proven_blocks")
        return int(count)
    finally:
        connection.close()
