"""Reports of checks: one result in every format, each read back by a parser of its own, and none that hides a word."""

import io
import json
import os
import re
from dataclasses import replace
from datetime import date, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import parser as older_format
from prometheus_client.openmetrics import parser as openmetrics
from rich.console import Console

from replcheck.check.evaluate import evaluate
from replcheck.check.facts import Facts
from replcheck.config.model import Waiver
from replcheck.model.control import CheckResult, ControlName, DueRun, Standing
from replcheck.model.drill import DrillVerdict
from replcheck.model.live import NodeState
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.shape import properties_schema
from replcheck.report.check_document import check_document, check_json, check_result
from replcheck.report.check_human import print_check
from replcheck.report.check_words import check_sentence, check_verdict
from replcheck.report.junit import junit_text
from replcheck.report.metrics import metrics_text
from replcheck.report.plugin import plugin_error, plugin_line
from replcheck.report.published import schema_text
from replcheck.report.style import Style
from tests.core.checks import DAY, HEAD, HOUR, NOW, ago, drill, facts, node, policy, proof, switched_over, view
from tests.core.junits import read_junit

DATA = Path(__file__).parents[1] / "data"
INDIA = Style(zone=timezone(timedelta(hours=5, minutes=30)))
SCHEMA = json.loads(schema_text("check"))
BOOKED = Waiver(reason="the first exercise is booked", by="head of operations", until=date(2027, 1, 31))


def result(known: Facts, asked: Any = None, waivers: dict[str, Waiver] | None = None, **changes: Any) -> CheckResult:
    held: dict[str, Any] = {
        "run_id": "019535d9-3df7-79fb-b466-fa907fa17f9e",
        "cluster": "clinic",
        "started_at": ago(0.75),
        "finished_at": NOW,
        "tool_version": "0.1.0",
        "controls": evaluate(asked or policy(), known, waivers),
        "view": known.view,
        "evidence_head": HEAD.sha256 if known.evidence else "",
    }
    return CheckResult(**held | changes)


BROKEN = facts(
    view=view(node("db3", NodeState.LOST, since=ago(60), reason="nothing answers"), node("db2", host="")),
    proofs=(proof("db2", 19 * HOUR), proof("db3", HOUR)),
    drills=(drill(2 * DAY), drill(DAY, DrillVerdict.FAILED)),
    events=(),
    evidence=None,
)
RESULTS = {
    "met": result(facts()),
    "breached": result(
        BROKEN,
        waivers={"failover": BOOKED},
        due=(
            DueRun(kind="audit", reason="the proof of db2 is 19h old", run_id="r1", outcome=Outcome.REFUTED),
            DueRun(kind="drill", subject="nightly", reason="the time budget has ended"),
        ),
        notes=("this check is not recorded: the disk is full",),
    ),
    "part": result(
        facts(evidence=None), policy(copies=None, evidence=None, failover=None, replacement=None, integrity=None)
    ),
    "blind": result(Facts(now=NOW, nodes=facts().nodes, history_problem="there is no history"), view=None, fresh=False),
}


def drawn(one: CheckResult, *, width: int = 100, verbose: bool = False) -> str:
    page = io.StringIO()
    print_check(one, Console(file=page, width=width, highlight=False, no_color=True), INDIA, verbose=verbose)
    return "".join(f"{line.rstrip()}\n" for line in page.getvalue().splitlines())


FORMATS = {
    "txt": lambda one: drawn(one, verbose=True),
    "brief.txt": drawn,
    "plugin.txt": plugin_line,
    "prom": metrics_text,
    "xml": junit_text,
    "json": check_json,
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", RESULTS)
def test_every_format_is_the_agreed_one(name, suffix):
    golden = DATA / f"check-{name}.{suffix}"
    text = FORMATS[suffix](RESULTS[name])
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("met", "all that is asked of clinic is met: 9 controls."),
        ("part", "all that is asked of clinic is met: 4 controls."),
    ],
)
def test_the_sentence_tells_how_many_controls_are_met(name, sentence):
    assert check_sentence(RESULTS[name]) == sentence


def test_the_sentence_names_what_is_not_met_the_worst_first():
    told = check_sentence(RESULTS["breached"])
    assert told.startswith("copies and restore are breached; ")
    assert "failover is waived" in told
    assert check_verdict(RESULTS["breached"]) is Standing.BREACHED


@pytest.mark.parametrize("name", RESULTS)
def test_the_document_follows_its_schema_and_is_read_back(name):
    one = RESULTS[name]
    document = json.loads(check_json(one))
    jsonschema.validate(document, SCHEMA, format_checker=jsonschema.FormatChecker())
    assert document == json.loads(json.dumps(check_document(one))) | {"evidence": None}
    assert check_result(document) == one


def test_a_document_whose_verdict_is_not_the_one_of_its_content_is_refused():
    document = json.loads(check_json(RESULTS["breached"])) | {"outcome": "proven", "exit_code": 0}
    with pytest.raises(ValueError, match="not the one of its content"):
        check_result(document)
    with pytest.raises(ValueError, match="schema replcheck/check/9"):
        check_result(document | {"schema": "replcheck/check/9"})
    with pytest.raises(ValueError, match="no object"):
        check_result([])


def test_the_schema_describes_every_key():
    definitions: dict[str, Any] = {}
    keys = properties_schema(CheckResult, definitions)
    assert keys.keys() <= SCHEMA["properties"].keys()
    assert SCHEMA["properties"].keys() - keys.keys() == {
        "schema",
        "kind",
        "outcome",
        "verdict",
        "exit_code",
        "summary",
        "evidence",
    }
    for name, definition in definitions.items():
        assert definition.get("properties", {}).keys() - SCHEMA["$defs"][name].get("properties", {}).keys() == set()


# --- the plugin's line, as monitoring systems take it apart

ITEM = re.compile(
    r"(?P<label>'[^'=]+'|[^\s'=]+)=(?P<value>U|-?\d+(?:\.\d+)?)(?P<unit>s|B|%)?"
    r";(?P<warn>\d+(?:\.\d+)?:?)?;(?P<limit>\d+(?:\.\d+)?:?)?;0(?:;100)?"
)
STATES = {"OK": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}


def taken_apart(line: str) -> tuple[int, str, dict[str, re.Match[str]]]:
    """Return the state, text and performance data of a plugin's line; fail where a monitoring system would."""
    assert line.count("\n") == 1
    text, bar, performance = line.rstrip("\n").partition(" | ")
    state, told = re.fullmatch(r"REPLCHECK (\w+) - (.+)", text).groups()  # type: ignore[union-attr]
    assert "|" not in told + performance
    items = [ITEM.fullmatch(item) for item in performance.split(" ")] if bar else []
    assert all(items), line
    found = {item["label"]: item for item in items if item}
    assert len(found) == len(items)
    return STATES[state], told, found


@pytest.mark.parametrize("name", RESULTS)
def test_the_plugins_line_has_the_state_of_the_exit_status_and_performance_data(name):
    one = RESULTS[name]
    state, told, items = taken_apart(plugin_line(one))
    assert state == int(one.outcome.exit_status)
    assert told.startswith(check_sentence(one).rstrip("."))
    assert len(items) == sum(len(control.measures) for control in one.controls)


def test_limits_are_ranges_that_alert_on_the_bad_side():
    _, _, items = taken_apart(plugin_line(RESULTS["met"]))
    assert items["copies_running"].group("value", "warn", "limit") == ("3", None, "3:")
    assert items["consistency_proof_age_db2"].group("value", "unit", "warn", "limit") == ("3600", "s", "64800", "86400")
    _, _, items = taken_apart(plugin_line(RESULTS["blind"]))
    assert items["copies_running"]["value"] == "U"


def test_a_bar_or_a_line_break_in_a_text_does_not_end_the_plugins_text():
    one = RESULTS["breached"]
    spoilt = replace(one.controls[0], problems=("a|b\nc\x1b[2J" + "x" * 5000,))
    line = plugin_line(replace(one, controls=(spoilt, *one.controls[1:])))
    assert len(taken_apart(line)[1]) < 1100
    assert taken_apart(plugin_error("no\nhistory | none"))[:2] == (3, "no history / none")


# --- metrics, read by the parsers of prometheus-client


def samples(text: str, parse: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in parse(text):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            assert sample.labels["cluster"] == "clinic"
            found[key] = sample.value
    return found


@pytest.mark.parametrize("name", RESULTS)
def test_metrics_are_read_alike_by_parsers_of_both_formats(name):
    text = metrics_text(RESULTS[name])
    assert text.endswith("# EOF\n")
    new = samples(text, openmetrics.text_string_to_metric_families)
    assert new == samples(text, older_format.text_string_to_metric_families)
    assert new["replcheck_check_status", frozenset({("cluster", "clinic")})] == RESULTS[name].outcome.exit_status
    assert new["replcheck_check_time_seconds", frozenset({("cluster", "clinic")})] == NOW.timestamp()
    for control in RESULTS[name].controls:
        labels = {("cluster", "clinic"), ("control", control.name.value)}
        status = new.get(("replcheck_control_status", frozenset(labels)))
        assert status == (None if control.outcome is None else control.outcome.exit_status)
        stands = {
            one
            for one in Standing
            if new["replcheck_control_standing", frozenset(labels | {("standing", one.value)})] == 1
        }
        assert stands == {control.standing}
        for measure in control.measures:
            unit = {"count": "", "percent": "_ratio"}.get(measure.unit.value, f"_{measure.unit.value}")
            own = frozenset(labels | {("measure", measure.name), ("subject", measure.subject)})
            scale = 100 if measure.unit.value == "percent" else 1
            for word, value in (("measure", measure.value), ("limit", measure.limit), ("warning", measure.warn)):
                told = new.get((f"replcheck_control_{word}{unit}", own))
                assert told == (None if value is None else pytest.approx(value / scale))


# --- JUnit, by what build servers require of it

CASE_CHILDREN = ("failure", "error", "skipped", "system-out")


@pytest.mark.parametrize("name", RESULTS)
def test_junit_is_what_build_servers_read(name):
    one = RESULTS[name]
    root = read_junit(junit_text(one))
    [suite] = root
    cases = suite.findall("testcase")
    assert suite.get("timestamp") == "2026-11-01T11:59:59.250Z"
    assert float(suite.attrib["time"]) == 0.75
    assert len(cases) == len(ControlName)
    assert [child.tag for child in suite] == ["properties", *["testcase"] * len(cases)]
    for case, control in zip(cases, one.controls, strict=True):
        assert set(case.attrib) == {"name", "classname", "time"}
        assert [child.tag for child in case] == sorted((child.tag for child in case), key=CASE_CHILDREN.index)
        passed = all(case.find(tag) is None for tag in ("failure", "error", "skipped"))
        assert passed is (control.standing is Standing.MET)
        if control.standing in {Standing.BREACHED, Standing.AT_RISK}:
            assert case.find("failure").get("type") == control.standing.value  # type: ignore[union-attr]


@settings(max_examples=40)
@given(st.text(max_size=40))
def test_no_text_breaks_a_format(text):
    asked = policy(copies={"claim": text, "running": 3, "proven": 2}, evidence={"claim": text})
    one = result(replace(BROKEN, evidence_problem=text or "none"), asked, cluster="clinic")
    read_junit(junit_text(one))
    taken_apart(plugin_line(one))
    samples(metrics_text(one), openmetrics.text_string_to_metric_families)
    assert check_result(json.loads(check_json(one))) == one
    for verbose in (False, True):
        assert "\x1b" not in drawn(one, verbose=verbose)


# --- for people


def test_without_verbose_only_what_is_not_met_is_shown():
    text = drawn(RESULTS["breached"])
    assert "integrity:" not in text
    assert "copies: Two copies at any moment" in text
    assert text.splitlines()[-1].endswith("of clinic met.") or "of clinic met." in text
    assert drawn(RESULTS["met"]) == "✔ MET: all that is asked of clinic is met: 9 controls.\n"


def test_a_waived_control_shows_what_it_would_be_and_who_decided():
    text = drawn(RESULTS["breached"], verbose=True)
    assert "~ waived" in text
    assert "until 2027-01-31, by head of operations: the first exercise is booked" in text


def test_every_control_says_what_it_does_not_prove():
    text = drawn(RESULTS["met"], verbose=True, width=200)
    for control in RESULTS["met"].controls:
        for sentence in control.not_proven:
            assert f"not proven  {sentence}" in text


@pytest.mark.parametrize(
    ("verdict", "waivers", "outcome"),
    [
        (Verdict.CONSISTENT, {}, Outcome.REFUTED),
        (Verdict.CONSISTENT, {"failover": BOOKED}, Outcome.PARTIAL),
        (Verdict.DIVERGED, {"failover": BOOKED}, Outcome.REFUTED),
    ],
)
def test_the_exit_status_is_the_worst_of_what_was_asked(verdict, waivers, outcome):
    known = facts(proofs=(proof("db2", HOUR, verdict), proof("db3", HOUR)), events=switched_over(DAY, seconds=70))
    one = result(known, policy(copies=None, replacement=None), waivers)
    assert one.outcome is outcome
    assert {control.name.value for control in one.controls if control.standing is Standing.WAIVED} == set(waivers)


def test_the_plugins_line_tells_how_old_the_look_is_that_it_rests_on():
    one = RESULTS["breached"]
    assert one.view is not None
    old = replace(one, fresh=False, finished_at=one.view.at + timedelta(minutes=5))
    assert "met (nodes seen 5min ago): " in plugin_line(old)
    assert "nodes seen" not in plugin_line(one)
