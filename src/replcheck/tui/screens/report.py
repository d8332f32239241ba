"""The report of a past run, as the command line prints it."""

from io import StringIO
from typing import TYPE_CHECKING, ClassVar, cast

from rich.console import Console
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import Worker, WorkerState

from replcheck.errors import ReplcheckError
from replcheck.model.names import printable
from replcheck.model.run import short_id
from replcheck.report.style import Style
from replcheck.tui.look import BAD, QUIET
from replcheck.tui.widgets.keybar import KeyBar

if TYPE_CHECKING:
    from replcheck.tui.app import WatchApp

_BESIDE = 5
"""Columns beside the text: two on each side, and the bar that scrolls it."""


class ReportScreen(Screen[None]):
    """Reads and prints the report in a thread of its own, since it may be long."""

    CSS_PATH = "windows.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back", key_display="esc", tooltip="Back to the list"),
        Binding("down,j", "scroll(1)", "Down", show=False),
        Binding("up,k", "scroll(-1)", "Up", show=False),
        Binding("pagedown,space", "page(1)", "Page down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("home,g", "end(False)", "First", show=False),
        Binding("end,G", "end(True)", "Last", show=False),
    ]

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Static(Content.styled(f" Report of run {short_id(self._run_id)}", "bold"), id="report-title")
        with VerticalScroll(id="report"):
            yield Static(Content.styled("The report is being read.", QUIET), id="report-text")
        yield KeyBar()

    def on_mount(self) -> None:
        """Begin to read."""
        self.run_worker(self._read, thread=True, exit_on_error=False)

    def _read(self) -> None:
        app = cast("WatchApp", self.app)
        page = StringIO()
        width = max(40, self.size.width - _BESIDE)
        console = Console(file=page, width=width, force_terminal=True, color_system="standard", highlight=False)
        try:
            app.commands.print_report(self._run_id, console, Style(zone=app.look().zone))
        except ReplcheckError as error:
            text = Content.assemble((f"✘ {printable(error.message)}", BAD), "\n", printable(error.hint))
        else:
            text = _from_ansi(page.getvalue())
        app.call_from_thread(self.query_one("#report-text", Static).update, text)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Tell that the report cannot be shown where something else failed than reading it."""
        if event.state is WorkerState.ERROR:
            name = type(event.worker.error).__name__
            self.query_one("#report-text", Static).update(Content.styled(f"✘ internal error: {name}", BAD))

    def action_scroll(self, by: int) -> None:
        """Scroll by so many lines."""
        self.query_one("#report", VerticalScroll).scroll_relative(y=by, animate=False)

    def action_page(self, by: int) -> None:
        """Scroll by so many pages."""
        self.action_scroll(by * max(1, self.size.height - 4))

    def action_end(self, last: bool) -> None:
        """Scroll to the first or the last line."""
        scroll = self.query_one("#report", VerticalScroll)
        scroll.scroll_end(animate=False) if last else scroll.scroll_home(animate=False)


def _from_ansi(text: str) -> Content:
    from rich.text import Text

    return Content.from_rich_text(Text.from_ansi(text))
