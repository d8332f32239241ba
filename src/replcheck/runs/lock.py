"""One audit of a cluster at a time, on one machine: a lock that the system itself releases when its holder is gone."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replcheck.errors import UsageError


@contextmanager
def only_run(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file while the block runs; raise UsageError where another process holds it.

    Where the file cannot be created there is no lock: a lock saves load on the servers, no verdict rests on it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{what} is already running", hint="Wait for it to end, or give this one another store with --no-store."
            ) from error
        except OSError:
            pass  # the file system has no locks
        yield
    finally:
        os.close(descriptor)
