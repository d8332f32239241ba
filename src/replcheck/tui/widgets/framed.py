"""A window's frame with its title, in which no name can steer the terminal."""

from textual.containers import Vertical
from textual.content import Content

from replcheck.model.names import printable


class Framed(Vertical):
    """Holds what stands in a window, under a title that may be a name from a server."""

    def __init__(self, title: str, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.border_title = Content(printable(title))
