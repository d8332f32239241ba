"""What whoever samples proves of its own accord, in a few words or in a line each; and what it proved last."""

from datetime import datetime
from typing import TYPE_CHECKING

from textual.content import Content

from replcheck.model.names import printable
from replcheck.model.run import RunRecord
from replcheck.tui.feed import OwedAudit, RollingAudit
from replcheck.tui.look import COLOUR, QUIET, SIGN, Look, age
from replcheck.tui.state import Model

if TYPE_CHECKING:
    # Not needed before the first picture.
    from replcheck.report.history import PastRun

AUDIT_KINDS = frozenset({"audit", "scrub"})
"""Runs of the history that compare copies row by row."""


def told_shortly(model: Model) -> str:
    """Return what goes on in a few letters; empty where nothing does, and there is no rolling audit."""
    if model.audit is not None and model.audit.running:
        return f"auditing {model.audit.share:.0%}"
    if model.owed is not None:
        return f"auditing {model.owed.share:.0%}"
    if model.rolling is None:
        return ""
    return f"rolling audit {model.rolling.share:.0%}" if model.rolling.nodes else "rolling audit rests"


def own_audit_lines(model: Model, look: Look) -> list[Content]:
    """Return a line for the audit that is owed, and one for the rolling audit, where there are any."""
    told = [_owed_words(model.owed)] if model.owed else []
    told += [rolling_words(model.rolling, look)] if model.rolling else []
    return [Content.styled(printable(words), QUIET) for words in told]


def rolling_words(rolling: RollingAudit, look: Look) -> str:
    """Return where the rolling audit stands, in one clause."""
    period = f"each row is proven once in {age(rolling.period_s)}"
    if not rolling.nodes:
        return f"rolling audit: all is proven for now, {period}"
    names = " and ".join(rolling.nodes)
    if rolling.resting:
        return f"rolling audit of {names}: {rolling.share:.0%}, resting: {rolling.resting}"
    by = f", until {look.moment(rolling.deadline)}" if rolling.deadline else ", as soon as may be"
    return f"rolling audit of {names}: {rolling.share:.0%}{by}; {period}"


def _owed_words(owed: OwedAudit) -> str:
    names = " and ".join(owed.replicas)
    return f"audit of {names} against {owed.primary}, because of what happened: {owed.share:.0%}"


def later_audit_lines(model: Model, began_at: datetime, look: Look, width: int) -> list[Content]:
    """Return a line for what is audited, or was last, since an audit that is shown began; none where nothing was."""
    if model.owed is not None or (model.rolling is not None and model.rolling.nodes):
        line = own_audit_lines(model, look)[0]
        return [Content.assemble(("▶ ", "bold $primary"), line).truncate(width, ellipsis=True)]
    later = next((past for past in model.runs or () if _is_later(past, began_at)), None)
    if later is None or not isinstance(later.run, RunRecord):
        return []
    run = later.run
    told = Content.assemble(
        (f"{SIGN[run.outcome]} {run.verdict}", COLOUR[run.outcome]),
        (f"  a later {run.kind}, {look.ago(run.started_at)}; 4 History has its report", QUIET),
    )
    return [told.truncate(width, ellipsis=True)]


def _is_later(past: "PastRun", began_at: datetime) -> bool:
    # A run's record and its first event tell its beginning some milliseconds apart.
    return past.run.kind in AUDIT_KINDS and (past.run.started_at - began_at).total_seconds() > 1
