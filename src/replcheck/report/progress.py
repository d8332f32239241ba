"""How far an audit is: a fold over its events, and a bar drawn from it.

Taking an event costs a few assignments; drawing happens at the display's own rate, whatever the events'.
"""

from dataclasses import dataclass, field

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from replcheck.events import (
    Aligned,
    ChunkCompared,
    DatabasePlanned,
    Event,
    HeldStill,
    IndexChecked,
    IndexesListed,
    NodeCameBack,
    NodeWentAway,
    RelationSealed,
    RelationStarted,
    RowsDiffer,
    RunFinished,
    RunStarted,
    Waited,
)
from replcheck.model.names import printable
from replcheck.model.outcome import Verdict
from replcheck.model.units import format_duration, format_size

_SETTLED = {Verdict.CONSISTENT, Verdict.DIVERGED, Verdict.UNCHECKED}


@dataclass(slots=True, kw_only=True)
class AuditProgress:
    """What is known of a run so far; sizes are bytes of relations as the primary stores them."""

    planned_bytes: int = 0
    compared_bytes: int = 0
    compared_rows: int = 0
    chunks: int = 0
    chunks_deferred: int = 0
    rows_in_flight: int = 0
    doing: str = "connecting"
    away: dict[str, str] = field(default_factory=dict)
    """Nodes that do not answer now, with the reason."""
    held: str = ""
    """Why the run holds still now; empty while it works."""
    finished: bool = False

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case ChunkCompared() | RelationSealed():
                self._take_chunk(event)
            case RunStarted():
                self.doing = f"looking at the nodes of {event.cluster}"
            case DatabasePlanned():
                self.planned_bytes += event.size_bytes
                self.doing = f"{event.database}: {event.relations:,} relations"
            case Aligned():
                self.doing = f"{event.database}: snapshots aligned after {event.attempts} attempts"
            case RelationStarted() | IndexesListed() | IndexChecked():
                self.doing = _doing(event)
            case RowsDiffer():
                look = "a second look follows" if event.look == 1 else "second look"
                self.doing = (
                    f"{event.database}.{event.relation}: {event.differing:,} rows differ on {event.node}; {look}"
                )
            case HeldStill():
                self.held = event.reason
            case Waited():
                self._take_wait(event)
            case NodeWentAway():
                self.away[event.node] = event.reason
            case NodeCameBack():
                self.away.pop(event.node, None)
            case RunFinished():
                self.finished = True

    @property
    def share(self) -> float:
        """Return the part that is done, 0 to 1; never 1 before the run ends, since chunks may be read again."""
        if self.finished:
            return 1.0
        return min(self.compared_bytes / self.planned_bytes, 0.99) if self.planned_bytes else 0.0

    def seconds_left(self, elapsed_s: float) -> float | None:
        """Return an estimate of the time left, None while there is nothing to estimate from."""
        if self.share < 0.02 or elapsed_s < 1:
            return None
        return elapsed_s * (1 - self.share) / self.share

    def _take_wait(self, event: Waited) -> None:
        node = f"{event.node}: " if event.node else ""
        self.doing = f"waited {format_duration(event.elapsed_s)}, {node}{event.reason}"
        if event.node is None:
            self.held = ""

    def _take_chunk(self, event: ChunkCompared | RelationSealed) -> None:
        self.chunks += 1
        if isinstance(event, RelationSealed):
            self.doing = f"{event.database}.{event.relation}"
        if isinstance(event, RelationSealed) or event.verdict in _SETTLED:
            self.compared_bytes += event.size_bytes
            self.compared_rows += event.rows
        else:
            self.chunks_deferred += 1


def _doing(event: RelationStarted | IndexesListed | IndexChecked) -> str:
    if isinstance(event, RelationStarted):
        return f"{event.database}.{event.relation}"
    if isinstance(event, IndexesListed):
        return f"{event.database}: checking {event.indexes:,} indexes on every node"
    return f"{event.database}: index {event.index} is {event.verdict.value} on {event.node}"


def draw(progress: AuditProgress, elapsed_s: float) -> RenderableType:
    """Return the bar, its figures, and what is happening, in two lines that fit the terminal."""
    left = progress.seconds_left(elapsed_s)
    figures = [
        f"{progress.share:4.0%}",
        f"{progress.compared_rows / elapsed_s if elapsed_s else 0:,.0f} rows/s",
        f"{format_size(progress.compared_bytes)} of {format_size(progress.planned_bytes)}",
        f"{format_duration(left)} left" if left is not None else f"{format_duration(elapsed_s)} so far",
    ]
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=1.0, completed=progress.share, width=20, complete_style="cyan", finished_style="cyan")
    grid.add_row(bar, Text("  ".join(figures), no_wrap=True))
    doing = f"holding still: {progress.held}" if progress.held else progress.doing
    doing = "; ".join([f"{node} is away: {reason}" for node, reason in progress.away.items()] or [doing])
    rows = Table.grid()
    rows.add_row(grid)
    rows.add_row(Text(printable(doing), style="dim", no_wrap=True, overflow="ellipsis", end=""))
    return rows
