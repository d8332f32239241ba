"""Two themes: calm grounds, few colours, each of which means one thing."""

from textual.theme import Theme

VARIABLES = {"unsure": "#b48ede"}
"""Beside the colours of outcomes that every theme has: unchecked, of which nothing is known."""

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
    variables={"unsure": "#b594e6", "footer-background": "#151b22", "footer-key-foreground": "#5ab0e8"},
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
    variables={"unsure": "#6b3fa0", "footer-background": "#f1f2f1", "footer-key-foreground": "#1667a8"},
)
