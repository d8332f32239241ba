"""Backups, layers and rooms that need no server, and results of drills as they may be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from replcheck.drill.backups.source import Restored
from replcheck.drill.layers.layer import Case, Moment
from replcheck.drill.scratch import Scratch
from replcheck.drill.stages import Stages
from replcheck.drill.trial import Trial
from replcheck.drill.wal import Segment
from replcheck.errors import ReplcheckError
from replcheck.model.audit import RelationKind, Scope
from replcheck.model.drill import (
    BackupKind,
    Blame,
    CopyFacts,
    DrillLimits,
    DrillResult,
    DrillVerdict,
    LayerName,
    LayerReport,
    LayerState,
    Problem,
    RecoveryFacts,
    RowDifference,
    ScratchFacts,
    Stage,
    StageReport,
    Target,
    TargetKind,
)
from replcheck.model.seal import (
    EXACT,
    RestorePoint,
    SealedDatabase,
    SealedRelation,
    SealedServer,
    SealFacts,
    SealManifest,
)
from replcheck.model.wal import Lsn
from replcheck.postgres.server import LocalServer

BEGAN = datetime(2026, 11, 28, 4, 30, tzinfo=UTC)
LATEST = Target(kind=TargetKind.LATEST, text="latest")
SEAL = Target(kind=TargetKind.SEAL, text="seal:01a2", seal_id="01a2", name="replcheck_01a2")
COPY = CopyFacts(
    label="20261128-0200",
    kind=BackupKind.BASE,
    format="tar.gz",
    taken_at=BEGAN - timedelta(hours=2, minutes=30),
    major=18,
    size_bytes=540 << 20,
    system_identifier=7_312_345_678_901_234_567,
    start_lsn=Lsn.parse("0/4000028"),
    end_lsn=Lsn.parse("0/4000158"),
    timeline=1,
)
RECOVERED = RecoveryFacts(
    reached=True,
    in_recovery=True,
    paused=True,
    timeline=1,
    replayed=Lsn.parse("0/9A000D8"),
    last_commit_at=BEGAN - timedelta(minutes=3),
    wal_files=12,
)


class FakeServer:
    """A scratch server that only remembers what was asked of it."""

    def __init__(self, log: list[str], data_dir: Path) -> None:
        self.log = log
        self.data_dir = data_dir

    def stop(self) -> None:
        """Note it."""
        self.log.append("stop")

    def start(self) -> None:
        """Note it."""
        self.log.append("start")

    def dsn(self) -> str:
        """Return an address."""
        return "host=/scratch port=5432 dbname=postgres user=postgres"


@dataclass(slots=True, kw_only=True)
class FakeSource:
    """A source with backups that come back, or fail at a stage."""

    log: list[str] = field(default_factory=list)
    found: Sequence[CopyFacts] = (COPY,)
    fails_in: Stage | None = None
    error: BaseException | None = None
    release_error: ReplcheckError | None = None
    with_server: bool = True
    recovery: RecoveryFacts | None = RECOVERED
    kind: BackupKind = BackupKind.BASE
    archived_to: int | None = None
    """Number of the last segment of its archive; None is not known."""

    def copies(self) -> Sequence[CopyFacts]:
        """Return the backups."""
        self.log.append("copies")
        self._fail(Stage.LOCATE)
        return self.found

    def requirements(self, copy: CopyFacts, target: Target) -> None:
        """Note it."""
        self.log.append(f"requirements {copy.label} {target.text}")

    def reaches(self, segment: Segment, segment_bytes: int) -> bool | None:
        """Know of the WAL up to `archived_to`."""
        return None if self.archived_to is None else segment.number <= self.archived_to

    def restore(self, copy: CopyFacts, target: Target, scratch: Scratch, stages: Stages) -> Restored:
        """Pass through all stages."""
        for stage in (Stage.FETCH, Stage.RESTORE, Stage.RECOVER, Stage.OPEN):
            with stages.enter(stage):
                self.log.append(stage.value)
                self._fail(stage)
        server = cast(LocalServer, FakeServer(self.log, scratch.data_dir)) if self.with_server else None
        return Restored(
            kind=self.kind, dsn="password=canary", server=server, programs=None, databases=None, recovery=self.recovery
        )

    def kept(self) -> None:
        """Note it."""
        self.log.append("kept")

    def release(self, restored: Restored | None) -> None:
        """Note it."""
        self.log.append("release" if restored else "release of nothing")
        if self.release_error:
            raise self.release_error

    def _fail(self, stage: Stage) -> None:
        if self.fails_in is stage and self.error is not None:
            raise self.error


@dataclass(slots=True, kw_only=True)
class FakeLayer:
    """A layer that finds what it was told to."""

    name: LayerName
    log: list[str]
    moment: Moment = Moment.OPEN
    state: LayerState = LayerState.PASSED
    error: BaseException | None = None
    act: Callable[[], None] = lambda: None
    cases: list[Case] = field(default_factory=list)

    def run(self, case: Case) -> LayerReport:
        """Note it, and report."""
        self.log.append(self.name.value)
        self.cases.append(case)
        self.act()
        if self.error is not None:
            raise self.error
        return layer(self.name, self.state)


@dataclass(slots=True, kw_only=True)
class FakeRoom:
    """A room without files."""

    log: list[str]
    error: ReplcheckError | None = None
    remove_error: Exception | None = None

    def check(self, needed_bytes: int | None) -> None:
        """Refuse where told to."""
        self.log.append(f"room for {needed_bytes}")
        if self.error:
            raise self.error

    def open(self, *, run_id: str, backup: str) -> Scratch:
        """Return a directory that is nowhere."""
        self.log.append(f"open {backup}")
        return Scratch(directory=Path("/scratch/drill"), account=None, run_id=run_id)

    def keep(self, scratch: Scratch) -> None:
        """Note it."""
        self.log.append("keep")

    def remove(self, scratch: Scratch) -> None:
        """Note it."""
        self.log.append("remove")
        if self.remove_error:
            raise self.remove_error


def trial(log: list[str], **changes) -> Trial:
    """Return a drill of a sound base backup with a seal that passes."""
    wanted: dict[str, Any] = {
        "run_id": "019535d9-3df7-79fb-b466-fa907fa17f9e",
        "started_at": BEGAN,
        "cluster": "clinic",
        "backup": "nightly",
        "source": FakeSource(log=log),
        "room": FakeRoom(log=log),
        "target": LATEST,
        "layers": [FakeLayer(name=LayerName.SEAL, log=log)],
    }
    return Trial(**(wanted | changes))


def layer(name: LayerName, state: LayerState = LayerState.PASSED, **changes) -> LayerReport:
    """Return the report of a layer."""
    ran = state is not LayerState.NOT_RUN
    compared: dict[str, Any] = {"rows": 689_519, "relations": 154} if ran and name.compares_rows else {}
    report = LayerReport(
        name=name,
        state=state,
        checked="154 relations, 689,519 rows" if compared else "540MB in 1,204 files" if ran else "",
        elapsed_s=2.5 if ran else 0.0,
        **compared,
    )
    return replace(report, **changes)


def layers(**states: LayerReport) -> tuple[LayerReport, ...]:
    """Return all layers, those named (by the name of their member) as given and the others left out by design."""
    out = {name: layer(name, LayerState.NOT_RUN, reason="not asked for", by_design=True) for name in LayerName}
    return tuple((out | {LayerName[key]: report for key, report in states.items()}).values())


STAGES = (
    StageReport(stage=Stage.LOCATE, elapsed_s=0.1),
    StageReport(stage=Stage.FETCH, elapsed_s=12.5, size_bytes=540 << 20),
    StageReport(stage=Stage.RESTORE, elapsed_s=1.0),
    StageReport(stage=Stage.RECOVER, elapsed_s=7.25, size_bytes=192 << 20),
    StageReport(stage=Stage.OPEN, elapsed_s=0.3),
    StageReport(stage=Stage.PROVE, elapsed_s=9.0),
    StageReport(stage=Stage.REMOVE, elapsed_s=0.4),
)


def result(**changes) -> DrillResult:
    """Return a drill whose rows were proven by a seal."""
    proven = DrillResult(
        run_id="019535d9-3df7-79fb-b466-fa907fa17f9e",
        started_at=BEGAN,
        finished_at=BEGAN + timedelta(seconds=31),
        tool_version="0.1.0",
        cluster="clinic",
        backup="nightly",
        copy=COPY,
        target=SEAL,
        recovery=RECOVERED,
        stages=STAGES,
        layers=layers(
            SEAL=layer(LayerName.SEAL),
            MANIFEST=layer(LayerName.MANIFEST),
            CHECKSUMS=layer(LayerName.CHECKSUMS, checked="69,120 pages"),
        ),
        problems=(),
        limits=DrillLimits(max_time_s=7200, max_age_s=300),
        recovery_point_age_s=180.0,
        scratch=ScratchFacts(where="/var/lib/replcheck-drill/drill-019535d9", removed=True),
        verdict=DrillVerdict.RESTORED,
    )
    return replace(proven, **changes)


def uncompared(**changes) -> DrillResult:
    """Return a drill to the end of the archive in which nothing compared rows."""
    return result(
        target=LATEST,
        layers=layers(
            SEAL=layer(LayerName.SEAL, LayerState.NOT_RUN, reason="no seal was named", by_design=True),
            PRIMARY=layer(LayerName.PRIMARY, LayerState.NOT_RUN, reason="no primary was named", by_design=True),
            MANIFEST=layer(LayerName.MANIFEST),
            AMCHECK=layer(LayerName.AMCHECK, LayerState.NOT_RUN, reason="pg_amcheck is missing from PostgreSQL 18.6"),
        ),
        verdict=DrillVerdict.UNCOMPARED,
        **changes,
    )


def failed(**changes) -> DrillResult:
    """Return a drill that found rows changed and missing."""
    differences = (
        RowDifference(
            database="clinic", relation="public.chart", kind="changed", count=1, first_block=99, last_block=99
        ),
        RowDifference(
            database="clinic", relation='public."Visit"', kind="missing", count=40, first_block=7, last_block=9
        ),
        RowDifference(database="clinic", relation="public.patient", kind="absent", count=None),
    )
    manifest = Problem(code="manifest_mismatch", what="file base/5/16384 has other content", blame=Blame.BACKUP)
    return result(
        layers=layers(
            SEAL=layer(LayerName.SEAL, LayerState.FAILED, differences=differences, rows=689_478),
            MANIFEST=layer(LayerName.MANIFEST, LayerState.FAILED, problems=(manifest,)),
        ),
        verdict=DrillVerdict.FAILED,
        **changes,
    )


def broken_archive(**changes) -> DrillResult:
    """Return a drill that a missing WAL segment ended, so that nothing could be proven."""
    missing = Problem(
        code="wal_missing",
        what="WAL segment 000000010000000000000007 is missing from the archive; recovery got to 0/6FFFFA0",
        blame=Blame.BACKUP,
        hint="Look whether archive_command failed at that time.",
    )
    unfinished = (
        *STAGES[:3],
        StageReport(stage=Stage.RECOVER, elapsed_s=3.0, finished=False),
        STAGES[-1],
    )
    not_come = dict.fromkeys(("SEAL", "CHECKSUMS"), LayerState.NOT_RUN)
    return result(
        stages=unfinished,
        recovery=None,
        recovery_point_age_s=None,
        layers=layers(
            **{
                name: layer(LayerName[name], state, reason="the drill did not come so far")
                for name, state in not_come.items()
            },
            MANIFEST=layer(LayerName.MANIFEST),
        ),
        problems=(missing,),
        verdict=DrillVerdict.FAILED,
        **changes,
    )


def blocked(**changes) -> DrillResult:
    """Return a drill that this machine has no room for."""
    no_room = Problem(
        code="no_space",
        what="there is no room for the copy in /scratch: it needs 604MB, and 12MB are free",
        blame=Blame.ENVIRONMENT,
        hint="Choose a folder on another file system as drill.scratch.",
    )
    return result(
        stages=(StageReport(stage=Stage.LOCATE, elapsed_s=0.2, finished=False),),
        recovery=None,
        recovery_point_age_s=None,
        layers=layers(SEAL=layer(LayerName.SEAL, LayerState.NOT_RUN, reason="the drill did not come so far")),
        problems=(no_room,),
        scratch=None,
        verdict=DrillVerdict.NOT_TRIED,
        **changes,
    )


def kept(**changes) -> DrillResult:
    """Return a drill whose scratch server goes on, and whose limits were exceeded."""
    slow = Problem(
        code="recovery_time", what="the recovery took 21s, and drill.max_time allows 10s", blame=Blame.BACKUP
    )
    return result(
        target=LATEST,
        problems=(slow,),
        limits=DrillLimits(max_time_s=10, max_age_s=60 * 60),
        scratch=ScratchFacts(
            where="/var/lib/replcheck-drill/drill-019535d9",
            removed=False,
            connect='psql "host=/var/lib/replcheck-drill/drill-019535d9/sockets port=5432 dbname=postgres"',
        ),
        verdict=DrillVerdict.FAILED,
        **changes,
    )


def seal(**changes: Any) -> SealManifest:
    """Return a seal of one relation."""
    relation = SealedRelation(
        schema="clinic",
        name="chart",
        kind=RelationKind.TABLE,
        oid=16_384,
        filenode=16_384,
        token=1,
        rows=689_519,
        size_bytes=93 << 20,
        part_blocks=128,
        parts=(),
    )
    made = SealManifest(
        format=1,
        seal_id="01a2",
        cluster="clinic",
        tool_version="0.1.0",
        encoding=EXACT,
        portable_encoding=None,
        seeds=("1",),
        restore_point=RestorePoint(
            name="replcheck_01a2", lsn=RECOVERED.replayed, created_at=BEGAN, timeline=1, attempts=1
        ),
        server=SealedServer(
            system_identifier=1,
            version_num=180006,
            major=18,
            version="18.6",
            machine="x86_64-pc-linux-gnu",
            hash_probe="1",
            block_size=8192,
            data_checksums=True,
        ),
        scope=Scope(databases=(), tables=(), excludes=(), catalogs=True),
        databases=(
            SealedDatabase(
                name="clinic",
                oid=5,
                encoding="UTF8",
                xmin=1,
                xmax=1,
                unsettled=(),
                relations=(relation,),
                sequences=(),
            ),
        ),
        not_sealed=(),
        facts=SealFacts(roles=(), tablespaces=(), databases=()),
    )
    return replace(made, **changes)


RESULTS = {
    "restored": result(),
    "uncompared": uncompared(),
    "failed": failed(),
    "broken-archive": broken_archive(),
    "blocked": blocked(),
    "kept": kept(),
}
