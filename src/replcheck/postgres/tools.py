"""Run a program beside us while somebody watches: a long one is ended where the watcher raises.

What it says is kept apart from what it returns; callers pick known sentences from it and show nothing else.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from replcheck.errors import ProgramError
from replcheck.postgres.programs import Account, process_options

_FIRST_POLL_S = 0.005
_LAST_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended."""

    status: int
    """Negative for a signal."""
    out: str
    err: str


def run_watched(
    command: Sequence[str],
    *,
    account: Account | None = None,
    folder: Path = Path("/"),
    watch: Callable[[], None] = lambda: None,
    callers_environment: bool = False,
) -> Ended:
    """Run a program to its end in a clean environment, calling `watch` now and then; what it raises ends the program.

    `callers_environment` is for the user's own commands, which may need its PATH and credentials; it is without PG*.
    Raise ProgramError where it cannot be started.
    """
    options = process_options(account) | {"cwd": folder}
    if callers_environment:
        options["env"] = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    with TemporaryFile() as out, TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                list(command),
                **options,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except OSError as exc:
            raise ProgramError(f"{Path(command[0]).name} cannot be run: {exc.strerror}") from exc
        try:
            status = _wait(process, watch)
        finally:
            _end_group(process)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", errors="replace"))
    return Ended(status=status, out=texts[0], err=texts[1])


def _wait(process: "subprocess.Popen[bytes]", watch: Callable[[], None]) -> int:
    poll_s = _FIRST_POLL_S
    while (status := process.poll()) is None:
        watch()
        time.sleep(poll_s)
        poll_s = min(poll_s * 1.5, _LAST_POLL_S)
    return status


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a program and what it started; does nothing where it has ended."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
