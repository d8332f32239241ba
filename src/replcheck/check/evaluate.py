"""Evaluates a policy against facts: each control by its own module, then the clock, then the waivers."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from replcheck.check.controls.consistency import find_consistency
from replcheck.check.controls.copies import find_copies
from replcheck.check.controls.evidence import UNCOVERED, find_evidence
from replcheck.check.controls.failover import find_failover
from replcheck.check.controls.integrity import find_integrity
from replcheck.check.controls.placement import find_placement
from replcheck.check.controls.recovery_point import find_recovery_point
from replcheck.check.controls.replacement import find_replacement
from replcheck.check.controls.restore import find_restore
from replcheck.check.facts import Facts
from replcheck.check.found import Found
from replcheck.check.policy import CLAIMS, section_of
from replcheck.config.model import Control, Policy, Waiver
from replcheck.model.control import ControlName, ControlResult, Standing, WaiverNote
from replcheck.model.live import EventKind
from replcheck.model.units import format_age

# Each takes its own section of the policy.
_FINDERS: Mapping[ControlName, Callable[[Policy, Any, Facts], Found]] = {
    ControlName.COPIES: find_copies,
    ControlName.CONSISTENCY: find_consistency,
    ControlName.RECOVERY_POINT: find_recovery_point,
    ControlName.RESTORE: find_restore,
    ControlName.FAILOVER: find_failover,
    ControlName.REPLACEMENT: find_replacement,
    ControlName.PLACEMENT: find_placement,
    ControlName.INTEGRITY: find_integrity,
    ControlName.EVIDENCE: find_evidence,
}
_ON_WHAT_WAS_SEEN = frozenset(
    {ControlName.COPIES, ControlName.RECOVERY_POINT, ControlName.FAILOVER, ControlName.REPLACEMENT}
)
"""Controls that rest on samples or events of a watch, which a history keeps without a record."""
_EXCUSABLE = frozenset({Standing.BREACHED, Standing.UNCHECKED})
_BY_EVENTS: Mapping[ControlName, EventKind] = {
    ControlName.FAILOVER: EventKind.SWITCHED_OVER,
    ControlName.REPLACEMENT: EventKind.COPY_RECREATED,
}
"""Controls that rest on the last event of a kind, and on what audits said since."""


def evaluate(
    policy: Policy,
    facts: Facts,
    waivers: Mapping[str, Waiver] | None = None,
    wanted: Collection[ControlName] = frozenset(ControlName),
) -> tuple[ControlResult, ...]:
    """Return the result of every control there is, in their order; what nobody asked is told as such.

    Those that are not `wanted` are told so too. The others stand as they do among all: limits of one section of the
    policy serve other controls. Waivers are taken to be in force: `policy.require_waivers_in_force` sees to that.
    """
    waivers = waivers or {}
    return tuple(
        _result(name, policy, facts, waivers.get(name.value)) if name in wanted else _not_asked(name)
        for name in ControlName
    )


def _not_asked(name: ControlName) -> ControlResult:
    return ControlResult(name=name, standing=Standing.NOT_ASKED, claim=CLAIMS[name])


def _result(name: ControlName, policy: Policy, facts: Facts, waiver: Waiver | None) -> ControlResult:
    section = section_of(policy, name)
    if section is None:
        return _not_asked(name)
    result = _clocked(_doubted(_of(name, section, _FINDERS[name](policy, section, facts)), facts), facts)
    return _waived(result, waiver) if waiver is not None else result


def _of(name: ControlName, section: Control, found: Found) -> ControlResult:
    return ControlResult(
        name=name,
        standing=found.standing,
        claim=section.claim or CLAIMS[name],
        measured=found.measured,
        limit=found.limit,
        problems=found.problems,
        measures=found.measures,
        runs=found.runs,
        not_proven=(*found.not_proven, UNCOVERED) if name in _ON_WHAT_WAS_SEEN else found.not_proven,
        as_of=found.as_of,
    )


def _doubted(result: ControlResult, facts: Facts) -> ControlResult:
    """Return a result that rests on the last thing that happened as it is left by what cannot be read, or dated."""
    if result.name not in _BY_EVENTS or result.standing is Standing.BREACHED:
        return result
    doubts = tuple(_doubts(result.name, facts))
    if not doubts:
        return result
    return replace(result, standing=Standing.UNCHECKED, problems=tuple(dict.fromkeys((*doubts, *result.problems))))


def _doubts(name: ControlName, facts: Facts) -> Iterator[str]:
    # That the nodes were not looked at, so that what happened since is not known, these controls tell themselves.
    if facts.unread_events:
        yield f"{facts.unread_events} of the events in the history cannot be read"
    last = max((event.at for event in facts.events if event.kind is _BY_EVENTS[name]), default=None)
    if any(proof.at is None or last is None or proof.at >= last for proof in facts.unread_proofs):
        yield "what an audit said cannot be read"
    ahead = max((event.at for event in facts.events if facts.is_ahead(event.at)), default=None)
    if ahead is not None:
        yield f"an event is {format_age(facts.age_s(ahead))}"


def _clocked(result: ControlResult, facts: Facts) -> ControlResult:
    """Return the result as a clock that can't be right leaves it: ages seem smaller then than they are."""
    if not facts.clock_problem or result.standing is Standing.BREACHED:
        return result
    return replace(result, standing=Standing.UNCHECKED, problems=(facts.clock_problem, *result.problems))


def _waived(result: ControlResult, waiver: Waiver) -> ControlResult:
    excuses = result.standing if result.standing in _EXCUSABLE else None
    note = WaiverNote(reason=waiver.reason, by=waiver.by, until=waiver.until, excuses=excuses)
    return replace(result, standing=Standing.WAIVED if excuses else result.standing, waiver=note)
