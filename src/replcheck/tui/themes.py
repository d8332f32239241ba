"""Two themes: calm grounds, few colours, each of which means one thing."""

from textual.theme import Theme

_ON_DARK = {"quiet": "#8d9aaa", "faint": "#515d6a", "unsure": "#b594e6"}
_ON_LIGHT = {"quiet": "#56616c", "faint": "#a4acb3", "unsure": "#6b3fa0"}


def variables_of(theme: Theme) -> dict[str, str]:
    """Return the colours that themes of others do not know: two kinds of grey, and that of what is unchecked."""
    return _ON_DARK if theme.dark else _ON_LIGHT


DARK = Theme(
    name="replcheck-dark",
    dark=True,
    primary="#5ab0e8",
    secondary="#8296ad",
    accent="#e0b455",
    success="#4fc58a",
    warning="#e8b23a",
    error="#f0616a",
    foreground="#d5dce5",
    background="#0f1419",
    surface="#151b22",
    panel="#1e2630",
    variables={"footer-background": "#151b22", "footer-key-foreground": "#5ab0e8", "button-focus-text-style": "bold"},
)
LIGHT = Theme(
    name="replcheck-light",
    dark=False,
    primary="#1667a8",
    secondary="#5b6b7d",
    accent="#8a5a00",
    success="#177245",
    warning="#8f5f00",
    error="#b3261e",
    foreground="#1c232b",
    background="#fbfbfa",
    surface="#f1f2f1",
    panel="#e4e7e8",
    variables={"footer-background": "#f1f2f1", "footer-key-foreground": "#1667a8", "button-focus-text-style": "bold"},
)
