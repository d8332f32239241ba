"""How much is read at once, and how long a snapshot may live."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.comparison import LISTED_BLOCKS, BlockRange, PartsRequest, SweepRequest, WholeRequest
from replcheck.audit.options import AuditOptions
from replcheck.audit.pace import Pace, chunk_bytes
from replcheck.audit.proof import Chunk, RelationProof
from replcheck.postgres.digests import LAST_BLOCK
from replcheck.postgres.nodes import standby_lifetime_s
from tests.core.nodes import facts
from tests.core.proofs import proof, relation

BLOCK = 8_192
MEGABYTES = 1 << 20


def pace(*, max_snapshot_age_s: float = 60.0, **settings: str) -> Pace:
    options = AuditOptions(max_snapshot_age_s=max_snapshot_age_s, chunk_target_s=1.0)
    return Pace(options, facts(), [facts("db2", in_recovery=True, settings=settings)])


def lifetime_s(**settings: str) -> float:
    return standby_lifetime_s({"hot_standby_feedback": "off", "max_standby_streaming_delay": "30000"} | settings)


def test_with_feedback_a_snapshot_does_not_hold_up_its_standby():
    assert lifetime_s(hot_standby_feedback="on") == float("inf")


@given(st.integers(-1, 10**7))
def test_without_feedback_a_snapshot_lives_a_quarter_of_the_delay_at_most_and_never_over_five_seconds(delay_ms):
    life_s = lifetime_s(max_standby_streaming_delay=str(delay_ms))
    assert 0 < life_s <= 5.0
    if 2_000 <= delay_ms <= 20_000:
        assert life_s == delay_ms / 4_000
    if delay_ms == -1 or delay_ms > 20_000:
        assert life_s == 5.0
    if 0 <= delay_ms < 2_000:
        assert life_s == 0.5


def test_an_unknown_delay_counts_as_the_servers_default():
    assert lifetime_s(max_standby_streaming_delay="") == 5.0
    assert standby_lifetime_s({}) == 5.0


@given(st.integers(0, 1 << 40))
def test_bytes_are_counted_in_whole_blocks(size_bytes):
    blocks = pace().blocks(size_bytes)
    assert (blocks - 1) * BLOCK < size_bytes <= blocks * BLOCK


def test_only_relations_that_are_large_for_some_nodes_buffers_are_swept():
    """The replica's 64 MB of buffers are the smaller ones."""
    quick = pace(shared_buffers=str(64 * MEGABYTES // BLOCK))
    assert not quick.sweeps(relation(size_bytes=16 * MEGABYTES))
    assert quick.sweeps(relation(size_bytes=16 * MEGABYTES + 1))


def test_relations_that_take_longer_than_five_seconds_or_half_a_snapshots_life_are_not_swept():
    assert pace().sweeps(relation(size_bytes=490 * 1_000_000))
    assert not pace().sweeps(relation(size_bytes=510 * 1_000_000))
    assert not pace().sweeps(relation(size_bytes=300 * 1_000_000, toast_bytes=210 * 1_000_000))
    assert not pace(hot_standby_feedback="off").sweeps(relation(size_bytes=300 * 1_000_000))
    assert not pace(max_snapshot_age_s=4.0).sweeps(relation(size_bytes=300 * 1_000_000))


def measured(sizes: Pace, blocks: int, elapsed_s: float, *, first: bool = True) -> RelationProof:
    """Return a proof after a chunk of so many blocks took so long."""
    each = proof(known_blocks=10**6)
    chunk = Chunk(oid=1, epoch=0, ranges=(BlockRange(0, blocks),), needed=frozenset({"db2"}), first=first)
    sizes.measure(each, chunk, elapsed_s)
    return each


def test_a_chunk_takes_about_as_long_as_it_should():
    sizes = pace()
    assert sizes.chunk_blocks(proof()) == 4_096
    assert sizes.chunk_blocks(measured(sizes, 4_096, 2.0)) == 2_048
    assert sizes.chunk_blocks(measured(sizes, 4_096, 0.5)) == 8_192


def test_the_first_chunk_is_as_much_to_read_where_most_values_are_stored_outside():
    sizes = pace()
    heavy = proof(known_blocks=512, toast_bytes=50 << 30)
    assert sizes.chunk_blocks(heavy) == 1
    assert sizes.chunk_blocks(proof(known_blocks=8_192, toast_bytes=7 * 8_192 * BLOCK)) == 512
    heavy.blocks_per_s = 0.001
    assert sizes.chunk_blocks(heavy) == 1, "the least is as much to read, too"


def test_a_table_that_is_small_but_for_values_stored_outside_is_not_read_in_one_statement():
    sizes = pace()
    for toast_bytes, whole in ((20 * MEGABYTES, True), (50 << 30, False)):
        each = proof(known_blocks=512, toast_bytes=toast_bytes)
        chunk = each.fresh(sizes.chunk_blocks(each))
        assert chunk is not None
        assert chunk.whole is whole
        assert whole or len(chunk.ranges[0]) == 1


@pytest.mark.parametrize(("known_blocks", "first"), [(40, 1), (512, 8), (64_000, 1_000), (10**7, 4_096)])
def test_what_was_too_slow_to_be_read_at_once_is_read_in_much_smaller_parts(known_blocks, first):
    each = proof(known_blocks=known_blocks, sweep=known_blocks > 512)
    assert each.fresh(pace().chunk_blocks(each)) is not None
    each.read_in_ranges()
    assert pace().chunk_blocks(each) == first


def test_a_chunk_takes_a_third_of_a_short_lived_snapshot_at_most():
    sizes = pace(max_snapshot_age_s=1.5)
    assert sizes.chunk_blocks(measured(sizes, 4_096, 1.0)) == 2_048


@given(st.integers(1, 10**6), st.floats(1e-6, 1e6))
def test_chunks_are_neither_tiny_nor_huge(blocks, elapsed_s):
    sizes = pace()
    assert 256 <= sizes.chunk_blocks(measured(sizes, blocks, elapsed_s)) <= 131_072


def test_what_is_read_again_or_is_tiny_teaches_nothing():
    sizes = pace()
    assert measured(sizes, 4_096, 2.0, first=False).blocks_per_s is None
    assert measured(sizes, 255, 2.0).blocks_per_s is None
    assert measured(sizes, 4_096, 0.0).blocks_per_s is None


def request(known_blocks: int, *, sweep: bool) -> WholeRequest | SweepRequest | PartsRequest:
    each = proof(known_blocks=known_blocks, sweep=sweep)
    chunk = each.fresh(4_096)
    assert chunk is not None
    return pace().request(each, chunk)


def test_a_relation_is_read_whole_in_a_sweep_or_in_parts():
    assert request(100, sweep=False) == WholeRequest()
    assert request(5_000, sweep=False) == PartsRequest((BlockRange(0, 4_096),), LISTED_BLOCKS)
    assert isinstance(request(5_000, sweep=True), SweepRequest)


@given(st.integers(513, 10**6))
def test_a_sweep_is_cut_into_even_parts_that_can_be_listed_or_are_few(known_blocks):
    sweep = request(known_blocks, sweep=True)
    assert isinstance(sweep, SweepRequest)
    edges = [0, *sweep.bounds]
    steps = {later - earlier for earlier, later in pairwise(edges)}
    assert len(steps) == 1
    assert min(steps) >= LISTED_BLOCKS
    assert len(sweep.bounds) < 512
    assert known_blocks - min(steps) <= sweep.bounds[-1] < known_blocks


@given(st.integers(0, 5_000), st.booleans(), st.integers(0, 10**9), st.integers(300, 2_000))
def test_the_bytes_of_all_chunks_are_the_relations_within_rounding(known_blocks, sweep, size_bytes, step):
    each = RelationProof(relation(size_bytes=size_bytes), ["db2"], known_blocks=known_blocks, sweep=sweep)
    chunks = list(iter(lambda: each.fresh(step), None))
    total = sum(chunk_bytes(each, chunk) for chunk in chunks)
    assert size_bytes - len(chunks) <= total <= size_bytes


def test_what_is_read_again_counts_no_bytes():
    each = RelationProof(relation(size_bytes=100), ["db2"], known_blocks=1, sweep=False)
    again = Chunk(oid=1, epoch=0, ranges=(BlockRange(0, LAST_BLOCK),), needed=frozenset(), first=False)
    assert chunk_bytes(each, again) == 0
