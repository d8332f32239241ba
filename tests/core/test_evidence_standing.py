"""How a chain stands, told within a budget: what was verified before is rested on, and nothing else is."""

import sqlite3
from base64 import b64encode
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count

import pytest

from replcheck.evidence.keys import create_keys
from replcheck.evidence.marks import mark_after, mark_extent, read_mark
from replcheck.evidence.standing import state_of
from replcheck.evidence.statement import MARK_TYPE
from replcheck.model.evidence import UnsignedRecords
from replcheck.model.outcome import Outcome
from replcheck.runs.evidence import evidence_head, evidence_state, keep_mark, verify_store
from replcheck.runs.evidence_files import archive_chain, import_file
from replcheck.runs.signing import Signing
from replcheck.runs.unsigned_marks import mark_file
from replcheck.store import open_evidence, open_history
from tests.evidences import BEGUN, lines_of, notary, payload_of, public, resigned, run, with_payload

NOW = datetime(2026, 4, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clinic.db"


def write(path, *numbers, by="clinic"):
    history = open_history(path)
    for number in numbers:
        history.finish(run(number), evidence=notary(by, begun=BEGUN + timedelta(hours=number)).of_run(run(number)))


def standing(path, *, keys=None, steps=1_000_000):
    """Return the state and the next mark, with time for so many looks at the clock."""
    ticks = count()
    return state_of(
        open_evidence(path),
        "clinic",
        public() if keys is None else keys,
        budget_s=steps,
        clock=lambda: next(ticks),
    )


def verified_mark(path, keys=None):
    """Return the mark that a whole verification leaves."""
    return mark_after(verify_store(open_evidence(path), "clinic", public() if keys is None else keys), NOW)


def marked(path, mark, by="clinic"):
    envelope = notary(by).mark(mark_extent("clinic", mark), mark.head)
    open_history(path).keep_evidence_mark("clinic", envelope)


def tamper(path, statement):
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(statement).rowcount
        connection.commit()


def test_a_chain_that_has_not_begun_is_unchecked(path):
    open_history(path)
    state, mark = standing(path)
    assert (state.outcome, state.head, state.records, mark) == (Outcome.UNCHECKED, None, 0, None)
    assert evidence_head(path, "clinic") is None


def test_a_small_chain_is_verified_as_a_whole(path):
    write(path, *range(5))
    state, mark = standing(path)
    assert (state.outcome, state.records, state.verified, state.rested) == (Outcome.PROVEN, 6, 6, 0)
    assert (state.signed, state.unsigned, state.oldest_at) == (6, None, BEGUN)
    assert state.head == evidence_head(path, "clinic")
    assert mark is None  # runs were not compared with what it tells of them
    mark = verified_mark(path)
    assert (mark.last, mark.records, mark.at, mark.unsigned) == (6, 6, NOW, None)


def test_what_the_budget_does_not_reach_is_not_proven(path, monkeypatch):
    monkeypatch.setattr("replcheck.evidence.standing._LOOK_AT_THE_CLOCK_EVERY", 2)
    write(path, *range(8))
    state, mark = standing(path, steps=0)
    assert (state.outcome, state.verified, state.records, mark) == (Outcome.PARTIAL, 2, 9, None)


def test_what_was_verified_before_is_rested_on_and_its_time_is_told(path):
    write(path, *range(5))
    marked(path, verified_mark(path))
    write(path, 5, 6)
    state, following = standing(path)
    assert (state.outcome, state.verified, state.rested, state.rested_at) == (Outcome.PROVEN, 2, 6, NOW)
    assert (following.last, following.records, following.at) == (8, 8, NOW)


def test_a_mark_that_another_signed_or_none_is_not_rested_on(path):
    write(path, *range(5))
    mark = verified_mark(path)
    for name in ("thief", None):
        marked(path, mark, by=name)
        state, _ = standing(path)
        assert (state.verified, state.rested) == (6, 0)
    assert read_mark(None, public()) is None
    assert read_mark("nothing", public()) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"last": 4}, "record 4 was replaced: the signed mark of its last verification names record 4 with another"),
        ({"head": "0" * 64}, "record 6 was replaced: the signed mark"),
        ({"chain_id": "0" * 32}, "the chain was replaced by another one: the signed mark"),
        ({"last": 9}, "records were cut off behind 6: the signed mark of its last verification names record 9"),
    ],
)
def test_a_chain_that_is_not_the_one_of_its_signed_mark_is_refuted(path, change, problem):
    write(path, *range(5))
    marked(path, replace(verified_mark(path), **change))
    state, mark = standing(path)
    assert (state.outcome, state.rested, mark) == (Outcome.REFUTED, 0, None)
    assert state.problem.startswith(problem)
    report = verify_store(open_evidence(path), "clinic", public())
    assert (report.outcome, report.problem) == (Outcome.REFUTED, state.problem)
    assert verify_store(open_evidence(path), "clinic", ()).problem == ""  # whose mark it is cannot be told


def test_a_chain_and_its_runs_that_were_cut_off_behind_a_signed_mark_are_refuted(path):
    write(path, *range(5))
    marked(path, verified_mark(path))
    for table in ("run_records", "runs"):
        tamper(path, f"DELETE FROM {table} WHERE rowid > 3")
    tamper(path, "DELETE FROM evidence_records WHERE sequence > 4")
    expected = "records were cut off behind 4: the signed mark of its last verification names record 6"
    assert verify_store(open_evidence(path), "clinic", public()).problem == expected
    assert standing(path)[0].problem == expected


def test_unsigned_records_in_the_place_of_signed_ones_are_refuted_by_the_signed_mark(path):
    write(path, *range(5))
    marked(path, verified_mark(path))
    tamper(path, "DELETE FROM evidence_records WHERE sequence > 4")
    for table in ("run_records", "runs"):
        tamper(path, f"DELETE FROM {table} WHERE rowid > 3")
    write(path, 7, 8, by=None)
    expected = "record 6 was replaced: the signed mark"
    assert standing(path)[0].problem.startswith(expected)
    assert verify_store(open_evidence(path), "clinic", public()).problem.startswith(expected)
    write(path, 9)
    assert standing(path)[0].problem.startswith(expected)


def test_a_record_is_no_mark_though_the_key_signed_it(path):
    write(path, 1)
    assert read_mark(next(open_evidence(path).records("clinic")).envelope, public()) is None
    assert MARK_TYPE.endswith(":verified:1")


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM evidence_records WHERE sequence = 4", "record 4 is missing"),
        ("UPDATE evidence_records SET sha256 = previous WHERE sequence = 4", "record 4 was changed"),
        ("UPDATE evidence_records SET envelope = 'x' WHERE sequence = 4", "record 4 was changed"),
        (
            "UPDATE evidence_records SET envelope = NULL WHERE sequence <= 4",
            "record 4 is missing, and no checkpoint tells of an archive",
        ),
    ],
)
def test_what_is_wrong_is_named(path, statement, problem):
    write(path, *range(5))
    tamper(path, statement)
    state, mark = standing(path)
    assert (state.outcome, state.problem, mark) == (Outcome.REFUTED, problem, None)


def test_what_lies_in_an_archive_is_told_by_its_checkpoint(path, tmp_path):
    keys = create_keys(tmp_path / "clinic.key")
    signing = Signing(key=keys.private)
    for number in range(4):
        open_history(path).finish(run(number), evidence=signing.notary().of_run(run(number)))
    until = datetime.now(UTC) + timedelta(days=1)
    archive_chain(path, "clinic", tmp_path / "archive", signing, [keys.key], until)
    state, _ = standing(path, keys=[keys.key])
    assert (state.outcome, state.records, state.verified) == (Outcome.PROVEN, 1, 1)
    assert verified_mark(path, [keys.key]).last == 6
    tamper(path, "UPDATE evidence_records SET sha256 = previous WHERE sequence = 5")
    assert standing(path, keys=[keys.key])[0].outcome is Outcome.REFUTED


def test_another_key_is_named(path):
    write(path, *range(3))
    write(path, 3, by="thief")
    state, _ = standing(path)
    assert (state.outcome, state.problem) == (Outcome.REFUTED, "the signature of record 5 is not valid")


def test_an_unsigned_record_behind_signed_ones_could_be_anybodys(path):
    write(path, *range(3))
    mark = verified_mark(path)
    write(path, 3, by=None)
    expected = UnsignedRecords(count=1, first=5, last=5, behind_signed=5)
    for _ in range(2):
        state, following = standing(path)
        assert (state.outcome, state.problem, state.unsigned, following) == (Outcome.PARTIAL, "", expected, None)
        marked(path, mark)
    write(path, 4)
    state, following = standing(path)
    assert (state.outcome, state.unsigned, following.unsigned) == (Outcome.PARTIAL, expected, expected)
    marked(path, following)
    write(path, 5)
    state, _ = standing(path)
    assert (state.outcome, state.rested, state.unsigned) == (Outcome.PARTIAL, 6, expected)


def test_unsigned_records_are_told_from_the_first_to_the_last(path):
    write(path, 0, by=None)
    write(path, 1)
    write(path, 2, 3, by=None)
    write(path, 4)
    expected = UnsignedRecords(count=4, first=1, last=5, behind_signed=4)
    assert standing(path)[0].unsigned == expected
    assert verified_mark(path).unsigned == expected


def test_what_a_record_says_of_an_older_signature_is_believed_before_what_is_there(path):
    def lying(place):
        [made] = notary(begun=BEGUN + timedelta(hours=2)).of_run(run(2))(place)
        [honest] = lines_of([made])
        statement = payload_of(honest)
        statement["predicate"]["chain"]["previous_signature"] = "verified"
        line = resigned(with_payload(honest, statement), "clinic")
        return (replace(made, envelope=line.decode(), sha256=sha256(line).hexdigest()),)

    write(path, 0)
    write(path, 1, by=None)
    open_history(path).finish(run(2), evidence=lying)
    expected = "record 4 belies record 3: it was made behind a signed record"
    assert standing(path)[0].problem == expected
    assert verify_store(open_evidence(path), "clinic", public()).problem == expected


def test_the_signed_checkpoint_of_an_archive_heals_unsigned_records(path, tmp_path):
    keys = create_keys(tmp_path / "clinic.key")
    signing = Signing(key=keys.private)
    write(path, 0, 1, by=None)
    open_history(path).finish(run(2), evidence=signing.notary().of_run(run(2)))
    assert standing(path, keys=[keys.key])[0].outcome is Outcome.PARTIAL
    report = verify_store(open_evidence(path), "clinic", [keys.key])
    assert keep_mark(path, report, signing, at=NOW)
    until = datetime.now(UTC) + timedelta(days=1)
    archive_chain(path, "clinic", tmp_path / "archive", signing, [keys.key], until)
    assert standing(path, keys=[keys.key])[0].outcome is Outcome.PROVEN
    import_file(tmp_path / "archive", path, [keys.key])
    state, _ = standing(path, keys=[keys.key])
    assert (state.outcome, state.unsigned) == (Outcome.PROVEN, None)
    assert verify_store(open_evidence(path), "clinic", [keys.key]).outcome is Outcome.PROVEN


def test_a_chain_that_was_never_signed_is_whole_and_unvouched(path):
    write(path, *range(3), by=None)
    for keys in (public(), ()):
        state, mark = standing(path, keys=keys)
        unsigned = UnsignedRecords(count=4, first=1, last=4, behind_signed=None)
        assert (state.outcome, state.unsigned, state.problem, mark) == (Outcome.PARTIAL, unsigned, "", None)
        assert verified_mark(path, keys) is None


def test_a_whole_verification_leaves_a_mark_that_later_answers_rest_on_and_move(path, tmp_path):
    keys = create_keys(tmp_path / "clinic.key")
    signing = Signing(key=keys.private)
    history = open_history(path)
    for number in range(3):
        history.finish(run(number), evidence=signing.notary().of_run(run(number)))
    report = verify_store(open_evidence(path), "clinic", [keys.key])
    assert not keep_mark(path, report, Signing(), at=NOW)
    assert keep_mark(path, report, signing, at=NOW)
    history.finish(run(3), evidence=signing.notary().of_run(run(3)))
    first = evidence_state(path, "clinic", [keys.key], signing=signing)
    assert (first.outcome, first.verified, first.rested, first.rested_at) == (Outcome.PROVEN, 1, 4, NOW)
    second = evidence_state(path, "clinic", [keys.key], signing=signing)
    assert (second.outcome, second.verified, second.rested, second.rested_at) == (Outcome.PROVEN, 0, 5, NOW)


def unsigned_and_marked(path):
    """Make a chain without a key, verify all of it and keep that."""
    write(path, *range(3), by=None)
    report = verify_store(open_evidence(path), "clinic", ())
    assert keep_mark(path, report, Signing(), at=NOW)


def test_a_chain_without_keys_is_rested_on_by_a_mark_beside_its_history_and_never_proven(path):
    unsigned_and_marked(path)
    assert mark_file(path).stat().st_mode & 0o777 == 0o600
    write(path, 3, by=None)
    first = evidence_state(path, "clinic", (), keeps=True)
    unsigned = UnsignedRecords(count=5, first=1, last=5, behind_signed=None)
    assert (first.outcome, first.verified, first.rested, first.unsigned) == (Outcome.PARTIAL, 1, 4, unsigned)
    second = evidence_state(path, "clinic", ())
    assert (second.outcome, second.verified, second.rested, second.rested_at) == (Outcome.PARTIAL, 0, 5, NOW)
    assert second.unsigned == unsigned


def test_an_answer_that_keeps_nothing_leaves_the_mark_beside_a_history_alone(path):
    unsigned_and_marked(path)
    before = mark_file(path).read_bytes()
    write(path, 3, by=None)
    evidence_state(path, "clinic", ())
    assert mark_file(path).read_bytes() == before


def test_a_mark_beside_another_history_is_passed_over_and_refutes_nothing(path):
    unsigned_and_marked(path)
    path.unlink()
    write(path, 7, by=None)
    state = evidence_state(path, "clinic", (), keeps=True)
    assert (state.problem, state.verified, state.rested, state.rested_at) == ("", 2, 0, None)


@pytest.mark.parametrize("text", ["", "[]", '{"clinic": 7}', '{"clinic": {"chain_id": "x"}}', "\x00"])
def test_a_damaged_mark_beside_a_history_is_passed_over(path, text):
    unsigned_and_marked(path)
    mark_file(path).write_text(text, encoding="utf-8")
    assert evidence_state(path, "clinic", ()).rested == 0


def test_a_mark_beside_a_history_that_is_ahead_of_the_clock_is_passed_over(path):
    unsigned_and_marked(path)
    text = mark_file(path).read_text(encoding="utf-8")
    mark_file(path).write_text(text.replace("2026-04-01", "2996-04-01"), encoding="utf-8")
    assert evidence_state(path, "clinic", ()).rested == 0


def test_no_mark_is_kept_beside_a_history_of_which_a_record_is_signed(path):
    write(path, 0, by="clinic")
    write(path, 1, by=None)
    for keys in ((), public()):
        assert not keep_mark(path, verify_store(open_evidence(path), "clinic", keys), Signing(), at=NOW)
    assert not mark_file(path).exists()


def test_a_mark_of_nonsense_is_none():
    envelope = '{"payload":"%s","payloadType":"application/vnd.in-toto+json","signatures":[]}'
    assert read_mark(envelope % b64encode(b"[]").decode(), public()) is None
