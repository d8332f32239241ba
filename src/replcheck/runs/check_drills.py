"""What controls are told of drills, out of the history: each as its report has it, or why there is none to go by.

A drill without a report is never left out: an older one that went well would take its place. What its record says of
it counts then: that it failed, or ended in an error. What cannot be read may have been anything.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from replcheck.check.facts import CLOCK_SLACK_S, DrillFact, Untold, UntoldDrill
from replcheck.check.found import listed
from replcheck.drill.verdict import lacks_only_rows, shortfalls
from replcheck.errors import AlreadyRunning, StoreError
from replcheck.model.drill import DrillResult, DrillVerdict, LayerName, LayerReport, LayerState, TargetKind
from replcheck.model.outcome import Outcome
from replcheck.model.run import RunRecord, RunStart, moment_of
from replcheck.report.drill import drill_result
from replcheck.runs.check_request import CheckRequest
from replcheck.runs.lock import is_held, lock_file
from replcheck.store import CheckReader

DRILL = "drill"
MOST_DRILLS = 100
_JUDGED = frozenset({LayerState.PASSED, LayerState.FAILED})


def find_drills(
    request: CheckRequest, reader: CheckReader, now: datetime
) -> tuple[tuple[DrillFact, ...], tuple[UntoldDrill, ...]]:
    """Return the drills that any control may ask for, and those without a report, each in the order they began."""
    policy = request.policy
    if policy.restore is None and policy.recovery_point is None and policy.integrity is None:
        return (), ()
    every = [policy.restore.every] if policy.restore else []
    every += [policy.recovery_point.drilled_every or 0.0] if policy.recovery_point else []
    recent = now - timedelta(seconds=max(every, default=0.0))
    before = len(reader.damaged)
    runs = reader.runs_of(request.cluster, DRILL, MOST_DRILLS)
    untold = [_unreadable(run_id) for run_id in reader.damaged[before:]]
    found: list[DrillFact] = []
    silent: list[tuple[RunStart, str]] = []
    names: dict[str, str] = {}
    for run in runs:
        if run.started_at < recent and _tells_enough(request, found, now):
            break
        told = _stored_drill(reader, run)
        if isinstance(told, DrillFact):
            found.append(told)
            names[run.argument_digest] = told.backup
        else:
            silent.append((run, told))
    # Which backup it was of, only what it was asked for can tell then.
    untold += [drill for run, why in silent if (drill := _untold(reader, run, why, names.get(run.argument_digest, "")))]
    return tuple(reversed(found)), tuple(sorted(untold, key=lambda drill: (drill.started_at or now, drill.run_id)))


def _stored_drill(reader: CheckReader, run: RunStart) -> DrillFact | str:
    """Return a drill as its report has it, or why there is none to go by."""
    if not isinstance(run, RunRecord) or run.failure is not None:
        return ""
    document = reader.with_result(run).document
    if document is None:
        return "its report is missing or damaged"
    try:
        result = drill_result(document)
    except ValueError:
        return "its report cannot be read"
    if result.verdict.outcome is not run.outcome or result.run_id != run.run_id:
        return "its report is not the one that was recorded"
    return drill_fact(result)


def _untold(reader: CheckReader, run: RunStart, why: str, backup: str) -> UntoldDrill | None:
    """Return what a drill without a report leaves in doubt; None for one that is at work, or never had its turn."""
    if not isinstance(run, RunRecord):
        loss, what = Untold.ERROR, "it was killed"
        if not _is_killed(reader, run):
            return None
    elif run.failure is not None:
        loss, what = Untold.ERROR, run.failure.message
        if run.failure.error == AlreadyRunning.__name__:
            return None
    else:
        loss, what = (Untold.FAILED if run.outcome is Outcome.REFUTED else Untold.UNREADABLE), why
    return UntoldDrill(run_id=run.run_id, backup=backup, started_at=run.started_at, loss=loss, what=what)


def _is_killed(reader: CheckReader, run: RunStart) -> bool:
    """Return whether a run without an end is not at work any more; without a lock's file that cannot be told."""
    lock = lock_file(reader.path, DRILL)
    if not lock.exists() or is_held(lock):
        return False
    try:
        # Seen anew: it may have ended since the history was read.
        return not isinstance(CheckReader(reader.path).run(run.run_id), RunRecord)
    except StoreError:
        return False


def _unreadable(run_id: str) -> UntoldDrill:
    what = "its record is damaged"
    began_at = moment_of(run_id)
    return UntoldDrill(run_id=run_id, backup="", started_at=began_at, loss=Untold.UNREADABLE, what=what)


def _tells_enough(request: CheckRequest, found: Sequence[DrillFact], now: datetime) -> bool:
    """Return whether older drills could tell nothing new: of each backup the last ones of every kind are known."""
    past = [drill for drill in found if drill.started_at <= now + timedelta(seconds=CLOCK_SLACK_S)]
    for backup in request.backups:
        own = [drill for drill in past if drill.backup == backup.name]
        judged = not backup.manifest or all(
            any(state in _JUDGED for state in states) or all(state is None for state in states)
            for states in ([drill.manifest for drill in own], [drill.pages for drill in own])
        )
        if not judged or not any(drill.verdict is DrillVerdict.RESTORED for drill in own):
            return False
    to_the_end = any(drill.to_the_end and drill.replayed is not None for drill in past)
    return to_the_end or not any(backup.archive for backup in request.backups)


def drill_fact(result: DrillResult) -> DrillFact:
    """Return what controls need of a drill."""
    copy, recovery = result.copy, result.recovery
    layers = {layer.name: layer for layer in result.layers}
    return DrillFact(
        run_id=result.run_id,
        backup=result.backup,
        started_at=result.started_at,
        finished_at=result.finished_at,
        verdict=result.verdict,
        copy=copy.label if copy else "",
        taken_at=copy.taken_at if copy else None,
        problem=_problem(result),
        recovery_time_s=result.recovery_time_s,
        recovery_point_age_s=result.recovery_point_age_s,
        to_the_end=result.target.kind is TargetKind.LATEST,
        replayed=recovery.replayed if recovery else None,
        timeline=recovery.timeline if recovery else None,
        manifest=_state(layers.get(LayerName.MANIFEST)),
        pages=_state(layers.get(LayerName.CHECKSUMS)),
        lacks_only_rows=lacks_only_rows(result),
    )


def _state(layer: LayerReport | None) -> LayerState | None:
    by_design = layer is None or (layer.state is LayerState.NOT_RUN and layer.by_design)
    return None if by_design or layer is None else layer.state


def _matched(result: DrillResult) -> list[str]:
    """Return the layers that compared all rows and found them to match, as a clause; nothing where none did."""
    passed = [layer.name.value for layer in result.layers if layer.compared_rows and layer.state is LayerState.PASSED]
    return [f"{listed(passed)} passed"] if passed else []


def _problem(result: DrillResult) -> str:
    if result.verdict is DrillVerdict.RESTORED:
        return ""
    if result.verdict.came_back:
        return "; ".join(_matched(result) + shortfalls(result.layers, result.problems))
    problems = [*result.problems, *(problem for layer in result.layers for problem in layer.problems)]
    failed = [f"{layer.name.value}: {layer.reason}" for layer in result.layers if layer.state is LayerState.FAILED]
    return next(iter([*(problem.what for problem in problems), *failed]), "")
