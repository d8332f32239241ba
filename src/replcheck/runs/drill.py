"""The use case `drill`: trial restores from request to record.

Every drill ends in one RunRecord, whether it proved something, failed or was interrupted, and whatever ends it, what it
made is removed first. A history that cannot be written costs the record, never the verdict.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from replcheck.config.model import CommandBackup, DumpBackup
from replcheck.drill.backups.source import BackupSource
from replcheck.drill.choice import can_start
from replcheck.drill.plan import (
    LayerWishes,
    dump_of,
    finder,
    layers_for,
    sealed_target,
    source_of,
    where_it_lies,
)
from replcheck.drill.room import FolderRoom
from replcheck.drill.scratch import remove_root, require_drills_folder
from replcheck.drill.seal_choice import Choice, choose_seal
from replcheck.drill.seals import NEWEST, find_seal
from replcheck.drill.trial import INTERRUPTED, Room, Trial, run_trial
from replcheck.drill.verdict import SEAL_SCOPE
from replcheck.errors import DrillBlocked, DrillError, Interrupted, ReplcheckError
from replcheck.events import Emit, RunFinished, RunStarted
from replcheck.model.drill import BackupKind, DrillResult, DrillVerdict, LayerName, TargetKind
from replcheck.model.evidence import EvidenceHead
from replcheck.model.run import UNNAMED_CLUSTER, RunRecord, RunStart
from replcheck.model.seal import SealManifest, SignatureState, StoredSeal
from replcheck.model.units import format_duration
from replcheck.postgres.dump_databases import drop_abandoned
from replcheck.report.drill import drill_document
from replcheck.report.drill_words import drill_sentence
from replcheck.runs.audit import Tell
from replcheck.runs.demo_stop import StopWish
from replcheck.runs.drill_before import judged
from replcheck.runs.drill_request import DrillRequest
from replcheck.runs.lock import lock_file, one_of_several_runs, only_run
from replcheck.runs.recorder import Recorder
from replcheck.runs.records import ended, failed, now, started
from replcheck.runs.sinks import FanOut, Sink
from replcheck.runs.turn import turn_of

KIND = "drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedDrill:
    """How one drill ended: with a result, or with the error that kept it from one."""

    record: RunRecord
    result: DrillResult | None
    error: ReplcheckError | None
    unrecorded: str = ""
    """Why the history lacks this run; empty where it was kept or none was wanted."""
    evidence: EvidenceHead | None = None
    """The run's record in the chain of its cluster; None where none was kept."""


class Source(Protocol):
    """What makes the source of a request."""

    def __call__(self, request: DrillRequest) -> BackupSource:
        """Return it."""


def _cleaned(root: Path) -> list[Path]:
    try:
        return FolderRoom(root=root).clean()
    except DrillBlocked:
        return []  # the drill itself will say that another is at work there


def _destroyed(request: DrillRequest) -> list[str]:
    try:
        return FolderRoom(root=request.scratch).destroy(request.commands)
    except DrillBlocked:
        return []  # the drill itself will say that another is at work there


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What drills are made of; tests bring their own."""

    source: Source = lambda request: source_of(
        request.name, request.backup, scratch_dsn=request.scratch_dsn, programs=finder(request.programs)
    )
    room: Callable[[Path], Room] = lambda root: FolderRoom(root=root)
    clean: Callable[[Path], list[Path]] = _cleaned
    destroy: Callable[[DrillRequest], list[str]] = _destroyed


def run_drills(
    request: DrillRequest,
    *,
    sinks: Sequence[Sink] = (),
    store: Path | None = None,
    tell: Tell = lambda _: None,
    finished: Callable[[FinishedDrill], None] = lambda _: None,
    parts: Parts | None = None,
    wish: StopWish | None = None,
) -> list[FinishedDrill]:
    """Drill the backup that was asked for, or each of its source in turn, keep the records, and return them.

    What drills that were killed left in the same folder is removed first. `store` is the file of the history, None for
    none; `finished` is told each as it ends; `tell` takes lines about signals and broken sinks. After a signal no
    further backup is drilled, and one drill of those returned says that it was interrupted; `wish` is that of a caller
    who takes the signals itself. Raises UsageError where another drill of the same cluster is running, and
    ConfigurationError where the signing key cannot be used; every other ReplcheckError is returned.
    """
    parts = parts or Parts()
    done: list[FinishedDrill] = []
    if store is not None:
        request.signing.check()
    with _turn(request, store), _wish(wish, tell) as obeyed:
        for left in parts.destroy(request):
            tell(f"warning: {left}")
        for folder in parts.clean(request.scratch):
            tell(f"note: {folder}, left by a drill that was killed, was removed")
        obey = _obedience(obeyed, request.timeout_s)
        for single in _single_requests(request, parts):
            one = _run_one(single, parts, sinks=sinks, store=store, tell=tell, obey=obey)
            done.append(one)
            finished(one)
            # A signal that came once a drill was past obeying leaves its verdict as it is; the next tells of it.
            if _ended_early(one) and _was_interrupted(obeyed):
                break
    return done


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedUp:
    """What is gone, and what may still be there, a clause each."""

    removed: tuple[str, ...]
    left: tuple[str, ...]


def clean_up(
    root: Path, scratch_dsn: str | None = None, *, commands: Mapping[str, CommandBackup] = MappingProxyType({})
) -> CleanedUp:
    """Remove what killed drills left under a folder and on servers of the user's, and what was kept; tell each.

    `commands` are the backups of the kind `command`, by name: they destroy what they had provided. Raises DrillBlocked
    where a drill is at work there, NodeError where the server cannot be used, and what the system refuses.
    """
    require_drills_folder(root)
    left = FolderRoom(root=root).destroy(commands, kept=True)
    removed = [str(folder) for folder in FolderRoom(root=root).clean(kept=True)]
    remove_root(root)
    dropped = drop_abandoned(scratch_dsn, kept=True) if scratch_dsn is not None else ()
    return CleanedUp(removed=(*removed, *(f'database "{name}"' for name in dropped)), left=tuple(left))


def _run_one(
    request: DrillRequest,
    parts: Parts,
    *,
    sinks: Sequence[Sink],
    store: Path | None,
    tell: Tell,
    obey: Callable[[], None],
) -> FinishedDrill:
    start = started(KIND, request.cluster, request.argument_digest)
    recorder = Recorder(store, request.signing)
    recorder.begin(start)
    emit = FanOut(list(sinks), report_broken=tell)
    emit(RunStarted(at=start.started_at, run_id=start.run_id, kind=KIND, cluster=request.cluster))
    try:
        result = judged(_drilled(request, parts, start, emit, obey), request, store, emit)
        found = _succeeded(start, result)
    except ReplcheckError as error:
        found = _failed(start, error)
    except BaseException as defect:
        recorder.finish(_failed(start, ReplcheckError(f"ended by {type(defect).__name__}")).record)
        raise
    recorder.finish(found.record, drill_document(found.result) if found.result else None)
    record = found.record
    emit(RunFinished(at=record.finished_at, run_id=record.run_id, outcome=record.outcome, summary=record.summary))
    return replace(found, unrecorded=recorder.problem, evidence=recorder.evidence)


def _drilled(request: DrillRequest, parts: Parts, start: RunStart, emit: Emit, obey: Callable[[], None]) -> DrillResult:
    obey()
    source = parts.source(request)
    trial = _trial(request, parts, source, _seal(request, source), run_id=start.run_id, started_at=start.started_at)
    return run_trial(trial, emit=emit, now=now, obey=obey)


def _trial(
    request: DrillRequest,
    parts: Parts,
    source: BackupSource,
    choice: Choice | None,
    *,
    run_id: str,
    started_at: datetime,
) -> Trial:
    seal = choice.taken.manifest if choice else None
    wishes = LayerWishes(
        wanted=request.layers,
        seal=seal,
        nodes=request.nodes,
        assertions=request.assertions,
        programs=finder(request.programs),
        dumps=Path(request.backup.path) if isinstance(request.backup, DumpBackup) else None,
    )
    layers, absent = layers_for(source.kind, wishes)
    target = sealed_target(request.target, seal) if seal else request.target
    on_their_server = source.kind is BackupKind.DUMP and request.scratch_dsn is not None
    return Trial(
        run_id=run_id,
        started_at=started_at,
        cluster=request.cluster,
        backup=request.name,
        source=source,
        room=parts.room(request.scratch),
        target=target,
        place=getattr(request.backup, "path", ""),
        reachable=where_it_lies(target, seal),
        layers=layers,
        absent=absent,
        copy_label=request.copy_label or _sealed_dump(source, seal_label=dump_of(seal)),
        required=request.required,
        asked=(request.layers or frozenset()) | ({LayerName.SEAL} if seal else frozenset()),
        limits=request.limits,
        keep=request.keep,
        needs_room=source.kind is not BackupKind.COMMAND and not on_their_server,
        notes=(*_notes(choice.taken), *choice.notes(started_at)) if choice else (),
        known=choice.problems(started_at, request.limits.archive_delay_s) if choice else (),
    )


def _seal(request: DrillRequest, source: BackupSource) -> Choice | None:
    named = request.target.seal_id
    if request.target.kind is not TargetKind.SEAL or named is None:
        return None
    if named == NEWEST:
        choice = choose_seal(source, request.copy_label, request.seals, signing_key=request.signing.key)
        if choice is not None:
            return choice
    return Choice(taken=find_seal(named, request.seals, signing_key=request.signing.key))


def _sealed_dump(source: BackupSource, *, seal_label: str | None) -> str | None:
    """Return the label of the dump that was taken with the seal, where it is among the source's."""
    if source.kind is not BackupKind.DUMP or seal_label is None:
        return None
    try:
        labels = [copy.label for copy in source.copies()]
    except DrillError:
        return None  # the drill itself will say why
    return seal_label if seal_label in labels else None


def _notes(stored: StoredSeal) -> tuple[str, ...]:
    manifest = stored.manifest
    told = {
        SignatureState.VERIFIED: f"its signature by key {stored.key_id} is verified",
        SignatureState.UNVERIFIED: "it is signed, and no key is configured to verify that with",
        SignatureState.UNSIGNED: "it is not signed",
    }[stored.signature]
    where = f"PostgreSQL {manifest.server.major} on {manifest.server.architecture}"
    seal = f"seal {manifest.seal_id} of {manifest.cluster} at {manifest.restore_point.lsn}, {where}; {told}"
    limits = _limits(manifest)
    return (seal, f"{SEAL_SCOPE}: {limits}") if limits else (seal,)


def _limits(seal: SealManifest) -> str:
    """Return what a seal was limited to by its maker; empty where to nothing but user data."""
    scope = seal.scope
    told = [
        f"{word} {', '.join(patterns)}"
        for word, patterns in (
            ("only databases", scope.databases),
            ("only relations", scope.tables),
            ("without", scope.excludes),
            ("filtered", tuple(used.pattern for used in scope.filters)),
        )
        if patterns
    ]
    excluded = sum(note.by_design and note.code == "excluded" for note in seal.not_sealed)
    if excluded:
        told.append(f"{excluded:,} excluded")
    return "; ".join(told)


def _single_requests(request: DrillRequest, parts: Parts) -> Iterator[DrillRequest]:
    """Yield one request for each backup; where they cannot be listed, one that will tell why."""
    if not request.every:
        yield request
        return
    single = replace(request, every=False)
    try:
        source = parts.source(request)
        choice = _seal(request, source)
        target = where_it_lies(request.target, choice.taken.manifest if choice else None)
        labels = [copy.label for copy in source.copies() if can_start(copy, target)]
    except ReplcheckError:
        labels = []
    if not labels:
        yield single
    for label in labels:
        yield replace(single, copy_label=label)


def _wish(wish: StopWish | None, tell: Tell) -> AbstractContextManager[StopWish]:
    return nullcontext(wish) if wish is not None else StopWish(tell, "the drill").on_signals()


def _obedience(wish: StopWish, timeout_s: float | None) -> Callable[[], None]:
    """Return what raises Interrupted once a signal came, or the time is over."""
    deadline = time.monotonic() + timeout_s if timeout_s is not None else None

    def obey() -> None:
        wish.obey()
        if deadline is not None and time.monotonic() > deadline:
            raise Interrupted(
                f"the drill took longer than drill.timeout allows ({format_duration(timeout_s or 0)})",
                hint="Everything it had started was removed.",
            )

    return obey


def _was_interrupted(wish: StopWish) -> bool:
    try:
        wish.obey()
    except Interrupted:
        return True
    return False


def _ended_early(one: FinishedDrill) -> bool:
    problems = one.result.problems if one.result else ()
    return isinstance(one.error, Interrupted) or any(problem.code == INTERRUPTED for problem in problems)


def _succeeded(start: RunStart, result: DrillResult) -> FinishedDrill:
    record = ended(start, result.verdict.outcome, result.verdict.value, drill_sentence(result))
    return FinishedDrill(record=record, result=result, error=None)


def _failed(start: RunStart, error: ReplcheckError) -> FinishedDrill:
    return FinishedDrill(record=failed(start, DrillVerdict.NOT_TRIED.value, error), result=None, error=error)


def _turn(request: DrillRequest, store: Path | None) -> AbstractContextManager[None]:
    start = started(KIND, request.cluster, request.argument_digest)
    unchecked = DrillVerdict.NOT_TRIED.value
    return turn_of(start, _lock(request, store), store=store, signing=request.signing, unchecked=unchecked)


def _lock(request: DrillRequest, store: Path | None) -> AbstractContextManager[None]:
    if store is None:
        return nullcontext()
    if request.cluster == UNNAMED_CLUSTER:
        return one_of_several_runs(lock_file(store, KIND))
    return only_run(lock_file(store, KIND), f'a drill of cluster "{request.cluster}"')
