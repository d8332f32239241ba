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


def told_shortly(model: Model, look: Look) -> str:
    """Return what goes on in a few letters; empty where nothing does, and there is no rolling audit."""
    if model.audit is not None and model.audit.running:
        return f"auditing {model.audit.share:.0%}"
    if model.stale(look.now):
        return ""
    if model.owed is not None:
        return f"auditing {model.owed.share:.0%}"
    if model.rolling is None:
        return ""
    if model.rolling.nodes:
        return f"rolling audit {model.rolling.share:.0%}"
    return "rolling audit rests" if _all_proven(model.rolling) else "rolling audit waits"


def own_audit_lines(model: Model, look: Look) -> list[Content]:
    """Return a line for the audit that is owed, and one for the rolling audit, where there are any.

    What whoever samples does is known no longer than that it does.
    """
    if model.stale(look.now):
        return []
    told = [_owed_words(model.owed)] if model.owed else []
    told += [rolling_words(model.rolling, look)] if model.rolling else []
    return [Content.styled(printable(words), QUIET) for words in told]


def rolling_words(rolling: RollingAudit, look: Look) -> str:
    """Return where the rolling audit stands, in one clause."""
    period = f"each row is proven once in {age(rolling.period_s)}"
    if not rolling.nodes:
        return f"rolling audit: {_waiting(rolling, look)}; {period}"
    names = " and ".join(rolling.nodes)
    if rolling.resting:
        return f"rolling audit of {names}: {rolling.share:.0%}, resting: {rolling.resting}"
    by = f", until {look.moment(rolling.deadline)}" if rolling.deadline else ", as soon as may be"
    return f"rolling audit of {names}: {rolling.share:.0%}{by}; {period}"


def _waiting(rolling: RollingAudit, look: Look) -> str:
    """Return why it proves nothing now; that all is proven is said only where it is known of every replica."""
    if rolling.again_at is not None:
        return f"the last one settled not everything, the next begins at {look.moment(rolling.again_at)}"
    if _all_proven(rolling):
        return "all is proven for now"
    parts = [
        f"{' and '.join(names)} {what}"
        for names, what in (
            (rolling.diverged, "diverged"),
            (rolling.unfit, "cannot be audited now"),
            (rolling.proven, "proven for now"),
        )
        if names
    ]
    return ", ".join(parts) or "it begins soon"


def _all_proven(rolling: RollingAudit) -> bool:
    return bool(rolling.proven) and not (rolling.diverged or rolling.unfit or rolling.again_at)


def _owed_words(owed: OwedAudit) -> str:
    names = " and ".join(owed.replicas)
    return f"audit of {names} against {owed.primary}, because of what happened: {owed.share:.0%}"


def later_audit_lines(model: Model, began_at: datetime, look: Look, width: int) -> list[Content]:
    """Return a line for what is audited, or was last, since an audit that is shown began; none where nothing was."""
    if model.owed is not None or (model.rolling is not None and model.rolling.nodes):
        first = own_audit_lines(model, look)[:1]
        return [Content.assemble(("▶ ", "bold $primary"), line).truncate(width, ellipsis=True) for line in first]
    later = next((past for past in model.runs or () if _is_later(past, began_at)), None)
    if later is None or not isinstance(later.run, RunRecord):
        return []
    run = later.run
    told = Content.assemble(
        (printable(f"{SIGN[run.outcome]} {run.verdict}"), COLOUR[run.outcome]),
        (f"  a later {run.kind}, {look.ago(run.started_at)}; 4 History has its report", QUIET),
    )
    return [told.truncate(width, ellipsis=True)]


def _is_later(past: "PastRun", began_at: datetime) -> bool:
    # A run's record and its first event tell its beginning some milliseconds apart.
    return past.run.kind in AUDIT_KINDS and (past.run.started_at - began_at).total_seconds() > 1
