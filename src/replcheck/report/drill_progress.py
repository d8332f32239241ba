"""How far a drill is: a fold over its events, and a bar drawn from it."""

from dataclasses import dataclass, field

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

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
from replcheck.model.drill import Stage
from replcheck.model.names import printable
from replcheck.model.units import format_duration, format_size

_LEAST_SHARE = 0.02
_LEAST_S = 1.0
_DOING = {
    Stage.LOCATE: "looking for the backup",
    Stage.FETCH: "fetching",
    Stage.RESTORE: "restoring",
    Stage.RECOVER: "recovering",
    Stage.OPEN: "opening",
    Stage.PROVE: "proving",
    Stage.REMOVE: "removing the scratch copy",
}


@dataclass(slots=True, kw_only=True)
class DrillProgress:
    """What is known of a drill so far."""

    backup: str = ""
    stage: Stage | None = None
    done_bytes: int = 0
    total_bytes: int | None = None
    doing: str = ""
    began_s: float | None = None
    """When the stage began, in seconds since the bar did; None before it was drawn."""
    passed: list[str] = field(default_factory=list)
    """Layers that ended, with their state."""
    finished: bool = False

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case RunStarted():
                self.doing = f"{event.kind} of {event.cluster}"
            case BackupChosen():
                self.backup = event.copy.label
            case StageBegan():
                self.stage, self.done_bytes, self.total_bytes = event.stage, 0, event.total_bytes
                self.doing, self.began_s = "", None
            case StageProgressed():
                self.done_bytes, self.doing = event.done_bytes, event.what
                self.total_bytes = event.total_bytes
            case StageEnded():
                self.doing = ""
            case LayerFinished():
                self.passed.append(f"{event.layer.name.value} {event.layer.state.value}")
                self.doing = self.passed[-1]
            case ProblemFound():
                self.doing = event.problem.what
            case RunFinished():
                self.finished = True

    @property
    def share(self) -> float | None:
        """Return the part of the stage that is done, 0 to 1; None where nobody can tell."""
        if self.finished:
            return 1.0
        if not self.total_bytes:
            return None
        return min(self.done_bytes / self.total_bytes, 0.99)

    def seconds_left(self, elapsed_s: float) -> float | None:
        """Return an estimate of the time that the stage still takes, None where there is nothing to estimate from."""
        share = self.share
        if share is None or share < _LEAST_SHARE or elapsed_s < _LEAST_S:
            return None
        return elapsed_s * (1 - share) / share

    def stage_elapsed_s(self, elapsed_s: float) -> float:
        """Return how long the stage has been going on, given the time since the bar began."""
        if self.began_s is None:
            self.began_s = elapsed_s
        return elapsed_s - self.began_s


def draw_drill(progress: DrillProgress, elapsed_s: float) -> RenderableType:
    """Return the bar, its figures, and what is happening, in two lines that fit the terminal."""
    in_stage_s = progress.stage_elapsed_s(elapsed_s)
    share, left = progress.share, progress.seconds_left(in_stage_s)
    figures = [_DOING[progress.stage] if progress.stage else "beginning"]
    if progress.total_bytes:
        figures.append(f"{format_size(progress.done_bytes)} of {format_size(progress.total_bytes)}")
    elif progress.done_bytes:
        figures.append(format_size(progress.done_bytes))
    figures.append(f"{format_duration(left)} left" if left is not None else f"{format_duration(in_stage_s)} so far")
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(
        total=1.0,
        completed=share or 0.0,
        width=20,
        pulse=share is None,
        complete_style="cyan",
        finished_style="cyan",
    )
    grid.add_row(bar, Text("  ".join(figures), no_wrap=True))
    doing = ": ".join(part for part in (progress.backup, progress.doing) if part)
    rows = Table.grid()
    rows.add_row(grid)
    rows.add_row(Text(printable(doing), style="dim", no_wrap=True, overflow="ellipsis", end=""))
    return rows
