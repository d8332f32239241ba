"""What a drill found, as plain data: the result that reports render and the store keeps.

A result holds digests, counts, positions, file names and names of relations, never the value or key of a row.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from replcheck.model.outcome import Outcome
from replcheck.model.wal import Lsn

FROM = "--from"
"""What a backup is called that no configuration names."""


class DrillVerdict(Enum):
    """The word a drill uses for its outcome."""

    RESTORED = "restored"
    UNPROVEN = "restored, not all proven"
    """It came back, rows were compared, and nothing that was found speaks against it; but not all of it was proven."""
    UNCOMPARED = "restored, rows not compared"
    """It came back, and nothing that was found speaks against it; but no layer compared a row."""
    FAILED = "failed"
    NOT_TRIED = "not tried"

    @property
    def outcome(self) -> Outcome:
        """Return the outcome this verdict stands for."""
        return _OUTCOME_OF[self]

    @property
    def came_back(self) -> bool:
        """Return whether a copy came back and nothing speaks against it, be all of it proven or not."""
        return self in (DrillVerdict.RESTORED, DrillVerdict.UNPROVEN, DrillVerdict.UNCOMPARED)


_OUTCOME_OF = {
    DrillVerdict.RESTORED: Outcome.PROVEN,
    DrillVerdict.UNPROVEN: Outcome.PARTIAL,
    DrillVerdict.UNCOMPARED: Outcome.PARTIAL,
    DrillVerdict.FAILED: Outcome.REFUTED,
    DrillVerdict.NOT_TRIED: Outcome.UNCHECKED,
}


class BackupKind(Enum):
    """What a backup is made of."""

    BASE = "base"
    """A base backup (a directory, or tar archives), with the WAL archive that belongs to it."""
    SNAPSHOT = "snapshot"
    """A file-system snapshot of a data directory: crash-consistent, without backup_label."""
    DUMP = "dump"
    """Made by pg_dump, in any of its formats."""
    PGBACKREST = "pgbackrest"
    COMMAND = "command"
    """Provided by commands of the user's, which hand back a connection string."""

    @property
    def physical(self) -> bool:
        """Return whether files are restored, with their transaction ids and tuple positions."""
        return self in (BackupKind.BASE, BackupKind.SNAPSHOT, BackupKind.PGBACKREST)


class Stage(Enum):
    """A part of a drill; those from FETCH to OPEN make up the recovery time (RTO)."""

    LOCATE = "locate"
    FETCH = "fetch"
    RESTORE = "restore"
    RECOVER = "recover"
    OPEN = "open"
    PROVE = "prove"
    REMOVE = "remove"


RECOVERY_STAGES = (Stage.FETCH, Stage.RESTORE, Stage.RECOVER, Stage.OPEN)


class LayerName(Enum):
    """One way to prove what was restored, the strongest first."""

    SEAL = "rows against a seal"
    PRIMARY = "rows against the primary"
    MANIFEST = "backup manifest"
    CHECKSUMS = "page checksums"
    AMCHECK = "amcheck"
    ASSERTIONS = "assertions"
    COMPLETENESS = "completeness"

    @property
    def compares_rows(self) -> bool:
        """Return whether it compares rows with those they were taken from."""
        return self in (LayerName.SEAL, LayerName.PRIMARY)


class LayerState(Enum):
    """How a layer ended."""

    PASSED = "passed"
    INCONCLUSIVE = "inconclusive"
    """It ran, and found nothing that is certainly wrong, yet it could not prove everything."""
    FAILED = "failed"
    NOT_RUN = "not run"

    @property
    def outcome(self) -> Outcome:
        """Return the outcome this state stands for."""
        return _OUTCOME_OF_LAYER[self]


_OUTCOME_OF_LAYER = {
    LayerState.PASSED: Outcome.PROVEN,
    LayerState.INCONCLUSIVE: Outcome.PARTIAL,
    LayerState.FAILED: Outcome.REFUTED,
    LayerState.NOT_RUN: Outcome.UNCHECKED,
}


class Blame(Enum):
    """Who is to blame for a problem: a backup is refuted only by what is its own fault."""

    BACKUP = "backup"
    ENVIRONMENT = "environment"
    """This machine, its programs, the configuration: the backup may be sound."""

    @property
    def outcome(self) -> Outcome:
        """Return what a problem of this kind does to the drill's outcome."""
        return Outcome.REFUTED if self is Blame.BACKUP else Outcome.UNCHECKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is wrong, named precisely."""

    code: str
    """For machines, for instance `wal_missing`; never renumbered or renamed once released."""
    what: str
    """One clause for people: which file, segment, relation, and how far it got."""
    blame: Blame
    hint: str = ""
    partial: bool = False
    """Whether a copy came back all the same, of which only a part is in doubt; for what is the environment's fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDifference:
    """How the restored rows of one relation differ from those it was taken from, judged from the restored copy."""

    database: str
    relation: str
    """Schema-qualified and quoted as SQL wants it."""
    kind: str
    """`missing`, `extra`, `changed`, `unreadable`, or `absent` and `unexpected` for the relation as a whole."""
    count: int | None
    """The least number of rows that differ; None where it cannot be told."""
    first_block: int | None = None
    last_block: int | None = None
    """Heap blocks between which they lie; None where positions mean nothing, as in a dump."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """What one layer of proof found."""

    name: LayerName
    state: LayerState
    reason: str = ""
    """Why it is not passed, in one clause, or what limits it; empty where nothing is to be said."""
    checked: str = ""
    """What it looked at, for instance `12 relations, 689,519 rows`; empty where it did not run."""
    rows: int | None = None
    """Rows that were compared and matched; None for a layer that compares none."""
    relations: int | None = None
    later_rows: int | None = None
    """Rows of the primary that were written after the point of the copy, which therefore lacks them; None for a layer
    that does not look at the primary."""
    problems: tuple[Problem, ...] = ()
    differences: tuple[RowDifference, ...] = ()
    elapsed_s: float = 0.0
    by_design: bool = False
    """For a layer that did not run: True where it makes no sense for this backup, or was not asked for. It changes no
    outcome then."""
    hint: str = ""
    """What lets it look at everything the next time, as a sentence; empty where nothing is known to."""

    @property
    def compared_rows(self) -> bool:
        """Return whether it compared rows, be it all of them or not; one that is inconclusive may have matched none."""
        if not self.name.compares_rows or self.state is LayerState.NOT_RUN:
            return False
        return self.state is not LayerState.INCONCLUSIVE or bool(self.rows) or bool(self.differences)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """One stage of a drill."""

    stage: Stage
    elapsed_s: float
    size_bytes: int | None = None
    """Bytes that were fetched or restored; None where none are counted."""
    finished: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFacts:
    """One backup, before it is restored."""

    label: str
    """How its kind names it: a folder, a file, a label of pgBackRest. Names one backup among those of its source."""
    kind: BackupKind
    format: str = ""
    """For instance `directory`, `tar`, `tar.gz`, `custom`, `plain`."""
    taken_at: datetime | None = None
    """When the backup ended, as far as it tells."""
    major: int | None = None
    """Major version of PostgreSQL that made it; None where it cannot be told."""
    size_bytes: int | None = None
    """Bytes that its restore needs at least; None where that cannot be told."""
    system_identifier: int | None = None
    start_lsn: Lsn | None = None
    end_lsn: Lsn | None = None
    """The first position at which it is consistent."""
    timeline: int | None = None


class TargetKind(Enum):
    """What a restore is to reach."""

    LATEST = "latest"
    TIME = "time"
    LSN = "lsn"
    RESTORE_POINT = "restore point"
    SEAL = "seal"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPoint:
    """What a seal tells of its restore point beside its name and position."""

    made_at: datetime
    timeline: int
    segment_bytes: int
    """Size of a WAL file of the cluster."""
    lc_monetary: str | None = None
    """The locale by which the seal's dump has written values of type money; None without a dump, or where unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A point of recovery, as it was asked for; at most one of `time`, `lsn` and `name` is set, but for a seal's."""

    kind: TargetKind
    text: str
    """As it was written."""
    time: datetime | None = None
    lsn: Lsn | None = None
    """With a name: where the restore point of a seal ends, which recovery finds by its name."""
    name: str | None = None
    """Of the restore point, also of a seal's."""
    seal_id: str | None = None
    system_identifier: int | None = None
    """Of the cluster that a seal was taken of; None where the target tells of none."""
    sealed: SealedPoint | None = None
    """Of a seal that was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryFacts:
    """What a recovery really did, asked of the server afterwards: settings and log words alone prove nothing."""

    reached: bool
    """Whether the target was reached, and not passed."""
    in_recovery: bool
    paused: bool
    timeline: int
    replayed: Lsn
    last_commit_at: datetime | None
    """Time of the newest commit that was replayed; None where none was."""
    wal_files: int = 0
    """Files that were taken from the archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillLimits:
    """Limits from the configuration, in seconds; None where there is none."""

    max_time_s: float | None = None
    """Recovery time objective."""
    max_age_s: float | None = None
    """Recovery point objective."""
    archive_delay_s: float = 3600.0
    """How long a WAL file that is full may be missing from the archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchFacts:
    """Where the restored copy lay, and whether it is gone: it is as sensitive as the original."""

    where: str
    removed: bool
    connect: str = ""
    """What to type to look at it, where it was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillResult:
    """Everything one drill found."""

    run_id: str
    started_at: datetime
    finished_at: datetime
    tool_version: str
    cluster: str
    backup: str
    """Name of the backup in the configuration, or `--from`."""
    copy: CopyFacts | None
    """None where no backup was found."""
    target: Target
    recovery: RecoveryFacts | None
    """None for dumps and commands, and where it never opened."""
    stages: tuple[StageReport, ...]
    layers: tuple[LayerReport, ...]
    """All of them, in the order of LayerName."""
    problems: tuple[Problem, ...]
    """Those that belong to no layer."""
    limits: DrillLimits
    recovery_point_age_s: float | None
    """From the newest recovered commit to the start of the drill; None where it cannot be told."""
    scratch: ScratchFacts | None
    verdict: DrillVerdict
    tool_notes: tuple[str, ...] = ()
    """What the reader should know besides."""

    @property
    def recovery_time_s(self) -> float | None:
        """Return how long it took until the copy could be used; None where it never could."""
        spent = {stage.stage: stage for stage in self.stages}
        opened = spent.get(Stage.OPEN)
        if opened is None or not opened.finished:
            return None
        return sum(report.elapsed_s for stage, report in spent.items() if stage in RECOVERY_STAGES)
