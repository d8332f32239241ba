"""The command is paused and goes on by signal, by file and by key, and goes on where a killed one ended."""

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from replcheck.lab.cluster import LabCluster
from tests.commands import COMMAND, environment, finished, run_command, started, wait_for
from tests.staged import newest_only, session_on

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
