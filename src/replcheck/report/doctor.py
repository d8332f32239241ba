"""A doctor's examination for machines and in one sentence: described by schemas/doctor.schema.json.

Keys are only ever added; one that changes its meaning gets another `schema`.
"""

import json
from collections import Counter
from importlib import resources
from typing import Any

from replcheck.model.doctor import AuditCost, Check, CheckState, DoctorResult
from replcheck.model.outcome import ExitStatus
from replcheck.model.plain import Plain, to_plain
from replcheck.report.verdict import counted, joined

SCHEMA = "replcheck/doctor/1"


def doctor_document(result: DoctorResult) -> dict[str, Plain]:
    """Return the whole examination as JSON has it."""
    return {
        "schema": SCHEMA,
        "kind": "doctor",
        "ready": result.exit_status is ExitStatus.PROVEN,
        "exit_code": int(result.exit_status),
        "summary": sentence(result),
        "started_at": to_plain(result.started_at),
        "finished_at": to_plain(result.finished_at),
        "tool_version": result.tool_version,
        "cluster": result.cluster,
        "scope": {**_object(result.scope), "whole": result.scope.whole},
        "jobs": result.jobs,
        "connections_needed": result.connections_needed,
        "nodes": [_object(node) for node in result.nodes],
        "together": to_plain(result.together),
        "cost": _cost(result.cost) if result.cost else None,
        "audit_command": result.command,
    }


def doctor_json(result: DoctorResult) -> str:
    """Return the document as text, in ASCII, with a line break at its end."""
    return json.dumps(doctor_document(result), indent=2) + "\n"


def doctor_schema() -> dict[str, Any]:
    """Return the JSON schema of the document."""
    text = resources.files("replcheck.report").joinpath("schemas/doctor.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def sentence(result: DoctorResult) -> str:
    """Return the outcome in one sentence."""
    counts = Counter(state for state, *_ in {thing(check) for check in result.checks})
    names = joined([node.name for node in result.nodes])
    more = [counted(counts[CheckState.WARNING], "warning")] if counts[CheckState.WARNING] else []
    if counts[CheckState.UNKNOWN]:
        more.append(f"{counted(counts[CheckState.UNKNOWN], 'thing')} the role may not see")
    rest = f"; {joined(more)}" if more else ""
    missing = [check for check in result.checks if check.state is CheckState.MISSING]
    if not missing:
        return f"an audit can prove {names}: nothing it needs is missing{rest}."
    where = list(dict.fromkeys(check.node for check in missing if check.node is not None))
    on = f" on {joined(where)}" if where else ""
    count = counts[CheckState.MISSING]
    things = "thing that it needs is" if count == 1 else "things that it needs are"
    return f"an audit would end unproven: {count:,} {things} missing{on}{rest}."


def thing(check: Check) -> tuple[object, ...]:
    """Return what makes checks one thing to read and to mend, seen on several nodes or in several databases.

    What the same statement mends is one thing to do, whatever it is that it mends.
    """
    return (check.state, check.sql) if check.sql else (check.state, check.code, check.remedy)


def _cost(cost: AuditCost) -> dict[str, Plain]:
    sums: dict[str, Plain] = {
        "relations": cost.relations,
        "size_bytes": cost.size_bytes,
        "not_visible_bytes": cost.not_visible_bytes,
    }
    return _object(cost) | sums


def _object(fact: object) -> dict[str, Plain]:
    plain = to_plain(fact)
    if not isinstance(plain, dict):
        raise TypeError(f"{type(fact).__name__} is no object")
    return plain
