"""The verdict of a drill in one sentence, and what to do next: the same words in every report.

The sentence says what was proven and by what; where no layer compared rows it says so, whatever else passed.
"""

from collections.abc import Collection, Sequence

from replcheck.drill.verdict import (
    DUMP_CHANGED,
    NOT_REACHED,
    REQUIRED,
    SEAL_SCOPE,
    TOO_OLD,
    TOO_SLOW,
    shortfalls,
    was_opened,
)
from replcheck.model.drill import (
    FROM,
    BackupKind,
    Blame,
    DrillResult,
    DrillVerdict,
    LayerName,
    LayerReport,
    LayerState,
    Problem,
    RowDifference,
    TargetKind,
)
from replcheck.model.outcome import worst
from replcheck.model.units import format_age, format_duration
from replcheck.report.verdict import counted, joined

_LIMITS = {TOO_SLOW, TOO_OLD}
_DIFFERENCES = {
    "missing": "missing from the copy",
    "extra": "only in the copy",
    "changed": "changed",
    "unreadable": "unreadable in the copy",
    "absent": "the whole relation is missing from the copy",
    "unexpected": "a relation that should not be there",
}
_ASKED_TOO_MUCH = {*_LIMITS, NOT_REACHED}
"""What may lie in the request as well as in the backup."""


_LEFT_OUT = "catalogs and sequences are not compared"
"""By the layer of the primary: what the server changes all the time would differ."""


def drill_sentence(result: DrillResult) -> str:
    """Return the verdict in one sentence, with what it rests on."""
    told = {
        DrillVerdict.RESTORED: _restored,
        DrillVerdict.UNPROVEN: _unproven,
        DrillVerdict.UNCOMPARED: _unproven,
        DrillVerdict.FAILED: _failed,
        DrillVerdict.NOT_TRIED: _not_tried,
    }[result.verdict](result)
    return f"{told}."


def all_drills(results: Sequence[DrillVerdict]) -> DrillVerdict:
    """Return the verdict over several drills: the worst wins, and none at all is `not tried`."""
    outcome = worst(verdict.outcome for verdict in results)
    told = [verdict for verdict in DrillVerdict if verdict in results and verdict.outcome is outcome]
    return told[-1] if told else DrillVerdict.NOT_TRIED


def drills_sentence(results: Sequence[DrillVerdict]) -> str:
    """Return in one sentence how several drills ended."""
    told = [f"{results.count(verdict):,} {verdict.value}" for verdict in DrillVerdict if verdict in results]
    return f"of {counted(len(results), 'backup')} {joined(told) or 'none was restored'}."


def drill_steps(result: DrillResult) -> tuple[str, ...]:
    """Return what the reader should do now, most urgent first; nothing where all is well."""
    hints = list(dict.fromkeys(problem.hint for problem in everything_wrong(result) if problem.hint))
    if result.verdict is DrillVerdict.FAILED:
        first = "Do not count on this backup: take a new one now, and drill it."
        return (*(() if _only(result, _ASKED_TOO_MUCH) else (first,)), *hints)
    if result.verdict in (DrillVerdict.UNPROVEN, DrillVerdict.UNCOMPARED):
        hints += _after_unproven(result)
    if result.verdict.came_back:
        hints += [layer.hint for layer in result.layers if layer.hint and not layer.by_design]
    if result.verdict.came_back and _unrun(result):
        hints.append("Mend what kept a layer from running, leave it out with --layer, or demand it with --require.")
    return tuple(hints)


def everything_wrong(result: DrillResult) -> list[Problem]:
    """Return all problems, those of layers that failed or could not prove everything among them."""
    of_layers = [
        problem for layer in result.layers if layer.state is not LayerState.NOT_RUN for problem in layer.problems
    ]
    return [*result.problems, *of_layers]


def rows_were_proven(result: DrillResult) -> bool:
    """Return whether a layer compared rows, and all of them matched."""
    return any(layer.name.compares_rows and layer.state is LayerState.PASSED for layer in result.layers)


def rows_were_compared(result: DrillResult) -> bool:
    """Return whether a layer compared rows, be it all of them or not."""
    return any(layer.compared_rows for layer in result.layers)


def lacks_only_required(result: DrillResult) -> bool:
    """Return whether a copy came back and answers, and nothing but a required layer keeps it from a verdict."""
    whole = [problem for problem in result.problems if not problem.partial]
    not_tried = result.verdict is DrillVerdict.NOT_TRIED and was_opened(result.stages)
    return not_tried and bool(whole) and all(problem.code == REQUIRED for problem in whole)


def the_backup(result: DrillResult) -> str:
    """Return which backup was drilled, for a sentence."""
    if result.copy is None or result.copy.label == result.backup:
        return "the backup" if result.backup == FROM else f"backup {result.backup}"
    if result.backup == FROM:
        return f"backup {result.copy.label}"
    return f"backup {result.copy.label} of {result.backup}"


def drill_word(result: DrillResult) -> str:
    """Return the verdict's word, and another one where a copy came back that lacks less than it says."""
    return "restored, required proof missing" if lacks_only_required(result) else result.verdict.value


def layer_sentence(layer: LayerReport, *, verbose: bool = False) -> str:
    """Return what a layer looked at and what limits it; `verbose` adds how long it took."""
    parts = [layer.checked, layer.reason]
    if verbose and layer.state is not LayerState.NOT_RUN:
        parts.append(format_duration(layer.elapsed_s))
    return "; ".join(part for part in parts if part)


def difference_sentence(found: RowDifference) -> str:
    """Return how the rows of one relation differ, and where."""
    rows = f" {counted(found.count, 'row')}" if found.count is not None else ""
    blocks = ""
    if found.first_block is not None:
        last = found.last_block
        one = last is None or last == found.first_block
        blocks = f", block {found.first_block}" if one else f", blocks {found.first_block} to {last}"
    at_least = " at least" if rows else ""
    return f"{found.database}.{found.relation}:{at_least}{rows} {_DIFFERENCES.get(found.kind, found.kind)}{blocks}"


def _restored(result: DrillResult) -> str:
    proven = [layer for layer in result.layers if layer.name.compares_rows and layer.state is LayerState.PASSED]
    rows = " and ".join(_matched(layer, result) for layer in proven)
    return f"{the_backup(result)} was restored, and {rows}{_beside_rows(result)}{_measured(result)}"


def _matched(layer: LayerReport, result: DrillResult) -> str:
    limited = any(note.startswith(SEAL_SCOPE) for note in result.tool_notes)
    of = f" of {counted(layer.relations, 'relation')}" if layer.relations is not None else ""
    rows = f" ({counted(layer.rows, 'row')})" if layer.rows is not None else ""
    against = "the seal" if layer.name is LayerName.SEAL else _the_primary(layer)
    if layer.name is LayerName.SEAL and limited:
        # A limited seal proves nothing of the rest, and the sentence must not read as if it did.
        rows += ", of those sealed,"
    return f"every row{of}{rows} matches {against}"


def _the_primary(layer: LayerReport) -> str:
    """Return the primary as what rows were compared with, and what of it was not: rows that came later above all."""
    if not layer.later_rows:
        return f"the primary ({_LEFT_OUT})"
    has = "row was" if layer.later_rows == 1 else "rows were"
    return f"the primary, where {layer.later_rows:,} {has} written since ({_LEFT_OUT})"


def _unproven(result: DrillResult) -> str:
    what = "it is NOT PROVEN"
    if rows_were_compared(result):
        proven = rows_were_proven(result)
        what = (
            "its rows match, but not everything was proven" if proven else "what was compared matches, but not all was"
        )
    lacks = "; ".join(shortfalls(result.layers, result.problems))
    return f"{the_backup(result)} was restored and answers; {what}: {lacks}{_beside_rows(result)}{_measured(result)}"


def _failed(result: DrillResult) -> str:
    reasons = [problem.what for problem in result.problems if problem.blame is Blame.BACKUP]
    reasons += [_layer_failure(layer) for layer in _failed_layers(result)]
    if not reasons:
        reasons = ["recovery did not reach its target"]
    codes = {problem.code for problem in result.problems if problem.blame is Blame.BACKUP}
    how = (
        "does not meet its limits" if codes and codes <= _LIMITS and not _failed_layers(result) else "failed its drill"
    )
    more = f"; {counted(len(reasons) - 1, 'more problem')}" if len(reasons) > 1 else ""
    return f"{the_backup(result)} {how}: {reasons[0]}{more}"


def _layer_failure(layer: LayerReport) -> str:
    rows = [found for found in layer.differences if found.count is not None]
    if layer.differences:
        relations = {f"{found.database}.{found.relation}" for found in layer.differences}
        count = sum(found.count or 0 for found in rows)
        told = f"at least {counted(count, 'row')} {'differs' if count == 1 else 'differ'}" if rows else "rows differ"
        where = joined(sorted(relations)) if len(relations) == 1 else counted(len(relations), "relation")
        return f"{told} in {where} ({layer.name.value})"
    what = layer.problems[0].what if layer.problems else layer.reason
    return f"{layer.name.value}: {what}" if what else f"{layer.name.value} failed"


def _not_tried(result: DrillResult) -> str:
    problems = [problem.what for problem in result.problems if problem.blame is Blame.ENVIRONMENT]
    first = problems[0] if problems else "the copy never answered"
    more = f"; {counted(len(problems) - 1, 'more problem')}" if len(problems) > 1 else ""
    if lacks_only_required(result):
        return f"{the_backup(result)} was restored and answers, and is neither proven nor refuted: {first}{more}"
    return f"{the_backup(result)} is neither proven nor refuted: {first}{more}"


def _beside_rows(result: DrillResult) -> str:
    """Return which other layers passed, and which could not run."""
    others = [layer for layer in result.layers if not layer.name.compares_rows]
    passed = [layer.name.value for layer in others if layer.state is LayerState.PASSED]
    told = f"; {joined(passed)} passed" if passed else ""
    for layer in result.layers:
        if layer.state is LayerState.NOT_RUN and not layer.by_design:
            told += f"; {layer.name.value} did not run" + (f": {layer.reason}" if layer.reason else "")
    return told


def _measured(result: DrillResult) -> str:
    parts = []
    if result.recovery_time_s is not None:
        parts.append(f"it could be used after {format_duration(result.recovery_time_s)}")
    if result.recovery_point_age_s is not None and result.target.kind is TargetKind.LATEST:
        parts.append(f"its newest commit was {format_age(result.recovery_point_age_s)}")
    return "".join(f"; {part}" for part in parts)


def _after_unproven(result: DrillResult) -> list[str]:
    steps = []
    if not rows_were_compared(result):
        of_dump = result.copy is not None and result.copy.kind is BackupKind.DUMP
        steps.append(
            "To prove the rows, take the dump with replcheck seal --dump FILE, and drill it with --target seal:ID."
            if of_dump
            else "To prove the rows, seal the primary with replcheck seal and drill with --target seal:ID, or compare"
            " with the running primary with --primary DSN."
        )
    seal = next((layer for layer in result.layers if layer.name is LayerName.SEAL), None)
    if seal is not None and seal.state is LayerState.INCONCLUSIVE:
        steps.append(
            "Find out who changed the dump, or take and seal a new one with replcheck seal --dump FILE."
            if DUMP_CHANGED in seal.reason
            else "Seal the primary again, with materialized views refreshed before and nothing refreshed or rewritten"
            " meanwhile, and drill to that."
        )
    return steps


def _unrun(result: DrillResult) -> bool:
    return any(layer.state is LayerState.NOT_RUN and not layer.by_design for layer in result.layers)


def _failed_layers(result: DrillResult) -> list[LayerReport]:
    return [layer for layer in result.layers if layer.state is LayerState.FAILED]


def _only(result: DrillResult, wanted: Collection[str]) -> bool:
    """Return whether nothing else than such problems speaks against the backup."""
    codes = {problem.code for problem in result.problems if problem.blame is Blame.BACKUP}
    return bool(codes) and codes <= set(wanted) and not _failed_layers(result)
