"""Remove a scratch directory in a process that is meant to be killed half-way: it stands still at a file.

Called with the scratch directory and the number of files to remove before.
"""

import os
import sys
import time
from itertools import count
from pathlib import Path

from replcheck.drill.scratch import Scratch, remove_scratch
from replcheck.postgres.programs import server_account


def main(directory: str, files: str) -> None:
    unlink, removed = os.unlink, count()

    def stand_still(*arguments: object, **options: object) -> None:
        if next(removed) == int(files):
            sys.stdout.write("half-way\n")
            sys.stdout.flush()
            time.sleep(60)
        unlink(*arguments, **options)  # type: ignore[arg-type]

    os.unlink = stand_still
    remove_scratch(Scratch(directory=Path(directory), account=server_account(), run_id="killed"))


if __name__ == "__main__":
    main(*sys.argv[1:])
