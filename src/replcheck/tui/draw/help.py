"""The help: what the screen shows, what the signs mean, and every key."""

from typing import TYPE_CHECKING

from textual.content import Content

from replcheck.model.outcome import Outcome
from replcheck.tui.look import COLOUR, QUIET, SIGN, VALUE

if TYPE_CHECKING:
    from textual.app import App

    from replcheck.tui.screens.base import AppScreen

_KEYS = (
    ("1 2 3 4", "overview, audit, drill, history"),
    ("Tab", "to the next list; Shift+Tab to the one before"),
    ("arrows, j k", "move; PgUp, PgDn, Home, End too"),
    ("Enter", "tell all about the row; Esc comes back"),
)
_MEANINGS = {
    Outcome.PROVEN: "proven: consistent, restored, met",
    Outcome.PARTIAL: "not fully proven: inconclusive, at risk, waived",
    Outcome.REFUTED: "refuted: diverged, failed, breached",
    Outcome.UNCHECKED: "unchecked: nothing is known, which never counts as passed",
}


_LIST_ACTIONS = ("move", "page", "go", "open")


def help_lines(screen: "AppScreen", app: "App[None]", width: int) -> list[Content]:
    """Return the help of a screen."""
    lines = [*Content(screen.HELP).wrap(width), Content("")]
    for outcome, meaning in _MEANINGS.items():
        lines.append(Content.assemble("  ", (SIGN[outcome], f"bold {COLOUR[outcome]}"), f"  {meaning}"))
    lines.append(Content(""))
    lines += [_key(key, what) for key, what in _KEYS]
    told = set()
    bindings = [active.binding for active in screen.active_bindings.values()]
    for binding in sorted(bindings, key=lambda binding: not binding.show):
        if binding.tooltip and binding.description not in told and not binding.action.startswith(_LIST_ACTIONS):
            told.add(binding.description)
            lines.append(_key(app.get_key_display(binding), f"{binding.description}: {binding.tooltip}"))
    return lines


def _key(key: str, what: str) -> Content:
    return Content.assemble("  ", (key.ljust(14), VALUE), (what, QUIET))
