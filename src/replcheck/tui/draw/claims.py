"""What the policy promises, a line or a lamp each; what nobody watches, or nobody can evaluate, is never met."""

from collections.abc import Sequence
from dataclasses import replace

from textual.content import Content

from replcheck.model.control import Standing
from replcheck.model.names import printable
from replcheck.model.outcome import Outcome
from replcheck.tui.draw.table import ANY, Column, Layout, laid_out
from replcheck.tui.feed import Claim, Link
from replcheck.tui.look import COLOUR, FAINT, QUIET, SIGN, VALUE, Look, standing_mark
from replcheck.tui.state import Model


def claims_now(model: Model, look: Look) -> tuple[Claim, ...]:
    """Return the claims as they may be shown at this moment.

    Once nothing is watched, or the policy cannot be evaluated any more, nobody knows what they were found to be last.
    What was broken within the window stays so: that cannot be undone by looking away.
    """
    claims, doubt = model.claims or (), _doubt(model, look)
    return tuple(_doubted(claim, doubt) for claim in claims) if doubt else claims


def _doubt(model: Model, look: Look) -> str:
    """Return why what the claims were found to be is no longer known; empty where it is."""
    if model.view is None and model.link not in {Link.REPLAY, Link.ENDED}:
        return "no sample was seen yet"
    if model.view is not None and model.stale(look.now):
        return f"nothing is watched since {look.moment(model.view.at)}"
    return model.claims_problem


def _doubted(claim: Claim, doubt: str) -> Claim:
    now = claim.now if claim.now is Standing.WAIVED else Standing.UNCHECKED
    window = Standing.UNCHECKED if claim.window.outcome is Outcome.PROVEN else claim.window
    return replace(claim, now=now, window=window, problems=(doubt, *claim.problems))


_CLAIMS = (
    Column(key="name", title="CLAIMS", least=14, most=16),
    Column(key="now", title="now", least=11),
    Column(key="window", title="window", least=11),
    Column(key="found", title="found", least=20, most=ANY, cut=True, keep=2),
    Column(key="sentence", title="promised", least=50, most=ANY, cut=True, keep=1),
)


def claim_layout(width: int) -> Layout:
    """Return the columns of the claims that fit."""
    return laid_out(_CLAIMS, width)


def claim_row(layout: Layout, claim: Claim) -> Content:
    """Return one claim as a line."""
    found = "; ".join(claim.problems) or claim.measured
    return layout.row(
        {
            "name": (claim.name, VALUE),
            "now": standing_mark(claim.now),
            "window": standing_mark(claim.window) if claim.window is not Standing.NOT_ASKED else ("–", FAINT),
            "found": (found, "" if claim.problems else QUIET),
            "sentence": (claim.sentence, QUIET),
        }
    )


def claim_lamps(claims: Sequence[Claim], width: int, height: int) -> list[Content]:
    """Return the claims as lamps: the sign of now, the sign of the window, the name; in columns, row by row."""
    wide = max((len(printable(claim.name)) for claim in claims), default=0) + 6
    across = max(1, min(width // wide, len(claims)))
    wide = (width - 2) // across
    lines = [claims[at : at + across] for at in range(0, len(claims), across)]
    drawn = [Content.assemble("  ", *(_lamp(claim, wide) for claim in line)) for line in lines]
    if len(drawn) > height:
        hidden = len(claims) - across * (height - 1)
        drawn[height - 1 :] = [Content.styled(f"  and {hidden} more: c tells all", QUIET)]
    return drawn


def _lamp(claim: Claim, width: int) -> Content:
    window = claim.window.outcome
    marks = Content.assemble(
        (SIGN[claim.now.outcome], f"bold {COLOUR[claim.now.outcome]}"),
        (SIGN[window] if window else " ", COLOUR[window]),
        " ",
        (printable(claim.name), COLOUR[claim.now.outcome] if claim.now.outcome is not Outcome.PROVEN else ""),
    )
    return marks.pad_right(max(0, width - marks.cell_length))
