"""Gathering what a history holds of a period: nothing damaged looks good, and nothing is counted that was not read."""

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.years import Year, write_year
from replcheck.config import load
from replcheck.errors import StoreError, UsageError
from replcheck.model.control import ControlName, Standing
from replcheck.model.copy_times import Coverage
from replcheck.runs import checked
from replcheck.runs.period import PeriodWanted, clusters_of, gather_period
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
