"""Drills from request to record: every one is recorded, one at a time, and what the last one left goes first."""

import io
import json
import os
import signal
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from replcheck.cli.arguments import DrillArguments
from replcheck.cli.drill_run import drill_and_report
from replcheck.cli.main import main
from replcheck.cli.options import Format
from replcheck.drill.room import FolderRoom
from replcheck.errors import BackupRefuted, DrillBlocked, Interrupted, UsageError
from replcheck.events import RunFinished, RunStarted
from replcheck.model.drill import DrillVerdict, LayerName, LayerReport, LayerState, Stage, TargetKind
from replcheck.model.outcome import ExitStatus, Outcome
from replcheck.model.run import RunRecord
from replcheck.model.seal import SealResult, SignatureState, StoredSeal
from replcheck.report.drill_words import drill_sentence
from replcheck.report.history import RunState
from replcheck.report.seal import seal_document
from replcheck.report.seal_stored import past_seal, print_past_seal
from replcheck.report.style import Style
from replcheck.runs.drill import KIND, Parts, clean_up, run_drills
from replcheck.runs.drill_request import DrillFlags, drill_request
from replcheck.runs.history import find_run, list_runs, read_report
from replcheck.runs.lock import lock_file, only_run
from replcheck.store import RunFilter, open_history
from tests.core.drills import BEGAN, COPY, FakeRoom, FakeSource, seal
from tests.core.test_store import record, start

REQUEST = replace(
    drill_request(DrillFlags(source="base:/backups/x", layers=("manifest",)), None, {"HOME": "/nonexistent"}),
    cluster="clinic",
    name="nightly",
)
OLDER = replace(COPY, label="20261127-0200", taken_at=BEGAN - timedelta(days=1))
REFUTED = BackupRefuted("WAL segment 000000010000000000000007 is missing", code="wal_missing")


def found_by(done) -> Any:
    """Return the result of a drill that has one."""
    assert done.result is not None
    return done.result


def parts(log, *, left=(), **source):
    return Parts(
        source=lambda _: FakeSource(log=log, **source),
        room=lambda _: FakeRoom(log=log),
        clean=lambda _: [Path(folder) for folder in left],
        destroy=lambda _: [],
    )


def absent_layers(monkeypatch):
    monkeypatch.setattr("replcheck.runs.drill.layers_for", lambda *_: ([], []))


@pytest.fixture(autouse=True)
def _no_layers(monkeypatch):
    absent_layers(monkeypatch)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "clinic.db"


def test_a_drill_is_recorded_with_its_report(store):
    events = []
    [done] = run_drills(REQUEST, sinks=[events.append], store=store, parts=parts([]))
    assert found_by(done).verdict is DrillVerdict.UNCOMPARED
    assert (done.record.kind, done.record.verdict) == (KIND, "restored, rows not compared")
    assert done.record.exit_status is ExitStatus.PARTIAL
    assert read_report(store, "latest").result == done.result
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert events[-1].summary == done.record.summary


def test_a_refuted_backup_is_recorded_as_refuted(store):
    [done] = run_drills(REQUEST, store=store, parts=parts([], fails_in=Stage.RECOVER, error=REFUTED))
    assert done.record.outcome is Outcome.REFUTED
    assert "000000010000000000000007" in done.record.summary
    assert read_report(store, "latest").result == done.result


def test_a_drill_that_cannot_begin_is_recorded_too(store):
    request = replace(REQUEST, target=replace(REQUEST.target, kind=TargetKind.SEAL, seal_id="01a2"), seals=store.parent)
    [done] = run_drills(request, store=store, parts=parts([]))
    assert isinstance(done.error, DrillBlocked)
    assert done.record.failure is not None
    assert done.record.failure.error == "DrillBlocked"
    assert done.record.outcome is Outcome.UNCHECKED


def test_a_defect_is_recorded_and_raised(store):
    with pytest.raises(ZeroDivisionError):
        run_drills(REQUEST, store=store, parts=parts([], fails_in=Stage.FETCH, error=ZeroDivisionError()))
    past = find_run(store, "latest")
    assert isinstance(past.run, RunRecord)
    assert past.run.outcome is Outcome.UNCHECKED


def test_what_a_killed_drill_left_is_removed_first_and_told():
    log, told = [], []
    run_drills(REQUEST, tell=told.append, parts=parts(log, left=["/scratch/drill-1"]))
    assert told == ["note: /scratch/drill-1, left by a drill that was killed, was removed"]


def test_all_backups_are_drilled_in_turn(store):
    log, ended = [], []
    several = parts(log, found=[COPY, OLDER])
    done = run_drills(replace(REQUEST, every=True), store=store, finished=ended.append, parts=several)
    assert [found_by(drill).copy.label for drill in done] == [COPY.label, OLDER.label]
    assert ended == done
    assert len(list_runs(store, RunFilter(kind=KIND), limit=None).runs) == 2


def test_where_backups_cannot_be_listed_one_drill_tells_why():
    broken = parts([], fails_in=Stage.LOCATE, error=DrillBlocked("folder /x is not there", code="not_there"))
    [done] = run_drills(replace(REQUEST, every=True), parts=broken)
    assert found_by(done).problems[0].code == "not_there"


def test_a_second_drill_of_the_same_cluster_waits_for_the_first(store):
    with only_run(lock_file(store, KIND), "x"), pytest.raises(UsageError, match="already running"):
        run_drills(REQUEST, store=store, parts=parts([]))


def test_who_is_kept_out_by_a_lock_is_told_that_one_without_a_history_keeps_no_record(store):
    with (
        only_run(lock_file(store, KIND), "x"),
        pytest.raises(UsageError) as refused,
        only_run(lock_file(store, KIND), "x"),
    ):
        pass
    assert refused.value.hint == "Wait for it to end, or have this one keep no record with --no-store."


def test_a_drill_at_work_is_running_and_a_killed_one_did_not_end(store):
    begun = start(kind=KIND)
    open_history(store).begin(begun)
    assert find_run(store, "latest").state is RunState.LOST
    with only_run(lock_file(store, KIND), "x"):
        assert find_run(store, "latest").state is RunState.RUNNING


def test_a_signal_ends_the_drill_with_everything_removed():
    log, told = [], []

    class Interrupting(FakeSource):
        def requirements(self, copy, target):
            os.kill(os.getpid(), signal.SIGTERM)

    made = Parts(
        source=lambda _: Interrupting(log=log, found=[COPY, OLDER]),
        room=lambda _: FakeRoom(log=log),
        clean=lambda _: [],
    )
    done = run_drills(replace(REQUEST, every=True), tell=told.append, parts=made)
    assert len(done) == 1
    assert [problem.code for problem in found_by(done[0]).problems] == ["interrupted"]
    assert done[0].record.exit_status is ExitStatus.UNCHECKED
    assert log[-2:] == ["release of nothing", "remove"]
    assert told == ["SIGTERM: removing the servers"]


def test_a_signal_while_a_drill_cleans_up_lets_the_next_say_that_it_was_not_tried(store):
    class Interrupting(FakeRoom):
        def remove(self, scratch):
            super().remove(scratch)
            os.kill(os.getpid(), signal.SIGTERM)

    made = Parts(
        source=lambda _: FakeSource(log=[], found=[COPY, OLDER, replace(OLDER, label="20261126-0200")]),
        room=lambda _: Interrupting(log=[]),
        clean=lambda _: [],
    )
    first, second = run_drills(replace(REQUEST, every=True), store=store, parts=made)
    assert found_by(first).verdict is DrillVerdict.UNCOMPARED
    assert isinstance(second.error, Interrupted)
    assert second.record.exit_status is ExitStatus.UNCHECKED
    assert len(list_runs(store, RunFilter(kind=KIND), limit=None).runs) == 2


def test_what_a_seal_was_limited_to_is_told_with_the_drill(store, monkeypatch):
    whole = seal()
    for manifest, limits in (
        (whole, ()),
        (
            replace(whole, scope=replace(whole.scope, tables=("clinic.*",), excludes=("clinic.log",))),
            ("the seal was not made of everything: only relations clinic.*; without clinic.log",),
        ),
    ):
        stored = StoredSeal(manifest=manifest, file="/x", sha256="ab", signature=SignatureState.UNSIGNED)
        monkeypatch.setattr("replcheck.runs.drill.find_seal", lambda *_, found=stored, **__: found)
        request = replace(REQUEST, target=replace(REQUEST.target, kind=TargetKind.SEAL, seal_id="01a2"))
        [done] = run_drills(request, parts=parts([]))
        result = found_by(done)
        assert result.tool_notes[1:] == limits
        matched = LayerReport(name=LayerName.SEAL, state=LayerState.PASSED, rows=3, relations=1)
        proven = replace(result, layers=(matched,), problems=(), verdict=DrillVerdict.RESTORED)
        assert ("(3 rows), of those sealed, matches the seal" in drill_sentence(proven)) is bool(limits)


def test_a_drill_that_takes_too_long_is_ended():
    log = []
    [done] = run_drills(replace(REQUEST, timeout_s=0.0), parts=parts(log))
    error = done.error or found_by(done).problems[0]
    assert "drill.timeout" in getattr(error, "message", getattr(error, "what", ""))
    assert done.record.outcome is Outcome.UNCHECKED


@pytest.fixture
def open_folder():
    """A folder that the account of servers can pass through, as pytest's own cannot be."""
    with tempfile.TemporaryDirectory(prefix="replcheck-room-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_one_drill_at_a_time_in_one_folder(open_folder):
    root = open_folder / "scratch"
    room, other = FolderRoom(root=root), FolderRoom(root=root)
    scratch = room.open(run_id="1", backup="nightly")
    try:
        for attempt in (lambda: other.check(None), lambda: other.open(run_id="2", backup="nightly")):
            with pytest.raises(DrillBlocked, match="another drill is at work"):
                attempt()
        assert [entry.name for entry in root.iterdir() if entry.is_dir()] == ["drill-1"]
    finally:
        room.remove(scratch)
    assert not root.exists()
    other.check(None)


def test_nothing_is_cleaned_up_where_a_drill_is_at_work(open_folder):
    root = open_folder / "scratch"
    room = FolderRoom(root=root)
    kept = room.open(run_id="1", backup="nightly")
    room.keep(kept)
    working = room.open(run_id="2", backup="nightly")
    try:
        with pytest.raises(DrillBlocked, match="another drill is at work"):
            clean_up(root)
        assert Parts().clean(root) == []
        assert kept.directory.exists()
    finally:
        room.remove(working)
    assert Parts().clean(root) == []
    assert clean_up(root).removed == (str(kept.directory),)
    assert not root.exists()


def arguments(**changes):
    none: dict[str, Any] = dict.fromkeys(
        ("backup", "source", "wal", "globals", "copy", "target", "scratch", "primary", "config", "output", "events")
    )
    off: dict[str, Any] = dict.fromkeys(("every", "keep", "clean", "quiet", "verbose"), False)
    given: dict[str, Any] = {
        "source": "base:/backups/x",
        "format": Format.HUMAN,
        "no_store": True,
        "require": (),
        "layers": (),
    }
    return DrillArguments(**(none | off | given | changes))


@pytest.mark.parametrize("quiet", [False, True])
def test_the_command_ends_with_the_status_of_its_verdict(monkeypatch, tmp_path, capsys, quiet):
    monkeypatch.chdir(tmp_path)
    assert drill_and_report(arguments(quiet=quiet), parts=parts([])) == ExitStatus.PARTIAL
    assert "RESTORED, ROWS NOT COMPARED" in capsys.readouterr().out
    refuted = parts([], fails_in=Stage.FETCH, error=REFUTED)
    assert drill_and_report(arguments(quiet=quiet), parts=refuted) == ExitStatus.REFUTED
    assert "FAILED" in capsys.readouterr().out


def test_several_drills_end_with_the_worst_of_their_statuses(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    class Second(FakeSource):
        def requirements(self, copy, target):
            if copy is OLDER:
                raise REFUTED

    made = Parts(source=lambda _: Second(found=[COPY, OLDER]), room=lambda _: FakeRoom(log=[]), clean=lambda _: [])
    assert drill_and_report(arguments(every=True, format=Format.JSON), parts=made) == ExitStatus.REFUTED
    document = json.loads(capsys.readouterr().out)
    assert [drill["verdict"] for drill in document["drills"]] == ["restored, rows not compared", "failed"]
    assert drill_and_report(arguments(every=True), parts=made) == ExitStatus.REFUTED
    assert "of 2 backups 1 restored, rows not compared and 1 failed." in capsys.readouterr().out


def test_clean_removes_nothing_where_nothing_is(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["drill", "--clean", "--scratch", str(tmp_path / "none")]) == ExitStatus.PROVEN
    assert capsys.readouterr().out == f"nothing was left in {tmp_path / 'none'}\n"


@pytest.mark.parametrize(
    "beside", [("nightly",), ("--from", "base:/x"), ("--target", "latest"), ("--keep",), ("--all",)]
)
def test_clean_does_nothing_else(monkeypatch, tmp_path, capsys, beside):
    monkeypatch.chdir(tmp_path)
    assert main(["drill", "--clean", *beside]) == ExitStatus.UNCHECKED
    assert "--clean and" in capsys.readouterr().err


def test_clean_leaves_a_folder_alone_that_is_no_drills(tmp_path, capsys):
    (tmp_path / "letter").touch()
    assert main(["drill", "--clean", "--scratch", str(tmp_path)]) == ExitStatus.UNCHECKED
    assert "is not a drill's: it holds letter" in capsys.readouterr().err
    assert (tmp_path / "letter").exists()


def test_the_report_of_a_seal_is_read_back_and_judged(store):
    result = SealResult(
        run_id="019535d9-3df7-79fb-b466-fa907fa17f9e",
        started_at=BEGAN,
        finished_at=BEGAN,
        elapsed_s=1.5,
        snapshot_s=1.0,
        seal=StoredSeal(manifest=seal(), file="/seals/01a2.seal.json", sha256="ab", signature=SignatureState.UNSIGNED),
        primary="db1",
    )
    past = past_seal(seal_document(result))
    page = io.StringIO()
    print_past_seal(past, Console(file=page, width=80), Style(), follow="replcheck drill x", quiet=False, verbose=False)
    for told in ("SEALED", "replcheck_01a2 at 0/9A000D8", "/seals/01a2.seal.json", "    replcheck drill x\n"):
        assert told in page.getvalue()
    for lie in ({"outcome": "partial"}, {"exit_code": 1}, {"schema": "other"}, {"verdict": "sealed in part"}):
        with pytest.raises(ValueError, match=r"verdict|schema"):
            past_seal(seal_document(result) | lie)
    begun = start(kind="seal", run_id=result.run_id)
    history = open_history(store)
    history.begin(begun)
    history.finish(
        record(begun, outcome=Outcome.PROVEN, verdict="sealed", exit_status=ExitStatus.PROVEN), seal_document(result)
    )
    assert read_report(store, "latest").result == past
