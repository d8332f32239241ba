"""The control `restore`: a trial restore of each backup succeeded recently, within its time objective."""

from collections.abc import Iterator, Mapping, Sequence

from replcheck.check.facts import DrillFact, Facts, Untold, UntoldDrill
from replcheck.check.found import Fault, Found, at_risk, beyond, breached, oldest, unchecked
from replcheck.config.model import Policy, RestoreControl
from replcheck.model.control import Measure, Unit
from replcheck.model.drill import DrillVerdict
from replcheck.model.units import format_age, format_ago, format_duration

_NOT_PROVEN = (
    "that a copy of the backup at another place restores: a drill reads the one that its configuration names",
    "that a restore of the real service takes no longer: it also needs machines, people and a way to switch over",
)


def find_restore(_policy: Policy, asked: RestoreControl, facts: Facts) -> Found:
    """Return how old the last restore of each backup is, how long it took, and what speaks against it."""
    names = [backup.name for backup in facts.backups]
    newest = {name: newest_restored(name, facts) for name in names}
    faults = [fault for name in names for fault in _faults(name, newest[name], asked, facts)]
    if not names:
        faults.append(unchecked("no backup is configured"))
    if facts.history_problem:
        faults = [unchecked(facts.history_problem)]
    proven = [drill for drill in newest.values() if drill is not None]
    refuting = [drill.run_id for name in names for drill in _failures(name, facts.drills, newest[name])]
    refuting += [drill.run_id for name in names for drill in _untold(name, newest[name], facts)]
    return Found(
        measured=_measured(newest, facts),
        limit=_limit(asked),
        faults=tuple(faults),
        measures=tuple(measure for name in names for measure in _measures(name, newest[name], asked, facts)),
        runs=(*(drill.run_id for drill in proven), *dict.fromkeys(refuting)),
        not_proven=_NOT_PROVEN,
        as_of=oldest(drill.started_at for drill in proven),
    )


def newest_restored(name: str, facts: Facts) -> DrillFact | None:
    """Return the newest drill of a backup that restored it and compared its rows; None where there is none.

    One that is ahead of the clock proves nothing: it would stay young until the clock has come there.
    """
    own = [drill for drill in _restored(name, facts) if not facts.is_ahead(drill.started_at)]
    return max(own, key=lambda drill: drill.started_at, default=None)


def unrestored(name: str, facts: Facts) -> str:
    """Return why there is no drill that restored a backup, and whose age can be told, in one clause."""
    ahead = [facts.age_s(drill.started_at) for drill in _restored(name, facts)]
    if ahead:
        return f"the drill that restored {name} is {format_age(min(ahead))}"
    compared = [drill for drill in facts.drills if drill.backup == name and drill.verdict is DrillVerdict.UNPROVEN]
    if compared:
        return f"no drill has restored {name} and proven all that was asked of it"
    return f"no drill has restored {name} and compared its rows"


def _restored(name: str, facts: Facts) -> list[DrillFact]:
    return [drill for drill in facts.drills if drill.backup == name and drill.verdict is DrillVerdict.RESTORED]


def _untold(name: str, restored: DrillFact | None, facts: Facts) -> list[UntoldDrill]:
    """Return the drills without a report that may have been of a backup, and later than its last success."""
    return facts.untold_since(name, restored.started_at if restored else None, *Untold)


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
        yield _failed(name, last, restored, facts)
    yield from _since_faults(name, facts)
    yield from _untold_faults(name, restored, facts)
    if restored is None:
        yield unchecked(unrestored(name, facts))
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


def _failed(name: str, failed: DrillFact, restored: DrillFact | None, facts: Facts) -> Fault:
    because = f": {failed.problem}" if failed.problem else ""
    age_s = facts.age_s(failed.started_at)
    if age_s >= 0:
        return breached(f"{name} did not restore in the drill {format_duration(age_s)} ago{because}")
    told = f"{name} did not restore in a drill that is {format_age(age_s)}{because}"
    # Its date is wrong, so it may be of before the success or of after it.
    return breached(told) if restored is None else unchecked(told)


def _untold_faults(name: str, restored: DrillFact | None, facts: Facts) -> Iterator[Fault]:
    """Yield what drills without a report leave in doubt, the newest of each kind alone."""
    newest = {drill.loss: drill for drill in _untold(name, restored, facts)}
    for loss, drill in newest.items():
        which = name if drill.backup else f"a backup, which may be {name},"
        ago_s = facts.age_s(drill.started_at) if drill.started_at else -1
        when = f" {format_duration(ago_s)} ago" if ago_s >= 0 else ""
        if loss is Untold.ERROR:
            yield at_risk(f"a drill of {which} ended in an error{when}: {drill.what}")
        elif loss is Untold.FAILED:
            yield breached(f"a drill of {which} failed{when}: {drill.what}")
        else:
            yield unchecked(f"a drill of {which}{when} cannot be counted: {drill.what}")


def _since_faults(name: str, facts: Facts) -> Iterator[Fault]:
    """Yield what the newest drill says that neither restored everything nor failed.

    One whose rows nobody could compare says nothing: what an earlier one proved stands for as long as it is young.
    """
    own = [drill for drill in facts.drills if drill.backup == name and not drill.lacks_only_rows]
    last = max(own, key=lambda drill: drill.started_at, default=None)
    if last is None or last.verdict in {DrillVerdict.RESTORED, DrillVerdict.FAILED}:
        return
    because = f": {last.problem}" if last.problem else ""
    yield at_risk(f"the last drill of {name} ended as {last.verdict.value}{because}")


def _measured(newest: Mapping[str, DrillFact | None], facts: Facts) -> str:
    told = [_restores(name, drill, facts) for name, drill in newest.items() if drill is not None]
    told += [_never_proven(name, facts) for name, drill in newest.items() if drill is None]
    return "; ".join(told) or "nothing"


def _never_proven(name: str, facts: Facts) -> str:
    came_back = [drill for drill in facts.drills if drill.backup == name and drill.verdict.came_back]
    last = max((drill.started_at for drill in came_back), default=None)
    if last is None or facts.is_ahead(last):
        return f"{name} never restored"
    return f"{name} restored {format_ago(facts.age_s(last))}, never all proven"


def _restores(name: str, restored: DrillFact, facts: Facts) -> str:
    took = f" in {format_duration(restored.recovery_time_s)}" if restored.recovery_time_s is not None else ""
    when = f"restored {format_ago(facts.age_s(restored.started_at))}{took}"
    failed = max((one.started_at for one in _failures(name, facts.drills, restored)), default=None)
    if failed is None:
        return f"{name} {when}"
    return f"{name} last {when}, not in the drill {format_ago(facts.age_s(failed))}"


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
