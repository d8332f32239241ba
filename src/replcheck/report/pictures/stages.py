"""The stages of a drill on a line of time, with what of them counts as recovery time, and the objective."""

from collections.abc import Sequence

from replcheck.model.drill import RECOVERY_STAGES, DrillResult, StageReport
from replcheck.model.units import format_duration
from replcheck.report.pictures.drawing import Canvas, Drawing

WIDTH = 760
_LEFT, _RIGHT = 80.0, 690.0
_TOP, _ROW, _BAR = 30.0, 24.0, 14.0


def drill_stages(result: DrillResult, *, name: str = "drill-stages") -> Drawing:
    """Draw each stage where it began and as long as it took, one below the other."""
    stages = result.stages
    limit = result.limits.max_time_s
    recovery_from = _recovery_begins(stages)
    ends = [*(sum(stage.elapsed_s for stage in stages[: number + 1]) for number in range(len(stages))), 1e-3]
    if limit is not None and limit < 3 * max(ends):
        ends.append(recovery_from + limit)
    scale = (_RIGHT - _LEFT) / max(ends)
    canvas = Canvas(WIDTH, round(_TOP + _ROW * len(stages) + 26))
    _draw_recovery(canvas, result, recovery_from, scale)
    begun = 0.0
    for number, stage in enumerate(stages):
        _draw_stage(canvas, stage, _LEFT + begun * scale, _TOP + number * _ROW, scale)
        begun += stage.elapsed_s
    if limit is not None:
        _draw_limit(canvas, limit, _LEFT + (recovery_from + limit) * scale)
    return canvas.finished(name=name, title="Stages of the drill", description=_description(result))


def _draw_stage(canvas: Canvas, stage: StageReport, x: float, y: float, scale: float) -> None:
    kind = "recovery" if stage.stage in RECOVERY_STAGES else "other"
    width = max(stage.elapsed_s * scale, 1.5)
    told = format_duration(stage.elapsed_s) + ("" if stage.finished else ", did not finish")
    canvas.text(_LEFT - 8, y + 11, stage.stage.value, kind="small", anchor="end")
    canvas.rect(x, y, width, _BAR, kind=f"stage {kind if stage.finished else 'refuted'}", tip=told, round_px=2)
    if x + width + 7 * len(told) < WIDTH:
        canvas.text(x + width + 6, y + 11, told, kind="small")
    else:
        canvas.text(x - 6, y + 11, told, kind="small", anchor="end")


def _draw_recovery(canvas: Canvas, result: DrillResult, begin: float, scale: float) -> None:
    took = result.recovery_time_s
    if took is None:
        return
    left, right = _LEFT + begin * scale, _LEFT + (begin + took) * scale
    bottom = _TOP + _ROW * len(result.stages)
    canvas.rect(left, _TOP - 8, max(right - left, 1.5), bottom - _TOP + 6, kind="band")
    canvas.text(left, _TOP - 14, f"recovery time {format_duration(took)}", kind="small strong")


def _draw_limit(canvas: Canvas, limit: float, x: float) -> None:
    bottom, told = canvas.height - 20.0, f"objective {format_duration(limit)}"
    if x > _RIGHT + 1:
        canvas.text(_RIGHT, canvas.height - 6, f"{told}: beyond the edge →", kind="small", anchor="end")
        return
    canvas.line((x, _TOP - 8), (x, bottom), kind="limit")
    anchor = "end" if x > WIDTH / 2 else "start"
    canvas.text(x, canvas.height - 6, told, kind="small", anchor=anchor)


def _recovery_begins(stages: Sequence[StageReport]) -> float:
    """Return the seconds before the first stage that counts as recovery."""
    begun = 0.0
    for stage in stages:
        if stage.stage in RECOVERY_STAGES:
            return begun
        begun += stage.elapsed_s
    return begun


def _description(result: DrillResult) -> str:
    told = ", ".join(f"{stage.stage.value} {format_duration(stage.elapsed_s)}" for stage in result.stages)
    took = result.recovery_time_s
    recovery = f"; recovery time {format_duration(took)}" if took is not None else "; it could not be used"
    limit = result.limits.max_time_s
    objective = f", objective {format_duration(limit)}" if limit is not None else ""
    return f"{told or 'no stage began'}{recovery}{objective}."
