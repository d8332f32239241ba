"""The trial restore that runs, or ran last."""

from collections.abc import Iterable
from typing import ClassVar, cast

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget

from replcheck.model.drill import LayerName
from replcheck.tui.draw.drill import (
    drill_headline,
    layer_details,
    layer_layout,
    layer_row,
    problem_lines,
    stage_lines,
)
from replcheck.tui.draw.idle import idle, idle_words
from replcheck.tui.look import Look
from replcheck.tui.screens.ask import Choose, Confirm
from replcheck.tui.screens.base import AppScreen
from replcheck.tui.screens.facts import FactsScreen
from replcheck.tui.state import Model
from replcheck.tui.widgets.canvas import Canvas
from replcheck.tui.widgets.rows import RowList

_NAMES = tuple(LayerName)


class DrillScreen(AppScreen):
    """Whether a backup comes back."""

    NAME = "drill"
    CSS_PATH = "runs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "start_drill", "Drill now", tooltip="Restore a backup in a scratch server and prove it"),
        Binding("x", "cancel_drill", "Cancel", tooltip="End the drill and remove its scratch copy"),
    ]
    HELP = (
        "The trial restore that runs, or ran last. The stages from fetching to opening make up the recovery time. A"
        " backup is restored only where a layer compared its rows; Enter tells what a layer found."
    )

    def body(self) -> Iterable[Widget]:
        """Make the widgets."""
        yield Canvas(id="headline")
        yield Canvas(id="stages")
        yield RowList(id="layers")
        yield Canvas(id="problems")

    def show_body(self, model: Model, look: Look) -> None:
        """Show the model."""
        drill, offers = model.drill, self.watch_app.commands.offers()
        self.offer_keys(drill is not None and drill.running, bool(offers.drills), offers.controls)
        self.set_class(drill is None, "-idle")
        rows = self.query_one("#layers", RowList)
        if drill is None:
            how = idle_words(offers.why_no_drill, "Press d to restore a backup and prove it now.")
            self.query_one("#headline", Canvas).show(
                lambda width, _: idle("drill", how, model, look, width), (how, model.runs, look)
            )
            rows.show([], lambda _: Content(""), lambda _row, _width: Content(""), of=("idle",))
            return
        self.query_one("#headline", Canvas).show(lambda width, _: drill_headline(drill, look, width), (drill, look))
        self.query_one("#stages", Canvas).show(lambda width, _: stage_lines(drill, look, width), (drill, look))
        self.query_one("#problems", Canvas).show(lambda width, _: problem_lines(drill, width), (drill,))
        rows.show(
            _NAMES,
            lambda width: layer_layout(width).header(),
            lambda row, width: layer_row(layer_layout(width), _NAMES[row], drill.layers.get(_NAMES[row]), drill),
            of=(drill.layers, drill.running),
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's name
        """Offer only what can be done now."""
        drill, offers = self.watch_app.model.drill, self.watch_app.commands.offers()
        running = drill is not None and drill.running
        if action == "start_drill":
            return not running and bool(offers.drills)
        return running and offers.controls if action == "cancel_drill" else True

    def action_start_drill(self) -> None:
        """Ask which backup, and start a drill of it."""
        offers = self.watch_app.commands.offers().drills
        if len(offers) == 1:
            self.app.push_screen(
                Confirm(f"Drill {offers[0].name} now", offers[0].sentence, yes="Start"),
                lambda yes: self._start(offers[0].name if yes else None),
            )
        elif offers:
            self.app.push_screen(Choose("Drill which backup?", offers), self._start)

    def _start(self, backup: str | None) -> None:
        if backup is not None:
            self.watch_app.try_to(lambda: self.watch_app.commands.start_drill(backup))

    def action_cancel_drill(self) -> None:
        """Ask, and end the drill."""
        question = "Its scratch server is stopped and the copy removed. The drill is recorded as not tried."
        self.app.push_screen(Confirm("End the drill?", question, yes="End it", no="Let it run"), self._cancelled)

    def _cancelled(self, yes: bool | None) -> None:
        if yes:
            self.watch_app.try_to(self.watch_app.commands.cancel_drill)

    def on_row_list_opened(self, opened: RowList.Opened) -> None:
        """Tell what a layer found."""
        app, name = self.watch_app, cast(LayerName, opened.key)

        def draw(_: int) -> list[Content]:
            return layer_details(name, app.model.drill) if app.model.drill else []

        app.push_screen(FactsScreen(name.value, draw))
