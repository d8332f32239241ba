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
from replcheck.runs.history import CHECK, believed
from replcheck.store import LiveReader

_MOST_READ = 3_000
"""Checks that are read one by one; of more, the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the checks of a period found."""

    controls: tuple[ControlResult, ...] = ()
    at: datetime | None = None
    tallies: tuple[ControlTally, ...] = ()
    unread: dict[str, str] = field(default_factory=dict)


def checked_controls(reader: LiveReader, runs: Sequence[RunRecord]) -> Checked:
    """Return what the checks among `runs`, newest first, found."""
    checks = [run for run in runs if run.kind == CHECK and run.failure is None]
    unread: dict[str, str] = {}
    newest, at = _newest(reader, checks, unread)
    doubtful = [run for run in checks if run.outcome is not Outcome.PROVEN][:_MOST_READ]
    found: dict[ControlName, Counter[Standing]] = {control.name: Counter() for control in newest}
    last: dict[ControlName, datetime] = {}
    for run in doubtful:
        for control in _controls(reader, run, unread):
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
    return Checked(controls=newest, at=at, tallies=tallies, unread=unread)


def _newest(
    reader: LiveReader, checks: Sequence[RunRecord], unread: dict[str, str]
) -> tuple[tuple[ControlResult, ...], datetime | None]:
    for run in checks:
        controls = _controls(reader, run, unread)
        if controls:
            return controls, run.finished_at
    return (), None


def _controls(reader: LiveReader, run: RunRecord, unread: dict[str, str]) -> tuple[ControlResult, ...]:
    try:
        found = believed(run, reader.result(run.run_id))
    except StoreError:
        unread[run.run_id] = "it is damaged"
    except ValueError as error:
        unread[run.run_id] = str(error)
    else:
        return found.controls if isinstance(found, CheckResult) else ()
    return ()
