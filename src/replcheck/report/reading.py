"""Reads the JSON document of an audit back into the result it was made from: the counterpart of `document`.

A stored document is judged before it is believed: one of another version, or whose verdict is not the one that its own
content leads to, is refused.
"""

import re
from collections.abc import Mapping

from replcheck.model.audit import AuditResult
from replcheck.model.outcome import Verdict
from replcheck.model.shape import from_plain
from replcheck.report.document import SCHEMA
from replcheck.report.verdict import outcome_of, verdict_of

_RANGE = re.compile(r"\((\d+),(\d+)\)(?:\.\.\((\d+),(\d+)\))?", re.ASCII)
_Object = dict[str, object]


def audit_result(document: object) -> AuditResult:
    """Return the result of which `document` is the JSON; raise ValueError with the reason where it is none.

    A run that was stopped comes back with the verdict that its report had.
    """
    if not isinstance(document, Mapping):
        raise ValueError("it is no object")  # noqa: TRY004 - of the data, not of an argument
    schema = document.get("schema")
    if schema != SCHEMA:
        raise ValueError(f"it has the schema {schema}, and this replcheck reads {SCHEMA}")
    result = from_plain(AuditResult, _as_made(dict(document)))
    told = tuple(document.get(key) for key in ("verdict", "outcome", "exit_code"))
    outcome = outcome_of(result)
    if told != (verdict_of(result).value, outcome.value, int(outcome.exit_status)) or _belies(result):
        raise ValueError("its verdict is not the one of its content")
    return result


def _belies(result: AuditResult) -> bool:
    if result.verdict is not Verdict.CONSISTENT:
        return False
    verdicts = {part.verdict for part in result.replicas} | {part.verdict for part in result.relations}
    return bool(result.divergences) or verdicts != {Verdict.CONSISTENT}


def _as_made(document: _Object) -> _Object:
    """Return the document in the shape of AuditResult, its parts unchecked."""
    document["replicas"] = [replica | {"node": replica} for replica in _objects(document, "replicas")]
    document["relations"] = [relation | {"name": relation.get("table")} for relation in _objects(document, "relations")]
    document["divergences"] = [
        found | {"ranges": [_ctid_range(text) for text in _list(found, "ctid_ranges")]}
        for found in _objects(document, "divergences")
    ]
    return document


def _ctid_range(text: object) -> Mapping[str, int]:
    match = _RANGE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a range of tuple positions cannot be read")
    first_block, first_offset, last_block, last_offset = match.groups()
    return {
        "first_block": int(first_block),
        "first_offset": int(first_offset),
        "last_block": int(last_block or first_block),
        "last_offset": int(last_offset or first_offset),
    }


def _objects(holder: _Object, key: str) -> list[_Object]:
    items = _list(holder, key)
    if not all(isinstance(item, dict) for item in items):
        raise ValueError(f"{key} holds what is no object")
    return items  # type: ignore[return-value] # checked above


def _list(holder: _Object, key: str) -> list[object]:
    items = holder.get(key)
    if not isinstance(items, list):
        raise ValueError(f"{key} is no array")  # noqa: TRY004 - of the data, not of an argument
    return items
