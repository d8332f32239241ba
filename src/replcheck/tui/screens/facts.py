"""A window over the screen that tells all about one thing."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.css.query import NoMatches
from textual.widgets import Static

from replcheck.tui.screens.base import Window
from replcheck.tui.widgets.framed import Framed
from replcheck.tui.widgets.keybar import KeyBar

_FIRST_WIDTH = 60


class FactsScreen(Window):
    """Lines that can be scrolled; Escape closes it."""

    CSS_PATH = "windows.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "close", "Close", key_display="esc", tooltip="Back to where you were"),
        Binding("down,j", "scroll(1)", "Down", show=False),
        Binding("up,k", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, title: str, lines: Callable[[int], Sequence[Content]]) -> None:
        super().__init__()
        self._title = title
        self._lines = lines
        """Takes the width, returns what is known at this moment."""

    def compose(self) -> ComposeResult:
        """Make the window."""
        with Framed(self._title, id="window"), VerticalScroll():
            yield Static(id="facts")
        yield KeyBar()

    def on_mount(self) -> None:
        """Draw what is known, once the width is."""
        self.redraw()
        self.call_after_refresh(self.redraw)

    def on_resize(self) -> None:
        """Draw anew in the new width."""
        self.call_after_refresh(self.redraw)

    def redraw(self) -> None:
        """Draw what is known now; the window stays where it was scrolled to."""
        with suppress(NoMatches):
            width = self.query_one(VerticalScroll).scrollable_content_region.width
            self.query_one("#facts", Static).update(Content("\n").join(self._lines(width or _FIRST_WIDTH)))

    def action_close(self) -> None:
        """Close the window."""
        self.dismiss(None)

    def action_scroll(self, by: int) -> None:
        """Scroll by so many lines."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)
