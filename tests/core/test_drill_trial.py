"""One drill with a fake source, fake layers and a fake room: whatever happens, everything is named and removed."""

import os
import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from replcheck.drill.layers.layer import Moment
from replcheck.drill.trial import run_trial
from replcheck.drill.verdict import result_verdict
from replcheck.errors import BackupRefuted, DrillBlocked, Interrupted, NodeLost, ProgramError
from replcheck.events import BackupChosen, LayerFinished, ProblemFound, StageBegan, StageEnded, StageProgressed
from replcheck.model.drill import (
    BackupKind,
    Blame,
    DrillLimits,
    DrillVerdict,
    LayerName,
    LayerReport,
    LayerState,
    Stage,
    Target,
    TargetKind,
)
from replcheck.model.wal import Lsn
from tests.core.drills import BEGAN, COPY, LATEST, RECOVERED, FakeLayer, FakeRoom, FakeSource, trial

REFUTED = BackupRefuted("WAL segment 000000010000000000000007 is missing", code="wal_missing", hint="Look there.")


def drill(log, *, obey=lambda: None, emit=lambda _: None, **changes):
    return run_trial(trial(log, **changes), emit=emit, now=lambda: BEGAN + timedelta(seconds=9), obey=obey)


@pytest.mark.parametrize("by_design", [False, True])
def test_a_layer_that_was_asked_for_and_did_not_run_leaves_not_all_proven(by_design):
    unrun = LayerReport(
        name=LayerName.CHECKSUMS, state=LayerState.NOT_RUN, reason="no pages were read", by_design=by_design
    )
    assert drill([], absent=[unrun]).verdict is DrillVerdict.RESTORED
    found = drill([], absent=[unrun], asked={LayerName.CHECKSUMS})
    assert found.verdict is (DrillVerdict.RESTORED if by_design else DrillVerdict.UNPROVEN)
    assert [(problem.code, problem.partial) for problem in found.problems] == (
        [] if by_design else [("layer_not_run", True)]
    )
    assert result_verdict(found) is found.verdict


def test_a_sound_backup_is_restored_proven_and_removed():
    log, events = [], []
    found = drill(log, emit=events.append)
    assert found.verdict is DrillVerdict.RESTORED
    assert found.problems == ()
    assert log == [
        "copies",
        "requirements 20261128-0200 latest",
        f"room for {COPY.size_bytes}",
        "open nightly",
        *("fetch", "restore", "recover", "open"),
        "rows against a seal",
        "release",
        "remove",
    ]
    assert found.scratch.removed
    assert found.recovery_point_age_s == 180
    assert [report.name for report in found.layers] == list(LayerName)
    kinds = {type(event) for event in events}
    assert {BackupChosen, StageBegan, StageEnded, LayerFinished} <= kinds
    assert "canary" not in repr(events) + repr(found)


@pytest.mark.parametrize("stage", [Stage.FETCH, Stage.RESTORE, Stage.RECOVER, Stage.OPEN])
@pytest.mark.parametrize(
    ("error", "verdict", "code"),
    [
        (REFUTED, DrillVerdict.FAILED, "wal_missing"),
        (DrillBlocked("no lz4", code="programs_missing"), DrillVerdict.NOT_TRIED, "programs_missing"),
        (ProgramError("pg_restore is missing"), DrillVerdict.NOT_TRIED, "program_failed"),
        (NodeLost("gone", node="scratch"), DrillVerdict.NOT_TRIED, "server_failed"),
        (Interrupted("the drill was ended by SIGTERM"), DrillVerdict.NOT_TRIED, "interrupted"),
        (OSError(28, "No space left on device", "/scratch/x"), DrillVerdict.NOT_TRIED, "no_space"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_fails_at_any_stage_is_named_and_everything_is_removed(stage, error, verdict, code):
    log = []
    found = drill(log, source=FakeSource(log=log, fails_in=stage, error=error))
    assert found.verdict is verdict
    assert [problem.code for problem in found.problems] == [code]
    assert log[-2:] == ["release of nothing", "remove"]
    assert found.scratch.removed
    assert found.recovery_time_s is None
    assert found.recovery_point_age_s is None
    seal = found.layers[0]
    assert (seal.state, seal.by_design) == (LayerState.NOT_RUN, False)
    assert not next(report for report in found.stages if report.stage is stage).finished


def test_a_defect_is_raised_once_everything_was_removed():
    log = []
    with pytest.raises(ZeroDivisionError):
        drill(log, source=FakeSource(log=log, fails_in=Stage.RECOVER, error=ZeroDivisionError()))
    assert log[-2:] == ["release of nothing", "remove"]


def test_nothing_is_fetched_where_there_is_no_room():
    log = []
    room = FakeRoom(log=log, error=DrillBlocked("no room", code="no_space"))
    found = drill(log, room=room)
    assert found.verdict is DrillVerdict.NOT_TRIED
    assert found.scratch is None
    assert "fetch" not in log
    assert "open nightly" not in log


def test_a_copy_that_lies_elsewhere_needs_no_room_here():
    log = []
    drill(log, needs_room=False)
    assert not [entry for entry in log if entry.startswith("room for")]


def test_layers_run_at_their_moment():
    log = []
    layers = [
        FakeLayer(name=LayerName.CHECKSUMS, log=log, moment=Moment.STOPPED),
        FakeLayer(name=LayerName.SEAL, log=log),
        FakeLayer(name=LayerName.MANIFEST, log=log, moment=Moment.FETCHED),
    ]
    drill(log, layers=layers)
    order = [word for word in log if word in {"restore", "recover", "stop"} | {layer.value for layer in LayerName}]
    assert order == ["restore", "backup manifest", "recover", "rows against a seal", "stop", "page checksums"]
    assert layers[2].cases[0].restored is None
    assert layers[2].cases[0].data_dir == layers[1].cases[0].data_dir


def test_a_layer_before_the_server_costs_no_recovery_time():
    log = []
    slow = [
        FakeLayer(name=LayerName.MANIFEST, log=log, moment=Moment.FETCHED, act=lambda: __import__("time").sleep(0.05))
    ]
    found = drill(log, layers=slow)
    assert found.recovery_time_s < 0.05
    assert next(stage for stage in found.stages if stage.stage is Stage.PROVE).elapsed_s >= 0.05


def test_what_a_layer_found_before_the_recovery_failed_is_not_lost():
    log = []
    manifest = FakeLayer(name=LayerName.MANIFEST, log=log, moment=Moment.FETCHED, state=LayerState.FAILED)
    error = DrillBlocked("no program", code="programs_missing")
    found = drill(log, layers=[manifest], source=FakeSource(log=log, fails_in=Stage.RECOVER, error=error))
    assert found.verdict is DrillVerdict.FAILED


def test_a_layer_that_raises_did_not_run_and_the_others_do():
    log = []
    layers = [
        FakeLayer(name=LayerName.AMCHECK, log=log, error=ProgramError("pg_amcheck is missing")),
        FakeLayer(name=LayerName.SEAL, log=log),
    ]
    found = drill(log, layers=layers)
    amcheck = next(report for report in found.layers if report.name is LayerName.AMCHECK)
    assert (amcheck.state, amcheck.reason) == (LayerState.NOT_RUN, "pg_amcheck is missing")
    assert found.verdict is DrillVerdict.RESTORED


def test_checksums_need_a_server_that_can_be_stopped():
    log = []
    layers = [FakeLayer(name=LayerName.CHECKSUMS, log=log, moment=Moment.STOPPED)]
    found = drill(log, layers=layers, source=FakeSource(log=log, with_server=False))
    checksums = next(report for report in found.layers if report.name is LayerName.CHECKSUMS)
    assert (checksums.state, checksums.by_design) == (LayerState.NOT_RUN, True)
    assert "page checksums" not in log


def test_layers_look_at_the_same_time_where_the_copy_stands_still():
    met = threading.Barrier(2)

    def meet():
        met.wait(timeout=30)

    layers = [FakeLayer(name=name, log=[], act=meet) for name in (LayerName.SEAL, LayerName.AMCHECK)]
    found = drill([], layers=layers)
    assert found.verdict is DrillVerdict.RESTORED


@pytest.mark.parametrize(
    "source",
    [
        FakeSource(recovery=replace(RECOVERED, in_recovery=False)),
        FakeSource(recovery=None, kind=BackupKind.DUMP),
        FakeSource(with_server=False),
    ],
    ids=["promoted", "dump", "server of the user's"],
)
def test_a_layer_that_may_write_looks_alone(source):
    """Another would find what it wrote."""
    moves = []

    class Slow(FakeLayer):
        def run(self, case):
            moves.append(f"+ {self.name.value}")
            time.sleep(0.05)
            moves.append(f"- {self.name.value}")
            return super().run(case)

    names = (LayerName.SEAL, LayerName.AMCHECK, LayerName.COMPLETENESS)
    drill([], source=source, layers=[Slow(name=name, log=[]) for name in names])
    assert len(moves) == 6
    assert moves.index("- amcheck") == moves.index("+ amcheck") + 1


def test_reports_are_told_in_their_order_by_one_thread_whichever_comes_first():
    events, threads, last = [], set(), threading.Event()

    def emit(event):
        events.append(event)
        threads.add(threading.current_thread())

    def wait_for_last():
        last.wait(timeout=30)

    layers = [
        FakeLayer(name=LayerName.SEAL, log=[], act=wait_for_last),
        FakeLayer(name=LayerName.AMCHECK, log=[]),
        FakeLayer(name=LayerName.COMPLETENESS, log=[], act=last.set),
    ]
    drill([], layers=layers, emit=emit)
    told = [event.layer.name for event in events if isinstance(event, LayerFinished)]
    assert told == [LayerName.SEAL, LayerName.AMCHECK, LayerName.COMPLETENESS]
    assert threads == {threading.main_thread()}


def test_layers_that_look_at_the_same_time_tell_together_how_far_they_are():
    events, told = [], threading.Event()
    both = threading.Barrier(2)

    class Telling(FakeLayer):
        def run(self, case):
            case.stages.expect(1500)
            case.stages.progressed(1000, "here")
            both.wait(timeout=30)
            assert told.wait(timeout=30)
            return super().run(case)

    def emit(event):
        events.append(event)
        if isinstance(event, StageProgressed) and event.stage is Stage.PROVE and event.done_bytes == 2000:
            told.set()

    found = drill([], layers=[Telling(name=name, log=[]) for name in (LayerName.SEAL, LayerName.AMCHECK)], emit=emit)
    assert found.verdict is DrillVerdict.RESTORED
    assert next(stage for stage in found.stages if stage.stage is Stage.PROVE).size_bytes == 2000
    [total] = {event.total_bytes for event in events if isinstance(event, StageProgressed) and event.done_bytes == 2000}
    assert total == 3000


def test_what_one_layer_expected_to_read_is_not_told_of_the_next():
    class Telling(FakeLayer):
        def run(self, case):
            if self.name is LayerName.AMCHECK:
                case.stages.expect(1500)
            # Longer than the stages keep still between two events.
            time.sleep(0.25)
            case.stages.progressed(1000, self.name.value)
            return super().run(case)

    events = []
    names = (LayerName.AMCHECK, LayerName.MANIFEST)
    layers = [Telling(name=name, log=[], moment=Moment.FETCHED) for name in names]
    drill([], layers=layers, emit=events.append)
    totals = {event.what: event.total_bytes for event in events if isinstance(event, StageProgressed)}
    assert totals == {"amcheck": 1500, "backup manifest": None}


def test_an_interrupt_ends_all_layers_that_look_and_keeps_what_others_found():
    ended, stop = [], threading.Event()

    def obey():
        if stop.is_set():
            raise Interrupted("the drill was ended by SIGINT")

    class Endless(FakeLayer):
        def run(self, case):
            stop.set()
            try:
                while True:
                    case.stages.obey()
                    time.sleep(0.01)
            finally:
                ended.append(self.name)

    layers = [
        Endless(name=LayerName.SEAL, log=[]),
        Endless(name=LayerName.COMPLETENESS, log=[]),
    ]
    found = drill([], layers=layers, obey=obey)
    assert set(ended) == {LayerName.SEAL, LayerName.COMPLETENESS}
    assert [problem.code for problem in found.problems] == ["interrupted"]
    assert {report.state for report in found.layers} == {LayerState.NOT_RUN}
    assert found.scratch.removed


def test_a_defect_of_one_layer_ends_the_others_before_everything_is_removed():
    log, ended = [], []

    class Endless(FakeLayer):
        def run(self, case):
            try:
                while True:
                    case.stages.obey()
                    time.sleep(0.01)
            except Interrupted:
                ended.append(list(self.log))
                raise

    layers = [
        FakeLayer(name=LayerName.SEAL, log=log, error=ZeroDivisionError()),
        Endless(name=LayerName.AMCHECK, log=log),
    ]
    with pytest.raises(ZeroDivisionError):
        drill(log, layers=layers)
    assert "release" not in ended[0]
    assert log[-2:] == ["release", "remove"]


def test_an_interrupt_between_layers_ends_the_drill_and_keeps_what_was_found():
    log, stop = [], []
    source = FakeSource(log=log, with_server=False)

    def obey():
        if stop:
            raise Interrupted("the drill was ended by SIGINT")

    layers = [
        FakeLayer(name=LayerName.SEAL, log=log, state=LayerState.FAILED),
        FakeLayer(name=LayerName.AMCHECK, log=log, state=LayerState.FAILED, act=lambda: stop.append(1)),
        FakeLayer(name=LayerName.COMPLETENESS, log=log),
    ]
    found = drill(log, source=source, layers=layers, obey=obey)
    assert "completeness" not in log
    assert found.verdict is DrillVerdict.FAILED
    states = {report.name: report.state for report in found.layers}
    assert (states[LayerName.SEAL], states[LayerName.AMCHECK]) == (LayerState.FAILED, LayerState.NOT_RUN)
    assert log[-2:] == ["release", "remove"]
    assert next(stage for stage in found.stages if stage.stage is Stage.REMOVE).finished


def test_a_program_that_failed_because_of_the_interrupt_refutes_nothing():
    log = []

    def obey():
        if "recover" in log:
            raise Interrupted("the drill was ended by SIGINT")

    found = drill(log, obey=obey, source=FakeSource(log=log, fails_in=Stage.RECOVER, error=REFUTED))
    assert found.verdict is DrillVerdict.NOT_TRIED
    assert [problem.code for problem in found.problems] == ["interrupted"]


def test_what_could_not_be_removed_is_told_loudly():
    log = []
    left = FakeRoom(log=log, remove_error=PermissionError(1, "Operation not permitted", "/scratch/drill"))
    found = drill(log, room=left)
    assert not found.scratch.removed
    assert found.verdict is DrillVerdict.NOT_TRIED
    assert "operation not permitted" in found.problems[0].what
    log.clear()
    error = DrillBlocked("the destroy command failed", code="destroy_failed")
    found = drill(log, source=FakeSource(log=log, release_error=error))
    assert log[-1] == "remove"
    assert not found.scratch.removed


def test_a_copy_is_kept_with_the_server_running():
    log = []
    layers = [FakeLayer(name=LayerName.CHECKSUMS, log=log, moment=Moment.STOPPED)]
    found = drill(log, keep=True, layers=layers)
    assert log[-5:] == ["stop", "page checksums", "start", "kept", "keep"]
    assert not found.scratch.removed
    assert found.scratch.connect.startswith('psql "host=/scratch')
    assert found.verdict is DrillVerdict.UNCOMPARED


@pytest.mark.parametrize("error", [REFUTED, Interrupted("the drill was ended by SIGINT")])
def test_what_never_opened_is_not_kept(error):
    log = []
    found = drill(log, keep=True, source=FakeSource(log=log, fails_in=Stage.OPEN, error=error))
    assert log[-1] == "remove"
    assert found.scratch.removed


def test_limits_are_held_against_what_was_measured():
    log = []
    found = drill(log, limits=DrillLimits(max_age_s=60))
    assert found.verdict is DrillVerdict.FAILED
    assert [problem.code for problem in found.problems] == ["recovery_point"]


def test_a_dump_is_as_old_as_it_says():
    log = []
    dump = replace(COPY, kind=BackupKind.DUMP)
    source = FakeSource(log=log, found=[dump], recovery=None, kind=BackupKind.DUMP)
    found = drill(log, source=source, limits=DrillLimits(max_age_s=60))
    assert found.recovery_point_age_s == 9000
    assert found.verdict is DrillVerdict.FAILED


def test_a_silent_promotion_past_the_target_refutes():
    log = []
    source = FakeSource(log=log, recovery=replace(RECOVERED, reached=False, in_recovery=False))
    found = drill(log, source=source)
    assert found.verdict is DrillVerdict.FAILED
    assert "target_not_reached" in [problem.code for problem in found.problems]


OLDER = replace(COPY, label="20261127-0200", end_lsn=Lsn.parse("0/3000158"), taken_at=BEGAN - timedelta(days=1))


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, COPY.label),
        ({"copy_label": OLDER.label}, OLDER.label),
        ({"target": Target(kind=TargetKind.LSN, text="0/3500000", lsn=Lsn.parse("0/3500000"))}, OLDER.label),
        (
            {"target": Target(kind=TargetKind.TIME, text="then", time=BEGAN - timedelta(hours=20))},
            OLDER.label,
        ),
        ({"reachable": Target(kind=TargetKind.LSN, text="0/3500000", lsn=Lsn.parse("0/3500000"))}, OLDER.label),
    ],
)
def test_the_newest_backup_is_chosen_that_the_target_can_be_reached_from(changes, label):
    log = []
    found = drill(log, source=FakeSource(log=log, found=[COPY, OLDER]), **changes)
    assert found.copy.label == label


@pytest.mark.parametrize(
    ("copies", "changes", "code"),
    [
        ([], {}, "no_backup"),
        ([COPY], {"copy_label": "other"}, "no_such_backup"),
        ([COPY], {"target": Target(kind=TargetKind.LSN, text="0/1", lsn=Lsn(1))}, "target_before_backup"),
    ],
)
def test_where_no_backup_will_do_nothing_is_tried(copies, changes, code):
    log = []
    found = drill(log, source=FakeSource(log=log, found=copies), **changes)
    assert found.verdict is DrillVerdict.NOT_TRIED
    assert [problem.code for problem in found.problems] == [code]
    assert "fetch" not in log


def test_every_problem_is_an_event_too():
    log, events = [], []
    found = drill(log, emit=events.append, source=FakeSource(log=log, fails_in=Stage.FETCH, error=REFUTED))
    told = [event.problem for event in events if isinstance(event, ProblemFound)]
    assert told == list(found.problems)
    assert found.problems[0].blame is Blame.BACKUP
    assert found.target == LATEST


def test_a_file_system_that_fills_up_ends_the_restore_before_it_is_full(monkeypatch):
    usage = os.statvfs("/")
    full = os.statvfs_result([*usage[:3], 0, 0, *usage[5:]])

    class Growing(FakeSource):
        def restore(self, copy, target, scratch, stages):
            with stages.enter(Stage.FETCH):
                monkeypatch.setattr(os, "statvfs", lambda _: full)
                stages.progressed(1)
            raise AssertionError("it went on")

    found = drill([], source=Growing(log=[]))
    assert [problem.code for problem in found.problems] == ["no_space"]
    assert found.verdict is DrillVerdict.NOT_TRIED
