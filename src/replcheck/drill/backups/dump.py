"""Backups made by pg_dump."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from replcheck.config.model import DumpBackup
from replcheck.drill.backups.source import Restored
from replcheck.drill.scratch import Scratch
from replcheck.drill.stages import Stages
from replcheck.model.drill import BackupKind, CopyFacts, Target
from replcheck.postgres.programs import Programs, find_programs


@dataclass(slots=True, kw_only=True)
class DumpSource:
    """One table of the kind `dump` under `backups`."""

    name: str
    section: DumpBackup
    scratch_dsn: str | None = None
    """A server of the user's on which a database is created; None restores into a scratch server of ours."""
    programs: Callable[[int], Programs] = find_programs
    """Finds the programs of a major version; raises ProgramError."""
    kind: BackupKind = field(default=BackupKind.DUMP, init=False)

    def copies(self) -> Sequence[CopyFacts]:
        """Return the dumps there are, the newest first."""
        raise NotImplementedError

    def requirements(self, copy: CopyFacts, target: Target) -> None:
        """Raise DrillBlocked where programs or extensions are missing."""
        raise NotImplementedError

    def restore(self, copy: CopyFacts, target: Target, scratch: Scratch, stages: Stages) -> Restored:
        """Restore one dump."""
        raise NotImplementedError

    def release(self, restored: Restored | None) -> None:
        """Drop the database that was created on a server of the user's."""
        raise NotImplementedError
