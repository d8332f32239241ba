"""A list of lines under a line of titles, of which only those in sight are ever drawn: five thousand cost no more.

The cursor stays on its row, by key, when rows come, go and change places; until somebody moves it, it stays at the top.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions

DrawRow = Callable[[int, int], Content]
"""Takes the number of a row and the width, returns its line."""
_MARK = "›"
_DRAWN_KEPT = 500


class RowList(ScrollView, can_focus=True):
    """Shows rows that somebody else draws; Enter or a click on the row under the cursor opens it."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--header", "rows--cursor", "rows--mark", "rows--empty"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, tooltip="One row up"),
        Binding("down,j", "move(1)", "Down", show=False, tooltip="One row down"),
        Binding("pageup", "page(-1)", "Page up", show=False, tooltip="One page up"),
        Binding("pagedown", "page(1)", "Page down", show=False, tooltip="One page down"),
        Binding("home,g", "move(-1000000000)", "First", show=False, tooltip="To the first row"),
        Binding("end,G", "move(1000000000)", "Last", show=False, tooltip="To the last row"),
        Binding("enter", "open", "Open", tooltip="Tell all about the row under the cursor"),
    ]
    cursor: reactive[int] = reactive(0)

    class Opened(Message):
        """A row was chosen."""

        def __init__(self, rows: "RowList", key: Hashable) -> None:
            super().__init__()
            self.rows = rows
            self.key = key

        @property
        def control(self) -> "RowList":
            """Return the list it was chosen in."""
            return self.rows

    class Moved(Opened):
        """The cursor went to another row."""

    def __init__(self, *, id: str, empty: str = "", follow: bool = False) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.empty = empty
        """What stands there while there is no row."""
        self.keys: Sequence[Hashable] = ()
        self._follow = follow
        self._moved = False
        self._header: Callable[[int], Content] = lambda _: Content("")
        self._draw: DrawRow = lambda _number, _width: Content("")
        self._token: Callable[[int], object] | None = None
        self._of: object = None
        self._drawn: dict[Hashable, tuple[object, int, Strip]] = {}

    def show(
        self,
        keys: Sequence[Hashable],
        header: Callable[[int], Content],
        draw: DrawRow,
        *,
        of: object,
        token: Callable[[int], object] | None = None,
    ) -> None:
        """Show these rows from now on; `draw` is asked for those in sight, until `show` is called again.

        Where `of`, which is all that they depend on, is what it was, nothing is drawn anew. `token` takes the number of
        a row and returns what its line alone depends on: while that is the same object, the line is kept.
        """
        if self._of is not None and self._of == of:
            return
        self._of = of
        before, drawn, cursor = self.key, self._in_sight(), self.cursor
        if bool(keys) != bool(self.keys):
            self.refresh_bindings()
        if keys != self.keys:
            self._keep_cursor(before, keys)
        self.keys, self._header, self._draw, self._token = keys, header, draw, token
        if self.virtual_size.height != len(keys) + 1:
            self.virtual_size = Size(self.size.width, len(keys) + 1)
        if drawn is None or cursor != self.cursor:
            self.refresh()
        else:
            self._refresh_changed(drawn)

    def _in_sight(self) -> Sequence[tuple[Hashable, object]] | None:
        """Return the key and the token of each row in sight; None where lines depend on more than their token."""
        token, top = self._token, round(self.scroll_y)
        if token is None:
            return None
        return [(self.keys[row], token(row)) for row in range(top, min(top + self.size.height, len(self.keys)))]

    def _refresh_changed(self, drawn: Sequence[tuple[Hashable, object]]) -> None:
        """Have the titles, the row under the cursor and those lines drawn anew that show something else than before."""
        now = self._in_sight()
        if now is None or len(now) != len(drawn):
            self.refresh()
            return
        rows = {self.cursor - round(self.scroll_y)}
        rows |= {
            at for at, (old, new) in enumerate(zip(drawn, now, strict=True)) if old[0] != new[0] or old[1] is not new[1]
        }
        lines = [0, *(row + 1 for row in sorted(rows) if 0 <= row < self.size.height - 1)]
        self.refresh(*(Region(0, line, self.size.width, 1) for line in lines))

    @property
    def key(self) -> Hashable | None:
        """Return the key of the row under the cursor; None where there is no row."""
        return self.keys[self.cursor] if self.cursor < len(self.keys) else None

    def select(self, key: Hashable) -> None:
        """Put the cursor on a row, if it is there."""
        if key in self.keys:
            self._moved = True
            self.cursor = self.keys.index(key)

    def _keep_cursor(self, before: Hashable | None, keys: Sequence[Hashable]) -> None:
        if self._moved and before is not None and self.cursor < len(keys) and keys[self.cursor] == before:
            return
        if self._moved and before in keys:
            self.set_reactive(RowList.cursor, keys.index(before))
            self._into_sight()
        else:
            self._moved = self._moved and before is not None and not self._follow
            self.set_reactive(RowList.cursor, min(self.cursor if self._moved else 0, max(0, len(keys) - 1)))

    def watch_cursor(self, before: int, now: int) -> None:
        """Bring the row into sight and tell of it."""
        self._into_sight()
        self.refresh()
        if before != now and (key := self.key) is not None:
            self.post_message(self.Moved(self, key))

    def _into_sight(self) -> None:
        page, top = max(1, self.size.height - 1), round(self.scroll_y)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, immediate=True)
        elif self.cursor >= top + page:
            self.scroll_to(y=self.cursor - page + 1, animate=False, immediate=True)

    def action_move(self, by: int) -> None:
        """Move the cursor by so many rows, within the list."""
        if self.keys:
            to = max(0, min(len(self.keys) - 1, self.cursor + by))
            # Back at the top, it follows what comes new.
            self._moved = to > 0
            self.cursor = to

    def action_page(self, by: int) -> None:
        """Move the cursor by so many pages."""
        self.action_move(by * max(1, self.size.height - 2))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's name
        """Offer to open a row only where there is one."""
        return bool(self.keys) or action != "open"

    def action_open(self) -> None:
        """Tell that the row under the cursor was chosen."""
        if (key := self.key) is not None:
            self.post_message(self.Opened(self, key))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the row; open it where the cursor was there already."""
        row = event.y - 1 + round(self.scroll_y)
        if event.y < 1 or row >= len(self.keys):
            return
        if row == self.cursor and (event.chain > 1 or self._moved):
            self.action_open()
        else:
            self._moved = True
            self.cursor = row

    def on_resize(self) -> None:
        """Draw anew in the new width."""
        self.virtual_size = Size(self.size.width, len(self.keys) + 1)
        self._into_sight()

    def render_line(self, y: int) -> Strip:
        """Draw one line of what is in sight."""
        width = self.scrollable_content_region.width
        if y == 0:
            return self._strip(self._header(width - 2), "rows--header", " ")
        row = y - 1 + round(self.scroll_y)
        if row >= len(self.keys):
            text = self.empty if not self.keys and y == 1 else ""
            return self._strip(Content(text), "rows--empty", " ")
        if row == self.cursor and self.has_focus:
            return self._strip(self._draw(row, width - 2), "rows--cursor", _MARK)
        return self._row_strip(row, width)

    def _row_strip(self, row: int, width: int) -> Strip:
        """Return the line of a row that is not under the cursor."""
        token = self._token(row) if self._token is not None else None
        known = self._drawn.get(self.keys[row])
        if known is not None and known[0] is token and known[1] == width:
            return known[2]
        strip = self._strip(self._draw(row, width - 2), None, " ")
        if token is not None:
            if len(self._drawn) >= _DRAWN_KEPT:
                self._drawn.clear()
            self._drawn[self.keys[row]] = (token, width, strip)
        return strip

    def notify_style_update(self) -> None:
        """Forget what was drawn in other colours."""
        self._drawn.clear()
        super().notify_style_update()

    def _strip(self, line: Content, component: str | None, mark: str) -> Strip:
        width = self.scrollable_content_region.width
        style = self.visual_style
        if component is not None:
            style += Style.from_styles(self.get_component_styles(component))
        whole = Content.assemble((mark, "bold $primary") if mark == _MARK else mark, " ", line)
        options = RenderOptions(self._get_style, self.styles.get_rules())
        [strip] = whole.render_strips(width, 1, style, options)[:1] or [Strip.blank(width)]
        return strip.adjust_cell_length(width, style.rich_style)
