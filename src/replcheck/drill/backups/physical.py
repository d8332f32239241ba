"""What all restores of data directories have in common: from the fetched files to a server that can be asked."""

from contextlib import suppress
from pathlib import Path

from replcheck.drill.archive import Archive, NoArchive
from replcheck.drill.backups.labels import Label, parse_label
from replcheck.drill.backups.recognition import NOT_RECOGNISED
from replcheck.drill.backups.source import Restored
from replcheck.drill.recovery import Recovery, Start
from replcheck.drill.scratch import Scratch
from replcheck.drill.software import ProgramsFor, usable_programs
from replcheck.drill.stages import Stages
from replcheck.drill.state_files import lost_files, oldest_files, require_any
from replcheck.drill.wal import is_wal_name
from replcheck.errors import BackupRefuted, DrillBlocked, DrillError, ProgramError
from replcheck.model.drill import BackupKind, CopyFacts, Stage, Target, TargetKind
from replcheck.postgres import recovery_state
from replcheck.postgres.control import ControlFacts, major_of, read_control
from replcheck.postgres.failures import SURROUNDINGS
from replcheck.postgres.programs import Programs, server_account
from replcheck.postgres.server import LocalServer


def require_programs(copy: CopyFacts, target: Target, find: ProgramsFor) -> Programs:
    """Return the programs of a backup's major version.

    Raise DrillBlocked where there are none or the target is one that only rows know, BackupRefuted where the backup
    does not tell its version.
    """
    if copy.major is None:
        raise BackupRefuted(
            f"backup {copy.label} is incomplete: it holds no PG_VERSION", code="incomplete", hint="Take a new one."
        )
    if target.kind is TargetKind.SEAL and target.name is None:
        raise DrillBlocked(f"the target {target.text} has no restore point", code="target_unknown")
    return usable_programs(find, copy.major, server_account())


class PhysicalSource:
    """What sources whose backups are data directories have in common: how their one restore ends."""

    _restore: "PhysicalRestore | None" = None
    """The restore that was begun last."""

    def kept(self) -> None:
        """Stop handing out WAL: all that was restored lies in the scratch directory."""
        if self._restore is not None:
            self._restore.leave()

    def release(self, restored: Restored | None) -> None:  # noqa: ARG002
        """Stop handing out WAL."""
        if self._restore is not None:
            self._restore.close()


class PhysicalRestore:
    """The stages RECOVER and OPEN of one restore, from a whole data directory in the scratch directory."""

    def __init__(
        self, kind: BackupKind, server: LocalServer, scratch: Scratch, *, archive: Archive, needs_label: bool
    ) -> None:
        self._kind = kind
        self._server = server
        self._scratch = scratch
        self._archive = archive
        self._needs_label = needs_label
        self._recovery: Recovery | None = None

    def run(self, target: Target, stages: Stages) -> Restored:
        """Recover to the target and open; raises BackupRefuted, DrillBlocked."""
        require_whole(self._server.data_dir)
        self._require_contained()
        self._require_wal()
        data_dir, major = self._server.data_dir, self._server.programs.major
        with stages.enter(Stage.RECOVER):
            control = self._control()
            require_any(data_dir, control, major)
            oldest = oldest_files(data_dir, control, major)
            self._recovery = Recovery(
                self._server,
                self._scratch,
                target=target,
                archive=self._archive,
                control=control,
                start=self._start(control),
                stages=stages,
            )
            facts = self._recovery.run()
        with stages.enter(Stage.OPEN):
            server, database = self._recovery.server, self._recovery.database
            databases = recovery_state.connectable_databases(server, database)
            zeroed = self._recovery.zeroed
            lost = lost_files(data_dir, self._control(), major, zeroed=zeroed, oldest=oldest)
        return Restored(
            kind=self._kind,
            dsn=server.dsn(database if database in databases else databases[0]),
            server=server,
            programs=server.programs,
            databases=None,
            recovery=facts,
            problems=lost,
        )

    def close(self) -> None:
        """Stop handing out WAL."""
        if self._recovery is not None:
            self._recovery.close()

    def leave(self) -> None:
        """Stop handing out WAL to a server that is kept."""
        if self._recovery is not None:
            self._recovery.leave()

    def _require_contained(self) -> None:
        """Raise DrillBlocked where a link leads out of the scratch directory: the server would write there."""
        data_dir, home = self._server.data_dir, self._scratch.directory.resolve()
        for link in (data_dir, data_dir / "pg_wal", *(data_dir / "pg_tblspc").glob("*")):
            if not link.resolve().is_relative_to(home):
                raise DrillBlocked(
                    f"{link.relative_to(data_dir)} of the restored copy leads out of the scratch directory",
                    code="link_outside",
                )

    def _require_wal(self) -> None:
        """Raise DrillBlocked where neither the backup nor the configuration has any WAL."""
        own = (self._server.data_dir / "pg_wal").iterdir()
        if isinstance(self._archive, NoArchive) and not any(is_wal_name(path.name) for path in own):
            raise DrillBlocked(
                "the backup holds no WAL, and no archive is configured for it",
                code="no_wal",
                hint="Name the folder of the WAL archive with --wal DIR or as `wal`, or a `restore_command`.",
            )

    def _control(self) -> ControlFacts:
        try:
            control = read_control(self._server.programs, self._server.data_dir, account=self._scratch.account)
        except ProgramError as exc:
            raise control_refused(exc) from exc
        if control.damaged:
            raise BackupRefuted("global/pg_control is damaged: its checksum does not match", code="control_damaged")
        return control

    def _start(self, control: ControlFacts) -> Start:
        label = self._label()
        if label is not None:
            return Start(redo=label.start, timeline=label.timeline, at=label.started_at)
        return Start(redo=control.redo, timeline=control.timeline, at=control.checkpoint_at)

    def _label(self) -> Label | None:
        path = self._server.data_dir / "backup_label"
        try:
            return parse_label(path.read_text("utf-8", errors="replace"))
        except FileNotFoundError:
            if not self._needs_label:
                return None
            if self._kind is BackupKind.BASE and not (self._server.data_dir / "backup_manifest").exists():
                raise unlabelled() from None
            raise BackupRefuted(
                "backup_label is missing: without it the files of a base backup do not fit together",
                code="backup_label_missing",
                hint="A copy taken by a file-system snapshot is of kind snapshot, not base.",
            ) from None
        except ValueError as exc:
            raise BackupRefuted("backup_label is damaged", code="backup_label_damaged") from exc


def unlabelled(folder: Path | None = None) -> DrillBlocked:
    """Return that nothing tells a base backup from any copy of a data directory; `folder` is where it lies."""
    what = (
        f"{folder or 'the backup'} is not recognised as a base backup: it has neither backup_label nor backup_manifest"
    )
    snapshot = f"drill it as --from snapshot:{folder}" if folder is not None else "it is of the kind snapshot"
    return DrillBlocked(
        what,
        code=NOT_RECOGNISED,
        hint=f"If it is a file-system snapshot, {snapshot}; a base backup without its label is useless.",
    )


def control_refused(error: ProgramError) -> DrillError:
    """Return what it means that a control file could not be read: a program that did not run tells nothing of it."""
    ran = error.__cause__ is None or isinstance(error.__cause__, KeyError | ValueError)
    if ran and not any(words in error.message for words in SURROUNDINGS):
        return BackupRefuted("global/pg_control cannot be read", code="control_damaged")
    return DrillBlocked(f"global/pg_control could not be looked at: {error.message}", code="control_unread")


def require_whole(data_dir: Path) -> None:
    """Raise BackupRefuted where a data directory lacks what no server starts without."""
    for name in ("PG_VERSION", "global/pg_control"):
        if not (data_dir / name).is_file():
            raise BackupRefuted(
                f"the backup is incomplete: {name} is missing",
                code="incomplete",
                hint="It was cut off, or is still being written.",
            )


def version_of(folder: Path) -> int | None:
    """Return the major version of a data directory, None where it does not tell."""
    with suppress(OSError):
        return major_of((folder / "PG_VERSION").read_text("ascii", errors="replace"))
    return None
