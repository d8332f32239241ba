"""The control `replacement`: a lost copy was recreated within its limit, and proven.

It rests on the last copy that was recreated, and on every copy that is lost now.
"""

from collections.abc import Iterator, Sequence

from replcheck.check.facts import Facts
from replcheck.check.found import Fault, Found, at_risk, beyond, dated_ahead, oldest, unchecked
from replcheck.check.outages import Loss, Return, losses, unseen_return
from replcheck.config.model import Policy, TimeControl
from replcheck.model.control import Measure, Unit
from replcheck.model.copies import AuditProof
from replcheck.model.live import ClusterEvent, EventKind, NodeState
from replcheck.model.outcome import Verdict
from replcheck.model.units import format_ago, format_duration

_NOT_PROVEN = (
    "that the next lost copy will be recreated as the last one was",
    "who recreated it: a program and a person look alike",
)


def find_replacement(_policy: Policy, asked: TimeControl, facts: Facts) -> Found:
    """Return how long it took to recreate the last lost copy, and how long those have been gone that are lost now."""
    if facts.history_problem:
        return Found(measured="unknown", limit=_limit(asked), faults=(unchecked(facts.history_problem),))
    last = next((event for event in reversed(facts.events) if event.kind is EventKind.COPY_RECREATED), None)
    proof = _proof_of(last, facts.proofs)
    gone = _gone(facts)
    faults = [
        *_unseen_faults(facts),
        *_gone_faults(gone, asked, facts),
        *_last_faults(last, proof, asked, facts),
        *_away_faults(last, asked, facts),
        *_return_faults(last, asked, facts),
    ]
    return Found(
        measured=_measured(last, gone, facts),
        limit=_limit(asked),
        faults=tuple(faults),
        measures=tuple(_measures(last, gone, asked, facts)),
        runs=(proof.run_id,) if proof else (),
        not_proven=_NOT_PROVEN,
        as_of=oldest([last.at if last else None]),
    )


def _unseen_faults(facts: Facts) -> Iterator[Fault]:
    """Yield of which nodes it is unknown whether they are lost, or since when."""
    if facts.view is None:
        yield unchecked(facts.view_problem)
        return
    viewed, told = facts.viewed(), losses(facts.events)
    for name in facts.node_names:
        if name in told:
            continue
        if name not in viewed or viewed[name].state is NodeState.UNSURE:
            yield unchecked(f"whether {name} is lost is unknown: it could not be looked at")
        elif viewed[name].state is NodeState.UNSEEN:
            yield at_risk(f"{name} is out of reach, since when is unknown")


def _gone(facts: Facts) -> list[Loss]:
    """Return the configured nodes that are lost.

    One that the last look shows running is not, whatever events say; one that it shows gone is, though no event tells
    of it, at least since it was seen so. Without a look nothing is known to be lost still.
    """
    if facts.view is None:
        return []
    viewed, told = facts.viewed(), losses(facts.events)
    running = {name for name, node in viewed.items() if node.state.is_running_copy}
    seen = [
        Loss(node=name, since=node.since, told_at=node.since, state=node.state.value)
        for name, node in viewed.items()
        if name not in told and name not in running and node.state not in {NodeState.UNSURE, NodeState.UNSEEN}
    ]
    return [*(loss for name, loss in told.items() if name in facts.node_names and name not in running), *seen]


def _took_s(event: ClusterEvent) -> float | None:
    if event.seconds is not None:
        return event.seconds
    return (event.at - event.began_at).total_seconds() if event.began_at else None


def _gone_faults(gone: Sequence[Loss], asked: TimeControl, facts: Facts) -> Iterator[Fault]:
    for loss in gone:
        waited_s = facts.age_s(loss.since)
        what = f"{loss.node} is {loss.state} and not recreated for {format_duration(waited_s)}"
        yield from beyond(waited_s, asked.max_time, None, what) or [at_risk(what)]


def _last_faults(
    last: ClusterEvent | None, proof: AuditProof | None, asked: TimeControl, facts: Facts
) -> Iterator[Fault]:
    if last is None:
        yield unchecked("no lost copy was ever seen to be recreated")
        return
    yield from dated_ahead(facts.age_s(last.at), f"that {last.node} was recreated")
    took_s = _took_s(last)
    if took_s is None:
        yield unchecked(f"how long {last.node} was lost before it was recreated is unknown")
    else:
        yield from _time_faults(last, took_s, asked)
    if proof is None:
        yield at_risk(f"{last.node} was recreated and is not proven since")


def _time_faults(last: ClusterEvent, took_s: float, asked: TimeControl) -> list[Fault]:
    """Return what the time says that a copy took; what was not watched is taken for neither good nor bad."""
    what = f"{last.node} was recreated in {_took(last, took_s)}"
    if not _is_open(last, took_s, asked):
        return beyond(took_s, asked.max_time, asked.warn, what)
    limit, unknown = format_duration(asked.max_time), format_duration(last.unseen_s)
    return [unchecked(f"{what} (limit {limit}), and for {unknown} of that nothing is known")]


def _is_open(last: ClusterEvent, took_s: float, asked: TimeControl) -> bool:
    """Return whether the limit lies within what nobody watched."""
    return took_s - last.unseen_s <= asked.max_time < took_s


def _took(last: ClusterEvent, took_s: float) -> str:
    return f"at most {format_duration(took_s)}" if last.unseen_s else format_duration(took_s)


def _away_faults(last: ClusterEvent | None, asked: TimeControl, facts: Facts) -> Iterator[Fault]:
    """Yield that a copy was away for longer than the limit since, and came back instead of being recreated."""
    away = [
        event
        for event in facts.events
        if event.kind is EventKind.NODE_BACK
        and (event.seconds or 0) > asked.max_time
        and (last is None or event.at > last.at)
    ]
    for event in away[-1:]:
        yield at_risk(
            f"{event.node} was away for {format_duration(event.seconds or 0)} and was not recreated meanwhile"
        )


def _return_faults(last: ClusterEvent | None, asked: TimeControl, facts: Facts) -> Iterator[Fault]:
    """Yield of lost copies that run again and that nobody saw come back, where that may have taken too long."""
    limit = format_duration(asked.max_time)
    for back in _unseen_returns(facts):
        known_before = last is not None and last.at >= back.seen_running_at
        if known_before or back.away_at_most_s <= asked.max_time:
            continue
        lost = f"{back.loss.node} was lost {format_ago(facts.age_s(back.loss.since))} and runs again"
        away = f"it was away for at most {format_duration(back.away_at_most_s)} (limit {limit})"
        unknown = f"for {format_duration(back.unknown_s)} of that nothing is known"
        yield at_risk(f"{lost}; nobody saw it come back: {away}, and {unknown}")


def _unseen_returns(facts: Facts) -> list[Return]:
    if facts.view is None:
        return []
    viewed = facts.viewed()
    return [
        unseen_return(loss, facts.spans, facts.proofs, facts.view.at)
        for name, loss in losses(facts.events).items()
        if name in viewed and viewed[name].state.is_running_copy
    ]


def _proof_of(last: ClusterEvent | None, proofs: Sequence[AuditProof]) -> AuditProof | None:
    if last is None:
        return None
    own = [
        proof
        for proof in proofs
        if proof.node == last.node
        and proof.proven_at >= last.at
        and proof.whole
        and proof.verdict is Verdict.CONSISTENT
    ]
    return min(own, key=lambda proof: proof.finished_at, default=None)


def _measured(last: ClusterEvent | None, gone: Sequence[Loss], facts: Facts) -> str:
    told = "no lost copy was ever seen to be recreated"
    if last is not None:
        took_s = _took_s(last)
        took = f" in {_took(last, took_s)}" if took_s is not None else ""
        told = f"{last.node} was recreated{took}, {format_ago(facts.age_s(last.at))}"
    waiting = "; ".join(f"{loss.node} {loss.state} for {format_duration(facts.age_s(loss.since))}" for loss in gone)
    return f"{told}; {waiting}" if waiting else told


def _limit(asked: TimeControl) -> str:
    return f"a lost copy recreated within {format_duration(asked.max_time)}, and proven"


def _measures(last: ClusterEvent | None, gone: Sequence[Loss], asked: TimeControl, facts: Facts) -> Iterator[Measure]:
    took_s = _took_s(last) if last else None
    known = last is not None and took_s is not None and not _is_open(last, took_s, asked)
    yield Measure(
        name="time",
        unit=Unit.SECONDS,
        value=took_s if known else None,
        limit=asked.max_time,
        warn=asked.warn,
    )
    for loss in gone:
        yield Measure(
            name="lost_for",
            unit=Unit.SECONDS,
            value=facts.age_s(loss.since),
            limit=asked.max_time,
            subject=loss.node,
        )
