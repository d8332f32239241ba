"""Read compressed files through the programs that made them: gzip, lz4 and zstd, by the ending of the name."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from replcheck.errors import ProgramError
from replcheck.postgres.programs import process_options

COMPRESSIONS = {".gz": "gzip", ".lz4": "lz4", ".zst": "zstd"}
"""Endings of names, and the program for each."""


class DamagedFile(Exception):
    """A compressed file ends early or holds something else; no value of it is in the message."""


def without_compression(name: str) -> str:
    """Return a file's name without the ending of its compression.

    >>> without_compression("base.tar.gz"), without_compression("base.tar")
    ('base.tar', 'base.tar')
    """
    ending = Path(name).suffix
    return name.removesuffix(ending) if ending in COMPRESSIONS else name


def require_decompressor(path: Path) -> None:
    """Raise ProgramError where the program that reads a file is not installed."""
    name = COMPRESSIONS.get(path.suffix)
    if name is not None and shutil.which(name, path=process_options(None)["env"]["PATH"]) is None:
        raise ProgramError(
            f"program {name} is missing, which reads {path.name}", hint=f"Install {name} (Debian: apt install {name})."
        )


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, uncompressed on the way; the body must read it to its end.

    Raise DamagedFile at the end where the program found it damaged, OSError where it cannot be opened, ProgramError
    where the program is missing.
    """
    name = COMPRESSIONS.get(path.suffix)
    with path.open("rb") as file:
        if name is None:
            yield file
            return
        require_decompressor(path)
        with subprocess.Popen(
            [name, "-dc"], **process_options(None), stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None  # noqa: S101
            try:
                yield process.stdout
                rest = process.stdout.read(1)
            except BaseException:
                process.kill()
                raise
            if rest:
                # The reader stopped before the end on purpose.
                process.kill()
            elif process.wait() != 0:
                raise DamagedFile(f"{name} cannot read it to its end")
