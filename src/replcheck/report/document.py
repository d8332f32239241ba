"""An audit as one JSON document: the contract that machines read, described by schemas/audit.schema.json.

Keys are only ever added; one that changes its meaning gets another `schema`.
"""

import json
from importlib import resources
from typing import Any

from replcheck.model.audit import AlignmentReport, AuditResult, Divergence, RelationReport, ReplicaReport
from replcheck.model.evidence import EvidenceHead
from replcheck.model.names import qualified
from replcheck.model.plain import Plain, plain_object, to_plain
from replcheck.report.evidence_document import with_evidence
from replcheck.report.verdict import outcome_of, sentence, verdict_of

SCHEMA = "replcheck/audit/1"


def audit_document(result: AuditResult) -> dict[str, Plain]:
    """Return the whole result as JSON has it."""
    outcome = outcome_of(result)
    return {
        "schema": SCHEMA,
        "kind": "audit",
        "run_id": result.run_id,
        "outcome": outcome.value,
        "verdict": verdict_of(result).value,
        "exit_code": int(outcome.exit_status),
        "summary": sentence(result),
        "started_at": to_plain(result.started_at),
        "finished_at": to_plain(result.finished_at),
        "tool_version": result.tool_version,
        "encoding": result.encoding,
        "level": result.level,
        "cluster": result.cluster,
        "scope": plain_object(result.scope) | {"whole": result.scope.whole},
        "stopped": result.stopped,
        "stop_code": result.stop_code.value if result.stop_code else None,
        "resumed": to_plain(result.resumed),
        "held_s": result.held_s,
        "cross_check": to_plain(result.cross_check),
        "rows": result.rows,
        "size_bytes": result.size_bytes,
        "primary": to_plain(result.primary),
        "replicas": [_replica(replica) for replica in result.replicas],
        "odd_node": result.odd_node,
        "relations": [_relation(relation) for relation in result.relations],
        "indexes": to_plain(result.indexes),
        "divergences": [_divergence(divergence) for divergence in result.divergences],
        "findings": to_plain(result.findings),
        "not_checked": to_plain(result.not_checked),
    }


def audit_json(result: AuditResult, evidence: EvidenceHead | None = None) -> str:
    """Return the document as text, with the record of the run; in ASCII, with a line break at its end."""
    return json.dumps(with_evidence(audit_document(result), evidence), indent=2) + "\n"


def audit_schema() -> dict[str, Any]:
    """Return the JSON schema of the document."""
    text = resources.files("replcheck.report").joinpath("schemas/audit.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _replica(replica: ReplicaReport) -> dict[str, Plain]:
    return plain_object(replica.node) | {
        "verdict": replica.verdict.value,
        "reason": replica.reason,
        "alignments": [_alignment(alignment) for alignment in replica.alignments],
    }


def _alignment(alignment: AlignmentReport) -> dict[str, Plain]:
    return plain_object(alignment) | {"exact": alignment.exact}


def _relation(relation: RelationReport) -> dict[str, Plain]:
    return plain_object(relation) | {"name": qualified(relation.schema, relation.name), "table": relation.name}


def _divergence(divergence: Divergence) -> dict[str, Plain]:
    plain = plain_object(divergence)
    del plain["ranges"]
    return plain | {"ctid_ranges": [str(found) for found in divergence.ranges]}
