"""How a chain stands, told within a budget: what was verified before is rested on, and nothing else is."""

import sqlite3
from base64 import b64encode
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from replcheck.evidence.keys import create_keys
from replcheck.evidence.standing import Mark, mark_extent, read_mark, state_of
from replcheck.evidence.statement import MARK_TYPE
from replcheck.model.outcome import Outcome
from replcheck.runs.evidence import evidence_head, evidence_state, keep_mark, verify_store
from replcheck.runs.evidence_files import archive_chain
from replcheck.runs.signing import Signing
from replcheck.store import open_evidence, open_history
from tests.evidences import BEGUN, notary, public, run

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
        now=NOW,
        clock=lambda: next(ticks),
    )


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
    assert (state.signed, state.unsigned, state.oldest_at) == (6, 0, BEGUN)
    assert state.head == evidence_head(path, "clinic")
    assert mark is not None
    assert (mark.last, mark.records, mark.at) == (6, 6, NOW)


def test_what_the_budget_does_not_reach_is_not_proven(path, monkeypatch):
    monkeypatch.setattr("replcheck.evidence.standing._LOOK_AT_THE_CLOCK_EVERY", 2)
    write(path, *range(8))
    state, mark = standing(path, steps=0)
    assert (state.outcome, state.verified, state.records, mark) == (Outcome.PARTIAL, 2, 9, None)


def test_what_was_verified_before_is_rested_on_and_its_time_is_told(path):
    write(path, *range(5))
    _, mark = standing(path)
    marked(path, mark)
    write(path, 5, 6)
    state, following = standing(path)
    assert (state.outcome, state.verified, state.rested, state.rested_at) == (Outcome.PROVEN, 2, 6, NOW)
    assert (following.last, following.records, following.at) == (8, 8, NOW)


def test_a_mark_that_another_signed_or_none_is_not_rested_on(path):
    write(path, *range(5))
    _, mark = standing(path)
    for name in ("thief", None):
        marked(path, mark, by=name)
        state, _ = standing(path)
        assert (state.verified, state.rested) == (6, 0)
    assert read_mark(None, public()) is None
    assert read_mark("nothing", public()) is None


@pytest.mark.parametrize("change", [{"last": 4}, {"head": "0" * 64}, {"chain_id": "0" * 32}])
def test_a_mark_that_does_not_fit_the_chain_is_not_rested_on(path, change):
    write(path, *range(5))
    _, mark = standing(path)
    fields = {name: getattr(mark, name) for name in Mark.__slots__}
    marked(path, Mark(**(fields | change)))
    state, _ = standing(path)
    assert (state.outcome, state.verified, state.rested) == (Outcome.PROVEN, 6, 0)


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
    state, mark = standing(path, keys=[keys.key])
    assert (state.outcome, state.records, state.verified) == (Outcome.PROVEN, 1, 1)
    assert mark is not None
    tamper(path, "UPDATE evidence_records SET sha256 = previous WHERE sequence = 5")
    assert standing(path, keys=[keys.key])[0].outcome is Outcome.REFUTED


def test_another_key_is_named(path):
    write(path, *range(3))
    write(path, 3, by="thief")
    state, _ = standing(path)
    assert (state.outcome, state.problem) == (Outcome.REFUTED, "the signature of record 5 is not valid")


def test_an_unsigned_record_behind_signed_ones_could_be_anybodys(path):
    write(path, *range(3))
    _, mark = standing(path)
    write(path, 3, by=None)
    expected = "record 5 is not signed, and no later one vouches for it"
    assert standing(path)[0].problem == expected
    marked(path, mark)
    assert standing(path)[0].problem == expected
    write(path, 4)
    assert standing(path)[0].outcome is Outcome.PROVEN


def test_a_chain_that_was_never_signed_is_whole_and_unvouched(path):
    write(path, *range(3), by=None)
    for keys in (public(), ()):
        state, mark = standing(path, keys=keys)
        assert (state.outcome, state.unsigned, state.problem, mark) == (Outcome.PARTIAL, 4, "", None)


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


def test_a_mark_of_nonsense_is_none():
    envelope = '{"payload":"%s","payloadType":"application/vnd.in-toto+json","signatures":[]}'
    assert read_mark(envelope % b64encode(b"[]").decode(), public()) is None
