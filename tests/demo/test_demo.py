"""`replcheck demo` on real servers: it shows what it promises, and leaves nothing behind however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replcheck.lab.cluster import remove, remove_root
from replcheck.lab.state import find_states
from replcheck.postgres import processes
from tests import labs

SOURCE = Path(__file__).parents[2] / "src"
ENDS_WITHIN_S = 270
"""On a machine that does much else beside the tests."""


class Demo:
    """A running demo in a session of its own, as a service manager or a terminal starts it."""

    def __init__(self, root: Path, *options: str, cwd: Path) -> None:
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(SOURCE), "LANG": "C.UTF-8", "PGSERVICE": "nowhere"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "replcheck", "demo", "--dir", str(root), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=cwd,
            env=environment,
        )

    def read_until(self, beginning: str) -> None:
        """Read the story until a line begins so."""
        assert self.process.stdout is not None
        assert any(line.startswith(beginning) for line in self.process.stdout)

    def close(self) -> None:
        """End it where a test did not."""
        if self.process.poll() is None:
            self.process.terminate()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        self.process.wait(timeout=ENDS_WITHIN_S)

    def end(self) -> tuple[int, str, str]:
        """Wait for its end and return status, what is left of the story, and standard error."""
        story, errors = self.process.communicate(timeout=ENDS_WITHIN_S)
        return self.process.returncode, story, errors


@pytest.fixture
def root(clusters_root: Path) -> Iterator[Path]:
    """A folder of clusters of the test's own, which does not exist yet."""
    folder = clusters_root.with_name(f"{clusters_root.name}-demo-{os.getpid()}")
    assert not folder.exists()
    yield folder
    left = [entry.name for entry in folder.rglob("*")] if folder.exists() else []
    for state in find_states(folder):
        remove(state)
    remove_root(folder)
    assert left == []
    assert servers_below(folder) == []


@pytest.fixture
def start(root: Path, tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """A function that starts a demo with options, in an empty folder."""
    demos: list[Demo] = []

    def started(*options: str) -> Demo:
        demos.append(Demo(root, *options, cwd=tmp_path))
        return demos[-1]

    yield started
    for demo in demos:
        demo.close()


def servers_below(folder: Path) -> list[int]:
    """Return the processes whose working directory lies in the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and processes.is_alive(int(entry.name)):
            try:
                works_in = (entry / "cwd").readlink()
            except OSError:
                continue
            found += [int(entry.name)] if works_in.is_relative_to(folder) else []
    return found


@pytest.mark.parametrize(
    "major", [labs.majors()[0], *(pytest.param(n, marks=pytest.mark.long) for n in labs.majors()[1:])]
)
def test_the_demo_shows_what_it_promises(start, tmp_path, major):
    demo = start("--major", str(major))
    status, story, errors = demo.end()
    assert (status, errors) == (0, ""), story + errors
    words = " ".join(story.split())
    assert "CONSISTENT standby1 and standby2 are consistent copies of primary" in words
    assert "DIVERGED standby" in words
    assert "RESTORED backup nightly was restored, and every row" in words
    assert "FAILED backup nightly-damaged of nightly failed its drill" in words
    assert "AS PROMISED" in words
    assert [line for line in story.splitlines() if len(line) > 80 and "SELECT" not in line] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("beginning", "number"),
    [
        ("1. ", signal.SIGINT),
        pytest.param("2. ", signal.SIGTERM, marks=pytest.mark.long),
        ("3. ", signal.SIGTERM),
        pytest.param("4. ", signal.SIGHUP, marks=pytest.mark.long),
        pytest.param("5. ", signal.SIGINT, marks=pytest.mark.long),
        pytest.param("7. ", signal.SIGINT, marks=pytest.mark.long),
        pytest.param("8. ", signal.SIGTERM, marks=pytest.mark.long),
    ],
)
def test_a_signal_ends_the_demo_and_removes_everything(start, beginning, number):
    demo = start()
    demo.read_until(beginning)
    os.killpg(demo.process.pid, number)
    status, story, errors = demo.end()
    assert status == 3
    assert f"the demo was ended by {number.name}" in errors
    assert "Traceback" not in errors
    assert "AS PROMISED" not in story


def test_a_killed_demo_is_removed_by_the_next(root, start):
    demo = start()
    demo.read_until("2. ")
    demo.process.kill()
    demo.end()
    assert [state.name for state in find_states(root)] == [f"demo_{demo.process.pid}"]
    assert servers_below(root) != []
    following = start()
    following.read_until("1. ")
    os.killpg(following.process.pid, signal.SIGTERM)
    assert following.end()[0] == 3


def test_a_reader_that_goes_away_ends_the_demo(start):
    demo = start()
    demo.read_until("1. ")
    assert demo.process.stdout is not None
    demo.process.stdout.close()
    assert demo.process.wait(timeout=ENDS_WITHIN_S) == 3
    assert demo.process.stderr is not None
    assert "nobody reads the story any more" in demo.process.stderr.read()


@pytest.mark.long
def test_a_kept_demo_can_be_played_with_and_removed(root, start, tmp_path):
    demo = start("--keep")
    status, story, errors = demo.end()
    assert (status, errors) == (0, ""), story + errors
    down = next(line for line in story.splitlines() if "lab down" in line)
    assert [state.name for state in find_states(root)] == ["demo"]
    assert servers_below(root) != []
    subprocess.run([sys.executable, "-m", *down.split()], check=True, env={"PYTHONPATH": str(SOURCE)}, cwd=tmp_path)


def test_without_server_programs_one_line_says_what_to_do(tmp_path):
    code = (
        "import replcheck.postgres.programs as programs; programs.available_programs = lambda: ();"
        "from replcheck.cli import main; raise SystemExit(main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SOURCE), "XDG_STATE_HOME": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "replcheck: error: no server programs of PostgreSQL were found",
        "hint: Install them with: pip install 'replcheck[lab]'.",
    ]
