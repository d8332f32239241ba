"""The control `failover`: the last failure of the primary was switched over within its limit, and nothing was lost.

It rests on what happened, meant or not, never on a configuration. That no acknowledged commit was lost is more than SQL
can tell: what an audit behind it proves is that all copies hold what the new primary holds.
"""

from collections.abc import Iterator, Mapping, Sequence

from replcheck.check.facts import Facts
from replcheck.check.found import Fault, Found, at_risk, beyond, breached, dated_ahead, listed, oldest, unchecked
from replcheck.check.outages import Outage, last_primary, outages
from replcheck.config.model import FailoverControl, Policy
from replcheck.model.control import Measure, Unit
from replcheck.model.copies import AuditProof
from replcheck.model.outcome import Verdict
from replcheck.model.units import format_ago, format_duration

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
    switched = next((outage for outage in reversed(found) if outage.switched), None)
    proofs = _first_proofs(switched, facts)
    faults = [
        *_now_faults(found, facts),
        *_last_faults(found[-1] if found else None, asked, facts),
        *_switched_faults(switched, asked, facts),
        *_proof_faults(switched, proofs),
    ]
    return Found(
        measured=_measured(found, switched, facts),
        limit=_limit(asked),
        faults=tuple(faults),
        measures=tuple(_measures(switched, asked, facts)),
        runs=tuple(dict.fromkeys(proof.run_id for proof in proofs.values() if proof)),
        not_proven=_NOT_PROVEN,
        as_of=oldest([switched.ended_at if switched else None]),
    )


def _primary(facts: Facts) -> str | None:
    return facts.view.primary if facts.view else None


def _now_faults(found: Sequence[Outage], facts: Facts) -> Iterator[Fault]:
    """Yield what keeps events from telling of the last failover: nobody looks, or one was missed."""
    primary, known = _primary(facts), last_primary(found)
    if facts.view is None:
        yield unchecked(facts.view_problem)
    elif None not in {primary, known} and primary != known:
        yield unchecked(f"{primary} is the primary, and nothing was seen of how it took over from {known}")


def _last_faults(last: Outage | None, asked: FailoverControl, facts: Facts) -> Iterator[Fault]:
    """Yield what the last outage says where nobody took over, as far as that is seen."""
    if last is None or last.switched or facts.view is None:
        return
    lost = last.node or "the primary"
    if last.ended_at is not None:
        if last.seconds is not None and last.seconds > asked.max_time:
            away = f"{lost} was away for {format_duration(last.seconds)} and nobody took over"
            yield breached(f"{away} (limit {format_duration(asked.max_time)})")
        return
    waited_s = facts.age_s(last.began_at)
    if facts.view.primary is None:
        what = f"{lost} is lost and nobody took over for {format_duration(waited_s)}"
        yield from beyond(waited_s, asked.max_time, None, what) or [at_risk(what)]
    elif facts.view.primary == last.node and waited_s > asked.max_time:
        # It came back while nothing was watching: it may have been away for a second, or for all of that time.
        yield at_risk(
            f"{lost} was lost {format_ago(waited_s)} and is the primary again: how long it was away is unknown"
        )


def _switched_faults(switched: Outage | None, asked: FailoverControl, facts: Facts) -> Iterator[Fault]:
    if switched is None or switched.ended_at is None or switched.seconds is None:
        yield unchecked("no failover was ever seen")
        return
    took = f"the last failover took {format_duration(switched.seconds)}"
    yield from beyond(switched.seconds, asked.max_time, asked.warn, took)
    age_s = facts.age_s(switched.ended_at)
    yield from dated_ahead(age_s, "the last failover")
    yield from beyond(age_s, asked.exercised_every, None, f"the last failover was {format_ago(age_s)}")


def _proof_faults(switched: Outage | None, proofs: Mapping[str, AuditProof | None]) -> Iterator[Fault]:
    """Yield what audits lack, or found, for the copies to agree with who took over: with all of them, not with one."""
    if switched is None:
        return
    lacking = [node for node, proof in proofs.items() if proof is None]
    if lacking:
        yield at_risk(f"no audit has compared {listed(lacking)} with {switched.successor} since it took over")
    elif not proofs:
        yield at_risk(f"no copy of {switched.successor} is configured that could be compared with it")
    for node, proof in proofs.items():
        if proof is not None and proof.verdict is Verdict.DIVERGED:
            yield breached(f"the first audit of {node} since {switched.successor} took over found it diverged")


def _first_proofs(switched: Outage | None, facts: Facts) -> dict[str, AuditProof | None]:
    """Return of each configured copy the first audit behind a failover that settled anything; None where none did."""
    if switched is None:
        return {}
    copies = [name for name in facts.node_names if name != switched.successor]
    return {name: _first_proof(name, switched, facts.proofs) for name in copies}


def _first_proof(node: str, switched: Outage, proofs: Sequence[AuditProof]) -> AuditProof | None:
    settled = [
        proof
        for proof in proofs
        if proof.node == node
        and switched.ended_at is not None
        and proof.proven_at >= switched.ended_at
        and proof.primary == switched.successor
        and (proof.verdict is Verdict.DIVERGED or (proof.whole and proof.verdict is Verdict.CONSISTENT))
    ]
    return min(settled, key=lambda proof: (proof.finished_at, proof.verdict is not Verdict.DIVERGED), default=None)


def _measured(found: Sequence[Outage], switched: Outage | None, facts: Facts) -> str:
    told = "no failover was ever seen"
    if switched is not None and switched.ended_at is not None and switched.seconds is not None:
        ago = format_ago(facts.age_s(switched.ended_at))
        told = f"the last failover, {ago}, took {format_duration(switched.seconds)} to {switched.successor}"
    last, primary = found[-1] if found else None, _primary(facts)
    if last is not None and last.ended_at is None and primary is None:
        told += f"; without a primary for {format_duration(facts.age_s(last.began_at))}"
    elif primary is not None and last is not None and primary != last_primary(found):
        told += f"; {primary} took over since, unseen"
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
