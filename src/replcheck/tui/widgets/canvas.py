"""A widget whose lines somebody else draws."""

from collections.abc import Callable, Sequence

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

DrawLines = Callable[[int, int], Sequence[Content]]
"""Takes the width and the height, returns at most that many lines."""


class Canvas(Widget):
    """Shows lines; asks for them whenever it is drawn."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._draw: DrawLines = lambda _width, _height: ()
        self._of: object = None

    def show(self, draw: DrawLines, of: object) -> None:
        """Draw so from now on; where `of`, which is all that it depends on, is what it was, nothing is drawn anew."""
        if self._of is not None and self._of == of:
            return
        self._draw, self._of = draw, of
        self.refresh(layout=self.styles.is_auto_height and self._changes_height())

    def _changes_height(self) -> bool:
        # To lay a screen out anew costs as much as to draw it, and most of what is told changes a line and adds none.
        width, height = self.content_size
        return not width or max(1, len(self._draw(width, self.screen.size.height))) != height

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - Textual's names
        """Return how many lines there are where the height is left to the content."""
        return max(1, len(self._draw(width, viewport.height)))

    def render(self) -> Content:
        """Draw the lines."""
        width, height = self.content_size
        return Content("\n").join(list(self._draw(width, height))[:height])
