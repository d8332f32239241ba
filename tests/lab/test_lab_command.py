"""`replcheck lab` as a person types it."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replcheck.cli import main
from replcheck.cli.lab_show import expectation, planted_lines, taken_over
from replcheck.config import load
from replcheck.lab.cluster import LabCluster
from replcheck.lab.failover import TakenOver
from replcheck.lab.ledger import LEDGER, Ledger
from replcheck.lab.planted import Cure, PlantedFault
from replcheck.lab.state import MARKER, make_root
from replcheck.model.audit import DifferenceKind
from replcheck.postgres import processes
from replcheck.postgres.local import connect

Capture = pytest.CaptureFixture[str]


class Lab:
    """The command with the options that name one cluster."""

    def __init__(self, root: Path, name: str, capture: Capture) -> None:
        self.root, self.name, self._capture = root, name, capture

    def __call__(self, *words: str, status: int = 0) -> str:
        """Run it, expect an exit status, and return standard output, or standard error where it fails."""
        self._capture.readouterr()
        got = main(["lab", *words, "--dir", str(self.root), "--name", self.name])
        said = self._capture.readouterr()
        assert got == status, said.err
        assert "Traceback" not in said.err
        return said.err if status else said.out


@pytest.fixture
def lab(clusters_root: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    command = Lab(clusters_root, f"cli_{os.getpid()}", capsys)
    yield command
    command("down")
    assert not (clusters_root / command.name).exists()


def test_a_cluster_from_up_to_down(lab: Lab) -> None:
    out = lab("up", "--standbys", "1", "--patients", "100")
    assert "PostgreSQL" in out
    audit = shlex.split(next(line for line in out.splitlines() if line.startswith("audit it:")).partition(":")[2])
    assert audit[:3] == ["replcheck", "audit", "--primary"]
    with connect(audit[3], node="primary") as connection:
        assert connection.execute("select count(*) from clinic.patient").fetchall() == [(100,)]
    written = tomllib.loads((lab.root / lab.name / "replcheck.toml").read_text())
    assert written["cluster"] == lab.name
    assert list(written["nodes"]) == ["primary", "standby1"]
    assert load(lab.root / lab.name / "replcheck.toml").policy.copies is not None
    watch = shlex.split(next(line for line in out.splitlines() if line.startswith("watch it:")).partition(":")[2])
    assert watch == ["replcheck", "watch", "--config", str(lab.root / lab.name / "replcheck.toml")]
    with connect(f"{written['nodes']['standby1']['dsn']} {written['connect']}", node="standby1") as connection:
        assert connection.execute("select pg_is_in_recovery()").fetchall() == [(True,)]

    assert "already" in lab("up", status=3)
    assert "transactions in" in lab("load", "--seconds", "0.5", "--rate", "40")
    assert "writing to primary" in lab("load", "--background", "--rate", "20")
    assert "written to already" in lab("load", "--background", status=3)
    assert "streaming" in lab("status")
    assert "1 row of clinic.chart changed" in lab("break", "flip-row-bytes")
    said = lab("status")
    assert "flip-row-bytes on standby1" in said
    assert ", writing" in said
    assert "copied anew" in lab("heal")
    assert "transactions in" in lab("load", "--stop")
    assert "nothing writes" in lab("load", "--stop", status=3)
    assert "was removed" in lab("down")


def test_a_cluster_fails_over_and_the_ledger_tells_what_was_lost(lab: Lab) -> None:
    lab("up", "--patients", "100", "--archive")
    assert "there is no ledger" in lab("ledger", status=3)
    lab("load", "--seconds", "1", "--rate", "20", "--ledger")
    assert "standby2 took over from primary" in lab("switchover", "--to", "standby2")
    said = lab("ledger")
    assert "standby2 holds" in said
    Ledger(lab.root / lab.name / LEDGER).note("nobody", 1)
    assert "lacks 1 acknowledged commit" in lab("ledger", status=3)
    assert "took over from standby2" in lab("failover")
    assert "standby2 is down" not in lab("status")
    assert "node standby2 was copied anew" in lab("heal")
    assert "fails from now on" in lab("break", "break-archive")
    assert "archives its WAL again" in lab("heal")


def test_the_faults_are_listed(capsys: Capture) -> None:
    assert main(["lab", "break", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "lost-write" in listed
    assert "split-brain" in listed


CHANGED, EXTRA, MISSING = DifferenceKind.CHANGED, DifferenceKind.EXTRA, DifferenceKind.MISSING


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, "nothing in the rows; the node itself is the finding"),
        ({"relation": "clinic.chart"}, "no row that differs"),
        ({"relation": "clinic.chart", "kind": CHANGED, "rows": 1}, "1 row of clinic.chart changed"),
        (
            {"relation": "clinic.chart", "kind": EXTRA, "also": frozenset({MISSING, CHANGED})},
            "rows of clinic.chart extra, perhaps changed or missing ones beside them",
        ),
        (
            {"relation": "clinic.chart", "kind": DifferenceKind.UNREADABLE, "sqlstate": "XX001"},
            "rows of clinic.chart unreadable, SQLSTATE XX001",
        ),
    ],
)
def test_what_an_audit_should_find_is_told_with_every_kind_of_it(facts: dict[str, Any], expected: str) -> None:
    planted = PlantedFault(fault="lost-write", node="standby1", what="something", cure=Cure.COPY, **facts)
    assert expectation(planted) == expected


def test_a_failover_of_a_primary_that_was_down_already_tells_no_outage_that_it_did_not_see() -> None:
    done = TakenOver(old="primary", new="standby1", seconds=0.31)
    assert taken_over(done) == "standby1 took over from primary: nobody took writes for 0.3 s"
    told = taken_over(replace(done, was_down=True))
    assert told.startswith("standby1 took over from primary: it took writes 0.3 s after this began")
    assert told.endswith("primary was down before already")


def test_no_name_of_a_broken_relation_steers_the_terminal() -> None:
    names: dict[str, Any] = {"relation": 'public."esc\x1b[31mred\x1b]0;title\x07"', "database": "data\nbase"}
    what = "one entry was taken out of index \x1b[2Jbad"
    planted = PlantedFault(fault="drop", node="standby1", what=what, cure=Cure.COPY, kind=MISSING, block=1, **names)
    lines = planted_lines(planted)
    assert all(line.isprintable() for line in lines)
    assert r'public."esc\x1b[31mred\x1b]0;title\x07" of database data\nbase' in lines[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["load", "--seconds", "1"], "there is no lab cluster"),
        (["heal"], "there is no lab cluster"),
        (["break", "lose-row"], "there is no lab cluster"),
        (["break"], "no fault was named"),
        (["up", "--major", "9"], "PostgreSQL 9 were found"),
        (["up", "--standbys", "-1"], "standbys"),
    ],
)
def test_what_goes_wrong_is_one_line_with_a_hint(lab: Lab, words: list[str], message: str) -> None:
    said = lab(*words, status=3)
    assert message in said
    assert said.count("error:") == 1
    assert said.strip().splitlines()[-1].startswith("hint:")


def test_a_cluster_without_tables_has_nothing_to_break(lab: Lab) -> None:
    lab("up", "--standbys", "1", "--patients", "0")
    assert "no table to damage" in lab("break", "lose-row", status=3)
    assert "no fault" not in lab("status")


def test_down_removes_what_a_kill_left(clusters_root: Path, lab: Lab, newest_major: int) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from replcheck.lab import cluster\n"
        "cluster._copy_and_follow = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "cluster.LabCluster.create(Path(sys.argv[1]), name=sys.argv[2], major=int(sys.argv[3]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(clusters_root), lab.name, str(newest_major)],
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = clusters_root / lab.name / "primary" / "data"
    assert processes.processes_in(left)
    lab("down")
    assert processes.processes_in(left) == []
    assert not left.exists()


def test_down_removes_a_cluster_whose_nodes_were_killed_and_whose_load_runs(lab: Lab) -> None:
    lab("up", "--standbys", "1", "--patients", "50")
    lab("load", "--background")
    cluster = LabCluster.open(lab.root, lab.name)
    load = cluster.state.load
    assert load is not None
    assert load.alive
    for node in cluster.nodes.values():
        os.kill(node.pid or 0, signal.SIGKILL)
    lab("down")
    deadline = time.monotonic() + 10
    while load.alive:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not any(str(cluster.directory) in line for line in shared_memory_owners())


def shared_memory_owners() -> list[str]:
    return Path("/proc/sysvipc/shm").read_text().splitlines() if Path("/proc/sysvipc/shm").exists() else []


def test_a_folder_that_is_not_a_clusters_is_never_touched(lab: Lab) -> None:
    make_root(lab.root)
    folder = lab.root / lab.name
    folder.mkdir()
    (folder / "letter").write_text("keep me")
    try:
        assert "there is no lab cluster" in lab("down", status=3)
        stolen = {"kind": "replcheck lab", "format": 1, "directory": "/elsewhere"}
        (folder / MARKER).write_text(json.dumps(stolen))
        lab("down", status=3)
        assert (folder / "letter").read_text() == "keep me"
    finally:
        (folder / MARKER).unlink(missing_ok=True)
        (folder / "letter").unlink()
        folder.rmdir()


def test_an_empty_folder_that_was_there_before_stays(tmp_path: Path, capsys: Capture) -> None:
    assert main(["lab", "down", "--dir", str(tmp_path)]) == 0
    assert tmp_path.is_dir()
    assert "nothing to remove" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the servers to another account")
def test_a_folder_that_the_servers_cannot_reach_is_refused(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    assert main(["lab", "up", "--dir", str(tmp_path / "closed")]) == 3
    assert "cannot be reached by" in capsys.readouterr().err
    assert list((tmp_path / "closed").iterdir()) == []
