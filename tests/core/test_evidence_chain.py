"""A chain is whole, or the record that was tampered with is named; whatever was done to it, it is not proven."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replcheck.evidence import verifying
from replcheck.evidence.chain import View, joined, judge, without_anchor
from replcheck.evidence.exporting import extent_of
from replcheck.evidence.opening import Opened, Signature, Unreadable, open_line, open_lines
from replcheck.evidence.verifying import opened, verify_file
from replcheck.model.canonical import canonical
from replcheck.model.evidence import ChainPlace
from replcheck.model.outcome import Outcome
from tests.evidences import (
    BEGUN,
    NONE_BEFORE,
    chain,
    export,
    key,
    lines_of,
    notary,
    payload_of,
    public,
    resigned,
    run,
    signed_chain,
    with_payload,
)

KEYS = {found.key_id: found.verifier for found in public()}
SIGNED = lines_of(signed_chain(8))
UNSIGNED = lines_of(chain([None] * 7))


def found(lines, *, keys=KEYS, view=View.HISTORY, anchor=None):
    return judge((open_line(line, keys) for line in lines), view, anchor=anchor)


def sha256(line):
    read = open_line(line, {})
    assert isinstance(read, Opened)
    return read.sha256


def test_a_whole_chain_is_proven_with_its_key():
    report = found(SIGNED)
    assert (report.outcome, report.problem) == (Outcome.PROVEN, "")
    assert (report.first, report.last, report.records, report.signed, report.unsigned) == (1, 8, 8, 8, 0)
    assert (report.cluster, report.head, report.key_ids) == ("clinic", sha256(SIGNED[-1]), tuple(KEYS))


def test_without_a_key_nothing_vouches_for_a_whole_chain():
    report = found(SIGNED, keys={})
    assert (report.outcome, report.unverified, report.signed) == (Outcome.PARTIAL, 8, 0)
    assert found(UNSIGNED, keys={}).outcome is Outcome.PARTIAL


def test_a_later_signature_does_not_prove_records_that_anybody_could_have_made():
    report = found(lines_of(chain([None, None, "clinic", "clinic"])))
    assert (report.outcome, report.problem, report.vouched) == (Outcome.PARTIAL, "", 5)
    assert (report.unsigned, report.unsigned_at, report.unsigned_behind) == (3, ((1, 3),), None)


def test_an_unsigned_record_behind_a_signed_one_is_named():
    report = found(lines_of(chain(["clinic", "clinic", None, "clinic", None, None])))
    assert (report.outcome, report.problem) == (Outcome.PARTIAL, "")
    assert (report.unsigned, report.unsigned_at, report.unsigned_behind) == (3, ((4, 4), (6, 7)), 4)


def test_a_whole_chain_that_somebody_forged_without_the_key_is_not_proven_by_the_next_signed_run():
    forged = chain([None] * 5)
    report = found(lines_of(following(forged, "clinic")))
    assert (report.outcome, report.unsigned_at) == (Outcome.PARTIAL, ((1, 6),))


def test_a_head_that_was_kept_elsewhere_vouches_for_unsigned_records_up_to_it():
    lines = lines_of(chain([None, None, "clinic", None, "clinic"]))
    report = found(lines, anchor=sha256(lines[3]))
    assert (report.outcome, report.unsigned, report.unsigned_at) == (Outcome.PARTIAL, 4, ((5, 5),))
    assert found(lines, anchor=sha256(lines[4])).outcome is Outcome.PROVEN


@pytest.mark.parametrize(("by", "outcome"), [("clinic", Outcome.PROVEN), (None, Outcome.PARTIAL)])
def test_a_signed_checkpoint_of_an_archive_vouches_for_the_unsigned_records_in_it(by, outcome):
    records = chain([None, None, "clinic"])
    report = found(lines_of(records))
    extent = extent_of(replace(report, last=report.last, head=report.head))
    made = notary(by).of_checkpoint("clinic", extent, NONE_BEFORE, "0" * 64)
    records += made(ChainPlace(head=records[-1], earlier=None))
    report = found(lines_of(following(records, "clinic")))
    assert (report.outcome, report.unsigned) == (outcome, 3 if by else 4)


@pytest.mark.parametrize("told", ["verified", "none", "wrong"])
def test_a_record_that_says_otherwise_of_the_signature_before_it_belies_that_record(told):
    lines = lines_of(chain(["clinic", None if told == "verified" else "clinic"]))
    last = payload_of(lines_of(chain(["clinic", "clinic", "clinic"]))[-1])
    last["predicate"]["chain"] |= {
        "id": payload_of(lines[0])["predicate"]["chain"]["id"],
        "previous": sha256(lines[-1]),
        "previous_signature": told,
    }
    lines.append(resigned(with_payload(lines[-1], last), "clinic"))
    report = found(lines)
    assert (report.outcome, report.broken_at) == (Outcome.REFUTED, 4)
    assert report.problem.startswith("record 4 belies record 3: ")


def test_a_head_that_was_kept_elsewhere_vouches_without_a_key():
    report = found(UNSIGNED, keys={}, anchor=sha256(UNSIGNED[-1]))
    assert (report.outcome, report.anchored) == (Outcome.PROVEN, True)
    report = found(UNSIGNED, keys={}, anchor=sha256(UNSIGNED[4]))
    assert (report.outcome, report.vouched) == (Outcome.PARTIAL, 5)


def test_a_chain_that_was_cut_behind_the_head_that_was_kept_is_found_out():
    [report] = without_anchor([found(SIGNED[:-1], anchor=sha256(SIGNED[-1]))])
    assert report.outcome is Outcome.REFUTED
    assert report.problem.startswith("no record up to 7 has the SHA-256 of --head")


def test_a_changed_record_is_named_by_its_signature():
    statement = payload_of(SIGNED[4])
    statement["predicate"]["recorded"]["by"]["user"] = "somebody"
    report = found([*SIGNED[:4], with_payload(SIGNED[4], statement), *SIGNED[5:]])
    assert report.broken_at == 5
    assert report.problem == "record 5 was changed: its signature is not that of its content"


def test_a_changed_record_without_a_signature_is_named_by_the_next():
    statement = payload_of(UNSIGNED[4])
    statement["predicate"]["recorded"]["by"]["user"] = "somebody"
    report = found([*UNSIGNED[:4], with_payload(UNSIGNED[4], statement), *UNSIGNED[5:]], keys={})
    assert report.broken_at == 6
    assert report.problem.startswith("record 5 was changed, or record 6 was")


def test_a_removed_record_is_named():
    report = found(SIGNED[:4] + SIGNED[5:])
    assert (report.broken_at, report.problem) == (5, "record 5 is missing: record 6 follows record 4")
    assert found(SIGNED[1:]).problem == "record 1 is missing, and no checkpoint tells of an archive"


def test_a_record_in_another_place_is_named():
    report = found([*SIGNED[:3], SIGNED[1], *SIGNED[3:]])
    assert (report.broken_at, report.problem) == (4, "record 4 is missing: record 2 stands in its place")


def test_another_key_is_no_key():
    report = found([*SIGNED[:-1], resigned(SIGNED[-1], "thief")])
    assert report.broken_at == 8
    assert report.problem.startswith(f"record 8 is signed by key {key('thief')[1].key_id[:12]}, and not by one")


def test_a_record_of_another_chain_is_named_though_it_fits():
    other = signed_chain(8)
    fitting = payload_of(lines_of(other)[5])
    fitting["predicate"]["chain"]["previous"] = sha256(SIGNED[4])
    line = resigned(with_payload(lines_of(other)[5], fitting), "clinic")
    assert found([*SIGNED[:5], line]).problem == "record 6 belongs to another chain than record 5"


def test_what_is_no_record_is_named_by_its_place():
    report = found([*SIGNED[:2], b"{}", *SIGNED[3:]])
    assert report.problem.startswith("record 3 cannot be read")
    assert found([b"", *SIGNED]).problem.startswith("the first record cannot be read")


def test_an_empty_chain_proves_nothing():
    assert found([]).outcome is Outcome.UNCHECKED


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line + b" ",
        lambda line: line.replace(b'":"', b'": "', 1),
        lambda line: b"\xef\xbb\xbf" + line,
        lambda line: line.replace(b'"signatures":[', b'"signatures":[],"signatures":['),
        lambda line: line.replace(b"}]}", b'},{"keyid":"' + b"0" * 64 + b'","sig":"' + b"A" * 86 + b'=="}]}'),
        lambda line: line.replace(b'"keyid"', b'"\\u006beyid"'),
        lambda line: line.replace(b"vnd.in-toto+json", b"vnd.other+json"),
    ],
)
def test_an_envelope_has_one_form_alone(change):
    changed = change(SIGNED[-1])
    assert changed != SIGNED[-1]
    assert isinstance(open_line(changed, KEYS), Unreadable)


def test_the_last_letter_of_base64_hides_nothing():
    line = canonical({"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": []})
    assert open_line(line, KEYS) == Unreadable("it holds no in-toto statement")
    assert open_line(line.replace(b"e30=", b"e31="), KEYS) == Unreadable("it is not in canonical form")


def test_deep_nonsense_is_refused_as_such():
    deep = with_payload(SIGNED[0], None).replace(b'"bnVsbA=="', b'"' + b"W1tb" * 50_000 + b'"')
    assert isinstance(open_line(deep, KEYS), Unreadable)


def _exported(lines):
    report = found(lines, keys={}, view=View.PART)
    return [*lines, notary().closing(extent_of(report), report.head).encode()]


FILE_OF_ALL = _exported(SIGNED)
FILE_OF_SOME = _exported(lines_of(chain([None, None, "clinic", None, "clinic", "clinic", None])))


# --- files ---


def test_an_exported_file_needs_the_public_key_alone(tmp_path):
    path = export(tmp_path / "clinic.jsonl", signed_chain(8))
    report = verify_file(path, public())
    assert (report.outcome, report.records, report.exported_at is not None) == (Outcome.PROVEN, 8, True)
    assert verify_file(path, ()).outcome is Outcome.PARTIAL
    assert verify_file(path, public("thief")).outcome is Outcome.REFUTED


def test_a_signed_closing_line_proves_no_unsigned_record(tmp_path):
    report = verify_file(export(tmp_path / "a", chain([None] * 3)), public())
    assert (report.outcome, report.unsigned_at, report.vouched) == (Outcome.PARTIAL, ((1, 4),), 4)
    report = verify_file(export(tmp_path / "b", chain([None] * 3), closed_by=None), public())
    assert (report.outcome, report.vouched) == (Outcome.PARTIAL, 0)


def test_a_tail_that_was_cut_off_is_found_with_and_without_the_closing_line(tmp_path):
    lines = export(tmp_path / "clinic.jsonl", signed_chain(8)).read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(lines[:-1]))
    assert verify_file(cut, public()).problem == "records were cut off behind record 8: the closing line is missing"
    cut.write_bytes(b"".join([*lines[:-2], lines[-1]]))
    assert verify_file(cut, public()).problem == "record 8 is missing: the closing line tells of 8"
    cut.write_bytes(b"".join([*lines, lines[3]]))
    assert verify_file(cut, public()).problem == "something follows behind the closing line and record 8"


def test_the_closing_line_of_a_longer_file_does_not_fit_a_shorter_one(tmp_path):
    records = signed_chain(8)
    longer = export(tmp_path / "longer", records[2:]).read_bytes().splitlines(keepends=True)
    (tmp_path / "forged").write_bytes(b"".join(longer[1:]))
    assert verify_file(tmp_path / "forged", public()).problem.startswith("the closing line does not fit")


def test_records_that_were_cut_off_behind_a_closing_line_that_anybody_wrote_are_not_passed_over(tmp_path):
    records = signed_chain(8)
    cut = export(tmp_path / "cut", records[:-2], closed_by=None)
    report = verify_file(cut, public())
    assert report.outcome is Outcome.REFUTED
    assert report.problem == "records could have been cut off behind record 6: the closing line is not signed"
    assert verify_file(cut, public(), anchor=records[5].sha256).outcome is Outcome.PROVEN


def test_files_follow_each_other(tmp_path):
    records = signed_chain(9)
    parts = [export(tmp_path / f"{n}", records[n : n + 3]) for n in (0, 3, 6)]
    reports = joined([verify_file(part, public()) for part in parts])
    assert [report.outcome for report in reports] == [Outcome.PROVEN] * 3
    gap = joined([verify_file(part, public()) for part in (parts[0], parts[2])])
    assert gap[1].problem == "record 7 does not follow record 3 of the file before it"


def test_the_checkpoint_in_a_later_file_vouches_for_the_unsigned_records_of_the_archive(tmp_path):
    records = chain([None, None, "clinic"])
    archive = export(tmp_path / "archive", records)
    report = verify_file(archive, public())
    made = notary().of_checkpoint("clinic", extent_of(report), NONE_BEFORE, "0" * 64)
    rest = export(tmp_path / "rest", made(ChainPlace(head=records[-1], earlier=None)))
    assert report.outcome is Outcome.PARTIAL
    both = joined([report, verify_file(rest, public())])
    assert [one.outcome for one in both] == [Outcome.PROVEN] * 2


def test_many_lines_are_opened_by_several_processes_in_their_order(monkeypatch, tmp_path):
    monkeypatch.setattr("replcheck.evidence.verifying._FEW", 2)
    monkeypatch.setattr("replcheck.evidence.verifying._AT_A_TIME", 1)
    monkeypatch.setattr("replcheck.evidence.verifying._processes", lambda: 2)
    assert list(opened(SIGNED, public())) == [open_line(line, KEYS) for line in SIGNED]
    path = export(tmp_path / "clinic.jsonl", signed_chain(8))
    assert verify_file(path, public()).outcome is Outcome.PROVEN


def in_parts(lines, size, keys, anchor=None):
    """Return what is found where parts are judged apart, resting on what records attest of earlier ones."""
    verifiers = {key.key_id: key.verifier for key in keys}
    batches = [lines[at : at + size] for at in range(0, len(lines), size)]
    parts = [(batch, verifying._judged_part(anchor, open_lines, verifiers, batch)) for batch in batches]
    return replace(verifying._joined(parts, keys, anchor), attested=0)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 5), st.sampled_from([public(), ()]), st.sampled_from([FILE_OF_ALL, FILE_OF_SOME]))
def test_parts_that_are_judged_apart_make_the_same_verdict(data, size, keys, whole):
    lines = list(whole)
    place = data.draw(st.integers(0, len(lines) - 1))
    match data.draw(st.sampled_from(["nothing", "delete", "double", "swap", "strip", "thief", "cut", "junk"])):
        case "delete":
            del lines[place]
        case "double":
            lines.insert(place, lines[0])
        case "swap":
            lines[place], lines[-2] = lines[-2], lines[place]
        case "strip":
            lines[place] = resigned(lines[place], None)
        case "thief":
            lines[place] = resigned(lines[place], "thief")
        case "cut":
            del lines[place:]
        case "junk":
            lines[place] = b"junk"
    anchor = data.draw(st.sampled_from([None, sha256(whole[3])]))
    verifiers = {key.key_id: key.verifier for key in keys}
    assert in_parts(lines, size, keys, anchor) == found(lines, keys=verifiers, view=View.FILE, anchor=anchor)


# --- what records attest of earlier ones ---


def following(records, *signers):
    """Return the records with others behind them, each appended to what is there, whatever that is."""
    found = list(records)
    for number, name in enumerate(signers, start=50):
        ended = run(number)
        found += notary(name, begun=BEGUN + timedelta(hours=number)).of_run(ended)(
            ChainPlace(head=found[-1], earlier=None)
        )
    return found


def forged(record, line):
    """Return a record as it would stand in a history where somebody put another line in its place."""
    return replace(record, envelope=line.decode())


def signatures(lines, keys=KEYS):
    return [line.signature for line in open_lines(lines, keys) if isinstance(line, Opened)]


def test_only_the_last_signature_is_verified_where_the_others_are_attested():
    assert signatures(SIGNED) == [Signature.ATTESTED] * 7 + [Signature.VERIFIED]
    assert set(signatures(SIGNED, {})) == {Signature.NO_KEY}


def test_a_key_attests_nothing_of_another_nor_a_record_without_a_signature_anything():
    mixed = lines_of(chain(["old", "old", "clinic", None, "clinic"]))
    both = {found.key_id: found.verifier for found in public("old", "clinic")}
    old, clinic = [Signature.ATTESTED, Signature.ATTESTED, Signature.VERIFIED], Signature.VERIFIED
    assert signatures(mixed, both) == [*old, clinic, Signature.NONE, clinic]


@pytest.mark.parametrize(
    ("forge", "problem"),
    [
        (lambda line: resigned(line, "thief"), "record 8 is signed by key"),
        (lambda line: with_payload(line, payload_of(line) | {"_note": 1}), "record 8 was changed: its signature"),
    ],
)
def test_a_record_forged_before_the_next_was_made_is_attested_by_none(forge, problem):
    records = signed_chain(8)
    lines = lines_of(following([*records[:-1], forged(records[-1], forge(lines_of(records)[-1]))], *["clinic"] * 4))
    report = judge(iter(open_lines(lines, KEYS)), View.PART)
    assert report.broken_at == 8
    assert report.problem.startswith(problem)
    assert payload_of(lines[8])["predicate"]["chain"]["previous_signature"] in {"wrong", "other key"}


def test_a_record_attests_the_one_that_it_names_alone_and_its_own_key_alone():
    changed = with_payload(SIGNED[4], payload_of(SIGNED[4]) | {"_note": 1})
    assert signatures([changed, SIGNED[5]]) == [Signature.WRONG, Signature.VERIFIED]
    other = resigned(changed, "old")
    claiming = payload_of(SIGNED[5])
    claiming["predicate"]["chain"]["previous"] = sha256(other)
    behind = resigned(with_payload(SIGNED[5], claiming), "clinic")
    both = {found.key_id: found.verifier for found in public("old", "clinic")}
    assert signatures([other, behind], both) == [Signature.VERIFIED] * 2


def test_what_a_thief_attests_is_not_believed():
    stolen = resigned(with_payload(SIGNED[4], payload_of(SIGNED[4]) | {"_note": 1}), "thief")
    claiming = payload_of(SIGNED[5])
    claiming["predicate"]["chain"]["previous"] = sha256(stolen)
    behind = resigned(with_payload(SIGNED[5], claiming), "thief")
    assert signatures([*SIGNED[:4], stolen, behind])[4:] == [Signature.OTHER_KEY] * 2
    behind = with_payload(SIGNED[5], claiming)
    assert signatures([stolen, behind]) == [Signature.OTHER_KEY, Signature.WRONG]


# --- every tampering with a single record ---

FILE = FILE_OF_ALL
PLACES = st.integers(0, len(FILE) - 1)


def assert_refuted(lines, whole=FILE):
    assert lines != whole
    report = found(lines, view=View.FILE)
    assert report.outcome is Outcome.REFUTED
    assert report.problem


@settings(max_examples=300, deadline=None)
@given(PLACES, st.data())
def test_any_changed_byte_is_found(place, data):
    line = bytearray(FILE[place])
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] = data.draw(st.integers(0, 255).filter(lambda value: value != line[at]))
    assert_refuted([*FILE[:place], bytes(line), *FILE[place + 1 :]])


@settings(max_examples=100, deadline=None)
@given(PLACES, st.data())
def test_any_inserted_or_lost_byte_is_found(place, data):
    line = FILE[place]
    at = data.draw(st.integers(0, len(line) - 1))
    more = data.draw(st.binary(max_size=3).filter(lambda content: content != line[at : at + 1]))
    assert_refuted([*FILE[:place], line[:at] + more + line[at + 1 :], *FILE[place + 1 :]])


@given(PLACES)
def test_any_deleted_line_is_found(place):
    assert_refuted(FILE[:place] + FILE[place + 1 :])


@given(PLACES, PLACES)
def test_any_swapped_lines_are_found(one, other):
    swapped = list(FILE)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    if one != other:
        assert_refuted(swapped)


@given(PLACES, PLACES)
def test_any_inserted_line_is_found(place, which):
    assert_refuted([*FILE[:place], FILE[which], *FILE[place:]])


@given(st.integers(1, len(FILE) - 1))
def test_any_truncation_is_found(length):
    assert_refuted(FILE[:length])


@given(PLACES, st.sampled_from(["thief", None]))
def test_a_line_that_another_key_or_none_signed_is_found(place, name):
    assert_refuted([*FILE[:place], resigned(FILE[place], name), *FILE[place + 1 :]])


FIELDS = [
    ("predicate", "run", "outcome"),
    ("predicate", "run", "exit_status"),
    ("predicate", "recorded", "at"),
    ("predicate", "recorded", "configuration_sha256"),
    ("predicate", "chain", "previous"),
    ("predicate", "chain", "sequence"),
    ("predicateType",),
]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, len(SIGNED) - 1), st.sampled_from(FIELDS), st.one_of(st.integers(), st.text(), st.none()))
def test_any_changed_field_is_found_though_the_form_is_right(place, path, value):
    statement = payload_of(FILE[place])
    inner = statement
    for name in path[:-1]:
        inner = inner.get(name, {})
    if inner.get(path[-1]) != value or path[-1] not in inner:
        inner[path[-1]] = value
    if canonical(statement) != canonical(payload_of(FILE[place])):
        assert_refuted([*FILE[:place], with_payload(FILE[place], statement), *FILE[place + 1 :]])


@given(st.integers(0, len(UNSIGNED) - 2), st.text(min_size=1))
def test_a_change_of_an_unsigned_record_is_found_by_the_one_behind_it(place, value):
    statement = payload_of(UNSIGNED[place])
    statement["predicate"]["recorded"]["by"]["user"] = value
    report = found([*UNSIGNED[:place], with_payload(UNSIGNED[place], statement), *UNSIGNED[place + 1 :]], keys={})
    assert report.outcome is Outcome.REFUTED
    assert report.broken_at == place + 2


def test_a_thief_who_writes_the_whole_chain_anew_needs_the_key():
    forged = lines_of(chain(["thief"] * 7))
    assert found(forged).problem.startswith("record 1 is signed by key")
    assert found(UNSIGNED).outcome is Outcome.PARTIAL


def test_a_report_of_nothing_wrong_counts_its_records():
    report = found(SIGNED[2:6], view=View.PART)
    assert (report.first, report.last, report.records, report.before) == (3, 6, 4, sha256(SIGNED[1]))
    assert replace(report, last=0).records == 0
