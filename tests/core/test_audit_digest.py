"""Levels, seeds, sums and fingerprints."""

from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.digest import ENCODINGS, FINGERPRINT_MINIMUM_ROWS, added, fingerprint, new_hasher
from replcheck.audit.options import Level
from replcheck.postgres.digests import Digest

DIGESTS = st.builds(
    Digest, st.integers(0, 5_000), st.tuples(st.integers(-(1 << 70), 1 << 70), st.integers(-(1 << 70), 1 << 70))
)
CHUNKS = st.dictionaries(st.integers(0, 1 << 32), DIGESTS, min_size=1, max_size=6).map(lambda chunks: [*chunks.items()])
ENOUGH = Digest(FINGERPRINT_MINIMUM_ROWS, (1, 2))


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


@given(CHUNKS, st.data())
def test_a_fingerprint_does_not_depend_on_the_order_of_reading(chunks, data):
    assert fingerprint(chunks) == fingerprint(data.draw(st.permutations(chunks)))


@given(CHUNKS)
def test_no_fingerprint_of_few_rows_leaves_a_run(chunks):
    rows = sum(digest.rows for _, digest in chunks)
    assert (fingerprint(chunks) is None) == (rows < FINGERPRINT_MINIMUM_ROWS)


@given(CHUNKS, CHUNKS)
def test_different_chunks_have_different_fingerprints(some, others):
    some, others = [(1 << 33, ENOUGH), *some], [(1 << 33, ENOUGH), *others]
    assert (fingerprint(some) == fingerprint(others)) == (sorted(some, key=first) == sorted(others, key=first))


def first(chunk: tuple[int, Digest]) -> int:
    return chunk[0]


def test_a_fingerprint_tells_rows_sums_and_places_apart():
    prints = [
        fingerprint([(0, ENOUGH)]),
        fingerprint([(1, ENOUGH)]),
        fingerprint([(0, Digest(1_001, (1, 2)))]),
        fingerprint([(0, Digest(1_000, (2, 1)))]),
        fingerprint([(0, Digest(1_000, (12,)))]),
        fingerprint([(0, ENOUGH), (1, ENOUGH)]),
    ]
    assert None not in prints
    assert len(set(prints)) == len(prints)
    assert all(len(each or "") == 32 for each in prints)
