"""Backups of pgBackRest in a repository that this machine can read, found by their stanza."""

import os
from collections.abc import Sequence
from pathlib import Path

from replcheck.config.model import PgBackRestBackup
from replcheck.drill.archive import ProgramArchive
from replcheck.drill.backups.copying import tree_size
from replcheck.drill.backups.physical import PhysicalRestore, PhysicalSource, require_programs
from replcheck.drill.backups.source import Restored
from replcheck.drill.recovery import scratch_server
from replcheck.drill.scratch import Scratch
from replcheck.drill.software import ProgramsFor, installed
from replcheck.drill.stages import Stages
from replcheck.drill.wal import Segment
from replcheck.errors import BackupRefuted, DrillBlocked, DrillError, ProgramError
from replcheck.model.drill import BackupKind, CopyFacts, Stage, Target
from replcheck.postgres.pgbackrest import ABSENT, PgBackRest, RepositoryBackup, StanzaProblem
from replcheck.postgres.programs import Account
from replcheck.postgres.tools import Ended

_NO_STANZA = 1


class PgBackRestSource(PhysicalSource):
    """All backups of one stanza."""

    kind = BackupKind.PGBACKREST

    def __init__(self, *, name: str, section: PgBackRestBackup, programs: ProgramsFor = installed) -> None:
        self.name = name
        self._tool = PgBackRest(stanza=section.stanza, config=section.config, jobs=section.jobs)
        self._programs_for = programs

    def copies(self) -> Sequence[CopyFacts]:
        """Return the stanza's backups, the newest first."""
        return [self._facts(backup) for backup in self._backups()]

    def requirements(self, copy: CopyFacts, target: Target) -> None:
        """Raise DrillBlocked where server programs are missing."""
        require_programs(copy, target, self._programs_for)

    def reaches(self, segment: Segment, segment_bytes: int) -> bool | None:
        """Return whether the repository's archive goes as far as a WAL file."""
        try:
            ends = [Segment.parse(name, segment_bytes) for name in self._tool.archived_to()]
        except (StanzaProblem, ProgramError):
            return None
        return any(end is not None and end.number >= segment.number for end in ends)

    def restore(self, copy: CopyFacts, target: Target, scratch: Scratch, stages: Stages) -> Restored:
        """Have pgBackRest restore one backup, recover it from its archive, and open it."""
        programs = require_programs(copy, target, self._programs_for)
        backup = self._named(copy.label)
        server = scratch_server(scratch, programs)
        locks = scratch.spool_dir / "pgbackrest"
        locks.mkdir(mode=0o700)
        with stages.enter(Stage.FETCH, copy.size_bytes):
            self._fetch(backup, scratch, locks, stages)
        with stages.enter(Stage.RESTORE):
            _own_all((scratch.data_dir, scratch.tablespaces_dir), scratch.account)
        archive = ProgramArchive(
            lambda name, to: self._tool.get_command(scratch.data_dir, name, to, locks=locks),
            absent=ABSENT,
            refused=self._wal_refused,
        )
        self._restore = PhysicalRestore(self.kind, server, scratch, archive=archive, needs_label=True)
        return self._restore.run(target, stages)

    def _fetch(self, backup: RepositoryBackup, scratch: Scratch, locks: Path, stages: Stages) -> None:
        def watch() -> None:
            stages.progressed(tree_size(scratch.data_dir) if scratch.data_dir.is_dir() else 0, backup.label)

        scratch.data_dir.mkdir(mode=0o700)
        ended = self._tool.restore(
            backup, scratch.data_dir, tablespaces=scratch.tablespaces_dir, locks=locks, watch=watch
        )
        if ended.status != 0:
            raise self._refused(backup, ended)

    def _refused(self, backup: RepositoryBackup, ended: Ended) -> DrillError:
        if "No space left on device" in ended.err:
            return DrillBlocked("the scratch directory's file system is full", code="no_space")
        damaged = self._tool.damaged_file(ended)
        if damaged is not None:
            return BackupRefuted(
                f"backup {backup.label} cannot be restored: {f'file {damaged}' if damaged else 'a file'} of the"
                " repository is missing or damaged",
                code="repository_damaged",
                hint="Check the repository with: pgbackrest verify",
            )
        return DrillBlocked(
            f"pgbackrest restore of {backup.label} ended with status {ended.status}{self._tool.complaint(ended)}",
            code="pgbackrest_failed",
            hint="Try it by hand as the same account; the number is explained in pgBackRest's manual.",
        )

    def _wal_refused(self, name: str, ended: Ended) -> DrillError:
        if self._tool.damaged_file(ended) is not None:
            return BackupRefuted(
                f"WAL file {name} is damaged in the repository{self._tool.complaint(ended)}",
                code="wal_corrupt",
                hint="Check the repository with: pgbackrest verify",
            )
        return DrillBlocked(
            f"WAL file {name} cannot be fetched: pgbackrest ended with status {ended.status}"
            f"{self._tool.complaint(ended)}",
            code="pgbackrest_failed",
            hint="Try archive-get by hand as the same account; the number is explained in pgBackRest's manual.",
        )

    def _backups(self) -> list[RepositoryBackup]:
        stanza = self._tool.stanza
        try:
            return self._tool.backups()
        except StanzaProblem as exc:
            if exc.code == _NO_STANZA:
                raise DrillBlocked(
                    f'the repository has no stanza "{stanza}"',
                    code="no_stanza",
                    hint="Check `stanza`, and `config` where the repository is not pgBackRest's default.",
                ) from exc
            if exc.damaged is not None:
                raise BackupRefuted(
                    f"no backup of the repository can be restored: {exc.damaged} is missing or damaged, with its copy",
                    code="repository_damaged",
                    hint="Check the repository with: pgbackrest verify",
                ) from exc
            raise DrillBlocked(
                f'pgbackrest info reports status {exc.code} for stanza "{stanza}"',
                code="repository_unreadable",
                hint="Run as an account that may read the repository, and try: pgbackrest info",
            ) from exc
        except ProgramError as exc:
            raise DrillBlocked(exc.message, code="pgbackrest_failed", hint=exc.hint) from exc

    def _named(self, label: str) -> RepositoryBackup:
        for backup in self._backups():
            if backup.label == label:
                return backup
        raise DrillBlocked(f"backup {label} is not in the repository any more", code="backup_not_found")

    def _facts(self, backup: RepositoryBackup) -> CopyFacts:
        return CopyFacts(
            label=backup.label,
            kind=self.kind,
            format=backup.type,
            taken_at=backup.stopped_at,
            major=backup.major,
            size_bytes=backup.size_bytes,
            system_identifier=backup.system_identifier,
            start_lsn=backup.start,
            end_lsn=backup.stop,
            timeline=backup.timeline,
        )


def _own_all(folders: Sequence[Path], account: Account | None) -> None:
    """Give everything that was restored to the server's account."""
    if account is None:
        return
    for folder in folders:
        for parent, inner, files in os.walk(folder):
            for name in (".", *inner, *files):
                os.chown(Path(parent, name), account.uid, account.gid, follow_symlinks=False)
