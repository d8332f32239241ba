"""Checks of real servers: green while all is well, and with each fault the control that it breaks, in every format."""

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from replcheck.lab.faults import apply_fault, heal
from replcheck.model.run import RunStart
from replcheck.postgres.local import connect
from replcheck.runs.lock import is_held, lock_file
from replcheck.store import open_evidence
from tests.check.clinic import Clinic, clinic
from tests.check.goldens import every_golden, golden, plain
from tests.commands import assert_one_line, finished, started, wait_for
from tests.evidences import payload_of

ASKED = ("copies", "consistency", "recovery-point", "restore", "placement", "integrity", "evidence")
EXPIRED = {'max_age = "24h"\nwarn    = "18h"': 'max_age = "1ms"\nwarn    = "1ms"'}
"""Every proof is too old, and the next audit is due at once."""
GREEN = dict.fromkeys(ASKED, "met")


@pytest.fixture(scope="module")
def place(clusters_root: Path, newest_major: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A clinic in which all is well, and nothing is asked of failures that never happened."""
    home = tmp_path_factory.mktemp("clinic")
    with clinic(clusters_root, home, name=f"faults_{os.getpid()}", major=newest_major) as made:
        made.drops = ("failover", "replacement")
        made.write()
        made.commit()
        made.check("--run", "audit,drill")
        made.wait_until(GREEN)
        yield made


def wait_for_problems(place: Clinic, name: str, pattern: str) -> None:
    """Wait until a check says of a control that this is wrong with it, and nothing else."""

    def told() -> str:
        return "; ".join(next(one["problems"] for one in place.check()["controls"] if one["name"] == name))

    wait_for(lambda: re.fullmatch(pattern, told()) is not None, what=told)


def test_where_all_is_well_it_is_silent_and_every_format_says_so(place, tmp_path):
    place.commit()
    place.wait_until(GREEN)
    ended = place.run("check", "--metrics", str(tmp_path / "x.prom"))
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    families = {family.name: family for family in text_string_to_metric_families((tmp_path / "x.prom").read_text())}
    assert [sample.value for sample in families["replcheck_check_status"].samples] == [0]
    running = {sample.labels["node"]: sample.value for sample in families["replcheck_node_running"].samples}
    assert running == {"primary": 1, "standby1": 1, "standby2": 1}
    ended = place.run("check", "--format", "nagios")
    assert ended.status == 0
    assert ended.out.startswith(
        "REPLCHECK OK - all that is asked of clinic is met: 7 controls | copies_running=3;;3:;0"
    )
    every_golden("met", place, tmp_path / "x.prom", status=0, people=["--verbose"])


def test_two_nodes_on_one_host_are_found_out(place):
    both = 'distinct = ["host", "zone"]'
    place.write({both: both})
    try:
        place.wait_until(GREEN | {"placement": "breached"})
        ended = place.run("check")
        assert ended.status == 2
        golden("one-host", plain(ended.out))
    finally:
        place.write()


def test_an_expired_proof_breaches_the_consistency(place, tmp_path):
    place.write(EXPIRED)
    try:
        found = place.standings()
        assert (found["consistency"], found["copies"]) == ("breached", "unchecked")
        every_golden("expired-proof", place, tmp_path / "x.prom", status=2)
    finally:
        place.write()


def test_a_stopped_standby_breaches_the_copies_alone(place, tmp_path):
    # A watch writes what it saw every ten seconds: how much of the window is short depends on when it is asked.
    place.write({"share   = 99.9": "# no share"})
    place.cluster.node("standby2").stop()
    try:
        place.wait_until(GREEN | {"copies": "breached"})
        every_golden("stopped", place, tmp_path / "x.prom", status=2)
    finally:
        place.write()
        place.cluster.node("standby2").start()
        place.cluster.wait_streaming()
        place.audit()
    place.wait_until(GREEN)


def test_a_standby_that_is_far_behind_is_at_risk(place, tmp_path):
    place.config.write_text(place.config.read_text() + '[watch]\nmax_lag = "1kB"\n')
    apply_fault(place.cluster, "pause-replay", node="standby1")
    try:
        for _ in range(20):
            place.commit()
        # Nothing more is written then, and the other standby falls behind no more.
        place.cluster.primary.execute("select pg_switch_wal()")
        place.wait_until(GREEN | {"copies": "at risk"})
        wait_for_problems(place, "copies", r"standby1 is \S+[kM]B behind \(limit 1kB\)")
        every_golden("lag", place, tmp_path / "x.prom", status=1)
    finally:
        heal(place.cluster)
        place.write()
    place.cluster.catch_up()
    place.wait_until(GREEN)


@pytest.mark.long
def test_a_broken_archive_breaches_the_recovery_point_alone(place, tmp_path):
    place.write({'max_age = "5min"': 'max_age = "20s"', 'warn    = "4min"': 'warn    = "19s"'})
    apply_fault(place.cluster, "break-archive")
    try:
        place.commit()
        place.wait_until(GREEN | {"recovery-point": "breached"}, within_s=90)
        # On a slow machine it is too far behind before the first attempt to archive has failed, and a recorder writes
        # only every few seconds what it saw.
        now = r"the archive reaches to .+ before now: archiving [0-9A-F]{24} fails \(limit 20s\)"
        before = r"in the last 1min it was up to .+ old \(limit 20s\)"
        wait_for_problems(place, "recovery-point", f"{now}; {before}")
        every_golden("broken-archive", place, tmp_path / "x.prom", status=2)
    finally:
        heal(place.cluster)
        place.write()
    place.wait_until(GREEN, within_s=90)


@pytest.mark.long
def test_a_divergence_breaches_the_consistency_alone(place, tmp_path):
    apply_fault(place.cluster, "lose-row", node="standby2", relation="public.visit")
    try:
        place.audit(status=2)
        place.wait_until(GREEN | {"consistency": "breached"})
        every_golden("diverged", place, tmp_path / "x.prom", status=2)
    finally:
        heal(place.cluster)
        place.cluster.catch_up()
        place.audit()
    place.wait_until(GREEN)


@pytest.mark.long
def test_a_failed_drill_breaches_the_restore_and_leaves_the_recovery_point_at_risk(place, tmp_path):
    with place.broken_wal():
        place.drill(status=2)
    place.wait_until(GREEN | {"restore": "breached", "recovery-point": "at risk"})
    every_golden("failed-drill", place, tmp_path / "x.prom", status=2)
    place.drill()
    place.wait_until(GREEN)


class HeldMonitor:
    """A monitor of cron jobs that keeps a check waiting: it does not answer one of its pings until it is let go."""

    def __init__(self, path: str) -> None:
        self.entered, self.go, self.heard = threading.Event(), threading.Event(), list[str]()
        held = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                held.heard.append(self.path)
                if self.path == path:
                    held.entered.set()
                    assert held.go.wait(120)
                with suppress(OSError):  # whom it kept may be gone
                    self.send_response(200)
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def variables(self) -> dict[str, str]:
        return {"MONITOR": f"http://127.0.0.1:{self.server.server_port}/clinic"}


@contextmanager
def held_monitor(place: Clinic, path: str) -> Iterator[HeldMonitor]:
    """Have the configuration name a monitor while the block runs."""
    held = HeldMonitor(path)
    thread = threading.Thread(target=held.server.serve_forever)
    thread.start()
    place.config.write_text(place.config.read_text() + 'ping_env = "MONITOR"\n')
    try:
        yield held
    finally:
        held.go.set()
        held.server.shutdown()
        thread.join()
        held.server.server_close()
        place.write()


@pytest.fixture
def well(place: Clinic) -> Iterator[Clinic]:
    """A clinic in which all is well, with no run that did not end; its configuration is written anew afterwards."""
    place.commit()
    place.wait_until(GREEN)
    assert open_evidence(place.store).unended("clinic") == []
    yield place
    place.write()


def test_of_two_checks_at_once_one_does_the_work_and_the_other_is_told_so(well):
    before = {run.run_id for run in well.reader().runs_of("clinic", "check", 1000)}
    with (
        held_monitor(well, "/clinic/start") as monitor,
        started("check", "--format", "json", home=well.home, **monitor.variables) as process,
    ):
        assert monitor.entered.wait(60)
        other = well.run("check", **monitor.variables)
        assert process.poll() is None
        monitor.go.set()
        first = finished(process)
    said = assert_one_line(other, status=3)
    assert said.startswith('replcheck: error: a check of cluster "clinic" is already running\nhint: Wait for it to end')
    assert first.status == 0, first
    # A monitor that is slow to answer is told again.
    assert list(dict.fromkeys(monitor.heard)) == ["/clinic/start", "/clinic"], "who is turned away tells no monitor"
    runs = [run for run in well.reader().runs_of("clinic", "check", 1000) if run.run_id not in before]
    [worked] = [run for run in runs if run.run_id == json.loads(first.out)["run_id"]]
    [turned_away] = [run for run in runs if run is not worked]
    assert (worked.verdict, worked.failure) == ("met", None)
    assert (turned_away.verdict, turned_away.failure.error) == ("unchecked", "AlreadyRunning")
    assert {told_of(well, run.run_id)["state"] for run in runs} == {"ended", "skipped"}
    assert well.run("evidence", "verify").status == 0


def told_of(place: Clinic, run_id: str) -> dict[str, Any]:
    """Return what the chain says of how a run ended."""
    record = open_evidence(place.store).of_runs([run_id])[run_id]
    told: dict[str, Any] = payload_of((record.envelope or "").encode())["predicate"]["run"]
    return told


def recorded_by_the_next_check(place: Clinic, killed: Sequence[RunStart]) -> None:
    """Check that runs which were killed hold nothing up, and that the next check tells of them, before itself."""
    evidence = open_evidence(place.store)
    assert [is_held(lock_file(place.store, run.kind)) for run in killed] == [False] * len(killed)
    assert evidence.of_runs([run.run_id for run in killed]) == {}
    head = evidence.head("clinic")
    before = head.sequence if head else 0
    following = place.check()
    assert following["verdict"] == "met", following
    records = evidence.of_runs([*(run.run_id for run in killed), following["run_id"]])
    assert [record.run_id for record in sorted(records.values(), key=lambda one: one.sequence)] == list(records)
    assert [record.sequence - before for record in records.values()] == list(range(1, len(records) + 1))
    for run in killed:
        told = told_of(place, run.run_id)
        assert (told["kind"], told["state"], told["outcome"]) == (run.kind, "aborted", "unchecked")
        assert told["summary"] == "it was killed before it could end"
        assert "did not end" in place.run("history", "show", run.run_id).out
    assert evidence.unended("clinic") == []
    assert place.run("evidence", "verify").status == 0


def sessions(place: Clinic) -> list[str]:
    """Return what replcheck has open on any node, by its name there."""
    asked = "select application_name from pg_stat_activity where application_name ~ '^replcheck (?!lab)'"
    return [name for node in place.cluster.nodes.values() for (name,) in node.execute(asked)]


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_check_that_is_killed_while_a_monitor_is_slow_is_recorded_by_the_next_one(well):
    with (
        held_monitor(well, "/clinic/start") as monitor,
        started("check", home=well.home, **monitor.variables) as process,
    ):
        assert monitor.entered.wait(60)
        [killed] = open_evidence(well.store).unended("clinic")
        assert (killed.kind, is_held(lock_file(well.store, "check"))) == ("check", True)
        kill(process)
    recorded_by_the_next_check(well, [killed])


@pytest.mark.long
def test_a_check_that_is_killed_in_the_middle_of_an_audit_is_recorded_with_it_by_the_next_one(well):
    primary, evidence = well.cluster.primary, open_evidence(well.store)
    well.write(EXPIRED)
    with (
        connect(primary.dsn(), node="primary", autocommit=False) as somebody,
        started("check", "--run", "audit", home=well.home) as process,
    ):
        somebody.execute("lock table visit in access exclusive mode")  # the audit cannot come to an end
        wait_for(lambda: len(evidence.unended("clinic")) == 2)
        killed = evidence.unended("clinic")
        kill(process)
    well.write()
    assert [run.kind for run in killed] == ["check", "audit"]
    wait_for(lambda: set(sessions(well)) == {"replcheck watch"}, what=lambda: f"left: {sessions(well)}")
    recorded_by_the_next_check(well, killed)


@pytest.mark.long
def test_a_check_that_is_killed_while_it_tells_a_monitor_how_it_ended_has_ended(well):
    before = well.reader().newest_run("clinic", "check", datetime.now(UTC))
    with (
        held_monitor(well, "/clinic") as monitor,
        started("check", home=well.home, **monitor.variables) as process,
    ):
        assert monitor.entered.wait(60)
        kill(process)
    ended = well.reader().newest_run("clinic", "check", datetime.now(UTC))
    assert ended.run_id != before.run_id
    assert (ended.verdict, told_of(well, ended.run_id)["state"]) == ("met", "ended")
    recorded_by_the_next_check(well, [])
