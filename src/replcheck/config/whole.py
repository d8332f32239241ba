"""Reads small files whole, whatever they are, and no more of them than such files ever hold.

A device or a pipe that never ends, named by mistake, must not fill the memory; a pipe that ends is as good as a file.
"""

import errno
import os
from pathlib import Path

MOST_BYTES = 16 << 20
"""Beyond any configuration, key or head that people or programs write."""


def read_whole(path: Path, *, most_bytes: int = MOST_BYTES) -> bytes:
    """Return what a file holds; raise OSError where it cannot be read, EFBIG where it holds more than `most_bytes`."""
    with path.open("rb") as file:
        found = file.read(most_bytes + 1)
    if len(found) > most_bytes:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return found
