"""One audit from request to record, whatever becomes of it."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from replcheck.audit.options import AuditOptions
from replcheck.errors import NodeUnreachable, StoreError, UsageError
from replcheck.events import BlocksProven, ProvingBegan, RunFinished, RunStarted
from replcheck.model.audit import StopCode
from replcheck.model.outcome import ExitStatus, Outcome
from replcheck.model.progress import Premises, ProvenBlocks, RelationState
from replcheck.model.run import RunRecord, RunStart
from replcheck.report.document import audit_document
from replcheck.runs.audit import run_audit
from replcheck.store import History, open_history
from tests.factories import BEGUN, consistent, diverged, unchecked
from tests.fakes import REQUEST, raising, returning, waiting_for_stop

ROOT = Path(__file__).parents[2]
UNREACHABLE = NodeUnreachable('node "db2" cannot be reached at db2:5432', node="db2", hint="Start it.")


def test_a_finished_audit_is_recorded_with_its_result(tmp_path):
    store = tmp_path / "clinic.db"
    finished = run_audit(REQUEST, store=store, auditor=returning(diverged()))
    assert finished.record.exit_status is ExitStatus.REFUTED
    assert open_history(store).runs() == [finished.record]
    assert open_history(store).result(finished.record.run_id) == audit_document(diverged())


def test_a_run_begins_and_ends_with_an_event():
    events = []
    finished = run_audit(REQUEST, sinks=[events.append], auditor=returning(consistent()))
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert len(events) == 3
    assert events[0].run_id == events[-1].run_id == finished.record.run_id
    assert events[-1].summary == finished.record.summary


def test_an_audit_that_cannot_start_is_recorded_as_a_failure(tmp_path):
    events, store = [], tmp_path / "clinic.db"
    finished = run_audit(REQUEST, sinks=[events.append], store=store, auditor=raising(UNREACHABLE))
    assert finished.error is UNREACHABLE
    assert finished.result is None
    (record,) = open_history(store).runs()
    assert isinstance(record, RunRecord)
    assert record.failure is not None
    assert (record.failure.error, record.failure.hint) == ("NodeUnreachable", "Start it.")
    assert record.exit_status is ExitStatus.UNCHECKED
    assert isinstance(events[-1], RunFinished)
    assert events[-1].outcome is Outcome.UNCHECKED


def test_failures_of_several_tasks_are_told_as_the_first():
    group = ExceptionGroup("tasks", [ExceptionGroup("more", [UNREACHABLE]), UNREACHABLE])
    assert run_audit(REQUEST, auditor=raising(group)).error is UNREACHABLE


def test_a_defect_is_recorded_by_its_class_alone_and_raised(tmp_path):
    store = tmp_path / "clinic.db"
    with pytest.raises(KeyError):
        run_audit(REQUEST, store=store, auditor=raising(KeyError("a row's value")))
    (record,) = open_history(store).runs()
    assert isinstance(record, RunRecord)
    assert record.summary == "ended by KeyError"


def test_a_defect_beside_a_failure_is_not_hidden_by_it():
    with pytest.raises(ExceptionGroup):
        run_audit(REQUEST, auditor=raising(ExceptionGroup("tasks", [UNREACHABLE, KeyError()])))


def test_a_run_is_in_the_history_while_it_works(tmp_path):
    seen, store = [], tmp_path / "clinic.db"
    run_audit(
        REQUEST,
        sinks=[lambda event: seen.extend(open_history(store).runs())],
        store=store,
        auditor=returning(consistent()),
    )
    assert type(seen[0]) is RunStart


def test_a_history_that_cannot_be_written_costs_the_record_and_not_the_verdict(tmp_path):
    finished = run_audit(REQUEST, store=tmp_path / "f" / "x.db", auditor=returning(consistent()))
    assert finished.unrecorded == ""
    (tmp_path / "file").write_text("")
    finished = run_audit(REQUEST, store=tmp_path / "file" / "x.db", auditor=returning(consistent()))
    assert finished.record.exit_status is ExitStatus.PROVEN
    assert "cannot open history" in finished.unrecorded


def test_a_stopped_run_is_never_proven():
    finished = run_audit(REQUEST, auditor=returning(consistent(stopped="the run was stopped")))
    assert finished.record.exit_status is ExitStatus.UNCHECKED
    assert finished.record.verdict == "unchecked"


def test_a_stopped_run_with_a_divergence_stays_refuted():
    finished = run_audit(REQUEST, auditor=returning(diverged(stopped="interrupted")))
    assert finished.record.exit_status is ExitStatus.REFUTED


def test_something_unchecked_is_status_3():
    assert run_audit(REQUEST, auditor=returning(unchecked())).record.exit_status is ExitStatus.UNCHECKED


def test_one_audit_of_a_cluster_at_a_time(tmp_path):
    store, refusals = tmp_path / "clinic.db", []

    def second(event):
        try:
            run_audit(REQUEST, store=store, auditor=returning(consistent()))
        except UsageError as error:
            refusals.append(error.message)

    run_audit(REQUEST, sinks=[second], store=store, auditor=returning(consistent()))
    assert set(refusals) == {'an audit of cluster "clinic" is already running'}
    assert run_audit(REQUEST, store=store, auditor=returning(consistent())).error is None


# --- what is kept for a run that goes on ---

PREMISES = Premises(
    encoding="exact/1", system_identifier="7", servers={"db1": "a", "db2": "b"}, primary="db1", timeline=1
)


def proven(relation):
    state = RelationState(database=5, relation=relation, token=77, filenode=relation)
    return ProvenBlocks(state=state, replicas=("db2",), ranges=((0, 9),), rows=10, proven_at=datetime.now(UTC))


def proving(result, *relations, before=lambda: None, seen=None):
    """Return an auditor that proves these relations one by one, and notes which earlier runs it is given."""

    async def audit(targets, options, *, run_id, cluster, emit, stop, gate, earlier):
        if seen is not None:
            seen.extend({proof.state.relation for proof in run.proofs} for run in earlier)
        emit(ProvingBegan(at=BEGUN, premises=PREMISES))
        before()
        for relation in relations:
            emit(BlocksProven(at=BEGUN, proof=proven(relation)))
        return result

    return audit


def asking(**options):
    return replace(REQUEST, options=AuditOptions(**options))


def kept(store):
    return [{proof.state.relation for proof in run.proofs} for run in open_history(store).unfinished("clinic")]


STOPPED = consistent(stopped="the time budget is over", stop_code=StopCode.TIME_BUDGET)


def test_an_audit_of_a_part_takes_nothing_from_a_longer_one_that_ended_early(tmp_path):
    store, seen = tmp_path / "clinic.db", []
    run_audit(REQUEST, store=store, auditor=proving(STOPPED, 1, 2, 3))
    run_audit(asking(tables=("public.visit",)), store=store, auditor=proving(consistent(), 1))
    assert kept(store) == [{1, 2, 3}]
    run_audit(asking(databases=("clinic",)), store=store, auditor=proving(STOPPED, 4))
    assert kept(store) == [{4}, {1, 2, 3}]
    run_audit(replace(REQUEST, resume=True), store=store, auditor=proving(consistent(), seen=seen))
    assert seen == [{4}, {1, 2, 3}]
    assert kept(store) == []


def test_an_audit_of_the_same_part_that_comes_to_its_end_leaves_nothing_to_go_on_with(tmp_path):
    store, part = tmp_path / "clinic.db", asking(tables=("public.visit",))
    run_audit(part, store=store, auditor=proving(STOPPED, 1))
    run_audit(replace(part, resume=True), store=store, auditor=proving(consistent(), 1, 2))
    assert kept(store) == []
    with pytest.raises(UsageError, match="is left to go on with"):
        run_audit(replace(part, resume=True), store=store, auditor=proving(consistent()))


def test_one_that_ends_early_again_loses_nothing_of_what_was_proven_before_it(tmp_path):
    store = tmp_path / "clinic.db"
    run_audit(REQUEST, store=store, auditor=proving(STOPPED, 1, 2, 3))
    run_audit(replace(REQUEST, resume=True), store=store, auditor=proving(STOPPED, 1))
    run_audit(REQUEST, store=store, auditor=proving(STOPPED))
    assert kept(store) == [set(), {1}, {1, 2, 3}]


def test_proofs_that_cannot_be_kept_are_told_at_once_and_change_no_outcome(tmp_path):
    store, told = tmp_path / "clinic.db", []

    def lose():
        connection = sqlite3.connect(store)
        connection.execute("DROP TABLE proven_blocks")
        connection.close()
        told.append("lost")

    auditor = proving(consistent(), *range(2000), before=lose)
    finished = run_audit(REQUEST, store=store, tell=told.append, auditor=auditor)
    assert told == [
        "lost",
        (
            "warning: what is proven from now on is not kept, and --resume cannot build upon it:"
            f" history {store}: no such table: proven_blocks"
        ),
    ]
    assert (finished.record.exit_status, finished.unrecorded) == (ExitStatus.PROVEN, "")


def test_a_beginning_that_cannot_be_written_is_told_by_its_cause(tmp_path, monkeypatch):
    """Proofs of a run that the history knows nothing of break a foreign key, which tells nobody of a full disk."""
    store, told = tmp_path / "clinic.db", []
    full = StoreError(f"history {store}: database or disk is full")
    monkeypatch.setattr(History, "begin", lambda *_: (_ for _ in ()).throw(full))
    finished = run_audit(REQUEST, store=store, tell=told.append, auditor=proving(consistent(), *range(2000)))
    [warning] = told
    assert warning.endswith(f"cannot build upon it: history {store}: database or disk is full")
    assert finished.record.outcome is Outcome.PROVEN
    assert [run.run_id for run in open_history(store).runs()] == [finished.record.run_id]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_audit_and_handlers_come_back(number):
    before, told = signal.getsignal(number), []
    finished = run_audit(REQUEST, tell=told.append, auditor=waiting_for_stop(lambda: os.kill(os.getpid(), number)))
    assert finished.record.exit_status is ExitStatus.UNCHECKED
    assert told == [f"{number.name}: stopping; once more ends at once"]
    assert signal.getsignal(number) is before


def test_an_audit_runs_outside_the_main_thread_too():
    results = []
    thread = threading.Thread(
        target=lambda: results.append(run_audit(REQUEST, auditor=returning(consistent())).record.exit_status)
    )
    thread.start()
    thread.join()
    assert results == [ExitStatus.PROVEN]


_IGNORES_STOP = """
import asyncio, sys
from replcheck.runs.audit import run_audit
from tests.fakes import REQUEST

async def stubborn(targets, options, *, run_id, cluster, emit, stop, gate, earlier):
    sys.stdout.write("ready\\n"); sys.stdout.flush()
    await stop.wait()
    sys.stdout.write("stopping\\n"); sys.stdout.flush()
    await asyncio.sleep(60)

run_audit(REQUEST, auditor=stubborn)
"""


def test_a_second_signal_ends_at_once_with_status_3():
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    with subprocess.Popen(
        [sys.executable, "-c", _IGNORES_STOP], stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        for line in ("ready\n", "stopping\n"):
            assert process.stdout.readline() == line
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 3


_SIGNALLED = """
import os, signal, sys
from unittest import mock
from replcheck.cli import main
from replcheck.cli import audit_run
from tests.factories import consistent, diverged
from tests.fakes import returning

where, found, times = sys.argv[1], {"consistent": consistent, "diverged": diverged}[sys.argv[2]], int(sys.argv[3])
place = {"configuration": "configuration_for", "history": "_warn_unrecorded", "report": "deliver"}[where]
true = getattr(audit_run, place)

def signalled(*given):
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGTERM)
    return true(*given)

run = audit_run.run_audit
sys.argv = ["replcheck", "audit", "--primary", "host=a", "--replica", "host=b", "--no-store"]
with mock.patch.object(audit_run, place, signalled):
    with mock.patch.object(audit_run, "run_audit", lambda *a, **k: run(*a, **k | {"auditor": returning(found())})):
        status = main()
os.kill(os.getpid(), signal.SIGTERM)
sys.exit(status)
"""
"""An audit that gets signals at a place outside of its work, and one more as the interpreter ends."""


@pytest.mark.parametrize(
    ("where", "found", "times", "status"),
    [
        ("configuration", "consistent", 1, 3),
        ("report", "consistent", 1, 0),
        ("report", "diverged", 1, 2),
        ("history", "consistent", 1, 0),
        ("report", "consistent", 2, 3),
    ],
)
def test_a_signal_outside_of_the_work_ends_with_a_status_of_ours(where, found, times, status):
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    words = [sys.executable, "-c", _SIGNALLED, where, found, str(times)]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
