"""Servers that commands provide are used, destroyed whatever happens, and their connection strings never told."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replcheck.config.model import CommandBackup
from replcheck.drill.backups.command import CommandSource
from replcheck.drill.room import FolderRoom
from replcheck.drill.scratch import MARKER, Scratch, make_scratch, remove_scratch
from replcheck.drill.stages import Stages
from replcheck.errors import DrillBlocked, DrillError, Interrupted
from replcheck.events import Event
from replcheck.lab.cluster import LabCluster
from replcheck.model.drill import Stage, Target, TargetKind
from replcheck.postgres.processes import is_alive
from tests.commands import run_command, started, wait_for
from tests.staged import until

SECRET = "hush-hush-7"
LATEST = Target(kind=TargetKind.LATEST, text="latest")


class Commands:
    """A provision and a destroy command, written as scripts, and what they left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.root = folder / "scratch"
        self.scratch = make_scratch(self.root, run_id="run-1", backup="cloud", account=None)

    def source(self, provision: str, destroy: str = "", **keys: str) -> CommandSource:
        before = "import os, sys, time, pathlib\nhere = pathlib.Path(__file__).parent\n"
        for name, script in (("provision", provision), ("destroy", destroy or DESTROY)):
            (self.folder / f"{name}.py").write_text(before + script)
        section = CommandBackup(
            kind="command",
            provision=(sys.executable, str(self.folder / "provision.py")),
            destroy=(sys.executable, str(self.folder / "destroy.py"), "an argument; with $HOME"),
            **keys,
        )
        return CommandSource(name="cloud", section=section)

    def restore(self, source: CommandSource, obey=lambda: None):
        copy = source.copies()[0]
        source.requirements(copy, LATEST)
        return source.restore(copy, LATEST, self.scratch, Stages(self.events.append, obey=obey))

    def destroyed(self) -> str:
        path = self.folder / "destroyed"
        return path.read_text() if path.exists() else ""


DESTROY = """
told = [os.environ["REPLCHECK_RUN_ID"], os.environ.get("REPLCHECK_DSN", "none"), sys.argv[1]]
(here / "destroyed").write_text(" ".join(told))
"""


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    made = Commands(tmp_path)
    yield made
    marker = made.scratch.directory / MARKER
    assert SECRET not in repr(made.events) + (marker.read_text() if marker.exists() else "")


def test_a_server_is_provided_used_and_destroyed(commands, cluster: LabCluster):
    dsn = f"{cluster.primary.dsn()} password={SECRET}"
    told = "['run-1', 'cloud', 'latest', 'latest']"
    source = commands.source(
        "names = ('RUN_ID', 'BACKUP', 'TARGET', 'TARGET_KIND')\n"
        f"assert str([os.environ['REPLCHECK_' + name] for name in names]) == {told!r}\n"
        f"print('working on it')\nprint({dsn!r})\nprint()\n"
    )
    restored = commands.restore(source)
    assert restored.dsn == dsn
    assert (restored.server, restored.databases) == (None, None)
    assert SECRET not in restored.where + repr(source.copies())
    assert [event.stage for event in commands.events if hasattr(event, "ok")] == [Stage.RESTORE, Stage.OPEN]
    assert commands.destroyed() == ""
    source.release(restored)
    assert commands.destroyed() == f"run-1 {dsn} an argument; with $HOME"
    (commands.folder / "destroyed").unlink()
    source.release(restored)
    assert commands.destroyed() == "", "it was destroyed twice"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (f"print('host={SECRET}')\nsys.exit(3)", "provision_failed"),
        ("pass", "provision_failed"),
        (f"print('not a connection string {SECRET}')", "provision_failed"),
        (f"print('host=/nonexistent password={SECRET}')", "provision_failed"),
        ("time.sleep(60)", "provision_failed"),
        ("os.kill(os.getpid(), 9)", "provision_failed"),
    ],
)
def test_what_was_half_provided_is_destroyed_and_the_reason_told(commands, script, code):
    source = commands.source(script, timeout="2s")
    with pytest.raises(DrillBlocked) as blocked:
        commands.restore(source)
    assert blocked.value.code == code
    assert SECRET not in blocked.value.message + blocked.value.hint
    source.release(None)
    assert commands.destroyed().startswith("run-1 ")


def test_an_interrupt_ends_the_command_with_its_children_and_destroys(commands):
    source = commands.source(
        "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n"
        "(here / 'child').write_text(str(child.pid))\ntime.sleep(60)"
    )

    def obey() -> None:
        if (commands.folder / "child").exists():
            raise Interrupted("stopped")

    began = time.monotonic()
    with pytest.raises(Interrupted):
        commands.restore(source, obey)
    source.release(None)
    assert time.monotonic() - began < 30
    child = int((commands.folder / "child").read_text())
    assert not Path(f"/proc/{child}").exists() or "\nState:\tZ" in Path(f"/proc/{child}/status").read_text()
    assert commands.destroyed() == "run-1 none an argument; with $HOME"


def test_a_server_that_may_be_left_is_told_loudly(commands):
    source = commands.source("print('host=/nonexistent')", destroy=f"print('{SECRET}', file=sys.stderr)\nsys.exit(1)")
    with pytest.raises(DrillBlocked):
        commands.restore(source)
    with pytest.raises(DrillError, match="may still be there") as left:
        source.release(None)
    assert left.value.code == "destroy_failed"
    assert SECRET not in left.value.message + left.value.hint


def test_nothing_is_provided_that_could_not_be_destroyed(commands):
    source = commands.source("(here / 'provided').touch()")
    section = source.section.model_copy(update={"destroy": ("/nonexistent/destroy",)})
    source = CommandSource(name="cloud", section=section)
    with pytest.raises(DrillBlocked, match="/nonexistent/destroy"):
        commands.restore(source)
    assert not (commands.folder / "provided").exists()
    source.release(None)


def test_a_command_that_says_much_does_not_stand_still(commands):
    source = commands.source("print('x' * 5_000_000)\nprint('nonsense', flush=True)")
    done = threading.Timer(30, lambda: pytest.fail("it stood still"))
    done.start()
    try:
        with pytest.raises(DrillBlocked):
            commands.restore(source)
    finally:
        done.cancel()


def killed(commands: Commands) -> None:
    """Make the scratch directory look like that of a drill that is gone."""
    marker = commands.scratch.directory / MARKER
    data = json.loads(marker.read_text())
    data["created_by"]["started_at"] -= 1
    marker.write_text(json.dumps(data))


@pytest.mark.parametrize("handed", [True, False])
def test_what_a_killed_drill_had_provided_is_destroyed_by_the_next(commands, handed):
    script = f"print('host=/nonexistent port=5433 password={SECRET}')" if handed else "sys.exit(1)"
    source = commands.source(script)
    with pytest.raises(DrillBlocked):
        commands.restore(source)
    room, sections = FolderRoom(root=commands.root), {"cloud": source.section}
    assert room.destroy(sections) == [], "a drill at work was taken for a killed one"
    assert commands.destroyed() == ""
    killed(commands)
    assert room.clean() == [], "what is needed to destroy it was removed"
    assert room.destroy(sections) == []
    told = "host=/nonexistent port=5433" if handed else "none"
    assert commands.destroyed() == f"run-1 {told} an argument; with $HOME"
    assert room.clean() == [commands.scratch.directory]


def test_what_cannot_be_destroyed_is_told_again_until_it_is_gone(commands):
    source = commands.source(f"print('host=/nonexistent port=5433 password={SECRET}')", destroy="sys.exit(1)")
    with pytest.raises(DrillBlocked):
        commands.restore(source)
    killed(commands)
    room = FolderRoom(root=commands.root)
    other = source.section.model_copy(update={"destroy": ("/bin/true",)})
    for sections in ({}, {"cloud": other}, {"another": source.section}, {"cloud": source.section}):
        [left] = room.destroy(sections)
        assert (
            "the server at /nonexistent:5433 that drill run-1 had provided for backup cloud may still be there" in left
        )
        assert "REPLCHECK_RUN_ID=run-1" in left
        assert SECRET not in left
    assert room.clean(kept=True) == []


def test_a_drill_whose_destroy_command_fails_leaves_what_the_next_one_needs(commands):
    source = commands.source("print('host=/nonexistent')", destroy="sys.exit(1)")
    with pytest.raises(DrillBlocked):
        commands.restore(source)
    with pytest.raises(DrillError):
        source.release(None)
    with pytest.raises(DrillBlocked, match="is left"):
        remove_scratch(commands.scratch)
    assert (commands.scratch.directory / MARKER).exists()


def test_a_command_that_a_killed_drill_left_at_work_is_ended_before_the_server_is_destroyed(commands, tmp_path):
    source = commands.source("(here / 'pid').write_text(str(os.getpid()))\ntime.sleep(60)")
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.drill.test_command_backups import run_and_wait\n"
        "run_and_wait(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    words = [sys.executable, "-c", script, str(commands.folder), str(commands.scratch.directory)]
    with subprocess.Popen(words, cwd=Path(__file__).parents[2]) as drill:
        until((commands.folder / "pid").exists, "the command is at work")
        drill.kill()
    left = int((commands.folder / "pid").read_text())
    assert is_alive(left)
    killed(commands)
    assert FolderRoom(root=commands.root).destroy({"cloud": source.section}) == []
    assert not is_alive(left)
    assert commands.destroyed() == "run-1 none an argument; with $HOME"


def run_and_wait(folder: Path, scratch: Path) -> None:
    """Provide a server in a process that is meant to be killed."""
    section = CommandBackup(
        kind="command",
        provision=(sys.executable, str(folder / "provision.py")),
        destroy=(sys.executable, str(folder / "destroy.py"), "an argument; with $HOME"),
    )
    source = CommandSource(name="cloud", section=section)
    made = Scratch(directory=scratch, account=None, run_id="run-1")
    source.restore(source.copies()[0], LATEST, made, Stages(lambda _: None))


@pytest.mark.parametrize("words", [("--clean",), ("--quiet",)], ids=["by clean", "by the next drill"])
def test_what_a_command_that_was_killed_had_asked_for_is_destroyed(tmp_path: Path, scratch_root: Path, words):
    provision, destroy = tmp_path / "provision", tmp_path / "destroy"
    begun = tmp_path / "begun"
    provision.write_text(f'#!/bin/sh\n[ -s {begun} ] && exit 1\necho "$REPLCHECK_RUN_ID" > {begun}\nsleep 60\n')
    destroy.write_text(f'#!/bin/sh\necho "$REPLCHECK_RUN_ID" >> {tmp_path}/destroyed\n')
    for script in (provision, destroy):
        script.chmod(0o755)
    (tmp_path / "cloud.toml").write_text(
        'cluster = "clinic"\n[nodes]\ndb1 = { dsn = "host=/nonexistent/1" }\n'
        f'[backups.cloud]\nkind = "command"\nprovision = ["{provision}"]\ndestroy = ["{destroy}"]\n'
        f'[drill]\nscratch = "{scratch_root}"\n'
    )
    drill = ("drill", "--config", "cloud.toml")
    with started(*drill, home=tmp_path) as process:
        wait_for(lambda: begun.exists() and begun.read_text().endswith("\n"))
        process.kill()
        process.wait()
    ended = run_command(*drill, *words, home=tmp_path)
    assert ended.status == (0 if "--clean" in words else 3), ended
    [killed_run, *_] = (tmp_path / "destroyed").read_text().splitlines()
    assert killed_run == begun.read_text().strip()
    assert not scratch_root.exists()
