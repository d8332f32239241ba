"""Files that are there whole, and lastingly, or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def lasting_file(path: Path) -> Iterator[BinaryIO]:
    """Give the block a file for its owner alone, which stands under its name once the block is done.

    It is on the disk by then, and so is its name. Raises OSError where it cannot be written, and leaves nothing behind
    where that or the block fails.
    """
    making = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        making.rename(path)
    except BaseException:
        making.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
