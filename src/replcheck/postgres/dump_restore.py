"""Restores one dump into one empty database of ours, and tells what failed and which roles were missing."""

import gzip
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from replcheck.errors import StatementFailed
from replcheck.postgres import dsn as connection_strings
from replcheck.postgres import local
from replcheck.postgres.dump_databases import Shape, add_placeholder, disarm
from replcheck.postgres.dumps import Dump, DumpFormat
from replcheck.postgres.local import LocalConnection
from replcheck.postgres.pg_restore import TableOfContents, restore_archive
from replcheck.postgres.plain_dumps import PlainDump
from replcheck.postgres.plain_restore import PlainRestore
from replcheck.postgres.programs import Programs
from replcheck.postgres.restore_errors import RestoreError
from replcheck.postgres.roles_named import roles_named
from replcheck.postgres.server import SUPERUSER, LocalServer

_NODE = "scratch"
_MEASURED_EVERY_S = 1.0
_ROLE_STATEMENTS = (b"CREATE ROLE ", b"ALTER ROLE ", b"GRANT ", b"COMMENT ON ROLE ")
_DUPLICATE = "42710"


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpTarget:
    """The database into which a dump is restored."""

    dsn: str
    admin_dsn: str
    """The same server, by the database that was there before."""
    database: str
    programs: Programs
    server: LocalServer | None
    """Ours; None for one of the user's, on which no role is made."""
    shape: Shape
    statements: str
    """What the dump says before its data, for the roles it names."""
    replaced_locale: str = ""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of it."""

    errors: tuple[RestoreError, ...] = ()
    missing_roles: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Roles:
    """Roles on the server of a target."""

    target: DumpTarget
    missing: set[str] = field(default_factory=set)

    def provide(self, names: frozenset[str]) -> None:
        """Make those that are missing, on a server of ours; else only note them."""
        with local.connect(self.target.admin_dsn, node=_NODE) as connection:
            there = {name for (name,) in connection.execute("SELECT rolname::text FROM pg_catalog.pg_roles").fetchall()}
            for name in sorted(names - there):
                if self.target.server is not None:
                    add_placeholder(connection, name)
                self.missing.add(name)

    def provide_one(self, name: str) -> bool:
        """Make one that a statement missed; return whether the statement may be tried again."""
        known = name in self.missing
        self.provide(frozenset({name}))
        return self.target.server is not None and not known


def load_archive(
    dump: Dump,
    contents: TableOfContents,
    target: DumpTarget,
    *,
    jobs: int,
    globals_file: Path | None,
    progressed: Callable[[int], None],
) -> Outcome:
    """Restore an archive by pg_restore. Raises ProgramError, NodeError, and PlainDumpError for the file of globals."""
    roles, notes = _Roles(target=target), _notes(target)
    failed = _apply_globals(target, globals_file)
    roles.provide(roles_named([target.statements]))
    ownership = _keeps_ownership(target, roles)
    options = [] if ownership else ["--no-owner", "--no-privileges"]
    notes += () if ownership else ("owners and privileges were left out: the role of scratch.dsn may not set them",)
    if dump.format.parallel and jobs > 1:
        options.append(f"--jobs={jobs}")
    # Where something may reach another server, it is disarmed before any row or view is made.
    reaches = contents.has("SERVER") or contents.has("FOREIGN DATA WRAPPER") or contents.has("EXTENSION")
    sections = ("pre-data", "data", "post-data") if reaches else ("",)
    errors: list[RestoreError] = list(failed)
    with _measured(target, progressed) as obey:
        for section in sections:
            errors += restore_archive(
                target.programs,
                dump.path,
                _without_password(target.dsn),
                entries=contents.names,
                options=[*options, *([f"--section={section}"] if section else [])],
                variables=_variables(target),
                obey=obey,
            )
            if section == "pre-data":
                with local.connect(target.dsn, node=_NODE) as connection:
                    disarm(connection)
    return Outcome(errors=tuple(errors), missing_roles=frozenset(roles.missing), notes=notes)


def load_plain(
    dump: Dump, target: DumpTarget, *, globals_file: Path | None, progressed: Callable[[int], None]
) -> Outcome:
    """Restore plain SQL. Raises NodeError, PlainDumpError, EOFError, zlib.error and OSError where it is damaged."""
    roles, notes = _Roles(target=target), _notes(target)
    failed = _apply_globals(target, globals_file)
    ownership = _keeps_ownership(target, roles)
    notes += () if ownership else ("owners and privileges were left out: the role of scratch.dsn may not set them",)
    with _opened(dump) as (stream, position), local.connect(target.dsn, node=_NODE) as connection:
        restore = PlainRestore(
            connection=connection,
            disarm=lambda: disarm(connection),
            missing_role=roles.provide_one,
            progressed=lambda _: progressed(position()),
            ownership=ownership,
        )
        restore.run(PlainDump(stream))
    return Outcome(errors=(*failed, *restore.errors), missing_roles=frozenset(roles.missing), notes=notes)


def _notes(target: DumpTarget) -> tuple[str, ...]:
    if not target.replaced_locale:
        return ()
    return (f"the database was made with the locale {target.replaced_locale}, which is not available here",)


def _apply_globals(target: DumpTarget, globals_file: Path | None) -> tuple[RestoreError, ...]:
    """Make the roles of a file of pg_dumpall on a server of ours, but for their settings, and our own role."""
    if globals_file is None or target.server is None:
        return ()
    errors: list[RestoreError] = []
    own = f" ROLE {SUPERUSER} ".encode()
    with globals_file.open("rb") as stream, local.connect(target.admin_dsn, node=_NODE) as connection:
        restore = PlainRestore(
            connection=connection, disarm=lambda: None, missing_role=lambda _: False, progressed=lambda _: None
        )
        for statement in PlainDump(stream).statements():
            text = statement.text
            ours = own in text.replace(b";", b" ") and text.startswith((b"CREATE ROLE ", b"ALTER ROLE "))
            # Settings of a role would change how we restore, and could load libraries.
            if text.startswith(_ROLE_STATEMENTS) and not ours and b" SET " not in text:
                restore.execute(statement)
        errors += [error for error in restore.errors if error.sqlstate != _DUPLICATE]
    return tuple(errors)


def _keeps_ownership(target: DumpTarget, roles: _Roles) -> bool:
    """Return whether owners and privileges can be restored: always on a server of ours."""
    if target.server is not None:
        return True
    roles.provide(roles_named([target.statements]))
    with local.connect(target.admin_dsn, node=_NODE) as connection:
        ((superuser,),) = connection.execute(
            "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
        ).fetchall()
    return bool(superuser) and not roles.missing


@contextmanager
def _measured(target: DumpTarget, progressed: Callable[[int], None]) -> Iterator[Callable[[], None]]:
    """Give a function that tells the size of the database now and then; it may be called as often as one likes."""
    due = time.monotonic()
    with local.connect(target.admin_dsn, node=_NODE) as connection:

        def obey() -> None:
            nonlocal due
            if time.monotonic() < due:
                return
            due = time.monotonic() + _MEASURED_EVERY_S
            progressed(_size(connection, target.database))

        yield obey


def _size(connection: LocalConnection, database: str) -> int:
    try:
        with local.translated(_NODE):
            row = connection.execute("SELECT pg_catalog.pg_database_size(%s::name)", [database]).fetchone()
    except StatementFailed:
        return 0  # A file went away while it was measured.
    return int(row[0]) if row else 0


@contextmanager
def _opened(dump: Dump) -> "Iterator[tuple[IO[bytes], Callable[[], int]]]":
    """Open a dump for reading; the second function tells how many bytes of the file have been read."""
    with dump.path.open("rb") as file:
        if dump.format is DumpFormat.PLAIN_GZIP:
            with gzip.open(file) as unpacked:
                yield cast("IO[bytes]", unpacked), file.tell
        else:
            yield file, file.tell


def _without_password(dsn: str) -> str:
    """Return a connection string for a command line, which everybody on the machine can read."""
    words = connection_strings.parse(dsn)
    kept, _ = connection_strings.words_without_secrets(words)
    return connection_strings.written(kept)


def _variables(target: DumpTarget) -> Mapping[str, str]:
    """Return the variables of libpq that pg_restore needs on a server of the user's: what we would use ourselves."""
    if target.server is not None:
        return {}
    words = connection_strings.parse(target.dsn)
    variables = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PG") and name not in ("PGOPTIONS", "PGDATABASE")
    }
    variables.setdefault("PGPASSFILE", str(Path("~/.pgpass").expanduser()))
    if "password" in words:
        variables["PGPASSWORD"] = words["password"]
    if home := os.environ.get("HOME"):
        variables["HOME"] = home
    return variables
