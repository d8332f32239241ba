"""A first evening with the lab, as its user types it: a cluster, its load, the screen, and a server that is killed."""

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.test_watch_screen import on_terminal
from tests.commands import run_command, wait_for

Lab = Callable[..., str]


@pytest.fixture
def lab(clusters_root: Path, tmp_path: Path) -> Iterator[Lab]:
    """Run `replcheck lab` on a cluster of the test's own, and return what it says; the cluster is gone afterwards."""

    def run(*words: str) -> str:
        name = f"evening_{os.getpid()}"
        ended = run_command("lab", *words, "--dir", str(clusters_root), "--name", name, home=tmp_path)
        assert ended.status == 0, ended
        return ended.out

    yield run
    run("down")


def watch_words(told: str) -> list[str]:
    """Return the words with which a cluster is to be watched, as `lab up` has told them."""
    line = next(line for line in told.splitlines() if line.startswith("watch it:"))
    return shlex.split(line.partition(":")[2])[1:]


def test_a_lab_server_that_is_killed_under_load_is_seen_on_the_screen_and_found_again(lab: Lab, tmp_path: Path) -> None:
    words = watch_words(lab("up", "--patients", "100"))
    lab("load", "--background", "--rate", "20")
    with on_terminal(*words, "--interval", "0.3s", home=tmp_path) as terminal:
        wait_for(lambda: terminal.shows("standby2") and terminal.shows("streaming"))
        terminal.type("2")
        wait_for(lambda: terminal.shows("a Audit now"))
        terminal.type("a")
        wait_for(lambda: terminal.shows("is compared with primary"))
        terminal.type("y")
        wait_for(lambda: terminal.shows("✔ proven"))
        terminal.type("1")
        lab("break", "kill-server", "--node", "standby1")
        wait_for(lambda: terminal.shows("✘ lost") and terminal.shows("standby standby1 is lost"))
        lab("heal")
        wait_for(lambda: terminal.shows("standby1 answers again"))
        terminal.type("q")
        assert terminal.process.wait(60) == 0
    events = run_command("history", "events", *words[1:], home=tmp_path)
    assert (events.status, events.err) == (0, "")
    assert [line for line in events.out.splitlines() if "standby standby1 is lost" in line]
    runs = run_command("history", *words[1:], home=tmp_path)
    assert [line for line in runs.out.splitlines() if "audit" in line and "consistent" in line], runs
