"""Which copies of a cluster are proven at a moment: one rule, for the screen, the events and the controls.

A copy is proven while its last whole audit found it consistent and is younger than a limit, it belongs to the same
cluster and line of timelines, and every sample since that audit showed it streaming, without a gap of more than
`GAP_S` between samples. The primary counts once a replica that is proven agrees with it, as long as it has been the
primary in every sample since. What is no longer proven is unknown, not bad: `refuted` tells what something speaks
against.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from replcheck.model.live import NodeState
from replcheck.model.outcome import Verdict
from replcheck.model.spans import GAP_S, NodeSpan

_UNWATCHED = "nothing watched it for a while since it was proven"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditProof:
    """What one audit said of one replica, as the history keeps it."""

    run_id: str
    proven_at: datetime
    """When the audit began: all that it proved was so then or later."""
    finished_at: datetime
    node: str
    primary: str
    verdict: Verdict
    whole: bool
    """Whether nothing was left out by the user and the audit came to its end."""
    system_identifier: str
    timeline: int | None
    level: str
    outcome_summary: str = ""
    scope_digest: str = ""
    """Of what the user asked for, so that what was left out on purpose can be known again; empty where the audit did
    not come to its end."""


def as_configured(proofs: Iterable[AuditProof], scope_digest: str) -> tuple[AuditProof, ...]:
    """Return the proofs, those of audits of a scope as whole ones: where the user leaves something out, no other is.

    An empty digest is that of no scope: an audit that did not come to its end has it too, and is never a whole one.
    """
    if not scope_digest:
        return tuple(proofs)
    return tuple(replace(proof, whole=proof.whole or proof.scope_digest == scope_digest) for proof in proofs)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStanding:
    """Whether one node is a proven copy at a moment, and why not."""

    node: str
    proven: bool
    proof: AuditProof | None
    """Its last whole audit; None where it never had one."""
    age_s: float | None
    """Of that audit, from its beginning."""
    reason: str
    """Why it is not proven, in one clause; empty where it is."""
    refuted: bool = False
    """Whether something speaks against it: an audit found it diverged, or it was last seen not to be a running copy.
    False also where it is merely not proven any more."""
    diverged: bool = False
    """Whether an audit found it so, and no later one takes that back."""


def standings(
    moment: datetime, proofs: Iterable[AuditProof], spans: Iterable[NodeSpan], *, max_age_s: float
) -> dict[str, CopyStanding]:
    """Return the standing of every node that a proof or a span names, at `moment`.

    `spans` are those of the samples; what is after `moment` is left out of account, in both. The primary is the node
    that the newest span of the moment shows as one.
    """
    past = [proof for proof in proofs if proof.finished_at <= moment]
    watched = _by_node(span for span in spans if span.began_at <= moment)
    found = {node: _replica(node, moment, past, watched.get(node, []), max_age_s) for node in _names(past, watched)}
    primaries = [node for node, own in watched.items() if own[-1].state is NodeState.PRIMARY]
    return found | {node: _primary(node, moment, watched[node], found) for node in primaries}


def _names(proofs: Sequence[AuditProof], watched: dict[str, list[NodeSpan]]) -> set[str]:
    return {proof.node for proof in proofs} | {proof.primary for proof in proofs} | watched.keys()


def _by_node(spans: Iterable[NodeSpan]) -> dict[str, list[NodeSpan]]:
    found: dict[str, list[NodeSpan]] = {}
    for span in sorted(spans, key=lambda span: span.began_at):
        found.setdefault(span.node, []).append(span)
    return found


def _replica(
    node: str, moment: datetime, proofs: Sequence[AuditProof], spans: Sequence[NodeSpan], max_age_s: float
) -> CopyStanding:
    gone = _is_gone(spans[-1], moment) if spans else False
    own = [proof for proof in proofs if proof.node == node]
    diverged = _is_diverged(own)
    last = max((proof for proof in own if proof.whole), key=lambda proof: proof.finished_at, default=None)
    if last is None:
        reason = "a part of it was found diverged" if diverged else "it was never audited as a whole"
        return CopyStanding(
            node=node,
            proven=False,
            proof=None,
            age_s=None,
            reason=reason,
            refuted=diverged or gone,
            diverged=diverged,
        )
    age_s = _seconds(moment, last.proven_at)
    reason = _doubt(last, age_s, max_age_s, diverged=diverged) or _interruption(last, moment, spans)
    refuted = bool(reason) and (diverged or gone)
    return CopyStanding(
        node=node,
        proven=not reason,
        proof=last,
        age_s=age_s,
        reason=reason,
        refuted=refuted,
        diverged=bool(reason) and diverged,
    )


def _is_gone(newest: NodeSpan, moment: datetime) -> bool:
    seen = newest.state is not NodeState.UNSURE and _seconds(moment, newest.ended_at) <= GAP_S
    return seen and not newest.state.is_running_copy


def _is_diverged(own: Iterable[AuditProof]) -> bool:
    """Return whether the newest word on a node that settles it is `diverged`.

    A part that diverged refutes the whole, whatever an older audit proved; only a whole audit that proves it consistent
    takes that back.
    """
    settled = [
        proof
        for proof in own
        if proof.verdict is Verdict.DIVERGED or (proof.whole and proof.verdict is Verdict.CONSISTENT)
    ]
    newest = max(settled, key=lambda proof: (proof.finished_at, proof.verdict is Verdict.DIVERGED), default=None)
    return newest is not None and newest.verdict is Verdict.DIVERGED


def _doubt(last: AuditProof, age_s: float, max_age_s: float, *, diverged: bool) -> str:
    if last.verdict is not Verdict.CONSISTENT:
        return f"its last whole audit found it {last.verdict.value}"
    if diverged:
        return "a later audit found it diverged"
    return "" if age_s <= max_age_s else "its proof is too old"


def _interruption(
    last: AuditProof, moment: datetime, spans: Sequence[NodeSpan], state: NodeState = NodeState.STREAMING
) -> str:
    """Return what keeps the samples from showing one and the same copy since a proof; empty where nothing does."""
    gap = timedelta(seconds=GAP_S)
    reached = last.proven_at
    for span in spans:
        if span.ended_at < last.proven_at:
            continue
        if span.began_at - reached > gap or (span.longest_gap_s > GAP_S and span.began_at >= last.proven_at):
            return _UNWATCHED
        if span.system_identifier not in {None, last.system_identifier}:
            return "it belongs to another cluster since it was proven"
        if span.state is not state:
            return f"it was {span.state.value} since it was proven"
        reached = max(reached, span.ended_at)
    return "" if moment - reached <= gap else _UNWATCHED


def _primary(node: str, moment: datetime, spans: Sequence[NodeSpan], found: dict[str, CopyStanding]) -> CopyStanding:
    """Return the standing of a primary: it stands on the youngest proof of a replica that is itself still proven."""
    witnesses = [
        (standing.proof, standing.age_s)
        for standing in found.values()
        if standing.proven and standing.proof is not None and standing.proof.primary == node
    ]
    if not witnesses:
        reason = "no proven replica agrees with it"
        return CopyStanding(node=node, proven=False, proof=None, age_s=None, reason=reason)
    # A server that was another primary's standby in between, or came back under an old name, is not what was compared.
    proof, age_s = max(witnesses, key=lambda witness: witness[0].proven_at)
    reason = _interruption(proof, moment, spans, NodeState.PRIMARY)
    return CopyStanding(node=node, proven=not reason, proof=proof, age_s=age_s, reason=reason)


def _seconds(later: datetime, earlier: datetime) -> float:
    return (later - earlier).total_seconds()
