"""The overview: figures, nodes, claims and events of the cluster."""

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget

from replcheck.model.names import printable
from replcheck.tui.draw.claims import claim_lamps, claim_layout, claim_row, claims_now
from replcheck.tui.draw.glance import glance, tiles
from replcheck.tui.draw.overview import (
    CURVE_S,
    event_layout,
    event_row,
    node_layout,
    node_row,
    watch_strip,
)
from replcheck.tui.draw.own_audits import own_audit_lines, told_shortly
from replcheck.tui.feed import Claim, Link
from replcheck.tui.look import QUIET, Look
from replcheck.tui.screens.base import AppScreen
from replcheck.tui.state import Model
from replcheck.tui.widgets.canvas import Canvas
from replcheck.tui.widgets.rows import RowList

_NOTHING_ASKED = "the policy asks for nothing: see [policy] of the configuration"
_NO_PROOFS = "a recording holds samples alone, and no proofs"


class OverviewScreen(AppScreen):
    """How the cluster is, and what happened to it."""

    NAME = "overview"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "claims", "Claims", tooltip="What was promised, and whether it holds"),
    ]
    HELP = "The cluster at a glance. Enter tells all about the node, claim or event under the cursor; Tab goes on."

    def body(self) -> Iterable[Widget]:
        """Make the widgets."""
        yield Canvas(id="glance")
        yield RowList(id="nodes")
        yield Canvas(id="charts")
        yield Canvas(id="lamps")
        yield RowList(id="claims", empty=_NOTHING_ASKED)
        yield Canvas(id="strip")
        yield RowList(id="events", empty="nothing happened yet", follow=True)

    def show_body(self, model: Model, look: Look) -> None:
        """Show the model."""
        tall = self.has_class("-high")
        seen = (look, model.link, model.view, model.standings)
        self.query_one("#glance", Canvas).show(
            lambda width, _: glance(tiles(model, look), width, tall=tall), (seen, tall)
        )
        self._show_nodes(model, look)
        if self.has_class("-tall"):
            self._show_charts(model, look)
        self._show_claims(model, look)
        self._show_events(model, look)

    def _show_charts(self, model: Model, look: Look) -> None:
        from replcheck.tui.draw.charts import lag_charts

        self.query_one("#charts", Canvas).show(
            lambda width, height: lag_charts(model, look, width, height, span_s=CURVE_S),
            (look, model.view, model.lags),
        )

    def _show_nodes(self, model: Model, look: Look) -> None:
        nodes = model.view.nodes if model.view else ()
        rows = self.query_one("#nodes", RowList)
        rows.empty = _awaiting(model)
        rows.show(
            [node.node for node in nodes],
            lambda width: node_layout(width).header(),
            lambda row, width: node_row(node_layout(width), model, nodes[row], look),
            of=(look, model.link, model.link_what, model.view, model.standings, model.lags),
        )
        rows.styles.height = max(2, len(nodes) + 1)

    def _show_claims(self, model: Model, look: Look) -> None:
        claims, told = claims_now(model, look), told_shortly(model, look)
        self.query_one("#lamps", Canvas).show(
            lambda width, height: _lamps(model, claims, told, width, height),
            (claims, model.claims is None, model.claims_problem, model.link, told),
        )
        rows = self.query_one("#claims", RowList)
        rows.empty = _why_no_claims(model)
        rows.show(
            [claim.name for claim in claims],
            lambda width: claim_layout(width).header(),
            lambda row, width: claim_row(claim_layout(width), claims[row]),
            of=(claims, rows.empty),
        )
        rows.styles.height = max(2, len(claims) + 1)
        self.query_one("#strip", Canvas).show(
            lambda width, _: [watch_strip(model, look, width), *own_audit_lines(model, look)],
            (look, model.watched, model.watched_from, model.rolling, model.owed),
        )

    def _show_events(self, model: Model, look: Look) -> None:
        happened = model.events
        self.query_one("#events", RowList).show(
            happened,  # its own key: at the most that are kept, the number of an event changes with every new one
            lambda width: event_layout(width).header(),
            lambda row, width: event_row(event_layout(width), happened[row], look),
            of=(happened, look.day),
        )

    def on_row_list_opened(self, opened: RowList.Opened) -> None:
        """Tell all about a row, as it is from now on."""
        from replcheck.tui.draw.details import claim_details, event_details, node_details

        name = str(opened.key)
        match opened.rows.id:
            case "nodes":
                self._open(name, lambda model, look: node_details(model, name, look))
            case "claims":
                self._open(name, lambda model, look: claim_details(model, look, name))
            case "events":
                event = self.watch_app.model.events[opened.rows.cursor]
                self._open(event.kind.value, lambda _, look: event_details(event, look))

    def action_claims(self) -> None:
        """Tell all about every claim."""
        from replcheck.tui.draw.details import claim_details

        self._open("What was promised", claim_details)

    def _open(self, title: str, draw: Callable[[Model, Look], Sequence[Content]]) -> None:
        from replcheck.tui.screens.facts import FactsScreen

        app = self.watch_app
        app.push_screen(FactsScreen(title, lambda _: draw(app.model, app.look())))


def _awaiting(model: Model) -> str:
    if model.link is Link.LOST:
        return "nothing was seen"
    return f"waiting for the first sample{': ' + model.link_what if model.link_what else ''}"


def _lamps(model: Model, claims: Sequence[Claim], told: str, width: int, height: int) -> Sequence[Content]:
    title = Content(f"{'  CLAIMS  now, and over the window':{width - len(told) - 2}}{told}").pad_right(2)
    title = title.stylize(f"bold {QUIET} on $surface")
    if model.link in {Link.REPLAY, Link.ENDED}:
        return [title, Content.styled(f"  {_NO_PROOFS}", QUIET)]
    if model.claims is None:
        return [title, Content.styled(f"  {_unknown(model)}", QUIET).truncate(width, ellipsis=True)]
    if not claims:
        return [title, Content.styled(f"  {_NOTHING_ASKED}", QUIET)]
    return [title, *claim_lamps(claims, width, height - 1)]


def _why_no_claims(model: Model) -> str:
    if model.link in {Link.REPLAY, Link.ENDED}:
        return _NO_PROOFS
    return _unknown(model) if model.claims is None else _NOTHING_ASKED


def _unknown(model: Model) -> str:
    return printable(f"whether they hold is not known{f': {model.claims_problem}' if model.claims_problem else ' yet'}")
