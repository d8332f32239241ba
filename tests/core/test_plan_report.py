"""The plan of an audit for people and machines: agreed words, nothing lost, the published schema."""

import io
import json
import os
from datetime import timedelta, timezone
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from replcheck.model.plan import Estimate, Rate
from replcheck.report.plan import print_estimate, print_plan
from replcheck.report.plan_document import plan_document, plan_json, plan_schema
from replcheck.report.style import Style
from tests import factories

DATA = Path(__file__).parents[1] / "data"
INDIA = Style(zone=timezone(timedelta(hours=5, minutes=30)))
MEASURED = Rate(bytes_per_s=45e6, run_id="0195-run", measured_at=factories.BEGUN)
PLANS = {
    "assumed": factories.audit_plan(),
    "measured": factories.audit_plan(
        estimate=Estimate(seconds=1200.0, rate=MEASURED), not_checked=(), databases=factories.audit_plan().databases[1:]
    ),
    "nothing": factories.audit_plan(databases=(), estimate=Estimate(seconds=0.0, rate=Rate(bytes_per_s=1e8))),
}


def rendered(plan, *, draw=print_plan, width=80, style=INDIA, **options):
    page = io.StringIO()
    draw(plan, Console(file=page, width=width, highlight=False, no_color=True), style, **options)
    return "".join(f"{line.rstrip()}\n" for line in page.getvalue().splitlines())


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", ["assumed", "measured"])
def test_the_plan_for_people_is_the_agreed_one(name):
    golden = DATA / f"plan-{name}.txt"
    text = rendered(PLANS[name])
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_the_largest_relations_are_shown_and_the_others_summed_up():
    text = rendered(PLANS["assumed"])
    assert "public.visit " in text
    assert "small_07" in text
    assert "small_08" not in text
    rest = sum(relation.size_bytes for relation in PLANS["assumed"].databases[0].relations[10:])
    assert f"and 4 more - {rest // 1024}kB 4" in words(text)


def test_verbose_shows_every_relation_sequence_and_what_is_left_out_by_design():
    text = rendered(PLANS["assumed"], verbose=True)
    for name in ("small_11", "public.visit_id_seq", "public.cache_3"):
        assert name in text
        assert name not in rendered(PLANS["assumed"])


def test_what_would_stay_unchecked_is_named_with_the_sql_that_helps():
    text = rendered(PLANS["assumed"])
    assert "row-level security hides rows from this role (1): clinic.public.secret_notes" in words(text)
    assert "  ALTER ROLE replcheck BYPASSRLS;\n" in text


def test_an_assumed_rate_is_called_one_and_a_measured_one_names_its_run():
    assert "at least 4min 22s" in words(rendered(PLANS["assumed"], draw=print_estimate))
    assert "This rate is assumed" in words(rendered(PLANS["assumed"], draw=print_estimate))
    measured = words(rendered(PLANS["measured"], draw=print_estimate))
    assert "about 20min, if it goes as quickly as run 0195-run" in measured
    assert "assumed" not in measured


@pytest.mark.parametrize("name", PLANS)
def test_nothing_but_statements_is_wider_than_the_terminal(name):
    assert all(len(line) <= 80 for line in rendered(PLANS[name], verbose=True).splitlines())


@pytest.mark.parametrize("name", PLANS)
def test_plain_ascii_is_plain_ascii(name):
    assert rendered(PLANS[name], style=Style(ascii_only=True), verbose=True).isascii()


def test_no_name_steers_the_terminal():
    evil = factories.planned_relation("a\x1b[2J", 10)
    database = factories.audit_plan().databases[0]
    plan = factories.audit_plan(
        databases=(type(database)(name="b\x1b[2J", relations=(evil,), sequences=("c\x1b[2J",)),)
    )
    text = rendered(plan, verbose=True)
    assert "\x1b" not in text
    assert text.count(r"\x1b[2J") == 3


@pytest.mark.parametrize("name", PLANS)
def test_the_document_follows_the_published_schema(name):
    schema = plan_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    document = plan_document(PLANS[name])
    jsonschema.validate(document, schema)
    assert document == json.loads(plan_json(PLANS[name]))


def test_the_schema_refuses_what_it_does_not_know():
    document = plan_document(PLANS["assumed"])
    for changed in ({"extra": 1}, {"exit_code": 1}, {"schema": "replcheck/plan/2"}, {"primary": None}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document | changed, plan_schema())
    for key in document:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({other: document[other] for other in document if other != key}, plan_schema())


def test_the_document_says_what_the_plan_says():
    document = json.loads(plan_json(PLANS["assumed"]))
    assert (document["schema"], document["kind"], document["exit_code"]) == ("replcheck/plan/1", "plan", 0)
    assert document["size_bytes"] == PLANS["assumed"].size_bytes
    assert document["estimate"] == {
        "seconds": 262.4,
        "bytes_per_s": 1e8,
        "assumed": True,
        "run_id": None,
        "measured_at": None,
    }
    [clinic, _] = document["databases"]
    assert clinic["relations"][1]["name"] == 'public."Patient"'
    assert clinic["relations"][1]["table"] == "Patient"
    assert clinic["relations"][0]["reading"] == "ranges"
    assert document["primary"]["connections_needed"] == 3
