"""The line at the top: which cluster, which screens there are, where what is shown comes from, and the time."""

from textual.content import Content
from textual.widget import Widget

from replcheck.model.names import printable
from replcheck.tui.feed import Link
from replcheck.tui.look import BAD, GOOD, QUIET, WARN, Look
from replcheck.tui.state import Model

SCREENS = (("overview", "Overview"), ("audit", "Audit"), ("drill", "Drill"), ("history", "History"))
_ROOM_FOR_CLOCK = 72
_LINKS = {
    Link.CONNECTING: ("◌", WARN),
    Link.SAMPLING: ("●", GOOD),
    Link.READING: ("●", GOOD),
    Link.REPLAY: ("▶", "$primary"),
    Link.LOST: ("✘", BAD),
    Link.ENDED: ("■", QUIET),
}


class TopBar(Widget):
    """One line; the names of the screens can be clicked."""

    def __init__(self, screen_name: str, cluster: str) -> None:
        super().__init__()
        self._screen_name = screen_name
        self._cluster = cluster
        self._model = Model()
        self._look: Look | None = None
        self._shown: object = None

    def show(self, model: Model, look: Look) -> None:
        """Show this from now on."""
        self._cluster = model.introduced.cluster if model.introduced else self._cluster
        shown = (model.link, look.now, look.zone, self._cluster, model.stale(look.now))
        if self._shown != shown:
            self._shown, self._model, self._look = shown, model, look
            self.refresh()

    def render(self) -> Content:
        """Draw the line: what does not fit gives way, the name of the cluster first."""
        tabs, right = self._tabs(), self._right()
        room = self.content_size.width - tabs.cell_length - right.cell_length - 5
        name = Content.styled(printable(self._cluster), "bold").truncate(max(0, min(room, 24)), ellipsis=True)
        left = Content.assemble(name, "  " if room > 0 else "", tabs)
        gap = max(1, self.content_size.width - left.cell_length - right.cell_length)
        return Content.assemble(left, " " * gap, right)

    def _tabs(self) -> Content:
        parts = []
        for number, (name, title) in enumerate(SCREENS, start=1):
            style = "bold reverse $primary" if name == self._screen_name else "$foreground"
            parts.append(Content.from_markup(f"[@click=app.go('{name}')] {number} {title} [/]").stylize(style))
        return Content("").join(parts)

    def _right(self) -> Content:
        sign, colour = _LINKS[self._model.link]
        if self._look is not None and colour == GOOD and self._model.stale(self._look.now):
            sign, colour = "?", WARN
        link = Content.styled(f"{sign} {self._model.link.value}", colour)
        if self._look is None or self.content_size.width < _ROOM_FOR_CLOCK:
            return link
        return Content.assemble(link, "  ", (self._look.clock(self._look.now), QUIET))
