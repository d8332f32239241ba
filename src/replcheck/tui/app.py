"""The app: takes updates from a feed, folds them some twenty times a second, and has the screen in front drawn anew."""

import asyncio
import gc
import signal
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.notifications import SeverityLevel
from textual.reactive import Initialize, Reactive
from textual.screen import Screen
from textual.theme import Theme

from replcheck.errors import ReplcheckError
from replcheck.model.live import Severity
from replcheck.model.names import printable
from replcheck.model.outcome import ExitStatus
from replcheck.runs.ending import handled_by_loop
from replcheck.tui.ascii import AsciiOnly
from replcheck.tui.feed import Commands, Feed, Link, Update
from replcheck.tui.look import Look
from replcheck.tui.options import Options
from replcheck.tui.screens.base import AppScreen, Window
from replcheck.tui.screens.overview import OverviewScreen
from replcheck.tui.state import Model, fold
from replcheck.tui.steering import NoSteering
from replcheck.tui.themes import DARK, LIGHT, variables_of

TICK_S = 0.05
"""How often updates are looked for: what is told is drawn within this time and that of drawing."""
_KEPT_COMMANDS = {"Theme", "Screenshot"}
"""Of those that Textual itself offers."""
_UNLISTED = ("command_palette", "move", "page", "open")
"""Keys that are no commands of the palette."""
_TOAST: Mapping[Severity, SeverityLevel] = {
    Severity.INFO: "information",
    Severity.WARNING: "warning",
    Severity.CRITICAL: "error",
}
_NO_STEERING = NoSteering()
"""One for all lines: what a line came to is remembered by the filter that made it."""


def run_app(feed: Feed, commands: Commands, options: Options) -> int:
    """Show what the feed tells until the user leaves, or SIGTERM or SIGHUP comes; return the exit status.

    Must be called by the main thread, outside of any event loop. Ending the feed is the caller's part. A defect of the
    screen is raised once the terminal is what it was before.
    """
    # What is made until the first picture stays: looking through it for garbage would take a fifth of that time.
    gc.disable()
    try:
        app = WatchApp(feed, commands, options)
        asyncio.run(_shown(app))
    finally:
        gc.enable()
    if app.defect is not None:
        raise app.defect
    return app.return_code or int(ExitStatus.PROVEN)


async def _shown(app: "WatchApp") -> None:
    # As at the key q, wherever the app is: an exception out of a handler can be lost, or leave a task behind.
    with handled_by_loop({signal.SIGTERM: app.leave, signal.SIGHUP: app.leave}):
        await app.run_async()


def _audit_screen() -> AppScreen:
    from replcheck.tui.screens.audit import AuditScreen

    return AuditScreen()


def _drill_screen() -> AppScreen:
    from replcheck.tui.screens.drill import DrillScreen

    return DrillScreen()


def _history_screen() -> AppScreen:
    from replcheck.tui.screens.history import HistoryScreen

    return HistoryScreen()


def _first_theme(app: "App[None]") -> str:
    assert isinstance(app, WatchApp)  # noqa: S101 - for the type checker
    return (LIGHT if app.options.light else DARK).name


class WatchApp(App[None]):
    """Four screens over one model."""

    TITLE = "replcheck"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "overview": OverviewScreen,
        "audit": _audit_screen,
        "drill": _drill_screen,
        "history": _history_screen,
    }
    DEFAULT_MODE = "overview"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "go('overview')", "Overview", show=False, tooltip="How the cluster is"),
        Binding("2", "go('audit')", "Audit", show=False, tooltip="The audit that runs, or ran last"),
        Binding("3", "go('drill')", "Drill", show=False, tooltip="The trial restore that runs, or ran last"),
        Binding("4", "go('history')", "History", show=False, tooltip="Past runs"),
        Binding("t", "turn_light", "Light/dark", show=False, tooltip="Dark on light, or light on dark"),
        Binding("ctrl+p", "command_palette", "Commands", show=False, tooltip="Find any command by its name"),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="What the screen shows, and all its keys"),
        Binding("q", "quit", "Quit", tooltip="Leave; it asks first where a run would end with it"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True, tooltip="Leave, as q does"),
    ]

    # A theme that is set later would have all styles worked out twice before the first picture.
    theme: Reactive[str] = Reactive(Initialize(_first_theme))

    def __init__(self, feed: Feed, commands: Commands, options: Options) -> None:
        self.options = options
        super().__init__()
        self.commands = commands
        self.model = Model()
        self.defect: Exception | None = None
        """What ended the app, where something did that should not have happened."""
        self._feed = feed
        self._inbox: deque[Update] = deque()
        self._drawn_second = 0
        self._told = 0
        self._is_drawn = False
        self._leaves = False

    @property
    def available_themes(self) -> dict[str, Theme]:
        """Return the themes to choose from, those of this app first."""
        return {DARK.name: DARK, LIGHT.name: LIGHT} | super().available_themes

    def on_mount(self) -> None:
        """Begin to look for updates."""
        self.set_interval(TICK_S, self._tick)

    def on_ready(self) -> None:
        """Begin to listen: the first picture waits for nobody. From now on garbage is collected again."""
        self._is_drawn = True
        if self._leaves:
            self.exit()
            return
        self._feed.subscribe(self._inbox.append)
        if not gc.isenabled():
            gc.freeze()
            gc.enable()

    def look(self) -> Look:
        """Return what the drawing depends on beside the model; a recording has its own present."""
        # Whole seconds: no figure is finer, and what has not changed within one is not drawn again.
        model, now = self.model, self.options.clock().replace(microsecond=0)
        if model.link in {Link.REPLAY, Link.ENDED} and model.at is not None:
            now = model.at
        told = model.introduced or self.options
        return Look(now=now, zone=told.zone, asked=told.asked)

    def take(self) -> bool:
        """Fold what came in; return whether anything did."""
        updates = []
        while self._inbox:
            updates.append(self._inbox.popleft())
        if updates:
            self.model = fold(self.model, updates)
        return bool(updates)

    def draw(self, screen: Screen[Any] | None = None) -> None:
        """Draw the screen in front, or the one that is named."""
        screen = screen or self.screen_stack[0]
        if isinstance(screen, AppScreen):
            screen.show(self.model, self.look())

    def _tick(self) -> None:
        second = int(self.options.clock().timestamp())
        if self.take() or second != self._drawn_second:
            self._drawn_second = second
            self.draw()
            if isinstance(self.screen, Window):
                self.screen.redraw()
        self._tell()
        if self.model.closed:
            self.exit()

    def _tell(self) -> None:
        new, self._told = self.model.noted - self._told, self.model.noted
        for note in self.model.notes[-new:] if new else ():
            self.notify(note.text, severity=_TOAST[note.severity], markup=False)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        """Tell something for a while, in which no name can steer the terminal."""
        lines = "\n".join(map(printable, message.split("\n")))
        super().notify(lines, title=printable(title), severity=severity, timeout=timeout, markup=markup)

    def _handle_exception(self, error: Exception) -> None:
        # Textual would print a traceback with the content of every variable, over the terminal of whoever watches.
        self.defect = self.defect or error
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        self._close_messages_no_wait()

    def get_line_filters(self) -> list[LineFilter]:
        """Return the filters of lines, with the one that leaves nothing but ASCII where the locale asks for it."""
        filters = [*super().get_line_filters(), _NO_STEERING]
        return [*filters, AsciiOnly()] if self.options.ascii_only else filters

    def get_key_display(self, binding: Binding) -> str:
        """Return how a key is shown: by its name where the locale has no sign for it."""
        shown = super().get_key_display(binding)
        return binding.key if self.options.ascii_only and not shown.isascii() else shown

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Return the colours that other themes do not know."""
        return variables_of(self.current_theme)

    def action_go(self, name: str) -> None:
        """Show another screen."""
        self.switch_mode(name)

    def try_to(self, command: Callable[[], None]) -> None:
        """Do what was asked for; tell why where it cannot be done."""
        try:
            command()
        except ReplcheckError as error:
            self.notify(f"{error.message}. {error.hint}".strip(), severity="error", markup=False)

    def action_help(self) -> None:
        """Tell what the screen shows, and all keys."""
        from replcheck.tui.draw.help import help_lines
        from replcheck.tui.screens.facts import FactsScreen

        screen = self.screen
        if isinstance(screen, AppScreen):
            self.push_screen(FactsScreen(f"Help: {screen.NAME}", lambda width: help_lines(screen, self, width)))

    def leave(self) -> None:
        """Leave without a question, but not before the first picture: half mounted, Textual fails to end."""
        self._leaves = True
        if self._is_drawn:
            self.exit()

    async def action_quit(self) -> None:
        """Leave; ask first where something runs that would end with it."""
        running = self.model.running if self.commands.offers().controls else ()
        if not running:
            self.exit()
            return
        from replcheck.tui.screens.ask import Confirm

        question = f"{' and '.join(running)} {'runs' if len(running) == 1 else 'run'}, and ends when you leave."
        self.push_screen(Confirm("Leave?", question.capitalize(), yes="Leave", no="Stay"), self._left)

    def _left(self, yes: bool | None) -> None:
        if yes:
            self.exit()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Return what the command palette offers: every key of the screen, the screens, and what Textual has."""
        offered = {active.binding.action: active for active in screen.active_bindings.values() if active.enabled}
        for action, active in offered.items():
            binding = active.binding
            if binding.tooltip and not action.startswith(_UNLISTED):
                yield SystemCommand(binding.description, binding.tooltip, partial(self.run_action, action, active.node))
        yield from (found for found in super().get_system_commands(screen) if found.title in _KEPT_COMMANDS)

    def action_turn_light(self) -> None:
        """Change between dark and light."""
        self.theme = (DARK if self.theme == LIGHT.name else LIGHT).name
