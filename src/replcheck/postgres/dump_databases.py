"""Databases that dumps are restored into: on a scratch server of ours, or on a server of the user's, marked as ours.

A database on a server of the user's has a new name, and a comment that names the run and the process which made it; no
database is ever dropped whose comment does not.
"""

import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from replcheck.errors import DrillBlocked, NodeError, ProgramError, StatementFailed
from replcheck.postgres import dsn as connection_strings
from replcheck.postgres import local, processes
from replcheck.postgres.local import LocalConnection, sql

PREFIX = "replcheck_drill_"
PLACEHOLDER = "placeholder of replcheck: the backup names this role and does not hold it"
"""The comment of a role that was made because a dump names it."""
FALLBACK_LOCALES = ("C.UTF-8", "C")

_DROP_ATTEMPTS = 4
_IN_USE = "55006"
_NOT_ALLOWED = "42501"
_MARK = re.compile(
    r"replcheck drill (?P<run>[\w-]+) host=(?P<host>\S*) machine=(?P<machine>\S*) boot=(?P<boot>\S*)"
    r" pids=(?P<pids>\S*) pid=(?P<pid>\d+) started=(?P<started>\d+)(?P<kept> kept)?"
)
_OPTION = re.compile(r"(?P<key>[A-Z_]+) = (?P<value>'(?:[^']|'')*'|\w+)")
_LOCALE_WORDS = frozenset(
    {"LOCALE_PROVIDER", "LOCALE", "LC_COLLATE", "LC_CTYPE", "ICU_LOCALE", "ICU_RULES", "BUILTIN_LOCALE"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Encoding and locale of a database, as the statement that makes it says."""

    encoding: str
    """Empty for that of the server."""
    dbname: str = ""
    """As the statement calls it; empty where there is none."""
    options: tuple[tuple[str, str], ...] = ()
    """Words of CREATE DATABASE about the locale, with their values."""


def shape_of(statements: str, *, encoding: str) -> Shape:
    """Return the shape of a dump's database from its CREATE DATABASE, if there is one; `encoding` is that of the dump.

    >>> shape_of("CREATE DATABASE a WITH ENCODING = 'LATIN1' LOCALE = 'C';", encoding="UTF8")
    Shape(encoding='LATIN1', dbname='a', options=(('LOCALE', 'C'),))
    """
    start = statements.find("CREATE DATABASE ")
    if start < 0:
        return Shape(encoding=encoding)
    statement = statements[start : statements.find(";\n", start) + 1] or statements[start:]
    found = {match["key"]: match["value"].strip("'").replace("''", "'") for match in _OPTION.finditer(statement)}
    options = tuple((key, value) for key, value in found.items() if key in _LOCALE_WORDS)
    name = statement.removeprefix("CREATE DATABASE ").partition(" WITH ")[0]
    dbname = name[1:-1].replace('""', '"') if name.startswith('"') else name
    return Shape(encoding=found.get("ENCODING", encoding), dbname=dbname, options=options)


def create_database(
    dsn: str, name: str, shape: Shape, *, mark: str | None = None, lc_monetary: str | None = None
) -> str:
    """Create a database and return the locale that took the place of one that is missing here, "" where none did.

    With `mark` it is marked as ours, and nobody else may connect. `lc_monetary` is the locale by which values of type
    money were written; one that is missing here is left alone. Raises DrillBlocked.
    """
    with _connected(dsn) as connection:
        if connection.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", [name]).fetchone():
            raise DrillBlocked(
                f'there is a database "{name}" already, which this drill did not create', code="not_empty"
            )
        replaced = _create(connection, name, shape)
        if lc_monetary is not None:
            _set_monetary(connection, name, lc_monetary)
        if mark is not None:
            statement = sql.SQL("COMMENT ON DATABASE {} IS {}")
            connection.execute(statement.format(sql.Identifier(name), sql.Literal(mark)))
            connection.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
        return replaced


def mark_of(run_id: str) -> str:
    """Return the comment of a database that this process creates for a run."""
    pid = os.getpid()
    here = Machine.here()
    return (
        f"replcheck drill {run_id} host={here.host} machine={here.machine} boot={here.boot} pids={here.pids}"
        f" pid={pid} started={processes.started_at(pid) or 0}"
    )


def drop_database(dsn: str, name: str, *, run_id: str) -> None:
    """Drop the database of a run; does nothing where it is gone. Raises DrillBlocked where it is not ours, or stays."""
    try:
        with _connected(dsn) as connection:
            mark = _mark(connection, name)
            if mark is None:
                return
            if mark["run"] != run_id:
                raise DrillBlocked(f'database "{name}" was not created by this drill', code="not_ours")
            _drop(connection, dsn, name)
    except (NodeError, DrillBlocked) as error:
        raise DrillBlocked(
            f'database "{name}" could not be dropped: {error.message}',
            code="destroy_failed",
            hint=f'It holds a copy of your data. Drop it with: DROP DATABASE "{name}" WITH (FORCE).',
        ) from error


def keep_database(dsn: str, name: str, *, run_id: str) -> None:
    """Mark the database of a run as one that was kept on purpose. Raises DrillBlocked."""
    with _connected(dsn) as connection:
        statement = sql.SQL("COMMENT ON DATABASE {} IS {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Literal(f"{mark_of(run_id)} kept")))


def drop_abandoned(dsn: str, *, kept: bool = False) -> tuple[str, ...]:
    """Drop the databases that drills of this machine left when they were killed, and return their names.

    Those that were kept on purpose go only where `kept` says so. Databases of drills that run, or ran on another
    machine, are left alone, and so is what cannot be dropped. Raises NodeError where the server cannot be used.
    """
    dropped = []
    with local.connect(dsn, node="scratch") as connection:
        names = connection.execute(
            "SELECT datname::text FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname, %s)", [PREFIX]
        ).fetchall()
        for (name,) in names:
            try:
                mark = _mark(connection, name)
            except DrillBlocked:
                continue
            if mark is None or (mark["kept"] and not kept):
                continue
            there = Machine(host=mark["host"], machine=mark["machine"], boot=mark["boot"], pids=mark["pids"])
            process = (int(mark["pid"]), int(mark["started"]))
            if not is_gone(there, process, here=Machine.here(), started_at=processes.started_at):
                continue
            with suppress(StatementFailed), local.translated("scratch"):
                _drop(connection, dsn, name)
                dropped.append(name)
    return tuple(dropped)


def add_placeholder(connection: LocalConnection, role: str) -> bool:
    """Make a role without any right, marked as a placeholder; return False where it is there already."""
    if connection.execute("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", [role]).fetchone():
        return False
    if role.startswith("pg_"):
        return False  # a predefined role of another version
    name = sql.Identifier(role)
    connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(name))
    connection.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(name, sql.Literal(PLACEHOLDER)))
    return True


def disarm(connection: LocalConnection) -> None:
    """Keep the foreign tables of a database from being read: to read one would reach another server, or its files.

    A wrapper without a handler refuses access to its tables (PostgreSQL manual, CREATE FOREIGN DATA WRAPPER).
    """
    wrappers = connection.execute("SELECT fdwname::text FROM pg_catalog.pg_foreign_data_wrapper WHERE fdwhandler <> 0")
    for (wrapper,) in wrappers.fetchall():
        connection.execute(sql.SQL("ALTER FOREIGN DATA WRAPPER {} NO HANDLER").format(sql.Identifier(wrapper)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a drill runs, as far as it decides whether its process can be looked for; empty is not known."""

    host: str
    machine: str
    """A hash of the machine's id: its name alone is that of many containers, and of machines made from one image."""
    boot: str
    """Changes with every start of the machine."""
    pids: str
    """The namespace in which process ids count: containers of one machine each have their own."""

    @classmethod
    def here(cls) -> "Machine":
        """Return what this process knows of where it runs."""
        machine = _first_line("/etc/machine-id")
        return cls(
            host=re.sub(r"\s", "_", socket.gethostname()),
            machine=hashlib.sha256(f"replcheck {machine}".encode()).hexdigest()[:16] if machine else "",
            boot=_first_line("/proc/sys/kernel/random/boot_id"),
            pids=_pid_namespace(),
        )


def is_gone(
    there: Machine, process: tuple[int, int], *, here: Machine, started_at: Callable[[int], int | None]
) -> bool:
    """Return whether a drill's process, given as id and start, is known to have ended: never where that cannot be told.

    >>> here = Machine(host="a", machine="m", boot="b", pids="1")
    >>> is_gone(here, (7, 100), here=here, started_at=lambda pid: None)
    True
    >>> is_gone(Machine(host="a", machine="m", boot="b", pids="2"), (7, 100), here=here, started_at=lambda pid: None)
    False
    """
    if (there.host, there.machine) != (here.host, here.machine) or not there.boot:
        return False
    if there.boot != here.boot:
        # The same machine, started again since: nothing of then runs on.
        return bool(there.machine)
    return bool(there.pids) and there.pids == here.pids and started_at(process[0]) != process[1]


@contextmanager
def _connected(dsn: str) -> Iterator[LocalConnection]:
    try:
        with local.connect(dsn, node="scratch") as connection:
            yield connection
    except StatementFailed as error:
        code = "no_space" if error.sqlstate == "53100" else "scratch_refused"
        raise DrillBlocked(error.message, code=code, hint=_HINTS.get(error.sqlstate, "")) from error
    except NodeError as error:
        raise DrillBlocked(error.message, code="scratch_unreachable", hint=error.hint) from error
    except ProgramError as error:
        raise DrillBlocked(error.message, code="scratch_unreachable", hint=error.hint) from error


_HINTS = {"42501": "The role of scratch.dsn must be allowed to create databases: ALTER ROLE ... CREATEDB."}


def _create(connection: LocalConnection, name: str, shape: Shape) -> str:
    wanted = dict(shape.options)
    said = wanted.get("LOCALE") or wanted.get("LC_COLLATE") or ""
    fallbacks = [locale for locale in FALLBACK_LOCALES if locale == "C" or shape.encoding in ("", "UTF8")]
    attempts = [wanted, *({"LOCALE": locale} for locale in fallbacks)]
    for number, options in enumerate(attempts):
        try:
            with local.translated("scratch"):
                connection.execute(_creation(name, shape.encoding, options))
        except StatementFailed as error:
            # Unknown or unfit locales and providers: 22023, 42704, 42809, 0A000, 42601 (of another major).
            if error.sqlstate not in ("22023", "42704", "42809", "0A000", "42601", "XX000"):
                raise
            if number == len(attempts) - 1:
                raise DrillBlocked(
                    f"a database in encoding {shape.encoding} cannot be created (SQLSTATE {error.sqlstate})",
                    code="encoding_missing",
                ) from error
            continue
        return f"{options['LOCALE']} in place of {said or 'the locale of the dump'}" if number and wanted else ""
    raise AssertionError


def _set_monetary(connection: LocalConnection, name: str, locale: str) -> None:
    statement = sql.SQL("ALTER DATABASE {} SET lc_monetary = {}")
    try:
        with local.translated("scratch"):
            connection.execute(statement.format(sql.Identifier(name), sql.Literal(locale)))
    except StatementFailed as error:
        if error.sqlstate != "22023":
            raise


def _creation(name: str, encoding: str, options: dict[str, str]) -> sql.Composed:
    words = ({"ENCODING": encoding} if encoding else {}) | options
    parts = [sql.SQL("CREATE DATABASE {} TEMPLATE = template0").format(sql.Identifier(name))]
    for word, value in words.items():
        # Words are those of the list above; LOCALE_PROVIDER alone takes a bare word.
        shown = sql.Identifier(value) if word == "LOCALE_PROVIDER" else sql.Literal(value)
        parts.append(sql.SQL(" {} = {}").format(_WORDS[word], shown))
    return sql.Composed(parts)


_WORDS = {
    "ENCODING": sql.SQL("ENCODING"),
    "LOCALE_PROVIDER": sql.SQL("LOCALE_PROVIDER"),
    "LOCALE": sql.SQL("LOCALE"),
    "LC_COLLATE": sql.SQL("LC_COLLATE"),
    "LC_CTYPE": sql.SQL("LC_CTYPE"),
    "ICU_LOCALE": sql.SQL("ICU_LOCALE"),
    "ICU_RULES": sql.SQL("ICU_RULES"),
    "BUILTIN_LOCALE": sql.SQL("BUILTIN_LOCALE"),
}


def _mark(connection: LocalConnection, name: str) -> "re.Match[str] | None":
    """Return what the comment of a database says, None where there is no such database; raise where it is not ours."""
    row = connection.execute(
        "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = %s", [name]
    ).fetchone()
    if row is None:
        return None
    match = _MARK.fullmatch(row[0] or "")
    if match is None or not name.startswith(PREFIX):
        raise DrillBlocked(f'database "{name}" bears no mark of a drill', code="not_ours")
    return match


def _drop(connection: LocalConnection, dsn: str, name: str) -> None:
    with local.connect(connection_strings.merge(dsn, dbname=name), node="scratch") as inside:
        subscriptions = inside.execute(
            "SELECT subname::text FROM pg_catalog.pg_subscription AS s JOIN pg_catalog.pg_database AS d"
            " ON d.oid = s.subdbid WHERE d.datname = pg_catalog.current_database()"
        ).fetchall()
        for (subscription,) in subscriptions:
            # Without its slot first: to drop it would otherwise drop the slot on the publisher.
            for change in ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)"):
                inside.execute(sql.SQL(change).format(sql.Identifier(subscription)))
            inside.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(subscription)))
    plain = sql.SQL("DROP DATABASE {}").format(sql.Identifier(name))
    forced = sql.SQL("{} WITH (FORCE)").format(plain)
    for number in range(_DROP_ATTEMPTS):
        # Without force the server ends its own autovacuum, which a role without rights over it may not; it waits 5 s.
        try:
            with local.translated("scratch"):
                connection.execute(forced if number % 2 else plain)
        except StatementFailed as error:
            if error.sqlstate not in (_IN_USE, _NOT_ALLOWED) or number == _DROP_ATTEMPTS - 1:
                raise
        else:
            return


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink()).removeprefix("pid:[").removesuffix("]")
    except OSError:
        return ""


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text("ascii").strip()
    except (OSError, UnicodeError):
        return ""
