"""The controls where what is known is stale, damaged or dated ahead of the clock: none is met by that."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.check.due import AUDIT, DRILL, THE_END, due_runs
from replcheck.check.evaluate import evaluate
from replcheck.check.facts import ConfiguredBackup, DrillFact, Facts, UnreadProof, Untold, UntoldDrill
from replcheck.model.control import ControlName, ControlResult, Standing
from replcheck.model.drill import DrillVerdict, LayerName, LayerState
from replcheck.model.live import EventKind, NodeState
from replcheck.model.outcome import Verdict
from replcheck.runs.check_drills import drill_fact
from tests.core import drills
from tests.core.checks import (
    DAY,
    HOUR,
    MINUTE,
    NODES,
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
)
from tests.core.test_controls import AT_RISK, BREACHED, MET, UNCHECKED, any_facts, check, point, result

YEAR = 365 * DAY
YOUNG = tuple(proof(name, HOUR) for name in ("db2", "db3"))


def with_archive(**changes: Any) -> Facts:
    backups = (ConfiguredBackup(name="nightly", manifest=True, archive=True),)
    return facts(**{"backups": backups} | changes)


# --- one control alone


@given(any_facts(), st.sampled_from(ControlName))
def test_a_control_that_is_asked_alone_stands_as_it_does_among_all(known, name):
    asked = policy()
    among = {one.name: one for one in evaluate(asked, known)}
    alone = {one.name: one for one in evaluate(asked, known, wanted=[name])}
    assert alone.pop(name) == among[name]
    assert {one.standing for one in alone.values()} == {Standing.NOT_ASKED}


# --- nodes that were seen long ago


def seen(ago_s: float, state: NodeState | None = None) -> dict[str, Any]:
    """Return facts of which db3 answered last so long ago, and is shown with that answer since."""
    silent = node("db3", state or NodeState.LOST, answered_at=ago(ago_s))
    known = [span(name, 30 * DAY) for name in ("db1", "db2")]
    before = span("db3", 30 * DAY, ago_s)
    since = span("db3", ago_s, 0, state or NodeState.LOST)
    return {"view": view(silent), "spans": (*known, before, since), "stale_after_s": 15 * MINUTE}


OF_NODES = (ControlName.PLACEMENT, ControlName.INTEGRITY)


@pytest.mark.parametrize("name", OF_NODES)
@pytest.mark.parametrize(
    ("changes", "standing", "told"),
    [
        (seen(10), MET, ""),
        (seen(14 * MINUTE), MET, ""),
        (seen(16 * MINUTE), UNCHECKED, "db3"),
        (seen(20 * DAY), UNCHECKED, "db3"),
        (seen(20 * DAY, NodeState.STARTING), UNCHECKED, "db3"),
        ({"view": view(at=ago(10)), "stale_after_s": 15 * MINUTE}, MET, ""),
        ({"view": None, "view_problem": "the nodes were last seen 20h ago"}, UNCHECKED, "last seen 20h ago"),
        ({"view": None, "spans": tuple(span(name, 30 * DAY, 20 * HOUR) for name in NODES)}, UNCHECKED, "not looked at"),
    ],
)
def test_what_a_node_told_long_ago_is_not_known_of_now(name, changes, standing, told):
    check(name, facts(**changes), standing, told)


@pytest.mark.parametrize("name", OF_NODES)
def test_what_a_node_told_a_while_ago_is_as_old_as_that(name):
    assert result(name, facts(**seen(14 * MINUTE))).as_of in {ago(14 * MINUTE), ago(2 * DAY)}


def test_the_hosts_that_were_seen_a_while_ago_say_so():
    assert "(one of them 14min ago)" in result(ControlName.PLACEMENT, facts(**seen(14 * MINUTE))).measured
    assert "ago" not in result(ControlName.PLACEMENT, facts(view=view(at=ago(10)))).measured


@given(any_facts(), st.floats(901, 30 * DAY), st.sampled_from(NODES))
def test_of_a_node_that_is_unseen_nothing_is_met_that_asks_for_it(known, silent_s, silent):
    spans = tuple(one for one in known.spans if one.node != silent)
    lost = span(silent, silent_s, 0, NodeState.LOST)
    shown = known.view and view(
        *(
            replace(one, answered_at=ago(silent_s), state=NodeState.LOST) if one.node == silent else one
            for one in known.view.nodes
        )
    )
    less = replace(known, view=shown, spans=(*spans, lost), stale_after_s=900.0)
    assert MET not in {result(name, less).standing for name in OF_NODES}


# --- facts that are dated ahead of the clock


@pytest.mark.parametrize(
    ("proofs", "standing", "told"),
    [
        ([proof("db2", HOUR), proof("db3", -YEAR)], UNCHECKED, "the proof of db3 is dated 365d ahead of the clock"),
        ([*YOUNG, proof("db3", -YEAR)], MET, ""),
        ([proof("db2", HOUR), proof("db3", -2, took=1)], MET, ""),
        (
            [*YOUNG, proof("db3", -YEAR, Verdict.DIVERGED)],
            UNCHECKED,
            "db3 was found diverged by an audit that is dated",
        ),
        ([proof("db2", HOUR), proof("db3", -YEAR, Verdict.DIVERGED)], BREACHED, "db3 was found diverged"),
        (
            [proof("db2", HOUR), proof("db3", -HOUR, Verdict.DIVERGED), proof("db3", -2 * HOUR)],
            UNCHECKED,
            "db3 was found diverged 1h 1min ahead of the clock, and its proof of after that is dated",
        ),
        (
            [proof("db2", HOUR), proof("db3", HOUR, Verdict.DIVERGED), proof("db3", -2 * HOUR)],
            UNCHECKED,
            "db3 was found diverged 59min ago, and its proof of after that is dated",
        ),
        (
            [proof("db2", HOUR), proof("db3", -HOUR), proof("db3", -2 * HOUR, Verdict.DIVERGED)],
            BREACHED,
            "db3 was found diverged",
        ),
    ],
)
def test_a_proof_that_is_dated_ahead_of_the_clock_does_not_stay_young(proofs, standing, told):
    check(ControlName.CONSISTENCY, facts(proofs=tuple(proofs)), standing, told)


def test_a_divergence_that_is_dated_ahead_of_the_clock_leaves_the_copies_in_doubt():
    known = facts(proofs=(*YOUNG, *(proof(name, -YEAR, Verdict.DIVERGED) for name in ("db2", "db3"))))
    check(ControlName.COPIES, known, UNCHECKED, "is dated ahead of the clock", copies={"running": 3, "proven": 2})
    one = facts(proofs=(*YOUNG, proof("db3", -YEAR, Verdict.DIVERGED)))
    check(ControlName.COPIES, one, MET, "", copies={"running": 3, "proven": 2})


@pytest.mark.parametrize(
    ("name", "drills", "standing", "told"),
    [
        (ControlName.RESTORE, [drill(-YEAR)], UNCHECKED, "the drill that restored nightly is dated 365d ahead"),
        (ControlName.RESTORE, [drill(DAY), drill(-YEAR)], MET, ""),
        (ControlName.RESTORE, [drill(-2)], MET, ""),
        (ControlName.RESTORE, [drill(DAY), drill(-YEAR, DrillVerdict.FAILED)], UNCHECKED, "did not restore in a drill"),
        (
            ControlName.RESTORE,
            [drill(-YEAR, DrillVerdict.FAILED)],
            BREACHED,
            "did not restore in a drill that is dated",
        ),
        (ControlName.RECOVERY_POINT, [drill(-YEAR)], UNCHECKED, "is dated 365d ahead of the clock"),
        (ControlName.RECOVERY_POINT, [drill(DAY), drill(-YEAR)], MET, ""),
        (ControlName.INTEGRITY, [drill(-YEAR)], UNCHECKED, "the drill that verified the manifest of nightly is dated"),
        (ControlName.INTEGRITY, [drill(DAY), drill(-YEAR)], MET, ""),
        (ControlName.INTEGRITY, [drill(DAY), drill(-YEAR, pages=LayerState.FAILED)], UNCHECKED, "the pages of nightly"),
        (ControlName.INTEGRITY, [drill(-YEAR, pages=LayerState.FAILED)], BREACHED, "the pages of nightly did not"),
    ],
)
def test_a_drill_that_is_dated_ahead_of_the_clock_does_not_stay_young(name, drills, standing, told):
    check(name, facts(drills=tuple(drills)), standing, told)


@pytest.mark.parametrize("name", [ControlName.FAILOVER, ControlName.REPLACEMENT])
def test_an_event_that_is_dated_ahead_of_the_clock_does_not_stay_the_last_one(name):
    check(name, facts(events=switched_over(-YEAR)), UNCHECKED, "ahead of the clock")
    late = facts(events=(*switched_over(5 * DAY), event(EventKind.NODE_BACK, -2, "db2", seconds=1.0)))
    check(name, late, MET, "")


def test_what_is_dated_ahead_of_the_clock_is_due():
    known = facts(proofs=tuple(proof(name, -YEAR) for name in ("db2", "db3")), drills=(drill(-YEAR),))
    found = {one.kind: one for one in due_runs((AUDIT, DRILL), policy(), known, {})}
    assert (found[AUDIT].due, found[DRILL].due) == (True, True)
    assert "ahead of the clock" in found[AUDIT].reason
    assert "ahead of the clock" in found[DRILL].reason


def test_what_was_proven_against_another_primary_than_that_of_now_is_due():
    swapped = view(node("db1", NodeState.STREAMING), node("db2", NodeState.PRIMARY))
    known = facts(view=swapped, proofs=(proof("db1", HOUR, primary="db2"), proof("db3", HOUR)))
    [found] = due_runs((AUDIT,), policy(copies=None), known, {})
    assert (found.due, found.reason) == (True, "db3 was never proven against db2, the primary of now")


@given(any_facts(), st.floats(10, YEAR))
def test_what_is_all_dated_ahead_of_the_clock_makes_nothing_met(known, ahead_s):
    later = replace(
        known,
        proofs=tuple(replace(one, proven_at=ago(-ahead_s), finished_at=ago(-ahead_s)) for one in known.proofs),
        drills=tuple(replace(one, started_at=ago(-ahead_s)) for one in known.drills),
        events=tuple(replace(one, at=ago(-ahead_s)) for one in known.events),
    )
    for name in set(ControlName) - {ControlName.PLACEMENT, ControlName.EVIDENCE}:
        assert result(name, later).standing is not MET, name


# --- the recovery point


@pytest.mark.parametrize(
    ("age_s", "seen_ago", "standing", "told"),
    [
        (230, 14 * MINUTE, UNCHECKED, "reaches to 3min 50s before the last look, 14min ago, and how far by now is"),
        (0, 14 * MINUTE, UNCHECKED, "and how far by now is unknown (limit 5min)"),
        (400, 14 * MINUTE, BREACHED, "reaches to 6min 40s before the last look, 14min ago (limit 5min)"),
        (100, 150, AT_RISK, "and how far by now is unknown (at risk from 4min on)"),
        (100, 130, MET, ""),
        (230, 10, MET, ""),
        (230, 60, MET, ""),
    ],
)
def test_a_recovery_point_is_as_old_as_it_may_have_become_since_it_was_seen(age_s, seen_ago, standing, told):
    known = with_archive(view=replace(point(age_s), at=ago(seen_ago)))
    check(ControlName.RECOVERY_POINT, known, standing, told)


FAILED = DrillVerdict.FAILED


@pytest.mark.parametrize(
    ("drills", "standing", "told"),
    [
        ([drill(2 * DAY), drill(DAY, FAILED, replayed=None)], AT_RISK, "the end of the archive failed: WAL is missing"),
        ([drill(2 * DAY, FAILED), drill(DAY)], MET, ""),
        ([drill(2 * DAY), drill(DAY, FAILED, to_the_end=False)], MET, ""),
        ([drill(2 * DAY), drill(DAY, FAILED, backup="--from")], MET, ""),
    ],
)
def test_a_later_drill_to_the_end_of_the_archive_that_failed_puts_the_recovery_point_at_risk(drills, standing, told):
    asked = {"restore": None, "recovery_point": {"max_age": "5min"}}
    check(ControlName.RECOVERY_POINT, with_archive(drills=tuple(drills)), standing, told, **asked)


def test_where_nobody_limits_the_age_of_a_drill_the_recovery_point_tells_it():
    old = with_archive(drills=(drill(300 * DAY),))
    found = check(ControlName.RECOVERY_POINT, old, MET, "", restore=None, recovery_point={"max_age": "5min"})
    assert found.measured == "30s before now, 20s in the drill 300d ago"
    [told] = [one for one in found.not_proven if "no limit is set" in one]
    assert told.startswith("that the archive restores today: the drill that has shown it is 300d old")
    limited = result(ControlName.RECOVERY_POINT, old)
    assert not [one for one in limited.not_proven if "no limit is set" in one]


# --- integrity


NOT_RUN, PASSED, BAD = LayerState.NOT_RUN, LayerState.PASSED, LayerState.FAILED


@pytest.mark.parametrize(
    ("drills", "standing", "told"),
    [
        ([drill(3 * DAY, FAILED, manifest=BAD), drill(DAY, FAILED, manifest=NOT_RUN)], BREACHED, "the manifest of"),
        ([drill(3 * DAY, FAILED, pages=BAD), drill(DAY, FAILED, pages=None)], BREACHED, "the pages of nightly"),
        ([drill(3 * DAY, FAILED, manifest=BAD), drill(DAY, FAILED)], MET, ""),
        ([drill(DAY, manifest=NOT_RUN)], UNCHECKED, "no drill has verified the manifest of nightly"),
        ([drill(DAY, manifest=LayerState.INCONCLUSIVE)], UNCHECKED, "no drill has verified the manifest of nightly"),
        ([drill(DAY, pages=NOT_RUN)], UNCHECKED, "no drill has verified the pages of nightly"),
        ([drill(DAY, manifest=None)], MET, ""),
        ([drill(DAY, pages=None)], MET, ""),
        ([drill(2 * DAY), drill(DAY, manifest=NOT_RUN, pages=NOT_RUN)], MET, ""),
        ([drill(8 * DAY)], AT_RISK, "the manifest of nightly was last verified 8d ago (at risk from 7d on)"),
        ([drill(8 * DAY), drill(DAY, manifest=NOT_RUN)], AT_RISK, "the manifest of nightly was last verified 8d ago"),
        ([drill(7 * DAY)], MET, ""),
    ],
)
def test_a_manifest_and_pages_are_judged_each_by_the_last_drill_that_looked_at_them(drills, standing, told):
    check(ControlName.INTEGRITY, facts(drills=tuple(drills)), standing, told)


def test_checksums_of_a_backup_that_were_verified_long_ago_say_so():
    found = check(ControlName.INTEGRITY, facts(drills=(drill(400 * DAY),)), MET, "", restore=None)
    assert found.measured.endswith("; nightly verified 400d ago")
    split = facts(drills=(drill(3 * DAY), drill(DAY, manifest=None)))
    assert result(ControlName.INTEGRITY, split).measured.endswith("; nightly verified 3d ago")


# --- the window of copies


def test_a_window_without_a_share_only_informs_and_says_so():
    short = facts(proofs=YOUNG, spans=tuple(span(name, HOUR) for name in NODES))
    found = check(ControlName.COPIES, short, MET, "", copies={"window": "30d"})
    assert found.limit == "at least 3 running and 2 proven now; over 30d no share is asked"
    assert "that there were enough copies over 30d: without a share that is asked, the window only informs" in (
        found.not_proven
    )
    warned = result(ControlName.COPIES, short, copies={"window": "30d", "warn": 99})
    assert (warned.standing, warned.limit) == (
        AT_RISK,
        "at least 3 running and 2 proven now; over 30d at risk below 99%",
    )
    shared = result(ControlName.COPIES, short, copies={"window": "30d", "share": 99})
    assert not [one for one in shared.not_proven if "only informs" in one]


# --- what is damaged, or has no report


def untold(began_ago: float | None, loss: Untold, backup: str = "nightly") -> UntoldDrill:
    began_at = None if began_ago is None else ago(began_ago)
    return UntoldDrill(run_id=f"run-{began_ago}", backup=backup, started_at=began_at, loss=loss, what="so it is")


LATER = [
    (untold(DAY, Untold.ERROR), AT_RISK, "a drill of nightly ended in an error 1d ago: so it is"),
    (untold(DAY, Untold.FAILED), BREACHED, "a drill of nightly failed 1d ago: so it is"),
    (untold(DAY, Untold.UNREADABLE), UNCHECKED, "a drill of nightly 1d ago cannot be counted: so it is"),
    (untold(None, Untold.UNREADABLE, ""), UNCHECKED, "a drill of a backup, which may be nightly, cannot be counted"),
    (untold(3 * DAY, Untold.ERROR), MET, ""),
    (untold(3 * DAY, Untold.FAILED), MET, ""),
    (untold(3 * DAY, Untold.UNREADABLE), MET, ""),
    (untold(DAY, Untold.FAILED, "--from"), MET, ""),
]


@pytest.mark.parametrize(("lost", "standing", "told"), LATER)
def test_a_drill_without_a_report_is_not_made_up_for_by_an_older_success(lost, standing, told):
    found = check(ControlName.RESTORE, facts(untold_drills=(lost,)), standing, told)
    assert (lost.run_id in found.runs) is (standing is not MET)


@pytest.mark.parametrize("name", [ControlName.RECOVERY_POINT, ControlName.INTEGRITY])
@pytest.mark.parametrize(
    ("lost", "standing"),
    [
        (untold(DAY, Untold.ERROR), MET),
        (untold(DAY, Untold.FAILED), UNCHECKED),
        (untold(DAY, Untold.UNREADABLE), UNCHECKED),
        (untold(None, Untold.UNREADABLE, ""), UNCHECKED),
        (untold(3 * DAY, Untold.UNREADABLE), MET),
        (untold(DAY, Untold.UNREADABLE, "--from"), MET),
    ],
)
def test_a_drill_without_a_report_leaves_unknown_what_it_found_of_archive_and_checksums(name, lost, standing):
    told = "" if standing is MET else "cannot be read"
    check(name, with_archive(untold_drills=(lost,)), standing, told)


@given(any_facts(), st.sampled_from([Untold.FAILED, Untold.UNREADABLE]), st.sampled_from(["", "nightly"]))
def test_whatever_else_is_known_the_last_drill_without_a_report_leaves_no_control_of_drills_met(known, loss, backup):
    lost = UntoldDrill(run_id="last", backup=backup, started_at=ago(-1), loss=loss, what="so it is")
    backups = (ConfiguredBackup(name="nightly", manifest=True, archive=True),)
    for name in (ControlName.RESTORE, ControlName.RECOVERY_POINT, ControlName.INTEGRITY):
        assert result(name, replace(known, backups=backups, untold_drills=(lost,))).standing is not MET


def test_a_drill_whose_report_cannot_be_read_is_due_again():
    [found] = due_runs((DRILL,), policy(), facts(untold_drills=(untold(DAY, Untold.UNREADABLE),)), {})
    assert (found.due, found.reason) == (True, "what a drill of nightly found cannot be read")
    [left] = due_runs((DRILL,), policy(), facts(untold_drills=(untold(DAY, Untold.ERROR),)), {})
    assert not left.due


@pytest.mark.parametrize(
    ("unread", "standing"),
    [
        (UnreadProof(node="db3", at=ago(MINUTE)), UNCHECKED),
        (UnreadProof(node="db3", at=None), UNCHECKED),
        (UnreadProof(node="", at=ago(MINUTE)), UNCHECKED),
        (UnreadProof(node="db3", at=ago(2 * HOUR)), MET),
        (UnreadProof(node="db1", at=ago(MINUTE)), MET),
    ],
)
def test_what_an_audit_said_and_cannot_be_read_may_speak_against_an_older_proof(unread, standing):
    told = "" if standing is MET else "what an audit said of db3 cannot be read"
    known = facts(proofs=YOUNG, unread_proofs=(unread,))
    check(ControlName.CONSISTENCY, known, standing, told)
    [due] = due_runs((AUDIT,), policy(copies=None), known, {})
    assert due.due is (standing is UNCHECKED)


def test_copies_that_are_proven_without_the_one_in_doubt_stay_enough():
    asked = {"copies": {"running": 3, "proven": 2}}
    one = facts(proofs=YOUNG, unread_proofs=(UnreadProof(node="db3", at=None),))
    check(ControlName.COPIES, one, MET, "", **asked)
    check(ControlName.COPIES, one, UNCHECKED, "of db3 cannot be read", copies={"running": 3, "proven": 3})
    every = facts(proofs=YOUNG, unread_proofs=(UnreadProof(node="", at=None),))
    check(ControlName.COPIES, every, UNCHECKED, "what an audit said of db2 cannot be read", **asked)
    share = {"copies": {"window": "1h", "share": 50}}
    check(ControlName.COPIES, one, UNCHECKED, "in that time cannot be read", **share)
    check(ControlName.COPIES, replace(one, unread_proofs=(UnreadProof(node="db3", at=ago(2 * DAY)),)), MET, "", **share)


@pytest.mark.parametrize("name", [ControlName.FAILOVER, ControlName.REPLACEMENT])
@pytest.mark.parametrize(
    ("lost", "standing"),
    [
        ({"unread_events": 2}, UNCHECKED),
        ({"unread_proofs": (UnreadProof(node="db3", at=None),)}, UNCHECKED),
        ({"unread_proofs": (UnreadProof(node="db3", at=ago(DAY)),)}, UNCHECKED),
        ({"unread_proofs": (UnreadProof(node="db3", at=ago(6 * DAY)),)}, MET),
    ],
)
def test_what_happened_and_cannot_be_read_may_be_the_last_that_did(name, lost, standing):
    told = "" if standing is MET else "cannot be read"
    found: ControlResult = check(name, facts(**lost), standing, told)
    assert found.measured


@pytest.mark.parametrize("name", [ControlName.FAILOVER, ControlName.REPLACEMENT])
def test_what_happened_since_the_nodes_were_seen_last_is_not_known(name):
    check(name, facts(view=None, view_problem="the nodes were last seen 20h ago"), UNCHECKED, "last seen 20h ago")
    breach = {"events": switched_over(5 * DAY, seconds=2 * HOUR), "view": None}
    check(name, facts(**breach), BREACHED, "")


def test_a_check_is_told_what_a_drill_compared_and_what_it_could_not_show():
    layers = drills.layers(
        SEAL=drills.layer(LayerName.SEAL),
        PRIMARY=drills.layer(LayerName.PRIMARY, LayerState.INCONCLUSIVE, reason="181 rows have moved on since"),
    )
    told = drill_fact(drills.result(layers=layers, verdict=DrillVerdict.UNPROVEN)).problem
    expected = "rows against a seal passed; rows against the primary inconclusive: 181 rows have moved on since"
    assert told == expected


def sealed(began_ago: float, **changes: Any) -> DrillFact:
    return drill(began_ago, to_the_end=False, **changes)


def to_the_end(began_ago: float) -> DrillFact:
    return drill(began_ago, DrillVerdict.UNCOMPARED, lacks_only_rows=True)


@pytest.mark.parametrize("drills", [(to_the_end(DAY), sealed(HOUR)), (sealed(DAY), to_the_end(HOUR))])
def test_a_seal_and_the_end_of_the_archive_are_proven_in_any_order(drills):
    known = with_archive(drills=drills)
    assert [result(name, known).standing for name in (ControlName.RESTORE, ControlName.RECOVERY_POINT)] == [MET, MET]
    assert [one.due for one in due_runs((DRILL,), policy(), known, {})] == [False]


@pytest.mark.parametrize(
    ("drills", "ends", "due"),
    [
        ((), (), [DRILL, THE_END]),
        ((), ("nightly",), [DRILL]),
        ((sealed(DAY),), (), [THE_END]),
        ((sealed(DAY),), ("nightly",), [THE_END]),
        ((to_the_end(DAY),), (), [DRILL]),
        ((sealed(7 * DAY), to_the_end(8 * DAY)), (), [DRILL, THE_END]),
        ((sealed(DAY), to_the_end(8 * DAY)), (), [THE_END]),
        ((sealed(DAY), to_the_end(HOUR)), (), []),
    ],
)
def test_the_drills_that_the_restore_and_the_recovery_point_need_are_due_each_in_its_time(drills, ends, due):
    found = due_runs((DRILL,), policy(), with_archive(drills=drills), {}, ends)
    assert [one.key for one in found if one.due] == [(key, "nightly") for key in due]


def test_a_drill_to_the_end_that_was_just_tried_is_left_alone_and_the_other_is_not():
    found = due_runs((DRILL,), policy(), with_archive(drills=()), {(THE_END, "nightly"): ago(HOUR)})
    assert [(one.to_the_end, one.due) for one in found] == [(False, True), (True, False)]


def test_without_an_archive_or_a_recovery_point_no_drill_to_the_end_is_due():
    assert [one.key for one in due_runs((DRILL,), policy(), facts(drills=()), {}) if one.due] == [(DRILL, "nightly")]
    found = due_runs((DRILL,), policy(recovery_point=None), with_archive(drills=()), {})
    assert [one.key for one in found if one.due] == [(DRILL, "nightly")]
