"""A check as one JSON document, and back: the contract that machines read, described by schemas/check.schema.json.

Keys are only ever added; one that changes its meaning gets another `schema`.
"""

import json
from collections.abc import Mapping

from replcheck.model.control import CheckResult, ControlResult
from replcheck.model.evidence import EvidenceHead
from replcheck.model.plain import Plain, plain_object, to_plain
from replcheck.model.shape import from_plain
from replcheck.report.check_words import check_sentence, check_verdict

SCHEMA = "replcheck/check/1"


def check_document(result: CheckResult) -> dict[str, Plain]:
    """Return the whole result as JSON has it."""
    outcome = result.outcome
    return {
        "schema": SCHEMA,
        "kind": "check",
        "run_id": result.run_id,
        "outcome": outcome.value,
        "verdict": check_verdict(result).value,
        "exit_code": int(outcome.exit_status),
        "summary": check_sentence(result),
        **plain_object(result),
        "controls": [_control(control) for control in result.controls],
    }


def check_json(result: CheckResult, evidence: EvidenceHead | None = None) -> str:
    """Return the document, with the check's own record, as text, in ASCII, with a line break at its end."""
    return json.dumps(check_document(result) | {"evidence": to_plain(evidence)}, indent=2) + "\n"


def check_result(document: object) -> CheckResult:
    """Return the result of which `document` is the JSON; raise ValueError with the reason where it is none."""
    if not isinstance(document, Mapping):
        raise ValueError("it is no object")  # noqa: TRY004 - of the data, not of an argument
    if document.get("schema") != SCHEMA:
        raise ValueError(f"it has the schema {document.get('schema')}, and this replcheck reads {SCHEMA}")
    result = from_plain(CheckResult, document)
    outcome = result.outcome
    if (document.get("outcome"), document.get("exit_code")) != (outcome.value, int(outcome.exit_status)):
        raise ValueError("its verdict is not the one of its content")
    return result


def _control(control: ControlResult) -> dict[str, Plain]:
    return {**plain_object(control), "outcome": to_plain(control.outcome)}
