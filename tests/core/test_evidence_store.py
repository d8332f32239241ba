"""Every run leaves a record, whatever becomes of it, and a history that was tampered with is found out."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from replcheck.errors import AlreadyRunning, ConfigurationError, Interrupted, NodeUnreachable, StoreError
from replcheck.evidence import findings
from replcheck.evidence.in_history import verify_history
from replcheck.evidence.keys import create_keys, load_public_key
from replcheck.evidence.notary import Notary
from replcheck.evidence.statement import document_digest
from replcheck.model.evidence import RecordKind
from replcheck.model.outcome import Outcome
from replcheck.model.plain import Plain
from replcheck.model.run import RunRecord, new_run_id
from replcheck.runs.audit import run_audit
from replcheck.runs.evidence import verify_store
from replcheck.runs.evidence_files import import_file
from replcheck.runs.lock import lock_file, only_run
from replcheck.runs.parts import proofs_of
from replcheck.runs.recorder import Recorder
from replcheck.runs.records import started
from replcheck.runs.signing import Signing
from replcheck.store import AuditParts, open_evidence, open_history
from tests import evidences
from tests.core.test_store import record, start
from tests.evidences import killed, notary, public, run
from tests.factories import consistent, diverged
from tests.fakes import REQUEST, raising, returning

ROOT = Path(__file__).parents[2]
UNREACHABLE = NodeUnreachable('node "db2" cannot be reached at db2:5432', node="db2", hint="Start it.")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clinic.db"


def records(path, cluster="clinic"):
    return list(open_evidence(path).records(cluster))


def said(found):
    return evidences.payload_of(found.envelope.encode())["predicate"]


def states(path):
    return [said(found)["run"]["state"] for found in records(path) if found.kind is RecordKind.RUN]


def verified(path, *, keys=(), **options):
    return verify_history(open_evidence(path), "clinic", keys, **options)


def written(path, count=5, by="clinic"):
    """Write so many runs with their records; return the records."""
    history = open_history(path)
    for number in range(count):
        history.begin(killed(number))
        ended, document = run(number), evidences.document()
        parts = AuditParts(result=consistent(), proofs=proofs_of(consistent()))
        history.finish(ended, document, parts, evidence=notary(by).of_run(ended, document))
    return records(path)


def tampered(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement
        connection.commit()


# --- every run ---


@pytest.mark.parametrize(
    ("auditor", "state"),
    [
        (returning(consistent()), "ended"),
        (returning(diverged()), "ended"),
        (returning(consistent(stopped="interrupted")), "ended"),
        (raising(UNREACHABLE), "failed"),
        (raising(Interrupted("interrupted")), "interrupted"),
        (raising(KeyError("a row's value")), "failed"),
    ],
)
def test_every_end_of_an_audit_is_a_record(path, auditor, state):
    try:
        finished = run_audit(REQUEST, store=path, auditor=auditor)
    except KeyError:
        finished = None
    assert states(path) == [state]
    last = records(path)[-1]
    assert "a row's value" not in str(evidences.payload_of(last.envelope.encode()))
    told = said(last)["run"]
    [stored] = open_history(path).runs()
    assert isinstance(stored, RunRecord)
    assert (told["run_id"], told["outcome"], told["summary"]) == (stored.run_id, stored.outcome.value, stored.summary)
    if finished is not None:
        assert finished.evidence is not None
        assert (finished.evidence.sequence, finished.evidence.sha256) == (2, last.sha256)
        assert not finished.evidence.signed
    assert verified(path, reports=True).problem == ""


def test_the_subject_of_a_record_is_the_report_as_it_is_stored_and_printed(path):
    finished = run_audit(REQUEST, store=path, auditor=returning(diverged()))
    document = open_history(path).result(finished.record.run_id)
    assert isinstance(document, dict)
    statement = evidences.payload_of(records(path)[-1].envelope.encode())
    [subject] = statement["subject"]
    assert subject["name"] == f"audit/{finished.record.run_id}"
    assert subject["digest"] == {"sha256": document_digest(document)}
    assert document_digest({**document, "evidence": {"sequence": 2}}) == document_digest(document)
    assert (statement["_type"], statement["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "urn:replcheck:evidence:run:1",
    )


def test_a_record_tells_who_ran_what_where_and_with_which_servers(path):
    run_audit(REQUEST, store=path, auditor=returning(diverged()))
    told = said(records(path)[-1])
    assert set(told["recorded"]) == {"at", "by", "software", "configuration_sha256", "key_id"}
    assert all(told["recorded"]["by"][who] for who in ("user", "host"))
    assert {"replcheck", "python", "libpq", "system"} == set(told["recorded"]["software"])
    result = told["result"]
    assert [server["server_version"] for server in result["servers"]] == ["18.1"] * 3
    assert result["replicas"][0]["alignments"]["taken"] == 2
    assert result["replicas"][0]["alignments"]["exact"] == 1
    assert sum(result["relations"].values()) == len(diverged().relations)
    assert result["divergences"] == len(diverged().divergences)


def test_a_run_that_finds_another_at_work_is_recorded_as_skipped(path):
    with only_run(lock_file(path), "an audit"), pytest.raises(AlreadyRunning):
        run_audit(REQUEST, store=path, auditor=returning(consistent()))
    assert states(path) == ["skipped"]
    assert said(records(path)[-1])["run"]["outcome"] == "unchecked"


def test_a_run_that_was_killed_is_recorded_by_the_next_and_only_once(path):
    lost = started("audit", "clinic", "0" * 64)
    Recorder(path).begin(lost)
    lock_file(path).touch()
    for _ in range(2):
        run_audit(REQUEST, store=path, auditor=returning(consistent()))
    assert states(path) == ["aborted", "ended", "ended"]
    assert said(records(path)[1])["run"]["run_id"] == lost.run_id
    assert verified(path).problem == ""


def test_runs_without_an_end_are_found_among_those_that_ended_and_those_of_other_clusters(path):
    history = open_history(path)
    for number in range(8):
        history.begin(killed(number))
        if number not in (0, 3):
            history.finish(run(number), evidences.document())
    history.begin(replace(killed(9), cluster="elsewhere"))
    assert open_evidence(path).unended("clinic") == [killed(0), killed(3)]
    assert open_evidence(path).unended("elsewhere") == [replace(killed(9), cluster="elsewhere")]


def test_a_run_that_is_still_at_work_is_not_taken_for_killed(path):
    Recorder(path).begin(started("seal", "clinic", "0" * 64))
    with only_run(lock_file(path, "seal"), "a seal"):
        run_audit(REQUEST, store=path, auditor=returning(consistent()))
    assert states(path) == ["ended"]


def test_a_run_taken_for_killed_that_ends_all_the_same_has_both_records(path):
    history = open_history(path)
    history.begin(killed(0))
    assert history.append_abort(killed(0), notary().of_run(killed(0)))
    history.finish(run(0), evidence=notary().of_run(run(0)))
    assert not history.append_abort(killed(0), notary().of_run(killed(0)))
    assert states(path) == ["aborted", "ended"]
    assert verified(path, keys=public()).outcome is Outcome.PROVEN
    history.finish(run(1))
    assert not history.append_abort(killed(1), notary().of_run(killed(1)))


def test_records_are_signed_with_the_configured_key(path, tmp_path):
    keys = create_keys(tmp_path / "clinic.key")
    request = replace(REQUEST, signing=Signing(key=keys.private, configuration_sha256="c" * 64))
    finished = run_audit(request, store=path, auditor=returning(consistent()))
    assert finished.evidence is not None
    assert finished.evidence.key_id == keys.key.key_id
    assert said(records(path)[-1])["recorded"]["configuration_sha256"] == "c" * 64
    assert verified(path, keys=[load_public_key(keys.public)]).outcome is Outcome.PROVEN


def test_a_key_that_cannot_be_used_ends_a_run_before_it_begins(path, tmp_path):
    keys = create_keys(tmp_path / "clinic.key")
    keys.private.chmod(0o644)
    request = replace(REQUEST, signing=Signing(key=keys.private))
    with pytest.raises(ConfigurationError, match="can be read by others"):
        run_audit(request, store=path, auditor=returning(consistent()))
    assert not path.exists()


def test_a_key_that_goes_away_while_a_run_works_still_signs_its_record(path, tmp_path):
    keys = create_keys(tmp_path / "clinic.key")
    request = replace(REQUEST, signing=Signing(key=keys.private))
    losing = [lambda _: keys.private.unlink(missing_ok=True)]
    run_audit(request, sinks=losing, store=path, auditor=returning(consistent()))
    assert verified(path, keys=[keys.key]).outcome is Outcome.PROVEN


def test_a_result_that_is_no_json_costs_the_record_and_is_told(path):
    recorder = Recorder(path)
    recorder.finish(run(0), {"rows": float("nan")})
    assert recorder.problem == "its result holds what JSON does not know"
    assert open_history(path).runs() == []


def test_clusters_have_chains_of_their_own(path):
    history = open_history(path)
    for number, cluster in enumerate(("clinic", "lab", "clinic")):
        ended = run(number, cluster=cluster)
        history.finish(ended, evidence=notary().of_run(ended))
    assert open_evidence(path).clusters() == ("clinic", "lab")
    assert [found.sequence for found in records(path)] == [1, 2, 3]
    assert [found.sequence for found in records(path, "lab")] == [1, 2]


def test_a_history_that_knew_nothing_of_evidence_begins_a_chain_that_says_so(path):
    history = open_history(path)
    for number in range(3):
        history.finish(run(number))
    tampered_version = "UPDATE replcheck_meta SET value = '3'"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE evidence_records")
        connection.execute("DROP TABLE evidence_marks")
        connection.execute(tampered_version)
        connection.commit()
    assert open_evidence(path).clusters() == ()
    run_audit(REQUEST, store=path, auditor=returning(consistent()))
    begin = said(records(path)[0])["begin"]
    assert (begin["earlier_runs"], begin["told"]) == (3, "3 runs ended before, and have no record")
    assert verified(path).problem == ""
    tampered(path, "UPDATE run_records SET outcome = 'refuted' WHERE summary = 'db2 is a copy of db1'")
    assert verified(path).problem == "runs that ended before the chain were changed or removed"


def test_an_end_that_cannot_be_recorded_is_not_kept_either(path):
    def fail(_):
        raise StoreError("no")

    history = open_history(path)
    with pytest.raises(StoreError):
        history.finish(record(start()), evidence=fail)
    assert history.runs() == []


# --- two at once, and killed ---


def _write_runs(path: Path, count: int) -> None:
    history = open_history(path)
    for _ in range(count):
        begun = start(run_id=new_run_id(datetime.now(UTC)))
        history.begin(begun)
        history.finish(record(begun), {"rows": 1}, evidence=Notary().of_run(record(begun), {"rows": 1}))


def test_two_writers_at_once_make_one_chain(path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_runs, args=(path, 15)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    report = verified(path)
    assert (report.problem, report.records) == ("", 31)


_DIE_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from typing import Any
from replcheck.evidence.notary import Notary
from replcheck.store import open_history
from tests.evidences import killed, run

def dying(place):
    made = Notary().of_run(run(9))(place)
    os.kill(os.getpid(), signal.SIGKILL)
    return made

history = open_history(Path(sys.argv[1]))
history.begin(killed(9))
history.finish(run(9), evidence=dying)
"""
_WRITE_FOR_EVER = """
import sys
from pathlib import Path
from typing import Any
from tests.core.test_evidence_store import _write_runs
_write_runs(Path(sys.argv[1]), 100_000)
"""


def _python(code, path):
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return subprocess.Popen([sys.executable, "-c", code, str(path)], env=environment)


def test_a_run_killed_in_the_middle_of_an_append_leaves_no_half_of_it(path):
    written(path, 3)
    with _python(_DIE_IN_THE_MIDDLE, path) as writer:
        assert writer.wait() == -signal.SIGKILL
    assert verified(path, keys=public()).records == 4
    lock_file(path).touch()
    run_audit(REQUEST, store=path, auditor=returning(consistent()))
    assert states(path)[3:] == ["aborted", "ended"]
    assert verified(path).problem == ""


def test_a_chain_whose_writer_is_killed_at_any_moment_stays_whole(path):
    with _python(_WRITE_FOR_EVER, path) as writer:
        while not (path.exists() and path.stat().st_size and len(open_history(path).runs()) > 5):
            assert writer.poll() is None
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    _write_runs(path, 1)
    assert verified(path).problem == ""


# --- a history that was tampered with ---

COLUMNS = (
    "proven_at, finished_at, primary_node, verdict, whole, system_identifier, timeline, level, outcome_summary,"
    " scope_digest"
)
MISFIT = "record 4 cannot be read: what the history"


def test_a_history_left_alone_is_proven(path):
    written(path)
    report = verified(path, keys=public(), reports=True)
    assert (report.outcome, report.records) == (Outcome.PROVEN, 6)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM evidence_records WHERE sequence = 4", "record 4 is missing: record 5 follows record 3"),
        ("DELETE FROM evidence_records WHERE sequence = 1", "record 1 is missing, and no checkpoint tells"),
        ("DELETE FROM evidence_records WHERE sequence > 4", "runs ended without a record (2): records were cut off"),
        ("UPDATE evidence_records SET envelope = NULL WHERE sequence = 4", "record 4 cannot be read"),
        ("UPDATE evidence_records SET envelope = NULL WHERE sequence < 4", "record 3 is missing, and no checkpoint"),
        (
            "UPDATE evidence_records SET sha256 = previous WHERE sequence = 4",
            MISFIT,
        ),
        ("UPDATE evidence_records SET run_id = 'x' WHERE sequence = 4", MISFIT),
        ("UPDATE evidence_records SET key_id = '' WHERE sequence = 4", MISFIT),
        (
            "UPDATE evidence_records SET envelope = replace(envelope, 'a', 'b') WHERE sequence = 4",
            "record 4 ",
        ),
        (
            "UPDATE evidence_records SET sequence = CASE sequence WHEN 3 THEN -4 ELSE -3 END WHERE sequence IN (3, 4)",
            "",
        ),
        (
            "UPDATE run_records SET outcome = 'refuted', verdict = 'diverged' WHERE rowid = 2",
            "record 3 is belied by the history: it tells another end of run",
        ),
        ("UPDATE run_records SET summary = 'all is well' WHERE rowid = 5", "record 6 is belied by the history"),
        ("UPDATE runs SET tool_version = '9' WHERE rowid = 1", "record 2 is belied by the history"),
        (
            "UPDATE results SET document = replace(document, 'consistent', 'inconsistent') WHERE rowid = 3",
            "record 4 is belied by the history: the report of run",
        ),
        ("UPDATE results SET document = 'x' WHERE rowid = 3", "record 4 is belied by the history: the report of run"),
        ("DELETE FROM results WHERE rowid = 3", "record 4 is belied by the history: the report of run"),
        ("UPDATE runs SET cluster = 'lab' WHERE rowid = 3", "record 4 is belied by the history: run"),
        ("UPDATE runs SET started_at = 'x' WHERE rowid = 3", "record 4 is belied by the history: run"),
        *(
            (f"UPDATE audit_nodes SET {change} WHERE rowid = 3", "record 3 is belied by the history: what run")
            for change in (
                "verdict = 'diverged'",
                "verdict = '?'",
                "whole = 0",
                "node = 'db9'",
                "system_identifier = '1'",
                "timeline = 9",
                "primary_node = 'db9'",
                "level = 'fast'",
                "finished_at = '2027-01-01T00:00:00.000Z'",
                "finished_at = '2025-01-01T00:00:00.000Z'",
                "proven_at = '2027-01-01T00:00:00.000Z'",
            )
        ),
        ("DELETE FROM audit_nodes WHERE rowid = 3", "record 3 is belied by the history: what run"),
        (
            f"INSERT INTO audit_nodes SELECT run_id, 'db9', {COLUMNS} FROM audit_nodes WHERE rowid = 3",
            "record 3 is belied by the history: what run",
        ),
        ("DELETE FROM run_records WHERE rowid = 3", "record 4 is belied by the history: it tells another end of run"),
    ],
)
def test_what_was_tampered_with_is_named(path, statement, problem):
    written(path)
    tampered(path, statement)
    if "CASE sequence" in statement:
        tampered(path, "UPDATE evidence_records SET sequence = -sequence WHERE sequence < 0")
        problem = "record 3 cannot be read: what the history"
    report = verified(path, keys=public(), reports=True)
    assert report.outcome is Outcome.REFUTED
    assert report.problem.startswith(problem), report.problem


def test_an_end_that_was_removed_belies_its_record(path):
    written(path)
    tampered(path, "DELETE FROM results WHERE rowid = 2", "DELETE FROM run_records WHERE rowid = 2")
    assert verified(path).problem.startswith("record 3 is belied by the history")


def test_a_run_that_was_removed_belies_its_record(path):
    written(path)
    tampered(path, *(f"DELETE FROM {table} WHERE rowid = 2" for table in ("results", "run_records", "runs")))
    report = verified(path, keys=public())
    assert report.broken_at == 3
    assert report.problem == f"record 3 is belied by the history: run {run(1).run_id} was removed, or is damaged"


def test_runs_from_before_the_chain_that_were_all_removed_are_missed(path):
    history = open_history(path)
    for number in range(10, 12):
        history.finish(run(number))
    written(path)
    assert verified(path, keys=public()).outcome is Outcome.PROVEN
    tampered(path, *(f"DELETE FROM {table} WHERE rowid < 3" for table in ("run_records", "runs")))
    assert verified(path, keys=public()).problem == "runs that ended before the chain were changed or removed"


def test_runs_whose_records_were_imported_need_not_be_there(path, tmp_path):
    exported = evidences.export(tmp_path / "clinic.jsonl", written(path))
    other = tmp_path / "other.db"
    import_file(exported, other, public())
    assert (verified(other, keys=public()).outcome, verified(other).partial) == (Outcome.PROVEN, "")
    open_history(other).finish(run(9), evidence=notary().of_run(run(9)))
    report = verified(other, keys=public())
    assert (report.outcome, report.problem) == (Outcome.PARTIAL, "")
    assert report.partial.startswith("the runs of 5 records, 2 to 6, are not in this history")
    open_history(other).finish(run(10), evidence=notary().of_run(run(10)))
    tampered(other, *(f"DELETE FROM {table} WHERE rowid = 1" for table in ("run_records", "runs")))
    assert verified(other, keys=public()).broken_at == 7


def test_a_run_that_was_taken_for_killed_needs_a_record_of_the_end_that_it_has(path):
    history = open_history(path)
    history.begin(killed(0))
    history.append_abort(killed(0), notary().of_run(killed(0)))
    history.finish(run(1), evidence=notary().of_run(run(1)))
    assert verified(path, keys=public()).outcome is Outcome.PROVEN
    history.finish(run(0))
    report = verified(path, keys=public())
    assert report.broken_at == 2
    assert report.problem.endswith(f"run {run(0).run_id} has an end, and no record tells it")


@pytest.mark.parametrize("table", ["results", "audit_nodes"])
def test_what_was_put_in_of_a_run_without_an_end_is_found(path, table):
    written(path)
    history = open_history(path)
    history.begin(killed(9))
    assert verified(path, keys=public()).outcome is Outcome.PROVEN
    columns = {
        "results": "?, document",
        "audit_nodes": f"?, node, {COLUMNS}",
    }
    statement = f"INSERT INTO {table} SELECT {columns[table]} FROM {table} WHERE rowid = 1"
    tampered(path, statement.replace("?", f"'{run(9).run_id}'"))
    assert verified(path, keys=public()).problem.startswith(f"run {run(9).run_id} has a result and no end")


def test_the_report_of_a_drill_is_compared_though_not_all_reports_are(path):
    written(path)
    ended = replace(run(9), kind="drill")
    document: Plain = {"kind": "drill", "verdict": "failed"}
    open_history(path).finish(ended, document, evidence=notary().of_run(ended, document))
    assert verified(path, keys=public()).outcome is Outcome.PROVEN
    tampered(path, "UPDATE results SET document = replace(document, 'failed', 'restored') WHERE rowid = 6")
    assert verified(path, keys=public()).problem.endswith(f"the report of run {ended.run_id} was changed")
    tampered(path, "DELETE FROM results WHERE rowid = 6")
    assert verified(path, keys=public()).problem.endswith(f"the report of run {ended.run_id} is missing")


@pytest.mark.parametrize("change", ["scope_digest = 'x'", "outcome_summary = 'x'"])
def test_with_reports_what_is_kept_of_an_audit_is_compared_with_its_report(path, change):
    run_audit(REQUEST, store=path, auditor=returning(consistent()))
    assert verify_store(open_evidence(path), "clinic", (), reports=True).problem == ""
    tampered(path, f"UPDATE audit_nodes SET {change} WHERE rowid = 1")
    assert verify_store(open_evidence(path), "clinic", (), reports=True).problem.startswith("record 2 is belied")


def audited(path):
    """Record an audit as it is really recorded, with its alignments: two with each of two replicas."""
    run_audit(REQUEST, store=path, auditor=returning(consistent()))
    report = verify_store(open_evidence(path), "clinic", ())
    assert (report.problem, report.records) == ("", 2)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT node, count(*) FROM alignments GROUP BY node").fetchall() == [
            ("db2", 2),
            ("db3", 2),
        ]


@pytest.mark.parametrize(
    "statement",
    [
        *(
            f"UPDATE alignments SET {change} WHERE rowid = 2"
            for change in (
                "lsn = '0/1'",
                "taken_at = '2025-01-01T00:00:00.000Z'",
                "node = 'db3'",
                "node = 'db9'",
                "lane = 7",
                "database = 'x'",
                "attempts = 1",
                "elapsed_s = 0.5",
                "unsettled = x'00'",
                "chunks = 'x'",
            )
        ),
        "DELETE FROM alignments WHERE rowid = 2",
        "DELETE FROM alignments WHERE node = 'db2'",
        *(
            f"INSERT INTO alignments SELECT 9, run_id, {node}, 1, '', taken_at, lsn, 1, 1, 0, 1 FROM alignments LIMIT 1"
            for node in ("node", "'db9'")
        ),
    ],
)
def test_what_an_audit_said_of_its_alignments_is_compared_with_its_record(path, statement):
    audited(path)
    tampered(path, statement)
    problem = verify_store(open_evidence(path), "clinic", ()).problem
    assert problem.startswith("record 2 is belied by the history: what run ")
    assert problem.endswith(" said of its alignments was changed")


def test_alignments_that_were_dropped_for_their_age_belie_nothing(path):
    audited(path)
    tampered(path, "DELETE FROM alignments", "DELETE FROM relation_verdicts")
    assert verify_store(open_evidence(path), "clinic", ()).problem == ""


def test_of_alignments_before_records_told_them_nothing_is_compared(path, monkeypatch):
    told = findings._replica

    def earlier(replica):
        found: Any = told(replica)
        del found["alignments"]["sha256"]
        return found

    monkeypatch.setattr(findings, "_replica", earlier)
    audited(path)
    tampered(path, "UPDATE alignments SET lsn = '0/1' WHERE rowid = 2")
    assert verify_store(open_evidence(path), "clinic", ()).problem == ""


def test_a_cut_off_chain_with_its_runs_needs_the_head_that_was_kept(path):
    kept = written(path)[-1]
    tampered(
        path,
        "DELETE FROM evidence_records WHERE sequence = 6",
        "DELETE FROM results WHERE rowid = 5",
        "DELETE FROM run_records WHERE rowid = 5",
        "DELETE FROM runs WHERE rowid = 5",
    )
    report = verified(path, keys=public())
    assert report.outcome is Outcome.PROVEN  # which is why a head has to be kept elsewhere
    assert not verified(path, keys=public(), anchor=kept.sha256).anchored


def test_the_next_record_follows_the_line_and_not_what_stands_beside_it(path):
    written(path)
    tampered(path, "UPDATE evidence_records SET sha256 = previous WHERE sequence = 6")
    history = open_history(path)
    history.finish(run(7), evidence=notary().of_run(run(7)))
    assert verified(path).problem.startswith("record 6 cannot be read")
    tampered(path, f"UPDATE evidence_records SET sha256 = '{records(path)[-1].previous}' WHERE sequence = 6")
    assert verified(path).problem == ""


def test_times_are_kept_as_they_were_told(path):
    first, *_ = written(path)
    assert first.recorded_at == evidences.BEGUN
    assert said(first)["recorded"]["at"] == "2026-03-01T06:30:00.000Z"
    assert timedelta(0) == first.recorded_at - evidences.BEGUN
