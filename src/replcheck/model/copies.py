"""Which copies of a cluster are proven at a moment: one rule, for the screen, the events and the controls.

A copy is proven while its last whole audit found it consistent and is younger than a limit, it belongs to the same
cluster and line of timelines, and every sample since that audit showed it streaming, without a gap of more than
`GAP_S` between samples. The primary counts once a replica that is proven agrees with it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from replcheck.model.live import NodeState
from replcheck.model.outcome import Verdict
from replcheck.model.spans import GAP_S, NodeSpan


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
    for node, own in watched.items():
        if own[-1].state is NodeState.PRIMARY:
            found[node] = _primary(node, moment, own, found)
    return found


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
    own = [proof for proof in proofs if proof.node == node and proof.whole]
    last = max(own, key=lambda proof: proof.finished_at, default=None)
    if last is None:
        return CopyStanding(node=node, proven=False, proof=None, age_s=None, reason="it was never audited as a whole")
    age_s = (moment - last.proven_at).total_seconds()
    reason = _doubt(last, proofs, age_s, max_age_s) or _interruption(last, moment, spans)
    return CopyStanding(node=node, proven=not reason, proof=last, age_s=age_s, reason=reason)


def _doubt(last: AuditProof, proofs: Sequence[AuditProof], age_s: float, max_age_s: float) -> str:
    if last.verdict is not Verdict.CONSISTENT:
        return f"its last whole audit found it {last.verdict.value}"
    # A part of a cluster that diverged refutes the whole, whatever an older audit proved.
    if any(
        later.node == last.node and later.verdict is Verdict.DIVERGED and later.finished_at >= last.finished_at
        for later in proofs
    ):
        return "a later audit found it diverged"
    return "" if age_s <= max_age_s else "its proof is too old"


def _interruption(last: AuditProof, moment: datetime, spans: Sequence[NodeSpan]) -> str:
    gap = timedelta(seconds=GAP_S)
    reached = last.proven_at
    for span in spans:
        if span.ended_at < last.proven_at:
            continue
        if span.began_at - reached > gap or (span.longest_gap_s > GAP_S and span.began_at >= last.proven_at):
            return "nothing watched it for a while since it was proven"
        if span.system_identifier not in {None, last.system_identifier}:
            return "it belongs to another cluster since it was proven"
        if span.state is not NodeState.STREAMING:
            return f"it was {span.state.value} since it was proven"
        reached = max(reached, span.ended_at)
    return "" if moment - reached <= gap else "nothing watched it for a while since it was proven"


def _primary(node: str, moment: datetime, spans: Sequence[NodeSpan], found: dict[str, CopyStanding]) -> CopyStanding:
    witnesses = [
        standing
        for standing in found.values()
        if standing.proven and standing.proof is not None and standing.proof.primary == node
    ]
    best = max((witness for witness in witnesses), key=lambda w: w.proof.proven_at if w.proof else moment, default=None)
    if best is None:
        reason = "no proven replica agrees with it"
        return CopyStanding(node=node, proven=False, proof=None, age_s=None, reason=reason)
    if moment - spans[-1].ended_at > timedelta(seconds=GAP_S):
        reason = "nothing watched it for a while"
        return CopyStanding(node=node, proven=False, proof=best.proof, age_s=best.age_s, reason=reason)
    return CopyStanding(node=node, proven=True, proof=best.proof, age_s=best.age_s, reason="")
