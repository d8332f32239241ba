"""A PostgreSQL server of ours on this machine: made, started, stopped, killed, promoted.

A server is a folder that holds its data directory, its whole configuration and its log; the handle keeps no state of
its own. It listens on a Unix socket only, unless told otherwise. Before a process is signalled it is shown to be the
postmaster of that very data directory, or one of its children.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from replcheck.errors import ProgramError
from replcheck.postgres import local, processes
from replcheck.postgres.local import Statement
from replcheck.postgres.programs import Account, Programs, process_options, run_program

StopMode = Literal["smart", "fast", "immediate"]

SUPERUSER = "postgres"
SOCKET_PATH_LIMIT = 107
"""Bytes of a Unix socket's path, without the ending zero (unix(7), sun_path)."""

_STOP_SIGNALS: Mapping[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_STATUS_LINE = 7
"""Index of the line of postmaster.pid that says how far the start has come (PostgreSQL pidfile.h)."""
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalServer:
    """One server of ours; every duration is in seconds."""

    name: str
    programs: Programs
    account: Account | None
    """Whom it runs as, None for the caller."""
    directory: Path
    """Holds `data`, `postgresql.conf`, `pg_hba.conf` and `server.log`; made by `prepare`."""
    socket_dir: Path
    port: int
    superuser: str = SUPERUSER
    """The role that `execute` uses; another one where the data directory was not made by us."""
    log_stays: bool = True
    """Whether what the server said is still there once a message about it is read."""
    options: str = ""
    """Options of every connection, as in PGOPTIONS: they win over what is set for a role or a database."""

    @property
    def data_dir(self) -> Path:
        """Return the data directory."""
        return self.directory / "data"

    @property
    def log_file(self) -> Path:
        """Return the file with everything the server said."""
        return self.directory / "server.log"

    @property
    def settings_file(self) -> Path:
        """Return the server's main configuration file; the one in the data directory is not read."""
        return self.directory / "postgresql.conf"

    @property
    def is_standby(self) -> bool:
        """Return whether the data directory is that of a standby: a promotion removes the sign (standby.signal)."""
        return (self.data_dir / "standby.signal").exists()

    @property
    def pid(self) -> int | None:
        """Return the process id of the running postmaster, None where there is none."""
        lines = self._pid_file()
        if not lines or not lines[0].strip().isdigit():
            return None
        pid = int(lines[0])
        return pid if processes.is_postmaster(pid, self.data_dir) else None

    @property
    def running(self) -> bool:
        """Return whether the postmaster is running, ready or not."""
        return self.pid is not None

    @property
    def ready(self) -> bool:
        """Return whether it accepts connections, as it says itself."""
        lines = self._pid_file()
        return len(lines) > _STATUS_LINE and lines[_STATUS_LINE].strip() == "ready" and self.running

    @property
    def address(self) -> str:
        """Return the words of a libpq connection string that say where the server listens."""
        return f"host={libpq_quoted(str(self.socket_dir))} port={self.port}"

    def dsn(self, dbname: str = "postgres", user: str | None = None) -> str:
        """Return a libpq connection string for the socket, without a password; the superuser by default."""
        words = f"{self.address} dbname={libpq_quoted(dbname)} user={libpq_quoted(user or self.superuser)}"
        return f"{words} options={libpq_quoted(self.options)}" if self.options else words

    def execute(
        self, statement: Statement, params: Sequence[Any] = (), dbname: str = "postgres"
    ) -> list[tuple[Any, ...]]:
        """Run one statement as superuser, committed at once, and return its rows."""
        return local.execute(self.dsn(dbname), statement, params, node=self.name)

    def with_superuser(self, name: str) -> "LocalServer":
        """Return the same server, spoken to by another role."""
        return replace(self, superuser=name)

    def prepare(self, *, settings: Mapping[str, str], access: str) -> None:
        """Make the server's folder with its configuration; the data directory comes from `initialize` or `copy_from`.

        `access` is the whole pg_hba.conf. Raise ProgramError where the socket's path would be too long.
        """
        socket = self.socket_dir / f".s.PGSQL.{self.port}"
        if len(os.fsencode(socket)) > SOCKET_PATH_LIMIT:
            raise ProgramError(
                f"the socket path {socket} is longer than {SOCKET_PATH_LIMIT} bytes",
                hint="Choose a folder with a shorter path.",
            )
        make_private_folder(self.directory, self.account)
        self._write(self.directory / "pg_hba.conf", access)
        self._write(self.log_file, "")
        self._write_settings({**self._own_settings(), **settings})

    def follow(self, source: "LocalServer", *, slot: str | None = None) -> None:
        """Make the data directory that of a standby which streams from another server of ours."""
        self._write(self.data_dir / "standby.signal", "")
        conninfo = f"{source.dsn()} application_name={self.name}"
        self.configure(primary_conninfo=conninfo, primary_slot_name=slot or "")

    def settings(self) -> dict[str, str]:
        """Return the settings of the configuration file, as text."""
        lines = (line.partition(" = ") for line in self.settings_file.read_text("utf-8").splitlines())
        return {name: _conf_unquoted(value) for name, _, value in lines}

    def configure(self, **settings: str | None) -> None:
        """Change settings in the configuration file, None takes one out; effective after `reload` or `restart`."""
        merged = self.settings() | settings
        self._write_settings({name: value for name, value in merged.items() if value is not None})

    def write_data_file(self, name: str, text: str) -> None:
        """Write a file of the data directory, owned by the account; a link of that name is never followed."""
        self._write(self.data_dir / name, text)

    def clear_log(self) -> None:
        """Forget what the server has said so far; it must not be running."""
        self._write(self.log_file, "")

    def initialize(self, *, checksums: bool) -> None:
        """Make a new, empty data directory in encoding UTF8 and locale C."""
        initialize_data(self.programs, self.data_dir, account=self.account, checksums=checksums)

    def copy_from(self, source: "LocalServer", *, slot: str | None = None) -> None:
        """Make the data directory by a base backup of a running server, and `slot` on it where one is named.

        The slot is made first and keeps WAL from then on: otherwise the checkpoint of another backup that starts at
        the same time removes the WAL that this one is about to fetch.
        """
        arguments = ["--pgdata", str(self.data_dir), "--dbname", source.dsn(), "--checkpoint", "fast"]
        arguments += ["--no-sync", "--no-manifest"]
        if slot is not None:
            source.execute("select pg_create_physical_replication_slot(%s, true)", [slot])
            arguments += ["--slot", slot]
        run_program(self.programs, "pg_basebackup", arguments, account=self.account, timeout_s=600)

    def start(self, *, timeout_s: float = 60, until_ready: bool = True) -> None:
        """Start the server and wait until it accepts connections, or only runs where `until_ready` is False.

        Does nothing where it runs already. Raise ProgramError where it ends or does not come up in time.
        """
        pid = self.pid or self._launch()
        deadline = time.monotonic() + timeout_s
        while not (self.ready if until_ready else self.running):
            if not processes.is_alive(pid):
                raise ProgramError(
                    f"server {self.name} ended while it was starting{self._last_words()}", hint=self._log_hint()
                )
            if time.monotonic() > deadline:
                raise ProgramError(f"server {self.name} was not ready after {timeout_s:g} s", hint=self._log_hint())
            time.sleep(_POLL_S)

    def stop(self, mode: StopMode = "fast", *, timeout_s: float = 60) -> None:
        """Stop the server and wait for its end; does nothing where it does not run."""
        pid = self.signal(_STOP_SIGNALS[mode])
        if pid is not None and not processes.wait_gone(pid, timeout_s=timeout_s):
            raise ProgramError(f"server {self.name} had not stopped after {timeout_s:g} s", hint=self._log_hint())

    def kill(self) -> None:
        """End the postmaster and all its children with SIGKILL, as an out-of-memory killer or a power cut would."""
        processes.kill_all_in(self.data_dir)

    def freeze(self) -> None:
        """Stop all its processes where they are, as a machine does that hangs: it stays reachable and says nothing."""
        processes.signal_all_in(self.data_dir, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let its processes go on after `freeze`."""
        processes.signal_all_in(self.data_dir, signal.SIGCONT)

    def freeze_backend(self, pid: int) -> None:
        """Stop one process of the server where it is; `thaw` lets it go on."""
        processes.signal_one_in(self.data_dir, pid, signal.SIGSTOP)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start the server."""
        self.stop(mode)
        self.start()

    def reload(self) -> None:
        """Have a running server read its configuration again; returns before it has."""
        self.signal(signal.SIGHUP)

    def promote(self, *, timeout_s: float = 60) -> None:
        """Make a standby a primary of its own and wait until it takes writes."""
        self.execute("select pg_promote(wait => false)")
        deadline = time.monotonic() + timeout_s
        while self.execute("select pg_is_in_recovery()") != [(False,)]:
            if time.monotonic() > deadline:
                raise ProgramError(f"server {self.name} was not promoted after {timeout_s:g} s", hint=self._log_hint())
            time.sleep(_POLL_S)

    def signal(self, number: signal.Signals) -> int | None:
        """Send a signal to the postmaster and return its process id, None where it does not run."""
        pid = self.pid
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return None
        return pid

    def _launch(self) -> int:
        """Start the postmaster in a session of its own, detached from us, and return its process id."""
        self._remove_zombie_locks()
        command = [str(self.programs.path("postgres")), "-D", str(self.data_dir)]
        command += ["-c", f"config_file={self.settings_file}"]
        try:
            with self.log_file.open("ab") as log:
                done = subprocess.run(
                    ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *command],
                    **process_options(self.account),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                    check=True,
                    text=True,
                )
        except (OSError, subprocess.CalledProcessError) as exc:
            raise ProgramError(f"server {self.name} cannot be started", hint=self._log_hint()) from exc
        return int(done.stdout)

    def _remove_zombie_locks(self) -> None:
        """Remove the lock files of a killed server where its postmaster is a zombie that nobody has reaped.

        PostgreSQL takes a zombie for a running server (miscinit.c, CreateLockFile), and in a container whose first
        process reaps nobody it would stay one.
        """
        if processes.processes_in(self.data_dir):
            return
        processes.remove_shared_memory(self.data_dir)
        socket_lock = self.socket_dir / f".s.PGSQL.{self.port}.lock"
        for lock in (self.data_dir / "postmaster.pid", socket_lock):
            first = next(iter(_lines(lock)), "").strip()
            if first.isdigit() and processes.process_state(int(first)) and not processes.is_alive(int(first)):
                lock.unlink()

    def _own_settings(self) -> dict[str, str]:
        return {
            "data_directory": str(self.data_dir),
            "hba_file": str(self.directory / "pg_hba.conf"),
            "ident_file": os.devnull,
            "listen_addresses": "",
            "port": str(self.port),
            "unix_socket_directories": _list_quoted(str(self.socket_dir)),
            "unix_socket_permissions": "0700",
            "cluster_name": self.name,
            "logging_collector": "off",
            "log_line_prefix": "%m [%p] %b ",
            "log_timezone": "UTC",
            "timezone": "UTC",
            "lc_messages": "C",
            "dynamic_shared_memory_type": "mmap",
        }

    def _write_settings(self, settings: Mapping[str, str]) -> None:
        lines = (f"{name} = {_conf_quoted(value)}\n" for name, value in settings.items())
        self._write(self.settings_file, "".join(lines))

    def _write(self, path: Path, text: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if self.account is not None:
                os.fchown(file.fileno(), self.account.uid, self.account.gid)

    def _pid_file(self) -> list[str]:
        return _lines(self.data_dir / "postmaster.pid")

    def _last_words(self) -> str:
        """Return why the server did not start, to be put behind a message; empty where it did not say."""
        fatal = [line for line in _lines(self.log_file) if " FATAL: " in line]
        return f": {fatal[-1].partition('FATAL: ')[2].strip()}" if fatal else ""

    def _log_hint(self) -> str:
        if not self.log_stays:
            return "Look whether this machine has memory, disk space and processes to spare for one more server."
        return f"See the end of {self.log_file}."


def _lines(path: Path) -> list[str]:
    """Return the lines of a file that comes and goes, none where it is not there."""
    try:
        return path.read_text("utf-8").splitlines()
    except OSError:
        return []


def initialize_data(programs: Programs, data_dir: Path, *, account: Account | None, checksums: bool) -> None:
    """Run initdb: encoding UTF8, locale C, no synchronization to disk."""
    arguments = ["--pgdata", str(data_dir), "--username", SUPERUSER, "--encoding", "UTF8", "--locale", "C"]
    arguments += ["--auth", "reject", "--no-sync", "--no-instructions"]
    if checksums:
        arguments.append("--data-checksums")
    elif programs.major >= 18:
        arguments.append("--no-data-checksums")
    run_program(programs, "initdb", arguments, account=account, timeout_s=120)


def make_private_folder(path: Path, account: Account | None) -> None:
    """Make a folder that only the account (and root) can enter."""
    path.mkdir(mode=0o700)
    if account is not None:
        os.chown(path, account.uid, account.gid)


def libpq_quoted(value: str) -> str:
    r"""Return a value as libpq wants it in a connection string (PostgreSQL manual, Connection Strings).

    >>> print(libpq_quoted("a b"), libpq_quoted("plain"), libpq_quoted("it's"))
    'a b' plain 'it\'s'
    """
    if value and not any(character in " '\\" for character in value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _conf_quoted(value: str) -> str:
    r"""Return a value as a configuration file wants it: quotes are doubled, and backslashes, which escape there too.

    >>> print(_conf_quoted(r"it's a \ "))
    'it''s a \\ '
    >>> _conf_unquoted(_conf_quoted(r"it's a \ ")) == r"it's a \ "
    True
    """
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _conf_unquoted(value: str) -> str:
    return value[1:-1].replace("''", "'").replace("\\\\", "\\")


def _list_quoted(value: str) -> str:
    """Return one member of a list setting, in double quotes, so that a comma or blank in it does not split it."""
    return '"' + value.replace('"', '""') + '"'
