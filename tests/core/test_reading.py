"""Stored reports: rendered again they read the same, and what is damaged or of another version is refused."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from replcheck.model.outcome import Verdict
from replcheck.report.document import audit_document
from replcheck.report.reading import audit_result
from tests import factories
from tests.core.test_report import RESULTS, rendered


def stored(result):
    return json.loads(json.dumps(audit_document(result)))


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("verbose", [False, True])
def test_a_report_reads_the_same_when_it_is_rendered_again(name, verbose):
    result = RESULTS[name]
    assert rendered(audit_result(stored(result)), verbose=verbose) == rendered(result, verbose=verbose)


@pytest.mark.parametrize("name", RESULTS)
def test_a_report_has_the_same_document_when_it_is_written_again(name):
    document = stored(RESULTS[name])
    assert stored(audit_result(document)) == document


def test_a_duration_reads_the_same_although_less_of_the_times_is_stored():
    end = factories.BEGUN + timedelta(microseconds=4_250_900)  # 4.2s in milliseconds, 4.3s in microseconds
    result = factories.consistent(started_at=factories.BEGUN, finished_at=end)
    assert rendered(audit_result(stored(result))) == rendered(result)


def test_what_was_stopped_comes_back_as_its_report_said():
    result = audit_result(stored(factories.consistent(stopped="interrupted")))
    assert result == replace(factories.consistent(stopped="interrupted"), verdict=Verdict.UNCHECKED)


def test_a_key_of_a_newer_version_is_passed_over():
    assert audit_result(stored(factories.diverged()) | {"weather": "fine"}) == factories.diverged()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": "replcheck/audit/2"}, "it has the schema replcheck/audit/2, and this replcheck reads .*/1"),
        ({"schema": None}, "it has the schema None"),
        ({"verdict": "consistent"}, "its verdict is not the one of its content"),
        ({"outcome": "proven"}, "its verdict is not the one of its content"),
        ({"exit_code": 0}, "its verdict is not the one of its content"),
        ({"verdict": "consistent", "outcome": "proven", "exit_code": 0}, "its verdict is not the one of its content"),
        ({"verdict": "fine"}, "verdict is no Verdict"),
        ({"replicas": None}, "replicas is no array"),
        ({"replicas": [1]}, "replicas holds what is no object"),
        ({"relations": [{"table": "visit"}]}, "relations.0.database is missing"),
        ({"divergences": [{"ctid_ranges": ["(1,2)..(3"]}]}, "a range of tuple positions cannot be read"),
        ({"divergences": [{"ctid_ranges": "(1,2)"}]}, "ctid_ranges is no array"),
        ({"rows": "many"}, "rows is no integer"),
        ({"started_at": "2026-03-01T06:30:00"}, "started_at is no datetime"),
    ],
)
def test_a_damaged_report_is_refused_with_its_reason(changes, reason):
    with pytest.raises(ValueError, match=f"^{reason}"):
        audit_result(stored(factories.diverged()) | changes)


@pytest.mark.parametrize("document", [None, [], "text", {}])
def test_what_is_no_report_is_refused(document):
    with pytest.raises(ValueError, match=r"^it (is no object|has the schema None)"):
        audit_result(document)


def test_a_consistent_report_with_a_doubtful_part_is_refused():
    for part in (
        {"divergences": (factories.divergence(),)},
        {"relations": (factories.relation(verdict=Verdict.UNCHECKED),)},
        {"replicas": (factories.replica("db2", Verdict.INCONCLUSIVE),)},
    ):
        with pytest.raises(ValueError, match="its verdict is not the one of its content"):
            audit_result(stored(factories.consistent(**part)))
