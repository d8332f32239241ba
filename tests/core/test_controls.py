"""The controls: each by a table of what spoils it and what does not, and by what must hold of all of them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.check.controls.placement import machine_of
from replcheck.check.evaluate import evaluate
from replcheck.check.facts import ConfiguredBackup, ConfiguredNode, Facts, LagLimits, WalSeen
from replcheck.check.policy import CLAIMS, require_waivers_in_force, wanted_names
from replcheck.config.model import Waiver
from replcheck.errors import ConfigurationError, UsageError
from replcheck.model.control import ControlName, ControlResult, Standing
from replcheck.model.drill import DrillVerdict, LayerState
from replcheck.model.evidence import UnsignedRecords
from replcheck.model.live import EventKind, NodeState, RecoveryPoint
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.wal import Lsn
from tests.core.checks import (
    DAY,
    EVIDENCE,
    HOUR,
    MINUTE,
    NODES,
    NOW,
    ago,
    drill,
    event,
    facts,
    node,
    policy,
    proof,
    span,
    switched_over,
    view,
    watch,
)

MET, AT_RISK, BREACHED, UNCHECKED = Standing.MET, Standing.AT_RISK, Standing.BREACHED, Standing.UNCHECKED


def result(name: ControlName, known: Facts, **changes: Any) -> ControlResult:
    found = {one.name: one for one in evaluate(policy(**changes), known)}
    assert list(found) == list(ControlName)
    return found[name]


def check(name: ControlName, known: Facts, standing: Standing, told: str, **changes: Any) -> ControlResult:
    found = result(name, known, **changes)
    problems = "; ".join(found.problems)
    assert (found.standing, told in problems) == (standing, True), found
    assert bool(found.problems) is (found.standing is not MET)
    assert all(problem[-1] != "." for problem in found.problems)
    return found


@pytest.mark.parametrize("name", ControlName)
def test_a_healthy_cluster_meets_every_control_and_says_what_is_not_proven(name):
    found = result(name, facts())
    assert (found.standing, found.outcome, found.problems) == (MET, Outcome.PROVEN, ())
    assert found.measured
    assert found.limit
    assert found.not_proven
    assert found.measures


@pytest.mark.parametrize("name", ControlName)
def test_a_control_that_nobody_asked_is_told_as_such_and_has_no_outcome(name):
    found = result(name, facts(), **{name.value.replace("-", "_"): None})
    assert (found.standing, found.outcome, found.claim) == (Standing.NOT_ASKED, None, CLAIMS[name])


SEEN = {"copies", "recovery-point", "failover", "replacement", "evidence"}


@pytest.mark.parametrize("name", ControlName)
def test_what_rests_on_samples_and_events_says_that_no_record_covers_them(name):
    told = any("no record covers samples and events" in text for text in result(name, facts()).not_proven)
    assert told is (name.value in SEEN)


def test_a_claim_is_told_in_the_words_of_who_makes_it():
    assert result(ControlName.COPIES, facts()).claim == "Two copies at any moment"
    assert result(ControlName.RESTORE, facts()).claim == CLAIMS[ControlName.RESTORE]


LOST = node("db3", NodeState.LOST, reason="nothing answers")
YOUNG = tuple(proof(name, HOUR) for name in ("db2", "db3"))


@pytest.mark.parametrize(
    ("spoilt", "standing", "told"),
    [
        ({"view": None}, UNCHECKED, "not looked at"),
        ({"view": view(LOST)}, BREACHED, "2 of 3 copies run: db3 is lost (nothing answers)"),
        ({"view": view(node("db3", NodeState.UNSURE))}, UNCHECKED, "db3 could not be looked at"),
        ({"view": view(node("db3", NodeState.UNSURE), node("db2", NodeState.LOST))}, BREACHED, "1 of 3 copies run"),
        ({"nodes": facts().nodes[:2]}, BREACHED, "2 of 3 copies run"),
        ({"proofs": ()}, UNCHECKED, "0 of 2 copies are proven; db1: no proven replica"),
        ({"proofs": tuple(proof(name, 25 * HOUR) for name in ("db2", "db3"))}, UNCHECKED, "its proof is too old"),
        ({"proofs": tuple(proof(name, HOUR, Verdict.DIVERGED) for name in ("db2", "db3"))}, BREACHED, "0 of 2 copies"),
        ({"proofs": (proof("db2", HOUR, Verdict.DIVERGED), proof("db3", HOUR))}, MET, ""),
        ({"spans": ()}, UNCHECKED, "nothing watched"),
        ({"history_problem": "the history is gone"}, UNCHECKED, "the history is gone"),
        ({"lag": LagLimits(size_bytes=1), "view": view(node("db2", lag_bytes=2048))}, AT_RISK, "db2 is 2kB behind"),
        ({"lag": LagLimits(seconds=60), "view": view(node("db2", lag_s=90.0))}, AT_RISK, "db2 is 1min 30s behind"),
        ({"lag": LagLimits(seconds=60), "view": view(node("db2", lag_s=90.0, apply_delay_s=60.0))}, MET, ""),
    ],
)
def test_copies_must_run_and_be_proven_now(spoilt, standing, told):
    check(ControlName.COPIES, facts(**{"proofs": YOUNG} | spoilt), standing, told, copies={"running": 3, "proven": 2})


def week(*spans: Any, proofs_every: float = HOUR) -> Facts:
    rounds = range(1, int(2 * DAY / proofs_every))
    proofs = tuple(proof(name, number * proofs_every) for number in rounds for name in ("db2", "db3"))
    return facts(proofs=proofs, spans=(*(span(name, 3 * DAY) for name in ("db1", "db2")), *spans))


@pytest.mark.parametrize(
    ("spans", "standing", "told"),
    [
        ([span("db3", 3 * DAY)], MET, ""),
        ([span("db3", 3 * DAY, 5000), span("db3", 4990, 4500, NodeState.LOST), span("db3", 4490)], MET, ""),
        (
            [span("db3", 3 * DAY, 9000), span("db3", 8990, 7000, NodeState.LOST), span("db3", 6990)],
            BREACHED,
            "enough copies are shown in 97.685% of the last 1d (limit 99%), too few for 33min 20s",
        ),
        ([span("db3", 3 * DAY, 9000), span("db3", 6000)], UNCHECKED, "(limit 99%): copies were not proven for 50min"),
        (
            [span("db3", 3 * DAY, 5000), span("db3", 4990, 4500, NodeState.LOST), span("db3", 4490)],
            AT_RISK,
            "(at risk below 99.9%)",
        ),
    ],
)
def test_copies_are_measured_over_a_window_in_which_nothing_unknown_counts_as_good(spans, standing, told):
    asked = {"running": 3, "proven": 2, "window": "1d", "share": 99.0}
    asked |= {"warn": 99.9} if standing is AT_RISK else {}
    check(ControlName.COPIES, week(*spans), standing, told, copies=asked)


@pytest.mark.parametrize(
    ("looked_ago", "standing", "told"), [(10, MET, ""), (90, UNCHECKED, "nothing watched for 1min")]
)
def test_a_window_ends_at_the_last_look_while_that_is_trusted(looked_ago, standing, told):
    spans = tuple(span(name, 3 * DAY, looked_ago + 10) for name in NODES)
    known = facts(proofs=YOUNG, spans=spans, view=view(at=ago(looked_ago)))
    check(ControlName.COPIES, known, standing, told, copies={"window": "30min", "share": 100})


def test_a_window_that_nothing_watched_is_unchecked_and_states_its_gap():
    known = facts(spans=tuple(span(name, HOUR) for name in NODES), proofs=YOUNG)
    found = check(ControlName.COPIES, known, UNCHECKED, "nothing watched for 23h", copies={"window": "1d", "share": 99})
    assert "23h unwatched" in found.measured
    assert {one.name: one.value for one in found.measures}["unwatched"] == 23 * HOUR


@pytest.mark.parametrize(
    ("proofs", "standing", "told"),
    [
        ([proof("db2", HOUR), proof("db3", HOUR)], MET, ""),
        ([proof("db2", HOUR), proof("db3", 19 * HOUR)], AT_RISK, "the proof of db3 is 19h old (at risk from 18h on)"),
        ([proof("db2", HOUR), proof("db3", 25 * HOUR)], BREACHED, "the proof of db3 is 1d 1h old (limit 1d)"),
        ([proof("db2", HOUR)], UNCHECKED, "db3 was never proven as a whole"),
        ([proof("db2", HOUR), proof("db3", HOUR, whole=False)], UNCHECKED, "db3 was never proven as a whole"),
        ([*YOUNG, proof("db3", MINUTE, Verdict.DIVERGED, whole=False, took=1)], BREACHED, "db3 was found diverged"),
        ([*YOUNG, proof("db3", 2 * HOUR, Verdict.DIVERGED)], MET, ""),
        ([*YOUNG, proof("db3", MINUTE, Verdict.INCONCLUSIVE, took=1)], AT_RISK, "db3 was found inconclusive since"),
        ([*YOUNG, proof("db3", MINUTE, Verdict.INCONCLUSIVE, took=1, whole=False)], MET, ""),
        ([], UNCHECKED, "db2 was never proven"),
        ([proof("db2", HOUR, Verdict.DIVERGED), proof("db3", HOUR)], BREACHED, "db2 was found diverged"),
    ],
)
def test_consistency_rests_on_the_last_proof_of_every_replica(proofs, standing, told):
    check(ControlName.CONSISTENCY, facts(proofs=tuple(proofs)), standing, told)


@pytest.mark.parametrize(
    ("proofs", "measured"),
    [
        (YOUNG, "db2 and db3 proven consistent, the oldest proof is 1h old"),
        (
            [*YOUNG, proof("db3", MINUTE, Verdict.DIVERGED, took=1)],
            "db2 proven consistent, the oldest proof is 1h old; db3 found diverged 59s ago, last proven 1h ago",
        ),
        (
            [proof("db2", HOUR, Verdict.DIVERGED, took=0), proof("db3", HOUR)],
            "db3 proven consistent, the oldest proof is 1h old; db2 found diverged 1h ago, never proven",
        ),
        ([proof("db2", HOUR)], "db2 proven consistent, the oldest proof is 1h old; none of db3"),
        ([proof("db2", HOUR, Verdict.DIVERGED, took=0)], "db2 found diverged 1h ago, never proven; none of db3"),
        ([], "no proof"),
    ],
)
def test_a_replica_that_was_found_diverged_since_is_not_told_to_be_proven(proofs, measured):
    assert result(ControlName.CONSISTENCY, facts(proofs=tuple(proofs))).measured == measured


def test_consistency_asks_for_proofs_of_whatever_is_not_the_primary():
    swapped = view(node("db1", NodeState.STREAMING), node("db2", NodeState.PRIMARY))
    known = facts(view=swapped, proofs=YOUNG)
    assert "db1 was never proven" in check(ControlName.CONSISTENCY, known, UNCHECKED, "db1").problems[0]
    check(ControlName.CONSISTENCY, facts(view=None, proofs=YOUNG), MET, "")
    both = view(node("db2", NodeState.PRIMARY), primary=None)
    check(ControlName.CONSISTENCY, facts(view=both, proofs=YOUNG), UNCHECKED, "db1 was never proven")


@pytest.mark.parametrize("state", [NodeState.STRAYED, NodeState.FOREIGN])
def test_a_proof_of_what_was_a_copy_once_tells_nothing_of_a_node_that_left_the_history(state):
    known = facts(view=view(node("db3", state)), proofs=YOUNG)
    found = check(ControlName.CONSISTENCY, known, UNCHECKED, f"db3 is {state.value}, and was proven before that")
    assert found.measured.startswith("db2 proven consistent, the oldest proof is 1h old; db3 is ")


def test_after_a_split_brain_no_proof_against_the_other_primary_counts():
    split = view(node("db1", NodeState.STRAYED), node("db2", NodeState.PRIMARY), node("db3", NodeState.STRAYED))
    proofs = (proof("db1", HOUR, primary="db2"), proof("db3", HOUR))
    check(ControlName.CONSISTENCY, facts(view=split, proofs=proofs), UNCHECKED, "db1 is strayed")


def test_a_proof_against_an_earlier_primary_is_none_against_that_of_now():
    swapped = view(node("db1", NodeState.STREAMING), node("db2", NodeState.PRIMARY))
    known = facts(view=swapped, proofs=(proof("db1", HOUR, primary="db2"), proof("db3", HOUR)))
    found = check(ControlName.CONSISTENCY, known, UNCHECKED, "db3 was proven against db1, not against db2, the primary")
    assert "db3 was proven against db1, not against db2, the primary of now (proven 1h ago)" in found.measured
    again = replace(known, proofs=(*known.proofs, proof("db3", MINUTE, primary="db2", took=1)))
    check(ControlName.CONSISTENCY, again, MET, "")


def point(age_s: float | None, reason: str = "") -> Any:
    return view(recovery_point=RecoveryPoint(at=None if age_s is None else ago(age_s), age_s=age_s, reason=reason))


LATE = drill(2 * HOUR, recovery_point_age_s=4 * HOUR, replayed=Lsn(0x4000000))


@pytest.mark.parametrize(
    ("spoilt", "standing", "told"),
    [
        ({"view": point(200)}, MET, ""),
        ({"view": point(250)}, AT_RISK, "the archive reaches to 4min 10s before now (at risk from 4min on)"),
        ({"view": point(400, "archiving fails")}, BREACHED, "6min 40s before now: archiving fails (limit 5min)"),
        ({"view": point(None, "the role may not see it")}, UNCHECKED, "is unknown: the role may not see it"),
        ({"view": None}, UNCHECKED, "not looked at"),
        ({"watch": (watch(3 * DAY, max_recovery_age_s=400.0),)}, BREACHED, "in the last 1d it was up to 6min 40s old"),
        ({"watch": ()}, UNCHECKED, "never seen in the last 1d"),
        ({"watch": (watch(3 * DAY, recovery_unknown=True),)}, UNCHECKED, "for 1d of the last 1d nobody saw it"),
        ({"watch": (watch(3 * DAY, 9000), watch(8800))}, MET, ""),
        ({"watch": (watch(3 * DAY, 9000), watch(8700))}, UNCHECKED, "for 5min of the last 1d nobody saw it"),
        ({"watch": (watch(3 * DAY, 9000, max_recovery_age_s=150.0), watch(8800))}, UNCHECKED, "for 3min 20s of"),
        ({"watch": (watch(HOUR),)}, UNCHECKED, "for 23h of the last 1d"),
        ({"drills": ()}, UNCHECKED, "no drill has restored to the end"),
        ({"drills": (drill(2 * DAY, to_the_end=False),)}, UNCHECKED, "no drill has restored to the end"),
        ({"drills": (drill(2 * DAY, replayed=None),)}, UNCHECKED, "no drill has restored to the end"),
        ({"drills": (drill(2 * DAY, DrillVerdict.FAILED),)}, UNCHECKED, "no drill has restored to the end"),
        ({"drills": (drill(2 * DAY, DrillVerdict.UNCOMPARED),)}, MET, ""),
        ({"drills": (drill(2 * DAY, DrillVerdict.UNPROVEN),)}, MET, ""),
        ({"drills": (drill(8 * DAY),)}, AT_RISK, "the drill that showed it is 8d old"),
        ({"drills": (drill(2 * DAY, recovery_point_age_s=None),)}, AT_RISK, "replayed no commit"),
        ({"drills": (LATE,)}, AT_RISK, "the newest commit of the last drill was 4h old"),
        (
            {"drills": (LATE,), "wal_seen": (WalSeen(at=ago(3 * HOUR), lsn=Lsn(0x6000000), timeline=1, run_id="a"),)},
            BREACHED,
            "the last drill lacked 32MB of WAL that was written 1h before it",
        ),
        (
            {"drills": (LATE,), "wal_seen": (WalSeen(at=ago(3 * HOUR), lsn=Lsn(0x4000100), timeline=1, run_id="a"),)},
            AT_RISK,
            "or quiet hours",
        ),
        (
            {"drills": (LATE,), "wal_seen": (WalSeen(at=ago(7300), lsn=Lsn(0x6000000), timeline=1, run_id="a"),)},
            AT_RISK,
            "or quiet hours",
        ),
        ({"history_problem": "the history is gone"}, UNCHECKED, "the history is gone"),
    ],
)
def test_the_recovery_point_is_young_now_and_was_all_the_time_and_a_drill_has_shown_it(spoilt, standing, told):
    check(ControlName.RECOVERY_POINT, facts(**spoilt), standing, told)


def test_how_old_the_drill_of_the_recovery_point_may_be_can_be_asked_for():
    asked = {"max_age": "5min", "drilled_every": "1d"}
    check(ControlName.RECOVERY_POINT, facts(), BREACHED, "is 2d old (limit 1d)", recovery_point=asked)


TWO_BACKUPS = (ConfiguredBackup(name="nightly"), ConfiguredBackup(name="dump"))


@pytest.mark.parametrize(
    ("drills", "standing", "told"),
    [
        ([drill(2 * DAY)], MET, ""),
        ([drill(6.5 * DAY)], AT_RISK, "nightly was last restored 6d 12h ago (at risk from 6d on)"),
        ([drill(8 * DAY)], BREACHED, "nightly was last restored 8d ago (limit 7d)"),
        ([drill(2 * DAY, recovery_time_s=8000.0)], BREACHED, "nightly took 2h 13min to restore (limit 2h)"),
        ([drill(2 * DAY, recovery_time_s=None)], UNCHECKED, "how long nightly took"),
        ([], UNCHECKED, "no drill has restored nightly"),
        ([drill(2 * DAY, DrillVerdict.UNCOMPARED)], UNCHECKED, "no drill has restored nightly and compared its rows"),
        (
            [drill(2 * DAY, DrillVerdict.UNPROVEN)],
            UNCHECKED,
            "no drill has restored nightly and proven all that was asked of it",
        ),
        (
            [drill(2 * DAY), drill(DAY, DrillVerdict.UNPROVEN)],
            AT_RISK,
            "the last drill of nightly ended as restored, not all proven",
        ),
        (
            [drill(2 * DAY), drill(DAY, DrillVerdict.UNCOMPARED)],
            AT_RISK,
            "the last drill of nightly ended as restored,",
        ),
        ([drill(2 * DAY), drill(DAY, DrillVerdict.UNCOMPARED, lacks_only_rows=True)], MET, ""),
        ([drill(8 * DAY), drill(DAY, DrillVerdict.UNCOMPARED, lacks_only_rows=True)], BREACHED, "restored 8d ago"),
        ([drill(DAY, DrillVerdict.UNPROVEN, lacks_only_rows=True)], UNCHECKED, "no drill has restored nightly and"),
        (
            [
                drill(2 * DAY),
                drill(DAY, DrillVerdict.NOT_TRIED),
                drill(HOUR, DrillVerdict.UNCOMPARED, lacks_only_rows=True),
            ],
            AT_RISK,
            "ended as not tried",
        ),
        ([drill(2 * DAY), drill(DAY, DrillVerdict.NOT_TRIED)], AT_RISK, "ended as not tried: WAL is missing"),
        (
            [drill(2 * DAY), drill(DAY, DrillVerdict.FAILED)],
            BREACHED,
            "nightly did not restore in the drill 1d ago: WAL is missing",
        ),
        ([drill(2 * DAY, DrillVerdict.FAILED), drill(DAY)], MET, ""),
        ([drill(2 * DAY, DrillVerdict.FAILED, copy="new", taken_at=ago(DAY)), drill(DAY)], BREACHED, "did not restore"),
        ([drill(2 * DAY, DrillVerdict.FAILED, copy="old", taken_at=ago(9 * DAY)), drill(DAY)], MET, ""),
        ([drill(DAY), drill(HOUR, DrillVerdict.FAILED, copy="old", taken_at=ago(9 * DAY))], MET, ""),
    ],
)
def test_every_backup_is_restored_recently_and_in_time(drills, standing, told):
    check(ControlName.RESTORE, facts(drills=tuple(drills)), standing, told)


@pytest.mark.parametrize(
    ("drills", "measured"),
    [
        ([drill(2 * DAY), drill(DAY)], "nightly restored 1d ago in 1min 20s"),
        (
            [drill(2 * DAY), drill(DAY, DrillVerdict.FAILED)],
            "nightly last restored 2d ago in 1min 20s, not in the drill 1d ago",
        ),
        ([drill(2 * DAY, DrillVerdict.FAILED), drill(DAY)], "nightly restored 1d ago in 1min 20s"),
        ([drill(DAY, DrillVerdict.FAILED)], "nightly never restored"),
        ([drill(DAY, DrillVerdict.UNPROVEN)], "nightly restored 1d ago, never all proven"),
    ],
)
def test_a_backup_that_failed_to_restore_since_is_told_to_have_failed(drills, measured):
    assert result(ControlName.RESTORE, facts(drills=tuple(drills))).measured == measured


def test_each_configured_backup_counts():
    check(ControlName.RESTORE, facts(backups=TWO_BACKUPS), UNCHECKED, "no drill has restored dump")
    known = facts(backups=TWO_BACKUPS, drills=(drill(DAY), drill(DAY, backup="dump", replayed=None)))
    assert result(ControlName.RESTORE, known).runs == ("drill-86400", "drill-86400")
    check(ControlName.RESTORE, facts(backups=()), UNCHECKED, "no backup is configured")
    other = facts(drills=(drill(DAY), drill(HOUR, DrillVerdict.FAILED, backup="--from")))
    check(ControlName.RESTORE, other, MET, "")


PRIMARY_LOST = event(EventKind.PRIMARY_LOST, 40, "db1", began_at=ago(41))
OLD_ONE_LOST = event(EventKind.PRIMARY_LOST, 5 * DAY - 1, "db3")
OLD_ONE_BACK = event(EventKind.NODE_BACK, 4 * DAY, "db3", seconds=DAY)
"""What is told of a primary that answers no more when it has just been taken over from."""
NO_PRIMARY = view(node("db1", NodeState.LOST))
LED_BY_DB2 = view(node("db1", NodeState.STREAMING), node("db2", NodeState.PRIMARY))
SINCE_600 = tuple(proof(name, 500) for name in ("db2", "db3"))
LONG_AWAY = (
    event(EventKind.PRIMARY_LOST, 2 * HOUR, "db1", began_at=ago(2 * HOUR + 1)),
    event(EventKind.NODE_BACK, HOUR, "db1", began_at=ago(2 * HOUR + 1), seconds=HOUR + 1),
)
SHORTLY_AWAY = (LONG_AWAY[0], replace(LONG_AWAY[1], seconds=30.0))


@pytest.mark.parametrize(
    ("spoilt", "standing", "told"),
    [
        ({"events": switched_over(5 * DAY, seconds=61)}, BREACHED, "the last failover took 1min 1s (limit 1min)"),
        ({"events": switched_over(5 * DAY, seconds=60)}, MET, ""),
        ({"events": (*switched_over(9 * DAY, seconds=300), *switched_over(5 * DAY))}, MET, ""),
        ({"events": switched_over(181 * DAY)}, BREACHED, "the last failover was 181d ago (limit 180d)"),
        ({"events": ()}, UNCHECKED, "no failover was ever seen"),
        ({"events": (*switched_over(5 * DAY), PRIMARY_LOST), "view": NO_PRIMARY}, AT_RISK, "nobody took over for 41s"),
        ({"events": (*switched_over(5 * DAY), PRIMARY_LOST)}, MET, ""),
        (
            {"events": (*switched_over(5 * DAY), replace(PRIMARY_LOST, began_at=ago(70))), "view": NO_PRIMARY},
            BREACHED,
            "db1 is lost and nobody took over for 1min 10s (limit 1min)",
        ),
        ({"events": (*switched_over(5 * DAY), *LONG_AWAY)}, BREACHED, "db1 was away for 1h and nobody took over"),
        (
            {"events": (*switched_over(5 * DAY), replace(PRIMARY_LOST, began_at=ago(DAY)))},
            AT_RISK,
            "db1 was lost 1d ago and is the primary again: how long it was away is unknown",
        ),
        (
            {"events": (*switched_over(5 * DAY), PRIMARY_LOST), "view": LED_BY_DB2},
            UNCHECKED,
            "db2 is the primary, and nothing was seen of how it took over from db1",
        ),
        ({"view": LED_BY_DB2}, UNCHECKED, "nothing was seen of how it took over from db1"),
        ({"events": (*switched_over(5 * DAY), OLD_ONE_LOST)}, MET, ""),
        ({"events": (*switched_over(5 * DAY), OLD_ONE_LOST, OLD_ONE_BACK)}, MET, ""),
        ({"events": (*switched_over(5 * DAY), OLD_ONE_LOST, OLD_ONE_BACK), "view": LED_BY_DB2}, UNCHECKED, "from db1"),
        ({"events": (*switched_over(5 * DAY), *SHORTLY_AWAY), "view": LED_BY_DB2}, UNCHECKED, "took over from db1"),
        ({"view": None, "view_problem": "they were last seen long ago"}, UNCHECKED, "they were last seen long ago"),
        (
            {"view": None, "events": (*switched_over(5 * DAY), replace(PRIMARY_LOST, began_at=ago(DAY)))},
            UNCHECKED,
            "not looked at",
        ),
        ({"events": switched_over(-DAY)}, UNCHECKED, "the last failover is dated 1d ahead of the clock"),
        ({"events": switched_over(-2)[:2], "proofs": YOUNG}, AT_RISK, "no audit has compared db2 and db3 with db1"),
        ({"events": (*LONG_AWAY, *switched_over(600)), "proofs": SINCE_600}, MET, ""),
        ({"proofs": ()}, AT_RISK, "no audit has compared db2 and db3 with db1 since it took over"),
        (
            {"proofs": (proof("db2", 5 * DAY + 30), proof("db3", DAY, primary="db2"))},
            AT_RISK,
            "no audit has compared db2 and db3 with db1",
        ),
        ({"proofs": (proof("db2", 4 * DAY),)}, AT_RISK, "no audit has compared db3 with db1 since it took over"),
        (
            {"proofs": (proof("db2", 4 * DAY), proof("db3", 4 * DAY, Verdict.UNCHECKED))},
            AT_RISK,
            "no audit has compared db3 with db1",
        ),
        ({"proofs": (proof("db2", 4 * DAY), proof("db3", 4 * DAY, whole=False))}, AT_RISK, "compared db3 with db1"),
        ({"nodes": facts().nodes[:2], "proofs": (proof("db2", 4 * DAY),)}, MET, ""),
        ({"nodes": facts().nodes[:1], "view": view(), "proofs": ()}, AT_RISK, "no copy of db1 is configured"),
        (
            {"proofs": (proof("db2", 4 * DAY, Verdict.DIVERGED),)},
            BREACHED,
            "the first audit of db2 since db1 took over found it diverged",
        ),
        (
            {
                "proofs": (
                    proof("db2", 4 * DAY),
                    proof("db3", 4 * DAY, Verdict.UNCHECKED),
                    proof("db3", 3 * DAY, Verdict.DIVERGED),
                    proof("db3", 2 * DAY),
                )
            },
            BREACHED,
            "the first audit of db3 since db1 took over found it diverged",
        ),
        (
            {"proofs": (proof("db2", 4 * DAY), proof("db3", 4 * DAY), proof("db2", DAY, Verdict.DIVERGED))},
            MET,
            "",
        ),
        ({"history_problem": "the history is gone"}, UNCHECKED, "the history is gone"),
    ],
)
def test_a_failover_rests_on_the_last_one_that_happened(spoilt, standing, told):
    check(ControlName.FAILOVER, facts(**spoilt), standing, told)


STANDBY_LOST = event(EventKind.STANDBY_LOST, 100, "db2", began_at=ago(101))
AWAY = event(EventKind.NODE_BACK, HOUR, "db2", began_at=ago(2 * HOUR), seconds=HOUR)
WITHOUT_DB2 = view(node("db2", NodeState.LOST, since=ago(100)))
PROOFS_OF_DB3 = tuple(proof for proof in facts().proofs if proof.node == "db3")
LOST_LONG_AGO = event(EventKind.STANDBY_LOST, 3 * DAY, "db2", began_at=ago(3 * DAY))
SEEN_LOST_AND_BACK = (span("db2", 3 * DAY, 3 * DAY - HOUR, NodeState.LOST), span("db2", 2 * DAY))


@pytest.mark.parametrize(
    ("spoilt", "standing", "told"),
    [
        ({"events": ()}, UNCHECKED, "no lost copy was ever seen to be recreated"),
        (
            {"events": (event(EventKind.COPY_RECREATED, DAY, "db2", seconds=1900.0),)},
            BREACHED,
            "recreated in 31min 40s",
        ),
        ({"events": (event(EventKind.COPY_RECREATED, DAY, "db2"),)}, UNCHECKED, "how long db2 was lost"),
        (
            {"events": (event(EventKind.COPY_RECREATED, DAY, "db2", seconds=4000.0, unseen_s=3600.0),)},
            UNCHECKED,
            "db2 was recreated in at most 1h 6min (limit 30min), and for 1h of that nothing is known",
        ),
        (
            {"events": (event(EventKind.COPY_RECREATED, DAY, "db2", seconds=4000.0, unseen_s=100.0),)},
            BREACHED,
            "db2 was recreated in at most 1h 6min (limit 30min)",
        ),
        (
            {
                "events": (event(EventKind.COPY_RECREATED, 5 * DAY, "db2", seconds=1700.0, unseen_s=1600.0),),
                "proofs": (*facts().proofs, proof("db2", 4 * DAY)),
            },
            MET,
            "",
        ),
        ({"proofs": (proof("db3", 5 * DAY),)}, AT_RISK, "db3 was recreated and is not proven since"),
        ({"events": (*switched_over(5 * DAY), STANDBY_LOST), "view": WITHOUT_DB2}, AT_RISK, "db2 is lost and not"),
        ({"events": (*switched_over(5 * DAY), STANDBY_LOST)}, MET, ""),
        (
            {"events": (*switched_over(5 * DAY), LOST_LONG_AGO)},
            AT_RISK,
            "it was away for at most 11h (limit 30min), and for 11h of that nothing is known",
        ),
        (
            {"events": (*switched_over(5 * DAY), LOST_LONG_AGO), "proofs": PROOFS_OF_DB3},
            AT_RISK,
            "db2 was lost 3d ago and runs again; nobody saw it come back: it was away for at most 3d (limit 30min)",
        ),
        (
            {"events": (*switched_over(5 * DAY), LOST_LONG_AGO), "spans": SEEN_LOST_AND_BACK, "proofs": PROOFS_OF_DB3},
            AT_RISK,
            "it was away for at most 1d (limit 30min), and for 23h of that nothing is known",
        ),
        (
            {"events": (*switched_over(5 * DAY), LOST_LONG_AGO), "spans": (span("db2", 3 * DAY - 1800),)},
            MET,
            "",
        ),
        (
            {
                "events": (*switched_over(5 * DAY), LOST_LONG_AGO),
                "spans": (),
                "proofs": (*facts().proofs, proof("db2", 3 * DAY - 1800)),
            },
            MET,
            "",
        ),
        (
            {
                "events": (replace(LOST_LONG_AGO, at=ago(6 * DAY), began_at=ago(6 * DAY)), *switched_over(5 * DAY)),
                "spans": (span("db2", 5.5 * DAY),),
            },
            MET,
            "",
        ),
        (
            {"events": (*switched_over(5 * DAY), LOST_LONG_AGO, AWAY)},
            AT_RISK,
            "db2 was away for 1h and was not recreated meanwhile",
        ),
        ({"view": None, "view_problem": "they were last seen long ago"}, UNCHECKED, "they were last seen long ago"),
        (
            {"view": None, "events": (*switched_over(5 * DAY), LOST_LONG_AGO)},
            UNCHECKED,
            "not looked at",
        ),
        ({"view": view(node("db2", NodeState.UNSURE))}, UNCHECKED, "whether db2 is lost is unknown"),
        ({"nodes": (*facts().nodes, ConfiguredNode(name="db4"))}, UNCHECKED, "whether db4 is lost is unknown"),
        ({"view": view(node("db2", NodeState.UNSEEN))}, AT_RISK, "db2 is out of reach, since when is unknown"),
        (
            {"view": view(node("db2", NodeState.LOST, since=ago(60)))},
            AT_RISK,
            "db2 is lost and not recreated for 1min",
        ),
        (
            {"view": view(node("db2", NodeState.DETACHED, since=ago(1900)))},
            BREACHED,
            "db2 is detached and not recreated for 31min 40s (limit 30min)",
        ),
        (
            {"events": (event(EventKind.COPY_RECREATED, -DAY, "db2", seconds=19.0),)},
            UNCHECKED,
            "dated 1d ahead of the clock",
        ),
        ({"events": (*switched_over(5 * DAY), STANDBY_LOST, AWAY), "view": WITHOUT_DB2}, AT_RISK, "was away for 1h"),
        (
            {"events": (*switched_over(5 * DAY), replace(STANDBY_LOST, began_at=ago(1900))), "view": WITHOUT_DB2},
            BREACHED,
            "db2 is lost and not recreated for 31min 40s (limit 30min)",
        ),
        ({"events": (*switched_over(5 * DAY), replace(STANDBY_LOST, node="db9"))}, MET, ""),
        ({"history_problem": "the history is gone"}, UNCHECKED, "the history is gone"),
    ],
)
def test_a_replacement_rests_on_the_last_copy_that_was_recreated_and_on_those_lost_now(spoilt, standing, told):
    check(ControlName.REPLACEMENT, facts(**spoilt), standing, told)


@pytest.mark.parametrize(
    ("spoilt", "standing", "told"),
    [
        ({"view": view(node("db3", host="10.0.0.2"))}, BREACHED, "db2 and db3 stand on one host: 10.0.0.2"),
        (
            {"view": view(node("db2", host="127.0.0.1"), node("db3", host="/run/pg"))},
            BREACHED,
            "db2 and db3 stand on one host: this machine",
        ),
        ({"nodes": tuple(ConfiguredNode(name=name, zone="rack-a") for name in NODES)}, BREACHED, "one zone: rack-a"),
        ({"nodes": (ConfiguredNode(name="db1"), *facts().nodes[1:])}, UNCHECKED, "the zone of db1 is not configured"),
        ({"view": view(node("db3", NodeState.LOST, host=""))}, MET, ""),
        ({"view": view(node("db3", host="")), "spans": ()}, UNCHECKED, "the host of db3 was not observed"),
        ({"view": None, "spans": ()}, UNCHECKED, "the nodes were not looked at"),
    ],
)
def test_copies_stand_on_hosts_that_are_observed_and_in_zones_that_are_attested(spoilt, standing, told):
    known = facts(**{"spans": tuple(span(name, DAY, 10) for name in NODES)} | spoilt)
    check(ControlName.PLACEMENT, known, standing, told)


def test_what_is_not_asked_of_the_placement_is_no_matter():
    together = facts(view=view(node("db3", host="10.0.0.2")))
    assert (
        check(ControlName.PLACEMENT, together, MET, "", placement={"distinct": ["zone"]})
        .not_proven[0]
        .startswith("that racks and zones are what the configuration attests")
    )


@pytest.mark.parametrize("host", ["/tmp", "@x", "127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_sockets_and_loopback_addresses_are_of_one_machine(host):
    assert machine_of(host) == "this machine"


@pytest.mark.parametrize("host", ["10.0.0.1", "fe80::1%eth0", "2001:db8::1", "db1.internal"])
def test_other_addresses_are_machines_of_their_own(host):
    assert machine_of(host) == host


@pytest.mark.parametrize(
    ("spoilt", "standing", "told"),
    [
        ({"view": view(node("db2", data_checksums=False))}, BREACHED, "data checksums are off on db2"),
        ({"view": view(node("db2", checksum_failures=3))}, BREACHED, "3 checksum failures on db2"),
        ({"view": view(node("db2", checksum_failures=None))}, UNCHECKED, "whether checksums fail on db2 is unknown"),
        ({"view": view(node("db2", data_checksums=None)), "spans": ()}, UNCHECKED, "whether checksums fail on db2"),
        ({"view": view(node("db2", NodeState.LOST, data_checksums=None))}, MET, ""),
        ({"drills": ()}, UNCHECKED, "no drill has verified the checksums of nightly"),
        ({"drills": (drill(DAY, manifest=LayerState.NOT_RUN, pages=None),)}, UNCHECKED, "no drill has verified"),
        ({"drills": (drill(DAY, manifest=LayerState.FAILED),)}, BREACHED, "the manifest of nightly did not verify"),
        ({"drills": (drill(DAY, pages=LayerState.FAILED),)}, BREACHED, "the pages of nightly did not verify"),
        ({"drills": (drill(2 * DAY, manifest=LayerState.FAILED), drill(DAY))}, MET, ""),
        ({"drills": (), "backups": (ConfiguredBackup(name="dump"),)}, MET, ""),
        ({"history_problem": "the history is gone"}, UNCHECKED, "the history is gone"),
    ],
)
def test_checksums_are_on_and_none_failed_and_backups_verified(spoilt, standing, told):
    check(ControlName.INTEGRITY, facts(**spoilt), standing, told)


UNVOUCHED = replace(EVIDENCE, outcome=Outcome.PARTIAL)
LONE = UnsignedRecords(count=4, first=1, last=9)


@pytest.mark.parametrize(
    ("spoilt", "standing", "told"),
    [
        ({"evidence": None}, UNCHECKED, "the chain of evidence was not looked at"),
        ({"evidence": None, "history_problem": "the history is gone"}, UNCHECKED, "the history is gone"),
        ({"evidence": replace(EVIDENCE, records=0)}, UNCHECKED, "there is no record of evidence yet"),
        ({"evidence": replace(UNVOUCHED, signed=0, unsigned=LONE)}, AT_RISK, "none of 40 records bears a signature"),
        (
            {"evidence": replace(UNVOUCHED, unsigned=LONE)},
            AT_RISK,
            "4 of 40 records are not signed, record 1 the first: anybody who can write to the history",
        ),
        (
            {"evidence": replace(UNVOUCHED, verified=2, rested=38, unsigned=replace(LONE, behind_signed=7))},
            AT_RISK,
            "4 of 40 records are not signed, record 7 the first behind a signed one",
        ),
        ({"evidence": replace(UNVOUCHED, partial="runs were imported")}, AT_RISK, "runs were imported"),
        ({"evidence": replace(UNVOUCHED, verified=30)}, AT_RISK, "30 of 40 records could be verified in the time"),
        ({"evidence": replace(EVIDENCE, verified=10, rested=30, rested_at=ago(DAY))}, MET, ""),
        ({"evidence": replace(EVIDENCE, problem="record 7 was changed")}, BREACHED, "record 7 was changed"),
    ],
)
def test_the_chain_of_evidence_is_whole_and_signed(spoilt, standing, told):
    check(ControlName.EVIDENCE, facts(**spoilt), standing, told)


WAIVER = Waiver(reason="the exercise is booked", by="head of operations", until=date(2026, 11, 1))


def waived(known: Facts, name: ControlName = ControlName.FAILOVER) -> ControlResult:
    found = evaluate(policy(), known, {name.value: WAIVER})
    return next(one for one in found if one.name is name)


@pytest.mark.parametrize(
    ("events", "excuses"), [(switched_over(DAY, seconds=90), BREACHED), ((), UNCHECKED)], ids=["breached", "unchecked"]
)
def test_a_waiver_excuses_what_is_breached_or_unchecked_and_never_makes_it_met(events, excuses):
    found = waived(facts(events=events))
    assert (found.standing, found.outcome) == (Standing.WAIVED, Outcome.PARTIAL)
    assert found.problems
    assert found.waiver is not None
    assert (found.waiver.excuses, found.waiver.by) == (excuses, "head of operations")


def test_a_waiver_changes_nothing_where_there_is_nothing_to_excuse():
    for known, standing in ((facts(), MET), (facts(proofs=()), AT_RISK)):
        found = waived(known)
        assert found.waiver is not None
        assert (found.standing, found.waiver.excuses) == (standing, None)


def test_a_waiver_holds_through_its_last_day_and_is_an_error_from_the_next_one_on():
    require_waivers_in_force({"failover": WAIVER}, datetime(2026, 11, 1, 23, 59, tzinfo=UTC))
    with pytest.raises(ConfigurationError, match=r"waivers.failover ended on 2026-11-01$") as caught:
        require_waivers_in_force({"failover": WAIVER}, datetime(2026, 11, 2, tzinfo=UTC))
    assert caught.value.hint


def test_one_control_can_be_asked_alone_and_a_wrong_name_is_told_with_the_nearest():
    alone = evaluate(policy(), facts(), wanted=wanted_names(policy(), ["recovery-point"]))
    assert [one.name for one in alone if one.outcome is not None] == [ControlName.RECOVERY_POINT]
    with pytest.raises(UsageError, match='"recovery_point" is no control') as caught:
        wanted_names(policy(), ["recovery_point"])
    assert caught.value.hint == 'Did you mean "recovery-point"?'
    with pytest.raises(UsageError, match='control "evidence" is not asked'):
        wanted_names(policy(evidence=None), ["evidence"])


@pytest.mark.parametrize("name", ControlName)
def test_a_clock_that_cannot_be_right_leaves_nothing_met(name):
    found = result(name, facts(clock_problem="the clock was moved back"))
    assert (found.standing, found.problems[0]) == (UNCHECKED, "the clock was moved back")


def test_a_clock_that_cannot_be_right_excuses_no_breach():
    known = facts(clock_problem="the clock was moved back", view=view(LOST))
    assert result(ControlName.COPIES, known).standing is BREACHED


AGES = st.floats(0, 20 * DAY)
VERDICTS = st.sampled_from(Verdict)


@st.composite
def any_facts(draw) -> Facts:
    """Draw facts of which any part may be missing or bad."""
    nodes = [
        node(
            name,
            draw(st.sampled_from(NodeState)),
            host=draw(st.sampled_from(["", "10.0.0.1", f"10.0.0.{name[-1]}"])),
            data_checksums=draw(st.sampled_from([None, True, False])),
            checksum_failures=draw(st.sampled_from([None, 0, 5])),
        )
        for name in NODES
    ]
    spans = [
        span(name, max(ages), min(ages), draw(st.sampled_from(NodeState)), longest_gap_s=draw(st.floats(0, 100)))
        for name in NODES
        for ages in draw(st.lists(st.tuples(AGES, AGES), max_size=3))
    ]
    proofs = [
        proof(
            draw(st.sampled_from(NODES)),
            age,
            draw(VERDICTS),
            whole=draw(st.booleans()),
            primary=draw(st.sampled_from(NODES)),
        )
        for age in draw(st.lists(AGES, max_size=5))
    ]
    drills = [
        drill(
            age,
            draw(st.sampled_from(DrillVerdict)),
            copy=draw(st.sampled_from(["", "a", "b"])),
            taken_at=draw(st.sampled_from([None, ago(age), ago(21 * DAY)])),
            recovery_time_s=draw(st.none() | st.floats(0, 1e5)),
            recovery_point_age_s=draw(st.none() | st.floats(0, 1e5)),
            to_the_end=draw(st.booleans()),
            manifest=draw(st.none() | st.sampled_from(LayerState)),
        )
        for age in sorted(draw(st.lists(AGES, max_size=4)), reverse=True)
    ]
    happened = [
        event(
            draw(st.sampled_from(EventKind)),
            age,
            draw(st.sampled_from([None, *NODES])),
            seconds=draw(st.none() | st.floats(0, 1e5)),
            began_at=draw(st.sampled_from([None, ago(age + 10)])),
        )
        for age in sorted(draw(st.lists(AGES, max_size=6)), reverse=True)
    ]
    watched = [
        watch(max(ages), min(ages), max_recovery_age_s=draw(st.none() | st.floats(0, 1000)))
        for ages in draw(st.lists(st.tuples(AGES, AGES), max_size=3))
    ]
    age_s = draw(st.none() | st.floats(0, 1000))
    looked = view(*nodes, recovery_point=RecoveryPoint(at=None, age_s=age_s))
    return facts(
        view=draw(st.sampled_from([None, looked])),
        spans=tuple(spans),
        proofs=tuple(proofs),
        drills=tuple(drills),
        events=tuple(happened),
        watch=tuple(watched),
        evidence=draw(st.sampled_from([None, EVIDENCE])),
        history_problem=draw(st.sampled_from(["", "", "", "the history is gone"])),
        clock_problem=draw(st.sampled_from(["", "", "", "the clock was moved back"])),
    )


@given(any_facts())
def test_whatever_is_known_no_control_is_met_that_is_beyond_a_limit_or_unmeasured(known):
    for found in evaluate(policy(), known):
        assert found.standing is not Standing.NOT_ASKED
        assert (found.standing is MET) is not bool(found.problems)
        if found.standing is MET:
            assert all(one.standing is MET for one in found.measures if one.limit is not None), found


@given(any_facts())
def test_without_a_history_nothing_is_met_but_what_one_look_shows(known):
    less = replace(known, history_problem="gone", spans=(), watch=(), events=(), proofs=(), drills=(), evidence=None)
    met = {one.name for one in evaluate(policy(), less) if one.standing is MET}
    assert met <= {ControlName.PLACEMENT}
    blind = Facts(now=NOW, nodes=known.nodes, backups=known.backups)
    assert {one.standing for one in evaluate(policy(), blind)} == {UNCHECKED}


@given(any_facts(), st.floats(0, 30 * DAY))
def test_time_alone_makes_nothing_proven(known, later):
    """Ages only grow: what was not met because of an age does not become met by waiting."""
    after = replace(known, now=NOW + timedelta(seconds=later))
    for name in (ControlName.CONSISTENCY, ControlName.RESTORE):
        if result(name, known).standing is not MET:
            assert result(name, after).standing is not MET


@st.composite
def after_a_failover(draw) -> Facts:
    """Draw what may follow once db1 took over from db3, five days ago: audits, and another primary or none."""
    proofs = [
        proof(
            name, age, draw(VERDICTS), whole=draw(st.booleans()), primary=draw(st.sampled_from(["db1", "db1", "db2"]))
        )
        for name in ("db2", "db3")
        for age in draw(st.lists(st.floats(0, 6 * DAY), max_size=3))
    ]
    proofs += [proof(name, 4.9 * DAY) for name in draw(st.sets(st.sampled_from(["db2", "db3"])))]
    primary = draw(st.sampled_from(["db1", "db1", "db2", ""]))
    states = [node(name, NodeState.PRIMARY if name == primary else NodeState.STREAMING) for name in NODES]
    lost = draw(st.sampled_from([(), (PRIMARY_LOST,)]))
    in_order = tuple(sorted(proofs, key=lambda one: one.finished_at))
    return facts(view=view(*states), proofs=in_order, events=(*switched_over(5 * DAY), *lost))


@given(after_a_failover())
def test_a_failover_is_met_only_where_the_first_audit_of_every_copy_agrees_with_who_took_over_and_still_leads(known):
    found = result(ControlName.FAILOVER, known)
    assert known.view is not None
    firsts = [
        next(
            (
                one.verdict
                for one in known.proofs
                if (one.node, one.primary) == (name, "db1")
                and one.proven_at >= ago(5 * DAY)
                and (one.verdict is Verdict.DIVERGED or (one.whole and one.verdict is Verdict.CONSISTENT))
            ),
            None,
        )
        for name in ("db2", "db3")
    ]
    agree = firsts == [Verdict.CONSISTENT, Verdict.CONSISTENT]
    lost_now = known.events[-1] is PRIMARY_LOST and known.view.primary is None
    assert (found.standing is MET) is (agree and known.view.primary in {"db1", None} and not lost_now), found
    if known.view.primary == "db2" and Verdict.DIVERGED not in firsts:
        assert found.standing is UNCHECKED


@given(st.floats(1, 5 * DAY), st.floats(0, 1), st.floats(0, 1))
def test_a_copy_that_nobody_saw_come_back_is_at_risk_where_it_may_have_been_away_for_too_long(gone_s, seen, back):
    """It is last seen lost, and first seen to run, at shares of the time since it was lost."""
    last_lost, first_back = sorted((gone_s * (1 - seen), gone_s * (1 - back)), reverse=True)
    spans = (span("db2", gone_s, last_lost, NodeState.LOST), span("db2", min(first_back, gone_s * 0.999)))
    lost = event(EventKind.STANDBY_LOST, gone_s, "db2", began_at=ago(gone_s))
    known = facts(events=(*switched_over(5.5 * DAY), lost), spans=spans, proofs=PROOFS_OF_DB3)
    away_s = gone_s - min(first_back, gone_s * 0.999)
    found = result(ControlName.REPLACEMENT, known)
    assert (found.standing is MET) is (away_s <= 30 * MINUTE + 1e-6)
    assert found.standing in {MET, AT_RISK}
