"""What was proven, folded into reports: the worst wins, nothing is told twice, and nothing left out is passed over."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit import shortfalls as audit_shortfalls
from replcheck.audit.comparison import BlockRange, UnreadableRange
from replcheck.audit.explanation import RowDifference
from replcheck.audit.proof import RelationProof
from replcheck.audit.sequences import SequenceVerdict
from replcheck.audit.shortfalls import DROPPED, NODE_CODES, Shortfall
from replcheck.audit.verdicts import (
    MAX_RANGES,
    ctid_ranges,
    extra_divergences,
    lone_votes,
    not_checked,
    note_verdict,
    odd_node,
    relation_divergences,
    relation_report,
    sequence_divergence,
    sequence_report,
    shortfalls,
)
from replcheck.errors import StatementFailed
from replcheck.model.audit import CtidRange, DifferenceKind, Divergence, RelationKind
from replcheck.model.outcome import Verdict, worst_verdict
from tests import factories
from tests.core.proofs import clean, lack, proof, relation, rows

PRIMARY = "db1"
RANKED = [Verdict.CONSISTENT, Verdict.INCONCLUSIVE, Verdict.UNCHECKED, Verdict.DIVERGED]


def finished(*replicas: str) -> RelationProof:
    """Return the proof of a relation that was clean on every replica."""
    each = proof(*replicas)
    chunk = each.fresh(1_000)
    assert chunk is not None
    assert each.absorb(chunk, clean(*replicas), alignment=1, now=0.0, budget_s=60.0) == []
    return each


def divergences(each: RelationProof) -> list[Divergence]:
    return relation_divergences("clinic", each, PRIMARY)


def row(ctid: tuple[int, int], kind: DifferenceKind, lone: str | None = None) -> RowDifference:
    return RowDifference(ctid=ctid, kind=kind, in_flight=False, lone=lone)


def unreadable(first: int, end: int, node: str = "db2", *, readers: int = 1) -> UnreadableRange:
    return UnreadableRange(node=node, blocks=BlockRange(first, end), sqlstate="XX001", block=None, readers=readers)


LACKS = [
    *(value for value in vars(audit_shortfalls).values() if isinstance(value, Shortfall)),
    audit_shortfalls.node_lost("db2", "gone"),
    audit_shortfalls.primary_lost(lack("node_lost", Verdict.UNCHECKED)),
    audit_shortfalls.lost_while_reading("db2", 0, None),
    audit_shortfalls.conflict("db2", "40001"),
    audit_shortfalls.refusal(StatementFailed("no", node="db2", sqlstate="42501"), "auditor"),
    audit_shortfalls.refusal(StatementFailed("no", node="db2", sqlstate="22012"), "auditor"),
    *(audit_shortfalls.left_behind("db2", 10, 5.0, lag) for lag in audit_shortfalls.Lag),
]


@pytest.mark.parametrize("why", LACKS, ids=lambda why: f"{why.code}-{why.verdict.value}")
def test_a_note_makes_of_a_replica_what_its_shortfall_says(why):
    note = not_checked("clinic", None, "db2", why.code, why.reason, by_design=why.verdict is Verdict.CONSISTENT)
    assert note_verdict(note) is why.verdict


@pytest.mark.parametrize("code", ["excluded", "unlogged", "in_flight", "privilege"])
def test_a_note_by_design_changes_nothing_and_any_other_is_never_consistent(code):
    assert note_verdict(not_checked("clinic", None, None, code, "why", by_design=True)) is Verdict.CONSISTENT
    assert note_verdict(not_checked("clinic", None, None, code, "why")) is not Verdict.CONSISTENT


@pytest.mark.parametrize("why", LACKS, ids=lambda why: f"{why.code}-{why.verdict.value}")
def test_a_shortfall_says_why_in_one_clause_and_what_to_do_in_a_sentence(why):
    assert why.reason
    assert not why.reason.endswith(".")
    assert "\n" not in why.reason
    assert why.hint.endswith((".", ";")) or not why.hint


def test_the_verdicts_have_one_order():
    for better, worse in itertools.combinations(RANKED, 2):
        assert worst_verdict([better, worse]) is worse


def test_a_relation_is_as_bad_as_its_worst_replica():
    each = finished("db2", "db3")
    each.tallies["db3"].rows += rows((1, 1), (1, 2))
    report = relation_report("clinic", each)
    assert report.verdict is Verdict.DIVERGED
    assert [(found.node, found.verdict, found.rows_differing) for found in report.replicas] == [
        ("db2", Verdict.CONSISTENT, 0),
        ("db3", Verdict.DIVERGED, 2),
    ]
    assert (report.rows, report.chunks, report.kind) == (1, 1, RelationKind.TABLE)


def test_a_report_counts_rows_in_flight_and_says_where_counting_stopped():
    each = finished("db2")
    tally = each.tallies["db2"]
    tally.in_flight = 4
    tally.unlisted.append((BlockRange(0, 9), 7))
    (found,) = relation_report("clinic", each).replicas
    assert (found.rows_differing, found.rows_in_flight, found.capped) == (7, 4, True)


def test_rows_are_told_by_node_and_kind():
    each = finished("db2", "db3")
    each.tallies["db2"].rows += [
        row((5, 1), DifferenceKind.MISSING, "db2"),
        row((5, 2), DifferenceKind.MISSING, "db2"),
        row((9, 1), DifferenceKind.CHANGED, "db2"),
    ]
    each.tallies["db3"].rows.append(row((1, 1), DifferenceKind.EXTRA, "db3"))
    told = [
        (found.node, found.kind, found.count, [str(place) for place in found.ranges]) for found in divergences(each)
    ]
    assert told == [
        ("db2", DifferenceKind.MISSING, 2, ["(5,1)..(5,2)"]),
        ("db2", DifferenceKind.CHANGED, 1, ["(9,1)"]),
        ("db3", DifferenceKind.EXTRA, 1, ["(1,1)"]),
    ]
    assert not any(found.capped for found in divergences(each))
    assert "ctid BETWEEN '(5,1)' AND '(5,2)'" in divergences(each)[0].query


def test_a_row_that_differs_on_the_primary_alone_is_told_once_and_of_the_primary():
    each = finished("db2", "db3")
    for tally in each.tallies.values():
        tally.rows += [
            row((1, 1), DifferenceKind.MISSING, PRIMARY),
            row((2, 1), DifferenceKind.EXTRA, PRIMARY),
            row((3, 1), DifferenceKind.CHANGED, PRIMARY),
        ]
    told = [(found.node, found.kind, found.count, str(found.ranges[0])) for found in divergences(each)]
    assert told == [
        (PRIMARY, DifferenceKind.MISSING, 1, "(2,1)"),
        (PRIMARY, DifferenceKind.EXTRA, 1, "(1,1)"),
        (PRIMARY, DifferenceKind.CHANGED, 1, "(3,1)"),
    ]


def test_blocks_that_cannot_be_read_are_told_of_the_node_that_cannot():
    each = finished("db2", "db3")
    each.tallies["db2"].unreadable += [unreadable(4, 5), unreadable(5, 6), unreadable(9, 10)]
    for tally in each.tallies.values():
        tally.unreadable.append(unreadable(7, 8, PRIMARY))
    told = {(found.node, found.kind, found.count, found.sqlstate, found.block) for found in divergences(each)}
    assert told == {
        ("db2", DifferenceKind.UNREADABLE, 2, "XX001", 4),
        (PRIMARY, DifferenceKind.UNREADABLE, 1, "XX001", 7),
    }
    assert len(divergences(each)) == 2, "the primary's block is told once"


def test_what_was_not_listed_is_told_as_ranges_with_the_least_count():
    each = finished("db2")
    each.tallies["db2"].unlisted += [(BlockRange(0, 4), 3), (BlockRange(4, 6), 2)]
    (found,) = divergences(each)
    assert (found.count, found.capped, found.kind) == (5, True, DifferenceKind.CHANGED)
    (place,) = found.ranges
    assert (place.first_block, place.last_block) == (0, 5)


def test_another_definition_is_told_in_words():
    each = finished("db2")
    each.tallies["db2"].different_definition = "the columns are defined otherwise"
    (found,) = divergences(each)
    assert (found.what, found.ranges, found.query) == ("the columns are defined otherwise", (), "")


def test_a_clean_relation_has_no_divergence():
    assert divergences(finished("db2", "db3")) == []


def test_no_more_than_a_readable_number_of_ranges_is_told_and_the_count_stays_whole():
    each = finished("db2")
    each.tallies["db2"].rows += rows(*((block, 1) for block in range(0, 400, 2)))
    (found,) = divergences(each)
    assert (found.count, len(found.ranges)) == (200, MAX_RANGES)


CTIDS = st.sets(st.tuples(st.integers(0, 3), st.integers(1, 12))).map(sorted)


@given(CTIDS)
def test_ranges_hold_exactly_the_positions_and_are_as_few_as_can_be(ctids):
    ranges = ctid_ranges(ctids)
    held = [
        (place.first_block, offset)
        for place in ranges
        for offset in range(place.first_offset, place.last_offset + 1)
        if place.first_block == place.last_block
    ]
    assert held == ctids
    for earlier, later in itertools.pairwise(ranges):
        assert (earlier.last_block, earlier.last_offset + 1) != (later.first_block, later.first_offset)


def test_positions_of_two_blocks_are_never_one_range():
    assert ctid_ranges([(0, 1), (1, 2)]) == (
        CtidRange(first_block=0, first_offset=1, last_block=0, last_offset=1),
        CtidRange(first_block=1, first_offset=2, last_block=1, last_offset=2),
    )


def of(node: str) -> Divergence:
    return factories.divergence(node=node)


def test_the_odd_node_is_the_one_that_everything_accuses():
    assert odd_node([of("db3"), of("db3")], ["db3", "db3"], 3) == "db3"
    assert odd_node([of(PRIMARY)], [PRIMARY, PRIMARY], 3) == PRIMARY


@pytest.mark.parametrize(
    ("accused", "votes", "voters"),
    [
        (["db3"], ["db3"], 2),
        (["db2", "db3"], ["db2", "db3"], 3),
        (["db3"], ["db3", None], 3),
        (["db3"], ["db2"], 3),
        (["db3"], ["db3", "db2"], 3),
        ([], [], 3),
    ],
)
def test_nobody_is_odd_where_two_nodes_are_accused_or_too_few_vote(accused, votes, voters):
    assert odd_node([of(node) for node in accused], votes, voters) is None


def test_each_difference_votes_for_the_node_that_stands_alone():
    each = finished("db2", "db3")
    each.tallies["db2"].rows += [row((1, 1), DifferenceKind.MISSING, "db2"), row((2, 1), DifferenceKind.MISSING)]
    each.tallies["db3"].unreadable += [unreadable(1, 2, "db3", readers=2), unreadable(2, 3, "db3", readers=1)]
    assert lone_votes([each]) == ["db2", None, "db3", None]


def test_what_nobody_listed_names_nobody():
    each = finished("db2")
    each.tallies["db2"].unlisted.append((BlockRange(0, 1), 1))
    assert lone_votes([each]) == [None]
    other = finished("db2")
    other.tallies["db2"].different_definition = "the columns are defined otherwise"
    assert lone_votes([other]) == [None]


def fall_short(each: RelationProof, node: str, *lacks: Shortfall) -> RelationProof:
    for why in lacks:
        each.tallies[node].fall_short(why)
    return each


def test_each_shortfall_of_a_relation_is_told_with_its_hint():
    each = fall_short(finished("db2", "db3"), "db3", lack("locked"), lack("privilege", Verdict.UNCHECKED))
    notes = shortfalls("clinic", [each])
    assert [(note.relation, note.node, note.code, note.by_design) for note in notes] == [
        (each.relation.label, "db3", "locked", False),
        (each.relation.label, "db3", "privilege", False),
    ]


@pytest.mark.parametrize("code", sorted(NODE_CODES))
def test_what_concerns_a_whole_node_is_told_once_with_the_number_of_relations(code):
    proofs = [fall_short(finished("db2"), "db2", lack(code, Verdict.UNCHECKED)) for _ in range(3)]
    (note,) = shortfalls("clinic", proofs)
    assert (note.relation, note.node, note.code) == (None, "db2", code)
    assert note.reason == f"3 relations not proven: because of {code}"


def test_a_relation_that_needs_no_proof_any_more_is_no_shortfall():
    assert shortfalls("clinic", [fall_short(finished("db2"), "db2", DROPPED)]) == []


def test_a_sequence_is_reported_with_its_verdict_on_each_replica():
    found = {"db2": SequenceVerdict(verdict=Verdict.CONSISTENT), "db3": SequenceVerdict(verdict=Verdict.DIVERGED)}
    report = sequence_report("clinic", relation(kind=RelationKind.SEQUENCE), found)
    assert (report.verdict, report.kind) == (Verdict.DIVERGED, RelationKind.SEQUENCE)
    assert [(each.node, each.verdict) for each in report.replicas] == [
        ("db2", Verdict.CONSISTENT),
        ("db3", Verdict.DIVERGED),
    ]


def test_a_sequence_that_diverged_is_told_as_changed_or_unreadable():
    told = [
        sequence_divergence(
            "clinic", relation(), "db2", SequenceVerdict(verdict=Verdict.DIVERGED, sqlstate=sqlstate)
        ).kind
        for sqlstate in (None, "XX001")
    ]
    assert told == [DifferenceKind.CHANGED, DifferenceKind.UNREADABLE]


def test_a_relation_that_only_a_replica_has_is_extra():
    (found,) = extra_divergences("clinic", {"db2": {1: relation(1)}})
    assert (found.node, found.kind, found.relation) == ("db2", DifferenceKind.EXTRA, relation(1).label)
