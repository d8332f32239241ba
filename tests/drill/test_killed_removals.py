"""A removal of a scratch directory that is killed is finished by the next drill."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from replcheck.drill import scratch
from replcheck.postgres.programs import server_account


@pytest.mark.parametrize("files", [0, 1, 500])
def test_a_removal_that_is_killed_is_finished_by_the_next_drill(scratch_root: Path, files: int):
    account = server_account()
    made = scratch.make_scratch(scratch_root, run_id="killed", backup="test", account=account)
    (made.directory / "server").mkdir(exist_ok=True)
    for number in range(1000):
        (made.directory / "server" / f"file{number}").touch()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.drill.removing", str(made.directory), str(files)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": "src:.", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half-way\n"
        process.kill()
    assert made.directory.is_dir()
    marker = made.directory / scratch.MARKER
    data = json.loads(marker.read_text())
    data["created_by"]["started_at"] -= 1
    marker.write_text(json.dumps(data))
    assert scratch.remove_abandoned(scratch_root) == [made.directory]
    scratch.remove_root(scratch_root)
    assert not scratch_root.exists()
