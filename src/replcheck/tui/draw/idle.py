"""A screen of runs while there is none to show: what can be done, and how the last one ended."""

from textual.content import Content

from replcheck.model.run import RunRecord
from replcheck.report.history import PastRun
from replcheck.tui.draw.audit import ended
from replcheck.tui.draw.history import verdict
from replcheck.tui.draw.table import styled
from replcheck.tui.look import QUIET, VALUE, Look
from replcheck.tui.state import Model


def idle_words(why: str, how: str) -> str:
    """Return how to start a run, or why none can be started from here."""
    return f"None can be started from here: {why}." if why else how


def idle(kind: str, how: str, model: Model, look: Look, width: int) -> list[Content]:
    """Return what stands where a run of that kind would be shown."""
    lines = [Content.styled(f"No {kind} ran since this screen was opened.", VALUE), *Content(how).wrap(width)]
    last = next((past for past in model.runs or () if past.run.kind == kind), None)
    if last is None and model.runs is None:
        return lines
    if last is None:
        return [*lines, Content(""), Content.styled(f"The history knows of no {kind} either.", QUIET)]
    return [*lines, Content(""), *_last(last, look, width)]


def _last(past: PastRun, look: Look, width: int) -> list[Content]:
    run = past.run
    began = Content.styled(f"The last one began {look.moment(run.started_at)}, {look.ago(run.started_at)}:", QUIET)
    told = ended(run.outcome, run.summary) if isinstance(run, RunRecord) else styled(verdict(past))
    return [began, *told.wrap(width), Content(""), Content.styled("4 History has its report.", QUIET)]
