"""One drill from a backup to its result: locate, restore, prove, measure, remove.

Whatever happens, what a source and a room had made is stopped and removed unless it is to be kept, and the result says
where it lay. Every problem is named, the first one does not hide the others, and a layer that could not run never
counts as passed.
"""

import errno
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from replcheck import __version__
from replcheck.drill import archiving, verdict
from replcheck.drill.backups.source import BackupSource, Restored
from replcheck.drill.choice import chosen
from replcheck.drill.layers.layer import WRITING, Case, Layer, Moment
from replcheck.drill.scratch import Scratch, check_space
from replcheck.drill.stages import Stages
from replcheck.drill.together import look_together
from replcheck.errors import (
    BackupRefuted,
    DrillError,
    Interrupted,
    NodeError,
    NotArchived,
    ProgramError,
    ReplcheckError,
)
from replcheck.events import BackupChosen, Emit, LayerFinished, ProblemFound
from replcheck.model.drill import (
    BackupKind,
    Blame,
    CopyFacts,
    DrillLimits,
    DrillResult,
    LayerName,
    LayerReport,
    LayerState,
    Problem,
    RecoveryFacts,
    ScratchFacts,
    Stage,
    StageReport,
    Target,
)

NO_LIMITS = DrillLimits()
NO_SPACE = "no_space"
INTERRUPTED = "interrupted"
NOT_REMOVED = "not_removed"


class Room(Protocol):
    """Where scratch directories are made; every method raises DrillError where it cannot do what it is asked for."""

    def check(self, needed_bytes: int | None) -> None:
        """Raise DrillBlocked where there is no room for so many bytes; None is not known and passes."""

    def open(self, *, run_id: str, backup: str) -> Scratch:
        """Make a scratch directory."""

    def keep(self, scratch: Scratch) -> None:
        """Note that a scratch directory is left on purpose."""

    def remove(self, scratch: Scratch) -> None:
        """Stop what runs in a scratch directory and remove it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a drill is to do."""

    run_id: str
    started_at: datetime
    cluster: str
    backup: str
    """Name of the backup in the configuration, or `--from`."""
    source: BackupSource
    room: Room
    target: Target
    layers: Sequence[Layer]
    absent: Sequence[LayerReport] = ()
    """Reports of the layers that will not run, with the reason."""
    copy_label: str | None = None
    place: str = ""
    """Where the source looks for its backups, for a message."""
    reachable: Target | None = None
    """Where the target lies, for the choice of a backup: the position of a seal; None is the target itself."""
    required: Collection[LayerName] = ()
    asked: Collection[LayerName] = ()
    """Layers that were asked for by name, or by the target."""
    limits: DrillLimits = NO_LIMITS
    keep: bool = False
    needs_room: bool = True
    """Whether the copy lies in the scratch directory."""
    notes: tuple[str, ...] = ()
    known: tuple[Problem, ...] = ()
    """What was found before it began."""


def run_trial(
    trial: Trial,
    *,
    emit: Emit,
    now: Callable[[], datetime],
    obey: Callable[[], None] = lambda: None,
) -> DrillResult:
    """Restore one backup, prove it, remove it, and return what was found.

    An interrupt ends it early and is a problem of the result like any other; only a defect of ours is raised, after
    everything was removed.
    """
    attempt = _Attempt(trial, emit, obey)
    try:
        attempt.run()
    finally:
        attempt.clean_up()
    return attempt.result(now())


class _TrialStages(Stages):
    """Runs what must be done with restored files before a server touches them, outside every stage's time."""

    def __init__(self, emit: Emit, *, obey: Callable[[], None], before_server: Callable[[], None]) -> None:
        super().__init__(emit, obey=obey)
        self._before_server: Callable[[], None] | None = before_server

    @contextmanager
    def enter(self, stage: Stage, total_bytes: int | None = None) -> Iterator[None]:
        """Time a stage, as always."""
        if stage is Stage.RECOVER and self._before_server is not None:
            act, self._before_server = self._before_server, None
            act()
        with super().enter(stage, total_bytes):
            yield


@dataclass(slots=True)
class _Attempt:
    """The course of one drill, and what was found on it so far."""

    trial: Trial
    emit: Emit
    obey: Callable[[], None]
    copy: CopyFacts | None = None
    scratch: Scratch | None = None
    restored: Restored | None = None
    recovery: RecoveryFacts | None = None
    removed: bool = False
    where: str = ""
    connect: str = ""
    """How to connect to the copy that is kept; it is kept only where this is set."""
    restoring: bool = False
    problems: list[Problem] = field(default_factory=list)
    reports: dict[LayerName, LayerReport] = field(default_factory=dict)
    stages: Stages = field(init=False)

    def __post_init__(self) -> None:
        self.stages = _TrialStages(self.emit, obey=self.obey, before_server=lambda: self._prove(Moment.FETCHED))

    def run(self) -> None:
        """Come as far as possible; what stops the drill becomes a problem."""
        for problem in self.trial.known:
            self._problem(problem)
        try:
            self._restore(self._locate())
            self._prove(Moment.OPEN)
            self._prove_stopped()
        except (ReplcheckError, OSError) as error:
            self._problem(self._judged(self._cause(error)))

    def clean_up(self) -> None:
        """Undo everything outside and inside the scratch directory, unless it is to be kept and the copy is open."""
        if self.trial.keep and self.restored is not None and not self._interrupted:
            self.connect = _how_to_connect(self.restored)
            self._tried(self._note_kept)
        if self.connect or (self.scratch is None and not self.restoring):
            return
        # A second signal must not cut the removal short.
        self.stages.obey = self.obey = lambda: None
        with self.stages.enter(Stage.REMOVE):
            gone = [self._tried(self._release), self._tried(self._remove)]
        self.removed = all(gone)

    def result(self, finished_at: datetime) -> DrillResult:
        """Return everything that was found, folded into a verdict."""
        trial, stages = self.trial, verdict.merged(self._all_stages())
        layers = self._all_layers()
        age_s = self._age_s()
        found = [
            *verdict.recovery_problems(self.recovery, trial.target),
            *verdict.limit_problems(trial.limits, stages, trial.target, age_s),
            *verdict.required_problems(layers, trial.required),
        ]
        known = {problem.code for problem in self.problems}
        for problem in found:
            if problem.code not in known:
                self._problem(problem)
        if verdict.was_opened(stages) and all(problem.partial for problem in self.problems):
            # Where something else ended the drill, that is the reason, and not each layer.
            for problem in verdict.asked_problems(layers, set(trial.asked) - set(trial.required)):
                self._problem(problem)
        reached = self.recovery.reached if self.recovery else None
        return DrillResult(
            run_id=trial.run_id,
            started_at=trial.started_at,
            finished_at=finished_at,
            tool_version=__version__,
            cluster=trial.cluster,
            backup=trial.backup,
            copy=self.copy,
            target=trial.target,
            recovery=self.recovery,
            stages=stages,
            layers=layers,
            problems=tuple(self.problems),
            limits=trial.limits,
            recovery_point_age_s=age_s,
            scratch=self._scratch_facts(),
            verdict=verdict.verdict_of(layers, self.problems, opened=verdict.was_opened(stages), reached=reached),
            tool_notes=(*trial.notes, *(self.restored.notes if self.restored else ())),
        )

    def _cause(self, error: ReplcheckError | OSError) -> ReplcheckError | OSError:
        """Return the interrupt where one was asked for: a terminal sends Ctrl-C to the programs that were running too.

        That they failed then says nothing of the backup.
        """
        try:
            self.obey()
        except Interrupted as interrupt:
            return interrupt
        return error

    def _judged(self, error: ReplcheckError | OSError) -> Problem:
        """Return an error as a problem; where the archive ends before the target, the age of that decides."""
        target, began, delay_s = self.trial.target, self.trial.started_at, self.trial.limits.archive_delay_s
        if not isinstance(error, NotArchived):
            return _problem_of(error)
        if target.sealed is None:
            return archiving.early_end_problem(target, error, now=began, delay_s=delay_s)
        lack = archiving.Lack(
            seal_id=target.seal_id or "",
            made_at=target.sealed.made_at,
            missing=error.missing,
            in_part=error.in_part,
            owed=error.owed,
            progress=error.progress,
        )
        return archiving.lack_problem(lack, now=began, delay_s=delay_s)

    @property
    def _interrupted(self) -> bool:
        return any(problem.code == INTERRUPTED for problem in self.problems)

    def _locate(self) -> CopyFacts:
        trial = self.trial
        with self.stages.enter(Stage.LOCATE):
            self.copy = chosen(
                trial.source.copies(), trial.copy_label, trial.reachable or trial.target, place=trial.place
            )
            self.emit(BackupChosen(at=_utc_now(), backup=trial.backup, copy=self.copy))
            archiving.require_past(trial.target, trial.started_at)
            trial.source.requirements(self.copy, trial.target)
            if trial.needs_room:
                trial.room.check(self.copy.size_bytes)
        return self.copy

    def _restore(self, copy: CopyFacts) -> None:
        trial = self.trial
        self.scratch = trial.room.open(run_id=trial.run_id, backup=trial.backup)
        self.where = str(self.scratch.directory)
        # A live server may lie on the same file system: it must not be starved by a copy that grew beyond its estimate.
        self.stages.watch = partial(check_space, self.scratch.directory, 0)
        self.restoring = True
        self.restored = trial.source.restore(copy, trial.target, self.scratch, self.stages)
        self.recovery = self.restored.recovery
        self.where = self.restored.where or self.where
        for problem in self.restored.problems:
            self._problem(replace(problem, partial=problem.blame is Blame.ENVIRONMENT))

    def _prove(self, moment: Moment) -> None:
        layers = [layer for layer in self.trial.layers if layer.moment is moment]
        if not layers or self.copy is None:
            return
        case = Case(
            copy=self.copy,
            target=self.trial.target,
            restored=self.restored,
            data_dir=self._data_dir(),
            stages=self.stages,
        )
        with self.stages.enter(Stage.PROVE):
            together = [layer for layer in layers if self._may_look_with_others(layer)]
            if len(together) > 1:
                look_together(together, case, self.stages, self._looked, self._take)
                layers = [layer for layer in layers if layer not in together]
            for layer in layers:
                self.obey()
                self.stages.expect(None)
                report = self._looked(layer, case)
                # What a layer says whose programs were ended under it proves nothing.
                self.obey()
                self._take(report)

    def _may_look_with_others(self, layer: Layer) -> bool:
        """Return whether a layer may look while others do: on a server of ours, and where nobody writes.

        What one layer writes another would find: an extension that is made for a check is no row of the original. A
        copy that stands still in recovery takes no writes.
        """
        if layer.moment is not Moment.OPEN or self.restored is None or self.restored.server is None:
            return False
        still = self.restored.recovery is not None and self.restored.recovery.in_recovery
        return still or layer.name not in WRITING

    def _data_dir(self) -> Path | None:
        if self.restored is not None:
            return self.restored.server.data_dir if self.restored.server is not None else None
        return self.scratch.data_dir if self.scratch is not None else None

    def _looked(self, layer: Layer, case: Case) -> LayerReport:
        began = time.monotonic()
        try:
            report = layer.run(case)
        except Interrupted:
            raise
        except ReplcheckError as error:
            return LayerReport(name=layer.name, state=LayerState.NOT_RUN, reason=error.message)
        ran = report.state is not LayerState.NOT_RUN
        return replace(report, elapsed_s=time.monotonic() - began) if ran and not report.elapsed_s else report

    def _prove_stopped(self) -> None:
        """Stop the scratch server cleanly for the layers that want that, and start it again where it is kept."""
        server = self.restored.server if self.restored else None
        wanting = [layer for layer in self.trial.layers if layer.moment is Moment.STOPPED]
        if not wanting:
            return
        if server is None:
            for layer in wanting:
                reason = "the copy lies on no server of ours"
                self._take(LayerReport(name=layer.name, state=LayerState.NOT_RUN, reason=reason, by_design=True))
            return
        server.stop()
        try:
            self._prove(Moment.STOPPED)
        finally:
            if self.trial.keep:
                server.start()

    def _take(self, report: LayerReport) -> None:
        self.reports[report.name] = report
        self.emit(LayerFinished(at=_utc_now(), layer=report))

    def _problem(self, problem: Problem) -> None:
        self.problems.append(problem)
        self.emit(ProblemFound(at=_utc_now(), problem=problem))

    def _release(self) -> None:
        if self.restoring:
            self.trial.source.release(self.restored)

    def _note_kept(self) -> None:
        self.trial.source.kept()
        if self.scratch is not None:
            self.trial.room.keep(self.scratch)

    def _remove(self) -> None:
        if self.scratch is not None:
            self.trial.room.remove(self.scratch)

    def _tried(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except (ReplcheckError, OSError) as error:
            problem = _problem_of(error)
            what = f"the scratch copy could not be removed: {problem.what}"
            hint = problem.hint or 'Try "replcheck drill --clean".'
            self._problem(Problem(code=NOT_REMOVED, what=what, blame=Blame.ENVIRONMENT, hint=hint))
            return False
        return True

    def _all_stages(self) -> list[StageReport]:
        reports = list(self.stages.reports)
        if self.restored is not None and not any(report.stage is Stage.OPEN for report in reports):
            reports.append(StageReport(stage=Stage.OPEN, elapsed_s=0.0))
        if self.restored is None:
            # A copy that never came back is not open, whatever stage its source had entered.
            reports = [replace(r, finished=False) if r.stage is Stage.OPEN else r for r in reports]
        return reports

    def _all_layers(self) -> tuple[LayerReport, ...]:
        waiting = {layer.name for layer in self.trial.layers}
        reports = {report.name: report for report in self.trial.absent} | self.reports
        for name in LayerName:
            if name not in reports:
                reason = "the drill did not come so far" if name in waiting else "not asked for"
                reports[name] = LayerReport(
                    name=name, state=LayerState.NOT_RUN, reason=reason, by_design=name not in waiting
                )
        return tuple(reports[name] for name in LayerName)

    def _age_s(self) -> float | None:
        if self.restored is None or self.copy is None:
            return None
        newest = self.recovery.last_commit_at if self.recovery else None
        if self.recovery is None and self.copy.kind is BackupKind.DUMP:
            newest = self.copy.taken_at
        return max(0.0, (self.trial.started_at - newest).total_seconds()) if newest else None

    def _scratch_facts(self) -> ScratchFacts | None:
        if self.scratch is None and not self.restoring:
            return None
        return ScratchFacts(where=self.where, removed=self.removed, connect=self.connect)


def _how_to_connect(restored: Restored) -> str:
    if restored.server is None:
        return restored.where or "with what your own command handed back"
    return f'psql "{restored.server.dsn()}"'


def _problem_of(error: ReplcheckError | OSError) -> Problem:
    if isinstance(error, OSError):
        where = f" {error.filename}" if isinstance(error.filename, str) else ""
        told = f"the system refused{where}: {(error.strerror or 'unknown error').lower()}"
        code = NO_SPACE if error.errno in (errno.ENOSPC, errno.EDQUOT) else "system_refused"
        return Problem(code=code, what=told, blame=Blame.ENVIRONMENT)
    if isinstance(error, Interrupted):
        again = "Run the drill again and let it finish."
        return Problem(code=INTERRUPTED, what=error.message, blame=Blame.ENVIRONMENT, hint=again)
    blame = Blame.BACKUP if isinstance(error, BackupRefuted) else Blame.ENVIRONMENT
    if isinstance(error, DrillError):
        code = error.code
    elif isinstance(error, ProgramError):
        code = "program_failed"
    else:
        code = "server_failed" if isinstance(error, NodeError) else "failed"
    return Problem(code=code, what=error.message, blame=blame, hint=error.hint)


def _utc_now() -> datetime:
    return datetime.now(UTC)
