"""Words of an audit that every report of it uses: how many rows, where, what a finding or an index comes to."""

from datetime import UTC, datetime, timedelta

from replcheck.model.audit import CrossCheckReport, Divergence, NotChecked
from replcheck.model.outcome import Outcome, Verdict
from replcheck.report.verdict import counted

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RANGES_SHOWN = 5
FINDING_WORDS = {
    Outcome.PARTIAL: "warning",
    Outcome.REFUTED: "broken",
    Outcome.UNCHECKED: "unproven",
}
INDEX_WORDS = {
    Verdict.CONSISTENT: "sound",
    Verdict.DIVERGED: "broken",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.UNCHECKED: "unchecked",
}


def elapsed_s(begun: datetime, ended: datetime) -> float:
    """Return the seconds between two times as a stored result keeps them, so that its report reads the same."""
    return (_milliseconds(ended) - _milliseconds(begun)) / 1000


def cross_check_sentence(report: CrossCheckReport) -> str:
    """Return what was streamed to the client and compared there, in one sentence."""
    found = counted(report.mismatches, "mismatch", "mismatches") if report.mismatches else "no mismatch"
    return (
        f"cross-check of {100 * report.share:g}%: {counted(report.chunks, 'chunk')} with {counted(report.rows, 'row')}"
        f" streamed from every node and compared here, {found}"
    )


def how_many(divergence: Divergence) -> str:
    """Return how much differs, in one clause."""
    if divergence.what:
        return divergence.what
    at_least = "at least " if divergence.capped else ""
    if divergence.sqlstate is None:
        return f"{at_least}{counted(divergence.count, 'row')}"
    block = f" at block {divergence.block}" if divergence.block is not None else ""
    return f"{at_least}{counted(divergence.count, 'chunk')} unreadable, SQLSTATE {divergence.sqlstate}{block}"


def ranges_of(divergence: Divergence) -> str:
    """Return the first tuple positions at which rows differ, and how many more ranges there are."""
    shown = " ".join(str(found) for found in divergence.ranges[:_RANGES_SHOWN])
    rest = len(divergence.ranges) - _RANGES_SHOWN
    return f"{shown} and {counted(rest, 'more range')}" if rest > 0 else shown


def place_of(entry: NotChecked) -> str:
    """Return what was not checked: a relation, a database or the whole cluster, and on which node."""
    place = ".".join(part for part in (entry.database, entry.relation) if part) or "the whole cluster"
    return f"{place} on {entry.node}" if entry.node else place


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
