"""The real command in a process of its own, in a folder and an environment of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from replcheck.cli.main import main
from replcheck.lab.cluster import LabCluster
from replcheck.model.names import printable

SOURCE = Path(__file__).parents[1] / "src"
COMMAND = (sys.executable, "-m", "replcheck")
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Return the whole environment of a command: nothing of the caller's but where programs are."""
    base = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(SOURCE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "COLUMNS": "100",
    }
    return base | variables


@contextmanager
def started(*words: str, home: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a folder; killed at the end of the block where it still runs."""
    with subprocess.Popen(
        [*COMMAND, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home,
        env=environment(home, **variables),
        text=True,
        errors="surrogateescape",
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(process: subprocess.Popen[str]) -> Ended:
    """Wait for a command's end."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    return Ended(process.returncode, out, err)


def run_command(*words: str, home: Path, **variables: str) -> Ended:
    """Run a command to its end; `home` is its folder, `variables` are added to its environment."""
    with started(*words, home=home, **variables) as process:
        return finished(process)


def run_here(*words: str, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ended:
    """Run a command in this process, for what ends before anything connects; a process of its own costs a second."""
    for variable, value in environment(home).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("REPLCHECK_CONFIG", raising=False)
    monkeypatch.chdir(home)
    capfd.readouterr()
    status = main(words)
    said = capfd.readouterr()
    return Ended(int(status), said.out, said.err)


def assert_one_line(ended: Ended, *, status: int = 3) -> str:
    """Check that a command failed the way people can read: one line, perhaps a hint, nothing else; return both."""
    assert ended.status == status, ended
    assert "Traceback" not in ended.err
    lines = ended.err.splitlines()
    assert 1 <= len(lines) <= 2, ended.err
    assert lines[0].startswith("replcheck: error: ")
    assert all(line.startswith("hint: ") and line.endswith((".", "?", '"')) for line in lines[1:])
    assert printable(ended.err.replace("\n", "")) == ended.err.replace("\n", "")
    assert ended.out == ""
    return ended.err


BACKENDS = """
    select pid, application_name from pg_stat_activity
    where application_name like 'replcheck %' and application_name <> 'replcheck lab'
"""
LEFT = """
    select 'lock', l.pid::text from pg_locks l join pg_stat_activity a using (pid)
    where a.application_name like 'replcheck %' and a.application_name <> 'replcheck lab'
    union all
    select 'snapshot', pid::text from pg_stat_activity
    where application_name like 'replcheck %' and application_name <> 'replcheck lab' and backend_xmin is not null
    union all
    select 'slot', slot_name::text from pg_replication_slots where slot_name ilike '%replcheck%'
"""


def left_behind(cluster: LabCluster) -> dict[str, list[tuple[object, ...]]]:
    """Return the backends, locks and snapshots of audits on each running node; none is an empty dictionary."""
    found = {
        name: [*server.execute(BACKENDS), *server.execute(LEFT)]
        for name, server in cluster.nodes.items()
        if server.running
    }
    return {name: rows for name, rows in found.items() if rows}


def assert_nothing_left(cluster: LabCluster, *, within_s: float = 10) -> None:
    """Check that no backend, lock or snapshot of an audit stays on any node."""
    wait_for(lambda: not left_behind(cluster), within_s=within_s, what=lambda: f"left: {left_behind(cluster)}")


def wait_for(
    condition: Callable[[], bool], *, within_s: float = 60, what: Callable[[], str] = lambda: "it took too long"
) -> None:
    """Wait until a condition holds; fail with `what` where it takes longer."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def interrupt(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to a command that still runs."""
    assert process.poll() is None, "the command ended before it was interrupted"
    process.send_signal(number)
