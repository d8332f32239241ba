"""What feeds the screen of `replcheck watch`, without a server: none of it ends in silence, whatever it reads."""

from pathlib import Path

from replcheck.cli.live_board import Board
from replcheck.cli.live_claims import ClaimsFeed
from replcheck.cli.watch_run import SourceNotes, keep_of
from replcheck.config import load
from replcheck.config.model import Configuration
from replcheck.model.control import Standing
from replcheck.model.live import Severity
from replcheck.model.plain import plain_object
from replcheck.report.style import Style
from replcheck.report.watch_lines import summary_line
from replcheck.runs.following import Source
from replcheck.runs.live import LiveUpdate
from replcheck.runs.own_audits import OwnAudits, read_back
from replcheck.runs.scrub import ScrubState, Waiting
from replcheck.store.thinning import Keep
from replcheck.tui.feed import AuditsTold, ClaimsTaken, Noted, Update
from tests.commands import wait_for
from tests.core.lives import view

CLUSTER = 'cluster = "clinic"\n[nodes]\ndb1 = { dsn = "host=a" }\ndb2 = { dsn = "host=b" }\n'


def configured(folder: Path, more: str = "[policy]\ncopies = { running = 2 }\n") -> Configuration:
    path = folder / "replcheck.toml"
    path.write_text(CLUSTER + more)
    return load(path)


def listened() -> tuple[Board, list[Update]]:
    board, told = Board(), list[Update]()
    board.subscribe(told.append)
    return board, told


def taken(told: list[Update]) -> list[ClaimsTaken]:
    return [update for update in told if isinstance(update, ClaimsTaken)]


def test_why_a_recorders_rolling_audit_waits_is_handed_on(tmp_path):
    waiting = Waiting(proven=("db2",), diverged=("db3",), unfit=("db4",), again_at=view(9).at)
    board, told = listened()
    kept = read_back(plain_object(OwnAudits(scrub=rolling(waiting))))
    board.take_live(LiveUpdate(view=view(0), audits=kept))
    [found] = [update.rolling for update in told if isinstance(update, AuditsTold)]
    assert found is not None
    assert (found.proven, found.diverged, found.unfit, found.again_at) == (("db2",), ("db3",), ("db4",), view(9).at)


def rolling(waiting: Waiting) -> ScrubState:
    return ScrubState(period_s=60.0, running=False, share=0.0, resting="", nodes=(), deadline=None, waiting=waiting)


def test_a_policy_that_cannot_be_evaluated_is_told_in_place_of_what_it_was_found_to_be(tmp_path):
    store, (board, told) = tmp_path / "clinic.db", listened()
    feed = ClaimsFeed(configured(tmp_path), store, board)
    feed._read_once()
    store.write_bytes(b"no history at all, but a file nevertheless")
    feed._read_once()
    feed._read_once()
    before, after, again = taken(told)
    assert (before.problem, [claim.now for claim in before.claims or ()]) == ("", [Standing.UNCHECKED])
    assert after.problem.startswith("the policy cannot be evaluated: ")
    assert (after.claims, again.problem) == (before.claims, after.problem)
    assert [note.severity for note in told if isinstance(note, Noted)] == [Severity.WARNING]


def test_a_defect_in_evaluating_the_policy_is_told_and_evaluated_again(tmp_path):
    board, told = listened()
    feed = ClaimsFeed(configured(tmp_path), tmp_path / "clinic.db", board)
    feed._view = "no view"  # type: ignore[assignment]
    feed.start()
    wait_for(lambda: bool(taken(told)))
    feed._view = None
    feed._happened.set()
    wait_for(lambda: not taken(told)[-1].problem)
    feed.close()
    assert "internal error: AttributeError" in taken(told)[0].problem
    assert taken(told)[0].claims is None


def test_lines_beside_a_recorder_that_is_stuck_say_so_once_and_what_follows_is_not_all_well():
    told: list[str] = []
    notes = SourceNotes(told.append)
    notes.take(Source.RECORDER, "")
    notes.take(Source.LOST, "the recorder has written nothing")
    assert notes.lost
    notes.take(Source.OWN, "")
    assert not notes.lost
    assert [line.split(":")[0] for line in told] == ["note", "warning", "note"]
    assert told[1] == "warning: nothing is watched: the recorder has written nothing"


def test_lines_of_a_recording_do_not_say_that_no_copy_is_proven():
    assert "proofs unknown" in summary_line(view(0, proven_copies=None), {}, Style())
    assert ", 0 proven," in summary_line(view(0, proven_copies=0), {}, Style())


def test_each_kind_of_thing_is_kept_as_long_as_the_configuration_says(tmp_path: Path):
    file = tmp_path / "replcheck.toml"
    file.write_text(
        'cluster = "clinic"\n[nodes]\na = { dsn = "host=a" }\n'
        '[history]\nkeep_samples = "2d"\nkeep_events = "3d"\nkeep_details = "4d"\n'
    )
    days = 86_400.0
    assert keep_of(load(file)) == Keep(samples_s=2 * days, events_s=3 * days, parts_s=4 * days)
    assert keep_of(None) == Keep(samples_s=400 * days, events_s=2200 * days, parts_s=400 * days)
