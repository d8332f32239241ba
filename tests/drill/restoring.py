"""Restore a base backup in a process that is meant to be killed, saying where it has come.

Called with the backup, its WAL archive, the folder for scratch directories and the stage to stand still in.
"""

import sys
import time
from pathlib import Path

from replcheck.drill import scratch
from replcheck.drill.stages import Stages
from replcheck.drill.targets import parse_target
from replcheck.events import Event, StageBegan, StageEnded
from replcheck.postgres.programs import server_account
from tests.drill.physicals import base_source


def main(backup: str, wal: str, root: str, stage: str) -> None:
    def stand_still(event: Event) -> None:
        began = isinstance(event, StageBegan) and event.stage.value == stage
        if began or (isinstance(event, StageEnded) and event.stage.value == stage):
            sys.stdout.write(f"{type(event).__name__}\n")
            sys.stdout.flush()
            time.sleep(0.3)

    source = base_source(Path(backup), Path(wal))
    made = scratch.make_scratch(Path(root), run_id="killed", backup="test", account=server_account())
    source.restore(source.copies()[0], parse_target("latest"), made, Stages(stand_still))
    sys.stdout.write("done\n")
    sys.stdout.flush()
    time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
