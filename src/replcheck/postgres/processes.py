"""Processes of our servers, as /proc shows them: who is the postmaster of a data directory, and is it gone.

Nothing is signalled whose working directory is not that data directory: every process of a PostgreSQL server works
there (PostgreSQL miscinit.c, ChangeToDataDir), and nobody else does.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ctypes import CDLL, c_int, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from replcheck.errors import ProgramError

_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """A process of ours that runs in the background; pid and start time together name one process for good."""

    pid: int
    started_at: int
    """Clock ticks since boot."""
    what: str

    @classmethod
    def of(cls, pid: int, what: str) -> Self | None:
        """Describe a process, None where it is gone."""
        ticks = started_at(pid)
        return None if ticks is None else cls(pid=pid, started_at=ticks, what=what)

    @property
    def alive(self) -> bool:
        """Return whether this very process still runs."""
        return is_alive(self.pid) and started_at(self.pid) == self.started_at


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    return process_state(pid) not in (None, "Z", "X")


def process_state(pid: int) -> str | None:
    """Return the state letter of a process as in proc(5), None where there is no such process."""
    fields = _stat_fields(pid)
    return fields[0] if fields else None


def started_at(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot: with the pid it names one process for good."""
    fields = _stat_fields(pid)
    return int(fields[19]) if fields else None


def is_postmaster(pid: int, data_dir: Path) -> bool:
    """Return whether a process is the postmaster of a data directory: its command and its working directory say so."""
    return is_alive(pid) and _works_in(pid, data_dir) and Path(_command(pid)).name == "postgres"


def processes_in(data_dir: Path) -> list[int]:
    """Return the live server processes whose working directory is a data directory."""
    return [pid for pid in _all_pids() if _works_in(pid, data_dir) and _is_server(pid) and is_alive(pid)]


def wait_gone(pid: int, *, timeout_s: float) -> bool:
    """Wait until a process has ended; return False where it lives on after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def start_detached(command: Sequence[str], log_file: Path) -> int:
    """Start a program of ours that outlives us, in a session of its own, and return its process id.

    Everything it says goes to the end of `log_file`. It keeps the caller's environment and folder.
    """
    with log_file.open("ab") as log:
        done = subprocess.run(
            ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            check=True,
            text=True,
        )
    return int(done.stdout)


def end(pid: int, *, timeout_s: float = 15) -> None:
    """Ask a process of ours to end, and kill it where it has not after `timeout_s` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        if wait_gone(pid, timeout_s=timeout_s):
            return


def kill_all_in(data_dir: Path, *, timeout_s: float = 30) -> None:
    """Send SIGKILL to every server process of a data directory until none is left; raise ProgramError on timeout."""
    deadline = time.monotonic() + timeout_s
    while pids := processes_in(data_dir):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise ProgramError(f"processes of {data_dir} do not end", hint=f"Look at process {pids[0]}.")
        time.sleep(_POLL_S)


def signal_all_in(data_dir: Path, number: signal.Signals) -> None:
    """Send a signal to every server process of a data directory."""
    for pid in processes_in(data_dir):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def signal_one_in(data_dir: Path, pid: int, number: signal.Signals) -> None:
    """Send a signal to one process, if it is a server process of a data directory."""
    if pid in processes_in(data_dir):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def remove_shared_memory(data_dir: Path) -> None:
    """Remove the shared memory segment that a killed server left, unless anything is attached to it.

    Its key and id stand in postmaster.pid (PostgreSQL pidfile.h); both must match the kernel's list.
    """
    try:
        key, segment = (data_dir / "postmaster.pid").read_text("utf-8").splitlines()[6].split()
        listed = [line.split() for line in Path("/proc/sysvipc/shm").read_text("utf-8").splitlines()[1:]]
    except (OSError, ValueError, IndexError):
        return
    owner = data_dir.stat().st_uid
    for fields in listed:
        same = fields[1] == segment and int(fields[0]) & 0xFFFFFFFF == int(key) & 0xFFFFFFFF
        if same and fields[6] == "0" and int(fields[7]) == owner:
            CDLL(None).shmctl(c_int(int(segment)), c_int(0), c_void_p())


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/pid/stat from the state on; the command before them may hold blanks and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _all_pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _works_in(pid: int, data_dir: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == data_dir.resolve()
    except OSError:
        return False


def _is_server(pid: int) -> bool:
    """Return whether a process is a postmaster or a child of one, which titles itself `postgres: ...`."""
    command = _command(pid)
    return command.startswith("postgres:") or Path(command).name == "postgres"


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", errors="replace").partition("\0")[0]
    except OSError:
        return ""
