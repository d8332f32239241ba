"""A line across the screen for what must not be overlooked; not there while there is nothing of the kind."""

from textual.content import Content
from textual.widget import Widget

from replcheck.model.names import printable
from replcheck.tui.draw.banner import Alarm, alarm
from replcheck.tui.look import SEVERITY_SIGN, Look
from replcheck.tui.state import Model


class Banner(Widget):
    """Shows the worst of what is wrong with the cluster or with the watching of it."""

    def __init__(self) -> None:
        super().__init__()
        self._alarm: Alarm | None = None

    def show(self, model: Model, look: Look) -> None:
        """Show what is wrong now."""
        found = alarm(model, look)
        if found == self._alarm:
            return
        self._alarm = found
        self.display = found is not None
        self.set_classes(f"-{found.severity.value}" if found else "")
        self.refresh(layout=True)

    def render(self) -> Content:
        """Draw the line."""
        if self._alarm is None:
            return Content("")
        told = Content(printable(f"{SEVERITY_SIGN[self._alarm.severity]} {self._alarm.text}"))
        return told.truncate(self.content_size.width, ellipsis=True)
