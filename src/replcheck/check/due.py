"""Which audits and drills are due: decided from proofs and drills alone, before the controls are looked at.

A run is due when its proof is as old as `warn`, or as the limit where there is none. What was tried a short while ago,
however it ended, is left alone for a tenth of the limit: a backup that fails is not drilled again every five minutes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from replcheck.check.controls.consistency import is_unread, other_primary, replicas_of, unproven, unread
from replcheck.check.controls.copies import lapsed_proofs
from replcheck.check.controls.restore import newest_restored, unrestored
from replcheck.check.facts import Facts, Untold, newest_proofs
from replcheck.check.found import listed
from replcheck.config.model import Policy
from replcheck.errors import UsageError
from replcheck.model.units import format_duration

AUDIT, DRILL = "audit", "drill"
KINDS = (AUDIT, DRILL)
_REST = 10
"""Into how many parts a limit is cut, one of which is the time between two tries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether one run is due."""

    kind: str
    subject: str = ""
    """The backup of a drill."""
    due: bool
    reason: str
    """In one clause."""


def require_askable(kinds: Iterable[str], policy: Policy) -> None:
    """Raise UsageError where a run is to be done when it is due and nothing in the policy says when that is."""
    for kind, section, key in ((AUDIT, policy.consistency, "consistency"), (DRILL, policy.restore, "restore")):
        if kind in kinds and section is None:
            raise UsageError(
                f"--run {kind} has nothing to go by: the policy does not ask for {key}",
                hint=f"Add {key} to [policy], or leave {kind} out of --run.",
            )


def due_runs(
    kinds: Iterable[str], policy: Policy, facts: Facts, tried: Mapping[tuple[str, str], datetime]
) -> list[Verdict]:
    """Return of each run that was asked for whether it is due.

    `tried` holds when each was last begun, by its kind and subject.
    """
    found: list[Verdict] = []
    if AUDIT in kinds and policy.consistency is not None:
        reason = next(_audit_reasons(policy, facts), "")
        found.append(_verdict(AUDIT, "", reason, policy.consistency.max_age, facts, tried))
    if DRILL in kinds and policy.restore is not None:
        for backup in facts.backups:
            reason = _drill_reason(backup.name, policy, facts)
            found.append(_verdict(DRILL, backup.name, reason, policy.restore.every, facts, tried))
    return found


def _verdict(
    kind: str, subject: str, reason: str, limit_s: float, facts: Facts, tried: Mapping[tuple[str, str], datetime]
) -> Verdict:
    if not reason:
        return Verdict(kind=kind, subject=subject, due=False, reason="the last proof is young enough")
    last = tried.get((kind, subject))
    ago_s = facts.age_s(last) if last is not None else None
    if ago_s is not None and 0 <= ago_s < limit_s / _REST:
        told = f"it was tried {format_duration(ago_s)} ago, and is not tried again so soon"
        return Verdict(kind=kind, subject=subject, due=False, reason=told)
    return Verdict(kind=kind, subject=subject, due=True, reason=reason)


def _audit_reasons(policy: Policy, facts: Facts) -> Iterator[str]:
    assert policy.consistency is not None  # noqa: S101 - asked by the caller
    limit_s = policy.consistency.warn or policy.consistency.max_age
    proofs = newest_proofs(facts)
    replicas = replicas_of(facts)
    missing = [node for node in replicas if node not in proofs]
    if missing or not replicas:
        yield listed([unproven(node, facts) for node in missing]) or "the cluster was never proven as a whole"
    for node in replicas:
        age_s = facts.age_s(proofs[node].proven_at) if node in proofs else 0.0
        if is_unread(node, proofs.get(node), facts):
            yield unread(node)
        if node in proofs and (primary := other_primary(proofs[node], facts)):
            yield f"{node} was never proven against {primary}, the primary of now"
        if age_s >= limit_s:
            yield f"the proof of {node} is {format_duration(age_s)} old"
    if policy.copies is not None:
        # Proven again as soon as the samples can show it: without anybody who watches, every check would audit.
        for standing in lapsed_proofs(policy, facts):
            yield f"{standing.node} is not proven any more: {standing.reason}"


def _drill_reason(name: str, policy: Policy, facts: Facts) -> str:
    assert policy.restore is not None  # noqa: S101 - asked by the caller
    restored = newest_restored(name, facts)
    if restored is None:
        return unrestored(name, facts)
    if facts.untold_since(name, restored.started_at, Untold.UNREADABLE):
        return f"what a drill of {name} found cannot be read"
    age_s = facts.age_s(restored.started_at)
    limit_s = policy.restore.warn or policy.restore.every
    return f"{name} was last restored {format_duration(age_s)} ago" if age_s >= limit_s else ""
