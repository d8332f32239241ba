"""pg_restore: what an archive holds, and its restore into a database.

Its standard error quotes rows; it is read here, and leaves as RestoreError only.
"""

import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from replcheck.errors import ProgramError
from replcheck.postgres.programs import Programs, process_options
from replcheck.postgres.restore_errors import RestoreError, read_complaints

_LINE = re.compile(r"^(?P<id>\d+); \d+ \d+ (?P<what>.*)$")
_DATA = ("TABLE DATA ",)
_EXTENSION = re.compile(r"^EXTENSION - (?P<name>\S+) ")
_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOfContents:
    """What an archive says it holds."""

    entries: tuple[tuple[int, str], ...]
    """Number, and kind with name and owner."""

    @property
    def data_entries(self) -> frozenset[int]:
        """Return the numbers of the entries that have data of a table."""
        return frozenset(number for number, what in self.entries if what.startswith(_DATA))

    @property
    def extensions(self) -> tuple[str, ...]:
        """Return the names of the extensions that it makes."""
        matches = (_EXTENSION.match(what) for _, what in self.entries)
        return tuple(sorted(match["name"] for match in matches if match))

    @property
    def names(self) -> frozenset[str]:
        """Return what the entries are called."""
        return frozenset(what for _, what in self.entries)

    def has(self, kind: str) -> bool:
        """Return whether there is an entry of a kind, for instance `SERVER`."""
        return any(what.startswith(f"{kind} ") for _, what in self.entries)


def read_contents(programs: Programs, path: Path) -> TableOfContents | tuple[RestoreError, ...]:
    """Return an archive's table of contents, or what kept pg_restore from reading it. Raises ProgramError."""
    text, errors = _read(programs, ["--list", str(path)])
    if errors:
        return errors
    matches = (_LINE.match(line) for line in text.splitlines())
    return TableOfContents(entries=tuple((int(match["id"]), match["what"]) for match in matches if match))


def read_schema(programs: Programs, path: Path) -> str | tuple[RestoreError, ...]:
    """Return the statements of an archive without its data, with the one that makes the database.

    Raises ProgramError.
    """
    text, errors = _read(programs, ["--schema-only", "--create", "--file=-", str(path)])
    return errors or text


def restore_archive(
    programs: Programs,
    path: Path,
    dsn: str,
    *,
    entries: frozenset[str],
    options: Sequence[str],
    variables: Mapping[str, str],
    obey: Callable[[], None],
) -> tuple[RestoreError, ...]:
    """Restore an archive into the database of a connection string; return what failed, nothing where all went well.

    It goes on after what fails. `entries` are those of its table of contents, `options` are pg_restore's, `variables`
    libpq's. `obey` is called some times a second and may raise; pg_restore is ended then. Raises ProgramError where it
    cannot be run, or fails without saying why.
    """
    arguments = ["--no-password", "--no-subscriptions", "--no-tablespaces", "--no-security-labels", *options]
    with TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                [str(programs.path("pg_restore")), *arguments, f"--dbname={dsn}", str(path)],
                **_options(variables),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
        except OSError as exc:
            raise ProgramError(f"pg_restore cannot be run: {exc.strerror}") from exc
        try:
            while process.poll() is None:
                obey()
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        said.seek(0)
        lines = (line.decode("utf-8", "replace").rstrip("\n") for line in said)
        errors = tuple(read_complaints(lines, entries=entries))
    if process.returncode != 0 and not errors:
        raise ProgramError(f"pg_restore ended with status {process.returncode}")
    return errors


def _read(programs: Programs, arguments: Sequence[str]) -> tuple[str, tuple[RestoreError, ...]]:
    try:
        done = subprocess.run(
            [str(programs.path("pg_restore")), *arguments],
            **_options({}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=600,
        )
    except subprocess.TimeoutExpired as exc:
        raise ProgramError("pg_restore took longer than 10 min to read a table of contents") from exc
    except OSError as exc:
        raise ProgramError(f"pg_restore cannot be run: {exc.strerror}") from exc
    text = done.stdout.decode("utf-8", "surrogateescape")
    if done.returncode == 0:
        return text, ()
    errors = tuple(read_complaints(done.stderr.decode("utf-8", "replace").splitlines(), entries=frozenset()))
    if not errors:
        raise ProgramError(f"pg_restore ended with status {done.returncode}")
    return "", errors


def _options(variables: Mapping[str, str]) -> dict[str, Any]:
    options = process_options(None)
    return options | {"env": {**options["env"], **variables}}
