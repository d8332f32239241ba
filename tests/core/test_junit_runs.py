"""JUnit XML of past runs: what was not proven never passes, and the counts are those of the cases."""

from dataclasses import replace
from datetime import timedelta
from xml.etree import ElementTree as ET

import pytest

from benchmarks.years import Year, write_year
from replcheck.model.drill import LayerState
from replcheck.model.outcome import Verdict
from replcheck.report.checks_made import ChecksMade
from replcheck.report.junit_runs import audit_junit, drill_junit, period_junit, seal_junit
from replcheck.report.seal import seal_document
from replcheck.report.seal_stored import past_seal
from replcheck.runs.period import PeriodWanted, gather_period
from tests import factories
from tests.core import drills
from tests.core.junits import read_junit
from tests.core.test_papers import AUDITS, SEALED

WEEK = Year(days=9, relations=3)


def passed(root: ET.Element) -> set[str]:
    return {f"{case.get('classname')} {case.get('name')}" for case in root.iter("testcase") if len(case) == 0}


@pytest.mark.parametrize("name", AUDITS)
def test_only_what_an_audit_proved_passes(name):
    result = AUDITS[name]
    root = read_junit(audit_junit(result))
    proven = {
        f"clinic.{replica.node} {relation.database}.public.{factories_name(relation.name)}"
        for relation in result.relations
        for replica in relation.replicas
        if replica.verdict is Verdict.CONSISTENT
    }
    whole = {"audit of clinic verdict"} if name in {"consistent", "filtered"} else set()
    assert passed(root) == proven | whole
    assert len(root) == 1 + len(result.replicas)


def factories_name(name: str) -> str:
    return f'"{name}"' if name != name.lower() else name


def test_a_divergence_fails_and_says_what_differs():
    [failure] = [
        case.find("failure") for case in read_junit(audit_junit(factories.diverged())).iter("testcase")
        if case.get("name") == "clinic.public.visit" and case.get("classname") == "clinic.db3"
    ]  # fmt: skip
    assert failure is not None
    assert failure.get("message") == "missing: 17 rows; 2 rows in flight"


@pytest.mark.parametrize("name", drills.RESULTS)
def test_only_layers_that_passed_pass(name):
    result = drills.RESULTS[name]
    root = read_junit(drill_junit(result))
    layers = {
        f"drill of clinic {result.backup} {one.name.value}" for one in result.layers if one.state is LayerState.PASSED
    }
    verdict = {f"drill of clinic {result.backup} verdict"} if name == "restored" else set()
    assert passed(root) == layers | verdict


def test_a_seal_passes_and_what_it_left_out_is_skipped():
    root = read_junit(seal_junit(past_seal(seal_document(SEALED))))
    assert [case.get("name") for case in root.iter("testcase")] == ["verdict", "clinic.public.cache"]
    assert root[0].get("skipped") == "1"


def test_of_a_period_neither_a_gap_nor_a_control_that_nobody_asked_for_passes(tmp_path):
    write_year(tmp_path / "clinic.db", WEEK)
    wanted = PeriodWanted(since=WEEK.since, until=WEEK.until, cluster=None)
    facts = gather_period(tmp_path / "clinic.db", None, wanted, now=WEEK.until)
    root = read_junit(period_junit(facts))
    assert [suite.get("name") for suite in root] == [
        f"clinic.{name}" for name in ("controls", "record", "audits", "drills")
    ]
    controls, record, audits, _ = root
    assert controls.get("skipped") == "2"
    assert (record.get("failures"), record.get("errors")) == ("1", str(len(facts.watched.gaps)))
    assert (audits.get("failures"), audits.get("errors")) == ("1", "2")


@pytest.mark.parametrize(
    ("checks", "told"),
    [
        (ChecksMade(whole=9, every_s=3600.0, age_s=3600.0), None),
        (ChecksMade(whole=9, failed=1, failed_since=1, every_s=3600.0, age_s=3600.0), "failure: 1 check ended in an"),
        (ChecksMade(whole=9, every_s=3600.0, age_s=86_400.0), "error: In the last 1d of the period the policy was not"),
    ],
)
def test_of_a_period_the_policy_passes_only_where_it_was_checked_up_to_its_end(tmp_path, checks, told):
    write_year(tmp_path / "clinic.db", replace(WEEK, days=2))
    wanted = PeriodWanted(since=WEEK.until - timedelta(days=2), until=WEEK.until, cluster=None)
    facts = replace(gather_period(tmp_path / "clinic.db", None, wanted, now=WEEK.until), checks=checks)
    [case] = [case for case in read_junit(period_junit(facts)).iter("testcase") if case.get("name") == "policy"]
    found = [f"{doubt.tag}: {doubt.get('message')}" for doubt in case]
    assert [text.startswith(told or "") for text in found] == ([True] if told else [])


@pytest.mark.parametrize("name", ["<script>", "a\x00b\x1b", "]]>", "\ud800"])
def test_any_name_makes_well_formed_xml(name):
    result = factories.consistent(relations=(factories.relation(name),), cluster=name)
    read_junit(audit_junit(result))
