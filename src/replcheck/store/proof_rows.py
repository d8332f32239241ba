"""What a history keeps of what an audit said of each replica, and of its alignments with them, as it stands there.

To be compared, not to be used.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from replcheck.model.copies import AuditProof
from replcheck.store.live_rows import proof_values
from replcheck.store.live_tables import ALIGNMENTS, AUDIT_NODES

_COLUMNS = (
    *(AUDIT_NODES.c[name] for name in ("node", "verdict", "whole", "system_identifier", "timeline", "primary_node")),
    *(AUDIT_NODES.c[name] for name in ("level", "proven_at", "finished_at", "outcome_summary", "scope_digest")),
)
ALIGNMENT_KEYS = ("lane", "database", "taken_at", "lsn", "attempts", "elapsed_s", "unsettled", "chunks")
"""What is kept of an alignment, by the names that it has in an audit's report too."""
_ALIGNMENT = tuple(ALIGNMENTS.c[name] for name in ALIGNMENT_KEYS)
Alignments = Mapping[str, Sequence[Sequence[Any]]]
"""By the names of replicas, in the order of the report."""
Told = tuple[Any, ...]
"""As `replicas_told` of evidence tells it, in that order."""


class ProofRow(NamedTuple):
    """One of them."""

    told: Told
    """What a record of evidence tells too."""
    outcome_summary: str
    scope_digest: str


def rows_of(connection: Connection, run_ids: Sequence[str]) -> Mapping[str, list[ProofRow]]:
    """Return the rows of each run that has any; not for more than a few hundred runs."""
    statement = select(AUDIT_NODES.c.run_id, *_COLUMNS).where(AUDIT_NODES.c.run_id.in_(run_ids))
    found: dict[str, list[ProofRow]] = {}
    for run_id, *values in connection.execute(statement):
        found.setdefault(run_id, []).append(_row(values))
    return found


def alignments_of(connection: Connection, run_ids: Sequence[str]) -> Mapping[str, Alignments]:
    """Return those of each run that has any; not for more than a few hundred runs."""
    statement = select(ALIGNMENTS.c.run_id, ALIGNMENTS.c.node, *_ALIGNMENT).where(ALIGNMENTS.c.run_id.in_(run_ids))
    found: dict[str, dict[str, list[Sequence[Any]]]] = {}
    for run_id, node, *values in connection.execute(statement.order_by(ALIGNMENTS.c.alignment_id)):
        found.setdefault(run_id, {}).setdefault(node, []).append(values)
    return found


def row_of(proof: AuditProof) -> ProofRow:
    """Return the row that a history keeps of a proof."""
    values = proof_values(proof)
    return _row([values[column.name] for column in _COLUMNS])


def _row(values: Sequence[Any]) -> ProofRow:
    told, (summary, scope) = values[:9], values[9:]
    node, verdict, whole, *rest = told
    return ProofRow(
        told=(node, verdict, bool(whole), *rest),
        outcome_summary=summary,
        scope_digest=scope,
    )
