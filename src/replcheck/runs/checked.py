"""Reads what past checks of the policy found: the newest in full, and where each control stood in all of them.

A check that proved everything found every control met that was asked for; so only the others are read for the count.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from replcheck.errors import StoreError
from replcheck.model.control import CheckResult, ControlName, ControlResult, Standing
from replcheck.model.outcome import Outcome
from replcheck.model.run import RunRecord
from replcheck.report.period_facts import ControlTally
from replcheck.runs.as_recorded import AsRecorded
from replcheck.runs.history import CHECK, believed
from replcheck.store import LiveReader

_MOST_READ = 1_000
"""Checks that are read one by one; of more, the newest, and the others are counted as left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the checks of a period found."""

    controls: tuple[ControlResult, ...] = ()
    at: datetime | None = None
    tallies: tuple[ControlTally, ...] = ()
    left_out: int = 0
    """Checks that did not prove everything and are in no tally, for want of time to read them."""
    evidence_head: str = ""
    """SHA-256 of the chain's newest record when the newest check was made; empty where it knew none."""
    unread: dict[str, str] = field(default_factory=dict)


def checked_controls(reader: LiveReader, runs: Sequence[RunRecord], recorded: AsRecorded) -> Checked:
    """Return what the checks among `runs`, newest first, found; those that are not as recorded count for nothing."""
    checks = [run for run in runs if run.kind == CHECK and run.failure is None and not recorded.doubt(run)]
    unread: dict[str, str] = {}
    last_check = _newest(reader, checks, recorded, unread)
    newest = last_check.controls if last_check else ()
    doubtful = [run for run in checks if run.outcome is not Outcome.PROVEN]
    found: dict[ControlName, Counter[Standing]] = {control.name: Counter() for control in newest}
    last: dict[ControlName, datetime] = {}
    for run in doubtful[:_MOST_READ]:
        check = _check(reader, run, recorded, unread)
        for control in check.controls if check else ():
            found.setdefault(control.name, Counter())[control.standing] += 1
            if control.standing not in {Standing.MET, Standing.NOT_ASKED}:
                last.setdefault(control.name, run.started_at)
    proven = sum(run.outcome is Outcome.PROVEN for run in checks)
    asked = {control.name for control in newest if control.standing is not Standing.NOT_ASKED}
    for name in asked:
        found[name][Standing.MET] += proven
    tallies = tuple(
        ControlTally(name=name, standings=dict(found[name]), last_not_met_at=last.get(name))
        for name in ControlName
        if found.get(name)
    )
    return Checked(
        controls=newest,
        at=last_check.finished_at if last_check else None,
        tallies=tallies,
        left_out=max(0, len(doubtful) - _MOST_READ),
        evidence_head=last_check.evidence_head if last_check else "",
        unread=unread,
    )


def _newest(
    reader: LiveReader, checks: Sequence[RunRecord], recorded: AsRecorded, unread: dict[str, str]
) -> CheckResult | None:
    return next((check for run in checks if (check := _check(reader, run, recorded, unread)) is not None), None)


def _check(reader: LiveReader, run: RunRecord, recorded: AsRecorded, unread: dict[str, str]) -> CheckResult | None:
    """Return what a check found; None where that cannot be read, which is noted."""
    try:
        found = believed(run, reader.result(run.run_id), recorded)
    except StoreError:
        unread[run.run_id] = "it is damaged"
    except ValueError as error:
        unread[run.run_id] = str(error)
    else:
        return found if isinstance(found, CheckResult) else None
    return None
