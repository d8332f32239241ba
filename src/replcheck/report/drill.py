"""A drill as one JSON document, and back: the contract that machines read, described by schemas/drill.schema.json.

Keys are only ever added; one that changes its meaning gets another `schema`. A stored document is judged before it is
believed: one whose verdict is not the one that its own content leads to is refused.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from replcheck.drill.verdict import result_verdict
from replcheck.model.drill import DrillResult, DrillVerdict
from replcheck.model.evidence import EvidenceHead
from replcheck.model.plain import Plain, plain_object
from replcheck.model.shape import from_plain
from replcheck.report.drill_words import all_drills, drill_sentence, drills_sentence
from replcheck.report.evidence_document import with_evidence

SCHEMA = "replcheck/drill/1"
SEVERAL_SCHEMA = "replcheck/drills/1"


def drill_document(result: DrillResult) -> dict[str, Plain]:
    """Return the whole result as JSON has it."""
    outcome = result.verdict.outcome
    return {
        "schema": SCHEMA,
        "kind": "drill",
        "run_id": result.run_id,
        "outcome": outcome.value,
        "verdict": result.verdict.value,
        "exit_code": int(outcome.exit_status),
        "summary": drill_sentence(result),
        **plain_object(result),
        "recovery_time_s": result.recovery_time_s,
    }


def drill_json(result: DrillResult, evidence: EvidenceHead | None = None) -> str:
    """Return the document as text, with the record of the run; in ASCII, with a line break at its end."""
    return json.dumps(with_evidence(drill_document(result), evidence), indent=2) + "\n"


def drills_json(documents: Sequence[dict[str, Plain]], verdicts: Sequence[DrillVerdict]) -> str:
    """Return the documents of several drills as one, with the outcome of all, also of those without a document."""
    outcome = all_drills(verdicts).outcome
    whole: dict[str, Plain] = {
        "schema": SEVERAL_SCHEMA,
        "kind": "drills",
        "outcome": outcome.value,
        "verdict": all_drills(verdicts).value,
        "exit_code": int(outcome.exit_status),
        "summary": drills_sentence(verdicts),
        "drills": list(documents),
    }
    return json.dumps(whole, indent=2) + "\n"


def drill_result(document: object) -> DrillResult:
    """Return the result of which `document` is the JSON; raise ValueError with the reason where it is none."""
    if not isinstance(document, Mapping):
        raise ValueError("it is no object")  # noqa: TRY004 - of the data, not of an argument
    if document.get("schema") != SCHEMA:
        raise ValueError(f"it has the schema {document.get('schema')}, and this replcheck reads {SCHEMA}")
    result = from_plain(DrillResult, document)
    outcome, verdict = result.verdict.outcome, result_verdict(result)
    told = (document.get("outcome"), document.get("exit_code"))
    if told != (outcome.value, int(outcome.exit_status)) or not _means(result.verdict, verdict):
        raise ValueError("its verdict is not the one of its content")
    return replace(result, verdict=verdict)


def _means(told: DrillVerdict, found: DrillVerdict) -> bool:
    """Return whether a stored verdict is the one that its content leads to, in the words of its version."""
    # Where rows were compared and not all was proven, older versions said so of the rows.
    return told is found or (told, found) == (DrillVerdict.UNCOMPARED, DrillVerdict.UNPROVEN)
