"""What a check makes of a history that is damaged, dated ahead of the clock, or old, and of drills without a report."""

import sqlite3
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from replcheck.errors import AlreadyRunning, DrillBlocked, ReplcheckError
from replcheck.model.control import ControlName, ControlResult, Standing
from replcheck.model.drill import DrillResult, DrillVerdict
from replcheck.model.live import EventKind
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.plain import to_plain, utc_text
from replcheck.model.run import RunRecord, RunStart, new_run_id
from replcheck.report.drill import drill_document
from replcheck.runs.check import answer_from_history
from replcheck.runs.lock import lock_file, only_run
from replcheck.runs.records import failed
from replcheck.store import open_history
from replcheck.store.live_rows import event_values
from tests.core import drills
from tests.core.checks import DAY, HOUR, MINUTE, NODES, NOW, ago, event, proof, span, view
from tests.core.test_check_reader import insert, keep, keep_proofs, record
from tests.core.test_run_check import CONFIG, Place, control, look

MET, AT_RISK, BREACHED, UNCHECKED = Standing.MET, Standing.AT_RISK, Standing.BREACHED, Standing.UNCHECKED
ASKED = CONFIG + 'restore = { every = "7d" }\n'
THIS, OTHER = "a" * 64, "b" * 64
YEAR = 365 * DAY


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path, ASKED)
    found.watched()
    return found


def start(began_ago: float, digest: str = THIS) -> RunStart:
    began_at = ago(began_ago)
    began = record(new_run_id(began_at), "drill", began_ago)
    return RunStart(
        run_id=began.run_id,
        kind="drill",
        cluster="clinic",
        started_at=began_at,
        tool_version="0.1.0",
        argument_digest=digest,
    )


def keep_drill(place: Place, began_ago: float, made: Any = drills.result, digest: str = THIS, **changes: Any) -> str:
    """Keep a drill with its report, and return its id."""
    begun = start(began_ago, digest)
    found: DrillResult = made(
        run_id=begun.run_id,
        started_at=begun.started_at,
        finished_at=begun.started_at + timedelta(seconds=31),
        **changes,
    )
    outcome = found.verdict.outcome
    ended = replace(
        record(begun.run_id, "drill", began_ago),
        outcome=outcome,
        verdict=found.verdict.value,
        exit_status=outcome.exit_status,
        argument_digest=digest,
    )
    open_history(place.store).finish(ended, drill_document(found))
    return begun.run_id


def keep_error(place: Place, began_ago: float, error: ReplcheckError, digest: str = THIS) -> None:
    ended: RunRecord = failed(start(began_ago, digest), DrillVerdict.NOT_TRIED.value, error)
    open_history(place.store).finish(replace(ended, finished_at=ago(began_ago - 10)))


def change(place: Place, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(place.store)) as database, database:
        assert database.execute(statement, values).rowcount == 1


def found(place: Place, name: ControlName = ControlName.RESTORE, text: str = "") -> ControlResult:
    return control(place.check(place.request(text)), name)


DAMAGED = "update results set document = 'x' where run_id = ?"
REMOVED = "delete from results where run_id = ?"
NO_ROOM = DrillBlocked("there is no room", code="no_room")


# --- drills without a report


@pytest.mark.parametrize("how", [DAMAGED, REMOVED])
def test_a_failed_drill_whose_report_is_gone_has_failed_all_the_same(place, how):
    keep_drill(place, 2 * DAY)
    last = keep_drill(place, DAY, drills.failed)
    assert found(place).standing is BREACHED
    change(place, how, last)
    told = found(place)
    assert (told.standing, told.problems[0]) == (
        BREACHED,
        "a drill of nightly failed 1d ago: its report is missing or damaged",
    )
    assert last in told.runs


def test_a_report_that_is_not_the_one_that_was_recorded_proves_nothing(place):
    good = keep_drill(place, 2 * DAY)
    last = keep_drill(place, DAY, drills.failed)
    change(
        place,
        "update results set document = (select document from results where run_id = ?) where run_id = ?",
        good,
        last,
    )
    assert found(place).problems[0].endswith("its report is not the one that was recorded")
    assert found(place).standing is BREACHED


@pytest.mark.parametrize("how", [DAMAGED, REMOVED, "update run_records set outcome = 'x' where run_id = ?"])
def test_a_drill_that_cannot_be_read_is_not_made_up_for_by_an_older_one(place, how):
    keep_drill(place, 3 * DAY)
    last = keep_drill(place, 2 * DAY)
    change(place, how, last)
    assert (found(place).standing, "cannot be counted" in found(place).problems[0]) == (UNCHECKED, True)
    keep_drill(place, DAY)
    assert found(place).standing is MET


@pytest.mark.parametrize(
    ("digest", "told"), [(THIS, "nightly ended"), (OTHER, "a backup, which may be nightly, ended")]
)
def test_a_drill_that_ended_in_an_error_since_the_last_success_puts_restores_at_risk(place, digest, told):
    keep_drill(place, 6 * DAY)
    for day in (5, 4, 3, 2, 1):
        keep_error(place, day * DAY, NO_ROOM, digest)
    problems = found(place).problems
    assert (found(place).standing, problems) == (AT_RISK, (f"a drill of {told} in an error 1d ago: there is no room",))
    keep_drill(place, HOUR)
    assert found(place).standing is MET


def test_a_drill_that_did_not_begin_because_another_was_at_work_is_no_error(place):
    keep_drill(place, 6 * DAY)
    keep_error(place, DAY, AlreadyRunning("a drill is already running"))
    assert found(place).standing is MET


def test_an_error_before_the_last_success_is_past(place):
    keep_error(place, 3 * DAY, NO_ROOM)
    keep_drill(place, 2 * DAY)
    assert found(place).standing is MET


@pytest.mark.parametrize(("lock", "standing"), [("free", AT_RISK), ("held", MET), ("none", MET)])
def test_a_drill_without_an_end_was_killed_where_none_is_at_work(place, lock, standing):
    keep_drill(place, 6 * DAY)
    open_history(place.store).begin(start(DAY))
    file = lock_file(place.store, "drill")
    with ExitStack() as held:
        if lock != "none":
            file.touch()
        if lock == "held":
            held.enter_context(only_run(file, "a drill"))
        told = found(place)
    assert told.standing is standing
    assert told.problems == (("a drill of nightly ended in an error 1d ago: it was killed",) if lock == "free" else ())


# --- rows that are damaged


@pytest.mark.parametrize("column", ["verdict", "proven_at", "finished_at"])
def test_what_an_audit_said_and_is_damaged_leaves_the_copy_in_doubt(place, column):
    keep_proofs(place.store, [proof("db3", HOUR, Verdict.DIVERGED, run_id="found-diverged")])
    assert found(place, ControlName.CONSISTENCY).standing is BREACHED
    change(place, f"update audit_nodes set {column} = 'x' where run_id = 'found-diverged'")
    told = found(place, ControlName.CONSISTENCY)
    assert (told.standing, told.problems) == (UNCHECKED, ("what an audit said of db3 cannot be read",))
    if column != "finished_at":
        keep_proofs(place.store, [proof("db3", MINUTE, took=30, run_id="proven-anew")])
        assert found(place, ControlName.CONSISTENCY).standing is MET


def test_a_time_without_a_zone_is_damaged(place):
    change(place, "update audit_nodes set finished_at = '2026-11-01T11:00:00' where node = 'db3'")
    assert found(place, ControlName.CONSISTENCY).standing is UNCHECKED


def test_an_event_that_is_damaged_may_be_the_last_that_happened(place):
    place.text = ASKED + 'failover = { max_time = "60s" }\n'
    events = (
        event(EventKind.PRIMARY_LOST, 2 * HOUR, "db3", began_at=ago(2 * HOUR)),
        event(EventKind.SWITCHED_OVER, 2 * HOUR - 1, "db1", began_at=ago(2 * HOUR), seconds=1.0, detail="db3"),
        event(EventKind.PRIMARY_LOST, MINUTE, "db1", began_at=ago(MINUTE)),
    )
    insert(place.store, "cluster_events", [event_values("clinic", one) for one in events])
    keep_proofs(place.store, [proof(name, HOUR) for name in ("db2", "db3")])
    assert found(place, ControlName.FAILOVER).problems == ()
    change(place, "update cluster_events set document = 'x' where node = 'db1' and kind = 'primary lost'")
    told = found(place, ControlName.FAILOVER)
    assert (told.standing, told.problems[0]) == (UNCHECKED, "1 of the events in the history cannot be read")


def test_a_time_that_cannot_be_read_leaves_ages_untold_unless_a_server_tells_the_same_time(place):
    open_history(place.store).begin(replace(record("later"), run_id="later"))
    change(place, "update runs set started_at = 'x' where run_id = 'later'")
    told = found(place, ControlName.CONSISTENCY)
    assert (told.standing, "a time in the history cannot be read" in told.problems[0]) == (UNCHECKED, True)
    confirmed = place.check(look=look(view(), NOW))
    assert control(confirmed, ControlName.CONSISTENCY).standing is MET


# --- dates that are ahead of the clock


def test_servers_that_confirm_a_clock_do_not_make_what_is_ahead_of_it_young(place):
    place.text = ASKED
    change(
        place,
        "update audit_nodes set proven_at = ?, finished_at = ? where node = 'db3'",
        *["2027-11-01T12:00:00.000Z"] * 2,
    )
    keep_drill(place, -YEAR)
    finished = place.check(look=look(view(), NOW))
    consistency, restore = control(finished, ControlName.CONSISTENCY), control(finished, ControlName.RESTORE)
    assert (consistency.standing, consistency.problems[0]) == (
        UNCHECKED,
        "the proof of db3 is dated 365d ahead of the clock",
    )
    assert (restore.standing, restore.problems[0]) == (
        UNCHECKED,
        "the drill that restored nightly is dated 365d ahead of the clock",
    )
    assert finished.result is not None
    assert {one.value for one in consistency.measures if one.subject == "db3"} == {None}


def test_an_old_proof_is_found_behind_one_that_is_ahead_of_the_clock(place):
    place.store.unlink()
    open_history(place.store)
    keep_proofs(place.store, [proof(name, 90 * DAY) for name in ("db2", "db3")])
    keep_proofs(place.store, [proof(name, -YEAR) for name in ("db2", "db3")])
    told = control(place.check(look=look(view(), NOW)), ControlName.CONSISTENCY)
    assert (told.standing, told.problems[0]) == (BREACHED, "the proof of db2 is 90d old (limit 1d)")


def test_a_look_that_is_ahead_of_the_clock_is_none_of_now(place):
    place.check(look=look(view()), clock=lambda: NOW)
    later = NOW + timedelta(seconds=YEAR)
    place.check(look=look(view(at=later), later), clock=lambda: later)
    again = answer_from_history(place.request(), place.store, lambda: NOW + timedelta(seconds=30))
    assert again.view is not None
    assert again.view.at == NOW


def test_where_there_is_no_other_look_one_that_is_ahead_of_the_clock_is_told(place):
    later = NOW + timedelta(hours=2)
    seen = {"cluster": "clinic", "written_at": utc_text(later), "document": to_plain(view(at=later))}
    insert(place.store, "live_views", [seen])
    answer = answer_from_history(place.request(), place.store, lambda: NOW)
    assert (answer.view, answer.outcome) == (None, Outcome.UNCHECKED)
    assert "seen at a time that is 2h ahead of the clock" in "; ".join(answer.control(ControlName.COPIES).problems)


# --- one control alone


@pytest.mark.parametrize(
    ("text", "name", "standing"),
    [
        (CONFIG.replace('max_age = "24h", warn = "18h"', 'max_age = "1h"'), ControlName.COPIES, UNCHECKED),
        (ASKED + 'recovery-point = { max_age = "5min" }\n', ControlName.RECOVERY_POINT, AT_RISK),
    ],
)
def test_a_control_that_is_checked_alone_keeps_the_limits_that_it_has_among_all(place, text, name, standing):
    place.text = text
    keep_drill(place, 300 * DAY, drills.uncompared, recovery_point_age_s=20.0)
    among = control(place.check(), name)
    finished = place.check(place.request(controls=(name.value,)))
    assert control(finished, name) == among
    assert among.standing is standing
    assert finished.result is not None
    assert [one.name for one in finished.result.controls if one.outcome is not None] == [name]


def test_a_check_of_one_control_is_known_by_what_it_was_asked(place):
    whole, alone = place.request(), place.request(controls=("copies",))
    assert whole.argument_digest != alone.argument_digest
    every = place.request(controls=("copies", "consistency", "placement", "restore"))
    assert every.argument_digest == whole.argument_digest


def test_the_chain_is_not_verified_for_a_control_that_does_not_ask_for_it(place, monkeypatch):
    place.text = ASKED + "evidence = {}\n"

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("replcheck.runs.evidence.evidence_state", refuse)
    assert place.check(place.request(controls=("placement",))).error is None
    with pytest.raises(AssertionError):
        place.check()


# --- nodes that were seen long ago


def test_an_answer_out_of_the_history_meets_nothing_by_nodes_that_were_seen_long_ago(place):
    place.text = CONFIG.partition("[policy]")[0] + '[policy]\nplacement = { distinct = ["host"] }\nintegrity = {}\n'
    place.check()
    soon = answer_from_history(place.request(), place.store, lambda: NOW + timedelta(seconds=10))
    assert soon.outcome is Outcome.PROVEN
    keep(place.store, [span(name, 3 * DAY) for name in NODES])
    late = answer_from_history(place.request(), place.store, lambda: NOW + timedelta(hours=20))
    assert {one.standing for one in late.controls if one.outcome is not None} == {UNCHECKED}
    assert late.control(ControlName.PLACEMENT).problems[0] == "the nodes were last seen 20h ago (limit 15min)"
