"""How a running drill looks: a pure fold over its events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from replcheck.events import (
    BackupChosen,
    Event,
    LayerFinished,
    ProblemFound,
    RunFinished,
    RunStarted,
    StageBegan,
    StageEnded,
    StageProgressed,
)
from replcheck.model.drill import CopyFacts, DrillResult, LayerName, LayerReport, Problem, Stage
from replcheck.model.outcome import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class StageView:
    """One stage of a drill, from when it began."""

    stage: Stage
    began_at: datetime
    """When it began, the last time: one that is done in parts begins more than once."""
    before_s: float = 0.0
    """What its earlier parts took."""
    elapsed_s: float | None = None
    """All that it took; None while it goes on."""
    ok: bool = True
    done_bytes: int = 0
    total_bytes: int | None = None
    what: str = ""
    """What it is at; empty where it has nothing to tell."""

    @property
    def share(self) -> float | None:
        """Return the part that is done, 0 to 1; None where nobody can tell."""
        if self.elapsed_s is not None:
            return 1.0
        return min(self.done_bytes / self.total_bytes, 0.99) if self.total_bytes else None

    def seconds(self, now: datetime) -> float:
        """Return how long it took, or takes so far."""
        if self.elapsed_s is not None:
            return self.elapsed_s
        return self.before_s + max(0.0, (now - self.began_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillModel:
    """One drill, running or ended."""

    run_id: str
    cluster: str
    started_at: datetime
    at: datetime
    """Of the last event."""
    backup: str = ""
    copy: CopyFacts | None = None
    stages: Mapping[Stage, StageView] = field(default_factory=dict)
    layers: Mapping[LayerName, LayerReport] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    outcome: Outcome | None = None
    """None while it runs."""
    summary: str = ""
    result: DrillResult | None = None

    @property
    def running(self) -> bool:
        """Return whether it has not ended."""
        return self.outcome is None

    @property
    def current(self) -> StageView | None:
        """Return the stage that goes on; None between two, and when it has ended."""
        return (
            next((stage for stage in self.stages.values() if stage.elapsed_s is None), None) if self.running else None
        )


def fold_drill(model: DrillModel | None, events: Iterable[Event]) -> DrillModel | None:
    """Return the drill after these events; None while none has begun."""
    for event in events:
        if isinstance(event, RunStarted):
            model = DrillModel(run_id=event.run_id, cluster=event.cluster, started_at=event.at, at=event.at)
        elif model is not None:
            model = replace(_taken(model, event), at=event.at)
    return model


def with_result(model: DrillModel, result: DrillResult) -> DrillModel:
    """Return the drill with what it found in the end, which has the last word."""
    layers = {layer.name: layer for layer in result.layers}
    return replace(model, result=result, layers=layers, backup=result.backup)


def _taken(model: DrillModel, event: Event) -> DrillModel:
    match event:
        case BackupChosen():
            return replace(model, backup=event.backup, copy=event.copy)
        case StageBegan() | StageProgressed() | StageEnded():
            return replace(model, stages={**model.stages, event.stage: _stage(model, event)})
        case LayerFinished():
            return replace(model, layers={**model.layers, event.layer.name: event.layer})
        case ProblemFound():
            return replace(model, problems=(*model.problems, event.problem))
        case RunFinished():
            return replace(model, outcome=event.outcome, summary=event.summary)
    return model


def _stage(model: DrillModel, event: StageBegan | StageProgressed | StageEnded) -> StageView:
    known = model.stages.get(event.stage) or StageView(stage=event.stage, began_at=event.at)
    match event:
        case StageBegan():
            return replace(
                known,
                began_at=event.at,
                before_s=known.elapsed_s or 0.0,
                elapsed_s=None,
                total_bytes=event.total_bytes,
                done_bytes=0,
            )
        case StageProgressed():
            return replace(known, done_bytes=event.done_bytes, total_bytes=event.total_bytes, what=event.what)
        case StageEnded():
            done = event.size_bytes if event.size_bytes is not None else known.done_bytes
            elapsed_s = known.before_s + event.elapsed_s
            return replace(known, elapsed_s=elapsed_s, ok=known.ok and event.ok, done_bytes=done, what="")
