"""Which audits and drills are due: decided from proofs and drills alone, before the controls are looked at.

A run is due when its proof is as old as `warn`, or as the limit where there is none. What was tried a short while ago,
however it ended, is left alone for a tenth of the limit: a backup that fails is not drilled again every five minutes.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from replcheck.check.controls.consistency import is_unread, other_primary, replicas_of, unproven, unread
from replcheck.check.controls.copies import lapsed_proofs
from replcheck.check.controls.recovery_point import shown_by, unshown
from replcheck.check.controls.restore import newest_restored, unrestored
from replcheck.check.facts import Facts, Untold, newest_proofs
from replcheck.check.found import listed
from replcheck.config.model import Policy
from replcheck.errors import UsageError
from replcheck.model.units import format_duration

AUDIT, DRILL = "audit", "drill"
KINDS = (AUDIT, DRILL)
THE_END = "drill to the end"
"""What a drill to the end of the archive is called among what was tried: another target proves another thing."""
Tried = Mapping[tuple[str, str], datetime]
"""When each run was last begun, by its kind (a drill that has to restore to the end by THE_END) and its subject."""
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
    to_the_end: bool = False
    """Whether a drill has to restore to the end of the archive, whatever target is configured."""

    @property
    def key(self) -> tuple[str, str]:
        """Return what it is called among what was tried."""
        return THE_END if self.to_the_end else self.kind, self.subject


def require_askable(kinds: Iterable[str], policy: Policy) -> None:
    """Raise UsageError where a run is to be done when it is due and nothing in the policy says when that is."""
    for kind, section, key in ((AUDIT, policy.consistency, "consistency"), (DRILL, policy.restore, "restore")):
        if kind in kinds and section is None:
            raise UsageError(
                f"--run {kind} has nothing to go by: the policy does not ask for {key}",
                hint=f"Add {key} to [policy], or leave {kind} out of --run.",
            )


def due_runs(
    kinds: Iterable[str], policy: Policy, facts: Facts, tried: Tried, to_the_end: Collection[str] = ()
) -> list[Verdict]:
    """Return of each run that was asked for whether it is due; `to_the_end` are the backups drilled so by themselves.

    The control of the recovery point needs a drill to the end of the archive, which is another one than that of the
    restore where a seal is the configured target: then both are due, each in its time.
    """
    found: list[Verdict] = []
    if AUDIT in kinds and policy.consistency is not None:
        reason = next(_audit_reasons(policy, facts), "")
        found.append(_verdict((AUDIT, ""), reason, policy.consistency.max_age, facts, tried))
    if DRILL in kinds and policy.restore is not None:
        for backup in facts.backups:
            reason = _drill_reason(backup.name, policy, facts)
            found.append(_verdict((DRILL, backup.name), reason, policy.restore.every, facts, tried))
        begun = {verdict.subject for verdict in found if verdict.kind == DRILL and verdict.due}
        found += _drill_to_the_end(policy, facts, tried, to_the_end, begun)
    return found


def _drill_to_the_end(
    policy: Policy, facts: Facts, tried: Tried, to_the_end: Collection[str], begun: Collection[str]
) -> Iterator[Verdict]:
    """Yield the drill that shows the recovery point, where it is due and none of those that are begun does."""
    names = [backup.name for backup in facts.backups if backup.archive]
    reason = _end_reason(names, policy, facts)
    if not reason or any(name in to_the_end and name in begun for name in names):
        return
    assert policy.restore is not None and policy.recovery_point is not None  # noqa: S101, PT018 - there is a reason
    name = next((name for name in names if name in to_the_end), names[0])
    limit_s = policy.recovery_point.drilled_every or policy.restore.every
    yield _verdict((THE_END, name), reason, limit_s, facts, tried)


def _end_reason(names: Sequence[str], policy: Policy, facts: Facts) -> str:
    """Return why a drill to the end of the archive is due; empty where none is asked for, or the last one is young."""
    if policy.recovery_point is None or policy.restore is None or not names:
        return ""
    drill = shown_by(facts)
    if drill is None:
        return unshown(facts)
    if any(facts.untold_since(name, drill.started_at, Untold.FAILED, Untold.UNREADABLE) for name in names):
        return "what a later drill found of the archive cannot be read"
    age_s = facts.age_s(drill.started_at)
    limit_s = policy.recovery_point.drilled_every or policy.restore.warn or policy.restore.every
    return f"the drill that showed the recovery point is {format_duration(age_s)} old" if age_s >= limit_s else ""


def _verdict(key: tuple[str, str], reason: str, limit_s: float, facts: Facts, tried: Tried) -> Verdict:
    kind, subject = key
    to_the_end = kind == THE_END
    kind = DRILL if to_the_end else kind
    if not reason:
        return Verdict(kind=kind, subject=subject, due=False, reason="the last proof is young enough")
    last = tried.get(key)
    ago_s = facts.age_s(last) if last is not None else None
    if ago_s is not None and 0 <= ago_s < limit_s / _REST:
        told = f"it was tried {format_duration(ago_s)} ago, and is not tried again so soon"
        return Verdict(kind=kind, subject=subject, due=False, reason=told, to_the_end=to_the_end)
    return Verdict(kind=kind, subject=subject, due=True, reason=reason, to_the_end=to_the_end)


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
