"""What a drill comes to: pure functions from what was found to problems and a verdict.

Everything that decides stands in the result itself, so that a stored result leads to its verdict again. Only what was
compared, measured and finished speaks for a backup; silence never does.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

from replcheck.model.drill import (
    RECOVERY_STAGES,
    Blame,
    DrillLimits,
    DrillResult,
    DrillVerdict,
    LayerName,
    LayerReport,
    LayerState,
    Problem,
    RecoveryFacts,
    Stage,
    StageReport,
    Target,
    TargetKind,
)
from replcheck.model.units import format_duration

TOO_SLOW = "recovery_time"
TOO_OLD = "recovery_point"
UNMEASURED = "limit_unmeasured"
NOT_REACHED = "target_not_reached"
REQUIRED = "layer_required"
ASKED_FOR = "layer_not_run"
_OF_SOME_KINDS = (LayerName.MANIFEST, LayerName.CHECKSUMS)
_ELSEWHERE = "Require it of those backups alone that can have it: by `require` of a backup instead of drill.require."
DUMP_CHANGED = "the dump was changed since it was sealed: its SHA-256 is another"
"""Why the comparison of a dump with its seal is inconclusive although its rows match."""
MOVED_ON = "rows have moved on since: deleted or updated on the primary"
"""Why the comparison with a primary that goes on writing is inconclusive although all rows that could be told match."""
SEAL_SCOPE = "the seal was not made of everything"
"""How the note begins that names what a seal was limited to."""


def verdict_of(
    layers: Iterable[LayerReport], problems: Iterable[Problem], *, opened: bool, reached: bool | None = None
) -> DrillVerdict:
    """Return the verdict.

    `opened` says whether the copy came back and answered; `reached` whether recovery reached its target, None where
    there was no recovery. The backup is refuted by what is its own fault before anything else counts, and without rows
    that were compared and matched it is never called restored. A layer that did not run proves nothing and is told as
    such; it leaves the backup unchecked where it was required, and not all proven where it was asked for by name: both
    are problems then.
    """
    layers, problems = list(layers), list(problems)
    blames = {problem.blame for problem in problems if not problem.partial or problem.blame is Blame.BACKUP}
    if Blame.BACKUP in blames or any(layer.state is LayerState.FAILED for layer in layers):
        return DrillVerdict.FAILED
    if reached is False:
        return DrillVerdict.FAILED
    if Blame.ENVIRONMENT in blames or not opened:
        return DrillVerdict.NOT_TRIED
    if not shortfalls(layers, problems):
        return DrillVerdict.RESTORED
    compared = any(layer.compared_rows for layer in layers)
    return DrillVerdict.UNPROVEN if compared else DrillVerdict.UNCOMPARED


def result_verdict(result: DrillResult) -> DrillVerdict:
    """Return the verdict that the content of a result leads to."""
    reached = result.recovery.reached if result.recovery else None
    return verdict_of(result.layers, result.problems, opened=was_opened(result.stages), reached=reached)


def shortfalls(layers: Iterable[LayerReport], problems: Iterable[Problem] = ()) -> list[str]:
    """Return what keeps a copy that came back from being proven, a clause each; empty where nothing does."""
    layers = list(layers)
    told = [problem.what for problem in problems if problem.partial]
    comparing = [layer for layer in layers if layer.name.compares_rows]
    if all(layer.state is LayerState.NOT_RUN for layer in comparing):
        told.append(_why_not_compared(comparing))
    for layer in layers:
        if layer.state is LayerState.INCONCLUSIVE:
            because = f": {_first(layer.reason)}" if layer.reason else ""
            told.append(f"{layer.name.value} inconclusive{because}")
    return told


def lacks_only_rows(result: DrillResult) -> bool:
    """Return whether a copy came back and all that is not proven are rows that nobody could compare.

    Such a drill neither proves the rows of a backup nor says anything against it: no seal was at hand, and no primary
    or one that has moved on. Whatever else falls short may be the backup's fault.
    """
    partly = result.verdict in (DrillVerdict.UNPROVEN, DrillVerdict.UNCOMPARED)
    doubtful = [layer for layer in result.layers if layer.state is LayerState.INCONCLUSIVE]
    return partly and not result.problems and all(_has_only_moved_on(layer) for layer in doubtful)


def _has_only_moved_on(layer: LayerReport) -> bool:
    return layer.name is LayerName.PRIMARY and layer.reason.endswith(MOVED_ON) and "; " not in layer.reason


def was_opened(stages: Iterable[StageReport]) -> bool:
    """Return whether the copy came to answer."""
    return any(stage.stage is Stage.OPEN and stage.finished for stage in stages)


def merged(stages: Iterable[StageReport]) -> tuple[StageReport, ...]:
    """Return one report for each stage, in their order: a stage that was entered several times counts whole."""
    by_stage: dict[Stage, list[StageReport]] = {}
    for report in stages:
        by_stage.setdefault(report.stage, []).append(report)
    return tuple(_merged(stage, by_stage[stage]) for stage in Stage if stage in by_stage)


def recovery_time_s(stages: Iterable[StageReport]) -> float | None:
    """Return the seconds until the copy could be used; None where it never could."""
    stages = list(stages)
    if not was_opened(stages):
        return None
    return sum(report.elapsed_s for report in stages if report.stage in RECOVERY_STAGES)


def limit_problems(
    limits: DrillLimits, stages: Sequence[StageReport], target: Target, age_s: float | None
) -> Iterator[Problem]:
    """Yield the limits that were exceeded, and those that could not be measured though the copy opened.

    The age of the newest commit is held against its limit only where the end of the archive was asked for: any other
    target lies in the past on purpose.
    """
    took_s = recovery_time_s(stages)
    if took_s is None:
        return
    if limits.max_time_s is not None and took_s > limits.max_time_s:
        yield _exceeded(TOO_SLOW, "the recovery took", took_s, limits.max_time_s, "max_time")
    if limits.max_age_s is None or target.kind is not TargetKind.LATEST:
        return
    if age_s is None:
        yield Problem(
            code=UNMEASURED,
            what="the age of the newest recovered commit, which is limited, cannot be told: none was replayed",
            blame=Blame.ENVIRONMENT,
            hint="Have something committed behind each backup, or leave out drill.max_age for backups without WAL.",
            partial=True,
        )
    elif age_s > limits.max_age_s:
        yield _exceeded(TOO_OLD, "the newest recovered commit was as old as", age_s, limits.max_age_s, "max_age")


def recovery_problems(recovery: RecoveryFacts | None, target: Target) -> Iterator[Problem]:
    """Yield that the target was not reached, where a source handed back such a copy as restored."""
    if recovery is not None and not recovery.reached:
        yield Problem(
            code=NOT_REACHED,
            what=f"recovery ended at {recovery.replayed} on timeline {recovery.timeline} and did not stop at its target"
            f" {target.text}",
            blame=Blame.BACKUP,
        )


def required_problems(layers: Iterable[LayerReport], required: Collection[LayerName]) -> Iterator[Problem]:
    """Yield the layers that must run and did not."""
    for layer in layers:
        if layer.name in required and layer.state is LayerState.NOT_RUN:
            because = f": {layer.reason}" if layer.reason else ""
            yield Problem(
                code=REQUIRED,
                what=f'the layer "{layer.name.value}" is required and did not run{because}',
                blame=Blame.ENVIRONMENT,
                hint=_ELSEWHERE if layer.by_design and layer.name in _OF_SOME_KINDS else layer.hint,
            )


def asked_problems(layers: Iterable[LayerReport], asked: Collection[LayerName]) -> Iterator[Problem]:
    """Yield the layers that were asked for by name and could not run; what is so by design is only told."""
    for layer in layers:
        if layer.name in asked and layer.state is LayerState.NOT_RUN and not layer.by_design:
            yield Problem(
                code=ASKED_FOR,
                what=f'the layer "{layer.name.value}" was asked for and did not run',
                blame=Blame.ENVIRONMENT,
                partial=True,
            )


def _why_not_compared(layers: Sequence[LayerReport]) -> str:
    reasons = list(dict.fromkeys(layer.reason for layer in layers if layer.reason))
    return f"no row was compared ({'; '.join(reasons)})" if reasons else "no row was compared"


def _first(reason: str) -> str:
    """Return the first of the clauses that a reason consists of, and how many follow."""
    first, *others = reason.split("; ")
    return f"{first}, and {len(others):,} more" if others else first


def _merged(stage: Stage, reports: Sequence[StageReport]) -> StageReport:
    sizes = [report.size_bytes for report in reports if report.size_bytes is not None]
    return StageReport(
        stage=stage,
        elapsed_s=sum(report.elapsed_s for report in reports),
        size_bytes=sum(sizes) if sizes else None,
        finished=reports[-1].finished,
    )


def _exceeded(code: str, what: str, measured_s: float, limit_s: float, key: str) -> Problem:
    return Problem(
        code=code,
        what=f"{what} {format_duration(measured_s)}, and drill.{key} allows {format_duration(limit_s)}",
        blame=Blame.BACKUP,
    )
