"""Past runs, and the report of one of them."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.widget import Widget

from replcheck.model.names import printable
from replcheck.tui.draw.history import run_layout, run_row, trend
from replcheck.tui.feed import Link
from replcheck.tui.look import BAD, QUIET, Look
from replcheck.tui.screens.base import AppScreen
from replcheck.tui.screens.report import ReportScreen
from replcheck.tui.state import Model
from replcheck.tui.widgets.canvas import Canvas
from replcheck.tui.widgets.rows import RowList


class HistoryScreen(AppScreen):
    """What was run, and how it ended."""

    NAME = "history"
    CSS_PATH = "runs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = []
    HELP = "Past runs, newest first. The trend shows each day's worst outcome. Enter opens the report of a run."

    def body(self) -> Iterable[Widget]:
        """Make the widgets."""
        yield Canvas(id="trend")
        yield RowList(id="runs", follow=True)

    def show_body(self, model: Model, look: Look) -> None:
        """Show the model."""
        runs = model.runs or ()
        self.set_class(not runs, "-idle")
        canvas, rows = self.query_one("#trend", Canvas), self.query_one("#runs", RowList)
        if not runs:
            canvas.show(lambda _width, _height: _none(model), (model.runs, model.runs_problem, model.link))
        else:
            kinds = len({past.run.kind for past in runs})
            canvas.styles.height = kinds + 1 + bool(model.runs_problem)
            canvas.show(
                lambda width, _: [*_problem(model), *trend(runs, look, width)], (runs, model.runs_problem, look.day)
            )
        rows.show(
            [past.run.run_id for past in runs],
            lambda width: run_layout(width).header(),
            lambda row, width: run_row(run_layout(width), runs[row], look),
            of=(runs, look),
        )

    def on_row_list_opened(self, opened: RowList.Opened) -> None:
        """Open the report of a run."""
        self.app.push_screen(ReportScreen(str(opened.key)))


def _problem(model: Model) -> list[Content]:
    return [Content.styled(f"✘ {printable(model.runs_problem)}", BAD)] if model.runs_problem else []


def _none(model: Model) -> list[Content]:
    if model.runs is None and not model.runs_problem:
        return [Content.styled("The history is being read.", QUIET)]
    if model.link in {Link.REPLAY, Link.ENDED}:
        return [Content.styled("A recording holds samples alone, and no runs.", QUIET)]
    return _problem(model) or [
        Content.styled("No run was recorded yet.", "bold"),
        Content.styled("Audits and drills are recorded here as soon as they end.", QUIET),
    ]
