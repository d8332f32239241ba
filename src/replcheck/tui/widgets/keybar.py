"""The line at the bottom: the keys that do something now, each with a tooltip, and each to be clicked too.

One widget where Textual's own footer has one a key: it is there with the first picture, and costs little later.
"""

from collections.abc import Sequence

from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from replcheck.tui.look import QUIET

_ALWAYS = ("help", "quit")
"""Actions whose keys stand at the right, however many others there are."""
_GAP = 2


class KeyBar(Widget):
    """Shows the bindings of the screen and of whatever has the focus."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: Sequence[tuple[Binding, str]] = ()
        self._places: list[tuple[int, int, Binding]] = []
        """Of each key where it begins and where it ends."""

    def on_mount(self) -> None:
        """Follow what can be done now."""
        self.screen.bindings_updated_signal.subscribe(self, self._take)
        self._take(self.screen)

    def _take(self, screen: Screen[object]) -> None:
        found: dict[str, tuple[Binding, str]] = {}
        for active in screen.active_bindings.values():
            if active.binding.show and active.enabled:
                binding = active.binding
                found.setdefault(binding.action, (binding, active.tooltip or binding.tooltip or binding.description))
        self._keys = list(found.values())
        self.refresh()

    def render(self) -> Content:
        """Draw the keys; those that do not fit are left to the help."""
        width = self.content_size.width
        always = [binding for binding, _ in self._keys if binding.action in _ALWAYS]
        others = [binding for binding, _ in self._keys if binding.action not in _ALWAYS]
        right = Content(" " * _GAP).join([self._key(binding) for binding in always])
        parts, at = [], 0
        self._places = []
        for binding in others:
            key = self._key(binding)
            if at + key.cell_length + _GAP + right.cell_length > width:
                break
            self._places.append((at, at + key.cell_length, binding))
            parts.append(key)
            at += key.cell_length + _GAP
        left = Content(" " * _GAP).join(parts)
        gap = width - left.cell_length - right.cell_length
        at = left.cell_length + gap
        for binding in always:
            length = self._key(binding).cell_length
            self._places.append((at, at + length, binding))
            at += length + _GAP
        return Content.assemble(left, " " * max(0, gap), right)

    def _key(self, binding: Binding) -> Content:
        return Content.assemble((self.app.get_key_display(binding), "bold $primary"), " ", (binding.description, QUIET))

    def _at(self, x: int) -> Binding | None:
        x -= self.styles.padding.left
        return next((binding for begin, end, binding in self._places if begin <= x < end), None)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Tell what the key under the mouse does."""
        binding = self._at(event.x)
        self.tooltip = next((tooltip for known, tooltip in self._keys if known is binding), None)

    def on_click(self, event: events.Click) -> None:
        """Press the key that was clicked."""
        binding = self._at(event.x)
        if binding is not None:
            event.stop()
            self.app.simulate_key(binding.key)
