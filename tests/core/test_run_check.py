"""The use case `check`, with fakes for nodes, audits and drills, and a real history and a real monitor beside it."""

import io
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from replcheck.config import load
from replcheck.errors import ConfigurationError, DrillBlocked, Interrupted, ReplcheckError, StoreError, UsageError
from replcheck.evidence.keys import create_keys
from replcheck.model.control import ControlName, ControlResult, Standing
from replcheck.model.live import ClusterView, EventKind, NodeState
from replcheck.model.outcome import Outcome
from replcheck.model.plain import to_plain, utc_text
from replcheck.model.run import RunRecord
from replcheck.report.check_human import print_check
from replcheck.report.markdown import paper_markdown
from replcheck.report.papers.check import check_paper
from replcheck.report.style import Style
from replcheck.runs.audit import FinishedAudit
from replcheck.runs.check import CheckParts, FinishedCheck, answer_from_history, run_check
from replcheck.runs.check_due import Work
from replcheck.runs.check_facts import Looked
from replcheck.runs.check_request import CheckFlags, CheckRequest, check_request
from replcheck.runs.drill import FinishedDrill
from replcheck.runs.evidence import evidence_head
from replcheck.runs.lock import lock_file
from replcheck.runs.ping import Patience, Ping, ping_address
from replcheck.store import open_check_reader, open_evidence, open_history
from replcheck.store.live_rows import event_values
from tests.core.checks import CLUSTER, DAY, HOUR, NOW, ago, event, node, proof, span, view, watch
from tests.core.test_check_reader import insert, keep, keep_proofs, record
from tests.core.test_evidence_store import tampered, written
from tests.evidences import run as made_up

CONFIG = """
cluster = "clinic"
[nodes]
db1 = { dsn = "host=/nowhere1", zone = "rack-a" }
db2 = { dsn = "host=/nowhere2", zone = "rack-b" }
db3 = { dsn = "host=/nowhere3", zone = "rack-c" }
[backups.nightly]
kind = "dump"
path = "/nowhere/dumps"
[policy]
copies = { running = 3, proven = 2 }
consistency = { max_age = "24h", warn = "18h" }
placement = { distinct = ["zone"] }
"""
QUICK = Patience(attempts=3, request_s=2.0, first_wait_s=0.01, whole_s=5.0)


def look(shown: ClusterView, servers_at: datetime | None = None) -> Callable[..., Looked]:
    return lambda request, earlier: Looked(view=shown, servers_at=servers_at)


@dataclass
class Place:
    """A configuration and a history, and the checks of them."""

    folder: Path
    text: str = CONFIG
    told: list[str] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.folder / "clinic.db"

    def request(self, text: str = "", now: datetime = NOW, **flags: Any) -> CheckRequest:
        path = self.folder / "replcheck.toml"
        path.write_text(self.text + text)
        return check_request(CheckFlags(**flags), load(path), now)

    def parts(self, **changes: Any) -> CheckParts:
        held: dict[str, Any] = {"look": look(view()), "clock": lambda: NOW, "patience": QUICK}
        return CheckParts(**held | changes)

    def check(self, request: CheckRequest | None = None, *, record: bool = True, **changes: Any) -> FinishedCheck:
        return run_check(
            request or self.request(),
            store=self.store,
            record=record,
            tell=self.told.append,
            parts=self.parts(**changes),
        )

    def watched(self, *, proven: bool = True) -> None:
        """Have a history of three days of samples, and young proofs."""
        open_history(self.store)
        keep(self.store, [span(name, 3 * DAY, 5) for name in ("db1", "db2", "db3")], [watch(3 * DAY, 5)])
        if proven:
            keep_proofs(self.store, [proof(name, 2 * HOUR) for name in ("db2", "db3")])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def control(finished: FinishedCheck, name: ControlName) -> ControlResult:
    assert finished.result is not None, finished.error
    return finished.result.control(name)


def test_a_check_looks_evaluates_and_leaves_a_record(place):
    place.watched()
    finished = place.check()
    assert finished.record.outcome is Outcome.PROVEN, finished.record.summary
    assert (finished.record.kind, finished.record.verdict, finished.unrecorded) == ("check", "met", "")
    reader = open_check_reader(place.store)
    [kept] = reader.newest_results("clinic", "check", 1)
    assert kept.run == finished.record
    assert isinstance(kept.document, dict)
    assert kept.document["outcome"] == "proven"


def test_without_a_history_the_look_alone_counts(place):
    finished = place.check(record=False)
    assert control(finished, ControlName.CONSISTENCY).problems == ("there is no history yet",)
    assert control(finished, ControlName.PLACEMENT).standing is Standing.MET
    assert finished.record.outcome is Outcome.UNCHECKED
    assert not place.store.exists()


def test_the_first_check_begins_the_history(place):
    assert control(place.check(), ControlName.CONSISTENCY).problems[0] == "db2 was never proven as a whole"
    assert place.store.exists()


def test_a_check_of_one_control_says_what_it_left_out_and_is_asked_for_something_else_than_a_whole_one(place):
    place.watched()
    whole, alone = place.check(), place.check(place.request(controls=("placement",)))
    assert whole.result is not None
    assert alone.result is not None
    assert (whole.result.left_out, alone.result.left_out) == ((), (ControlName.COPIES, ControlName.CONSISTENCY))
    assert alone.record.summary == "placement of clinic is met; nothing else was looked at."
    assert whole.record.argument_digest != alone.record.argument_digest
    section = paper_markdown(check_paper(alone.result), Style(zone=UTC)).partition("## Controls")[2]
    assert "The policy also asks for copies and consistency, which this check was told to leave out." in section
    assert "Nobody asked for recovery-point, restore" in section
    shown = io.StringIO()
    print_check(alone.result, Console(file=shown, width=100), Style(zone=UTC), verbose=True)
    assert shown.getvalue().count("- left out of this check") == 2


def test_a_check_of_one_control_is_not_taken_for_one_of_a_policy_that_asks_for_no_other(place):
    alone = place.request(controls=("placement",))
    place.text = CONFIG.partition("copies =")[0] + 'placement = { distinct = ["zone"] }\n'
    assert alone.argument_digest != place.request().argument_digest


def test_a_breach_is_told_by_the_record(place):
    place.watched()
    finished = place.check(look=look(view(node("db3", NodeState.LOST))))
    assert (finished.record.exit_status, finished.record.verdict) == (2, "breached")
    assert finished.record.summary.startswith("copies is breached")


def test_what_an_audit_leaves_out_because_the_configuration_says_so_is_no_lack_of_it(place):
    place.watched(proven=False)
    request = place.request('[audit]\nexclude = ["clinic.public.tmp_*"]\n')
    part = [replace(proof(name, 2 * HOUR, whole=False), scope_digest=request.scope_digest) for name in ("db2", "db3")]
    keep_proofs(place.store, part)
    found = control(place.check(request), ControlName.CONSISTENCY)
    assert found.standing is Standing.MET
    assert "relations like clinic.public.tmp_*: the configuration keeps them out of audits" in found.not_proven
    assert control(place.check(), ControlName.CONSISTENCY).standing is Standing.UNCHECKED


def test_an_old_proof_and_an_old_failover_are_found_behind_many_others(place):
    open_history(place.store)
    keep_proofs(place.store, [proof(name, 90 * DAY) for name in ("db2", "db3")])
    found = control(place.check(), ControlName.CONSISTENCY)
    assert (found.standing, found.problems[0]) == (Standing.BREACHED, "the proof of db2 is 90d old (limit 1d)")


def test_a_failover_that_one_sample_told_stays_one_when_the_old_primary_is_back(place):
    place.watched()
    began = ago(2 * HOUR + 1)
    told = (
        event(EventKind.PRIMARY_LOST, 2 * HOUR, "db3", began_at=began),
        event(EventKind.SWITCHED_OVER, 2 * HOUR, "db1", began_at=began, seconds=1.0, detail="db3"),
        event(EventKind.NODE_BACK, HOUR, "db3", began_at=began, seconds=3600.0),
    )
    insert(place.store, "cluster_events", [event_values("clinic", one) for one in told])
    found = control(place.check(place.request('failover = { max_time = "60s" }\n')), ControlName.FAILOVER)
    assert found.measured == "the last failover, 2h ago, took 1s to db1"
    assert not [problem for problem in found.problems if "nobody took over" in problem]


# --- the clock


def test_a_clock_that_was_set_back_leaves_nothing_met(place):
    place.watched()
    finished = place.check(clock=lambda: ago(3 * DAY))
    assert finished.record.outcome is Outcome.UNCHECKED
    found = control(finished, ControlName.CONSISTENCY)
    assert found.problems[0] == "the clock of this machine is 2d 23h behind what the history holds: it was set back"


@pytest.mark.parametrize(("servers_at", "standing"), [(NOW, Standing.MET), (ago(HOUR), Standing.UNCHECKED)])
def test_servers_that_tell_the_same_time_confirm_a_clock(place, servers_at, standing):
    place.watched()
    open_history(place.store).begin(record("ff", began_ago=-HOUR))
    finished = place.check(look=look(view(), servers_at))
    assert control(finished, ControlName.PLACEMENT).standing is standing


# --- the history


def test_a_history_of_a_newer_version_is_one_clear_line(place):
    open_history(place.store)
    with sqlite3.connect(place.store) as database:
        database.execute("update replcheck_meta set value = '99' where key = 'schema_version'")
    database.close()
    finished = place.check()
    assert isinstance(finished.error, StoreError)
    assert "has schema version 99" in finished.error.message
    assert (finished.result, finished.record.exit_status) == (None, 3)


def test_a_file_that_is_no_history_is_one_clear_line(place):
    place.store.write_bytes(b"no database at all, but long enough to be taken for one" * 30)
    assert isinstance(place.check().error, StoreError)


def test_a_record_that_cannot_be_kept_changes_no_status(place, monkeypatch):
    place.watched()

    def refuse(*_: object, **__: object) -> None:
        raise StoreError("history clinic.db: database or disk is full")

    monkeypatch.setattr("replcheck.store.history.History.begin", refuse)
    monkeypatch.setattr("replcheck.store.history.History.finish", refuse)
    finished = place.check()
    assert finished.record.outcome is Outcome.PROVEN
    assert finished.unrecorded == "history clinic.db: database or disk is full"


# --- evidence


@pytest.fixture
def key(tmp_path: Path) -> str:
    """The configuration's words for a signing key."""
    path = tmp_path / "clinic.key"
    create_keys(path)
    return f'evidence = {{}}\n[output]\nsigning_key = "{path}"\n'


def test_a_check_is_a_signed_record_and_the_next_one_finds_the_chain_whole(place, key):
    place.watched()
    place.text = CONFIG + key
    first = place.check()
    assert first.evidence is not None
    assert control(first, ControlName.EVIDENCE).problems == ("there is no record of evidence yet",)
    second = place.check()
    found = control(second, ControlName.EVIDENCE)
    assert (found.standing, found.problems) == (Standing.MET, ())
    assert second.result is not None
    assert second.evidence is not None
    assert second.result.evidence_head == first.evidence.sha256
    assert second.evidence.signed
    assert answer_from_history(place.request(), place.store, lambda: NOW).evidence_head == second.evidence.sha256


def tamper(store: Path, which: str) -> int:
    """Change one letter of a record and return its number."""
    with sqlite3.connect(store) as database:
        [(sequence, envelope)] = database.execute(
            f"select sequence, envelope from evidence_records order by sequence {which}"
        ).fetchall()
        changed = envelope.replace("A", "B", 1)
        database.execute("update evidence_records set envelope = ? where sequence = ?", (changed, sequence))
    database.close()
    return int(sequence)


def test_a_record_that_was_changed_is_refuted(place, key):
    place.watched()
    place.text = CONFIG + key
    for _ in range(3):
        place.check()
    sequence = tamper(place.store, "desc limit 1")
    found = control(place.check(), ControlName.EVIDENCE)
    assert found.standing is Standing.BREACHED
    assert f"record {sequence}" in found.problems[0]


def test_a_record_that_was_changed_behind_a_mark_is_refuted_once_all_is_verified_again(place, key, monkeypatch):
    place.watched()
    place.text = CONFIG + key
    for _ in range(3):
        place.check()
    sequence = tamper(place.store, "asc limit 1 offset 1")
    assert control(place.check(), ControlName.EVIDENCE).standing is Standing.MET
    monkeypatch.setattr("replcheck.runs.check_evidence.VERIFIED_EVERY_S", 0.0)
    found = control(place.check(), ControlName.EVIDENCE)
    assert found.standing is Standing.BREACHED
    assert f"record {sequence}" in found.problems[0]


def test_unsigned_records_are_at_risk(place):
    place.watched()
    place.text = CONFIG + "evidence = {}\n"
    place.check()
    found = control(place.check(), ControlName.EVIDENCE)
    assert found.standing is Standing.AT_RISK
    assert "bears a signature that could be verified" in found.problems[0]


def test_without_a_key_the_whole_chain_is_verified_once_a_day_and_not_by_each_check(place, monkeypatch):
    place.watched()
    place.text = CONFIG + "evidence = {}\n"
    place.check()
    place.check()
    sequence = tamper(place.store, "asc limit 1 offset 1")
    assert control(place.check(), ControlName.EVIDENCE).standing is Standing.AT_RISK
    monkeypatch.setattr("replcheck.runs.check_evidence.VERIFIED_EVERY_S", 0.0)
    found = control(place.check(), ControlName.EVIDENCE)
    assert found.standing is Standing.BREACHED
    assert f"record {sequence}" in found.problems[0]


def test_records_made_without_the_key_are_at_risk_and_an_edited_proof_is_a_breach(place, key, monkeypatch):
    place.watched()
    written(place.store, 2, by=None)
    place.text = CONFIG + key
    place.check()
    found = control(place.check(), ControlName.EVIDENCE)
    assert found.standing is Standing.AT_RISK
    assert "3 of 4 records are not signed, record 1 the first" in found.problems[0]
    tampered(place.store, f"UPDATE audit_nodes SET verdict = 'diverged' WHERE run_id = '{made_up(0).run_id}'")
    monkeypatch.setattr("replcheck.runs.check_evidence.VERIFIED_EVERY_S", 0.0)
    found = control(place.check(), ControlName.EVIDENCE)
    assert found.standing is Standing.BREACHED
    assert "said of the replicas was changed" in found.problems[0]


def test_a_key_that_others_may_read_is_refused_before_anything_is_looked_at(place, key, monitor):
    place.text = CONFIG + key
    (place.folder / "clinic.key").chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"clinic\.key"):
        pinged(place, monitor)
    assert monitor.heard == []


# --- one at a time


def test_two_checks_at_once_are_one_too_many(place):
    place.watched()
    entered, go = threading.Event(), threading.Event()

    def slow(request: CheckRequest, earlier: ClusterView | None) -> Looked:
        entered.set()
        assert go.wait(30)
        return Looked(view=view(), servers_at=None)

    first: list[FinishedCheck] = []
    thread = threading.Thread(target=lambda: first.append(place.check(look=slow)))
    thread.start()
    try:
        assert entered.wait(30)
        with pytest.raises(UsageError, match='a check of cluster "clinic" is already running'):
            place.check()
    finally:
        go.set()
        thread.join()
    assert first[0].error is None
    assert place.check().error is None
    runs = open_check_reader(place.store).runs_of("clinic", "check", 5)
    assert "is already running" in " ".join(run.summary for run in runs if isinstance(run, RunRecord))


KILLED = """
import os, sys
from pathlib import Path
from replcheck.config import load
from replcheck.runs.check import CheckParts, run_check
from replcheck.runs.check_request import CheckFlags, check_request
from replcheck.runs.records import now
def look(request, earlier):
    print("looking", flush=True)
    {deed}
request = check_request(CheckFlags(), load(Path(sys.argv[1])), now())
run_check(request, store=Path(sys.argv[2]), parts=CheckParts(look=look))
"""


def in_a_process(place: Place, deed: str) -> subprocess.Popen[str]:
    place.request()
    command = [sys.executable, "-c", KILLED.format(deed=deed), str(place.folder / "replcheck.toml"), str(place.store)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_check_that_is_killed_leaves_a_trace_and_no_lock(place):
    process = in_a_process(place, "os.kill(os.getpid(), 9)")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    [run] = open_check_reader(place.store).runs_of("clinic", "check", 5)
    assert not isinstance(run, RunRecord)
    assert place.check().error is None


def test_a_check_that_is_ended_records_why(place):
    process = in_a_process(place, "import time; time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "looking\n"
    process.terminate()
    process.communicate(timeout=60)
    [run] = open_check_reader(place.store).runs_of("clinic", "check", 5)
    assert isinstance(run, RunRecord)
    assert (run.outcome, run.summary) == (Outcome.UNCHECKED, "the check was ended by SIGTERM")


def test_a_check_that_is_ended_while_a_slow_monitor_is_told_of_its_start_is_recorded(place, monkeypatch):
    def ended(_: Ping) -> None:
        assert open_evidence(place.store).unended("clinic"), "who is killed now would leave no trace"
        raise Interrupted("the check was ended by SIGTERM")

    monkeypatch.setattr(Ping, "start", ended)
    assert isinstance(place.check().error, Interrupted)
    [run] = open_check_reader(place.store).runs_of("clinic", "check", 5)
    assert isinstance(run, RunRecord)
    assert (run.outcome, run.summary) == (Outcome.UNCHECKED, "the check was ended by SIGTERM")


def test_a_defect_is_recorded_too(place):
    def fails(request: CheckRequest, earlier: ClusterView | None) -> Looked:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        place.check(look=fails)
    [run] = open_check_reader(place.store).runs_of("clinic", "check", 5)
    assert isinstance(run, RunRecord)
    assert run.summary == "ended by ZeroDivisionError"


# --- due work

DUE = CONFIG + 'restore = { every = "7d" }\n'


@dataclass
class Workers:
    """Audits and drills that are asked for, and what comes of them."""

    place: Place
    done: list[str] = field(default_factory=list)
    budgets: list[float | None] = field(default_factory=list)
    error: ReplcheckError | None = None

    def work(self) -> Work:
        return Work(audit=self._audit, drill=self._drill)

    def _audit(self, request: Any, store: Path | None, tell: object) -> FinishedAudit:
        self.done.append("audit")
        self.budgets.append(request.options.time_budget_s)
        if self.error is not None:
            raise self.error
        keep_proofs(self.place.store, [proof(name, 60, took=30, run_id="fresh") for name in ("db2", "db3")])
        return FinishedAudit(record=self._record("audit"), result=None, error=None)

    def _drill(self, request: Any, store: Path | None, tell: object) -> FinishedDrill:
        self.done.append(f"drill {request.name}")
        self.budgets.append(request.timeout_s)
        error = DrillBlocked("there is no room", code="no_room")
        return FinishedDrill(record=self._record("drill"), result=None, error=error)

    def _record(self, kind: str) -> RunRecord:
        return record(f"run-of-{kind}", kind)


def test_an_audit_is_made_first_where_the_proof_is_old(place):
    place.watched(proven=False)
    keep_proofs(place.store, [proof(name, 19 * HOUR) for name in ("db2", "db3")])
    workers = Workers(place)
    finished = place.check(place.request(run=("audit",)), work=workers.work())
    assert workers.done == ["audit"]
    assert finished.result is not None
    [due] = finished.result.due
    assert (due.kind, due.run_id, due.outcome) == ("audit", "run-of-audit", Outcome.PROVEN)
    assert control(finished, ControlName.CONSISTENCY).standing is Standing.MET


def test_nothing_is_done_that_is_not_due(place):
    place.watched()
    workers = Workers(place)
    finished = place.check(place.request(run=("audit",)), work=workers.work())
    assert workers.done == []
    assert finished.result is not None
    assert [due.reason for due in finished.result.due] == ["the last proof is young enough"]


def test_a_proof_that_lapsed_between_samples_is_due_anew(place):
    place.watched(proven=False)
    keep_proofs(place.store, [proof(name, 3 * HOUR) for name in ("db2", "db3")])
    keep(place.store, [span("db2", 4, 3, NodeState.DETACHED), span("db2", 2, 1)])
    seen = {"cluster": "clinic", "written_at": utc_text(NOW), "document": to_plain(view())}
    insert(place.store, "live_views", [seen])
    workers = Workers(place)
    finished = place.check(place.request(run=("audit",)), work=workers.work())
    assert workers.done == ["audit"]
    assert finished.result is not None
    assert finished.result.due[0].run_id == "run-of-audit"


def test_what_was_tried_a_short_while_ago_is_left_alone(place):
    place.watched(proven=False)
    open_history(place.store).finish(record("tried", "audit", began_ago=HOUR))
    workers = Workers(place)
    finished = place.check(place.request(run=("audit",)), work=workers.work())
    assert workers.done == []
    assert finished.result is not None
    assert "it was tried 1h ago, and is not tried again so soon" in finished.result.due[0].reason


def test_due_drills_are_made_of_every_backup_and_failures_are_told(place):
    place.text = DUE
    place.watched()
    workers = Workers(place)
    finished = place.check(place.request(run=("drill,audit",)), work=workers.work())
    assert workers.done == ["drill nightly"]
    assert finished.result is not None
    told = {due.kind: due.reason for due in finished.result.due}
    assert told == {"audit": "the last proof is young enough", "drill": "there is no room"}


def test_where_a_seal_is_the_target_another_drill_goes_to_the_end_of_the_archive(place):
    place.text = (
        CONFIG.replace('kind = "dump"', 'kind = "base"\nwal = "/nowhere/wal"')
        + 'restore = { every = "7d" }\nrecovery-point = { max_age = "5min" }\n'
        + '[drill]\ntarget = "seal:latest"\nrequire = ["seal"]\n'
    )
    place.watched()
    asked: list[Any] = []

    def drill(request: Any, store: Path | None, tell: object) -> FinishedDrill:
        asked.append((request.target.text, sorted(name.name for name in request.required)))
        return Workers(place)._drill(request, store, tell)

    place.check(place.request(run=("drill",)), work=Work(drill=drill))
    assert asked == [("seal:latest", ["SEAL"]), ("latest", [])]


def test_the_time_budget_goes_to_the_work_and_ends_it(place):
    place.text = DUE
    place.watched(proven=False)
    workers = Workers(place)
    place.check(place.request(run=("audit", "drill"), time_budget="1h"), work=workers.work())
    assert workers.done == ["audit", "drill nightly"]
    assert all(budget is not None and 3500 < budget <= 3600 for budget in workers.budgets)
    slow = Workers(place)

    def dawdle(request: Any, store: Path | None, tell: object) -> FinishedAudit:
        time.sleep(1.1)
        return slow._audit(request, store, tell)

    other = Place(place.folder / "other")
    other.folder.mkdir()
    other.text = DUE
    slow.place = other
    other.watched(proven=False)
    request = other.request(run=("audit", "drill"), time_budget="2s")
    finished = other.check(request, work=Work(audit=dawdle, drill=slow._drill))
    assert slow.done == ["audit"]
    assert finished.result is not None
    assert finished.result.due[1].reason.startswith("the time budget has ended")


def test_work_that_cannot_begin_leaves_the_controls_to_say_so(place):
    place.watched(proven=False)
    workers = Workers(place, error=UsageError('an audit of cluster "clinic" is already running'))
    finished = place.check(place.request(run=("audit",)), work=workers.work())
    assert finished.result is not None
    assert finished.result.due[0].reason == 'an audit of cluster "clinic" is already running'
    assert control(finished, ControlName.CONSISTENCY).standing is Standing.UNCHECKED


def test_an_interrupt_of_the_work_ends_the_check(place):
    place.watched(proven=False)
    finished = place.check(place.request(run=("audit",)), work=Workers(place, error=Interrupted("interrupted")).work())
    assert isinstance(finished.error, Interrupted)


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        ({"run": ("audits",)}, '--run "audits" names no work', "audit, drill"),
        ({"run": ("drill",)}, "--run drill has nothing to go by: the policy does not ask for restore", "restore"),
        ({"controls": ("copy",)}, '"copy" is no control', 'Did you mean "copies"?'),
        ({"controls": ("zzz",)}, '"zzz" is no control', "There are: copies"),
        ({"controls": ("nope",)}, '"nope" is no control', "There are: copies"),
        ({"controls": ("failover",)}, 'control "failover" is not asked', "It asks for copies"),
        ({"time_budget": "10"}, "--time-budget must be a duration", ""),
        ({"time_budget": "1ms"}, "--time-budget must be at least 1s", ""),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_looked_at(place, flags, message, hint):
    with pytest.raises(UsageError) as caught:
        place.request(**flags)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[waivers]\ncopies = { reason = 'x', by = 'y', until = 2026-10-31 }", "waivers.copies ended on 2026-10-31"),
        ("[waivers]\ncopies = { by = 'y', until = 2027-10-31 }", "waivers.copies.reason is missing"),
        ("[waivers]\ncopies = { reason = '', by = 'y', until = 2027-10-31 }", "waivers.copies.reason"),
        ("[waivers]\ncopeis = { reason = 'x', by = 'y', until = 2027-10-31 }", 'did you mean "copies"?'),
    ],
)
def test_a_waiver_that_excuses_nothing_is_an_error(place, text, message):
    with pytest.raises(ConfigurationError) as caught:
        place.request(text)
    assert message in caught.value.message


def test_a_waiver_of_what_nobody_asks_is_a_note(place):
    request = place.request("[waivers]\nfailover = { reason = 'x', by = 'y', until = 2027-10-31 }")
    finished = place.check(request)
    assert finished.result is not None
    assert finished.result.notes == ("waivers.failover excuses a control that nobody asks for",)


def test_a_configuration_without_a_policy_has_nothing_to_check(place):
    place.text = CONFIG.partition("[policy]")[0]
    with pytest.raises(ConfigurationError, match="has no policy"):
        place.request()


# --- answers out of the history


def test_an_answer_out_of_the_history_rests_on_what_the_last_check_saw(place):
    place.watched()
    place.check()
    result = answer_from_history(place.request(), place.store, lambda: NOW + timedelta(seconds=30))
    assert (result.outcome, result.fresh) == (Outcome.PROVEN, False)
    assert len(open_check_reader(place.store).runs_of("clinic", "check", 5)) == 1


@pytest.mark.parametrize(("stale_after", "outcome"), [(None, Outcome.UNCHECKED), ("1h", Outcome.PROVEN)])
def test_an_answer_is_as_old_as_what_was_last_seen(place, stale_after, outcome):
    place.text = CONFIG.replace("proven = 2", "proven = 1").replace("[policy]\ncopies", "[policy]\ncopies")
    place.watched()
    place.check()
    later = NOW + timedelta(minutes=20)
    keep(place.store, [span(name, -1, -1195) for name in ("db1", "db2", "db3")])
    result = answer_from_history(place.request(stale_after=stale_after), place.store, lambda: later)
    assert result.outcome is outcome, result
    if stale_after is None:
        assert result.control(ControlName.COPIES).problems[0] == "the nodes were last seen 20min ago (limit 15min)"


def test_an_answer_without_a_history_is_unknown(place):
    result = answer_from_history(place.request(), place.store, lambda: NOW)
    assert result.outcome is Outcome.UNCHECKED
    assert not place.store.exists()
    assert not lock_file(place.store, "check").exists()


# --- pings


@dataclass
class Monitor:
    """A monitor of cron jobs on this machine."""

    heard: list[tuple[str, str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """Statuses of the next answers; 200 where there is none."""
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/zqsecret-uuid"


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    found = Monitor()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            found.heard.append((self.path, body, self.headers["User-Agent"]))
            self.send_response(found.answers.pop(0) if found.answers else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def pinged(place: Place, monitor: Monitor, **changes: Any) -> FinishedCheck:
    request = replace(place.request(), ping=ping_address("PING", {"PING": monitor.address}))
    return place.check(request, **changes)


def test_a_monitor_hears_of_the_start_and_of_success(place, monitor):
    place.watched()
    finished = pinged(place, monitor)
    assert [path for path, *_ in monitor.heard] == ["/zqsecret-uuid/start", "/zqsecret-uuid"]
    body = monitor.heard[1][1]
    assert finished.evidence is not None
    assert body.splitlines() == [
        finished.record.summary,
        f"run {finished.record.run_id}",
        f"evidence head {finished.evidence.sha256}, record {finished.evidence.sequence}",
    ]
    assert re.fullmatch(r"replcheck/\S+", monitor.heard[0][2])
    assert place.told == []


def test_a_monitor_keeps_the_signed_head_of_the_chain_and_hears_no_secret(place, key, monitor):
    place.watched()
    place.text = CONFIG.replace("/nowhere1", "/nowhere1 password=zqsecret") + key
    for _ in range(3):
        place.check()
    finished = pinged(place, monitor)
    assert finished.record.exit_status == 0
    head = evidence_head(place.store, "clinic")
    assert head is not None
    assert (head.signed, finished.evidence) == (True, head)
    started, told = (body for _, body, _ in monitor.heard)
    assert told.splitlines()[2:] == [f"evidence head {head.sha256}, record {head.sequence}"]
    private = (place.folder / "clinic.key").read_text()
    hidden = ["zqsecret", "/nowhere", str(place.folder), *(line for line in private.splitlines() if line)]
    assert [word for word in hidden if word in started + told] == []


@pytest.mark.parametrize("standing", ["breached", "unchecked", "at risk"])
def test_whatever_is_not_proven_is_heard_as_a_failure(place, monitor, standing):
    place.watched(proven=standing != "unchecked")
    shown = view(node("db3", NodeState.LOST)) if standing == "breached" else view()
    clock = (lambda: NOW + timedelta(hours=17)) if standing == "at risk" else (lambda: NOW)
    if standing == "at risk":
        place.text = CONFIG.replace("copies = { running = 3, proven = 2 }\n", "")
    finished = pinged(place, monitor, look=look(shown), clock=clock)
    assert finished.record.verdict == standing
    assert [path for path, *_ in monitor.heard] == ["/zqsecret-uuid/start", "/zqsecret-uuid/fail"]


def test_a_check_that_fails_is_heard_as_a_failure(place, monitor):
    place.store.write_bytes(b"no database" * 100)
    pinged(place, monitor)
    assert [path for path, *_ in monitor.heard] == ["/zqsecret-uuid/start", "/zqsecret-uuid/fail"]


def test_a_monitor_that_is_busy_is_told_again(place, monitor):
    place.watched()
    monitor.answers += [503, 429, 200]
    pinged(place, monitor)
    assert [path for path, *_ in monitor.heard] == [*["/zqsecret-uuid/start"] * 3, "/zqsecret-uuid"]
    assert place.told == []


@pytest.mark.parametrize(
    ("answers", "told"), [([404], "the monitor answered 404"), ([500, 500, 500], "the monitor answered 500")]
)
def test_a_monitor_that_refuses_is_told_to_people_and_changes_no_status(place, monitor, answers, told):
    place.watched()
    monitor.answers += answers
    assert pinged(place, monitor).record.outcome is Outcome.PROVEN
    assert place.told == [f'warning: the ping "start" was not heard: {told}']
    assert len(monitor.heard) == len(answers) + 1


def test_a_monitor_that_is_not_there_is_told_without_its_address(place, capfd):
    place.watched()
    address = ping_address("PING", {"PING": "http://127.0.0.1:9/zqsecret?key=zqsecret"})
    finished = place.check(replace(place.request(), ping=address))
    assert finished.record.outcome is Outcome.PROVEN
    assert place.told == [
        'warning: the ping "start" was not heard: connection refused',
        "warning: the ping was not heard: connection refused",
    ]
    said = capfd.readouterr()
    assert "zqsecret" not in said.out + said.err + "".join(place.told) + repr(address and Ping(address, print))


def test_the_path_of_an_address_is_gone_on_with_before_its_query(monitor):
    address = ping_address("PING", {"PING": f"{monitor.address}/?key=1#x"})
    Ping(address, print, QUICK).failure("ä" * 20_000)
    [(path, body, _)] = monitor.heard
    assert path == "/zqsecret-uuid/fail?key=1"
    assert len(body) == 5_000


@pytest.mark.parametrize(
    "value",
    [
        "",
        "zqsecret",
        "ftp://zqsecret/x",
        "https:///zqsecret",
        "https://a:zqsecret/",
        "http://a/\nzqsecret",
        "http://[zqsecret",
    ],
)
def test_an_address_that_cannot_be_pinged_is_told_without_it(value):
    with pytest.raises(ConfigurationError) as caught:
        ping_address("REPLCHECK_PING_URL", {"REPLCHECK_PING_URL": value})
    assert "REPLCHECK_PING_URL" in caught.value.message
    assert "zqsecret" not in caught.value.message + caught.value.hint


def test_nobody_is_pinged_where_no_variable_is_named():
    assert ping_address(None, {}) is None
    assert CLUSTER
