"""The control `failover`: the last failure of the primary was switched over within its limit, and nothing was lost.

It rests on what happened, meant or not, never on a configuration. That no acknowledged commit was lost is more than SQL
can tell: what an audit behind it proves is that all copies hold what the new primary holds.
"""

from collections.abc import Iterator, Sequence

from replcheck.check.facts import Facts
from replcheck.check.found import Fault, Found, at_risk, beyond, breached, oldest, unchecked
from replcheck.check.outages import Outage, outages
from replcheck.config.model import FailoverControl, Policy
from replcheck.model.control import Measure, Unit
from replcheck.model.copies import AuditProof
from replcheck.model.outcome import Verdict
from replcheck.model.units import format_duration

_NOT_PROVEN = (
    "that no acknowledged commit was lost: only a record outside of the cluster can tell which were acknowledged",
    "that the next failure will be switched over as the last one was",
    "whether the last one was meant: an exercise and a failure look alike",
)


def find_failover(_policy: Policy, asked: FailoverControl, facts: Facts) -> Found:
    """Return how long the last failover took, how long ago it was, and what was proven since."""
    if facts.history_problem:
        return Found(measured="unknown", limit=_limit(asked), faults=(unchecked(facts.history_problem),))
    found = outages(facts.events)
    last = found[-1] if found else None
    switched = next((outage for outage in reversed(found) if outage.switched), None)
    proof = _first_proof(switched, facts.proofs)
    faults = [*_last_faults(last, asked, facts), *_switched_faults(switched, asked, facts, proof)]
    return Found(
        measured=_measured(last, switched, facts),
        limit=_limit(asked),
        faults=tuple(faults),
        measures=tuple(_measures(switched, asked, facts)),
        runs=(proof.run_id,) if proof else (),
        not_proven=_NOT_PROVEN,
        as_of=oldest([switched.ended_at if switched else None]),
    )


def _has_primary(facts: Facts) -> bool:
    return facts.view is not None and facts.view.primary is not None


def _last_faults(last: Outage | None, asked: FailoverControl, facts: Facts) -> Iterator[Fault]:
    if last is None or last.switched:
        return
    if last.ended_at is None:
        if _has_primary(facts):
            return  # it ended while nothing was watching
        waited_s = facts.age_s(last.began_at)
        what = f"{last.node or 'the primary'} is lost and nobody took over for {format_duration(waited_s)}"
        yield from beyond(waited_s, asked.max_time, None, what) or [at_risk(what)]
    elif last.seconds is not None and last.seconds > asked.max_time:
        yield breached(
            f"{last.node or 'the primary'} was away for {format_duration(last.seconds)} and nobody took over"
            f" (limit {format_duration(asked.max_time)})"
        )


def _switched_faults(
    switched: Outage | None, asked: FailoverControl, facts: Facts, proof: AuditProof | None
) -> Iterator[Fault]:
    if switched is None or switched.ended_at is None or switched.seconds is None:
        yield unchecked("no failover was ever seen")
        return
    took = f"the last failover took {format_duration(switched.seconds)}"
    yield from beyond(switched.seconds, asked.max_time, asked.warn, took)
    age_s = facts.age_s(switched.ended_at)
    yield from beyond(age_s, asked.exercised_every, None, f"the last failover was {format_duration(age_s)} ago")
    if proof is None:
        yield at_risk(f"no audit has compared the copies with {switched.successor} since it took over")
    elif proof.verdict is Verdict.DIVERGED:
        yield breached(f"the first audit since {switched.successor} took over found {proof.node} diverged")


def _first_proof(switched: Outage | None, proofs: Sequence[AuditProof]) -> AuditProof | None:
    """Return what the first audit behind a failover that settled anything said; the worst of its nodes."""
    if switched is None or switched.ended_at is None:
        return None
    settled = [
        proof
        for proof in proofs
        if proof.proven_at >= switched.ended_at
        and proof.primary == switched.successor
        and (proof.verdict is Verdict.DIVERGED or (proof.whole and proof.verdict is Verdict.CONSISTENT))
    ]
    return min(settled, key=lambda proof: (proof.finished_at, proof.verdict is not Verdict.DIVERGED), default=None)


def _measured(last: Outage | None, switched: Outage | None, facts: Facts) -> str:
    told = "no failover was ever seen"
    if switched is not None and switched.ended_at is not None and switched.seconds is not None:
        ago = format_duration(facts.age_s(switched.ended_at))
        told = f"the last failover, {ago} ago, took {format_duration(switched.seconds)} to {switched.successor}"
    if last is not None and last.ended_at is None and not _has_primary(facts):
        told += f"; without a primary for {format_duration(facts.age_s(last.began_at))}"
    return told


def _limit(asked: FailoverControl) -> str:
    told = f"within {format_duration(asked.max_time)}"
    return told + (f", exercised every {format_duration(asked.exercised_every)}" if asked.exercised_every else "")


def _measures(switched: Outage | None, asked: FailoverControl, facts: Facts) -> Iterator[Measure]:
    yield Measure(
        name="time",
        unit=Unit.SECONDS,
        value=switched.seconds if switched else None,
        limit=asked.max_time,
        warn=asked.warn,
    )
    yield Measure(
        name="age",
        unit=Unit.SECONDS,
        value=facts.age_s(switched.ended_at) if switched and switched.ended_at else None,
        limit=asked.exercised_every,
    )
