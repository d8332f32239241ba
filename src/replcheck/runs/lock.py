"""Who is auditing or drilling with one history on this machine: locks that the system releases with their holder.

An audit of a configured cluster holds the lock alone, those of spelled-out nodes share it, and whoever reads the
history asks whether anybody holds it. Where the file cannot be created there is no lock: a lock saves load on the
servers, no verdict rests on it.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replcheck.errors import AlreadyRunning

_PATIENCE_S = 0.5
"""How long a lock is tried for: somebody who only asks whether it is held has it for a moment."""


def lock_file(store: Path, kind: str = "audit") -> Path:
    """Return the lock of a history's runs of one kind: audits, drills and seals do not get in each other's way."""
    return store.with_name(f"{store.name}.{kind}.lock")


@contextmanager
def only_run(path: Path, what: str) -> Iterator[None]:
    """Hold the lock alone while the block runs; raise AlreadyRunning where another process holds it."""
    with _opened(path) as descriptor:
        if descriptor is not None and not _locked(descriptor, fcntl.LOCK_EX):
            raise AlreadyRunning(
                f"{what} is already running",
                hint="Wait for it to end, or have this one keep no record with --no-store.",
            )
        yield


@contextmanager
def one_of_several_runs(path: Path) -> Iterator[None]:
    """Hold the lock together with others while the block runs."""
    with _opened(path) as descriptor:
        if descriptor is not None:
            _locked(descriptor, fcntl.LOCK_SH)
        yield


def is_held(path: Path) -> bool:
    """Return whether any run holds the lock; False where that cannot be asked."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    else:
        return False
    finally:
        os.close(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int, how: int) -> bool:
    """Return whether nobody else kept the lock from us; a file system without locks lets everybody in."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        except OSError:
            return True
        else:
            return True
