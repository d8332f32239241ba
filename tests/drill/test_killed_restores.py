"""A restore that is killed leaves the backup as it was, and the next one removes all that it had made."""

import subprocess
import sys
from pathlib import Path

import pytest

from replcheck.drill import scratch
from replcheck.drill.scratch import Scratch
from replcheck.model.drill import Stage
from replcheck.postgres import processes
from replcheck.postgres.programs import server_account
from tests.commands import wait_for
from tests.drill.physicals import Place, contents

STAGES = [Stage.FETCH, Stage.RESTORE, Stage.RECOVER, Stage.OPEN]


@pytest.mark.parametrize(
    ("stage", "ended"),
    [
        pytest.param(stage, ended, marks=[] if stage is Stage.RECOVER and ended else [pytest.mark.long])
        for stage in STAGES
        for ended in (False, True)
    ],
)
def test_a_killed_restore_is_cleaned_up_and_the_backup_is_untouched(
    place: Place, scratch_root: Path, stage: Stage, ended: bool
):
    backup = place.folder / "plain"
    before, archived = contents(backup), contents(place.wal)
    words = [str(backup), str(place.wal), str(scratch_root), stage.value]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.drill.restoring", *words],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": "src:.", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:
        assert process.stdout is not None
        said = "StageEnded" if ended else "StageBegan"
        while process.stdout.readline().strip() != said:
            assert process.poll() is None
        assert scratch.remove_abandoned(scratch_root) == [], "a restore that goes on was taken for abandoned"
        process.kill()
    made = Scratch(directory=scratch_root / "drill-killed", account=server_account(), run_id="killed")
    assert made.directory.is_dir()
    if stage in (Stage.RECOVER, Stage.OPEN) and ended:
        assert processes.processes_in(made.data_dir)
    assert scratch.remove_abandoned(scratch_root) == [made.directory]
    wait_for(lambda: not processes.processes_in(made.data_dir), within_s=5)
    scratch.remove_root(scratch_root)
    assert not scratch_root.exists()
    assert contents(backup) == before
    assert contents(place.wal).items() >= archived.items()
