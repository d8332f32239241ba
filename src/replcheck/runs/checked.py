"""Reads what past checks of the policy found: the last whole one in full, and where each control stood in all of them.

A check counts for the controls that it really looked at. One that proved everything found each of these met; which they
were, any check tells that was asked for the same. So one of each kind is read, and every one that did not prove all. A
check that came to no result leaves what it was to look at unchecked.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise, takewhile
from statistics import median

from replcheck.errors import AlreadyRunning, StoreError
from replcheck.model.control import CheckResult, ControlName, ControlResult, Standing
from replcheck.model.outcome import Outcome
from replcheck.model.run import RunRecord, RunStart
from replcheck.report.checks_made import ChecksMade
from replcheck.report.history import PastRun, RunState
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
    """As the last whole check found them, or a later one of some of them."""
    at: datetime | None = None
    """When the last whole one ended."""
    rechecked: dict[ControlName, datetime] = field(default_factory=dict)
    """Those that a later one looked at, and when that ended."""
    made: ChecksMade = field(default_factory=ChecksMade)
    tallies: tuple[ControlTally, ...] = ()
    left_out: int = 0
    """Checks that did not prove everything and are in no tally, for want of time to read them."""
    evidence_head: str = ""
    """SHA-256 of the chain's newest record when the last whole check was made; empty where it knew none."""
    unread: dict[str, str] = field(default_factory=dict)


def checked_controls(reader: LiveReader, runs: Sequence[PastRun], recorded: AsRecorded, until: datetime) -> Checked:
    """Return what the checks among `runs`, newest first, found up to the end of a period.

    Those that are not as recorded count for nothing. `until` is never later than now.
    """
    checks = _Checks.of(runs, recorded)
    reading = _Reading(reader, recorded)
    last = reading.last_whole(checks.ended)
    reading.learn(checks.ended)
    tally, left_out = _tally(checks, reading, last)
    later = _rechecked(checks, reading, last) if last else {}
    newest = {name: control for name, (control, _) in later.items()}
    return Checked(
        controls=tuple(newest.get(control.name, control) for control in last.controls) if last else (),
        at=last.finished_at if last else None,
        rechecked={name: at for name, (_, at) in later.items()},
        made=_made(checks, reading, last, until),
        tallies=tally.finished(),
        left_out=left_out,
        evidence_head=last.evidence_head if last else "",
        unread=reading.unread,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checks:
    """The checks of a period, newest first."""

    ended: tuple[RunRecord, ...]
    """Those with a result."""
    failed: tuple[RunStart, ...]
    """Those that an error kept from one, or that were killed."""

    @classmethod
    def of(cls, runs: Iterable[PastRun], recorded: AsRecorded) -> "_Checks":
        ended: list[RunRecord] = []
        failed: list[RunStart] = []
        for past in runs:
            run = past.run
            if run.kind != CHECK:
                continue
            if not isinstance(run, RunRecord):
                failed += [run] if past.state is RunState.LOST else []
            elif recorded.doubt(run):
                continue
            elif run.failure is None:
                ended.append(run)
            elif run.failure.error != AlreadyRunning.__name__:
                failed.append(run)  # where another check was at work, that one tells
        return cls(ended=tuple(ended), failed=tuple(failed))


@dataclass(frozen=True, slots=True)
class _Scope:
    """What the checks that were asked for the same look at."""

    controls: frozenset[ControlName]
    limited: bool


@dataclass(slots=True)
class _Reading:
    """Reads results, and learns from them what checks looked at."""

    reader: LiveReader
    recorded: AsRecorded
    scopes: dict[tuple[str, str], _Scope] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)

    def last_whole(self, checks: Iterable[RunRecord]) -> CheckResult | None:
        """Return the newest that can be read of those that looked at all that was asked for."""
        for run in checks:
            scope = self.scope(run)
            check = self.read(run) if scope is None or not scope.limited else None
            if check is not None and not check.left_out:
                return check
        return None

    def learn(self, checks: Iterable[RunRecord]) -> None:
        """Read one of each kind of checks."""
        for run in checks:
            if self.scope(run) is None:
                self.read(run)

    def scope(self, run: RunStart) -> _Scope | None:
        """Return what a check looked at, or was to look at; None where no result told so far."""
        return self.scopes.get((run.argument_digest, run.tool_version))

    def read(self, run: RunRecord) -> CheckResult | None:
        """Return what a check found; None where that cannot be read, which is noted."""
        try:
            found = believed(run, self.reader.result(run.run_id), self.recorded)
        except StoreError:
            self.unread[run.run_id] = "it is damaged"
            return None
        except ValueError as error:
            self.unread[run.run_id] = str(error)
            return None
        if not isinstance(found, CheckResult):
            return None
        asked = frozenset(one.name for one in found.controls if one.standing is not Standing.NOT_ASKED)
        self.scopes[run.argument_digest, run.tool_version] = _Scope(asked, limited=bool(found.left_out))
        return found


@dataclass(slots=True)
class _Tally:
    standings: dict[ControlName, Counter[Standing]] = field(default_factory=dict)
    last_not_met_at: dict[ControlName, datetime] = field(default_factory=dict)

    def add(self, run: RunStart, name: ControlName, standing: Standing) -> None:
        self.standings.setdefault(name, Counter())[standing] += 1
        if standing is not Standing.MET:
            self.last_not_met_at[name] = max(run.started_at, self.last_not_met_at.get(name, run.started_at))

    def add_all(self, run: RunStart, names: Iterable[ControlName], standing: Standing) -> None:
        for name in names:
            self.add(run, name, standing)

    def finished(self) -> tuple[ControlTally, ...]:
        return tuple(
            ControlTally(
                name=name, standings=dict(self.standings[name]), last_not_met_at=self.last_not_met_at.get(name)
            )
            for name in ControlName
            if name in self.standings
        )


def _tally(checks: _Checks, reading: _Reading, last: CheckResult | None) -> tuple[_Tally, int]:
    """Return where each control stood, and how many checks are in no tally for want of time."""
    tally = _Tally()
    doubtful = [run for run in checks.ended if run.outcome is not Outcome.PROVEN]
    for run in checks.ended:
        scope = reading.scope(run)
        if run.outcome is Outcome.PROVEN and scope is not None:
            tally.add_all(run, scope.controls, Standing.MET)
    for run in doubtful[:_MOST_READ]:
        check, scope = reading.read(run), reading.scope(run)
        for control in check.controls if check else ():
            if control.standing is not Standing.NOT_ASKED:
                tally.add(run, control.name, control.standing)
        if check is None and scope is not None:
            tally.add_all(run, scope.controls, Standing.UNCHECKED)
    asked = frozenset(one.name for one in last.controls if one.standing is not Standing.NOT_ASKED) if last else ()
    for failed in checks.failed:
        scope = reading.scope(failed)
        tally.add_all(failed, scope.controls if scope else asked, Standing.UNCHECKED)
    return tally, max(0, len(doubtful) - _MOST_READ)


def _rechecked(
    checks: _Checks, reading: _Reading, last: CheckResult
) -> dict[ControlName, tuple[ControlResult, datetime]]:
    """Return what checks of some controls found of them since the last whole one: each the newest, and its time."""
    found: dict[ControlName, tuple[ControlResult, datetime]] = {}
    for run in takewhile(lambda run: run.run_id != last.run_id, checks.ended):
        scope = reading.scope(run)
        if scope is not None and scope.controls <= found.keys():
            continue  # newer ones tell of all that it looked at
        check = reading.read(run)
        for control in check.controls if check else ():
            if check is not None and control.standing is not Standing.NOT_ASKED:
                found.setdefault(control.name, (control, check.finished_at))
    return found


def _made(checks: _Checks, reading: _Reading, last: CheckResult | None, until: datetime) -> ChecksMade:
    scopes = [reading.scope(run) for run in checks.ended]
    whole = [run for run, scope in zip(checks.ended, scopes, strict=True) if scope and not scope.limited]
    failed = [run for run in checks.failed if (scope := reading.scope(run)) is None or not scope.limited]
    return ChecksMade(
        whole=len(whole),
        limited=sum(scope is not None and scope.limited for scope in scopes),
        failed=len(checks.failed),
        failed_since=sum(last is not None and run.started_at > last.started_at for run in failed),
        uncounted=sum(scope is None for scope in scopes),
        every_s=_usual_distance([*whole, *failed]),
        age_s=(until - last.finished_at).total_seconds() if last else None,
    )


def _usual_distance(runs: Iterable[RunStart]) -> float | None:
    """Return how far apart runs began as a rule, in seconds: the median, so that neither a pause nor a retry counts."""
    starts = sorted(run.started_at for run in runs)
    distances = [(later - earlier).total_seconds() for earlier, later in pairwise(starts)]
    return median(distances) if distances else None
