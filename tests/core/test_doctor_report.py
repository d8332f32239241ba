"""An examination for people and machines: the same outcome, told once, with statements that can be pasted."""

import io
import json
import os
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from replcheck.doctor.facts import Failure
from replcheck.model.audit import RelationKind
from replcheck.model.doctor import CheckState, DoctorResult
from replcheck.model.outcome import ExitStatus
from replcheck.postgres.examination import Amcheck
from replcheck.report.doctor import doctor_document, doctor_json, doctor_schema, sentence
from replcheck.report.doctor_human import print_doctor, print_readiness
from replcheck.report.style import Style
from tests.core.doctors import content, database, diagnosed, exam, privileges, rights, server, sound, spoiled
from tests.core.proofs import relation
from tests.factories import BEGUN, WHOLE

DATA = Path(__file__).parents[1] / "data"
INDIA = Style(zone=timezone(timedelta(hours=5, minutes=30)))
COMMAND = "replcheck audit --primary 'host=db1 user=auditor' --replica 'host=db2 user=auditor'"
HOSTILE = 'we"ird\n\x1b[2J'


def result(*exams, **changes) -> DoctorResult:
    diagnosis = diagnosed(*exams)
    made = DoctorResult(
        cluster="clinic",
        started_at=BEGUN,
        finished_at=BEGUN + timedelta(seconds=0.4),
        tool_version="0.1.0",
        scope=WHOLE,
        jobs=2,
        nodes=diagnosis.nodes,
        together=diagnosis.together,
        cost=diagnosis.cost,
        command=COMMAND,
    )
    return replace(made, **changes)


def poor(*relations, name="db1", standby=False, role="auditor"):
    """Return a node on which the role was granted nothing."""
    held = relations or (relation(16_384, name="visit", readable=False, size_bytes=8 << 20),)
    node = exam(
        name,
        standby=standby,
        rights=rights(role=role, member_of_read_all_data=False, member_of_monitor=False),
        databases=(database(), database("billing", may_connect=False)),
        visited={"clinic": content(*held, amcheck=Amcheck(functions=("public.bt_index_check(regclass)",)))},
    )
    return spoiled(node, privileges=privileges(role=role, reads_all_data=False, monitors=False), timeline=None)


UNSEEN = exam(
    "db3",
    failure=Failure(
        code="unreachable",
        what="does not answer at db3.internal:5432 (connection refused)",
        hint="Check that the server runs and that host, port and firewall let this machine in.",
    ),
    rights=None,
    facts=None,
    server=None,
    databases=(),
    visited={},
)
RESULTS = {
    "ready": result(*sound()),
    "poor": result(poor(), poor(name="db2", standby=True), UNSEEN),
    "warned": result(
        spoiled(exam(), privileges=privileges(superuser=True)),
        exam(
            "db2",
            standby=True,
            settings={"hot_standby_feedback": "off", "max_standby_streaming_delay": "0"},
            server=server(standby=True, transport=replace(server().transport, sslmode="require")),
        ),
    ),
    "unseen": result(UNSEEN),
}


def rendered(found, *, style=INDIA, width=80, **options):
    page = io.StringIO()
    print_doctor(found, Console(file=page, width=width, highlight=False, no_color=True), style, **options)
    return "".join(f"{line.rstrip()}\n" for line in page.getvalue().splitlines())


@pytest.mark.parametrize("name", RESULTS)
def test_the_report_for_people_is_the_agreed_one(name):
    golden = DATA / f"doctor-{name}.txt"
    text = rendered(RESULTS[name])
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_the_last_line_is_the_command_to_type():
    for found in RESULTS.values():
        assert rendered(found).splitlines()[-1].strip() == COMMAND


@pytest.mark.parametrize("name", RESULTS)
def test_nothing_but_what_is_copied_is_wider_than_the_terminal(name):
    copied = (COMMAND, *(statement for check in RESULTS[name].checks for statement in check.sql))
    for line in rendered(RESULTS[name], verbose=True).splitlines():
        assert len(line) <= 80 or line.strip() in copied


def test_what_is_so_on_every_node_is_told_once_with_one_statement():
    text = rendered(result(poor(), poor(name="db2", standby=True)))
    assert text.count("GRANT pg_read_all_data") == 1
    assert "every node, database clinic: role auditor may not read 1 of 1" in text
    assert "database billing: role auditor may not connect" in " ".join(text.split())


def test_what_one_statement_mends_is_one_thing_to_do():
    store = relation(2_613, schema="pg_catalog", name="pg_largeobject", kind=RelationKind.LARGE_OBJECTS, readable=False)
    text = rendered(result(poor(relation(name="visit", readable=False), store)))
    assert text.count("GRANT pg_read_all_data") == 1
    assert "may not read large objects" in text


def test_verbose_lists_what_is_in_order():
    assert "sslmode" not in rendered(RESULTS["ready"])
    assert "the server's name verified" in " ".join(rendered(RESULTS["ready"], verbose=True).split())


def test_of_many_databases_the_largest_are_shown_unless_asked():
    names = [f"d{number:02}" for number in range(14)]
    node = exam(databases=tuple(map(database, names)), visited=dict.fromkeys(names, content()))
    assert "and 4 smaller databases" in rendered(result(node))
    assert "d13" in rendered(result(node), verbose=True)


def test_a_name_cannot_steer_the_terminal_and_its_statement_can_still_be_pasted():
    node = poor(relation(name=HOSTILE, readable=False), role=HOSTILE)
    text = rendered(
        result(
            replace(node, databases=(database(HOSTILE),), visited={HOSTILE: content(*node.visited["clinic"].relations)})
        )
    )
    assert "\x1b" not in text
    assert 'GRANT pg_read_all_data TO U&"we""ird\\000A\\001B[2J";' in text


def test_ascii_only_means_ascii_only():
    for found in RESULTS.values():
        assert rendered(found, style=Style(ascii_only=True), verbose=True).isascii()


def test_quiet_leaves_the_outcome_and_the_command():
    page = io.StringIO()
    print_readiness(RESULTS["poor"], Console(file=page, width=80, no_color=True), INDIA)
    assert "NOT READY" in page.getvalue()
    assert COMMAND in page.getvalue()
    assert "GRANT" not in page.getvalue()


@pytest.mark.parametrize(("name", "status"), [("ready", 0), ("warned", 0), ("poor", 3), ("unseen", 3)])
def test_only_what_is_missing_makes_the_status_3(name, status):
    assert RESULTS[name].exit_status == status
    assert (RESULTS[name].exit_status is ExitStatus.UNCHECKED) == any(
        check.state is CheckState.MISSING for check in RESULTS[name].checks
    )


def test_the_sentence_counts_what_is_to_be_mended_and_not_where_it_is_seen():
    assert sentence(RESULTS["ready"]) == "an audit can prove db1, db2 and db3: nothing it needs is missing."
    told = sentence(result(poor(), poor(name="db2", standby=True)))
    assert told == (
        "an audit would end unproven: 2 things that it needs are missing on db1 and db2; 1 warning and 1 thing the"
        " role may not see."
    )


# For machines


@pytest.mark.parametrize("name", RESULTS)
def test_the_document_follows_the_published_schema(name):
    schema = doctor_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(doctor_document(RESULTS[name]), schema)


def test_the_schema_refuses_what_it_does_not_know():
    document = doctor_document(RESULTS["ready"])
    for wrong in ({"extra": 1}, {"exit_code": 1}, {"kind": "audit"}, {"nodes": [{"name": "db1"}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document | wrong, doctor_schema())


def test_the_document_holds_the_contract():
    document = json.loads(doctor_json(RESULTS["poor"]))
    assert (document["schema"], document["kind"]) == ("replcheck/doctor/1", "doctor")
    assert (document["ready"], document["exit_code"], document["connections_needed"]) == (False, 3, 3)
    assert document["summary"] == sentence(RESULTS["poor"])
    grants = {check["code"]: check for check in document["nodes"][1]["checks"] if check["sql"]}
    assert grants["read_relations"]["sql_node"] == "db1"
    assert document["nodes"][2]["observed"] is None
    assert document["cost"]["size_bytes"] == 8 << 20


def test_the_document_is_ascii_and_holds_no_secret():
    text = doctor_json(RESULTS["poor"])
    assert text.isascii()
    assert text.endswith("}\n")
    assert "canary" not in text
