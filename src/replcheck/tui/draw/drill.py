"""A trial restore: its stages with their times, and its layers of proof with their results."""

from textual.content import Content

from replcheck.model.drill import RECOVERY_STAGES, LayerName, LayerReport, LayerState, Problem, Stage
from replcheck.model.names import printable
from replcheck.model.units import format_duration, format_size
from replcheck.tui.draw.audit import ended, shortened
from replcheck.tui.draw.spark import bar
from replcheck.tui.draw.table import ANY, Column, Layout, laid_out
from replcheck.tui.drill_state import DrillModel, StageView
from replcheck.tui.look import BAD, COLOUR, FAINT, GOOD, QUIET, SIGN, VALUE, Look, age

_WORDS = {
    Stage.LOCATE: "find the backup",
    Stage.FETCH: "fetch it",
    Stage.RESTORE: "restore it",
    Stage.RECOVER: "recover",
    Stage.OPEN: "open for queries",
    Stage.PROVE: "prove",
    Stage.REMOVE: "remove the copy",
}


def drill_headline(drill: DrillModel, look: Look, width: int) -> list[Content]:
    """Return which backup is drilled, and how far it is or how it ended, in two to four lines."""
    copy = drill.copy
    what = [drill.backup or "looking for the backup"]
    if copy is not None:
        what += [copy.label] if copy.label != drill.backup else []
        what += [copy.kind.value] + ([copy.format] if copy.format else [])
        what += [f"taken {look.moment(copy.taken_at)}"] if copy.taken_at else []
        what += [format_size(copy.size_bytes)] if copy.size_bytes is not None else []
    told = Content.styled(printable("  ".join(what)), QUIET)
    if drill.outcome is not None:
        return [*shortened(ended(drill.outcome, drill.summary), width, 3), told]
    so_far = age((look.now - drill.started_at).total_seconds())
    return [Content.assemble(("▶ running", "bold $primary"), (f"  for {so_far}", QUIET)), told]


_STAGES = (
    Column(key="stage", title="STAGES", least=20, most=26),
    Column(key="time", title="time", least=9, right=True),
    Column(key="bar", title="", least=12, most=60),
    Column(key="size", title="size", least=16, right=True, keep=2),
    Column(key="what", title="", least=10, most=ANY, cut=True, keep=1),
)


def stage_lines(drill: DrillModel, look: Look, width: int) -> list[Content]:
    """Return the stages, a line each under a line of titles, and what they add up to."""
    layout = laid_out(_STAGES, width)
    # The present is told in whole seconds: a stage that has just begun has taken none.
    longest = max((stage.seconds(look.now) for stage in drill.stages.values()), default=0.0) or 1.0
    lines = [layout.header().stylize(f"bold {QUIET}")]
    lines += [_stage_line(layout, stage, drill.stages.get(stage), look, longest) for stage in Stage]
    return [*lines, _recovery_time(layout, drill, look)]


def _stage_line(layout: Layout, stage: Stage, view: StageView | None, look: Look, longest: float) -> Content:
    if view is None:
        return layout.row({"stage": (f"· {_WORDS[stage]}", FAINT)})
    if view.elapsed_s is None:
        sign, colour = "▶", "$primary"
    else:
        sign, colour = (SIGN[LayerState.PASSED.outcome], GOOD) if view.ok else (SIGN[LayerState.FAILED.outcome], BAD)
    room = layout.width("bar")
    share = view.share if view.elapsed_s is None and view.share is not None else view.seconds(look.now) / longest
    return layout.row(
        {
            "stage": (f"{sign} {_WORDS[stage]}", colour),
            "time": (format_duration(view.seconds(look.now)), VALUE),
            "bar": bar(share, room) if view.elapsed_s is None else Content.styled("━" * _cells(share, room), colour),
            "size": (_size(view), QUIET),
            "what": (view.what, QUIET),
        }
    )


def _cells(share: float, room: int) -> int:
    return max(1, min(room, int(share * room + 0.5)))


def _size(view: StageView) -> str:
    if view.elapsed_s is None and view.total_bytes:
        return f"{format_size(view.done_bytes)} of {format_size(view.total_bytes)}"
    return format_size(view.done_bytes) if view.done_bytes else ""


def _recovery_time(layout: Layout, drill: DrillModel, look: Look) -> Content:
    stages = [drill.stages[stage] for stage in RECOVERY_STAGES if stage in drill.stages]
    opened = drill.stages.get(Stage.OPEN)
    if opened is None or opened.elapsed_s is None or not opened.ok:
        return layout.row({"stage": ("  recovery time", QUIET), "time": ("–", FAINT)})
    return layout.row(
        {
            "stage": ("  recovery time", VALUE),
            "time": (format_duration(sum(stage.seconds(look.now) for stage in stages)), VALUE),
            "bar": ("until it could be used", QUIET),
        },
        spread="bar",
    )


_LAYERS = (
    Column(key="layer", title="LAYERS OF PROOF", least=26, most=30),
    Column(key="state", title="result", least=14),
    Column(key="time", title="time", least=8, right=True, keep=1),
    Column(key="found", title="", least=16, most=ANY, cut=True),
)


def layer_layout(width: int) -> Layout:
    """Return the columns of the layers that fit."""
    return laid_out(_LAYERS, width)


def layer_row(layout: Layout, name: LayerName, layer: LayerReport | None, drill: DrillModel) -> Content:
    """Return one layer as a line."""
    if layer is None:
        waiting = "waits" if drill.running else "not told"
        return layout.row({"layer": (f"· {name.value}", FAINT), "state": (waiting, FAINT)})
    outcome = None if layer.by_design and layer.state is LayerState.NOT_RUN else layer.state.outcome
    found = layer.problems[0].what if layer.problems else layer.reason or layer.checked
    return layout.row(
        {
            "layer": (f"{SIGN[outcome]} {name.value}", COLOUR[outcome]),
            "state": (layer.state.value, COLOUR[outcome]),
            "time": (format_duration(layer.elapsed_s) if layer.elapsed_s else "", QUIET),
            "found": (found, "" if layer.problems else QUIET),
        }
    )


def layer_details(name: LayerName, drill: DrillModel) -> list[Content]:
    """Return all that one layer found; of one that the drill did not come to, what kept it from there."""
    layer = drill.layers.get(name)
    if layer is None:
        when = " yet" if drill.running else ""
        return [Content(f"This layer did not run{when}."), *_obstacles(drill)]
    outcome = layer.state.outcome
    lines = [Content.styled(f"{SIGN[outcome]} {layer.state.value}", f"bold {COLOUR[outcome]}")]
    lines += [Content(printable(text)) for text in (layer.checked, layer.reason) if text]
    if layer.state is LayerState.NOT_RUN and not layer.by_design:
        lines += _obstacles(drill)
    for problem in layer.problems:
        lines += _told(problem)
    for found in layer.differences:
        where = ""
        if found.first_block is not None:
            where = f", blocks {found.first_block:,} to {found.last_block:,}"
        count = f"{found.count:,} rows" if found.count is not None else "rows"
        lines.append(Content(printable(f"{found.kind}: {count} of {found.database}.{found.relation}{where}")))
    return lines


def _obstacles(drill: DrillModel) -> list[Content]:
    return [line for problem in drill.problems for line in _told(problem)]


def _told(problem: Problem) -> list[Content]:
    lines = [Content(""), Content.styled(printable(problem.what), BAD), Content.styled(problem.code, QUIET)]
    return [*lines, Content(printable(problem.hint))] if problem.hint else lines


def problem_lines(drill: DrillModel, width: int) -> list[Content]:
    """Return what is wrong beside the layers, and what helps; what the headline says already is not said again."""
    lines = []
    for problem in drill.problems:
        if problem.what not in drill.summary:
            lines += Content.assemble((f"✘ {printable(problem.what)}", BAD)).wrap(width)
        lines += Content.styled(printable(problem.hint), QUIET).wrap(width) if problem.hint else []
    return lines
