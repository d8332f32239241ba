"""The interface that every kind of backup stands behind.

A source only reads its backups. What is wrong with a backup is raised as BackupRefuted, what keeps us from trying it
as DrillBlocked: the first refutes it, the second leaves it unchecked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from replcheck.drill.scratch import Scratch
from replcheck.drill.stages import Stages
from replcheck.drill.wal import Segment
from replcheck.model.drill import BackupKind, CopyFacts, Problem, RecoveryFacts, Target
from replcheck.postgres.programs import Programs
from replcheck.postgres.server import LocalServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A copy that came back and can be asked."""

    kind: BackupKind
    dsn: str
    """A libpq connection string with a role that may read everything and a database to begin with; may hold secrets
    where it was handed to us, so it is never shown."""
    server: LocalServer | None
    """The scratch server of ours; None where the copy lies on a server of the user's."""
    programs: Programs | None
    """Of the copy's major version; None where none were needed."""
    databases: tuple[str, ...] | None
    """The databases that came from the backup; None means all of the server's."""
    recovery: RecoveryFacts | None
    problems: tuple[Problem, ...] = ()
    """What went wrong on the way although a copy came back, such as roles that are missing."""
    notes: tuple[str, ...] = ()
    """What the reader should know of how it was restored."""
    replaced_locale: bool = False
    """Whether the database of a dump has another locale here than where it was taken."""
    origin: str = ""
    """Name that the database of a dump had where it was taken; empty where it does not tell, and for other kinds."""
    where: str = ""
    """Where the copy lies outside the scratch directory, as it may be shown: address and database; else empty."""


class BackupSource(Protocol):
    """All backups of one table under `backups`."""

    @property
    def kind(self) -> BackupKind:
        """Return what its backups are made of."""

    def copies(self) -> Sequence[CopyFacts]:
        """Return the backups there are, the newest first.

        Raises DrillBlocked where the place cannot be read, BackupRefuted where what lies there is no backup.
        """

    def requirements(self, copy: CopyFacts, target: Target) -> None:
        """Raise DrillBlocked where programs are missing, or the target makes no sense for this kind.

        Called before anything is fetched; disk space is checked by the caller from `copy.size_bytes`.
        """

    def reaches(self, segment: Segment, segment_bytes: int) -> bool | None:
        """Return whether its WAL goes as far as a file; None where that cannot be told, or means nothing.

        Raises DrillError where the place cannot be read.
        """

    def restore(self, copy: CopyFacts, target: Target, scratch: Scratch, stages: Stages) -> Restored:
        """Fetch, restore, recover and open one backup in a scratch directory, or wherever the kind brings it back.

        Enters the stages FETCH, RESTORE, RECOVER and OPEN as far as it has them. Raises BackupRefuted, DrillBlocked.
        """

    def kept(self) -> None:
        """Note that what `restore` made outside the scratch directory stays, so that no later drill removes it."""

    def release(self, restored: Restored | None) -> None:
        """Undo what `restore` did outside the scratch directory; also after a `restore` that failed half-way (None).

        Raises DrillError where a copy may be left: that must be told loudly, whatever else the drill found.
        """
