"""What the history and the seals say of the point that a drill came to: whether the archive still goes on."""

from dataclasses import replace
from pathlib import Path

from replcheck.config.model import BaseBackup, PgBackRestBackup, SnapshotBackup
from replcheck.drill.advance import is_comparable, point_of, standing_still, went_back
from replcheck.drill.seal_choice import overdue_seal
from replcheck.drill.verdict import result_verdict
from replcheck.errors import StoreError
from replcheck.events import Emit, ProblemFound
from replcheck.model.drill import FROM, DrillResult, Problem
from replcheck.model.run import RunRecord
from replcheck.report.drill import drill_result
from replcheck.runs.drill_request import DrillRequest
from replcheck.runs.records import now

_MOST = 50
"""Earlier drills that are looked through."""


def judged(result: DrillResult, request: DrillRequest, store: Path | None, emit: Emit) -> DrillResult:
    """Return a result with what the last drill of the same backup, and the seals made since, make of it.

    `store` is the file of the history, None for none. What cannot be read there says nothing.
    """
    point = point_of(result)
    if point is None or not _tells_of_the_end(request):
        return result
    problems: list[Problem] = []
    notes: list[str] = []
    stopped = overdue_seal(
        result, request.seals, delay_s=request.limits.archive_delay_s, signing_key=request.signing.key
    )
    problems += [stopped] if stopped is not None else []
    before = _last(result, request, store)
    past = point_of(before) if before is not None else None
    if past is not None:
        lost = went_back(point, past)
        problems += [lost] if lost is not None else []
        still = standing_still(point, past)
        notes += [still] if still else []
    for problem in problems:
        emit(ProblemFound(at=now(), problem=problem))
    told = replace(result, problems=(*result.problems, *problems), tool_notes=(*result.tool_notes, *notes))
    return replace(told, verdict=result_verdict(told))


def _tells_of_the_end(request: DrillRequest) -> bool:
    """Return whether the newest that can be restored was looked for: an old copy by itself tells nothing of it."""
    backup = request.backup
    follows = isinstance(backup, PgBackRestBackup) or (
        isinstance(backup, BaseBackup | SnapshotBackup) and bool(backup.wal or backup.restore_command)
    )
    return follows or request.copy_label is None


def _last(result: DrillResult, request: DrillRequest, store: Path | None) -> DrillResult | None:
    """Return the last drill of the same backup that came to a point; None where there is none."""
    if store is None:
        return None
    from replcheck.store import RunFilter, open_reader  # large, and a run without a history needs none of it

    try:
        reader = open_reader(store)
        for run in reader.runs(RunFilter(kind="drill", cluster=result.cluster), limit=_MOST):
            other = request.name == FROM and run.argument_digest != request.argument_digest
            if run.run_id == result.run_id or other or not isinstance(run, RunRecord) or run.failure is not None:
                continue
            past = _read(reader.result(run.run_id))
            if past is not None and past.backup == result.backup and is_comparable(past, result) and point_of(past):
                return past
    except StoreError:
        return None
    return None


def _read(document: object) -> DrillResult | None:
    try:
        return drill_result(document)
    except ValueError:
        return None
