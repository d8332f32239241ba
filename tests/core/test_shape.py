"""Plain JSON read back: every fact comes back as it was, and what is no fact is refused by its path."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replcheck import events
from replcheck.events import Event
from replcheck.model.audit import AuditResult, CtidRange, NotChecked
from replcheck.model.node import NodeRole
from replcheck.model.outcome import Verdict
from replcheck.model.plain import to_plain
from replcheck.model.shape import from_plain, json_schema
from replcheck.model.wal import Lsn
from replcheck.report.document import audit_document
from replcheck.report.published import events_schema
from replcheck.report.reading import audit_result
from replcheck.runs.sinks import event_document

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENTS = st.integers(0, 2**42).map(lambda milliseconds: _EPOCH + timedelta(milliseconds=milliseconds))
_LSNS = st.integers(0, 2**64 - 1).map(Lsn)
# What the facts are made of, as to_plain writes it without a loss.
st.register_type_strategy(datetime, _MOMENTS)
st.register_type_strategy(Lsn, _LSNS)
st.register_type_strategy(float, st.floats(0, 1e9))
st.register_type_strategy(int, st.integers(-(2**63), 2**63))
_BLOCKS = st.integers(0, 2**32)
st.register_type_strategy(
    CtidRange, st.builds(CtidRange, first_block=_BLOCKS, first_offset=_BLOCKS, last_block=_BLOCKS, last_offset=_BLOCKS)
)
_RESULTS = st.builds(AuditResult, stopped=st.just(""))
_EVENTS = jsonschema.Draft202012Validator(events_schema())
_KINDS = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)][1:]


@settings(max_examples=8)  # a result is large
@given(_RESULTS)
def test_every_result_comes_back_from_its_plain_form(result):
    assert from_plain(AuditResult, json.loads(json.dumps(to_plain(result)))) == result


@settings(max_examples=8)
@given(_RESULTS.filter(lambda result: result.verdict is not Verdict.CONSISTENT))
def test_every_result_comes_back_from_its_report(result):
    assert audit_result(json.loads(json.dumps(audit_document(result)))) == result


@given(st.sampled_from(_KINDS).flatmap(st.from_type))
def test_every_event_follows_the_published_schema(event):
    _EVENTS.validate(json.loads(json.dumps(event_document(event))))


@pytest.mark.parametrize("kind", _KINDS)
def test_every_event_has_its_place_in_the_schema(kind):
    titles = [choice["title"] for choice in events_schema()["oneOf"]]
    assert titles.count(kind.__name__) == 1


def test_the_schema_of_events_refuses_what_is_none():
    line = event_document(events.Waited(at=datetime(2026, 3, 1, tzinfo=UTC), node=None, reason="", elapsed_s=1.0))
    _EVENTS.validate(line)
    for damage in ({"event": "waited_long"}, {"elapsed_s": "1"}, {"more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            _EVENTS.validate(line | damage)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int, True, "the whole is no integer"),
        (int, 1.0, "the whole is no integer"),
        (float, "1", "the whole is no number"),
        (float, float("nan"), "the whole is out of range"),
        (float, 1e308, "the whole is out of range"),
        (float, 10**400, "the whole is out of range"),
        (int, 2**64, "the whole is out of range"),
        (datetime, "0001-01-01T00:00:00+00:00", "the whole is no datetime"),
        (str, None, "the whole is no string"),
        (Lsn, "0/zz", "the whole is no Lsn"),
        (Lsn, 5, "the whole is no Lsn"),
        (datetime, "2026-03-01T00:00:00", "the whole is no datetime"),
        (datetime, "yesterday", "the whole is no datetime"),
        (NodeRole, "boss", "the whole is no NodeRole"),
        (tuple[int, ...], {"0": 1}, "the whole is no array"),
        (tuple[CtidRange, ...], [1], "0 is no object"),
        (tuple[CtidRange, ...], [{"first_block": 1}], "0.first_offset is missing"),
        (tuple[int, int], [1, 2, 3], "the whole has 3 items, not 2"),
        (Mapping[str, str], [], "the whole is no object"),
        (Mapping[str, str], {"db1": 1}, "db1 is no string"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_path(kind, value, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        from_plain(kind, value)


def test_a_key_with_a_default_may_be_missing_and_an_unknown_one_is_passed_over():
    plain = {"database": None, "relation": None, "node": None, "code": "c", "reason": "r", "by_design": True, "new": 1}
    assert from_plain(NotChecked, plain).hint == ""


def test_whole_numbers_are_numbers():
    assert from_plain(float, 3) == 3.0


def test_a_schema_of_alternatives_names_them_all():
    assert json_schema(int | None, {}) == {"type": ["integer", "null"]}
    definitions: dict = {}
    assert json_schema(NodeRole | None, definitions) == {"anyOf": [{"$ref": "#/$defs/NodeRole"}, {"type": "null"}]}
    assert definitions == {"NodeRole": {"enum": ["primary", "standby"]}}


def test_mappings_and_pairs_are_read_and_described():
    kind: Any = Mapping[str, tuple[int, int]]
    assert from_plain(kind, {"a": [1, 2]}) == {"a": (1, 2)}
    pair = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
    assert json_schema(kind, {}) == {"type": "object", "additionalProperties": pair}
