"""The schemas that replcheck publishes: each is one, describes what it says, and is found by its name."""

import json
import tomllib
from datetime import date, datetime
from pathlib import Path

import jsonschema
import pytest

from replcheck.config import load
from replcheck.config.schema import configuration_schema
from replcheck.errors import ConfigurationError, UsageError
from replcheck.report.history import PastRun, RunState, history_json, run_json
from replcheck.report.period import PeriodTally
from replcheck.report.period_document import period_json
from replcheck.report.published import schema_names, schema_text, schema_titles
from tests import factories
from tests.core.test_store import BEGUN, record, start
from tests.test_docs import keys_of

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "sample_configs").glob("*.toml"))
NODES = 'cluster = "c"\n[nodes]\na = { dsn = "host=a" }\nb = { dsn = "host=b" }\n'


@pytest.mark.parametrize("name", schema_names())
def test_every_schema_is_one(name):
    schema = json.loads(schema_text(name))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["description"]
    assert schema_text(name).endswith("}\n")


def test_every_file_is_published():
    files = {path.name.removesuffix(".schema.json") for path in ROOT.glob("src/replcheck/report/schemas/*.json")}
    assert files
    assert set(schema_names()) == files | {"config", "events", "cluster_events"}
    assert set(schema_titles()) == set(schema_names())


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="no schema of this name") as caught:
        schema_text("../audit")
    assert all(name in caught.value.hint for name in schema_names())


def told(text):
    """Return what JSON schema says of a TOML file, whose dates are JSON's texts."""

    def plain(value):
        match value:
            case dict():
                return {key: plain(item) for key, item in value.items()}
            case list():
                return [plain(item) for item in value]
            case datetime() | date():
                return value.isoformat()
        return value

    validator = jsonschema.Draft202012Validator(configuration_schema())
    return [error.message for error in validator.iter_errors(plain(tomllib.loads(text)))]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_sample_follows_the_schema_of_the_configuration(path):
    assert told(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        NODES + '[audit]\nlevl = "fast"',
        NODES + "[audits]",
        NODES + "[nodes.c]\nhost = 1\ndsn='x=y'",
        NODES + "[nodes.c]\ndns = 'x=y'",
        NODES + '[nodes."c d"]\ndsn = "x=y"',
        NODES + '[policy]\nrecovery_point = {max_age="1h"}',
        NODES + '[audit]\nlevel = "quick"',
        NODES + '[audit]\nmax_snapshot_age = "60"',
        NODES + "[audit]\nmax_snapshot_age = 60",
        NODES + "[audit]\njobs = 0",
        NODES + '[audit.pause_if]\nlag = "64mb"',
        "config_version = 2\n" + NODES,
        'cluster = "c"\n[nodes]',
        'cluster = "../c"\n' + NODES.partition("\n")[2],
    ],
)
def test_what_is_refused_when_it_is_loaded_breaks_the_schema(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        load(path)
    assert told(text)


@pytest.mark.parametrize("quantity", ["5min", "1.5 h", " 500ms ", "90s"])
def test_every_way_to_write_a_duration_follows_the_schema(tmp_path, quantity):
    text = f'{NODES}[audit]\nreplay_wait = "{quantity}"'
    path = tmp_path / "c.toml"
    path.write_text(text)
    assert load(path).audit.replay_wait > 0
    assert told(text) == []


def test_every_key_that_is_explained_in_the_model_is_so_in_the_schema():
    schema = configuration_schema()
    audit = schema["$defs"]["Audit"]["properties"]
    assert set(audit) == {key.split(".")[1] for key in keys_of(type(load(SAMPLES[0]))) if key.startswith("audit.")}
    assert all(described["description"] for described in audit.values())
    assert audit["max_snapshot_age"]["default"] == "60s"
    assert "at most 3600s" in audit["max_snapshot_age"]["description"]
    assert schema["$defs"]["AgeControl"]["properties"]["claim"]["description"].startswith("The claim")


PAST_RUNS = (
    PastRun(run=start(), state=RunState.LOST),
    PastRun(run=record(start()), state=RunState.ENDED),
)


@pytest.mark.parametrize("past", PAST_RUNS, ids=lambda past: past.state.value)
def test_runs_follow_their_schemas(past):
    jsonschema.validate(json.loads(run_json(past)), json.loads(schema_text("run")))
    jsonschema.validate(json.loads(history_json([past], store="/h.db")), json.loads(schema_text("history")))


def test_a_period_follows_its_schema():
    tally = PeriodTally(since=None, until=BEGUN)
    jsonschema.validate(json.loads(period_json(tally.finished(damaged=("x",)))), json.loads(schema_text("period")))
    for report in (factories.diverged(), None, "it is damaged"):
        tally.add(record(start()), report)
    tally.add_unended(PastRun(run=start(), state=RunState.OPEN))
    for other in (record(start(kind="drill")), start(kind="seal")):
        tally.add_other(other)
    document = json.loads(period_json(tally.finished(damaged=())))
    jsonschema.validate(document, json.loads(schema_text("period")))
    assert document["runs"] == 4
    assert document["relations"]
    assert [others["runs"] for others in document["others"]] == [1, 1]
