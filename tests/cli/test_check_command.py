"""`replcheck check` as cron and monitoring systems run it: silent, one line, or a file, and always one status."""

import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from replcheck.cli.arguments import CheckArguments
from replcheck.cli.check_run import check_and_report
from replcheck.cli.options import CheckFormat
from replcheck.errors import ReplcheckError
from replcheck.model.live import NodeState
from replcheck.report.check_document import check_result
from replcheck.report.published import schema_text
from replcheck.runs.check import CheckParts
from replcheck.store import open_check_reader
from tests.commands import SOURCE, Ended, assert_one_line, environment, run_command, run_here
from tests.core.checks import NOW, node, view
from tests.core.test_check_report import taken_apart
from tests.core.test_run_check import CONFIG, QUICK, Place, look

ROOT = Path(__file__).parents[2]
HEALTHY = view()
BROKEN = view(node("db3", NodeState.LOST, reason="nothing answers"))
STORED = CONFIG + '[output]\nstore = "clinic.db"\n'
Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path, monkeypatch, capfd) -> Run:
    """A function that makes one check of a well-kept history, with what the nodes show given."""
    Place(tmp_path).watched()
    for variable, value in environment(tmp_path).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)

    def check(shown: Any = HEALTHY, *, config: str = STORED, **given: Any) -> Ended:
        (tmp_path / "replcheck.toml").write_text(config)
        parts = CheckParts(look=look(shown), clock=lambda: NOW, patience=QUICK)
        monkeypatch.setattr("replcheck.cli.check_run.now", lambda: NOW)
        held: dict[str, Any] = dict.fromkeys(CheckArguments.__annotations__)
        held |= {"controls": (), "run": (), "format": CheckFormat.HUMAN}
        held |= {"quiet": False, "verbose": False, "no_store": False}
        capfd.readouterr()
        status = check_and_report(CheckArguments(**held | given), parts=parts)
        said = capfd.readouterr()
        return Ended(int(status), said.out, said.err)

    return check


def test_where_all_is_well_nothing_is_said(run):
    assert run() == Ended(0, "", "")


def test_with_verbose_every_control_is_shown(run):
    ended = run(verbose=True)
    assert ended.status == 0
    assert ended.out.count("not proven") >= 5
    assert "evidence: " in ended.out
    assert "- not asked" in ended.out
    assert ended.out.endswith("all that is asked of clinic is met: 3 controls.\n")


def test_what_is_not_met_is_said_with_its_reason_and_nothing_else(run):
    ended = run(BROKEN)
    assert (ended.status, ended.err) == (2, "")
    assert "2 of 3 copies run: db3 is lost (nothing answers)" in ended.out
    assert "consistency:" not in ended.out
    quiet = run(BROKEN, quiet=True)
    assert quiet.out == "✘ BREACHED: copies is breached; 2 of 3 controls of clinic met.\n"


def test_one_control_can_be_checked_alone(run):
    assert run(BROKEN, controls=("consistency",)) == Ended(0, "", "")
    assert run(BROKEN, controls=("consistency", "copies")).status == 2


def test_a_waived_breach_is_partial_and_told(run):
    waived = STORED + "[waivers]\ncopies = { reason = 'db3 is moved', by = 'the owner', until = 2026-11-01 }\n"
    ended = run(BROKEN, config=waived)
    assert ended.status == 1
    assert "waived until 2026-11-01 (db3 is moved): 2 of 3 copies run" in ended.out


def test_json_is_always_written_and_follows_its_schema(run):
    ended = run(format=CheckFormat.JSON)
    document = json.loads(ended.out)
    jsonschema.validate(document, json.loads(schema_text("check")))
    assert (ended.status, document["exit_code"], document["verdict"]) == (0, 0, "met")
    assert check_result(document).cluster == "clinic"


def test_junit_goes_to_a_file(run, tmp_path):
    ended = run(BROKEN, format=CheckFormat.JUNIT, output=tmp_path / "check.xml")
    assert (ended.status, ended.out) == (2, "")
    assert 'failures="1"' in (tmp_path / "check.xml").read_text()


def test_a_report_that_cannot_be_written_is_known_before_anything_is_looked_at(run, tmp_path):
    with pytest.raises(ReplcheckError, match="cannot write the report to"):
        run(output=tmp_path / "none" / "x")


@pytest.mark.parametrize(("shown", "status"), [(HEALTHY, 3), (BROKEN, 2)])
def test_a_report_that_is_lost_is_never_a_good_status(run, shown, status):
    ended = run(shown, format=CheckFormat.JSON, output=Path("/dev/full"))
    assert ended.status == status
    assert "error: cannot write the report: /dev/full: no space left on device" in ended.err


# --- metrics


def test_metrics_are_written_whole_and_readable_by_others(run, tmp_path):
    path = tmp_path / "replcheck.prom"
    path.write_text("old\n")
    before = path.stat().st_ino
    assert run(config=STORED + f'metrics = "{path}"\n').status == 0
    names = {family.name for family in text_string_to_metric_families(path.read_text())}
    assert {"replcheck_check_status", "replcheck_control_measure_seconds"} <= names
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
    other = tmp_path / "other.prom"
    run(config=STORED + f'metrics = "{path}.unused"\n', metrics=other)
    assert other.exists()
    assert not Path(f"{path}.unused").exists()


@pytest.mark.parametrize(("shown", "status"), [(HEALTHY, 3), (BROKEN, 2)])
def test_metrics_that_cannot_be_written_leave_the_old_ones_and_no_good_status(run, tmp_path, shown, status):
    ended = run(shown, metrics=tmp_path / "none" / "x.prom")
    assert ended.status == status
    assert "error: cannot write the metrics to" in ended.err
    assert "no such file or directory" in ended.err


# --- the plugin's line


def test_a_plugin_answers_from_the_history_and_leaves_no_trace(run, tmp_path):
    run()
    ended = run(None, format=CheckFormat.NAGIOS)
    assert (ended.status, ended.err) == (0, "")
    state, told, items = taken_apart(ended.out)
    assert (state, told) == (0, "all that is asked of clinic is met: 3 controls")
    assert items["copies_running"]["value"] == "3"
    assert len(open_check_reader(tmp_path / "clinic.db").runs_of("clinic", "check", 5)) == 1


def test_a_plugin_is_critical_as_soon_as_the_last_check_was(run):
    run(BROKEN)
    ended = run(None, format=CheckFormat.NAGIOS)
    assert ended.status == 2
    assert ended.out.startswith(
        "REPLCHECK CRITICAL - copies is breached; 2 of 3 controls of clinic met: copies breached:"
    )


def test_a_plugin_never_says_ok_of_what_nobody_looked_at(run):
    ended = run(None, format=CheckFormat.NAGIOS)
    assert ended.status == 3
    assert "the nodes were never looked at" in ended.out


@pytest.mark.parametrize(
    ("words", "config", "told"),
    [
        ((), None, "there is no configuration"),
        ((), "cluster = ", "line 1"),
        ((), STORED.replace("proven = 2", "prooven = 2"), "unknown key policy.copies.prooven"),
        ((), STORED.partition("[policy]")[0], "has no policy"),
        ((), STORED + "[waivers]\ncopies = { reason = 'x', by = 'y', until = 2020-01-31 }\n", "ended on 2020-01-31"),
        (("--control", "copy"), STORED, '"copy" is no control'),
        (("--run", "audit"), STORED, "--run and --format nagios were given"),
        (("--metrics", "x.prom"), STORED, "--metrics and --format nagios were given"),
        (("--stale-after", "soon"), STORED, "--stale-after must be a duration"),
        ((), STORED.replace('"clinic.db"', '"notes.txt"'), "notes.txt"),
        ((), STORED, "the nodes were never looked at"),
        ((), STORED + 'ping_env = "NOT_SET"\n', "the nodes were never looked at"),
    ],
)
def test_a_plugin_always_prints_one_line(tmp_path, monkeypatch, capfd, words, config, told):
    if config is not None:
        (tmp_path / "replcheck.toml").write_text(config)
    (tmp_path / "notes.txt").write_text("no history\n" * 100)
    ended = run_here("check", "--format", "nagios", *words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    assert (ended.status, ended.err) == (3, "")
    assert taken_apart(ended.out)[0] == 3
    assert told in ended.out


# --- what is wrong is one line


@pytest.mark.parametrize(
    ("words", "config", "told", "hint"),
    [
        ((), None, "there is no configuration, and so no policy to check", "--config"),
        ((), STORED.partition("[policy]")[0], "the configuration has no policy", "[policy]"),
        ((), STORED.replace("copies =", "copeis ="), "unknown key policy.copeis", 'Did you mean "copies"?'),
        ((), STORED.replace("proven = 2", "warn = 99"), "policy.copies share and warn need a window", ""),
        ((), STORED.replace('"18h"', '"25h"'), "policy.consistency warn must be at most max_age", ""),
        ((), STORED.replace('["zone"]', '["zoe"]'), "policy.placement.distinct.0 must be 'host' or 'zone'", ""),
        ((), STORED + "[waivers]\ncopies = { by = 'y', until = 2027-01-31 }", "waivers.copies.reason is missing", ""),
        (
            (),
            STORED + "[waivers]\ncopies = { reason = 'x', by = 'y', until = 2020-01-31 }",
            "waivers.copies ended on 2020-01-31",
            "later date",
        ),
        ((), STORED + "[waivers]\ncopy = { reason = 'x', by = 'y', until = 2027-01-31 }", "waivers.copy names no", ""),
        (("--control", "consistancy"), STORED, '"consistancy" is no control', 'Did you mean "consistency"?'),
        (("--run", "drill"), STORED, "--run drill has nothing to go by", "restore"),
        (("--stale-after", "1h"), STORED, "--stale-after was given without --format nagios", ""),
        ((), STORED + 'ping_env = "NOT_SET"\n', "output.ping_env names NOT_SET, which is not set", "Set it"),
    ],
)
def test_bad_input_is_one_line_and_status_3(tmp_path, monkeypatch, capfd, words, config, told, hint):
    if config is not None:
        (tmp_path / "replcheck.toml").write_text(config)
    ended = run_here("check", *words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    error = assert_one_line(ended)
    assert told in error
    assert hint in error


def test_nodes_that_cannot_be_reached_are_breached_or_unknown_and_never_a_traceback(tmp_path):
    (tmp_path / "replcheck.toml").write_text(STORED)
    ended = run_command("check", home=tmp_path)
    assert ended.status == 2
    assert "0 of 3 copies run" in ended.out
    assert ended.err == ""


# --- a history that cannot be written

_AS_NOBODY = """
import contextlib, os, sys
from replcheck.cli.main import main
with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
    # Loads all that somebody without rights may not read, in a copy: whoever reads a history leaves files beside it.
    words = ["evidence", "verify"] if "note" in sys.argv else sys.argv[1:]
    main([*words, "--no-store"] if "check" in words else words)
    import replcheck.cli.display, replcheck.evidence.notary
os.chdir("../closed")
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
assert not os.access("clinic.db", os.W_OK) and not os.access(".", os.W_OK)
sys.exit(main(sys.argv[1:]))
"""


def as_nobody(home: Path, *words: str) -> Ended:
    """Run a command as somebody who may read a copy of the folder and write nothing in it."""
    # Not among the folders of pytest: each of its processes that begins closes them all to others.
    with TemporaryDirectory(dir="/tmp") as place:
        rehearsal, closed = (Path(shutil.copytree(home, Path(place, name))) for name in ("rehearsal", "closed"))
        for file in closed.iterdir():
            file.chmod(0o444)
        closed.chmod(0o555)
        Path(place).chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, *words],
            capture_output=True,
            text=True,
            cwd=rehearsal,
            env=environment(home) | {"PYTHONPATH": f"{SOURCE}:{ROOT}"},
            check=False,
        )
        closed.chmod(0o755)
    return Ended(done.returncode, done.stdout, done.stderr)


def test_a_history_that_may_only_be_read_costs_the_record_alone(run, tmp_path):
    run()
    ended = as_nobody(tmp_path, "check", "--control", "placement")
    assert (ended.status, ended.out) == (0, "")
    assert ended.err.startswith("replcheck: warning: this check is not recorded: cannot open history clinic.db")


def test_a_plugin_may_have_no_right_to_write(run, tmp_path):
    run()
    ended = as_nobody(tmp_path, "check", "--format", "nagios", "--control", "placement")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("REPLCHECK OK - ")


def test_a_full_disk_costs_the_record_alone(run, tmp_path):
    run()
    script = 'ulimit -f 70; exec "$0" -m replcheck check --control placement'
    done = subprocess.run(
        ["/bin/sh", "-c", script, sys.executable],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path),
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.startswith("replcheck: warning: this check is not recorded: ")
    assert len(done.stderr.splitlines()) == 1
    assert run_command("check", "--control", "placement", home=tmp_path) == Ended(0, "", "")
