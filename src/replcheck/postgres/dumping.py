"""Run pg_dump under a snapshot that a session of ours holds.

It connects with the caller's own environment, so that it finds the password file and certificates that the session
found. A password of the connection string goes by its environment, never by its arguments, which everybody can list.
Of what it says only known sentences are passed on, and of these the kind and name of the object that was refused: the
rest can quote values.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from replcheck.errors import ProgramError, UsageError
from replcheck.model.names import printable
from replcheck.postgres import dsn as dsn_words
from replcheck.postgres.programs import available_programs

_VERSION = re.compile(r"\(PostgreSQL\) ((\d+)[.\w]*)")
_FORMATS: Mapping[str, str] = {"custom": "c", "directory": "d", "tar": "t", "plain": "p"}
_POLL_S = 0.1
_SAID_BYTES = 64 * 1024
_DENIED = re.compile(
    r"ERROR:  permission denied for (?P<kind>table|view|materialized view|sequence|schema|function|large object|foreign"
    r" server|foreign table|type) (?P<name>.+)$",
    re.MULTILINE,
)
_HIDDEN = re.compile(r'ERROR:  query would be affected by row-level security policy for table "(?P<name>[^"\n]+)"')
_RIGHT = {"schema": "USAGE", "type": "USAGE", "foreign server": "USAGE", "function": "EXECUTE"}
_KNOWN = (
    (
        "canceling statement due to lock timeout",
        "had to wait for a lock for too long (SQLSTATE 55P03)",
        "Seal again when no table is being redefined.",
    ),
    ("No space left on device", "found no room for the dump", "Name a place with more room with --dump."),
    (
        "server version mismatch",
        "is older than the server",
        "Name the folder of newer programs under drill.programs.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpProgram:
    """A pg_dump that was found."""

    path: Path
    major: int
    version: str


def find_dump_program(major: int, folders: Mapping[str, str]) -> DumpProgram:
    """Return a pg_dump for a server of that major version: of the same, else of the next newer one.

    `folders` are those that the user named, by major version. Raises ProgramError where there is none.
    """
    candidates = [Path(folders[str(major)]) / "pg_dump"] if str(major) in folders else []
    candidates += [programs.bindir / "pg_dump" for programs in available_programs()]
    if on_path := shutil.which("pg_dump"):
        candidates.append(Path(on_path))
    found = [program for path in candidates if (program := _identified(path)) is not None and program.major >= major]
    if not found:
        raise ProgramError(
            f"no pg_dump for PostgreSQL {major} was found",
            hint=f"Install the client programs of PostgreSQL {major}, or name their folder under drill.programs.",
        )
    return min(found, key=lambda program: program.major)


def _identified(path: Path) -> DumpProgram | None:
    try:
        done = subprocess.run([str(path), "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stdout)
    return DumpProgram(path=path, major=int(match[2]), version=match[1]) if match else None


def dump(
    program: DumpProgram,
    dsn: str,
    *,
    database: str,
    snapshot: str,
    file: Path,
    format_: str,
    obey: Callable[[], None],
) -> None:
    """Dump a database under an exported snapshot into the place that `claim_place` made.

    `obey` is called while it runs, and what it raises ends it. Raises ProgramError where pg_dump fails. What was
    written by then is left to the caller, who made the place.
    """
    words = dsn_words.parse(dsn) | {"dbname": database}
    open_words, secret = dsn_words.words_without_secrets(words)
    if set(secret) - {"password"}:
        raise UsageError(
            f"pg_dump cannot be given {', '.join(sorted(set(secret) - {'password'}))} without showing it to everybody",
            hint="Use a key without a password, or the password file.",
        )
    environment = dict(os.environ) | {"LC_ALL": "C", "PGAPPNAME": "replcheck dump"}
    if "password" in secret:
        environment["PGPASSWORD"] = words["password"]
    arguments = [str(program.path), "--dbname", dsn_words.written(open_words), "--snapshot", snapshot, "--no-password"]
    arguments += ["--format", _FORMATS[format_], "--file", str(file), "--lock-wait-timeout", "10s"]
    try:
        with TemporaryFile() as said:
            process = subprocess.Popen(
                arguments,
                env=environment,
                umask=0o077,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
            status = _ended(process, obey)
            said.seek(0)
            told = said.read(_SAID_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise ProgramError(f"pg_dump cannot be run: {(error.strerror or 'unknown error').lower()}") from error
    if status != 0:
        raise dump_failure(status, told)


def _ended(process: "subprocess.Popen[bytes]", obey: Callable[[], None]) -> int:
    """Wait for the end of pg_dump and return its status; what `obey` raises ends it."""
    try:
        while process.poll() is None:
            obey()
            time.sleep(_POLL_S)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return process.returncode


def dump_failure(status: int, said: str) -> ProgramError:
    """Return why pg_dump failed, as far as a known sentence tells (PostgreSQL source, aclchk.c and rls.c)."""
    if denied := _DENIED.search(said):
        kind, name = denied["kind"], printable(denied["name"])
        more = "; pg_read_all_data covers none, README has the statement for all" if kind == "large object" else ""
        grant = f"GRANT {_RIGHT.get(kind, 'SELECT')} ON {kind.upper()} {name} TO ..."
        return ProgramError(
            f"pg_dump may not read {kind} {name} (SQLSTATE 42501)",
            hint=f"Grant it to the role that seals: {grant}{more}.",
        )
    if hidden := _HIDDEN.search(said):
        return ProgramError(
            f"pg_dump cannot read all rows of table {printable(hidden['name'])}: row-level security hides some from the"
            " role (SQLSTATE 42501)",
            hint="Let the role that seals see them, as a superuser: ALTER ROLE ... BYPASSRLS.",
        )
    for words, message, hint in _KNOWN:
        if words in said:
            return ProgramError(f"pg_dump {message}", hint=hint)
    return ProgramError(
        f"pg_dump ended with status {status}; what it said is not shown, since it may quote rows",
        hint="Run pg_dump by hand with the same role: a missing privilege on a table or large object is likely.",
    )


def claim_place(file: Path, format_: str) -> None:
    """Make the empty file, or folder, that a dump goes into, for its owner alone; raise UsageError where one is there.

    Whoever made it may remove it again: between a look and the first byte somebody else may have begun a dump there.
    """
    try:
        if format_ == "directory":
            file.mkdir(mode=0o700)
        else:
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        raise UsageError(f"{file} exists already", hint="Name a new file or folder with --dump.") from error
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise UsageError(f"cannot write a dump to {file}: {reason}") from error


def remove_dump(file: Path) -> None:
    """Remove a dump in a place that `claim_place` made for the caller; never raises for what is not there."""
    if file.is_dir():
        shutil.rmtree(file, ignore_errors=True)
    else:
        file.unlink(missing_ok=True)
