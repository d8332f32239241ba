"""What an earlier run has proven counts only for what it was proven of, and only what is left is read."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.comparison import WHOLE, BlockRange
from replcheck.audit.proof import WHOLE_BLOCKS, RelationProof
from replcheck.model.progress import (
    MAX_AGE_S,
    Premises,
    Progress,
    ProvenBlocks,
    RelationState,
    TakenOver,
    taken_over,
    without,
)
from replcheck.postgres.digests import LAST_BLOCK
from tests.core.proofs import relation

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STATE = RelationState(database=5, relation=16384, token=77, filenode=16384)
PREMISES = Premises(
    encoding="exact/1", system_identifier="7", servers={"db1": "a", "db2": "b", "db3": "c"}, primary="db1", timeline=1
)
BLOCKS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=6)


def proven(*ranges, replicas=("db2", "db3"), rows=10, age_s=60.0):
    return ProvenBlocks(
        state=STATE, replicas=replicas, ranges=ranges, rows=rows, proven_at=NOW - timedelta(seconds=age_s)
    )


def earlier(*proofs, premises=PREMISES):
    return Progress(run_id="r", started_at=NOW, premises=premises, proofs=proofs)


def planned(*proofs, known_blocks=5000, sweep=False):
    return RelationProof(relation(), ("db2", "db3"), known_blocks=known_blocks, sweep=sweep, earlier=proofs)


def fresh(proof, blocks=10_000):
    chunks = []
    while (chunk := proof.fresh(blocks)) is not None:
        chunks.append(chunk)
    return chunks


@given(BLOCKS, BLOCKS)
def test_what_is_left_are_the_blocks_that_were_not_taken_out(kept, cut):
    ranges = [(first, first + length) for first, length in kept]
    holes = [(first, first + length) for first, length in cut]
    left = without(ranges, holes)
    blocks = {block for first, end in ranges for block in range(first, end)}
    assert {block for first, end in left for block in range(first, end)} == blocks - {
        block for first, end in holes for block in range(first, end)
    }


def test_everything_still_holds_under_the_same_premises():
    assert earlier(proven((0, 9))).still_valid(PREMISES, NOW) == {STATE: [proven((0, 9))]}


OTHER_PREMISES = {
    "less of it was compared in the client than --cross-check asks for now": replace(PREMISES, cross_check=0.05),
    "it was proven under the encoding exact/1": replace(PREMISES, encoding="strong/1"),
    "it was proven of another cluster": replace(PREMISES, system_identifier="8"),
    "db1 is another server than then, or was started anew since": replace(
        PREMISES, servers={"db1": "other", "db2": "b", "db3": "c"}
    ),
    "db1 was the primary then": replace(PREMISES, primary="db2"),
    "db1 is on another timeline than then": replace(PREMISES, timeline=2),
}


@pytest.mark.parametrize(("why", "other"), OTHER_PREMISES.items())
def test_another_encoding_cluster_primary_or_start_of_it_voids_everything_and_is_told(why, other):
    run = earlier(proven((0, 9)))
    assert run.still_valid(other, NOW) == {}
    assert taken_over([run], other, NOW) == TakenOver(lack=why)


def test_what_was_proven_against_one_primary_counts_for_nobody_when_a_replica_was_promoted():
    """A promotion starts no server anew: db3 was found equal to db1, and perhaps db2, the primary now, never was."""
    run = earlier(proven((0, LAST_BLOCK), replicas=("db3",)))
    promoted = replace(PREMISES, primary="db2", timeline=2)
    for now in (promoted, replace(promoted, servers={"db2": "b", "db3": "c"}), replace(promoted, timeline=1)):
        assert run.still_valid(now, NOW) == {}


def test_a_history_that_does_not_name_the_primary_is_not_built_upon():
    run = earlier(proven((0, 9)), premises=replace(PREMISES, primary=None, timeline=None))
    why = "the history does not say which node was the primary then"
    assert taken_over([run], PREMISES, NOW) == TakenOver(lack=why)


def test_a_replica_that_was_started_anew_has_proven_nothing():
    now = replace(PREMISES, servers={"db1": "a", "db2": "b", "db3": "another start"})
    assert earlier(proven((0, 9))).still_valid(now, NOW) == {STATE: [proven((0, 9), replicas=("db2",))]}


def test_what_was_proven_more_than_a_day_ago_is_proven_again():
    fresh_enough = proven((0, 9), age_s=MAX_AGE_S)
    assert earlier(fresh_enough).still_valid(PREMISES, NOW)
    assert earlier(proven((0, 9), age_s=MAX_AGE_S + 1)).still_valid(PREMISES, NOW) == {}


def test_of_several_runs_each_relation_is_taken_from_the_one_that_proved_most_of_it():
    other = replace(STATE, relation=16385)
    long = earlier(proven((0, 900)), replace(proven((0, 10)), state=other))
    short = replace(earlier(proven((0, 500))), run_id="short")
    third = replace(earlier(replace(proven((0, 20)), state=other)), run_id="third")
    taken = taken_over([third, short, long], PREMISES, NOW)
    assert taken.proofs == {STATE: [proven((0, 900))], other: [replace(proven((0, 20)), state=other)]}
    assert taken.run in (long, third)


def test_blocks_count_for_each_replica_that_they_were_proven_for():
    one = replace(earlier(proven((0, 900), replicas=("db2",))), run_id="one")
    both = replace(earlier(proven((0, 600))), run_id="both")
    assert taken_over([one, both], PREMISES, NOW).run is both


def test_the_newer_of_two_runs_counts_where_both_proved_as_much():
    newer, older = replace(earlier(proven((0, 9), age_s=5.0)), run_id="newer"), earlier(proven((0, 9)))
    taken = taken_over([newer, older], PREMISES, NOW)
    assert (taken.run, taken.lack, taken.proofs) == (newer, "", {STATE: [proven((0, 9), age_s=5.0)]})


def test_nothing_is_taken_over_where_nothing_holds_and_why_is_told():
    old = earlier(proven((0, 9), age_s=MAX_AGE_S + 1))
    taken = taken_over([old], PREMISES, NOW)
    assert taken == TakenOver(lack="it is too long ago")
    of_another = replace(PREMISES, servers={"db1": "a", "db2": "d", "db3": "e"})
    taken = taken_over([replace(old, proofs=()), earlier(proven((0, 9)))], of_another, NOW)
    assert taken == TakenOver(lack="its replicas were started anew since, or take no part now")
    assert taken_over([replace(old, proofs=())], PREMISES, NOW) == TakenOver(lack="it had proven nothing yet")
    assert taken_over([], PREMISES, NOW) == TakenOver()


def test_only_what_is_not_proven_is_read():
    chunks = fresh(planned(proven((0, 1000), rows=50), proven((2000, 5000), rows=70)))
    assert [chunk.ranges for chunk in chunks] == [
        (BlockRange(1000, 2000),),
        (BlockRange(5000, LAST_BLOCK),),
    ]


def test_each_replica_is_read_only_where_it_is_not_proven():
    chunks = fresh(planned(proven((0, 1000)), proven((1000, 5000), replicas=("db2",))))
    assert [(chunk.ranges, chunk.needed) for chunk in chunks] == [
        ((BlockRange(1000, 5000),), {"db3"}),
        ((BlockRange(5000, LAST_BLOCK),), {"db2", "db3"}),
    ]


def test_a_relation_that_is_proven_whole_is_not_read_and_its_rows_are_known():
    proof = planned(proven((0, LAST_BLOCK), rows=123), known_blocks=20)
    assert fresh(proof) == []
    assert proof.finished
    assert proof.rows == 123


def test_a_scan_of_the_whole_relation_is_made_only_where_nothing_is_proven():
    assert [chunk.sweep for chunk in fresh(planned(sweep=True))] == [True]
    assert not any(chunk.sweep for chunk in fresh(planned(proven((0, 9)), sweep=True)))


def test_a_definition_that_changed_voids_what_was_proven():
    proof = planned(proven((0, LAST_BLOCK)), known_blocks=20)
    proof.replan(relation(token=5), known_blocks=20, sweep=False, alignment=3, newest=3)
    assert [chunk.ranges for chunk in fresh(proof)] == [(WHOLE,)]


@given(st.lists(st.tuples(BLOCKS, st.sampled_from([("db2",), ("db3",), ("db2", "db3")])), max_size=5))
def test_fresh_chunks_and_earlier_proofs_cover_every_block_for_every_replica_and_none_twice(given_proofs):
    proofs = [
        proven(*[(first, first + length) for first, length in ranges], replicas=replicas)
        for ranges, replicas in given_proofs
        if ranges
    ]
    known = WHOLE_BLOCKS + 100
    chunks = fresh(planned(*proofs, known_blocks=known), blocks=7)
    for replica in ("db2", "db3"):
        taken_over = {
            block
            for proof in proofs
            if replica in proof.replicas
            for first, end in proof.ranges
            for block in range(first, end)
        }
        read = [
            block
            for chunk in chunks
            if replica in chunk.needed
            for part in chunk.ranges
            for block in range(part.first, min(part.end, known + 1))
        ]
        assert len(read) == len(set(read))
        assert set(read) == set(range(known + 1)) - taken_over
