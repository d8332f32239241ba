"""The history: what was written is there, whoever else writes, and whatever happens to the process."""

import multiprocessing
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from replcheck.errors import StoreError
from replcheck.model.outcome import ExitStatus, Outcome
from replcheck.model.progress import Extent, Premises, ProvenBlocks, RelationState
from replcheck.model.run import Failure, RunRecord, RunStart, new_run_id
from replcheck.store import default_path, open_history

BEGUN = datetime(2026, 3, 1, 6, 30, 0, 5000, tzinfo=UTC)


def start(**changes):
    begun = RunStart(
        run_id=new_run_id(BEGUN),
        kind="audit",
        cluster="clinic",
        started_at=BEGUN,
        tool_version="0.1.0",
        argument_digest="0" * 64,
    )
    return replace(begun, **changes)


def record(begun, **changes):
    ended = RunRecord(
        run_id=begun.run_id,
        kind=begun.kind,
        cluster=begun.cluster,
        started_at=begun.started_at,
        tool_version=begun.tool_version,
        argument_digest=begun.argument_digest,
        finished_at=BEGUN + timedelta(seconds=4),
        outcome=Outcome.REFUTED,
        verdict="diverged",
        exit_status=ExitStatus.REFUTED,
        summary="db3 is not a copy of db1",
    )
    return replace(ended, **changes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "clinic.db"


def test_a_run_comes_back_as_it_was_written(path):
    history = open_history(path)
    begun = start()
    history.begin(begun)
    history.finish(record(begun), {"relations": [{"name": "public.visit"}]})
    again = open_history(path)
    assert again.runs() == [record(begun)]
    assert again.result(begun.run_id) == {"relations": [{"name": "public.visit"}]}


def test_a_failed_run_keeps_its_failure_and_has_no_result(path):
    history = open_history(path)
    begun = start()
    failed = record(begun, failure=Failure(error="NodeUnreachable", message="nothing answers", hint="Start it."))
    history.begin(begun)
    history.finish(failed)
    assert history.runs() == [failed]
    assert history.result(begun.run_id) is None


def test_a_run_that_never_ended_is_seen_as_such(path):
    history = open_history(path)
    begun = start()
    history.begin(begun)
    assert [type(run) for run in history.runs()] == [RunStart]


def test_an_end_without_a_beginning_is_kept_too(path):
    history = open_history(path)
    history.finish(record(start()))
    assert len(history.runs()) == 1


def test_the_newest_run_comes_first(path):
    history = open_history(path)
    runs = [start(run_id=new_run_id(BEGUN + timedelta(hours=hour))) for hour in (2, 1, 3)]
    for run in runs:
        history.begin(run)
    assert [run.run_id for run in history.runs(limit=2)] == [runs[2].run_id, runs[0].run_id]


def test_only_the_owner_may_read_a_new_history(path):
    open_history(path).begin(start())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_history_of_a_newer_version_is_refused(path):
    open_history(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE replcheck_meta SET value = '99'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="has schema version 99, and this replcheck knows 6"):
        open_history(path)


def test_a_database_of_something_else_is_left_alone(path):
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE photos (id int)")
    connection.commit()
    with pytest.raises(StoreError, match="is a database of something else"):
        open_history(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("photos",)]
    connection.close()


def test_a_file_that_is_no_database_is_refused(path):
    path.parent.mkdir()
    path.write_text("not a database at all, but long enough to have a header of its own" * 40)
    with pytest.raises(StoreError, match="file is not a database"):
        open_history(path)


@pytest.mark.parametrize("location", ["/proc/replcheck/clinic.db", "/dev/null/clinic.db"])
def test_an_impossible_place_is_one_clear_error(location):
    with pytest.raises(StoreError, match=f"cannot open history {location}") as caught:
        open_history(location)
    assert "--no-store" in caught.value.hint


@pytest.mark.parametrize(("flags", "why"), [(os.ST_RDONLY, "read-only file system"), (0, "permission denied")])
def test_a_history_that_cannot_be_written_is_told_by_its_cause(path, monkeypatch, flags, why):
    open_history(path)
    monkeypatch.setattr(os, "access", lambda _, how: not how & os.W_OK)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flags))
    with pytest.raises(StoreError, match=f"cannot open history {path}: {why}"):
        open_history(path)


def test_an_address_is_refused_until_it_is_supported():
    with pytest.raises(StoreError) as caught:
        open_history("postgresql://u:secret@db/history")
    assert "secret" not in caught.value.message + caught.value.hint


def test_an_error_of_the_database_shows_no_value(path):
    history = open_history(path)
    begun = start(cluster="canary")
    history.begin(begun)
    with pytest.raises(StoreError, match="unique constraint failed") as caught:
        history.begin(begun)
    assert "canary" not in f"{caught.value.message}{caught.value.__cause__}"


# --- what a run has proven ---

PREMISES = Premises(
    encoding="exact/1", system_identifier="7", servers={"db1": "a", "db2": "b"}, primary="db1", timeline=1
)
WHOLE, PART = Extent(digest="1" * 64, whole=True), Extent(digest="2" * 64, whole=False)


def proof(relation, *, at=BEGUN):
    state = RelationState(database=5, relation=relation, token=77, filenode=relation)
    return ProvenBlocks(state=state, replicas=("db2",), ranges=((0, 9),), rows=10, proven_at=at)


def keeping(history, hour, extent, *proofs, premises=PREMISES):
    """Keep what a run of that hour has proven; return its id."""
    begun = start(run_id=new_run_id(BEGUN + timedelta(hours=hour)), started_at=BEGUN + timedelta(hours=hour))
    history.begin(begun)
    history.keep_proofs(begun.run_id, premises, extent, proofs)
    return begun.run_id


def test_what_runs_have_proven_comes_back_newest_first(path):
    history = open_history(path)
    first, second = keeping(history, 0, WHOLE, proof(1), proof(2)), keeping(history, 1, PART, proof(3))
    history.keep_proofs(second, PREMISES, PART, [proof(4)])
    assert [(run.run_id, run.proofs) for run in open_history(path).unfinished("clinic")] == [
        (second, (proof(3), proof(4))),
        (first, (proof(1), proof(2))),
    ]
    assert [run.premises for run in history.unfinished("clinic")] == [PREMISES, PREMISES]
    assert history.unfinished("other") == ()


def test_which_share_a_run_compared_in_the_client_comes_back_with_what_it_has_proven(path):
    history = open_history(path)
    streaming = replace(PREMISES, cross_check=0.25)
    keeping(history, 0, WHOLE, proof(1), premises=streaming)
    keeping(history, 1, WHOLE, proof(1))
    assert [run.premises for run in open_history(path).unfinished("clinic")] == [PREMISES, streaming]
    history.forget_proofs(PREMISES, WHOLE)
    assert history.unfinished("clinic") == ()


def test_a_part_that_is_settled_takes_nothing_from_what_was_asked_for_more(path):
    history = open_history(path)
    longer, other_part = keeping(history, 0, WHOLE, proof(1)), keeping(history, 1, Extent(digest="3" * 64, whole=False))
    keeping(history, 2, PART, proof(1))
    history.forget_proofs(PREMISES, PART)
    assert [run.run_id for run in history.unfinished("clinic")] == [other_part, longer]
    history.forget_proofs(PREMISES, WHOLE)
    assert history.unfinished("clinic") == ()


def test_an_audit_of_some_nodes_takes_nothing_from_one_of_more(path):
    history = open_history(path)
    more = replace(PREMISES, servers={"db1": "a", "db2": "b", "db3": "c"})
    longer = keeping(history, 0, WHOLE, proof(1), premises=more)
    keeping(history, 1, WHOLE, proof(1))
    history.forget_proofs(PREMISES, WHOLE)
    assert [run.run_id for run in history.unfinished("clinic")] == [longer]


def test_another_cluster_in_the_same_history_keeps_what_it_has(path):
    history = open_history(path)
    other = keeping(history, 0, WHOLE, proof(1), premises=replace(PREMISES, system_identifier="8"))
    history.forget_proofs(PREMISES, WHOLE)
    history.forget_old_proofs(PREMISES, BEGUN + timedelta(days=9))
    assert [run.run_id for run in history.unfinished("clinic")] == [other]


def test_what_is_too_old_to_be_built_upon_is_dropped(path):
    history = open_history(path)
    keeping(history, 0, WHOLE)
    keeping(history, 1, WHOLE, proof(1, at=BEGUN + timedelta(hours=2)))
    long_one = keeping(history, 2, WHOLE, proof(1), proof(2, at=BEGUN + timedelta(hours=20)))
    recent = keeping(history, 19, WHOLE)
    history.forget_old_proofs(PREMISES, BEGUN + timedelta(hours=18))
    assert [run.run_id for run in history.unfinished("clinic")] == [recent, long_one]


def test_a_history_that_knew_nothing_of_extents_is_brought_up_to_date(path):
    history = open_history(path)
    old = keeping(history, 0, WHOLE, proof(1))
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE proof_extents")
    connection.execute("UPDATE replcheck_meta SET value = '2'")
    connection.commit()
    connection.close()
    history = open_history(path)
    assert [run.run_id for run in history.unfinished("clinic")] == [old]
    history.forget_proofs(PREMISES, PART)
    assert len(history.unfinished("clinic")) == 1
    history.forget_proofs(PREMISES, WHOLE)
    assert history.unfinished("clinic") == ()


def test_a_history_that_knew_nothing_of_primaries_is_brought_up_to_date_and_names_none(path):
    history = open_history(path)
    old = keeping(history, 0, WHOLE, proof(1))
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE proof_primaries")
    connection.execute("UPDATE replcheck_meta SET value = '4'")
    connection.commit()
    connection.close()
    history = open_history(path)
    [run] = history.unfinished("clinic")
    assert (run.run_id, run.proofs) == (old, (proof(1),))
    assert run.premises == replace(PREMISES, primary=None, timeline=None)
    keeping(history, 1, WHOLE, proof(2))
    assert [run.premises.primary for run in history.unfinished("clinic")] == ["db1", None]
    history.forget_proofs(PREMISES, WHOLE)
    assert history.unfinished("clinic") == ()


def _write_runs(path: Path, count: int) -> None:
    for _ in range(count):
        history = open_history(path)
        begun = start(run_id=new_run_id(datetime.now(UTC)))
        history.begin(begun)
        history.finish(record(begun), {"rows": 1})


def test_two_processes_write_at_once(path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_runs, args=(path, 15)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    runs = open_history(path).runs()
    assert len(runs) == 30
    assert all(isinstance(run, RunRecord) for run in runs)


def test_a_writer_waits_for_one_that_holds_the_database(path):
    open_history(path)
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.5, lambda: holder.execute("COMMIT"))
    release.start()
    open_history(path).begin(start())
    release.join()
    holder.close()
    assert len(open_history(path).runs()) == 1


_WRITE_FOR_EVER = """
import sys
from tests.core.test_store import _write_runs
from pathlib import Path
sys.stdout.write("writing\\n"); sys.stdout.flush()
_write_runs(Path(sys.argv[1]), 10_000)
"""


def test_a_killed_writer_leaves_a_sound_history(path):
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}:{root}"}
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITE_FOR_EVER, path], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    while not (path.exists() and len(open_history(path).runs()) > 5):
        pass
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    history = open_history(path)
    before = len(history.runs(limit=20_000))
    history.begin(start())
    assert len(history.runs(limit=20_000)) == before + 1
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_the_default_place_is_the_state_folder():
    assert default_path("clinic", {"XDG_STATE_HOME": "/s"}) == Path("/s/replcheck/clinic.db")
    assert default_path("clinic", {"HOME": "/h"}) == Path("/h/.local/state/replcheck/clinic.db")
    assert default_path("clinic", {}) is None
