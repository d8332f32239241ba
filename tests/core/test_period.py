"""Gathering what a history holds of a period: nothing damaged looks good, and nothing is counted that was not read."""

import io
import json
import sqlite3
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.years import Year, write_year
from replcheck.config import load
from replcheck.errors import AlreadyRunning, ReplcheckError, StoreError, UsageError
from replcheck.model.control import CheckResult, ControlName, ControlResult, Standing
from replcheck.model.copy_times import Coverage
from replcheck.model.outcome import Outcome
from replcheck.model.plain import utc_text
from replcheck.model.run import RunStart, new_run_id
from replcheck.report.check_document import check_document
from replcheck.report.check_words import check_sentence, check_verdict
from replcheck.report.checks_made import ASSUMED_S, LEAST_S, MISSES, ChecksMade
from replcheck.report.markdown import paper_markdown
from replcheck.report.papers.promises import claims_paper, standing_mark
from replcheck.report.period_document import cluster_document, period_json
from replcheck.report.period_lines import print_facts
from replcheck.report.style import Style
from replcheck.runs import checked
from replcheck.runs.period import PeriodWanted, clusters_of, gather_period
from replcheck.runs.records import ended, failed
from replcheck.store import open_history
from tests.core.test_history import write
from tests.core.test_papers import POLICY
from tests.factories import consistent

TEN_DAYS = Year(days=10, relations=2, until=datetime(2026, 5, 11, tzinfo=UTC), check_every=timedelta(hours=6))
ALL = PeriodWanted(since=TEN_DAYS.since, until=TEN_DAYS.until, cluster=None)


@pytest.fixture
def store(tmp_path):
    write_year(tmp_path / "clinic.db", TEN_DAYS)
    return tmp_path / "clinic.db"


def gathered(store, wanted=ALL, configuration=None):
    return gather_period(store, configuration, wanted, now=TEN_DAYS.until)


def change(store, statement):
    connection = sqlite3.connect(store)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_period_holds_everything_that_began_in_it_oldest_first(store):
    facts = gathered(store)
    assert [past.run.kind for past in facts.runs].count("audit") == facts.audits.runs == 10
    starts = [past.run.started_at for past in facts.runs]
    assert starts == sorted(starts)
    assert [event.at for event in facts.events] == sorted(event.at for event in facts.events)
    assert len(facts.drills) == 1
    assert sum(stretch.seconds for stretch in facts.copies.stretches) == 10 * 86400
    assert facts.copies.spent(Coverage.UNWATCHED) == pytest.approx(facts.watched.unwatched_s, abs=5)


def test_a_period_is_cut_from_a_longer_history(store):
    since, until = TEN_DAYS.since + timedelta(days=2), TEN_DAYS.since + timedelta(days=4)
    facts = gathered(store, PeriodWanted(since=since, until=until, cluster=None))
    assert facts.audits.runs == 2
    assert all(since <= past.run.started_at < until for past in facts.runs)
    assert all(since <= event.at < until for event in facts.events)
    assert all(span.ended_at >= since and span.began_at <= until for span in facts.node_spans)
    assert (facts.copies.stretches[0].began_at, facts.copies.stretches[-1].ended_at) == (since, until)


def test_a_proof_from_before_the_period_still_counts_in_it(store):
    """The audit of the second day was killed: until its proof is too old, that of the first day holds."""
    since = TEN_DAYS.since + timedelta(days=1)
    facts = gathered(store, PeriodWanted(since=since, until=since + timedelta(hours=2), cluster=None))
    assert facts.audits.runs == 0
    assert facts.copies.share == 100.0


def test_limits_come_from_the_policy_and_else_are_taken(store, tmp_path):
    (tmp_path / "clinic.toml").write_text(POLICY)
    facts = gathered(store, configuration=load(tmp_path / "clinic.toml"))
    assert (facts.asked.copies.running, facts.asked.copies.max_age_s) == (3, 26 * 3600)
    assert (facts.asked.recovery_limit_s, facts.asked.recovery_warn_s, facts.asked.restore_limit_s) == (300, 240, 7200)
    taken = gathered(store).asked
    assert (taken.copies.nodes, taken.copies.proven, taken.from_policy) == (("db1", "db2", "db3"), 2, False)


def test_controls_are_those_of_the_newest_check_and_counted_over_all(store):
    facts = gathered(store)
    tallies = {tally.name: tally for tally in facts.tallies}
    assert facts.controls_at is not None
    assert facts.controls_at > TEN_DAYS.until - timedelta(hours=7)
    assert len(facts.evidence_head) == 64
    assert tallies[ControlName.CONSISTENCY].standings == {Standing.MET: 36, Standing.BREACHED: 4}
    assert tallies[ControlName.COPIES].standings == {Standing.MET: 40}
    assert tallies[ControlName.COPIES].last_not_met_at is None


def test_checks_that_are_too_many_to_read_are_counted_as_left_out(store, monkeypatch):
    monkeypatch.setattr(checked, "_MOST_READ", 3)
    facts = gathered(store)
    tally = next(tally for tally in facts.tallies if tally.name is ControlName.CONSISTENCY)
    assert (tally.standings[Standing.BREACHED], facts.checks_left_out) == (3, 1)


@pytest.mark.parametrize(
    ("statement", "unread"),
    [
        ("document = '{'", "it is damaged"),
        ("document = '{}'", "it has the schema None, and this replcheck reads replcheck/check/1"),
        ("document = json_set(document, '$.controls[0].standing', 'breached')", "its verdict is not the one"),
    ],
)
def test_a_newest_check_that_cannot_be_believed_is_named_and_the_one_before_it_tells(store, statement, unread):
    before = gathered(store).controls_at
    newest = "SELECT max(run_id) FROM runs WHERE kind = 'check'"
    change(store, f"UPDATE results SET {statement} WHERE run_id = ({newest})")
    facts = gathered(store)
    assert before is not None
    assert facts.controls_at == before - timedelta(hours=6)
    [(_, reason)] = facts.unread.items()
    assert reason.startswith(unread)


def test_samples_and_events_that_cannot_be_read_are_counted_and_leave_a_gap(store):
    gaps = len(gathered(store).watched.gaps)
    change(store, "UPDATE watch_spans SET began_at = '2026-05-03Tx' WHERE span_id IN (50, 51)")
    change(store, "UPDATE cluster_events SET document = '{}' WHERE event_id = 2")
    facts = gathered(store)
    assert facts.damaged_rows == 3
    assert len(facts.watched.gaps) == gaps + 1


def test_the_only_cluster_is_meant_and_of_several_one_must_be_named(store):
    assert clusters_of(store) == ("clinic",)
    write(store, consistent(), at=TEN_DAYS.since + timedelta(days=1), cluster="pharmacy")
    with pytest.raises(UsageError, match="holds 2 clusters"):
        gathered(store)
    facts = gathered(store, replace(ALL, cluster="pharmacy"))
    assert (facts.audits.runs, facts.watched.samples, facts.node_spans) == (1, 0, ())


def test_without_a_beginning_it_is_the_first_thing_that_the_history_holds(store):
    facts = gathered(store, replace(ALL, since=None))
    assert facts.since == TEN_DAYS.since
    change(store, "DELETE FROM watch_spans")
    first = min(past.run.started_at for past in facts.runs)
    assert gathered(store, replace(ALL, since=None)).since == first


def test_a_history_without_anything_has_no_period(tmp_path):
    open_history(tmp_path / "empty.db")
    with pytest.raises(StoreError, match="holds nothing of any cluster"):
        gathered(tmp_path / "empty.db")
    assert gathered(tmp_path / "empty.db", replace(ALL, cluster="clinic")).audits.runs == 0


DAY_S, HOUR_S = 86_400.0, 3_600.0
PROMISED = (ControlName.COPIES, ControlName.RESTORE, ControlName.PLACEMENT)


def begun(ago_s: float, *, request: str = "whole") -> RunStart:
    """Return the beginning of a check of the clinic, so long before the end of the ten days."""
    at = TEN_DAYS.until - timedelta(seconds=ago_s)
    return RunStart(
        run_id=new_run_id(at),
        kind="check",
        cluster="clinic",
        started_at=at,
        tool_version="0.1.0",
        argument_digest=request.ljust(64, "0"),
    )


def check(store, ago_s: float, *looked_at: ControlName, **standings: Standing) -> None:
    """Keep a check that found what it looked at met, but for what is named; of the whole policy where none is named."""
    controls = looked_at or PROMISED
    start = begun(ago_s, request="-".join(name.value for name in looked_at) or "whole")
    found = tuple(
        ControlResult(
            name=name,
            standing=standings.get(name.value, Standing.MET) if name in controls else Standing.NOT_ASKED,
            claim="as promised",
        )
        for name in ControlName
    )
    result = CheckResult(
        run_id=start.run_id,
        cluster="clinic",
        started_at=start.started_at,
        finished_at=start.started_at,
        tool_version="0.1.0",
        controls=found,
        left_out=tuple(name for name in PROMISED if name not in controls),
    )
    run = ended(start, result.outcome, check_verdict(result).value, check_sentence(result))
    open_history(store).finish(replace(run, finished_at=start.started_at), check_document(result))


def fail(store, ago_s: float, error: ReplcheckError | None = None, **changes: str) -> None:
    """Keep a check that ended in an error."""
    run = failed(begun(ago_s, **changes), Standing.UNCHECKED.value, error or ReplcheckError("the disk is full"))
    open_history(store).finish(replace(run, finished_at=run.started_at))


@pytest.fixture
def checks(tmp_path):
    """A history without anything yet, for checks of three promises."""
    open_history(tmp_path / "checks.db")
    return tmp_path / "checks.db"


def told_of(store):
    return gathered(store, replace(ALL, cluster="clinic"))


def counts(facts) -> dict[ControlName, dict[Standing, int]]:
    return {tally.name: dict(tally.standings) for tally in facts.tallies}


def test_a_control_is_counted_in_the_checks_that_looked_at_it_and_in_no_other(checks):
    check(checks, 10 * HOUR_S)
    for hour in range(9, 0, -1):
        check(checks, hour * HOUR_S, ControlName.PLACEMENT)
    facts = told_of(checks)
    assert counts(facts) == {
        ControlName.COPIES: {Standing.MET: 1},
        ControlName.RESTORE: {Standing.MET: 1},
        ControlName.PLACEMENT: {Standing.MET: 10},
    }
    assert (facts.checks.whole, facts.checks.limited, facts.checks.failed) == (1, 9, 0)


def test_checks_of_some_controls_are_not_all_that_was_asked(checks):
    check(checks, 2 * HOUR_S)
    check(checks, HOUR_S, ControlName.PLACEMENT)
    facts = told_of(checks)
    assert facts.controls_at == TEN_DAYS.until - timedelta(hours=2)
    assert {one.name for one in facts.controls if one.standing is Standing.MET} == set(PROMISED)
    assert standing_mark(facts).word == "all 3 controls met at the last check"


def test_each_control_stands_as_the_newest_check_that_looked_at_it_found_it(checks):
    check(checks, 4 * HOUR_S, copies=Standing.BREACHED)
    check(checks, 3 * HOUR_S, ControlName.PLACEMENT)
    check(checks, 2 * HOUR_S, ControlName.PLACEMENT, placement=Standing.BREACHED)
    check(checks, HOUR_S, ControlName.COPIES)
    facts = told_of(checks)
    assert {one.name: one.standing for one in facts.controls if one.standing is not Standing.NOT_ASKED} == {
        ControlName.COPIES: Standing.MET,
        ControlName.RESTORE: Standing.MET,
        ControlName.PLACEMENT: Standing.BREACHED,
    }
    hours = {ControlName.COPIES: 1, ControlName.RESTORE: 4, ControlName.PLACEMENT: 2}
    assert {name: facts.checked_at(name) for name in hours} == {
        name: TEN_DAYS.until - timedelta(hours=ago) for name, ago in hours.items()
    }
    mark = standing_mark(facts)
    assert (mark.outcome, mark.word) == (Outcome.REFUTED, "1 of 3 controls breached at the last check")
    told = paper_markdown(claims_paper(facts), Style(zone=UTC))
    assert "Copies and restore are met; placement is breached" in told
    assert "copies and placement as a later check of some controls did" in told
    [row] = [line for line in told.splitlines() if line.startswith("| `placement` |")]
    assert "breached" in row
    results = {one["name"]: one for one in json.loads(period_json(facts.audits, facts))["controls"]["results"]}
    assert results["placement"]["checked_at"] == utc_text(TEN_DAYS.until - timedelta(hours=2))


def test_what_a_check_of_some_controls_found_broken_is_told_all_the_same(checks):
    check(checks, 2 * HOUR_S)
    check(checks, HOUR_S, ControlName.PLACEMENT, placement=Standing.BREACHED)
    facts = told_of(checks)
    assert counts(facts)[ControlName.PLACEMENT] == {Standing.MET: 1, Standing.BREACHED: 1}
    mark = standing_mark(facts)
    assert (mark.outcome, mark.word) == (
        Outcome.REFUTED,
        "1 of 3 controls breached at the last check",
    )


def test_where_only_some_controls_were_ever_checked_the_policy_was_not(checks):
    check(checks, HOUR_S, ControlName.PLACEMENT)
    mark = standing_mark(told_of(checks))
    assert (mark.outcome, mark.word) == (Outcome.UNCHECKED, "the policy was never checked as a whole")


def test_a_check_that_ended_in_an_error_leaves_what_it_was_to_look_at_unchecked(checks):
    check(checks, 9 * DAY_S)
    for day in range(8, 0, -1):
        fail(checks, day * DAY_S)
    facts = told_of(checks)
    assert counts(facts) == {name: {Standing.MET: 1, Standing.UNCHECKED: 8} for name in PROMISED}
    assert (facts.checks.whole, facts.checks.failed, facts.checks.failed_since) == (1, 8, 8)
    mark = standing_mark(facts)
    assert mark.outcome is Outcome.UNCHECKED
    assert mark.word == "all 3 controls met at the last check, and not checked for 9d since: 8 later ones failed"


def test_one_error_between_checks_is_told_and_the_last_check_still_stands(checks):
    for hour in (5, 4, 2, 1):
        check(checks, hour * HOUR_S)
    fail(checks, 3 * HOUR_S)
    facts = told_of(checks)
    assert counts(facts)[ControlName.COPIES] == {Standing.MET: 4, Standing.UNCHECKED: 1}
    assert standing_mark(facts).outcome is Outcome.PARTIAL
    assert "3 of them not at all times" in standing_mark(facts).word


def test_a_check_that_failed_last_is_in_the_headline(checks):
    for hour in (3, 2):
        check(checks, hour * HOUR_S)
    fail(checks, HOUR_S)
    mark = standing_mark(told_of(checks))
    assert mark.outcome is Outcome.PARTIAL
    assert mark.word.endswith("; 1 later one failed")


def test_where_every_check_failed_nothing_was_checked(checks):
    fail(checks, HOUR_S)
    facts = told_of(checks)
    assert (facts.checks.failed, facts.tallies, facts.controls) == (1, (), ())
    mark = standing_mark(facts)
    assert (mark.outcome, mark.word) == (Outcome.UNCHECKED, "the policy was never checked as a whole")


def test_a_check_of_one_control_that_failed_leaves_only_that_unchecked(checks):
    check(checks, 3 * HOUR_S)
    check(checks, 2 * HOUR_S, ControlName.PLACEMENT)
    fail(checks, HOUR_S, request="placement")
    facts = told_of(checks)
    assert counts(facts)[ControlName.PLACEMENT] == {Standing.MET: 2, Standing.UNCHECKED: 1}
    assert counts(facts)[ControlName.COPIES] == {Standing.MET: 1}
    assert facts.checks.failed_since == 0


def test_a_check_that_was_killed_is_one_that_failed_and_one_that_was_skipped_is_none(checks):
    for hour in (3, 2):
        check(checks, hour * HOUR_S)
    open_history(checks).begin(begun(HOUR_S))
    fail(checks, 1.5 * HOUR_S, AlreadyRunning("a check is already running"))
    facts = told_of(checks)
    assert facts.checks.failed == 1
    assert counts(facts)[ControlName.COPIES] == {Standing.MET: 2, Standing.UNCHECKED: 1}


def test_a_check_whose_report_cannot_be_read_leaves_what_it_looked_at_unchecked(checks):
    for hour in (3, 2):
        check(checks, hour * HOUR_S)
    check(checks, 2.5 * HOUR_S, restore=Standing.BREACHED)
    change(checks, "UPDATE results SET document = '{' WHERE document LIKE '%breached%'")
    facts = told_of(checks)
    assert counts(facts)[ControlName.RESTORE] == {Standing.MET: 2, Standing.UNCHECKED: 1}
    assert len(facts.unread) == 1


def test_checks_of_which_nothing_tells_what_they_looked_at_count_for_nothing(checks):
    check(checks, 2 * HOUR_S)
    check(checks, HOUR_S, ControlName.PLACEMENT)
    change(checks, "UPDATE results SET document = '{' WHERE run_id = (SELECT max(run_id) FROM runs)")
    facts = told_of(checks)
    assert counts(facts)[ControlName.PLACEMENT] == {Standing.MET: 1}
    assert (facts.checks.whole, facts.checks.limited, facts.checks.uncounted) == (1, 0, 1)


@pytest.mark.parametrize(
    ("began_ago_s", "outcome"),
    [
        ([5 * HOUR_S, 4 * HOUR_S, 3 * HOUR_S], Outcome.PROVEN),
        ([5 * HOUR_S, 4 * HOUR_S, 3.1 * HOUR_S], Outcome.UNCHECKED),
        ([9 * DAY_S, 8 * DAY_S, 7 * DAY_S], Outcome.UNCHECKED),
        ([7 * DAY_S, 5 * DAY_S, 3 * DAY_S], Outcome.PROVEN),
        ([9 * DAY_S, 5 * DAY_S], Outcome.PROVEN),
        ([62 * 60.0, 61 * 60.0], Outcome.UNCHECKED),
        ([59 * 60.0, 58 * 60.0], Outcome.PROVEN),
        ([DAY_S], Outcome.PROVEN),
        ([DAY_S + 60], Outcome.UNCHECKED),
    ],
)
def test_a_check_that_is_old_for_how_often_there_was_one_does_not_tell_how_things_stand(checks, began_ago_s, outcome):
    for ago_s in began_ago_s:
        check(checks, ago_s)
    facts = told_of(checks)
    assert standing_mark(facts).outcome is outcome
    assert ("not checked for" in standing_mark(facts).word) is (outcome is Outcome.UNCHECKED)


CHECKS = ("whole", "placement", "restore breached", "failed", "failed placement", "skipped")


@given(st.lists(st.sampled_from(CHECKS), max_size=5))
@settings(max_examples=10)
def test_every_check_counts_once_for_what_it_looked_at_and_never_as_met_where_it_found_nothing(kinds):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clinic.db"
        open_history(path)
        keep = {
            "whole": lambda ago_s: check(path, ago_s),
            "placement": lambda ago_s: check(path, ago_s, ControlName.PLACEMENT),
            "restore breached": lambda ago_s: check(path, ago_s, restore=Standing.BREACHED),
            "failed": lambda ago_s: fail(path, ago_s),
            "failed placement": lambda ago_s: fail(path, ago_s, request="placement"),
            "skipped": lambda ago_s: fail(path, ago_s, AlreadyRunning("a check is already running")),
        }
        for number, kind in enumerate(kinds):
            keep[kind]((number + 1) * HOUR_S)
        facts = told_of(path)
    of = Counter(kinds)
    whole = of["whole"] + of["restore breached"]
    # What a check of one control was, that failed, only another of the same tells.
    alone = of["failed placement"] if of["placement"] else 0
    elsewhere = of["failed placement"] - alone
    lost = (of["failed"] + elsewhere) if whole else 0
    expected = {
        ControlName.COPIES: {Standing.MET: whole, Standing.UNCHECKED: lost},
        ControlName.RESTORE: {
            Standing.MET: of["whole"],
            Standing.BREACHED: of["restore breached"],
            Standing.UNCHECKED: lost,
        },
        ControlName.PLACEMENT: {Standing.MET: whole + of["placement"], Standing.UNCHECKED: lost + alone},
    }
    found = counts(facts)
    for name, standings in expected.items():
        assert found.get(name, {}) == {standing: count for standing, count in standings.items() if count}
    assert (facts.checks.whole, facts.checks.limited) == (whole, of["placement"])
    if standing_mark(facts).outcome is Outcome.PROVEN:
        assert whole
        assert of["failed"] + of["failed placement"] + of["restore breached"] == 0


def test_an_old_breach_stays_one(checks):
    check(checks, 9 * DAY_S, restore=Standing.BREACHED)
    mark = standing_mark(told_of(checks))
    assert mark.outcome is Outcome.REFUTED
    assert mark.word == "1 of 3 controls breached at the last check, and not checked for 9d since"


def test_the_summary_for_people_and_that_for_machines_say_how_the_policy_was_checked(checks):
    for day in (9, 8):
        check(checks, day * DAY_S)
    fail(checks, 7 * DAY_S)
    check(checks, DAY_S, ControlName.PLACEMENT)
    facts = told_of(checks)
    page = io.StringIO()
    print_facts(facts, Console(file=page, width=400), Style(zone=UTC))
    told = page.getvalue()
    assert "In the last 8d of the period the policy was not checked as a whole; until then one began every 1d." in told
    assert "1 check ended in an error or was killed, after the last whole one: counted as unchecked." in told
    assert "1 check looked at some of the controls only (--control): counted for these alone." in told
    assert "as the check of 2026-05-03 00:00:00+00:00, 8d before the end of the period, found them" in told
    document = cluster_document(facts)["controls"]
    assert isinstance(document, dict)
    assert document["checks"] == {
        "whole": 2,
        "limited": 1,
        "failed": 1,
        "failed_since": 1,
        "uncounted": 0,
        "usual_distance_s": DAY_S,
        "age_s": 8 * DAY_S,
        "old": True,
    }


def test_a_period_that_ends_in_the_future_is_over_now(checks):
    check(checks, HOUR_S)
    later = replace(ALL, cluster="clinic", until=TEN_DAYS.until + timedelta(days=90))
    assert standing_mark(gathered(checks, later)).outcome is Outcome.PROVEN


@given(st.lists(st.floats(0.01, 1e7), max_size=1), st.floats(0, 1e8))
def test_a_last_check_is_old_only_beyond_every_patience(every, age_s):
    checks = ChecksMade(whole=2, every_s=every[0] if every else None, age_s=age_s)
    assert checks.most_s >= LEAST_S
    assert checks.are_old is (age_s > (max(LEAST_S, MISSES * every[0]) if every else ASSUMED_S))
