"""What all screens have in common: the line at the top, the line of what is wrong, the keys, and a least size."""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.css.query import NoMatches
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Static

from replcheck.tui.look import Look
from replcheck.tui.state import Model
from replcheck.tui.widgets.banner import Banner
from replcheck.tui.widgets.keybar import KeyBar
from replcheck.tui.widgets.topbar import TopBar

if TYPE_CHECKING:
    from replcheck.tui.app import WatchApp

LEAST_WIDTH, LEAST_HEIGHT = 60, 16
TALL = 50
"""From so many lines on there is room for charts."""


class Window(ModalScreen[None]):
    """A window over a screen whose content goes on changing."""

    def redraw(self) -> None:
        """Draw what is known now."""
        raise NotImplementedError


class AppScreen(Screen[None]):
    """One of the screens that the line at the top names."""

    NAME: ClassVar[str]
    HELP: ClassVar[str]
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual's
        (0, "-narrow"),
        (100, "-middle"),
        (140, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (36, "-high")]  # noqa: RUF012 - Textual's
    _offered_for: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        app = self.watch_app
        yield TopBar(self.NAME, app.options.cluster)
        yield Banner()
        with Vertical(id="body"):
            yield from self.body()
        yield Static(id="too-small")
        yield KeyBar()

    @property
    def watch_app(self) -> "WatchApp":
        """Return the app, as what it is."""
        return cast("WatchApp", self.app)

    def body(self) -> Iterable[Widget]:
        """Make the widgets between the line at the top and the keys."""
        raise NotImplementedError

    def show(self, model: Model, look: Look) -> None:
        """Show this from now on; a screen that is being made or taken down has nothing to show it with."""
        with suppress(NoMatches):
            self.query_one(TopBar).show(model, look)
            self.query_one(Banner).show(model, look)
            self.show_body(model, look)

    def show_body(self, model: Model, look: Look) -> None:
        """Show this between the line at the top and the keys."""
        raise NotImplementedError

    def offer_keys(self, *of: object) -> None:
        """Have the line of keys follow what can be done: `of` is all that it depends on."""
        if self._offered_for != of:
            self._offered_for = of
            self.refresh_bindings()

    def on_mount(self) -> None:
        """Draw what is known already."""
        self.watch_app.draw(self)

    def on_screen_resume(self) -> None:
        """Draw what came while another screen was shown."""
        self.watch_app.draw(self)

    def on_resize(self, event: events.Resize) -> None:
        """Say so where the terminal is too small, instead of showing what cannot be read."""
        width, height = event.size
        self.set_class(height >= TALL, "-tall")
        small = width < LEAST_WIDTH or height < LEAST_HEIGHT
        self.set_class(small, "-too-small")
        if small:
            text = f"{width}x{height} is too small\nreplcheck needs {LEAST_WIDTH}x{LEAST_HEIGHT}\n\nq quits"
            self.query_one("#too-small", Static).update(text)
