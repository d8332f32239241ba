"""Renders a paper as HTML: one file with its style inside, that runs no script and asks nobody for anything.

A content security policy in the file itself forbids both, whatever a name of a relation may look like.
"""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from replcheck.model.names import printable
from replcheck.model.outcome import Outcome
from replcheck.model.plain import utc_text
from replcheck.report.paper import Paper
from replcheck.report.pictures.drawing import Drawing
from replcheck.report.style import Style

_PACKAGE = "replcheck.report.html"
_NO_OUTCOME = "plain"


def paper_html(paper: Paper, style: Style) -> str:
    """Return the whole page; `style` tells the zone in which times are shown."""
    css = _css()
    digest = b64encode(sha256(css.encode()).digest()).decode()
    page = _environment().get_template("page.html")
    return page.render(paper=paper, style=style, css=Markup(css), css_digest=digest) + "\n"  # noqa: S704 - our file


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"kind": _kind, "outcome": _outcome, "sign": _sign, "utc": utc_text, "svg": _svg}
    return made


def _shown(value: object) -> object:
    """Return a text without characters that HTML does not know, or that turn the direction of others."""
    return printable(value) if type(value) is str else value


def _kind(value: object) -> str:
    return type(value).__name__


def _outcome(outcome: Outcome | None) -> str:
    return outcome.value if outcome else _NO_OUTCOME


def _sign(outcome: Outcome) -> str:
    return Style().sign(outcome)


def _svg(drawing: Drawing) -> Markup:
    return Markup(drawing.shapes)  # noqa: S704 - written by an XML library, which escapes


@cache
def _css() -> str:
    return resources.files(_PACKAGE).joinpath("style.css").read_text(encoding="utf-8")
