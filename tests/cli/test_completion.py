"""What the shell completes: asked of a real bash that has read what `--show-completion` prints."""

import os
import resource
import shutil
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.commands import COMMAND, environment, run_command
from tests.core.test_history import write
from tests.factories import consistent

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash on this machine")

_ASK = """
source ./completion.bash
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
_replcheck_completion "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""
_NAMED = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
"""Has Typer take the shell's name from the command line: what runs the tests need be no shell that it knows."""
SECRET = "zqcanary"
CONFIGURATION = f"""
cluster = "clinic"
connect = "password={SECRET}"
[nodes]
db1 = {{ dsn = "host=a password={SECRET}" }}
db2 = {{ dsn = "host=b" }}
west = {{ dsn = "host=c" }}
[backups.nightly]
kind = "base"
path = "/backups"
[backups.dumps]
kind = "command"
provision = ["/restore", "--token={SECRET}"]
destroy = ["/destroy"]
[output]
store = "clinic.db"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the command on the path, a configuration and a history of two runs."""
    folder = tmp_path_factory.mktemp("completing")
    command = folder / "replcheck"
    command.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    (folder / "replcheck.toml").write_text(CONFIGURATION)
    now = datetime.now(UTC)
    for days in (2, 1):
        write(folder / "clinic.db", consistent(), at=now - timedelta(days=days))
    shown = run_command("--show-completion", "bash", home=folder, **_NAMED)
    assert shown.status == 0, shown
    (folder / "completion.bash").write_text(shown.out)
    return folder


def completed(home, *words):
    """Return what bash offers for the last of the words."""
    variables = environment(home) | {"PATH": f"{home}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", _ASK, "bash", "replcheck", *words],
        cwd=home,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert SECRET not in done.stdout
    return done.stdout.split()


def run_ids(home):
    from replcheck.store import open_reader

    return [run_id[:13] for run_id in open_reader(home / "clinic.db").ids("")]


def test_commands_options_and_choices_are_completed(home):
    assert completed(home, "aud") == ["audit"]
    assert {"audit", "history", "report", "schema"} <= set(completed(home, ""))
    assert completed(home, "audit", "--pri") == ["--primary"]
    assert completed(home, "audit", "--level", "") == ["fast", "exact", "strong"]
    assert completed(home, "schema", "con") == ["config"]


def test_configured_nodes_are_completed(home):
    assert completed(home, "audit", "--primary", "") == ["db1", "db2", "west"]
    assert completed(home, "audit", "--primary", "db1", "--replica", "db") == ["db1", "db2"]


def test_runs_are_completed_newest_first(home):
    newest, oldest = run_ids(home)
    assert newest > oldest
    assert completed(home, "report", "") == ["latest", newest, oldest]
    assert completed(home, "history", "show", newest[:9]) == [newest]
    assert completed(home, "report", "--store", "clinic.db", "la") == ["latest"]


@pytest.mark.parametrize(
    "words",
    [
        ("audit", "--config", "none.toml", "--primary", ""),
        ("audit", "--config", "completion.bash", "--primary", ""),
        ("audit", "--primary", f"host=a password='{SECRET}", "--replica", "host"),
        ("report", "--store", "none.db", "0"),
        ("report", "--store", "completion.bash", "0"),
        ("schema", "nothing"),
    ],
)
def test_what_cannot_be_known_is_left_out_in_silence(home, words):
    assert completed(home, *words) == []


def test_what_is_always_right_is_offered_even_then(home):
    assert completed(home, "report", "--store", "none.db", "l") == ["latest"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(home, shell):
    shown = run_command("--show-completion", shell, home=home, **_NAMED)
    assert shown.status == 0
    assert "_REPLCHECK_COMPLETE" in shown.out


def test_a_shell_that_is_not_known_ends_with_3(home):
    assert run_command("--show-completion", "cmd", home=home, **_NAMED).status == 3


def test_fish_is_told_by_the_status_whether_there_is_anything(home):
    """Fish asks twice: whether there are arguments at all (else it completes files), then which."""

    def asked(typed, action):
        variables = {"_REPLCHECK_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": typed}
        return run_command(home=home, **variables, _TYPER_COMPLETE_FISH_ACTION=action)

    assert asked("replcheck report l", "is-args").status == 0
    assert asked("replcheck audit --output x", "is-args").status == 1
    assert asked("replcheck report l", "get-args").out.split() == ["latest"]


def test_completion_is_installed_for_a_shell(home, tmp_path):
    done = run_command("--install-completion", "bash", home=tmp_path, **_NAMED)
    assert done.status == 0, done
    profile = (tmp_path / ".bashrc").read_text()
    [script] = [word.strip("'") for word in profile.split() if "replcheck" in word]
    assert (tmp_path / ".bashrc").exists()
    assert "_replcheck_completion" in Path(script).read_text()


def test_help_is_quick(tmp_path):
    """In a quarter of a second of the processor's time, as the best of several runs: other work on it is no fault."""
    taken = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run_command("--help", home=tmp_path, PYTHONDONTWRITEBYTECODE="").status == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) < 0.25


def test_configured_backups_and_layers_of_proof_are_completed(home):
    assert set(completed(home, "drill", "")) >= {"nightly", "dumps"}
    assert completed(home, "drill", "ni") == ["nightly"]
    assert completed(home, "drill", "--require", "ch") == ["checksums"]
    assert set(completed(home, "drill", "--layer", "")) >= {"seal", "primary", "completeness"}
