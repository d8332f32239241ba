"""Windows that ask something, before anything is started or ended."""

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from replcheck.model.names import printable
from replcheck.tui.feed import Offer
from replcheck.tui.look import QUIET
from replcheck.tui.widgets.framed import Framed
from replcheck.tui.widgets.rows import RowList


class Confirm(ModalScreen[bool]):
    """Asks one question; Escape says no."""

    CSS_PATH = "windows.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
        Binding("left,right,up,down", "app.focus_next", "Other", show=False),
    ]

    def __init__(self, title: str, question: str, *, yes: str, no: str = "No") -> None:
        super().__init__()
        self._title, self._question, self._yes, self._no = title, question, yes, no

    def compose(self) -> ComposeResult:
        """Make the window."""
        with Framed(self._title, id="ask"):
            yield Static(Content(printable(self._question)))
            with Horizontal():
                yield Button(f"{self._yes} (y)", id="yes", variant="primary")
                yield Button(f"{self._no} (n)", id="no")

    @on(Button.Pressed)
    def pressed(self, event: Button.Pressed) -> None:
        """Take the answer of a button."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """Take the answer of a key."""
        self.dismiss(answer)


class Choose(ModalScreen[str | None]):
    """Asks which of several things is to be started; Escape chooses none."""

    CSS_PATH = "windows.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "None of them")]

    def __init__(self, title: str, offers: Sequence[Offer]) -> None:
        super().__init__()
        self._title, self._offers = title, offers

    def compose(self) -> ComposeResult:
        """Make the window."""
        with Framed(self._title, id="ask"):
            yield RowList(id="offers")

    def on_mount(self) -> None:
        """Show what there is to choose from."""
        rows = self.query_one(RowList)
        rows.show(
            [offer.name for offer in self._offers],
            lambda _: Content("Enter chooses"),
            lambda row, _: Content.assemble(
                printable(f"{self._offers[row].name}  "), (printable(self._offers[row].sentence), QUIET)
            ),
            of=tuple(self._offers),
        )
        rows.styles.height = len(self._offers) + 1
        rows.focus()

    def on_row_list_opened(self, opened: RowList.Opened) -> None:
        """Take the choice."""
        self.dismiss(str(opened.key))

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss(None)
