"""The sample units of systemd: what they start is a command that replcheck takes, and systemd finds nothing wrong."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import assert_one_line, run_here

SAMPLES = Path(__file__).parents[2] / "sample_configs"
SERVICES = sorted(SAMPLES.glob("*.service"))
INSTALLED = "/usr/local/bin/replcheck"


def test_there_are_units_for_the_recorder_and_for_checks():
    assert [path.stem for path in SERVICES] == ["replcheck-check", "replcheck-watch"]


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_the_command_of_a_unit_is_one_that_replcheck_takes(path, tmp_path, monkeypatch, capfd) -> None:
    """It comes as far as the configuration, which is not there: no option was refused before."""
    [line] = [line for line in path.read_text().splitlines() if line.startswith("ExecStart=")]
    program, *words = shlex.split(line.removeprefix("ExecStart=").replace("%i", "clinic"))
    assert program == INSTALLED
    words = [word.replace("/etc/replcheck", str(tmp_path)) for word in words]
    message = assert_one_line(run_here(*words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd))
    assert f"cannot read configuration {tmp_path}/clinic.toml" in message


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path) -> None:
    units = []
    for path in sorted([*SERVICES, *SAMPLES.glob("*.timer")]):
        unit = tmp_path / path.name.replace(".", "@clinic.", 1)
        # What is verified too is whether the program is there, which it need not be here.
        unit.write_text(path.read_text().replace(INSTALLED, sys.executable))
        units.append(str(unit))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False, timeout=60
    )
    told = [line for line in (done.stdout + done.stderr).splitlines() if str(tmp_path) in line]
    assert (done.returncode, told) == (0, [])
