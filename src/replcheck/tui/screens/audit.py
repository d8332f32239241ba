"""The audit that runs, or ran last: how far it is, its map, its relations."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget

from replcheck.model.units import format_size
from replcheck.tui.audit_state import AuditModel, Order, Phase, Rank, RelationProgress, arranged
from replcheck.tui.draw.audit import headline, relation_layout, relation_row
from replcheck.tui.draw.chunk_map import AuditMap, drawn_map, legend
from replcheck.tui.draw.idle import idle, idle_words
from replcheck.tui.draw.own_audits import AUDIT_KINDS, later_audit_lines, own_audit_lines
from replcheck.tui.draw.relation import relation_details
from replcheck.tui.look import Look
from replcheck.tui.screens.ask import Confirm
from replcheck.tui.screens.base import AppScreen
from replcheck.tui.screens.facts import FactsScreen
from replcheck.tui.state import Model
from replcheck.tui.widgets.canvas import Canvas
from replcheck.tui.widgets.rows import RowList

if TYPE_CHECKING:
    from textual.widgets import Input

_ORDERS = list(Order)


def _later(model: Model, audit: AuditModel, look: Look, width: int) -> list[Content]:
    return [] if audit.running else later_audit_lines(model, audit.started_at, look, width)


class AuditScreen(AppScreen):
    """Whether the copies are copies, relation by relation."""

    NAME = "audit"
    CSS_PATH = "runs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "start_audit", "Audit now", tooltip="Compare every row of every copy"),
        Binding("space", "pause", "Pause", key_display="space", tooltip="Hold the audit still; it keeps no snapshot"),
        Binding("space", "resume", "Go on", key_display="space", tooltip="Let the audit go on"),
        Binding("x", "cancel_audit", "Cancel", tooltip="End the audit; what it has proven is kept"),
        Binding("s", "order", "Sort", tooltip="Trouble first, by name, or by size"),
        Binding("slash", "find", "Find", key_display="/", tooltip="Only relations whose name holds some letters"),
        Binding("n", "next", "Next trouble", show=False, tooltip="To the next relation that is not consistent"),
    ]
    HELP = (
        "The audit that runs, or ran last. Each sign of the map stands for a part of the data, in the order in which it"
        " is read. A relation is consistent only when every row of it was compared and matched. Enter opens a relation"
        " down to its blocks and tuple positions."
    )

    def __init__(self) -> None:
        super().__init__()
        self._order = Order.TROUBLE
        self._needle = ""
        self._shown: list[RelationProgress] = []
        self._arranged: tuple[AuditModel, Order, str] | None = None
        self._map = AuditMap()

    def body(self) -> Iterable[Widget]:
        """Make the widgets."""
        yield Canvas(id="headline")
        yield Canvas(id="map")
        yield RowList(id="relations")

    def show_body(self, model: Model, look: Look) -> None:
        """Show the model."""
        audit, offers = model.audit, self.watch_app.commands.offers()
        self.offer_keys(audit.phase if audit else None, offers.audit is not None, offers.controls)
        self.set_class(audit is None, "-idle")
        rows = self.query_one("#relations", RowList)
        if audit is None:
            how = idle_words(offers.why_no_audit, "Press a to compare every row of every copy now.")
            meanwhile = own_audit_lines(model, look)
            self.query_one("#headline", Canvas).show(
                lambda width, _: idle("audit", how, model, look, width, kinds=AUDIT_KINDS, meanwhile=meanwhile),
                (how, model.runs, model.rolling, model.owed, look),
            )
            rows.show([], lambda _: Content(""), lambda _row, _width: Content(""), of=("idle",))
            return
        self.query_one("#headline", Canvas).show(
            lambda width, _: [*_later(model, audit, look, width), *headline(audit, look, width)],
            (audit, model.runs, model.rolling, model.owed, look),
        )
        self.query_one("#map", Canvas).show(lambda width, height: self._draw_map(audit, width, height), (audit,))
        if self._arranged != (audit, self._order, self._needle):
            self._arranged = (audit, self._order, self._needle)
            self._shown = arranged(*self._arranged)
        rows.empty = "no relation is called so" if self._needle else "the relations are being listed"
        rows.show(
            [one.key for one in self._shown],
            lambda width: self._header(audit, width),
            self._row,
            of=(audit, self._order, self._needle),
            token=self._shown.__getitem__,
        )

    def _header(self, audit: AuditModel, width: int) -> Content:
        return relation_layout(audit.replicas, width).header()

    def _draw_map(self, audit: AuditModel, width: int, height: int) -> list[Content]:
        cells = width * max(1, height - 1)
        total = max(audit.planned_bytes, audit.compared_bytes)
        note = f"a sign is {format_size(max(1, total // cells))}" if total and cells else ""
        return [*drawn_map(self._map.tones(audit, cells), width), legend(note, width)]

    def _row(self, row: int, width: int) -> Content:
        audit = self.watch_app.model.audit
        replicas = audit.replicas if audit else ()
        return relation_row(relation_layout(replicas, width), self._shown[row])

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's name
        """Offer only what can be done now."""
        audit = self.watch_app.model.audit
        running = audit is not None and audit.running
        held = audit is not None and audit.phase is Phase.HELD
        match action:
            case "start_audit":
                return not running and self.watch_app.commands.offers().audit is not None
            case "pause":
                return running and not held and self.watch_app.commands.offers().controls
            case "resume":
                return running and held and self.watch_app.commands.offers().controls
            case "cancel_audit":
                return running and self.watch_app.commands.offers().controls
            case "order" | "find" | "next":
                return audit is not None
        return True

    def action_start_audit(self) -> None:
        """Ask, and start an audit."""
        offer = self.watch_app.commands.offers().audit
        if offer is not None:
            question = Confirm("Audit now", offer.sentence, yes="Start")
            self.app.push_screen(question, self._started)

    def _started(self, yes: bool | None) -> None:
        if yes:
            self.watch_app.try_to(self.watch_app.commands.start_audit)

    def action_pause(self) -> None:
        """Hold the audit still."""
        self.watch_app.try_to(self.watch_app.commands.pause)

    def action_resume(self) -> None:
        """Let the audit go on."""
        self.watch_app.try_to(self.watch_app.commands.resume)

    def action_cancel_audit(self) -> None:
        """Ask, and end the audit."""
        question = "What it has proven so far is kept, and a later audit can go on from there."
        self.app.push_screen(Confirm("End the audit?", question, yes="End it", no="Let it run"), self._cancelled)

    def _cancelled(self, yes: bool | None) -> None:
        if yes:
            self.watch_app.try_to(self.watch_app.commands.cancel)

    async def action_find(self) -> None:
        """Ask for letters that the name of a relation holds."""
        found = self.query("#find")
        if found:
            found.first().focus()
            return
        from textual.widgets import Input

        field = Input(self._needle, placeholder="letters of the relation's name; Enter keeps, Esc clears", id="find")
        await self.query_one("#body").mount(field, before="#relations")
        field.focus()

    def on_input_changed(self, event: "Input.Changed") -> None:
        """Show only what is called so."""
        self._needle = event.value
        self.watch_app.draw(self)

    async def on_input_submitted(self) -> None:
        """Keep what was found."""
        self.query_one("#relations").focus()
        if not self._needle:
            await self.query("#find").remove()

    async def key_escape(self) -> None:
        """Show all relations again."""
        self._needle = ""
        await self.query("#find").remove()
        self.query_one("#relations").focus()
        self.watch_app.draw(self)

    def action_order(self) -> None:
        """Arrange the relations in the next way."""
        self._order = _ORDERS[(_ORDERS.index(self._order) + 1) % len(_ORDERS)]
        self.notify(f"Relations {self._order.value}", timeout=2)
        self.watch_app.draw(self)

    def action_next(self) -> None:
        """Move the cursor to the next relation that is not consistent, round again from the top."""
        rows = self.query_one("#relations", RowList)
        trouble = [one.key for one in self._shown if one.rank < Rank.READING or one.in_flight]
        behind = [key for key in trouble if rows.keys.index(key) > rows.cursor]
        if behind or trouble:
            rows.select((behind or trouble)[0])

    def on_row_list_opened(self, opened: RowList.Opened) -> None:
        """Open a relation down to its blocks."""
        app, key = self.watch_app, opened.key

        def draw(width: int) -> Sequence[Content]:
            audit = app.model.audit
            relation = audit.relations.get(key) if audit else None  # type: ignore[call-overload]
            if audit is None or relation is None:
                return [Content("This relation is not part of the audit that runs now.")]
            return relation_details(audit, relation, width)

        app.push_screen(FactsScreen(".".join(key), draw))  # type: ignore[arg-type]
