"""The sample for cron: the shell that cron starts runs its command, with a monitor's address and without one."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[2] / "sample_configs" / "replcheck-check.cron"
FOLDER = "/etc/replcheck"
SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]


def _settings() -> dict[str, str]:
    text = SAMPLE.read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))


def _command() -> str:
    """Return what cron gives to the shell: the line without its five fields of time and the account."""
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    [line] = [line for line in lines if re.match(r"[\d*]", line)]
    *_, account, command = line.split(maxsplit=6)
    assert account == "replcheck"
    assert "%" not in command, "cron takes it for the end of the line"
    return command


def _ran(shell: str, home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command as cron does, with a program that tells how it was started in replcheck's place."""
    program = home / "replcheck"
    program.write_text('#!/bin/sh\necho "$*"\necho "address: $REPLCHECK_PING_URL"\n')
    program.chmod(0o700)
    words = [shell, *options, "-c", _command().replace(FOLDER, str(home))]
    settings = _settings() | {"PATH": f"{home}:/usr/bin:/bin"}
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=settings)


def test_cron_starts_the_shell_that_the_command_is_written_for():
    assert _settings()["SHELL"] == "/bin/sh"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_finds_nothing_wrong_with_the_command(shell, tmp_path):
    assert _ran(shell, tmp_path, "-n").stderr == ""


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("content", "address"),
    [(None, ""), ("", ""), ("REPLCHECK_PING_URL=https://monitor.example/ab\n", "https://monitor.example/ab")],
    ids=["no file", "empty file", "file"],
)
def test_a_check_runs_whether_or_not_there_is_a_monitor(shell, content, address, tmp_path):
    if content is not None:
        (tmp_path / "clinic.env").write_text(content)
    ended = _ran(shell, tmp_path)
    checked, told = ended.stdout.splitlines() or ["", ""]
    assert (ended.returncode, ended.stderr) == (0, "")
    assert checked.startswith(f"check --config {tmp_path}/clinic.toml ")
    assert told == f"address: {address}"


def test_the_unit_of_a_check_needs_no_file_for_a_monitor_either():
    unit = SAMPLE.with_suffix(".service").read_text(encoding="utf-8")
    assert "\nEnvironmentFile=-/etc/replcheck/%i.env\n" in unit
