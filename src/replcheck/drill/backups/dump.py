"""Backups made by pg_dump, restored into a scratch server of ours, or into a database that we create on the user's.

A dump restores row by row: its transaction ids and positions are new. It goes on after a statement that fails, so that
everything wrong is named at once; whether what came back is right is for the layers of proof to say.
"""

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from replcheck.config.model import DumpBackup
from replcheck.drill.backups.copying import grows
from replcheck.drill.backups.dump_folder import Found, find_dumps
from replcheck.drill.backups.dump_judging import (
    Circumstances,
    extension_missing,
    problems_of,
    refuse_unreadable,
)
from replcheck.drill.backups.source import Restored
from replcheck.drill.backups.tarballs import in_progress
from replcheck.drill.recovery import scratch_server
from replcheck.drill.scratch import Scratch
from replcheck.drill.software import ProgramsFor, installed, usable_programs
from replcheck.drill.stages import Stages
from replcheck.drill.wal import Segment
from replcheck.errors import BackupRefuted, DrillBlocked, NodeError, ProgramError
from replcheck.model.drill import BackupKind, CopyFacts, Stage, Target, TargetKind
from replcheck.postgres import dsn as connection_strings
from replcheck.postgres.copies import CopyServer, read_copy_server
from replcheck.postgres.dump_databases import (
    PREFIX,
    create_database,
    drop_abandoned,
    drop_database,
    keep_database,
    mark_of,
    shape_of,
)
from replcheck.postgres.dump_restore import DumpTarget, Outcome, load_archive, load_plain
from replcheck.postgres.dumps import Dump, DumpDamagedError, check_whole
from replcheck.postgres.pg_restore import TableOfContents, read_contents, read_schema
from replcheck.postgres.plain_dumps import PlainDumpError
from replcheck.postgres.programs import Programs, server_account
from replcheck.postgres.server import LocalServer
from replcheck.postgres.software import available_extensions

_RESTORED = "restored"
"""Name of the database where a dump does not tell the one it was taken from."""
_TAKEN_NAMES = frozenset({"", "postgres", "template0", "template1"})
"""Databases that a new server has already."""
_SETTINGS = {
    "full_page_writes": "off",
    "maintenance_work_mem": "128MB",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "synchronous_commit": "off",
    "wal_level": "minimal",
}
"""Beside those of every scratch server: what is loaded into an empty database need not survive a crash."""


@dataclass(slots=True, kw_only=True)
class DumpSource:
    """One table of the kind `dump` under `backups`."""

    name: str
    section: DumpBackup
    scratch_dsn: str | None = None
    """A server of the user's on which a database is created; None restores into a scratch server of ours."""
    programs: ProgramsFor = installed
    """Finds the programs of a major version; raises ProgramError."""
    kind: BackupKind = field(default=BackupKind.DUMP, init=False)
    _created: tuple[str, str] | None = field(default=None, init=False)
    """The database on the user's server, and the run it is marked with."""

    def copies(self) -> Sequence[CopyFacts]:
        """Return the dumps there are, the newest first; what looks like a dump and is none is among them."""
        return [found.facts for found in self._found()]

    def requirements(self, copy: CopyFacts, target: Target) -> None:
        """Raise DrillBlocked where programs or an extension are missing, or the target makes no sense for a dump."""
        if target.kind not in (TargetKind.LATEST, TargetKind.SEAL):
            raise DrillBlocked(
                f"a dump holds one moment: it cannot be restored to {target.text}",
                code="target_unfit",
                hint="Use the target latest, or a seal that was made with --dump.",
            )
        with self._unless_written(copy):
            dump = self._dump(copy)
        programs = self._programs(dump)
        if self.section.globals is not None and not os.access(self.section.globals, os.R_OK):
            raise DrillBlocked(f"the file of globals {self.section.globals} cannot be read", code="globals_missing")
        if dump.format.archive:
            with self._unless_written(copy):
                contents = _contents(programs, dump)
            available = None if self.scratch_dsn else available_extensions(programs)
            missing = [name for name in contents.extensions if available is not None and name not in available]
            if missing:
                problem = extension_missing(missing[0])
                raise DrillBlocked(problem.what, code=problem.code, hint=problem.hint)

    def reaches(self, segment: Segment, segment_bytes: int) -> None:
        """Tell nothing: WAL means nothing to a dump."""

    def restore(self, copy: CopyFacts, target: Target, scratch: Scratch, stages: Stages) -> Restored:
        """Read a dump through, restore it and open the copy; stages FETCH, RESTORE and OPEN."""
        with self._unless_written(copy):
            return self._restored(self._dump(copy), copy, target, scratch, stages)

    def _restored(self, dump: Dump, copy: CopyFacts, target: Target, scratch: Scratch, stages: Stages) -> Restored:
        programs = self._programs(dump)
        with stages.enter(Stage.FETCH, dump.size_bytes):
            contents = _contents(programs, dump) if dump.format.archive else None
            entries = contents.data_entries if contents is not None else frozenset()
            try:
                check_whole(dump, entries, progressed=stages.progressed)
            except DumpDamagedError as error:
                raise BackupRefuted(f"{copy.label} {error}", code=error.code) from error
            except OSError as exc:
                raise DrillBlocked(f"{copy.label} cannot be read: {exc.strerror}", code="backup_unreadable") from exc
        with stages.enter(Stage.RESTORE, dump.size_bytes if contents is None else None):
            with _blocked_by_programs():
                place = self._place(dump, programs, scratch, target)
            try:
                outcome = self._load(dump, contents, place, stages)
            except BaseException:
                _stop(place.server)
                raise
        with stages.enter(Stage.OPEN):
            opened = _opened(place.dsn)
        return Restored(
            kind=self.kind,
            dsn=place.dsn,
            server=place.server,
            programs=programs if opened.major == programs.major else None,
            databases=(place.database,),
            recovery=None,
            problems=problems_of(
                outcome.errors,
                Circumstances(
                    dump=copy.label,
                    has_globals=self.section.globals is not None,
                    missing_roles=outcome.missing_roles,
                    own_server=place.server is not None,
                    replaced_locale=bool(place.replaced_locale),
                    newer_server=opened.major > (dump.server_major or dump.major or opened.major),
                ),
            ),
            notes=outcome.notes,
            replaced_locale=bool(place.replaced_locale),
            origin=dump.dbname or place.shape.dbname,
            where=_where(place),
        )

    def kept(self) -> None:
        """Mark the database on a server of the user's as kept."""
        created, self._created = self._created, None
        if created is not None and self.scratch_dsn is not None:
            keep_database(self.scratch_dsn, created[0], run_id=created[1])

    def release(self, restored: Restored | None) -> None:  # noqa: ARG002 - what was created is known here
        """Drop the database that was created on a server of the user's; raise DrillBlocked where it stays."""
        created, self._created = self._created, None
        if created is not None and self.scratch_dsn is not None:
            drop_database(self.scratch_dsn, created[0], run_id=created[1])

    @contextmanager
    def _unless_written(self, copy: CopyFacts) -> Iterator[None]:
        """Let what refutes a dump pass, unless pg_dump is still at it: then it is only not finished."""
        try:
            yield
        except BackupRefuted as error:
            path = next((found.path for found in self._found() if found.facts.label == copy.label), None)
            if path is not None and grows(path):
                raise in_progress(path) from error
            raise

    def _found(self) -> list[Found]:
        globals_file = Path(self.section.globals) if self.section.globals is not None else None
        return find_dumps(Path(self.section.path), globals_file=globals_file)

    def _dump(self, copy: CopyFacts) -> Dump:
        """Return the dump of a label; raise what is wrong with it."""
        for found in self._found():
            if found.facts.label == copy.label:
                if found.wrong is not None:
                    raise found.wrong
                if found.dump is not None:
                    return found.dump
        raise DrillBlocked(f"dump {copy.label} is gone from {self.section.path}", code="backup_missing")

    def _programs(self, dump: Dump) -> Programs:
        """Return the programs that restore a dump: of the newer of the majors of its server and its pg_dump."""
        if dump.major is None:
            raise DrillBlocked(
                f"{dump.path.name} does not tell the version of PostgreSQL that it was made by",
                code="programs_missing",
            )
        return usable_programs(self.programs, dump.major, server_account())

    def _place(self, dump: Dump, programs: Programs, scratch: Scratch, target: Target) -> DumpTarget:
        """Make the server, or the database on the user's, into which a dump is restored."""
        statements = _statements(programs, dump)
        shape = shape_of(statements, encoding=dump.encoding)
        monetary = target.sealed.lc_monetary if target.sealed is not None else None
        if self.scratch_dsn is not None:
            return self._place_on_users(programs, scratch, statements, monetary)
        server = scratch_server(scratch, programs)
        server.configure(**_SETTINGS)
        server.initialize(checksums=False)
        try:
            server.start()
            known = dump.dbname or shape.dbname
            name = _RESTORED if known in _TAKEN_NAMES else known
            replaced = create_database(server.dsn(), name, shape, lc_monetary=monetary)
        except BaseException:
            _stop(server)
            raise
        return DumpTarget(
            dsn=server.dsn(name),
            admin_dsn=server.dsn(),
            database=name,
            programs=programs,
            server=server,
            shape=shape,
            replaced_locale=replaced,
            statements=statements,
        )

    def _place_on_users(
        self, programs: Programs, scratch: Scratch, statements: str, monetary: str | None
    ) -> DumpTarget:
        dsn = self.scratch_dsn or ""
        name = PREFIX + scratch.run_id.replace("-", "")
        found = _opened(dsn)
        if found.major < programs.major:
            raise DrillBlocked(
                f"the server of scratch.dsn runs PostgreSQL {found.major}, the dump needs {programs.major}",
                code="version_mismatch",
                hint=f"Name a server of version {programs.major} or newer, or leave scratch.dsn out.",
            )
        # What a killed drill left there is as sensitive as what is about to come.
        with _blocked_by_programs():
            drop_abandoned(dsn)
        shape = shape_of(statements, encoding="")
        self._created = (name, scratch.run_id)
        replaced = create_database(dsn, name, shape, mark=mark_of(scratch.run_id), lc_monetary=monetary)
        return DumpTarget(
            dsn=connection_strings.merge(dsn, dbname=name),
            admin_dsn=dsn,
            database=name,
            programs=programs,
            server=None,
            shape=shape,
            replaced_locale=replaced,
            statements=statements,
        )

    def _load(self, dump: Dump, contents: TableOfContents | None, target: DumpTarget, stages: Stages) -> Outcome:
        globals_file = Path(self.section.globals) if self.section.globals is not None else None
        try:
            with _blocked_by_programs():
                if contents is not None:
                    outcome = load_archive(
                        dump,
                        contents,
                        target,
                        jobs=self.section.jobs,
                        globals_file=globals_file,
                        progressed=stages.progressed,
                    )
                else:
                    outcome = load_plain(dump, target, globals_file=globals_file, progressed=stages.progressed)
        except PlainDumpError as error:
            raise BackupRefuted(f"{dump.path.name} {error}", code=error.code) from error
        except EOFError as error:
            raise BackupRefuted(f"{dump.path.name} is cut off", code="dump_truncated") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise BackupRefuted(f"{dump.path.name} is corrupt: its checksum is wrong", code="dump_corrupt") from error
        refuse_unreadable(outcome.errors, dump.path.name)
        return outcome


def _contents(programs: Programs, dump: Dump) -> TableOfContents:
    with _blocked_by_programs():
        contents = read_contents(programs, dump.path)
    if isinstance(contents, TableOfContents):
        return contents
    refuse_unreadable(contents, dump.path.name)
    raise BackupRefuted(f"{dump.path.name} cannot be read by pg_restore", code="dump_corrupt")


def _statements(programs: Programs, dump: Dump) -> str:
    """Return the statements that make the database and what is in it, as far as they are needed before the restore."""
    if not dump.format.archive:
        opener = gzip.open if dump.format.value.endswith(".gz") else open
        with opener(dump.path, "rb") as file:
            return bytes(file.read(64 * 1024)).decode("utf-8", "replace").partition("\n\\connect")[0]
    schema = read_schema(programs, dump.path)
    if isinstance(schema, str):
        return schema
    refuse_unreadable(schema, dump.path.name)
    raise BackupRefuted(f"{dump.path.name} cannot be read by pg_restore", code="dump_corrupt")


@contextmanager
def _blocked_by_programs() -> Iterator[None]:
    """Raise what keeps programs or servers of ours from running as DrillBlocked."""
    try:
        yield
    except ProgramError as error:
        raise DrillBlocked(error.message, code="programs_missing", hint=error.hint) from error
    except NodeError as error:
        raise DrillBlocked(error.message, code="scratch_unreachable", hint=error.hint) from error


def _opened(dsn: str) -> CopyServer:
    with _blocked_by_programs():
        return read_copy_server(dsn)


def _where(target: DumpTarget) -> str:
    if target.server is not None:
        return ""
    return f"database {target.database} at {connection_strings.public_address(target.dsn)}"


def _stop(server: LocalServer | None) -> None:
    if server is not None:
        server.stop("immediate")
