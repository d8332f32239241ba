"""What the history keeps of an audit beside its result: which copies it proved, and how it proved them."""

from typing import TYPE_CHECKING

from replcheck.model.audit import AuditResult
from replcheck.model.copies import AuditProof
from replcheck.runs.request import extent_of

if TYPE_CHECKING:
    from replcheck.store import AuditParts


def parts_of(result: AuditResult) -> "AuditParts":
    """Return what a history keeps of a result in parts."""
    from replcheck.store import AuditParts  # large, and a run without a history needs none of it

    return AuditParts(result=result, proofs=proofs_of(result))


def proofs_of(result: AuditResult) -> tuple[AuditProof, ...]:
    """Return what an audit said of each replica.

    What it took over from an earlier run was proven before it began, so its proofs are as old as the oldest of that.
    """
    taken_over = [relation.proven_since for relation in result.relations if relation.proven_since is not None]
    return tuple(
        AuditProof(
            run_id=result.run_id,
            proven_at=min([result.started_at, *taken_over]),
            finished_at=result.finished_at,
            node=replica.node.name,
            primary=result.primary.name,
            verdict=replica.verdict,
            whole=result.scope.whole and not result.stopped,
            system_identifier=replica.node.system_identifier,
            timeline=replica.node.timeline,
            level=result.level,
            outcome_summary=replica.reason,
            scope_digest="" if result.stopped else extent_of(result.scope).digest,
        )
        for replica in result.replicas
    )
