"""`replcheck report` in every form, of one run and of a period, as a caller sees it."""

import json
import time
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import html5lib
import jsonschema
import pytest

from benchmarks.years import Year, write_year
from replcheck.cli.main import main
from replcheck.report.published import schema_text
from tests.commands import Ended, assert_one_line, environment
from tests.core.test_history import write
from tests.core.test_papers import POLICY
from tests.factories import consistent, diverged

WEEK = Year(days=9, relations=3, until=datetime(2026, 3, 10, tzinfo=UTC), check_every=timedelta(hours=6))
PERIOD = ("--since", "2026-03-01T00:00:00Z", "--until", "2026-03-10T00:00:00Z")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run one command in an empty folder of its own."""
    for variable, value in environment(tmp_path, TZ="Asia/Kolkata").items():
        monkeypatch.setenv(variable, value)
    for variable in ("REPLCHECK_CONFIG", "REPLCHECK_DEBUG", "REPLCHECK_FORMAT", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    time.tzset()

    def ended(*words) -> Ended:
        status = main(["report", *words])
        streams = capsys.readouterr()
        return Ended(int(status), streams.out, streams.err)

    yield ended
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def store(tmp_path):
    """The history of nine days of one cluster."""
    write_year(tmp_path / "clinic.db", WEEK)
    return ("--store", "clinic.db")


@pytest.mark.parametrize("form", ["html", "markdown", "junit"])
def test_a_run_is_rendered_in_every_form(run, tmp_path, form):
    run_id = write(tmp_path / "clinic.db", diverged())
    ended = run(run_id, "--store", "clinic.db", "--format", form)
    assert (ended.status, ended.err) == (0, "")
    assert "17 rows" in ended.out
    assert run("latest", "--store", "clinic.db", "--format", form, "--output", "r").out == ""
    assert (tmp_path / "r").read_text(encoding="utf-8") == ended.out


@pytest.mark.parametrize("form", ["human", "json", "html", "markdown", "junit"])
def test_a_past_check_is_rendered_in_every_form(run, store, form):
    ended = run("latest", *store, "--format", form, "--verbose")
    assert (ended.status, ended.err) == (0, "")
    assert "recovery-point" in ended.out
    assert "independent racks" in ended.out


def test_a_page_is_one_file_in_the_zone_of_its_reader(run, tmp_path):
    write(tmp_path / "clinic.db", consistent())
    page = run("latest", "--store", "clinic.db", "--format", "html").out
    html5lib.HTMLParser(strict=True).parse(page)
    assert "12:00:00+05:30</time>" in page
    assert 'datetime="2026-03-01T06:30:00.000Z"' in page


@pytest.mark.parametrize("form", ["human", "json", "html", "markdown", "junit", "claims"])
def test_a_period_is_rendered_in_every_form(run, store, form):
    ended = run(*PERIOD, *store, "--format", form)
    assert (ended.status, ended.err) == (0, "")
    assert "recovery-point" in ended.out
    assert "failover" in ended.out


def test_a_period_for_people_tells_of_copies_controls_and_drills(run, store, tmp_path):
    (tmp_path / "clinic.toml").write_text(POLICY)
    out = " ".join(run(*PERIOD, *store, "--config", "clinic.toml").out.split())
    for told in (
        "nothing was watching for 4h 19min, in 3 gaps",
        "2 proven copies or more ",
        "recovery-point ✔ met",
        "not asked: integrity and evidence",
        "1 drill: 1 failed",
        "9 audits: 6 consistent, 1 diverged, 2 did not end",
    ):
        assert told in out


def test_a_period_for_machines_follows_its_schema(run, store, tmp_path):
    (tmp_path / "clinic.toml").write_text(POLICY)
    document = json.loads(run(*PERIOD, *store, "--config", "clinic.toml", "--format", "json").out)
    jsonschema.validate(document, json.loads(schema_text("period")))
    assert document["copies"]["asked"]["from_policy"] is True
    assert sum(document["copies"]["seconds"].values()) == pytest.approx(9 * 86400)
    assert len(document["record"]["gaps"]) == 3
    assert [one["name"] for one in document["controls"]["results"] if one["cites_replaced_edition"]] == ["copies"]
    assert document["controls"]["results"][0]["requirements"] == ["A.8.14", "A1.2"]
    assert [drill["verdict"] for drill in document["drills"]] == ["failed"]
    assert {event["kind"] for event in document["events"]} >= {"switched over", "copy recreated"}


def test_without_since_a_period_begins_with_the_first_that_the_history_holds(run, store):
    document = json.loads(run("--until", "2026-03-10", *store, "--format", "json").out)
    assert (document["since"], document["record"]["since"]) == (None, "2026-03-01T00:00:00.000Z")
    assert document["record"]["gaps"][0]["began_at"] > "2026-03-01T01"


def test_several_clusters_are_summed_up_and_reported_one_by_one(run, store, tmp_path):
    write(tmp_path / "clinic.db", consistent(), at=datetime(2026, 3, 5, tzinfo=UTC), cluster="pharmacy")
    document = json.loads(run(*PERIOD, *store, "--format", "json").out)
    assert (document["clusters"], document["record"]) == (["clinic", "pharmacy"], None)
    jsonschema.validate(document, json.loads(schema_text("period")))
    message = assert_one_line(run(*PERIOD, *store, "--format", "html"))
    assert "the history holds 2 clusters" in message
    assert "Name one with --cluster: clinic, pharmacy." in message
    one = json.loads(run(*PERIOD, *store, "--format", "json", "--cluster", "pharmacy").out)
    assert (one["clusters"], one["runs"], one["record"]["cluster"]) == (["pharmacy"], 1, "pharmacy")
    assert "Evidence of pharmacy" in run(*PERIOD, *store, "--format", "html", "--cluster", "pharmacy").out


def test_a_limit_of_the_policy_is_drawn_and_told(run, store, tmp_path):
    (tmp_path / "clinic.toml").write_text(POLICY)
    page = run(*PERIOD, *store, "--config", "clinic.toml", "--format", "html").out
    assert "limit 5min" in page
    assert "as the policy asks" in page
    assert "which nobody asked for" in run(*PERIOD, *store, "--format", "html").out


def test_a_damaged_drill_is_named_and_is_status_3(run, store, tmp_path):
    import sqlite3

    with sqlite3.connect(tmp_path / "clinic.db") as connection:
        connection.execute(
            "UPDATE results SET document = replace(document, '\"failed\"', '\"restored\"')"
            " WHERE run_id IN (SELECT run_id FROM runs WHERE kind = 'drill')"
        )
        connection.execute("UPDATE node_spans SET state = 'x' WHERE span_id = 3")
    connection.close()
    ended = run(*PERIOD, *store, "--format", "markdown")
    assert ended.status == 3
    assert "Runs whose report cannot be read" in ended.out
    assert "1 sample or event in the history cannot be read" in ended.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("latest", "--format", "claims"), "promises are set beside the proofs of a period"),
        (("latest", "--format", "pdf"), "invalid value for '--format'"),
        (("latest", "--cluster", "clinic"), "a run and a period were named"),
        (("--cluster", "clinic"), "no run was named"),
    ],
)
def test_a_mistake_is_one_line_and_status_3(run, store, words, message):
    assert message in assert_one_line(run(*words, *store))


def test_a_history_without_any_run_has_no_period(run, tmp_path):
    from replcheck.store import open_history

    open_history(tmp_path / "empty.db")
    assert "holds nothing of any cluster" in assert_one_line(
        run("--since", "1d", "--store", "empty.db", "--format", "html")
    )
    assert "no audit began in this period" in run("--since", "1d", "--store", "empty.db").out


def test_junit_of_a_period_is_read_by_an_xml_reader(run, store):
    root = ET.fromstring(run(*PERIOD, *store, "--format", "junit").out)  # noqa: S314 - of our own making
    assert root.tag == "testsuites"
