"""`replcheck audit` as a caller sees it: streams, exit statuses, files; the auditor is a fake."""

import errno
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from replcheck.cli.main import main
from replcheck.cli.output import check_output, deliver
from replcheck.errors import Interrupted, NodeUnfit, NodeUnreachable
from replcheck.runs import audit as audit_use_case
from replcheck.store import open_history
from tests.factories import consistent, diverged, inconclusive, unchecked
from tests.fakes import raising, returning

NODES = ("--primary", "host=db1 password=canary", "--replica", "host=db2 password=canary")
DATA = Path(__file__).parents[1] / "data"
ROOT = Path(__file__).parents[2]


@dataclass
class Ended:
    status: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run one command in an empty folder, with an auditor that answers as told."""
    for variable in ("REPLCHECK_CONFIG", "REPLCHECK_DEBUG", "LC_ALL", "LC_CTYPE", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)

    def ended(*arguments: str, auditor=None) -> Ended:
        monkeypatch.setattr(audit_use_case, "default_auditor", lambda: auditor or returning(consistent()))
        status = main(arguments)
        streams = capsys.readouterr()
        assert "canary" not in streams.out + streams.err
        assert "Traceback" not in streams.err
        return Ended(int(status), streams.out, streams.err)

    return ended


@pytest.mark.parametrize(
    ("result", "status"), [(consistent(), 0), (inconclusive(), 1), (diverged(), 2), (unchecked(), 3)]
)
def test_the_exit_status_is_the_verdicts(run, result, status):
    ended = run("audit", *NODES, auditor=returning(result))
    assert ended.status == status
    assert result.verdict.value.upper() in ended.out
    assert ended.err == ""


def test_the_report_goes_to_standard_output_as_agreed(run):
    ended = run("audit", *NODES, auditor=returning(diverged()))
    body = ended.out.split("\n", 2)[2]
    assert body == (DATA / "audit-diverged.txt").read_text(encoding="utf-8").split("\n", 2)[2]


def test_json_is_nothing_but_json(run):
    ended = run("audit", *NODES, "--format", "json", auditor=returning(diverged()))
    assert json.loads(ended.out)["exit_code"] == ended.status == 2


def test_quiet_leaves_the_verdict(run):
    ended = run("audit", *NODES, "--quiet")
    assert "CONSISTENT" in ended.out
    assert "Nodes" not in ended.out


def test_verbose_lists_every_relation(run):
    assert "clinic.public.patient" in run("audit", *NODES, "-v").out


@pytest.mark.parametrize(
    "error",
    [
        NodeUnreachable('node "db2" cannot be reached at db2:5432', node="db2", hint="Start it."),
        NodeUnfit('node "db1" is a standby', node="db1"),
        Interrupted("interrupted before anything was compared"),
        KeyError("a row's canary value"),
    ],
)
def test_an_error_is_one_line_and_status_3(run, error):
    ended = run("audit", *NODES, auditor=raising(error))
    assert ended.status == 3
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert lines[0].startswith("replcheck: error: ")
    assert all(line.startswith("hint: ") for line in lines[1:])
    assert len(lines) <= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("audit",), "no cluster to audit"),
        (("audit", "--primary", "host=canary"), "--primary was given without --replica"),
        (("audit", "--primary", "host='canary", "--replica", "x=y"), "--primary is malformed: a quoted value"),
        (("audit", "host=db1 password=canary"), "a connection string goes behind --primary or --replica"),
        (("audit", *NODES, "--jobs", "many"), "invalid value for '--jobs'"),
        (("audit", *NODES, "--jobs", "postgresql://u:canary@h"), "invalid value for '--jobs'"),
        (("audit", *NODES, "--jobs=password=canary"), "invalid value for '--jobs'"),
        (("audit", *NODES, "--level", "quick"), "invalid value for '--level'"),
        (("audit", *NODES, "--max-snapshot-age", "60"), "--max-snapshot-age must be a duration such as 5min"),
        (("audit", *NODES, "--max-snapshot-age", "2h"), "--max-snapshot-age must be between 1s and 3600s"),
        (("audit", *NODES, "--node-timeout", "1ms"), "--node-timeout must be at least 1s"),
        (("audit", *NODES, "--config", "none.toml"), "cannot read configuration none.toml: no such file"),
        (("audit", *NODES, "--output", "none/report"), "cannot write the report to none/report"),
        (("audit", *NODES, "--events", "none/events"), "cannot write events to none/events"),
        (("audit", *NODES, "--events", "-"), "--events - and the report both want standard output"),
        (("audit", "--databse", "x"), "no such option: --databse"),
        (("audti",), "no such command 'audti'"),
        (("--nonsense",), "no such option: --nonsense"),
    ],
)
def test_bad_usage_is_one_line_with_a_hint_and_status_3(run, arguments, message):
    ended = run(*arguments)
    assert ended.status == 3
    assert ended.out == ""
    first, *rest = ended.err.splitlines()
    assert message in first
    assert len(rest) <= 1


def test_debug_traces_our_own_and_foreign_errors(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    error = NodeUnreachable("nothing answers", node="db2")
    error.__cause__ = ValueError("password=canary")
    monkeypatch.setattr(audit_use_case, "default_auditor", lambda: raising(error))
    assert main(["--debug", "audit", *NODES, "--no-store"]) == 3
    told = capsys.readouterr().err
    assert "caused by:\nValueError\n" in told
    assert "audit_run.py" in told
    assert "canary" not in told


def test_every_run_is_recorded_unless_told_not_to(run, tmp_path):
    store = tmp_path / "state" / "replcheck" / "unnamed.db"
    run("audit", *NODES, "--no-store")
    assert not store.exists()
    run("audit", *NODES)
    run("audit", *NODES, auditor=raising(Interrupted("interrupted")))
    assert [run.exit_status for run in open_history(store).runs()] == [3, 0]  # type: ignore[attr-defined]
    assert b"canary" not in store.read_bytes()


def test_without_a_home_there_is_a_warning_and_no_record(run, monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    ended = run("audit", *NODES)
    assert ended.status == 0
    assert "warning: no record of this run is kept" in ended.err


def test_a_history_that_cannot_be_written_is_a_warning_after_the_verdict(run, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    ended = run("audit", *NODES)
    assert ended.status == 0
    assert "CONSISTENT" in ended.out
    assert "warning: this run is not recorded" in ended.err


def test_a_configuration_names_the_nodes_and_the_store(run, tmp_path):
    (tmp_path / "replcheck.toml").write_text(
        'cluster = "shop"\n[nodes]\na = {dsn="host=a"}\nb = {dsn="host=b"}\n'
        f'[output]\nstore = "{tmp_path}/shop.db"\ntime_zone = "Asia/Kolkata"\nmetrics = "m"\n'
    )
    ended = run("audit")
    assert ended.status == 0
    assert "12:00:00+05:30" in ended.out
    assert ended.err == ""
    assert open_history(tmp_path / "shop.db").runs()[0].cluster == "shop"


def test_a_file_found_by_chance_is_ignored_where_addresses_are_spelled_out(run, tmp_path):
    (tmp_path / "replcheck.toml").write_text("this is no TOML")
    assert run("audit", *NODES).status == 0
    assert run("audit").status == 3


def test_a_flag_beats_the_environment_which_beats_the_file(run, monkeypatch, tmp_path):
    seen = []

    async def recording(targets, options, *, run_id, cluster, emit, stop, gate, earlier):
        seen.append(options.jobs)
        return consistent()

    (tmp_path / "c.toml").write_text(
        'cluster = "shop"\n[nodes]\na = {dsn="host=a"}\nb = {dsn="host=b"}\n[audit]\njobs = 7\n'
    )
    run("audit", "--config", "c.toml", auditor=recording)
    monkeypatch.setenv("REPLCHECK_JOBS", "8")
    run("audit", "--config", "c.toml", auditor=recording)
    run("audit", "--config", "c.toml", "--jobs", "9", auditor=recording)
    assert seen == [7, 8, 9]


def test_the_report_and_the_events_can_go_to_files(run, tmp_path):
    ended = run("audit", *NODES, "--output", "report.json", "--format", "json", "--events", "events.jsonl")
    assert (ended.status, ended.out) == (0, "")
    assert json.loads((tmp_path / "report.json").read_text())["verdict"] == "consistent"
    events = [json.loads(line)["event"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert events == ["run_started", "waited", "run_finished"]


def test_events_can_be_the_standard_output(run):
    ended = run("audit", *NODES, "--events", "-", "--output", "report.txt")
    assert [json.loads(line)["event"] for line in ended.out.splitlines()] == ["run_started", "waited", "run_finished"]


@pytest.mark.parametrize(("result", "status"), [(consistent(), 3), (diverged(), 2)])
def test_a_report_that_cannot_be_delivered_is_never_proven(run, result, status):
    ended = run("audit", *NODES, "--output", "/dev/full", auditor=returning(result))
    assert ended.status == status
    assert "cannot write the report: /dev/full: no space left on device" in ended.err


@pytest.mark.parametrize("before", [None, "the last report"], ids=["new", "replaced"])
def test_a_report_is_written_whole_or_not_at_all(tmp_path, before):
    output = tmp_path / "report.txt"
    if before:
        output.write_text(before)

    def fill(stream):
        stream.write("a part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert deliver(fill, output) == f"{output}: no space left on device"
    assert [path.read_text() for path in tmp_path.iterdir()] == ([before] if before else [])


def test_a_report_keeps_the_permissions_of_the_file_that_it_replaces_and_follows_links(tmp_path):
    output, link = tmp_path / "report.txt", tmp_path / "link"
    output.write_text("the last report")
    output.chmod(0o640)
    link.symlink_to(output)
    assert deliver(lambda _: "new", link) is None
    assert (output.read_text(), output.stat().st_mode & 0o777, link.is_symlink()) == ("new", 0o640, True)


def test_a_look_whether_a_report_can_be_written_leaves_no_file(tmp_path):
    check_output(tmp_path / "report.txt")
    assert list(tmp_path.iterdir()) == []


def test_color_only_where_wanted(run, monkeypatch):
    assert "\x1b[" not in run("audit", *NODES).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run("audit", *NODES).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in run("audit", *NODES).out


_COMMAND = """
import sys
from replcheck.cli.main import main
from replcheck.runs import audit
from tests.fakes import returning
from tests.factories import diverged
audit.default_auditor = lambda: returning(diverged())
sys.exit(main())
"""


def piped(*, out, **environment):
    base = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    return subprocess.run(
        [sys.executable, "-c", _COMMAND, "audit", *NODES, "--no-store"],
        stdout=out,
        stderr=subprocess.PIPE,
        env=base | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"} | environment,
        check=False,
    )


def test_a_reader_that_goes_away_changes_no_exit_status():
    reader, writer = os.pipe()
    os.close(reader)
    done = piped(out=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (2, b"")


_ANY_RESULT = """
import sys
from replcheck.cli.main import main
from replcheck.errors import NodeUnfit
from replcheck.runs import audit
from tests.fakes import raising, returning
from tests.factories import consistent, diverged
auditors = {
    "consistent": returning(consistent()),
    "diverged": returning(diverged()),
    "refused": raising(NodeUnfit("the node is a standby", node="db1")),
}
audit.default_auditor = lambda: auditors[sys.argv[1]]
sys.exit(main(sys.argv[2:]))
"""


def with_closed(stream: int, found: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose caller has closed a stream; without a HOME there is a warning to be told."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {stream}>&-', "sh", sys.executable, "-c", _ANY_RESULT, found, "audit", *NODES, *words],
        capture_output=True,
        env={"PATH": os.defpath, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "LANG": "C.UTF-8"},
        check=False,
    )


@pytest.mark.parametrize(("found", "status"), [("consistent", 0), ("diverged", 2), ("refused", 3)])
def test_a_closed_standard_error_changes_no_status_and_no_byte_of_the_output(found: str, status: int) -> None:
    done = with_closed(2, found, "--format", "json")
    assert (done.returncode, done.stderr) == (status, b"")
    if found == "refused":
        assert done.stdout == b""
    else:
        assert json.loads(done.stdout)["exit_code"] == status


def test_a_usage_error_that_nobody_can_read_ends_with_3() -> None:
    done = with_closed(2, "consistent", "--no-such-option")
    assert (done.returncode, done.stdout) == (3, b"")


@pytest.mark.parametrize(("found", "status"), [("consistent", 3), ("diverged", 2), ("refused", 3)])
def test_a_closed_standard_output_is_a_report_that_could_not_be_written(found: str, status: int) -> None:
    done = with_closed(1, found, "--no-store")
    assert done.returncode == status
    [line] = done.stderr.decode().splitlines()
    told = "the node is a standby" if found == "refused" else "cannot write the report: bad file descriptor"
    assert line == f"replcheck: error: {told}"


def test_with_every_stream_closed_nothing_reaches_a_file_that_was_opened_instead(tmp_path: Path) -> None:
    """The lowest free descriptors would be those of the streams."""
    report = tmp_path / "report.json"
    words = ("audit", *NODES, "--output", str(report), "--format", "json", "--events", str(tmp_path / "events"))
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", _ANY_RESULT, "diverged", *words],
        env={"PATH": os.defpath, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "LANG": "C.UTF-8"},
        check=False,
    )
    assert done.returncode == 2
    assert json.loads(report.read_text())["exit_code"] == 2
    assert all(json.loads(line)["event"] for line in (tmp_path / "events").read_text().splitlines())


def unread(found: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose standard error nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [sys.executable, "-c", _ANY_RESULT, found, "audit", *NODES, "--format", "json", *words],
            stdout=subprocess.PIPE,
            stderr=writer,
            env={"PATH": os.defpath, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "LANG": "C.UTF-8"},
            check=False,
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize(("found", "status"), [("consistent", 3), ("diverged", 2), ("refused", 3)])
def test_a_warning_that_nobody_can_read_ends_with_3_or_2_and_costs_no_report(found: str, status: int) -> None:
    done = unread(found)
    assert done.returncode == status
    if found == "refused":
        assert done.stdout == b""
    else:
        assert json.loads(done.stdout)["verdict"] == found


@pytest.mark.parametrize(("found", "status"), [("consistent", 0), ("diverged", 2), ("refused", 3)])
def test_where_there_is_nothing_to_say_it_does_not_matter_whether_anybody_reads(found: str, status: int) -> None:
    assert unread(found, "--no-store").returncode == status


def test_a_reader_of_standard_error_that_goes_away_in_the_middle_does_not_end_an_audit() -> None:
    """The first note is read, the second, of a broken file of events, is not: the divergence is found after it."""
    reader, writer = os.pipe()
    words = [sys.executable, "-c", _HOLDS_ON, "audit", *NODES, "--format", "json", "--events", "/dev/full"]
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=writer,
        env={"PATH": os.defpath, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "LANG": "C.UTF-8"},
    ) as process:
        os.close(writer)
        first = os.read(reader, 1000)
        os.close(reader)
        out, _ = process.communicate(b"go on\n", timeout=30)
    assert b"no record of this run is kept" in first
    assert process.returncode == 2
    assert json.loads(out)["verdict"] == "diverged"


_HOLDS_ON = """
import sys
from replcheck.cli.main import main
from replcheck.runs import audit
from tests.factories import diverged

async def holds_on(targets, options, *, run_id, cluster, emit, stop, gate, earlier):
    return diverged()

opened = audit.FanOut
def waiting(*arguments, **words):
    sys.stdin.readline()
    return opened(*arguments, **words)
audit.FanOut = waiting
audit.default_auditor = lambda: holds_on
sys.exit(main(sys.argv[1:]))
"""


def test_a_terminal_that_goes_away_under_the_bar_changes_no_verdict(run, monkeypatch):
    terminal = _Gone()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    ended = run("audit", *NODES, auditor=returning(diverged()))
    assert (ended.status, "DIVERGED" in ended.out, terminal.tried) == (2, True, True)


class _Gone(io.StringIO):
    """A terminal whose other end is closed."""

    tried = False

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return os.open(os.devnull, os.O_WRONLY)

    def write(self, text: str) -> int:
        self.tried = True
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("environment", [{"LC_ALL": "C"}, {"LANG": "C"}, {"LANG": "POSIX"}])
def test_a_plain_locale_gets_plain_ascii(environment):
    done = piped(out=subprocess.PIPE, **environment)
    assert done.stdout.isascii()
    assert b"x DIVERGED" in done.stdout


def test_a_utf8_locale_gets_signs():
    assert "✘ DIVERGED".encode() in piped(out=subprocess.PIPE, LANG="C.UTF-8", LC_ALL="C.UTF-8").stdout


def test_progress_is_quiet_when_nobody_watches():
    assert piped(out=subprocess.PIPE).stderr == b""


def test_a_terminal_sees_progress_and_still_gets_the_report(run, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert "CONSISTENT" in run("audit", *NODES).out
    assert "rows/s" in terminal.getvalue()
    terminal.truncate(0)
    run("audit", *NODES, "--quiet")
    assert "rows/s" not in terminal.getvalue()
