"""Sizes and durations are read and written as PostgreSQL does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.model.units import format_age, format_ago, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("0B", 0), ("8kB", 8192), ("64MB", 64 << 20), ("1 GB", 1 << 30), ("2TB", 2 << 40)]
)
def test_sizes_are_powers_of_1024(text, size_bytes):
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["64", "64mb", "64 KB", "-1MB", "MB", "", "1e3MB", 64, None, True])
def test_a_size_without_a_unit_of_postgresql_is_refused(text):
    with pytest.raises(ValueError, match="a size such as 64MB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("60s", 60), ("5min", 300), ("24h", 86400), ("30d", 2592000), ("250us", 25e-5)],
)
def test_durations_know_the_units_of_postgresql(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["5m", "5", "5 minutes", "min", "-5s", 5])
def test_a_duration_without_a_unit_of_postgresql_is_refused(text):
    with pytest.raises(ValueError, match="a duration such as 5min"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=1 << 60))
def test_a_written_size_reads_back_nearly_the_same(size_bytes):
    assert parse_size(format_size(size_bytes)) == pytest.approx(size_bytes, rel=0.06)


@given(st.floats(min_value=0.001, max_value=1e8))
def test_a_written_duration_reads_back_nearly_the_same(seconds):
    written = sum(parse_duration(part) for part in format_duration(seconds).split())
    assert written == pytest.approx(seconds, rel=0.06, abs=0.0006)


@given(st.floats(min_value=0.0006, max_value=1e11))
def test_a_duration_below_nothing_is_written_as_the_same_one_with_a_sign(seconds):
    assert format_duration(-seconds) == f"-{format_duration(seconds)}"


@pytest.mark.parametrize(
    ("seconds", "ago", "age"),
    [
        (7260, "2h 1min ago", "2h 1min old"),
        (0, "0ms ago", "0ms old"),
        (-0.4, "0ms ago", "0ms old"),  # clocks differ by fractions of seconds
        (-1, "1s ahead of the clock", "dated 1s ahead of the clock"),
        (-31_536_000, "365d ahead of the clock", "dated 365d ahead of the clock"),
    ],
)
def test_a_time_that_lies_ahead_reads_so_in_words(seconds, ago, age):
    assert (format_ago(seconds), format_age(seconds)) == (ago, age)
