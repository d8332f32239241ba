"""Sets of blocks behave as sets of blocks."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from replcheck.tui.ranges import Ranges, added, overlap, removed, size

EDGES = st.tuples(st.integers(0, 40), st.integers(0, 40))
STEPS = st.lists(st.tuples(st.booleans(), EDGES), max_size=30)


@given(STEPS, EDGES)
def test_adding_and_removing_ranges_is_adding_and_removing_blocks(steps, window):
    ranges: Ranges = ()
    blocks = set[int]()
    for adds, (first, end) in steps:
        ranges = added(ranges, first, end) if adds else removed(ranges, first, end)
        blocks = blocks | set(range(first, end)) if adds else blocks - set(range(first, end))
    assert {block for first, end in ranges for block in range(first, end)} == blocks
    assert all(low < high for low, high in ranges)
    assert all(before[1] < after[0] for before, after in pairwise(ranges))
    assert size(ranges) == len(blocks)
    assert overlap(ranges, *window) == len(blocks & set(range(*window)))
