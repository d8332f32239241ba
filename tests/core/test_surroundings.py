"""What a machine lacks may leave a relation of a dump empty or other; what cannot come of that accuses the dump."""

import pytest

from replcheck.drill.sealed_comparison import LocaleTies, Surroundings

MONEY, COMPUTED = LocaleTies(monetary=True), LocaleTies(computed=True)


@pytest.mark.parametrize(
    ("surroundings", "kind", "empty", "ties"),
    [
        (Surroundings(lacking=True), "absent", False, LocaleTies()),
        (Surroundings(lacking=True), "missing", True, LocaleTies()),
        (Surroundings(other_locale=True), "missing", True, LocaleTies()),
        (Surroundings(other_locale=True), "changed", False, COMPUTED),
        (Surroundings(), "changed", False, MONEY),
        (Surroundings(), "missing", True, MONEY),
    ],
)
def test_a_difference_that_this_machine_may_have_made_is_excused(surroundings, kind, empty, ties):
    assert surroundings.excuse(kind, empty=empty, ties=ties)


@pytest.mark.parametrize(
    ("surroundings", "kind", "empty", "ties"),
    [
        (Surroundings(), "absent", False, LocaleTies()),
        (Surroundings(), "missing", True, LocaleTies()),
        (Surroundings(), "changed", False, COMPUTED),
        (Surroundings(lacking=True, other_locale=True), "changed", False, LocaleTies()),
        (Surroundings(lacking=True, other_locale=True), "missing", False, LocaleTies()),
        (Surroundings(lacking=True, other_locale=True), "extra", False, MONEY),
        (Surroundings(), "missing", False, MONEY),
    ],
)
def test_any_other_difference_accuses_the_dump(surroundings, kind, empty, ties):
    assert surroundings.excuse(kind, empty=empty, ties=ties) == ""
