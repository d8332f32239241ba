"""A screen of runs while there is none to show: what can be done, and how the last one ended."""

from collections.abc import Collection, Sequence

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


def idle(
    kind: str,
    how: str,
    model: Model,
    look: Look,
    width: int,
    *,
    kinds: Collection[str] = (),
    meanwhile: Sequence[Content] = (),
) -> list[Content]:
    """Return what stands where a run of that kind would be shown.

    `kinds` are those of the history that count as such runs, where there are others; `meanwhile` are lines of what goes
    on elsewhere.
    """
    lines = [Content.styled(f"No {kind} was started from this screen.", VALUE), *styled(how).wrap(width)]
    if meanwhile:
        lines += [Content(""), *(line for told in meanwhile for line in told.wrap(width))]
    last = next((past for past in model.runs or () if past.run.kind in (kinds or {kind})), None)
    if last is None and model.runs is None:
        return lines
    if last is None:
        return [*lines, Content(""), Content.styled(f"The history knows of no {kind} either.", QUIET)]
    return [*lines, Content(""), *_last(kind, last, look, width)]


def _last(kind: str, past: PastRun, look: Look, width: int) -> list[Content]:
    run = past.run
    which = "The last one" if run.kind == kind else f"The last one, of kind {run.kind},"
    began = styled((f"{which} began {look.moment(run.started_at)}, {look.ago(run.started_at)}:", QUIET))
    if not isinstance(run, RunRecord):
        return [began, *styled(verdict(past)).wrap(width)]
    told = ended(run.outcome, run.summary).wrap(width)
    return [began, *told, Content(""), Content.styled("4 History has its report.", QUIET)]
