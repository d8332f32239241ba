"""Rows of a copy beside the primary's: what came later is counted, and an empty copy is never called proven."""

from hypothesis import given
from hypothesis import strategies as st

from replcheck.drill.later_rows import Judged, judge_rows
from replcheck.postgres.digests import ListedRow

_POINT = 100


def row(offset: int, xmin: int, content: int = 1) -> ListedRow:
    return ListedRow(0, offset, xmin, 0, (content,))


def judged(there: list[ListedRow], here: list[ListedRow]) -> Judged:
    return judge_rows(there, here, is_later=lambda xid: xid > _POINT)


def test_an_empty_copy_beside_rows_that_are_all_later_shows_nothing():
    found = judged([row(n, 101 + n) for n in range(1000)], [])
    assert (found.equal, found.later, found.moved_on, found.suspects) == (0, 1000, 0, frozenset())
    assert found.nothing_shown


def test_an_append_only_relation_of_which_the_copy_has_rows_shows_them_and_counts_the_rest():
    found = judged([row(1, 50), row(2, 101)], [row(1, 50)])
    assert (found.equal, found.later, found.nothing_shown) == (1, 1, False)


def test_a_relation_that_is_empty_on_both_sides_is_not_doubted():
    assert not judged([], []).nothing_shown


offsets = st.sets(st.integers(0, 30))


@given(offsets, offsets, offsets)
def test_every_row_of_the_primary_is_accounted_for_once(old, new, lost):
    there = [row(n, 50) for n in old] + [row(n, 150) for n in new - old]
    here = [row(n, 50) for n in old - lost]
    found = judged(there, here)
    assert found.equal + found.later + len(found.missing) == len(there)
    assert found.later == len(new - old)
    assert found.moved_on == 0
