"""The control `recovery-point`: the archive could restore to within so long of now, and a drill has shown it.

What the primary tells of its archive is a status word: a command that does nothing succeeds. So a drill to the end of
the archive must have come close enough too. Its newest commit may be old because nothing was committed; only WAL that
an audit saw long before the drill, and that the drill did not find, refutes the archive.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime

from replcheck.check.facts import DrillFact, Facts, Untold, WalSeen
from replcheck.check.found import Fault, Found, at_risk, beyond, breached, oldest, unchecked
from replcheck.config.model import Policy, RecoveryPointControl
from replcheck.model.control import Measure, Unit
from replcheck.model.drill import DrillVerdict
from replcheck.model.spans import GAP_S, WatchSpan
from replcheck.model.units import format_age, format_duration, format_size

_HOUSEKEEPING_BYTES = 1 << 20
"""WAL that a server without commits may write: more than that behind the end of an archive is missing."""
_NOT_PROVEN = (
    "that every commit of this moment could be restored: only a drill shows what an archive really holds",
    "how old the newest point would be after the loss of the archive's own storage",
)


def find_recovery_point(policy: Policy, asked: RecoveryPointControl, facts: Facts) -> Found:
    """Return how old the newest point is that a restore could reach, and what drills have shown of it."""
    drill = shown_by(facts)
    worst_s = _worst_s(asked, facts)
    faults = [*_now_faults(asked, facts), *_window_faults(asked, facts), *_drill_faults(policy, asked, facts, drill)]
    return Found(
        measured=_measured(asked, facts, drill, worst_s),
        limit=f"at most {format_duration(asked.max_age)}, shown by a drill",
        faults=tuple(faults),
        measures=tuple(_measures(asked, _age_now_s(facts), worst_s, drill)),
        runs=(drill.run_id,) if drill else (),
        not_proven=(*_NOT_PROVEN, *_unbounded(policy, asked, facts, drill)),
        as_of=oldest([facts.view.at if facts.view else None, drill.started_at if drill else None]),
    )


def shown_by(facts: Facts) -> DrillFact | None:
    """Return the newest drill that came back from the end of an archive, and is not ahead of the clock."""
    shown = [drill for drill in _came_back(facts) if not facts.is_ahead(drill.started_at)]
    return max(shown, key=lambda drill: drill.started_at, default=None)


def _came_back(facts: Facts) -> list[DrillFact]:
    return [
        drill for drill in facts.drills if drill.to_the_end and drill.replayed is not None and drill.verdict.came_back
    ]


def _unseen_s(facts: Facts) -> float:
    """Return for how long nobody saw the point by now; samples no further apart than a gap leave none."""
    ago_s = facts.age_s(facts.view.at) if facts.view else 0.0
    return ago_s if ago_s > GAP_S else 0.0


def _age_now_s(facts: Facts) -> float | None:
    """Return how old the point may be by now: since it was last seen its age may have grown by a second each second."""
    age_s = facts.view.recovery_point.age_s if facts.view else None
    return age_s + _unseen_s(facts) if age_s is not None else None


def _now_faults(asked: RecoveryPointControl, facts: Facts) -> Iterator[Fault]:
    if facts.view is None:
        yield unchecked(facts.view_problem)
        return
    point = facts.view.recovery_point
    if point.age_s is None:
        yield unchecked(f"the recovery point is unknown{f': {point.reason}' if point.reason else ''}")
        return
    because = f": {point.reason}" if point.reason else ""
    unseen_s = _unseen_s(facts)
    then = "now" if not unseen_s else f"the last look, {format_duration(unseen_s)} ago"
    what = f"the archive reaches to {format_duration(point.age_s)} before {then}{because}"
    if point.age_s <= asked.max_age < point.age_s + unseen_s:
        yield unchecked(f"{what}, and how far by now is unknown (limit {format_duration(asked.max_age)})")
        return
    yield from beyond(point.age_s, asked.max_age, asked.warn, what)
    if unseen_s and asked.warn is not None and point.age_s <= asked.warn < point.age_s + unseen_s:
        yield at_risk(f"{what}, and how far by now is unknown (at risk from {format_duration(asked.warn)} on)")


def _in_window(asked: RecoveryPointControl, facts: Facts) -> list[WatchSpan]:
    if asked.window is None:
        return []
    since = facts.since(asked.window)
    return sorted((span for span in facts.watch if span.ended_at >= since), key=lambda span: span.began_at)


def _worst_s(asked: RecoveryPointControl, facts: Facts) -> float | None:
    ages = [span.max_recovery_age_s for span in _in_window(asked, facts) if span.max_recovery_age_s is not None]
    return max(ages, default=None)


def _window_faults(asked: RecoveryPointControl, facts: Facts) -> Iterator[Fault]:
    if asked.window is None:
        return
    window = format_duration(asked.window)
    if facts.history_problem:
        yield unchecked(facts.history_problem)
        return
    worst_s = _worst_s(asked, facts)
    if worst_s is None:
        yield unchecked(f"the recovery point was never seen in the last {window}")
        return
    worst = f"in the last {window} it was up to {format_duration(worst_s)} old"
    yield from beyond(worst_s, asked.max_age, asked.warn, worst)
    unknown_s = _unknown_s(asked, facts)
    if unknown_s > 0:
        yield unchecked(f"for {format_duration(unknown_s)} of the last {window} nobody saw it")


def _unknown_s(asked: RecoveryPointControl, facts: Facts) -> float:
    """Return for how long of the window the point may have been older than the limit without anybody seeing it.

    Its age grows by a second each second at most: a gap is no matter while the age before it leaves room for it.
    """
    spans = _in_window(asked, facts)
    began_at = facts.since(asked.window or 0)
    reached, age_s, unknown_s = began_at, math.inf, 0.0
    for begins, ends, worst_s in [*_seen(spans, began_at), (facts.now, facts.now, 0.0)]:
        gap_s = (begins - reached).total_seconds()
        if gap_s > GAP_S and age_s + gap_s > asked.max_age:
            unknown_s += gap_s
        if ends >= reached:
            reached, age_s = ends, worst_s
    return unknown_s


def _seen(spans: Sequence[WatchSpan], began_at: datetime) -> Iterator[tuple[datetime, datetime, float]]:
    for span in spans:
        if span.max_recovery_age_s is not None and not span.recovery_unknown:
            yield max(span.began_at, began_at), max(span.ended_at, began_at), span.max_recovery_age_s


def _drill_faults(
    policy: Policy, asked: RecoveryPointControl, facts: Facts, drill: DrillFact | None
) -> Iterator[Fault]:
    if facts.history_problem:
        yield unchecked(facts.history_problem)
        return
    yield from _later_faults(facts, drill)
    if drill is None:
        yield unchecked(unshown(facts))
        return
    ago_s = facts.age_s(drill.started_at)
    what = f"the drill that showed it is {format_duration(ago_s)} old"
    if asked.drilled_every is not None:
        yield from beyond(ago_s, asked.drilled_every, None, what)
    elif policy.restore is not None and ago_s > policy.restore.every:
        yield at_risk(what)
    yield from _shown_faults(asked, facts, drill)


def unshown(facts: Facts) -> str:
    """Return why no drill shows what an archive holds, in one clause."""
    ahead = [facts.age_s(drill.started_at) for drill in _came_back(facts)]
    if ahead:
        return f"the drill that restored to the end of the archive is {format_age(min(ahead))}"
    return "no drill has restored to the end of the archive"


def _later_faults(facts: Facts, shown: DrillFact | None) -> Iterator[Fault]:
    """Yield what drills of backups with an archive leave in doubt that are later than the one that has shown it."""
    names = {backup.name for backup in facts.backups if backup.archive} | ({shown.backup} if shown else set())
    failed = [
        drill
        for drill in facts.drills
        if drill.backup in names
        and drill.to_the_end
        and drill.verdict is DrillVerdict.FAILED
        and (shown is None or drill.started_at > shown.started_at)
    ]
    for drill in failed[-1:]:
        because = f": {drill.problem}" if drill.problem else ""
        yield at_risk(f"the last drill to the end of the archive failed{because}")
    since, lost = shown.started_at if shown else None, (Untold.FAILED, Untold.UNREADABLE)
    if any(facts.untold_since(name, since, *lost) for name in names):
        yield unchecked("what a later drill found of the archive cannot be read")


def _unbounded(policy: Policy, asked: RecoveryPointControl, facts: Facts, drill: DrillFact | None) -> Iterator[str]:
    """Yield that the drill may be of any age, where nobody has set a limit for it."""
    if drill is not None and asked.drilled_every is None and policy.restore is None:
        ago = format_duration(facts.age_s(drill.started_at))
        yield f"that the archive restores today: the drill that has shown it is {ago} old, and no limit is set for that"


def _shown_faults(asked: RecoveryPointControl, facts: Facts, drill: DrillFact) -> Iterator[Fault]:
    missed = _missed(asked, facts.wal_seen, drill)
    age_s = drill.recovery_point_age_s
    if missed is not None and drill.replayed is not None:
        lacking = format_size(missed.lsn - drill.replayed)
        early = format_duration((drill.started_at - missed.at).total_seconds())
        yield breached(f"the last drill lacked {lacking} of WAL that was written {early} before it")
    elif age_s is None:
        yield at_risk("the last drill replayed no commit, so it shows no recovery point")
    elif age_s > asked.max_age:
        yield at_risk(
            f"the newest commit of the last drill was {format_duration(age_s)} old: the archive, or quiet hours"
        )


def _missed(asked: RecoveryPointControl, seen: Sequence[WalSeen], drill: DrillFact) -> WalSeen | None:
    """Return WAL that had to be in the archive when a drill began, and was not."""
    if drill.replayed is None:
        return None
    return next(
        (
            one
            for one in seen
            if one.timeline == drill.timeline
            and (drill.started_at - one.at).total_seconds() > asked.max_age
            and one.lsn - drill.replayed > _HOUSEKEEPING_BYTES
        ),
        None,
    )


def _measured(asked: RecoveryPointControl, facts: Facts, drill: DrillFact | None, worst_s: float | None) -> str:
    age_s = facts.view.recovery_point.age_s if facts.view else None
    unseen_s = _unseen_s(facts)
    then = "now" if not unseen_s else f"the last look, {format_duration(unseen_s)} ago"
    parts = [f"{format_duration(age_s)} before {then}" if age_s is not None else "unknown now"]
    if asked.window is not None:
        told = format_duration(worst_s) if worst_s is not None else "unknown"
        parts.append(f"at worst {told} in {format_duration(asked.window)}")
    if drill is not None:
        ago, shown_s = format_duration(facts.age_s(drill.started_at)), drill.recovery_point_age_s
        parts.append(f"{format_duration(shown_s) if shown_s is not None else 'unknown'} in the drill {ago} ago")
    return ", ".join(parts)


def _measures(
    asked: RecoveryPointControl, age_s: float | None, worst_s: float | None, drill: DrillFact | None
) -> Iterator[Measure]:
    ages = [("age", age_s)]
    if asked.window is not None:
        ages.append(("worst_age", worst_s))
    for name, value in ages:
        yield Measure(name=name, unit=Unit.SECONDS, value=value, limit=asked.max_age, warn=asked.warn)
    yield Measure(
        name="drilled_age",
        unit=Unit.SECONDS,
        value=drill.recovery_point_age_s if drill else None,
        limit=asked.max_age,
    )
