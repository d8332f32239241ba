"""A plan as one JSON document: the contract that machines read, described by schemas/plan.schema.json.

Keys are only ever added; one that changes its meaning gets another `schema`.
"""

import json
from importlib import resources
from typing import Any

from replcheck.model.names import qualified
from replcheck.model.plain import Plain, plain_object, to_plain
from replcheck.model.plan import AuditPlan, PlannedDatabase, PlannedNode, PlannedRelation

SCHEMA = "replcheck/plan/1"


def plan_document(plan: AuditPlan) -> dict[str, Plain]:
    """Return the whole plan as JSON has it."""
    rate = plan.estimate.rate
    return {
        "schema": SCHEMA,
        "kind": "plan",
        "exit_code": 0,
        "made_at": to_plain(plan.made_at),
        "tool_version": plan.tool_version,
        "encoding": plan.encoding,
        "level": plan.level,
        "cluster": plan.cluster,
        "scope": plain_object(plan.scope) | {"whole": plan.scope.whole},
        "lanes": plan.lanes,
        "size_bytes": plan.size_bytes,
        "chunks": plan.chunks,
        "primary": _node(plan.primary),
        "replicas": [_node(replica) for replica in plan.replicas],
        "databases": [_database(database) for database in plan.databases],
        "not_checked": to_plain(plan.not_checked),
        "estimate": {
            "seconds": plan.estimate.seconds,
            "bytes_per_s": rate.bytes_per_s,
            "assumed": rate.run_id is None,
            "run_id": rate.run_id,
            "measured_at": to_plain(rate.measured_at),
        },
    }


def plan_json(plan: AuditPlan) -> str:
    """Return the document as text, in ASCII, with a line break at its end."""
    return json.dumps(plan_document(plan), indent=2) + "\n"


def plan_schema() -> dict[str, Any]:
    """Return the JSON schema of the document."""
    text = resources.files("replcheck.report").joinpath("schemas/plan.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _node(planned: PlannedNode) -> dict[str, Plain]:
    plain = plain_object(planned)
    del plain["node"]
    return plain_object(planned.node) | plain


def _database(database: PlannedDatabase) -> dict[str, Plain]:
    return {
        "name": database.name,
        "size_bytes": database.size_bytes,
        "chunks": database.chunks,
        "relations": [_relation(relation) for relation in database.relations],
        "sequences": list(database.sequences),
    }


def _relation(relation: PlannedRelation) -> dict[str, Plain]:
    return plain_object(relation) | {"name": qualified(relation.schema, relation.name), "table": relation.name}
