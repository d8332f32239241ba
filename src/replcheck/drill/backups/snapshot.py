"""File-system snapshots of a data directory: what a server would find after a power cut, and recovers from likewise."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePath

from replcheck.config.model import SnapshotBackup
from replcheck.drill.backups.copying import Copier, DirectoryCopy, reading, tree_size
from replcheck.drill.backups.physical import (
    PhysicalRestore,
    PhysicalSource,
    require_programs,
    require_whole,
    version_of,
)
from replcheck.drill.backups.recognition import likeness, not_recognised
from replcheck.drill.backups.source import Restored
from replcheck.drill.backups.supply import archive_of, archive_reaches, require_archive
from replcheck.drill.recovery import scratch_server
from replcheck.drill.scratch import Scratch
from replcheck.drill.software import ProgramsFor, installed
from replcheck.drill.stages import Stages
from replcheck.drill.wal import Segment, is_wal_name
from replcheck.errors import BackupRefuted, DrillBlocked, ProgramError
from replcheck.model.drill import BackupKind, CopyFacts, Stage, Target
from replcheck.postgres import processes
from replcheck.postgres.control import ControlFacts, read_control

_EMPTY_FOLDERS = frozenset(
    {"pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"}
)
"""What no server needs from before a crash; pg_basebackup leaves the same out (basebackup.c, excludeDirContents)."""
_NOT_COPIED = frozenset({"postmaster.pid", "postmaster.opts", "log", "pg_log", "lost+found"})


class SnapshotSource(PhysicalSource):
    """All snapshots of one table under `backups`."""

    kind = BackupKind.SNAPSHOT

    def __init__(self, *, name: str, section: SnapshotBackup, programs: ProgramsFor = installed) -> None:
        self.name = name
        self._config = section
        self._path = Path(section.path)
        self._programs_for = programs

    def copies(self) -> Sequence[CopyFacts]:
        """Return the snapshots there are, the newest first."""
        facts = [self._facts(folder) for folder in self._folders()]
        return sorted(facts, key=lambda copy: copy.taken_at or datetime.min.replace(tzinfo=UTC), reverse=True)

    def requirements(self, copy: CopyFacts, target: Target) -> None:
        """Raise DrillBlocked where programs are missing or the copy is no snapshot but a live data directory."""
        require_programs(copy, target, self._programs_for)
        folder = self._named(copy.label)
        require_archive(self._config.wal)
        require_whole(folder)
        if processes.processes_in(folder):
            raise DrillBlocked(
                f"{folder} is the data directory of a running server, and no snapshot of one",
                code="not_a_snapshot",
                hint="Name the place where the storage has mounted a snapshot.",
            )
        wal = folder / "pg_wal"
        if not self._has_wal(folder):
            if (folder / "backup_label").exists() or (folder / "backup_manifest").exists():
                raise not_recognised(
                    folder,
                    "is not recognised as a snapshot: it is without WAL and labelled as a base backup",
                    self.kind,
                    hint=f"Drill it as --from base:{folder}",
                )
            # An archive does not make up for it: only the WAL that lay there tells up to where its pages may be.
            raise BackupRefuted(
                f"snapshot {folder} lacks its WAL: {wal} is "
                + (f"a link out of it, to {wal.resolve()}" if wal.is_symlink() else "missing or empty"),
                code="wal_missing",
                hint="Take the snapshot of all file systems of the cluster at once, the WAL's too.",
            )

    def reaches(self, segment: Segment, segment_bytes: int) -> bool | None:
        """Return whether the archive or a snapshot goes as far as a WAL file; None where that cannot be told."""
        own = [folder / "pg_wal" for folder in self._folders()]
        return archive_reaches(self._config.wal, self._config.restore_command, segment, segment_bytes, own=own)

    def restore(self, copy: CopyFacts, target: Target, scratch: Scratch, stages: Stages) -> Restored:
        """Copy, recover and open one snapshot."""
        programs = require_programs(copy, target, self._programs_for)
        folder = self._named(copy.label)
        server = scratch_server(scratch, programs)
        with stages.enter(Stage.FETCH, copy.size_bytes), reading(f"snapshot {folder}"):
            DirectoryCopy(
                folder, scratch, Copier(scratch.account, stages), roots=(folder, self._path), left_out=_left_out
            ).run(scratch.data_dir, scratch.tablespaces_dir)
        archive = archive_of(self._config.wal, self._config.restore_command, scratch)
        self._restore = PhysicalRestore(self.kind, server, scratch, archive=archive, needs_label=False)
        return self._restore.run(target, stages)

    def _folders(self) -> list[Path]:
        path = self._path
        with reading(f"snapshot {path}"):
            if not path.is_dir():
                hint = likeness(path, self.kind) or "Check the path of the backup."
                raise DrillBlocked(f"there is no folder {path}", code="backup_not_found", hint=hint)
            if _is_data_directory(path):
                return [path]
            entries = sorted(path.iterdir())
            found = [entry for entry in entries if entry.is_dir() and _is_data_directory(entry)]
        if not found and entries:
            raise not_recognised(
                path,
                "is no data directory, and no folder with any",
                self.kind,
                hint="A snapshot of a data directory has PG_VERSION in it.",
            )
        return found

    def _named(self, label: str) -> Path:
        for folder in self._folders():
            if folder.name == label:
                return folder
        raise DrillBlocked(f"snapshot {label} is not there any more", code="backup_not_found")

    def _has_wal(self, folder: Path) -> bool:
        wal = (folder / "pg_wal").resolve()
        roots = (folder.resolve(), self._path.resolve())
        inside = wal.is_dir() and any(wal.is_relative_to(root) for root in roots)
        return inside and any(is_wal_name(path.name) for path in wal.iterdir())

    def _facts(self, folder: Path) -> CopyFacts:
        major = version_of(folder)
        control = self._control(folder, major)
        with reading(f"snapshot {folder}"):
            size_bytes = tree_size(folder)
        return CopyFacts(
            label=folder.name,
            kind=self.kind,
            format="directory",
            taken_at=_newest_change(folder),
            major=major,
            size_bytes=size_bytes,
            system_identifier=control.system_identifier if control else None,
            start_lsn=control.redo if control else None,
            timeline=control.timeline if control else None,
        )

    def _control(self, folder: Path, major: int | None) -> ControlFacts | None:
        """Read the control file where there are programs for it; its damage is told when it is restored."""
        try:
            return read_control(self._programs_for(major), folder, account=None) if major is not None else None
        except (ProgramError, DrillBlocked):
            return None


def _is_data_directory(folder: Path) -> bool:
    return any((folder / part).exists() for part in ("PG_VERSION", "global"))


def _newest_change(folder: Path) -> datetime | None:
    """Return when the server last wrote a file that it writes often: its WAL, or its control file."""
    places = [folder / "global" / "pg_control", *(folder / "pg_wal").glob("*")]
    times = [path.stat().st_mtime for path in places if path.is_file()]
    return datetime.fromtimestamp(max(times), UTC) if times else None


def _left_out(path: PurePath) -> bool:
    if len(path.parts) == 1:
        return path.name in _NOT_COPIED
    return path.parts[0] in _EMPTY_FOLDERS or path.name.startswith("pgsql_tmp")
