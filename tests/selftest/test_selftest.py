"""`replcheck selftest` on real servers: it sees everything, says so where it is blind, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from replcheck.audit import definitions
from replcheck.lab.cluster import remove, remove_root
from replcheck.lab.state import find_states
from replcheck.model.outcome import ExitStatus, Outcome
from replcheck.model.selftest import Innocence, Sight
from replcheck.postgres import digests
from replcheck.report.selftest import selftest_schema
from replcheck.runs.selftest import SelftestOptions, run_selftest
from replcheck.store import open_history
from tests import labs
from tests.commands import environment

SOURCE = Path(__file__).parents[2] / "src"
ENDS_WITHIN_S = 550
"""On a machine that does much else beside the tests."""


@pytest.fixture
def root(clusters_root: Path) -> Iterator[Path]:
    """A folder of clusters of the test's own, which must be gone when the test is over."""
    folder = clusters_root.with_name(f"{clusters_root.name}-selftest-{os.getpid()}")
    assert not folder.exists()
    yield folder
    left = [entry.name for entry in folder.rglob("*")] if folder.exists() else []
    for state in find_states(folder):
        remove(state)
    remove_root(folder)
    assert left == []


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("major", labs.majors())
def test_everything_is_seen_and_nobody_accused(root: Path, tmp_path: Path, major: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "replcheck", "selftest", "--format", "json", "--major", str(major), "--dir", str(root)],
        capture_output=True,
        text=True,
        env=environment(tmp_path, PGHOST="nowhere"),
        cwd=tmp_path,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    document = json.loads(done.stdout)
    jsonschema.validate(document, selftest_schema())
    missed = [found for found in document["differences"] if found["sight"] != "seen"]
    assert missed == []
    assert (document["twins_accused"], document["twins_unproven"]) == (0, 0), document["bystanders"]
    assert (done.returncode, document["verdict"]) == (ExitStatus.PROVEN, "passed")
    assert document["differences_planted"] > 280
    assert document["twins"] > 2 * 270
    assert {found["group"] for found in document["differences"]} == {
        "rows", "values", "definitions", "indexes", "nodes"
    }  # fmt: skip
    assert all(one["name"].startswith("xml") or "infinities" in one["name"] for one in document["not_tried"])
    history = open_history(tmp_path / ".local/state/replcheck/selftest.db")
    [record] = history.runs()
    assert (record.kind, record.run_id) == ("selftest", document["run_id"])
    assert history.result(record.run_id) == document


@pytest.mark.long
def test_a_blind_audit_fails_and_what_it_missed_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison counts rows and looks no further, and every definition is as good as another."""
    monkeypatch.setattr(digests.Digest, "__eq__", lambda one, other: one.rows == other.rows)
    monkeypatch.setattr(definitions, "definition_difference", lambda there, here: "")
    finished = run_selftest(SelftestOptions(root=root, quick=True))
    result = finished.result
    assert (finished.record.exit_status, result.outcome) == (ExitStatus.REFUTED, Outcome.REFUTED)
    missed = {found.name for found in result.differences if found.sight is Sight.MISSED}
    assert {
        "one bit of a value was flipped",
        "two rows of one page changed places",
        "text: null and empty",
        "a column's type is another, its bytes the same",
        "types: int2 and int4",
    } <= missed
    seen = {found.name for found in result.differences if found.sight is Sight.SEEN}
    assert "the line pointer of one row was marked dead" in seen
    assert "an index lost an entry" in seen
    reasons = {found.name: found.reason for found in result.differences}
    assert "nothing was said of public.flip_row_bytes on standby2" in reasons["one bit of a value was flipped"]
    assert f"{len(seen)} of {len(result.differences)} known differences seen" in finished.record.summary


@pytest.mark.long
def test_an_audit_that_accuses_the_healthy_fails(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table is said to be defined otherwise on every replica."""
    monkeypatch.setattr(definitions, "definition_difference", lambda there, here: "the columns are defined otherwise")
    finished = run_selftest(SelftestOptions(root=root, quick=True))
    assert finished.record.exit_status is ExitStatus.REFUTED
    # All but the sequences, which have no columns to be defined otherwise.
    assert finished.result.accused > 0.95 * len(finished.result.twins)
    assert all(twin.reason for twin in finished.result.twins if twin.state is Innocence.ACCUSED)


@pytest.mark.long
@pytest.mark.parametrize(
    ("step", "number"),
    [("starting", signal.SIGINT), ("under load", signal.SIGTERM), ("planting", signal.SIGINT)],
)
def test_a_signal_ends_it_and_removes_everything(root: Path, tmp_path: Path, step: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "replcheck", "selftest", "--quick", "--dir", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(tmp_path),
        cwd=tmp_path,
    ) as process:
        assert process.stderr is not None
        assert any(step in line for line in process.stderr)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == ExitStatus.UNCHECKED
    assert out == ""
    assert f"the self-test was ended by {number.name}" in err
    assert "Traceback" not in err


def test_without_server_programs_one_line_says_which_package(tmp_path: Path) -> None:
    code = (
        "import replcheck.postgres.programs as programs; programs.available_programs = lambda: ();"
        "from replcheck.cli import main; raise SystemExit(main(['selftest', '--no-store']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SOURCE), "XDG_STATE_HOME": str(tmp_path)},
        check=False,
    )
    assert done.returncode == ExitStatus.UNCHECKED
    assert done.stdout == ""
    assert done.stderr.splitlines()[-2:] == [
        "replcheck: error: no server programs of PostgreSQL were found",
        "hint: Install them with: pip install 'replcheck[lab]'.",
    ]
