"""Commands of the user's that provide and destroy a restored server: run to their end, never through a shell.

They get the caller's whole environment, since they need its credentials. What they print may hold secrets: nothing of
it is kept but the last line of standard output, and that is never shown.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from replcheck.errors import ProgramError
from replcheck.postgres.processes import ProcessState, wait_gone

_POLL_S = 0.05
_GRACE_S = 10.0
"""How long a command that is to end may clean up after itself."""
_TAIL_BYTES = 64 * 1024


def find_command(argv: Sequence[str]) -> Path:
    """Return the path of a command's program; raise ProgramError where it is not there or must not be run."""
    found = shutil.which(argv[0])
    if found is None:
        raise ProgramError(
            f"command {argv[0]} is not found, or is no program",
            hint="Name it with its whole path, and make it executable.",
        )
    return Path(found)


def run_command(
    argv: Sequence[str],
    *,
    variables: Mapping[str, str],
    timeout_s: float,
    obey: Callable[[], None] = lambda: None,
    begun: Callable[[ProcessState | None], None] = lambda _: None,
) -> str:
    """Run a command to its end and return the last line of its standard output that is not blank, or "".

    `variables` are added to the environment. `obey` is called some times a second and may raise; the command and all
    its children are ended then, as after `timeout_s` seconds. `begun` is told of the process, None where it is gone
    already. Raise ProgramError where it cannot be run, takes too long or ends with another status than 0.
    """
    with TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                [str(find_command(argv)), *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **variables},
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "an argument holds a zero byte"
            raise ProgramError(f"command {argv[0]} cannot be run: {reason}") from exc
        try:
            begun(ProcessState.of(process.pid, "command"))
            status = _waited(process, time.monotonic() + timeout_s, obey)
        except BaseException:
            _end(process)
            raise
        if status is None:
            _end(process)
            raise ProgramError(f"command {argv[0]} took longer than {timeout_s:g} s and was ended")
        if status != 0:
            raise ProgramError(
                f"command {argv[0]} ended with status {status}"
                if status > 0
                else f"command {argv[0]} was ended by signal {-status}",
                hint="Run it by hand to see what it says: that may hold secrets, so it is not shown here.",
            )
        return _last_line(said)


def _waited(process: "subprocess.Popen[bytes]", deadline: float, obey: Callable[[], None]) -> int | None:
    """Return the exit status, None where the deadline passed first."""
    while True:
        try:
            return process.wait(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            obey()
            if time.monotonic() > deadline:
                return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a command's whole session: first politely, so that it can clean up."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        # The group lives on while a child does, also after the command itself; until it is reaped its number is its.
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            break
        try:
            process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def end_command(process: ProcessState) -> None:
    """End a command of an earlier process of ours with its session: politely first, so that it can clean up."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not process.alive:
            return
        with suppress(ProcessLookupError, PermissionError):
            # It leads a session, and so a group, of its own.
            os.killpg(process.pid, number)
        wait_gone(process.pid, timeout_s=_GRACE_S)


def _last_line(said: IO[bytes]) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _TAIL_BYTES))
    lines = [line.strip() for line in said.read().decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")
