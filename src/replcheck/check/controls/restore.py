"""The control `restore`: a trial restore of each backup succeeded recently, within its time objective."""

from collections.abc import Iterator, Sequence

from replcheck.check.facts import DrillFact, Facts
from replcheck.check.found import Fault, Found, at_risk, beyond, breached, oldest, unchecked
from replcheck.config.model import Policy, RestoreControl
from replcheck.model.control import Measure, Unit
from replcheck.model.drill import DrillVerdict
from replcheck.model.units import format_duration

_NOT_PROVEN = (
    "that a copy of the backup at another place restores: a drill reads the one that its configuration names",
    "that a restore of the real service takes no longer: it also needs machines, people and a way to switch over",
)


def find_restore(_policy: Policy, asked: RestoreControl, facts: Facts) -> Found:
    """Return how old the last restore of each backup is, how long it took, and what speaks against it."""
    names = [backup.name for backup in facts.backups]
    newest = {name: newest_restored(name, facts.drills) for name in names}
    faults = [fault for name in names for fault in _faults(name, newest[name], asked, facts)]
    if not names:
        faults.append(unchecked("no backup is configured"))
    if facts.history_problem:
        faults = [unchecked(facts.history_problem)]
    proven = [drill for drill in newest.values() if drill is not None]
    refuting = [drill for name in names for drill in _failures(name, facts.drills, newest[name])]
    return Found(
        measured=_measured(proven, names, facts),
        limit=_limit(asked),
        faults=tuple(faults),
        measures=tuple(measure for name in names for measure in _measures(name, newest[name], asked, facts)),
        runs=tuple(drill.run_id for drill in (*proven, *refuting)),
        not_proven=_NOT_PROVEN,
        as_of=oldest(drill.started_at for drill in proven),
    )


def newest_restored(name: str, drills: Sequence[DrillFact]) -> DrillFact | None:
    """Return the newest drill of a backup that restored it and compared its rows; None where there is none."""
    own = [drill for drill in drills if drill.backup == name and drill.verdict is DrillVerdict.RESTORED]
    return max(own, key=lambda drill: drill.started_at, default=None)


def _failures(name: str, drills: Sequence[DrillFact], restored: DrillFact | None) -> list[DrillFact]:
    """Return the failed drills of a backup that no later success makes up for.

    A later success does where it is of the same copy, or of a newer one; of an older one it says nothing new.
    """
    failed = [drill for drill in drills if drill.backup == name and drill.verdict is DrillVerdict.FAILED]
    return [drill for drill in failed if restored is None or not _makes_up(restored, drill)]


def _makes_up(restored: DrillFact, failed: DrillFact) -> bool:
    if restored.started_at <= failed.started_at:
        # Of several copies drilled in turn an older one may fail last; the newest is the backup that counts.
        return _is_newer(restored, failed)
    return restored.copy == failed.copy or not _is_newer(failed, restored)


def _is_newer(one: DrillFact, other: DrillFact) -> bool:
    return one.taken_at is not None and other.taken_at is not None and one.taken_at > other.taken_at


def _faults(name: str, restored: DrillFact | None, asked: RestoreControl, facts: Facts) -> Iterator[Fault]:
    failures = _failures(name, facts.drills, restored)
    if failures:
        last = max(failures, key=lambda drill: drill.started_at)
        ago = format_duration(facts.age_s(last.started_at))
        yield breached(f"{name} did not restore {ago} ago{f': {last.problem}' if last.problem else ''}")
    yield from _since_faults(name, restored, facts)
    if restored is None:
        yield unchecked(f"no drill has restored {name} and compared its rows")
        return
    age_s = facts.age_s(restored.started_at)
    yield from beyond(age_s, asked.every, asked.warn, f"{name} was last restored {format_duration(age_s)} ago")
    if asked.max_time is None:
        return
    if restored.recovery_time_s is None:
        yield unchecked(f"how long {name} took to restore was not measured")
    else:
        took = format_duration(restored.recovery_time_s)
        yield from beyond(restored.recovery_time_s, asked.max_time, None, f"{name} took {took} to restore")


def _since_faults(name: str, restored: DrillFact | None, facts: Facts) -> Iterator[Fault]:
    """Yield what the newest drill says that neither restored everything nor failed."""
    own = [drill for drill in facts.drills if drill.backup == name]
    last = max(own, key=lambda drill: drill.started_at, default=None)
    if last is None or last is restored or last.verdict is DrillVerdict.FAILED:
        return
    because = f": {last.problem}" if last.problem else ""
    yield at_risk(f"the last drill of {name} ended as {last.verdict.value}{because}")


def _measured(proven: Sequence[DrillFact], names: Sequence[str], facts: Facts) -> str:
    told = []
    for drill in proven:
        took = f" in {format_duration(drill.recovery_time_s)}" if drill.recovery_time_s is not None else ""
        told.append(f"{drill.backup} restored {format_duration(facts.age_s(drill.started_at))} ago{took}")
    told += [f"{name} never restored" for name in names if name not in {drill.backup for drill in proven}]
    return "; ".join(told) or "nothing"


def _limit(asked: RestoreControl) -> str:
    told = f"each backup restored every {format_duration(asked.every)}"
    return told + (f", within {format_duration(asked.max_time)}" if asked.max_time is not None else "")


def _measures(name: str, restored: DrillFact | None, asked: RestoreControl, facts: Facts) -> Iterator[Measure]:
    yield Measure(
        name="age",
        unit=Unit.SECONDS,
        value=facts.age_s(restored.started_at) if restored else None,
        limit=asked.every,
        warn=asked.warn,
        subject=name,
    )
    yield Measure(
        name="time",
        unit=Unit.SECONDS,
        value=restored.recovery_time_s if restored else None,
        limit=asked.max_time,
        subject=name,
    )
