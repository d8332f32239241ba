"""`replcheck history` and `replcheck report` as a caller sees them; the audits behind them are fakes."""

import json
import sqlite3
import time
from datetime import UTC, datetime, timedelta

import pytest

from replcheck.cli.main import main
from replcheck.runs import audit as audit_use_case
from tests.commands import Ended, assert_one_line, environment
from tests.core.test_history import UNREACHABLE, write
from tests.factories import consistent, diverged, inconclusive
from tests.fakes import raising, returning

CONFIGURATION = 'cluster = "clinic"\n[nodes]\na = { dsn = "host=a" }\nb = { dsn = "host=b" }\n'
NODES = ("--primary", "host=db1 password=canary", "--replica", "host=db2 password=canary")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run one command in an empty folder of its own; an audit finds what `result` says."""
    for variable, value in environment(tmp_path, TZ="Asia/Kolkata").items():
        monkeypatch.setenv(variable, value)
    for variable in ("REPLCHECK_CONFIG", "REPLCHECK_DEBUG", "REPLCHECK_FORMAT", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    time.tzset()

    def ended(*words, result=None) -> Ended:
        auditor = returning(result) if result is not None else raising(KeyError("nobody asked for an audit"))
        monkeypatch.setattr(audit_use_case, "default_auditor", lambda: auditor)
        status = main(words)
        streams = capsys.readouterr()
        assert "canary" not in streams.out + streams.err
        return Ended(int(status), streams.out, streams.err)

    yield ended
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def store(tmp_path):
    """A history of four runs, the last of which was killed."""
    path = tmp_path / "clinic.db"
    begun = datetime.now(UTC).replace(microsecond=0) - timedelta(days=4)
    for day, result in enumerate((consistent(), diverged(), UNREACHABLE, None)):
        write(path, result, at=begun + timedelta(days=day))
    return path


@pytest.mark.parametrize("result", [consistent(), diverged(), inconclusive(), consistent(stopped="interrupted")])
@pytest.mark.parametrize("options", [(), ("--verbose",), ("--quiet",), ("--format", "json")])
def test_a_report_is_rendered_again_as_the_audit_printed_it(run, result, options):
    audited = run("audit", *NODES, *options, result=result)
    again = run("report", "latest", *options)
    assert again == Ended(0, audited.out, "")


def test_a_report_goes_to_a_file(run, tmp_path):
    audited = run("audit", *NODES, result=diverged())
    assert run("report", "latest", "--output", "r.txt") == Ended(0, "", "")
    assert (tmp_path / "r.txt").read_text(encoding="utf-8") == audited.out
    message = assert_one_line(run("report", "latest", "--output", "none/r.txt"))
    assert "cannot write the report to none/r.txt: no such file" in message


def test_a_list_for_people_has_local_times_with_their_offset(run, store):
    ended = run("history", "--store", str(store))
    assert (ended.status, ended.err) == (0, "")
    runs = [line for line in ended.out.splitlines() if line.startswith("01")]
    assert [line.rpartition("  ")[2] for line in runs] == [
        "? did not end",
        "? unchecked",
        "✘ diverged",
        "✔ consistent",
    ]
    assert all("+05:30" in line and " audit  clinic " in line for line in runs)
    assert 'node "db2" does not answer' in ended.out


def test_a_list_for_machines_has_utc(run, store):
    document = json.loads(run("history", "--store", str(store), "--format", "json").out)
    assert [entry["state"] for entry in document["runs"]] == ["lost", "ended", "ended", "ended"]
    assert [entry["exit_code"] for entry in document["runs"]] == [None, 3, 2, 0]
    assert all(entry["started_at"].endswith("Z") for entry in document["runs"])
    assert document["runs"][1]["failure"]["error"] == "NodeUnreachable"


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("--limit", "1"), 1),
        (("--since", "50h"), 2),
        (("--since", "2000-01-01"), 4),
        (("--outcome", "proven"), 1),
        (("--outcome", "proven", "--outcome", "unended"), 2),
        (("--kind", "audit"), 4),
        (("--kind", "drill"), 0),
    ],
)
def test_a_list_is_narrowed(run, store, words, count):
    ended = run("history", "--store", str(store), *words)
    assert ended.status == 0
    assert sum(line.startswith("01") for line in ended.out.splitlines()) == count
    assert ("no run matches" in ended.out) is (count == 0)


@pytest.mark.parametrize(
    ("kind", "hint"),
    [("dril", "Did you mean drill?"), ("AUDIT", "Did you mean audit?"), ("x", "There are: audit, check, drill")],
)
def test_a_kind_that_there_is_none_of_is_refused_with_the_nearest(run, store, kind, hint):
    ended = run("history", "--store", str(store), "--kind", kind)
    assert f'--kind "{kind}" is no kind of run' in assert_one_line(ended)
    assert hint in ended.err


def test_a_variable_is_named_where_it_is_to_blame_and_not_beside_a_flag(run, store, monkeypatch):
    flagged = assert_one_line(run("history", "--store", str(store), "--format", "xml"))
    assert "'--format'" in flagged
    assert "REPLCHECK_FORMAT" not in flagged
    monkeypatch.setenv("REPLCHECK_FORMAT", "xml")
    assert "REPLCHECK_FORMAT" in assert_one_line(run("history", "--store", str(store)))


def test_the_record_of_a_run_is_shown(run, store):
    for words in (
        ("history", "--store", str(store), "show", "latest"),
        ("history", "show", "latest", "--store", str(store)),
    ):
        ended = run(*words)
        assert ended.status == 0
        assert "did not end" in ended.out
    run_id = json.loads(run("history", "--store", str(store), "--format", "json").out)["runs"][1]["run_id"]
    ended = run("history", "show", run_id[:13], "--store", str(store))
    assert "hint         Start it." in ended.out
    assert f"run          {run_id}" in ended.out
    assert json.loads(run("history", "show", run_id, "--store", str(store), "--format", "json").out)["exit_code"] == 3


def test_a_period_is_summed_up(run, store):
    ended = run("report", "--since", "10d", "--store", str(store))
    assert (ended.status, ended.err) == (0, "")
    assert "3 audits" not in ended.out
    assert "4 audits: 1 consistent, 1 diverged, 1 unchecked, 1 did not end" in ended.out
    assert "Longest times without a new proof of everything" in ended.out
    relation = next(line for line in ended.out.splitlines() if line.startswith("clinic.public.visit"))
    assert relation.split() == ["clinic.public.visit", "db3", "1", "consistent,", "1", "diverged", "✘", "diverged"]
    verbose = run("report", "--since", "10d", "--store", str(store), "--verbose").out
    assert "clinic.public.patient" in verbose
    assert "clinic.public.patient" not in ended.out
    document = json.loads(run("report", "--since", "10d", "--store", str(store), "--format", "json").out)
    assert document["outcomes"] == {"proven": 1, "partial": 0, "refuted": 1, "unchecked": 1}


def test_a_period_without_runs_says_so(run, store):
    ended = run("report", "--until", "2000-01-01", "--store", str(store))
    assert ended.status == 0
    assert "no audit began in this period" in ended.out


def test_what_cannot_be_read_is_told_and_is_status_3(run, store):
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE results SET document = '{'")
        connection.execute("UPDATE runs SET started_at = 'x' WHERE run_id = (SELECT max(run_id) FROM runs)")
    connection.close()
    ended = run("history", "--store", str(store))
    assert ended.status == 3
    assert "is damaged and left out" in ended.err
    assert ended.out.count("clinic") == 3
    period = run("report", "--since", "10d", "--store", str(store))
    assert period.status == 3
    assert "Not counted above" in period.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("report",), "no run was named"),
        (("report", "latest", "--since", "1d"), "a run and a period were named"),
        (("report", "latest"), "has no report: it did not end"),
        (("report", "ffff"), "no run has this id"),
        (("report", "host=db1 password=canary"), "a run is named by its id"),
        (("report", "--since", "1d", "--until", "2d"), "the period ends before it begins"),
        (("report", "--since", "soon"), "--since must be a duration such as 7d"),
        (("history", "--since", "soon"), "--since must be a duration such as 7d"),
        (("history", "--limit", "0"), "invalid value for '--limit'"),
        (("history", "--outcome", "fine"), "invalid value for '--outcome'"),
        (("history", "show"), "missing argument"),
        (("history", "show", "ffff"), "no run has this id"),
        (("history", "shwo", "ffff"), "no such command"),
    ],
)
def test_a_mistake_is_one_line_and_status_3(run, store, words, message):
    more = () if words[-1] == "ffff" and words[1] == "shwo" else ("--store", str(store))
    assert message in assert_one_line(run(*words, *more))


def test_without_a_history_nothing_is_created(run, tmp_path):
    message = assert_one_line(run("history"))
    assert f"there is no history at {tmp_path}/.local/state/replcheck/unnamed.db" in message
    assert_one_line(run("report", "latest", "--store", "none.db"))
    assert list(tmp_path.iterdir()) == []


def test_other_histories_are_named_where_the_usual_one_is_missing(run, tmp_path):
    (tmp_path / "clinic.toml").write_text(
        'cluster = "clinic"\n[nodes]\na = { dsn = "host=a" }\nb = { dsn = "host=b" }\n'
    )
    assert run("audit", "--config", "clinic.toml", result=consistent()).status == 0
    assert "beside it: clinic.db." in assert_one_line(run("history"))
    assert "✔ consistent" in run("history", "--config", "clinic.toml").out


def test_without_a_home_a_file_must_be_named(run, store, monkeypatch):
    monkeypatch.delenv("HOME")
    assert "neither XDG_STATE_HOME nor HOME is set" in assert_one_line(run("history"))
    assert run("history", "--store", str(store)).status == 0


def test_the_configuration_names_the_history_and_the_zone(run, store, tmp_path):
    (tmp_path / "replcheck.toml").write_text(
        f'{CONFIGURATION}[output]\nstore = "{store}"\ntime_zone = "America/St_Johns"\n'
    )
    listed = run("history").out
    assert "-03:30" in listed or "-02:30" in listed
    assert "+05:30" in run("history", "--store", str(store)).out
    assert "+05:30" not in run("history", "--store", str(store), "--config", "replcheck.toml").out
