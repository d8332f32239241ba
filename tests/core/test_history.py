"""Reading a history: nothing is written, damage is named, and a run that was killed is told from one at work."""

import fcntl
import io
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from rich.console import Console

from replcheck.errors import StoreError, UsageError
from replcheck.model.audit import Scope
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.run import UNNAMED_CLUSTER, Failure, RunRecord, new_run_id
from replcheck.report.document import audit_document
from replcheck.report.history import RunState
from replcheck.report.period_page import print_period
from replcheck.report.style import Style
from replcheck.report.verdict import outcome_of, sentence, verdict_of
from replcheck.runs.audit import run_audit
from replcheck.runs.history import find_run, known_kinds, list_runs, moment_of, read_report, summarize
from replcheck.runs.lock import is_held, lock_file, one_of_several_runs, only_run
from replcheck.store import RunFilter, open_history, open_reader, reader
from tests import factories
from tests.core.test_store import BEGUN, _write_runs, record, start
from tests.fakes import REQUEST, returning

NOW = BEGUN + timedelta(days=30)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "clinic.db"


def write(path, result, *, at=BEGUN, cluster="clinic"):
    """Write a run as an audit does: `result` is an AuditResult, a Failure, or None for a run that was killed."""
    begun = start(run_id=new_run_id(at), started_at=at, cluster=cluster)
    history = open_history(path)
    history.begin(begun)
    if result is None:
        return begun.run_id
    failure = result if isinstance(result, Failure) else None
    outcome = Outcome.UNCHECKED if failure else outcome_of(result)
    ended = record(
        begun,
        finished_at=at + timedelta(seconds=4),
        outcome=outcome,
        verdict="unchecked" if failure else verdict_of(result).value,
        exit_status=outcome.exit_status,
        summary=failure.message if failure else sentence(result),
        failure=failure,
    )
    history.finish(ended, None if failure else audit_document(result))
    return begun.run_id


UNREACHABLE = Failure(error="NodeUnreachable", message='node "db2" does not answer', hint="Start it.")


def days(count):
    return BEGUN + timedelta(days=count)


def change(path, statement):
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def listed(path, **wanted):
    return [past.run.run_id for past in list_runs(path, RunFilter(**wanted), limit=None).runs]


def test_runs_are_listed_newest_first_and_filtered(path):
    results = (factories.consistent(), factories.diverged(), UNREACHABLE, None)
    first, second, third, fourth = (write(path, result, at=days(day)) for day, result in enumerate(results))
    assert listed(path) == [fourth, third, second, first]
    assert listed(path, since=days(1), until=days(3)) == [third, second]
    assert listed(path, outcomes=frozenset({Outcome.REFUTED, Outcome.PROVEN})) == [second, first]
    assert listed(path, outcomes=frozenset({Outcome.PROVEN}), unended=True) == [fourth, first]
    assert listed(path, unended=True) == [fourth]
    assert listed(path, kind="drill") == listed(path, cluster="other") == []
    assert len(list_runs(path, RunFilter(), limit=2).runs) == 2


def test_a_report_comes_back_as_it_was(path):
    run_id = write(path, factories.diverged())
    stored = read_report(path, run_id)
    assert stored.result == factories.diverged()
    assert stored.document == audit_document(factories.diverged())


@pytest.mark.parametrize("length", [4, 13, 36])
def test_a_run_is_found_by_the_beginning_of_its_id(path, length):
    run_id = write(path, factories.consistent())
    write(path, factories.consistent(), at=BEGUN - timedelta(days=10_000))
    assert find_run(path, run_id[:length].upper()).run.run_id == run_id


def test_the_latest_run_is_the_newest_whatever_became_of_it(path):
    write(path, factories.consistent())
    failed = write(path, UNREACHABLE, at=days(1))
    assert find_run(path, "latest").run.run_id == failed
    with pytest.raises(StoreError, match='has no report: node "db2" does not answer') as caught:
        read_report(path, "latest")
    assert find_run(path, caught.value.hint.split()[-1].rstrip('."')).run.started_at == BEGUN


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0000", "no run has this id"),
        ("%", "a run is named by its id"),
        ("last", "a run is named by"),
        ("", "a run is"),
    ],
)
def test_a_name_that_names_no_run_is_refused(path, name, message):
    write(path, factories.consistent())
    with pytest.raises(UsageError, match=message):
        find_run(path, name)


def test_an_ambiguous_name_is_refused(path):
    run_id = write(path, factories.consistent())
    write(path, factories.consistent())
    with pytest.raises(UsageError, match="more than one run has an id that begins so"):
        find_run(path, run_id[:13])


def state_of(path):
    return [past.state for past in list_runs(path, RunFilter(), limit=None).runs]


def test_a_run_without_an_end_was_killed_unless_the_lock_is_held(path):
    write(path, factories.consistent())
    write(path, None, at=days(1))
    write(path, None, at=days(2))
    assert state_of(path) == [RunState.LOST, RunState.LOST, RunState.ENDED]
    with only_run(lock_file(path), "an audit"):
        assert state_of(path) == [RunState.RUNNING, RunState.LOST, RunState.ENDED]
    assert state_of(path)[0] is RunState.LOST


def test_of_runs_that_share_the_lock_nobody_can_say_which_is_at_work(path):
    write(path, None, cluster=UNNAMED_CLUSTER)
    with one_of_several_runs(lock_file(path)):
        assert state_of(path) == [RunState.RUNNING]
        write(path, None, at=days(1), cluster=UNNAMED_CLUSTER)
        assert state_of(path) == [RunState.OPEN, RunState.OPEN]
    assert state_of(path) == [RunState.LOST, RunState.LOST]


@pytest.mark.parametrize("cluster", ["clinic", UNNAMED_CLUSTER])
def test_an_audit_at_work_is_seen_running_and_then_ended(path, cluster):
    seen = []
    request = replace(REQUEST, cluster=cluster)
    run_audit(
        request, sinks=[lambda _: seen.append(state_of(path))], store=path, auditor=returning(factories.consistent())
    )
    assert seen[0] == [RunState.RUNNING]
    assert state_of(path) == [RunState.ENDED]


def test_who_only_asks_for_the_lock_keeps_nobody_from_it(path, monkeypatch):
    monkeypatch.setattr("replcheck.runs.lock._PATIENCE_S", 60)
    lock = lock_file(path)
    with only_run(lock, "an audit"):
        assert is_held(lock)
    asking = os.open(lock, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_EX)
    done = threading.Timer(0.2, lambda: os.close(asking))
    done.start()
    with only_run(lock, "an audit"):
        done.join()


def test_a_run_that_ends_while_it_is_looked_at_is_never_called_killed(path, monkeypatch):
    run_id = write(path, None)

    def ends_and_lets_go(_):
        begun = start(run_id=run_id)
        open_history(path).finish(record(begun))
        return False

    monkeypatch.setattr("replcheck.runs.history.is_held", ends_and_lets_go)
    [past] = list_runs(path, RunFilter(), limit=None).runs
    assert past.state is RunState.ENDED
    assert isinstance(past.run, RunRecord)


def test_nothing_is_created_where_there_is_no_history(path):
    with pytest.raises(StoreError, match=r"there is no history at .*clinic.db: no run was recorded there"):
        open_reader(path)
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no history of replcheck: it is empty"),
        (b"no database, but long enough to have a header of its own" * 40, "file is not a database"),
    ],
)
def test_a_file_that_is_no_history_is_one_clear_error(path, content, message):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreError, match=message):
        open_reader(path)
    assert path.read_bytes() == content


def test_a_history_of_a_newer_version_is_refused(path):
    write(path, factories.consistent())
    change(path, "UPDATE replcheck_meta SET value = '99'")
    with pytest.raises(StoreError, match="has schema version 99"):
        open_reader(path)


def test_a_torn_file_is_one_clear_error(path):
    for number in range(15):
        write(path, factories.diverged(), at=days(number))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(StoreError, match=r"history .*clinic\.db"):
        summarize(path, since=None, until=None, now=NOW + timedelta(days=30))


@pytest.mark.parametrize(
    "damage", ["started_at = 'yesterday'", "finished_at = 'x'", "outcome = 'fine'", "failure = '{'", "failure = '[1]'"]
)
def test_a_damaged_record_is_named_and_hides_no_other(path, damage):
    good = write(path, factories.consistent())
    bad = write(path, UNREACHABLE, at=days(1))
    table = "runs" if damage.startswith("started") else "run_records"
    change(path, f"UPDATE {table} SET {damage} WHERE run_id = '{bad}'")
    found = list_runs(path, RunFilter(), limit=None)
    assert [past.run.run_id for past in found.runs] == [good]
    assert found.damaged == (bad,)
    with pytest.raises(StoreError, match="is damaged"):
        find_run(path, bad)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("'{'", "is damaged"),
        ("'[]'", "cannot be read: it is no object"),
        ("json_set(document, '$.schema', 'replcheck/audit/9')", "it has the schema replcheck/audit/9, and this"),
        ("json_remove(document, '$.rows')", "cannot be read: rows is missing"),
        ("json_set(document, '$.verdict', 'consistent')", "its verdict is not the one of its content"),
    ],
)
def test_a_damaged_report_is_one_clear_error_and_its_record_stays(path, document, message):
    run_id = write(path, factories.diverged())
    change(path, f"UPDATE results SET document = {document}")
    with pytest.raises(StoreError, match=message):
        read_report(path, run_id)
    kept = find_run(path, run_id).run
    assert isinstance(kept, RunRecord)
    assert kept.outcome is Outcome.REFUTED
    period = summarize(path, since=None, until=None, now=NOW)
    assert [unread.run_id for unread in period.unread] == [run_id]
    assert period.outcomes[Outcome.REFUTED] == 1


def test_a_report_that_contradicts_its_record_is_not_believed(path):
    run_id = write(path, factories.diverged())
    change(path, "UPDATE run_records SET outcome = 'proven', exit_status = 0")
    with pytest.raises(StoreError, match="it contradicts the record of the run"):
        read_report(path, run_id)


def test_a_writer_at_work_disturbs_no_reader(path):
    write(path, factories.consistent())
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=_write_runs, args=(path, 8))
    writer.start()
    seen = 0
    while writer.is_alive():
        found = list_runs(path, RunFilter(), limit=None)
        assert found.damaged == ()
        assert len(found.runs) >= seen
        seen = len(found.runs)
    writer.join()
    assert writer.exitcode == 0
    assert len(list_runs(path, RunFilter(), limit=None).runs) == 9


def test_a_reader_at_work_disturbs_no_writer(path):
    for number in range(30):
        write(path, factories.consistent(), at=days(number))
    walk = open_reader(path).walk(RunFilter())
    next(walk)
    write(path, factories.diverged(), at=days(99))
    assert len(list(walk)) == 29


_READ_AS_NOBODY = """
import os, sys
from pathlib import Path
from replcheck.runs.history import list_runs, read_report
from replcheck.store import RunFilter
path = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
assert not os.access(path.parent, os.W_OK)
print(len(list_runs(path, RunFilter(), limit=None).runs), read_report(path, "latest").result.verdict.value)
"""


def read_unprivileged(path):
    """Read a history as somebody who may read its file and write nothing beside it."""
    for folder in (path.parent, *path.parents):
        if folder == Path("/tmp"):
            break
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    path.chmod(0o644)
    mode = path.parent.stat().st_mode
    path.parent.chmod(0o555)
    try:
        return subprocess.run(
            [sys.executable, "-c", _READ_AS_NOBODY, path],
            capture_output=True,
            text=True,
            env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": os.defpath},
            check=False,
        )
    finally:
        path.parent.chmod(mode)


def test_a_writer_that_leaves_while_the_file_is_opened_is_no_error(path, monkeypatch):
    """It takes with it the files that whoever may write nothing there would have read with."""
    written = write(path, None)
    addresses = iter([f"file:{path.parent}/gone/history.db?mode=ro"])
    original = reader._address
    monkeypatch.setattr(reader, "_address", lambda where: next(addresses, None) or original(where))
    assert listed(path) == [written]
    assert not list(addresses)
    monkeypatch.setattr(reader, "_address", lambda _: f"file:{path.parent}/gone/history.db?mode=ro")
    monkeypatch.setattr(reader, "_OPENED_AFTER_S", (0.01,))
    with pytest.raises(StoreError, match="unable to open database file"):
        open_reader(path)


def test_no_write_permission_is_needed(path):
    write(path, factories.diverged())
    before = sorted(path.parent.iterdir())
    done = read_unprivileged(path)
    assert (done.stdout, done.stderr) == ("1 diverged\n", "")
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2h", None, "2026-03-31T04:30:00"),
        ("30d", None, "2026-03-01T06:30:00"),
        ("2026-03-01", UTC, "2026-03-01T00:00:00"),
        ("2026-03-01", timezone(timedelta(hours=5.5)), "2026-02-28T18:30:00"),
        ("2026-03-01T12:00", UTC, "2026-03-01T12:00:00"),
        ("2026-03-01T12:00:00+05:30", UTC, "2026-03-01T06:30:00"),
        ("2026-03-01 12:00Z", timezone(timedelta(hours=5)), "2026-03-01T12:00:00"),
    ],
)
def test_a_time_is_so_long_ago_or_a_date(text, zone, moment):
    found = moment_of(text, flag="--since", now=NOW.replace(microsecond=0), zone=zone)
    assert found == datetime.fromisoformat(moment).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "5", "5 weeks", "2026-13-01", "0001-01-01T00:00+14:00", "9999999d"])
def test_any_other_time_is_refused(text):
    with pytest.raises(UsageError, match="--since"):
        moment_of(text, flag="--since", now=NOW, zone=timezone(timedelta(hours=14)))


def test_a_period_counts_verdicts_proofs_and_gaps(path):
    part = Scope(databases=("clinic",), tables=(), excludes=(), catalogs=True)
    for day, result in (
        (0, factories.consistent()),
        (1, factories.diverged()),
        (2, UNREACHABLE),
        (3, None),
        (5, factories.consistent(scope=part)),
        (9, factories.consistent()),
        (20, factories.consistent()),
    ):
        write(path, result, at=days(day))
    period = summarize(path, since=None, until=days(12), now=NOW)
    assert period.runs == 6
    assert {outcome.value: count for outcome, count in period.outcomes.items()} == {
        "proven": 3,
        "partial": 0,
        "refuted": 1,
        "unchecked": 1,
    }
    assert (period.failed, period.limited, period.unended, period.running) == (1, 1, 1, 0)
    assert (period.first_run_at, period.last_run_at) == (days(0), days(9))
    assert [(gap.since, gap.until) for gap in period.gaps] == [(days(0), days(9)), (days(9), days(12))]
    [db2, db3] = period.replicas
    assert (db2.consistent, db2.first_proven_at, db2.last_proven_at) == (4, days(0), days(9))
    assert (db3.consistent, db3.diverged, db3.last_verdict) == (3, 1, Verdict.CONSISTENT)
    visit = next(proofs for proofs in period.relations if (proofs.relation, proofs.node) == ("public.visit", "db3"))
    assert (visit.consistent, visit.diverged, visit.last_proven_at) == (3, 1, days(9))


def test_a_period_without_a_proof_is_one_gap(path):
    write(path, factories.diverged(), at=days(1))
    period = summarize(path, since=BEGUN, until=None, now=days(3))
    assert [(gap.since, gap.until) for gap in period.gaps] == [(BEGUN, days(3))]


def test_a_proof_of_a_part_closes_no_gap_and_proves_no_replica(path):
    part = Scope(databases=(), tables=("visit",), excludes=(), catalogs=False)
    write(path, factories.consistent(scope=part), at=days(1))
    period = summarize(path, since=BEGUN, until=None, now=days(3))
    assert [gap.elapsed_s for gap in period.gaps] == [3 * 86400]
    assert {proofs.last_proven_at for proofs in period.replicas} == {None}
    assert {proofs.last_proven_at for proofs in period.relations} == {days(1)}


def test_a_run_at_work_is_not_counted_as_killed(path):
    write(path, None, at=days(1))
    with only_run(lock_file(path), "an audit"):
        period = summarize(path, since=None, until=None, now=NOW)
    assert (period.unended, period.running) == (0, 1)


def test_clusters_of_one_history_are_kept_apart(path):
    write(path, factories.consistent(), at=days(0), cluster="a")
    write(path, factories.diverged(), at=days(1), cluster="b")
    period = summarize(path, since=None, until=None, now=days(2))
    assert period.clusters == ("a", "b")
    assert [(proofs.cluster, proofs.node, proofs.diverged) for proofs in period.replicas] == [
        ("a", "db2", 0),
        ("a", "db3", 0),
        ("b", "db2", 0),
        ("b", "db3", 1),
    ]
    assert {gap.cluster: gap.elapsed_s for gap in period.gaps} == {"a": 2 * 86400, "b": 86400}


def test_what_was_built_upon_an_earlier_proof_is_as_old_as_that(path):
    older = factories.relation("visit", proven_since=days(-1))
    write(path, factories.consistent(relations=(older, factories.relation("patient"))), at=days(1))
    period = summarize(path, since=BEGUN, until=None, now=days(3))
    proven = {proofs.relation: proofs.last_proven_at for proofs in period.relations}
    assert proven == {"public.visit": days(-1), "public.patient": days(1)}
    assert {proofs.last_proven_at for proofs in period.replicas} == {days(-1)}
    assert [gap.elapsed_s for gap in period.gaps] == [3 * 86400]


def ended(path, kind, outcome, verdict, *, at):
    begun = start(run_id=new_run_id(at), started_at=at, kind=kind)
    history = open_history(path)
    history.begin(begun)
    history.finish(
        record(begun, finished_at=at, outcome=outcome, verdict=verdict, exit_status=outcome.exit_status, summary="x")
    )


def test_a_rolling_audit_counts_as_an_audit_of_its_period_and_not_as_another_run_too(path):
    ended(path, "scrub", Outcome.PROVEN, "consistent", at=days(1))
    period = summarize(path, since=days(0), until=days(5), now=NOW)
    assert (period.runs + len(period.unread), period.others) == (1, ())


def test_a_period_counts_drills_and_seals_by_how_they_ended(path):
    ended(path, "drill", Outcome.REFUTED, "failed", at=days(0))
    ended(path, "drill", Outcome.PROVEN, "restored", at=days(2))
    ended(path, "drill", Outcome.PROVEN, "restored", at=days(1))
    ended(path, "seal", Outcome.PROVEN, "sealed", at=days(1))
    open_history(path).begin(start(run_id=new_run_id(days(3)), started_at=days(3), kind="drill"))
    ended(path, "drill", Outcome.PROVEN, "restored", at=days(9))
    period = summarize(path, since=days(0), until=days(5), now=NOW)
    assert (period.runs, period.clusters, period.gaps) == (0, ("clinic",), ())
    [drills, seals] = period.others
    assert (drills.kind, drills.runs, drills.unended, drills.last_run_at) == ("drill", 4, 1, days(3))
    assert list(drills.verdicts.items()) == [("restored", 2), ("failed", 1)]
    assert (drills.outcomes[Outcome.REFUTED], seals.outcomes[Outcome.PROVEN]) == (1, 1)
    page = io.StringIO()
    print_period(period, Console(file=page, width=80), Style(zone=UTC))
    text = " ".join(page.getvalue().split())
    assert text.startswith("replcheck runs of clinic ")
    assert "no audit began in this period" in text
    assert ": 2 restored; 1 failed; 1 without an end" in text
    assert "1 seal, last " in text


def test_a_period_shows_the_relations_that_stand_worst_and_counts_the_others(path):
    unsettled = [factories.relation(f"t{number}", Verdict.INCONCLUSIVE) for number in range(22)]
    broken = factories.relation("zzz", Verdict.DIVERGED)
    write(path, factories.diverged(relations=(*unsettled, broken, factories.relation("patient"))), at=days(0))
    period = summarize(path, since=None, until=None, now=days(2))

    def printed(*, verbose: bool = False) -> str:
        page = io.StringIO()
        print_period(period, Console(file=page, width=80), Style(zone=UTC), verbose=verbose)
        return page.getvalue().partition("Relations: verdicts of the audits\n")[2]

    brief, whole = printed(), printed(verbose=True)
    [first, *_] = (row.split() for row in brief.splitlines() if row.startswith("clinic."))
    assert first[:4] == ["clinic.public.zzz", "db3", "1", "diverged"]
    assert "25 relations on replicas were consistent in every audit that looked at them" in brief
    assert brief.count("1 inconclusive") == 19
    assert "3 more, of which none stands worse: --verbose lists them" in brief
    assert "public.patient" not in brief
    assert whole.count("1 inconclusive") == 22
    assert "public.patient" in whole


def test_a_period_in_which_nothing_ran_is_of_no_cluster_in_particular(path):
    write(path, factories.consistent())
    page = io.StringIO()
    print_period(summarize(path, since=days(5), until=None, now=days(6)), Console(file=page, width=80), Style())
    assert page.getvalue().startswith("replcheck runs\n")


def test_the_kinds_of_runs_are_ours_and_those_of_the_history(path):
    ended(path, "scrub", Outcome.PROVEN, "clean", at=BEGUN)
    assert known_kinds(path) == {"audit", "check", "drill", "seal", "selftest", "scrub"}
