"""The proof of one relation: what counts as proven, as diverged, as neither, and that nothing is lost on the way."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.comparison import WHOLE, BlockRange, ChunkFinding, ReplicaFinding, UnreadableRange, joined
from replcheck.audit.proof import (
    MAX_LOOKS,
    MAX_LOSSES,
    MIN_TRIES,
    WHOLE_BLOCKS,
    Chunk,
    RelationProof,
    Tally,
    confirm,
)
from replcheck.audit.shortfalls import DROPPED, FINAL_CODES, STOPPED, Shortfall
from replcheck.audit.verdicts import relation_report
from replcheck.model.outcome import Verdict
from replcheck.postgres.catalog import Relation
from replcheck.postgres.digests import LAST_BLOCK
from tests.core.proofs import UNSEEN, clean, covered, lack, missing, proof, relation, rows, showing, tiles_the_heap

BUDGET_S = 60.0


def only_chunk(each: RelationProof, blocks_wanted: int = 1_000) -> Chunk:
    chunk = each.fresh(blocks_wanted)
    assert chunk is not None
    return chunk


def absorb(
    each: RelationProof, chunk: Chunk, finding: ChunkFinding, *, alignment: int = 1, now: float = 0.0
) -> list[Chunk]:
    return each.absorb(chunk, finding, alignment=alignment, now=now, budget_s=BUDGET_S)


def look(each: RelationProof, *findings: ReplicaFinding, every_s: float = 1.0) -> list[Chunk]:
    """Read the only chunk of a relation again and again, each time under another alignment."""
    chunks = [only_chunk(each)]
    for number, finding in enumerate(findings):
        (chunk,) = chunks
        chunks = absorb(each, chunk, showing(db2=finding), alignment=number, now=number * every_s)
    return chunks


def damaged(*blocks: tuple[int, int], node: str = "db2") -> ReplicaFinding:
    ranges = [BlockRange(first, end) for first, end in blocks]
    return ReplicaFinding(
        unreadable=tuple(UnreadableRange(node=node, blocks=part, sqlstate="XX001", block=None) for part in ranges)
    )


def beyond(*blocks: tuple[int, int], doubtful: bool = False) -> ReplicaFinding:
    return ReplicaFinding(unlisted=tuple((BlockRange(first, end), 3) for first, end in blocks), doubtful=doubtful)


CTIDS = st.tuples(st.integers(0, 9), st.integers(1, 3))
SPANS = st.tuples(st.integers(0, 8), st.integers(1, 3)).map(lambda span: (span[0], span[0] + span[1]))


@st.composite
def findings(draw) -> ReplicaFinding:
    """Draw what a look may show of a replica that was seen."""
    flying = draw(st.sets(CTIDS, max_size=4))
    others = draw(st.sets(CTIDS, max_size=4)) - flying
    return ReplicaFinding(
        rows=(*rows(*sorted(flying), in_flight=True), *rows(*sorted(others))),
        unlisted=tuple((BlockRange(*span), 1) for span in draw(st.lists(SPANS, max_size=2))),
        doubtful=draw(st.booleans()),
        unreadable=damaged(*draw(st.lists(SPANS, max_size=2))).unreadable,
    )


@given(findings())
def test_nothing_is_diverged_after_one_look(finding):
    each = proof()
    again = look(each, finding)
    assert not each.tallies["db2"].diverged
    assert each.finished == finding.clean
    assert bool(again) != finding.clean


@given(findings())
def test_what_one_look_shows_a_second_equal_one_confirms(finding):
    each = proof()
    if not finding.unexplained:
        return
    assert look(each, finding, finding) == []
    tally = each.tallies["db2"]
    assert tally.verdict is Verdict.DIVERGED
    assert {row.ctid for row in tally.rows} == {row.ctid for row in finding.rows if not row.in_flight}
    assert tally.unlisted == list(() if finding.doubtful else finding.unlisted)
    assert tally.unreadable == list(finding.unreadable)
    assert each.finished


@given(findings(), findings())
def test_confirmed_is_only_what_both_looks_show_unexplained(earlier, now):
    confirmed = confirm(earlier, now)
    assert set(confirmed.rows) <= {row for row in now.rows if not row.in_flight}
    assert set(confirmed.unlisted) <= set(() if now.doubtful else now.unlisted)
    assert set(confirmed.unreadable) <= set(now.unreadable)
    suspected = [row.ctid for row in earlier.rows if not row.in_flight]
    vague = [] if earlier.doubtful else [blocks for blocks, _ in earlier.unlisted]
    for row in confirmed.rows:
        assert row.ctid in suspected or any(blocks.holds(row.ctid) for blocks in vague)
    for blocks, _ in confirmed.unlisted:
        assert any(map(blocks.holds, suspected)) or any(map(blocks.overlaps, vague))
    if not (earlier.unexplained and now.unexplained):
        assert confirmed.clean


@given(st.lists(findings(), min_size=1, max_size=2 * MAX_LOOKS))
def test_only_two_looks_that_agree_make_a_divergence(looks):
    each = proof()
    chunks = [only_chunk(each)]
    shown: list[ReplicaFinding] = []
    for number, finding in enumerate(looks):
        if not chunks:
            break
        shown.append(finding)
        chunks = absorb(each, chunks[0], showing(db2=finding), alignment=number, now=float(number))
    agreed = any(confirm(a, b).unexplained for n, b in enumerate(shown) for a in shown[:n])
    assert each.tallies["db2"].diverged == agreed


@given(st.lists(findings().filter(lambda finding: not finding.clean), max_size=8), st.floats(0, 100))
def test_what_is_not_clean_yet_is_asked_again_or_falls_short(looks, every_s):
    each = proof()
    chunks = [only_chunk(each)]
    for number, finding in enumerate(looks):
        if chunks:
            chunks = absorb(each, chunks[0], showing(db2=finding), alignment=number, now=number * every_s)
    assert each.finished == (not chunks)
    if looks and each.finished:
        assert each.tallies["db2"].verdict is not Verdict.CONSISTENT


def test_a_difference_that_a_later_look_does_not_show_is_consistent():
    each = proof()
    assert look(each, missing((3, 1)), ReplicaFinding()) == []
    assert each.tallies["db2"].verdict is Verdict.CONSISTENT


def test_rows_in_flight_are_asked_again_until_they_have_settled():
    each = proof()
    assert look(each, *[missing((3, 1), in_flight=True)] * 20, ReplicaFinding()) == []
    assert each.tallies["db2"].verdict is Verdict.CONSISTENT


def test_rows_in_flight_until_the_budget_ends_are_inconclusive_and_counted():
    each = proof()
    flying = missing((3, 1), (3, 2), in_flight=True)
    assert look(each, flying, flying, flying, every_s=40.0) == []
    tally = each.tallies["db2"]
    assert tally.verdict is Verdict.INCONCLUSIVE
    assert tally.in_flight == 2
    assert set(tally.shortfalls) == {"in_flight"}


def test_rows_that_differ_elsewhere_at_each_look_are_inconclusive():
    each = proof()
    assert look(each, *(missing((block, 1)) for block in range(MAX_LOOKS))) == []
    tally = each.tallies["db2"]
    assert tally.verdict is Verdict.INCONCLUSIVE
    assert set(tally.shortfalls) == {"unsteady"}


def test_one_look_fewer_is_asked_again():
    assert look(proof(), *(missing((block, 1)) for block in range(MAX_LOOKS - 1)))


def test_looks_at_rows_in_flight_do_not_count_as_unsteady():
    each = proof()
    flying = [missing((block, 1), in_flight=True) for block in range(3 * MAX_LOOKS)]
    assert look(each, missing((99, 1)), *flying, missing((99, 1))) == []
    assert each.tallies["db2"].verdict is Verdict.DIVERGED


def test_a_place_that_comes_back_is_confirmed_whatever_lay_between():
    each = proof()
    assert look(each, missing((1, 1)), missing((2, 1)), missing((1, 1), (3, 1))) == []
    assert [row.ctid for row in each.tallies["db2"].rows] == [(1, 1)]


def test_ranges_beyond_the_limit_are_confirmed_by_ranges_and_by_rows():
    for earlier, now in (
        (beyond((0, 4)), beyond((2, 6))),
        (beyond((0, 4)), missing((3, 1))),
        (missing((3, 1)), beyond((2, 6))),
    ):
        each = proof()
        assert look(each, earlier, now) == []
        assert each.tallies["db2"].diverged


def test_ranges_that_do_not_touch_confirm_nothing():
    for earlier, now in (
        (beyond((0, 4)), beyond((4, 6))),
        (beyond((0, 4)), missing((4, 1))),
        (missing((6, 1)), beyond((2, 6))),
        (damaged((0, 4)), damaged((4, 5))),
        (damaged((0, 4)), damaged((0, 4), node="db1")),
        (damaged((0, 4)), missing((0, 1))),
    ):
        each = proof()
        assert look(each, earlier, now)
        assert not each.tallies["db2"].diverged


def test_ranges_that_unsettled_transactions_could_explain_confirm_nothing():
    settled, doubtful = beyond((0, 4)), beyond((0, 4), doubtful=True)
    for earlier, now in ((settled, doubtful), (doubtful, settled), (doubtful, doubtful)):
        each = proof()
        assert look(each, earlier, now)
        assert not each.tallies["db2"].diverged


def test_ranges_that_were_doubtful_once_confirm_nothing_later():
    earlier = replace(beyond((0, 4), doubtful=True), rows=rows((9, 1)))
    assert confirm(earlier, beyond((2, 6))).clean
    assert confirm(earlier, beyond((2, 10))).unlisted


def test_a_second_look_at_a_sweep_is_no_sweep():
    each = proof(known_blocks=5_000, sweep=True)
    chunk = only_chunk(each)
    (again,) = absorb(each, chunk, showing(db2=missing((7, 1))))
    assert chunk.sweep
    assert not again.sweep


def test_only_the_blocks_that_differ_are_read_again_and_on_their_replica_alone():
    each = proof("db2", "db3")
    shown = replace(missing((7, 1), (7, 2), (8, 1), (30, 5)), unlisted=((BlockRange(40, 44), 1),))
    (again,) = absorb(each, only_chunk(each), showing(db2=shown, db3=ReplicaFinding()))
    assert again.ranges == (BlockRange(7, 9), BlockRange(30, 31), BlockRange(40, 44))
    assert again.needed == {"db2"}
    assert not again.first
    assert again.looks == {"db2": (shown,)}
    assert each.finished_for("db3")
    assert not each.finished_for("db2")


def test_a_returned_chunk_remembers_its_alignment_and_waits_a_little():
    each = proof()
    (again,) = absorb(each, only_chunk(each), showing(db2=missing((1, 1))), alignment=17, now=100.0)
    assert again.last_alignment == 17
    assert 100.0 < again.not_before <= 102.0


@given(st.integers(0, 1_000), st.integers(0, 1_000))
def test_no_chunk_waits_long_before_it_is_tried_again(first, later):
    each = proof()
    (chunk,) = absorb(each, only_chunk(each), showing(db2=UNSEEN), now=first)
    for again in absorb(each, chunk, showing(db2=UNSEEN), now=first + later):
        assert first + later < again.not_before <= first + later + 2


def test_a_replica_that_was_not_asked_is_asked_later():
    each = proof("db2", "db3")
    (again,) = absorb(each, only_chunk(each), clean("db2"))
    assert again.needed == {"db3"}
    assert not again.first
    assert each.finished_for("db2")
    assert not each.finished
    assert absorb(each, again, clean("db3"), alignment=2) == []
    assert each.finished
    assert (each.rows, each.chunks) == (1, 1)


def test_a_replica_that_was_not_seen_is_asked_again_and_never_consistent():
    each = proof()
    chunks = [only_chunk(each)]
    for number in range(200):
        chunks = absorb(
            each, chunks[0].failed("db2", lack("conflict")), showing(db2=UNSEEN), alignment=number, now=float(number)
        )
        if not chunks:
            break
        assert not each.finished
    assert chunks == []
    assert each.finished
    assert each.tallies["db2"].verdict is Verdict.INCONCLUSIVE
    assert set(each.tallies["db2"].shortfalls) == {"conflict"}


def test_a_replica_is_tried_often_even_where_the_budget_is_over():
    each = proof()
    chunk = only_chunk(each)
    for number in range(MIN_TRIES - 1):
        (chunk,) = absorb(each, chunk.failed("db2", lack()), showing(db2=UNSEEN), now=1_000.0 * number)
    assert absorb(each, chunk.failed("db2", lack()), showing(db2=UNSEEN), now=1e6) == []


def test_a_replica_is_tried_for_the_whole_budget_however_often_it_fails():
    each = proof()
    chunk = only_chunk(each)
    for number in range(3 * MIN_TRIES):
        now = BUDGET_S * number / (3 * MIN_TRIES)
        (chunk,) = absorb(each, chunk.failed("db2", lack()), showing(db2=UNSEEN), now=now)


def test_a_block_that_crashes_a_replica_each_time_is_given_up_soon():
    each = proof()
    chunk = only_chunk(each)
    for _ in range(MAX_LOSSES - 1):
        (chunk,) = absorb(each, chunk.failed("db2", lack("lost"), lost=True), showing(db2=UNSEEN))
    assert absorb(each, chunk.failed("db2", lack("lost"), lost=True), showing(db2=UNSEEN)) == []
    assert set(each.tallies["db2"].shortfalls) == {"lost"}


def test_one_replicas_refusal_does_not_give_up_another():
    each = proof("db2", "db3")
    refused = only_chunk(each).failed("db2", lack("privilege", Verdict.UNCHECKED), final=True)
    cancelled = refused.failed("db3", lack("conflict"))
    (again,) = absorb(each, cancelled, showing(db2=UNSEEN, db3=UNSEEN))
    assert again.needed == {"db3"}
    assert each.tallies["db2"].verdict is Verdict.UNCHECKED
    assert not each.tallies["db3"].shortfalls


def test_a_replica_that_is_given_up_does_not_hold_up_the_others():
    each = proof("db2", "db3")
    chunk = only_chunk(each)
    each.give_up("db2", lack("node_lost", Verdict.UNCHECKED))
    assert each.active == {"db3"}
    assert absorb(each, chunk, clean("db3")) == []
    assert each.finished
    report = relation_report("clinic", each)
    assert {each.node: each.verdict for each in report.replicas} == {
        "db2": Verdict.UNCHECKED,
        "db3": Verdict.CONSISTENT,
    }


def test_what_was_proven_before_a_replica_was_lost_stays_proven():
    each = proof("db2", "db3")
    assert absorb(each, only_chunk(each), clean("db2", "db3")) == []
    each.give_up("db2", lack("node_lost", Verdict.UNCHECKED))
    assert each.tallies["db2"].verdict is Verdict.CONSISTENT


def test_a_divergence_that_was_confirmed_outlives_the_replica():
    each = proof(known_blocks=1_000)
    chunks = absorb(each, only_chunk(each, 900), showing(db2=missing((1, 1))))
    assert absorb(each, chunks[0], showing(db2=missing((1, 1))), alignment=2) == []
    each.give_up("db2", lack("node_lost", Verdict.UNCHECKED))
    assert each.tallies["db2"].verdict is Verdict.DIVERGED


@pytest.mark.parametrize("code", sorted(FINAL_CODES))
def test_nothing_is_read_for_a_replica_after_a_shortfall_of_the_whole_relation(code):
    each = proof("db2", known_blocks=1_000)
    each.give_up("db2", lack(code, Verdict.UNCHECKED))
    assert each.fresh(10) is None
    assert each.finished
    assert each.rows is None
    assert each.tallies["db2"].verdict is Verdict.UNCHECKED


def test_a_run_that_is_stopped_leaves_unchecked_what_was_not_finished():
    each = proof("db2", known_blocks=1_000)
    absorb(each, only_chunk(each, 900), clean("db2"))
    each.give_up("db2", STOPPED)
    assert each.tallies["db2"].verdict is Verdict.UNCHECKED


def test_a_relation_that_was_dropped_needs_no_proof():
    each = proof()
    each.give_up("db2", DROPPED)
    assert each.finished
    assert each.tallies["db2"].verdict is Verdict.CONSISTENT


def test_a_different_definition_is_divergence_and_ends_the_reading():
    each = proof("db2", "db3")
    each.tallies["db2"].different_definition = "the columns are defined otherwise"
    assert each.tallies["db2"].verdict is Verdict.DIVERGED
    assert each.active == {"db3"}


def test_a_chunk_of_an_older_plan_changes_nothing():
    each = proof()
    chunk = only_chunk(each)
    each.replan(relation(), known_blocks=100, sweep=False, alignment=2, newest=2)
    assert absorb(each, chunk, clean("db2")) == []
    assert each.put_off(chunk.failed("db1", lack()), "db1", now=0.0, budget_s=BUDGET_S) == []
    assert each.halve(replace(chunk, ranges=(BlockRange(0, 9),))) == []
    each.refuse(chunk, lack())
    each.drop(chunk)
    assert not each.finished
    assert not each.tallies["db2"].shortfalls
    assert absorb(each, only_chunk(each), clean("db2")) == []
    assert each.finished
    assert each.rows == 1


def test_a_plan_made_anew_forgets_what_differed_and_reads_everything_again():
    each = proof()
    differing = ReplicaFinding(
        rows=rows((1, 1)), unlisted=beyond((3, 4)).unlisted, unreadable=damaged((5, 6)).unreadable
    )
    assert look(each, differing, differing) == []
    each.tallies["db2"].in_flight = 3
    each.replan(relation(token=5), known_blocks=10, sweep=False, alignment=3, newest=3)
    assert each.tallies["db2"] == Tally()
    assert each.relation.token == 5
    assert each.replans == 1
    assert only_chunk(each).whole


def planned_under(listed: Relation) -> int:
    each = RelationProof(listed, ["db2"], known_blocks=1, sweep=False, alignment=4, newest=6)
    again = proof()
    again.replan(listed, known_blocks=1, sweep=False, alignment=4, newest=6)
    assert again.planned_under == each.planned_under
    return each.planned_under


def test_a_relation_may_be_read_under_the_alignment_it_was_listed_under():
    assert planned_under(relation()) == 4
    assert planned_under(relation(filenode=0, filenode_now=1249)) == 4, "a mapped catalog tells no file"


def test_a_relation_that_was_rewritten_since_its_snapshot_waits_for_an_alignment_that_begins_later():
    assert planned_under(relation(filenode=1, filenode_now=2)) == 7


@pytest.mark.parametrize("known_blocks", [1, 100, WHOLE_BLOCKS, WHOLE_BLOCKS + 1, 5_000])
@pytest.mark.parametrize("sweep", [False, True])
def test_a_relation_too_slow_for_one_scan_is_never_scanned_whole_again(known_blocks, sweep):
    each = proof(known_blocks=known_blocks, sweep=sweep)
    slow = only_chunk(each)
    each.read_in_ranges()
    assert each.in_ranges
    chunks = list(iter(lambda: each.fresh(64), None))
    assert not any(chunk.whole or chunk.sweep for chunk in chunks)
    assert tiles_the_heap(covered(chunks))
    assert absorb(each, slow, clean("db2")) == []
    assert not each.finished


FOUND = {
    "rows": missing((3, 1), (8, 2)),
    "beyond the limit": beyond((3, 9)),
    "unreadable": damaged((3, 4)),
    "contradicted": ReplicaFinding(contradicted=(BlockRange(3, 4),)),
}


def told_of(each: RelationProof) -> tuple[Verdict, int, int]:
    tally = each.tallies["db2"]
    return tally.verdict, tally.rows_differing, len(tally.unreadable)


@pytest.mark.parametrize("found", FOUND.values(), ids=FOUND)
def test_a_confirmed_difference_stays_when_the_relation_is_read_in_ranges_and_counts_once(found):
    """The scan was cancelled on db3: nothing is known of it yet, and db2 has diverged all the same."""
    each = proof("db2", "db3")
    chunk = only_chunk(each)
    (again, _) = absorb(each, chunk, showing(db2=found))
    assert absorb(each, again, showing(db2=found), alignment=2) == []
    before = told_of(each)
    assert before[0] is Verdict.DIVERGED
    each.read_in_ranges()
    assert told_of(each) == before
    left = [only_chunk(each)]
    while left:
        left = [rest for part in left for rest in absorb(each, part, showing(db2=found, db3=ReplicaFinding()))]
    assert told_of(each) == before


def test_what_was_in_flight_is_counted_anew_when_the_relation_is_read_in_ranges():
    each = proof()
    each.tallies["db2"].in_flight = 3
    each.read_in_ranges()
    assert each.tallies["db2"].in_flight == 0


def test_rows_that_were_listed_are_not_counted_again_where_they_are_beyond_the_limit_later():
    each = proof()
    look(each, missing((3, 1), (3, 2)), missing((3, 1), (3, 2)))
    each.read_in_ranges()
    look(each, beyond((3, 4)), beyond((3, 4)))
    assert told_of(each) == (Verdict.DIVERGED, 3, 0)


def test_rows_are_not_counted_again_where_they_were_beyond_the_limit_before():
    each = proof()
    look(each, beyond((3, 4)), beyond((3, 4)))
    each.read_in_ranges()
    look(each, missing((3, 1)), missing((3, 1)))
    assert told_of(each) == (Verdict.DIVERGED, 3, 0)


def test_small_relations_are_read_whole_and_large_ones_in_one_sweep_or_in_ranges():
    assert only_chunk(proof(known_blocks=WHOLE_BLOCKS)).whole
    assert not only_chunk(proof(known_blocks=WHOLE_BLOCKS)).sweep
    assert not only_chunk(proof(known_blocks=WHOLE_BLOCKS, sweep=True)).sweep
    assert only_chunk(proof(known_blocks=WHOLE_BLOCKS + 1, sweep=True)).sweep
    assert only_chunk(proof(known_blocks=WHOLE_BLOCKS + 1), 100).ranges == (BlockRange(0, 100),)


@given(st.integers(0, 3_000), st.booleans(), st.data())
def test_fresh_chunks_hold_every_block_once(known_blocks, sweep, data):
    each = proof(known_blocks=known_blocks, sweep=sweep)
    chunks = []
    while (chunk := each.fresh(data.draw(st.integers(100, 2_000)))) is not None:
        chunks.append(chunk)
    assert tiles_the_heap(covered(chunks))


@given(st.lists(SPANS, min_size=1, max_size=4))
def test_the_halves_of_a_chunk_hold_its_blocks(spans):
    each = proof()
    offsets = [BlockRange(first + 20 * number, end + 20 * number) for number, (first, end) in enumerate(spans)]
    chunk = replace(only_chunk(each), ranges=tuple(offsets))
    halves = each.halve(chunk)
    blocks = [block for part in offsets for block in range(part.first, part.end)]
    held = [[block for part in half.ranges for block in range(part.first, part.end)] for half in halves]
    if len(blocks) < 2:
        assert not halves
    else:
        assert held[0] + held[1] == blocks
        assert abs(len(held[0]) - len(held[1])) <= 1


@given(st.integers(0, 3_000), st.integers(0, 100_000), st.booleans())
def test_a_chunk_without_an_upper_bound_is_cut_further_and_further_out(known_blocks, first, also):
    each = proof(known_blocks=known_blocks)
    before = (BlockRange(0, 1),) if also and first > 1 else ()
    chunk = replace(only_chunk(each), ranges=(*before, BlockRange(first, LAST_BLOCK)))
    for _ in range(40):
        halves = each.halve(chunk)
        if not halves:
            break
        near, far = halves
        assert joined([*near.ranges, *far.ranges]) == joined(chunk.ranges)
        assert not near.ranges[-1].open_ended
        assert not near.ranges[-1].overlaps(far.ranges[0])
        assert near.ranges[:-1] == chunk.ranges[:-1]
        chunk = far
    assert chunk.ranges[0].first >= LAST_BLOCK // 4, "it comes to an end, and not before there is nothing left to cut"


def test_the_primary_that_cannot_read_a_chunk_is_tried_for_the_whole_budget():
    each = proof("db2", "db3")
    chunk = only_chunk(each)
    for number in range(MIN_TRIES + 5):
        (chunk,) = each.put_off(chunk.failed("db1", lack()), "db1", now=float(number), budget_s=BUDGET_S)
        assert chunk.not_before > number
    assert each.put_off(chunk.failed("db1", lack()), "db1", now=61.0, budget_s=BUDGET_S) == []
    assert each.finished
    assert each.rows is None
    for tally in each.tallies.values():
        assert tally.verdict is Verdict.INCONCLUSIVE


def test_a_chunk_that_crashes_the_primary_is_given_up_soon():
    each = proof()
    chunk = only_chunk(each)
    for _ in range(MAX_LOSSES - 1):
        (chunk,) = each.put_off(chunk.failed("db1", lack(), lost=True), "db1", now=0.0, budget_s=BUDGET_S)
    assert each.put_off(chunk.failed("db1", lack(), lost=True), "db1", now=0.0, budget_s=BUDGET_S) == []
    assert each.finished


def test_a_chunk_that_was_put_off_for_long_still_gets_its_second_look():
    each = proof()
    (chunk,) = each.put_off(only_chunk(each).failed("db1", lack()), "db1", now=0.0, budget_s=BUDGET_S)
    (chunk,) = absorb(each, chunk, showing(db2=missing((1, 1))), now=500.0)
    assert absorb(each, chunk, showing(db2=missing((1, 1))), alignment=2, now=501.0) == []
    assert each.tallies["db2"].verdict is Verdict.DIVERGED


def test_a_replica_that_was_away_for_long_still_gets_its_second_look():
    each = proof("db2", "db3")
    (chunk,) = absorb(each, only_chunk(each), clean("db3"), now=0.0)
    (chunk,) = absorb(each, chunk, showing(db2=missing((1, 1), in_flight=True)), alignment=2, now=500.0)
    assert absorb(each, chunk, clean("db2"), alignment=3, now=501.0) == []
    assert each.tallies["db2"].verdict is Verdict.CONSISTENT


def test_a_refused_chunk_leaves_its_rows_unknown_and_no_replica_consistent():
    each = proof("db2", "db3")
    each.refuse(only_chunk(each), lack("privilege", Verdict.UNCHECKED))
    assert each.finished
    assert each.rows is None
    assert {tally.verdict for tally in each.tallies.values()} == {Verdict.UNCHECKED}


def test_what_no_node_can_read_is_unchecked_and_not_diverged():
    each = proof()
    nowhere = replace(missing((3, 1)), unreadable_everywhere=True)
    (again,) = absorb(each, only_chunk(each), showing(db2=nowhere))
    assert absorb(each, again, clean("db2"), alignment=2) == []
    assert each.tallies["db2"].verdict is Verdict.UNCHECKED


def test_rows_are_unknown_where_the_primary_could_not_read_them():
    each = proof()
    broken = ChunkFinding(digest=None, replicas={"db2": damaged((0, 1), node="db1")})
    (again,) = absorb(each, only_chunk(each), broken)
    assert absorb(each, again, broken, alignment=2) == []
    assert each.rows is None
    assert each.tallies["db2"].verdict is Verdict.DIVERGED


def test_the_first_of_each_shortfall_is_told():
    tally = proof().tallies["db2"]
    tally.fall_short(lack("locked"))
    tally.fall_short(replace(lack("locked"), reason="another"))
    assert tally.shortfalls["locked"].reason == "because of locked"


def test_the_worst_of_what_is_known_wins():
    def verdict_after(*lacks: Shortfall, differs: bool = False) -> Verdict:
        tally = proof().tallies["db2"]
        for each in lacks:
            tally.fall_short(each)
        tally.rows += rows((1, 1)) if differs else ()
        return tally.verdict

    locked, refused = lack("locked"), lack("privilege", Verdict.UNCHECKED)
    assert verdict_after() is Verdict.CONSISTENT
    assert verdict_after(locked) is Verdict.INCONCLUSIVE
    assert verdict_after(locked, refused) is Verdict.UNCHECKED
    assert verdict_after(locked, refused, differs=True) is Verdict.DIVERGED


def test_rows_differing_counts_listed_rows_and_the_least_beyond():
    each = proof()
    tally = each.tallies["db2"]
    tally.rows += rows((1, 1), (1, 2))
    tally.unlisted += beyond((5, 9), (9, 12)).unlisted
    assert tally.rows_differing == 8
    assert each.rows_listed == 2


_ACTS = st.sampled_from(["clean", "clean", "clean", "unasked", "unseen", "put off", "halve", "replan", "in ranges"])


@given(st.integers(0, 3_000), st.booleans(), st.lists(_ACTS, max_size=40), st.builds(Random, st.integers(0, 2**32)))
def test_a_relation_is_finished_exactly_when_every_block_was_read_on_every_replica(known_blocks, sweep, acts, chance):
    each = proof("db2", "db3", known_blocks=known_blocks, sweep=sweep)
    waiting: list[Chunk] = []
    proven: dict[str, list[BlockRange]] = {"db2": [], "db3": []}
    alignment = 0
    while not each.finished:
        fresh = each.fresh(chance.randint(100, 2_000))
        waiting += [fresh] if fresh is not None else []
        chunk = waiting.pop(chance.randrange(len(waiting)))
        act = acts.pop() if acts else "clean"
        alignment += 1
        if act in ("replan", "in ranges"):
            if act == "replan":
                each.replan(relation(), known_blocks=known_blocks, sweep=sweep, alignment=alignment, newest=alignment)
            else:
                each.read_in_ranges()
            proven = {"db2": [], "db3": []}
        if act == "put off":
            waiting += each.put_off(chunk.failed("db1", lack()), "db1", now=0.0, budget_s=BUDGET_S)
        elif act == "halve" and (halves := each.halve(chunk)):
            waiting += halves
        else:
            told = {name for name in ("db2", "db3") if act != "unasked" or chance.random() < 0.5}
            finding = showing(**{name: UNSEEN if act == "unseen" else ReplicaFinding() for name in told})
            if chunk.epoch == each.epoch and act != "unseen":
                for name in told & chunk.needed:
                    proven[name] += chunk.ranges
            waiting += absorb(each, chunk, finding, alignment=alignment)
    for ranges in proven.values():
        assert tiles_the_heap(sorted(ranges))
    assert {tally.verdict for tally in each.tallies.values()} == {Verdict.CONSISTENT}
    assert each.fresh(100) is None


def test_a_chunk_knows_the_blocks_it_spans():
    chunk = replace(only_chunk(proof()), ranges=(BlockRange(3, 4), BlockRange(8, 10)))
    assert chunk.blocks == BlockRange(3, 10)
    assert not chunk.whole
    assert replace(chunk, ranges=(WHOLE,)).whole
