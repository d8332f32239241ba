"""Keeps what an audit said of each replica and each relation, and its alignments, in the transaction of its end."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert

from replcheck.model.audit import AuditResult
from replcheck.model.copies import AuditProof
from replcheck.model.names import qualified
from replcheck.model.plain import utc_text
from replcheck.store.live_rows import proof_values
from replcheck.store.live_tables import ALIGNMENTS, AUDIT_NODES, RELATION_VERDICTS


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditParts:
    """What is kept of an audit beside its record and its result."""

    result: AuditResult
    proofs: tuple[AuditProof, ...]


def write_parts(connection: Connection, run_id: str, parts: AuditParts) -> None:
    """Write those of a run; each table is written with one statement, however many relations there are."""
    rows = {
        AUDIT_NODES: [proof_values(proof) | {"run_id": run_id} for proof in parts.proofs],
        RELATION_VERDICTS: [values | {"run_id": run_id} for values in _verdicts(parts.result)],
        ALIGNMENTS: [values | {"run_id": run_id} for values in _alignments(parts.result)],
    }
    for table, values in rows.items():
        if values:
            connection.execute(insert(table), values)


def _verdicts(result: AuditResult) -> Iterator[dict[str, Any]]:
    for relation in result.relations:
        for replica in relation.replicas:
            yield {
                "database": relation.database,
                "relation": qualified(relation.schema, relation.name),
                "node": replica.node,
                "verdict": replica.verdict.value,
                "rows": relation.rows,
                "rows_differing": replica.rows_differing,
                "rows_in_flight": replica.rows_in_flight,
                "proven_since": utc_text(relation.proven_since) if relation.proven_since else None,
            }


def _alignments(result: AuditResult) -> Iterator[dict[str, Any]]:
    for replica in result.replicas:
        for alignment in replica.alignments:
            yield {
                "node": replica.node.name,
                "lane": alignment.lane,
                "database": alignment.database,
                "taken_at": utc_text(alignment.taken_at),
                "lsn": str(alignment.lsn),
                "attempts": alignment.attempts,
                "elapsed_s": alignment.elapsed_s,
                "unsettled": alignment.unsettled,
                "chunks": alignment.chunks,
            }
