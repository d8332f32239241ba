"""The paper of one drill: whether the backup came back, how long it took, and each layer of proof by name."""

from collections.abc import Iterable, Sequence

from replcheck.drill.verdict import TOO_OLD, TOO_SLOW, UNMEASURED
from replcheck.model.drill import (
    FROM,
    RECOVERY_STAGES,
    Blame,
    CopyFacts,
    DrillResult,
    LayerReport,
    LayerState,
    RowDifference,
    StageReport,
    TargetKind,
)
from replcheck.model.outcome import Outcome
from replcheck.model.units import format_age, format_duration, format_size
from replcheck.report.audit_words import elapsed_s
from replcheck.report.drill_words import (
    difference_sentence,
    drill_sentence,
    drill_steps,
    drill_word,
    everything_wrong,
    layer_sentence,
)
from replcheck.report.paper import (
    Block,
    Code,
    Figure,
    Inline,
    Mark,
    Moment,
    Notice,
    Pairs,
    Paper,
    Prose,
    Section,
    Table,
    Verbatim,
    Words,
    columns,
    known,
    table,
    words,
)
from replcheck.report.papers.audit import steps_section
from replcheck.report.pictures.stages import drill_stages
from replcheck.report.verdict import counted


def drill_paper(result: DrillResult) -> Paper:
    """Lay out one drill."""
    sections = (
        _wrong(result),
        steps_section(drill_steps(result)),
        _objectives(result),
        _layers(result.layers),
        _backup(result),
        _scratch(result),
        _meaning(),
    )
    return Paper(
        title=f"Trial restore of {result.cluster}",
        mark=Mark(outcome=result.verdict.outcome, word=drill_word(result)),
        summary=words(drill_sentence(result)),
        facts=tuple(_facts(result)),
        sections=tuple(section for section in sections if section is not None),
        made_by=f"replcheck {result.tool_version}",
    )


def _facts(result: DrillResult) -> Iterable[tuple[str, Words]]:
    took = elapsed_s(result.started_at, result.finished_at)
    yield "Run", words(Code(result.run_id))
    yield "Began", words(Moment(result.started_at), f", took {format_duration(took)}")
    if result.backup != FROM:
        yield "Backup", words(Code(result.backup))
    if result.copy is not None:
        yield "Copy", words(Code(result.copy.label))
    yield "Target", words(Code(result.target.text))
    recovery = result.recovery_time_s
    yield "Recovery time", words(format_duration(recovery) if recovery is not None else "could not be used")
    for note in result.tool_notes:
        yield "Note", words(note)


def _wrong(result: DrillResult) -> Section | None:
    problems = everything_wrong(result)
    differences = [(layer, found) for layer in result.layers for found in layer.differences]
    if not problems and not differences:
        return None
    blocks: list[Block] = []
    if problems:
        rows = (
            (
                words(Mark(outcome=problem.blame.outcome, word=_BLAME_WORDS[problem.blame])),
                words(problem.what),
                words(Code(problem.code)),
            )
            for problem in problems
        )
        blocks.append(table("Problems, and whose they are", columns("Whose", "What", "Code"), rows))
    if differences:
        blocks.append(_difference_table(differences))
    return Section(anchor="wrong", title="What is wrong", blocks=tuple(blocks))


_BLAME_WORDS = {Blame.BACKUP: "the backup's", Blame.ENVIRONMENT: "this machine's"}


def _difference_table(differences: Sequence[tuple[LayerReport, RowDifference]]) -> Table:
    return table(
        "How the restored rows differ from those they were taken from",
        columns("Relation", "How", "Found by"),
        (
            (
                words(Code(f"{found.database}.{found.relation}")),
                words(Mark(outcome=layer.state.outcome, word=found.kind), f" {_without_name(found)}"),
                words(layer.name.value),
            )
            for layer, found in differences
        ),
    )


def _without_name(found: RowDifference) -> str:
    return difference_sentence(found).removeprefix(f"{found.database}.{found.relation}:").strip()


def _objectives(result: DrillResult) -> Section:
    blocks: list[Block] = [_objective_table(result)]
    if result.stages:
        stages = ", ".join(stage.value for stage in RECOVERY_STAGES)
        caption = f"How long each stage took. {stages} make up the recovery time.".capitalize()
        blocks.append(Figure(caption=caption, drawing=drill_stages(result), table=_stage_table(result.stages)))
    return Section(anchor="objectives", title="Recovery objectives and stages", blocks=tuple(blocks))


def _objective_table(result: DrillResult) -> Table:
    codes = {problem.code for problem in result.problems}
    took, age = result.recovery_time_s, result.recovery_point_age_s
    of_past = result.target.kind is not TargetKind.LATEST
    point = "not known" if age is None else f"the newest recovered commit was {format_age(age)}"
    return table(
        "What was measured, beside what was asked for",
        columns("Objective", "Measured", "Limit", "State"),
        (
            (
                words("Time (RTO)"),
                words(format_duration(took) if took is not None else "not measured: it could not be used"),
                _limit(result.limits.max_time_s),
                _held(result.limits.max_time_s, exceeded=TOO_SLOW in codes, unmeasured=took is None),
            ),
            (
                words("Point (RPO)"),
                words("not judged: the target lies in the past on purpose" if of_past else point),
                _limit(None if of_past else result.limits.max_age_s),
                known(None)
                if of_past
                else _held(
                    result.limits.max_age_s, exceeded=TOO_OLD in codes, unmeasured=UNMEASURED in codes or age is None
                ),
            ),
        ),
    )


def _limit(limit_s: float | None) -> Words:
    return words("none is set") if limit_s is None else words(f"at most {format_duration(limit_s)}")


def _held(limit_s: float | None, *, exceeded: bool, unmeasured: bool) -> Words:
    if limit_s is None:
        return known(None)
    if unmeasured:
        return words(Mark(outcome=Outcome.UNCHECKED, word="not measured"))
    return words(
        Mark(outcome=Outcome.REFUTED, word="exceeded") if exceeded else Mark(outcome=Outcome.PROVEN, word="met")
    )


def _stage_table(stages: Sequence[StageReport]) -> Table:
    return table(
        "Stages of the drill",
        columns("Stage", "Time", "Moved", "Counts as recovery", "Ended", numeric=("Time", "Moved")),
        (
            (
                words(stage.stage.value),
                words(format_duration(stage.elapsed_s)),
                known(None if stage.size_bytes is None else format_size(stage.size_bytes)),
                words("yes" if stage.stage in RECOVERY_STAGES else "no"),
                words("finished") if stage.finished else words(Mark(outcome=Outcome.REFUTED, word="did not finish")),
            )
            for stage in stages
        ),
    )


def _layers(layers: Sequence[LayerReport]) -> Section:
    shown = table(
        "Layers of proof, the strongest first",
        columns("Layer", "State", "What it looked at, and what limits it"),
        (
            (words(layer.name.value), words(_layer_mark(layer)), known(layer_sentence(layer, verbose=True)))
            for layer in layers
        ),
    )
    return Section(anchor="layers", title="Layers of proof", blocks=(shown,))


def _layer_mark(layer: LayerReport) -> Mark:
    left_out = layer.state is LayerState.NOT_RUN and layer.by_design
    return Mark(outcome=None if left_out else layer.state.outcome, word=layer.state.value)


def _backup(result: DrillResult) -> Section:
    if result.copy is None:
        blocks: tuple[Block, ...] = (Prose(words("No backup was found.")),)
        return Section(anchor="backup", title="Backup and recovery", blocks=blocks)
    pairs = [*_copy(result.copy), ("Target", words(Code(result.target.text)))]
    facts = result.recovery
    if facts is not None:
        newest: list[Inline] = [Moment(facts.last_commit_at)] if facts.last_commit_at else ["no commit was replayed"]
        pairs += [
            ("Recovered to", words(Code(str(facts.replayed)), f" on timeline {facts.timeline}")),
            ("Newest commit", tuple(newest)),
            ("From the archive", words(counted(facts.wal_files, "WAL file"))),
            (
                "Target reached",
                words(
                    Mark(
                        outcome=Outcome.PROVEN if facts.reached else Outcome.REFUTED,
                        word="yes" if facts.reached else "no",
                    )
                ),
            ),
        ]
    return Section(anchor="backup", title="Backup and recovery", blocks=(Pairs(pairs=tuple(pairs)),))


def _copy(copy: CopyFacts) -> Iterable[tuple[str, Words]]:
    kind = " ".join(dict.fromkeys(part for part in (copy.kind.value, copy.format) if part))
    yield "Backup", words(Code(copy.label), f" ({kind})")
    if copy.taken_at is not None:
        yield "Taken", words(Moment(copy.taken_at))
    if copy.major is not None:
        yield "Made by", words(f"PostgreSQL {copy.major}")
    if copy.size_bytes is not None:
        yield "Size", words(format_size(copy.size_bytes))
    if copy.system_identifier is not None:
        yield "System identifier", words(Code(str(copy.system_identifier)))
    if copy.end_lsn and copy.timeline:
        yield "Consistent from", words(Code(str(copy.end_lsn)), f" on timeline {copy.timeline}")


def _scratch(result: DrillResult) -> Section | None:
    scratch = result.scratch
    if scratch is None:
        return None
    blocks: list[Block] = []
    if scratch.removed:
        blocks.append(Prose(words("The restored copy lay in ", Code(scratch.where), " and was removed.")))
    else:
        outcome, what = (Outcome.PARTIAL, "was kept") if scratch.connect else (Outcome.UNCHECKED, "was NOT removed")
        told = words("The restored copy ", what, " in ", Code(scratch.where), ". It is as sensitive as the original.")
        blocks.append(Notice(outcome=outcome, words=told))
        if scratch.connect:
            blocks.append(Verbatim((scratch.connect,)))
    return Section(anchor="scratch", title="Scratch copy", blocks=tuple(blocks))


def _meaning() -> Section:
    told = (
        "Restored means that the backup was restored on a server of its own, that every layer which ran passed, and"
        " that a layer compared its rows with those they were taken from, and all matched. Where none did, the verdict"
        " says so, whatever else passed."
    )
    limits = (
        "A drill proves this backup, restored by this machine on this day. It does not prove that another one will"
        " come back, that people will find it in an emergency, or that the place it is kept in outlives the primary."
    )
    return Section(
        anchor="meaning", title="What this proves, and what not", blocks=(Prose(words(told)), Prose(words(limits)))
    )
