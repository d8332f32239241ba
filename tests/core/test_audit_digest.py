"""Levels, seeds and sums."""

from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.digest import ENCODINGS, added, new_hasher
from replcheck.audit.options import Level
from replcheck.postgres.digests import Digest

DIGESTS = st.builds(
    Digest, st.integers(0, 5_000), st.tuples(st.integers(-(1 << 70), 1 << 70), st.integers(-(1 << 70), 1 << 70))
)


def test_every_level_has_an_encoding_of_its_own_with_a_version():
    assert {level.value: ENCODINGS[level].name for level in Level} == {
        "fast": "fast/1",
        "exact": "exact/1",
        "strong": "strong/1",
    }


def test_only_fast_compares_by_equality_and_only_strong_has_two_seeds():
    assert {level for level in Level if new_hasher(level).how().by_equality} == {Level.FAST}
    assert {level: len(new_hasher(level).seeds) for level in Level} == {
        Level.FAST: 1,
        Level.EXACT: 1,
        Level.STRONG: 2,
    }


def test_hashing_by_column_is_never_by_equality():
    how = new_hasher(Level.FAST).how(by_column=True)
    assert how.by_column
    assert not how.by_equality


def test_seeds_differ_from_run_to_run_and_fit_a_bigint():
    seeds = {seed for _ in range(50) for seed in new_hasher(Level.STRONG).seeds}
    assert len(seeds) == 100
    assert all(0 <= seed < 1 << 63 for seed in seeds)


@given(st.lists(DIGESTS, min_size=1, max_size=6), st.data())
def test_sums_do_not_depend_on_how_rows_are_grouped(digests, data):
    cut = data.draw(st.integers(1, len(digests)))
    grouped = [added(digests[:cut]), *digests[cut:]]
    assert added(grouped) == added(data.draw(st.permutations(digests)))


@given(DIGESTS, DIGESTS)
def test_equal_rows_do_not_cancel(some, other):
    total = added([some, other])
    assert total.rows == some.rows + other.rows
    assert total.sums == tuple(a + b for a, b in zip(some.sums, other.sums, strict=True))
