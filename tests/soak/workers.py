"""A worker of the soak: a process that plays one history after the other and tells of each audit."""

import faulthandler
import multiprocessing
import os
import signal
import tempfile
import traceback
from pathlib import Path
from typing import Any

from replcheck.errors import ReplcheckError
from tests import labs
from tests.soak import leftovers
from tests.soak.histories import CutShort, play
from tests.soak.plans import plan_history

_HANGS_S = 1500.0
"""An audit that takes longer, with all around it and at the gentlest pace too, is taken to hang: its process tells its
stacks and ends."""


def work(root: Path, replay: tuple[int, int | None] | None, following: Any, told: Any, stop: Any) -> None:
    """Play one history after the other; the target of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    parent, pid = multiprocessing.parent_process(), os.getpid()
    complaints = leftovers.Complaints()
    complaints.install()

    def stopping() -> bool:
        return bool(stop.is_set()) or parent is None or not parent.is_alive()

    def begun(name: str) -> None:
        faulthandler.dump_traceback_later(_HANGS_S, exit=True)
        told.put(("begun", pid, name))

    with tempfile.TemporaryDirectory(prefix="replcheck-soak-") as folder:
        tempfile.tempdir = folder
        while not stopping():
            faulthandler.dump_traceback_later(_HANGS_S, exit=True)
            seed, only = replay or (_drawn(following), None)
            try:
                left = play(
                    plan_history(seed, labs.majors()),
                    root,
                    begun=begun,
                    told=lambda record: told.put(("audit", pid, record)),
                    stopping=stopping,
                    complaints=complaints,
                    only=only,
                )
                left += leftovers.in_folder(Path(folder))
                if left:
                    told.put(("failed", pid, f"left behind: {left}"))
            except (CutShort, ReplcheckError) as error:
                told.put(("failed", pid, f"history {seed} was cut short: {leftovers.error_of(error)}"))
            except Exception:  # noqa: BLE001 - the other histories are played all the same
                told.put(("failed", pid, f"history {seed} failed: {traceback.format_exc()}"))
            faulthandler.cancel_dump_traceback_later()
            if replay is not None:
                break
        tempfile.tempdir = None
    told.put(("ended", pid, None))


def _drawn(following: Any) -> int:
    with following.get_lock():
        seed: int = following.value
        following.value += 1
    return seed
