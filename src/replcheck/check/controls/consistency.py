"""The control `consistency`: the last proof of every replica found no divergence, and is young enough."""

from collections.abc import Iterator, Sequence

from replcheck.check.facts import Facts, is_proof_ahead, newest_proofs
from replcheck.check.found import Fault, Found, at_risk, beyond, breached, listed, oldest, unchecked
from replcheck.config.model import AgeControl, Policy
from replcheck.model.control import Measure, Unit
from replcheck.model.copies import AuditProof
from replcheck.model.live import NodeState
from replcheck.model.outcome import Verdict
from replcheck.model.units import format_age, format_ago, format_duration

_NOT_PROVEN = (
    "that copies are equal at this moment: a proof is of the time at which its audit read the rows",
    "unlogged, temporary and foreign tables, which are not replicated: the report of an audit names them",
)
_NO_COPIES = frozenset({NodeState.PRIMARY, NodeState.STRAYED, NodeState.FOREIGN})
"""What is no copy of the primary, whatever an audit proved of it when it was one."""


def find_consistency(_policy: Policy, asked: AgeControl, facts: Facts) -> Found:
    """Return how old the proofs are, and what speaks against them."""
    if facts.history_problem:
        return Found(measured="unknown", limit=_limit(asked), faults=(unchecked(facts.history_problem),))
    replicas = replicas_of(facts)
    proofs = {node: proof for node, proof in newest_proofs(facts).items() if node in replicas}
    faults = [fault for node in replicas for fault in _faults(node, proofs.get(node), asked, facts)]
    if not replicas:
        faults = [unchecked("no replica is known that could be audited")]
    against = [proof.run_id for node in replicas for proof in _all_against(node, proofs, facts)]
    return Found(
        measured=_measured(replicas, proofs, facts),
        limit=_limit(asked),
        faults=tuple(faults),
        measures=tuple(
            Measure(
                name="proof_age",
                unit=Unit.SECONDS,
                value=facts.age_s(proofs[node].proven_at) if node in proofs else None,
                limit=asked.max_age,
                warn=asked.warn,
                subject=node,
            )
            for node in replicas
        ),
        runs=tuple(dict.fromkeys([*(proof.run_id for proof in proofs.values()), *against])),
        not_proven=(*_NOT_PROVEN, *left_out(facts)),
        as_of=oldest(proof.proven_at for proof in proofs.values()),
    )


def replicas_of(facts: Facts) -> list[str]:
    """Return the configured nodes that must be copies of the primary, as far as is known which one that is."""
    primaries = _primaries(facts)
    if not primaries:
        newest = max(facts.proofs, key=lambda proof: proof.finished_at, default=None)
        primaries = {newest.primary} if newest else set()
    # Where two claim to be the primary, each must be proven against the other.
    left_out = primaries if len(primaries) == 1 else set()
    return [name for name in facts.node_names if name not in left_out]


def left_out(facts: Facts) -> tuple[str, ...]:
    """Return what no audit compares because the configuration says so, a clause each."""
    return tuple(f"{what}: the configuration keeps them out of audits" for what in facts.left_out)


def _faults(node: str, proof: AuditProof | None, asked: AgeControl, facts: Facts) -> Iterator[Fault]:
    later = [one for one in facts.proofs if one.node == node and _is_later(one, proof)]
    diverged = [one for one in later if one.verdict is Verdict.DIVERGED]
    if proof is not None and diverged and all(is_proof_ahead(one, facts) for one in diverged):
        # Its date is wrong, so it may be of before the proof or of after it.
        yield unchecked(f"{node} was found diverged by an audit that is {_dated(diverged, facts)}")
    elif diverged and (since := _proofs_after(node, diverged, facts)):
        yield unchecked(f"{node} was found diverged {_ago(diverged, facts)}, and its proof of after that is {since}")
    elif diverged:
        yield breached(f"{node} was found diverged {_ago(diverged, facts)}")
    elif doubtful := next((one for one in later if one.whole and one.verdict is not Verdict.CONSISTENT), None):
        yield at_risk(f"{node} was found {doubtful.verdict.value} since its last proof")
    if is_unread(node, proof, facts):
        yield unchecked(unread(node))
    if proof is None:
        yield unchecked(unproven(node, facts))
        return
    if void := _void(node, proof, facts):
        yield unchecked(f"{node} {void}")
    age_s = facts.age_s(proof.proven_at)
    yield from beyond(age_s, asked.max_age, asked.warn, f"the proof of {node} is {format_duration(age_s)} old")


def _void(node: str, proof: AuditProof, facts: Facts) -> str:
    """Return why a proof is none of what a node is now, as the end of a clause; empty where it is one.

    A proof holds for a copy of the primary that it was compared with, and for none that left that one's history since.
    """
    viewed = facts.viewed()
    state = viewed[node].state if node in viewed else NodeState.STREAMING
    if state in _NO_COPIES:
        return f"is {state.value}, and was proven before that"
    if other := other_primary(proof, facts):
        return f"was proven against {proof.primary}, not against {other}, the primary of now"
    return ""


def other_primary(proof: AuditProof, facts: Facts) -> str:
    """Return the primary of now where a proof is of another; empty where it is not, or which is not known."""
    primaries = _primaries(facts)
    return primaries.pop() if len(primaries) == 1 and proof.primary not in primaries else ""


def _primaries(facts: Facts) -> set[str]:
    return {name for name, node in facts.viewed().items() if node.state is NodeState.PRIMARY}


def _proofs_after(node: str, diverged: Sequence[AuditProof], facts: Facts) -> str:
    """Return how a proof is dated that takes a divergence back, though the clock has not come there; empty for none."""
    found = max(one.finished_at for one in diverged)
    after = [
        one
        for one in facts.proofs
        if one.node == node and one.whole and one.verdict is Verdict.CONSISTENT and one.finished_at > found
    ]
    return _dated(after, facts) if after else ""


def is_unread(node: str, proof: AuditProof | None, facts: Facts) -> bool:
    """Return whether what an audit said of a node is damaged, and may speak against its newest proof."""
    return any(
        one.node in {"", node} and (proof is None or one.at is None or one.at > proof.finished_at)
        for one in facts.unread_proofs
    )


def unread(node: str) -> str:
    """Return that what an audit said of a node is damaged, as a clause."""
    return f"what an audit said of {node} cannot be read"


def unproven(node: str, facts: Facts) -> str:
    """Return why a replica has no proof whose age can be told, in one clause."""
    ahead = [one for one in facts.proofs if one.node == node and one.whole and one.verdict is Verdict.CONSISTENT]
    if ahead:
        return f"the proof of {node} is {_dated(ahead, facts)}"
    return f"{node} was never proven as a whole"


def _dated(proofs: Sequence[AuditProof], facts: Facts) -> str:
    return format_age(min(facts.age_s(one.finished_at) for one in proofs))


def _ago(proofs: Sequence[AuditProof], facts: Facts) -> str:
    return format_ago(min(facts.age_s(one.finished_at) for one in proofs))


def _is_later(one: AuditProof, proof: AuditProof | None) -> bool:
    return proof is None or one.finished_at > proof.finished_at


def _speaks_against(one: AuditProof, proofs: dict[str, AuditProof]) -> bool:
    return one.verdict is Verdict.DIVERGED and _is_later(one, proofs.get(one.node))


def _measured(replicas: list[str], proofs: dict[str, AuditProof], facts: Facts) -> str:
    against = {node: found for node in replicas if (found := _all_against(node, proofs, facts))}
    voids = {
        node: void for node, proof in proofs.items() if node not in against and (void := _void(node, proof, facts))
    }
    sound = [node for node in proofs if node not in against and node not in voids]
    told: list[str] = []
    if sound:
        age_s = max(facts.age_s(proofs[node].proven_at) for node in sound)
        told.append(f"{listed(sound)} proven consistent, the oldest proof is {format_duration(age_s)} old")
    for node, found in against.items():
        before = f"last proven {format_ago(facts.age_s(proofs[node].proven_at))}" if node in proofs else "never proven"
        told.append(f"{node} found diverged {_ago(found, facts)}, {before}")
    told += [
        f"{node} {void} (proven {format_ago(facts.age_s(proofs[node].proven_at))})" for node, void in voids.items()
    ]
    lacking = [node for node in replicas if node not in proofs and node not in against]
    return "; ".join([*told, f"none of {listed(lacking)}"] if told and lacking else told) or "no proof"


def _all_against(node: str, proofs: dict[str, AuditProof], facts: Facts) -> list[AuditProof]:
    return [one for one in facts.proofs if one.node == node and _speaks_against(one, proofs)]


def _limit(asked: AgeControl) -> str:
    return f"every replica proven consistent within {format_duration(asked.max_age)}"
