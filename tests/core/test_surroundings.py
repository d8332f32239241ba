"""What a machine lacks may leave a relation of a dump empty or other; what cannot come of that accuses the dump."""

import pytest

from replcheck.drill.sealed_comparison import Surroundings

LACKING, ELSEWHERE = Surroundings(lacking=True), Surroundings(other_locale=True)
BOTH = Surroundings(lacking=True, other_locale=True)


@pytest.mark.parametrize(
    ("surroundings", "kind", "empty", "computed"),
    [
        (LACKING, "absent", False, False),
        (LACKING, "missing", True, False),
        (ELSEWHERE, "missing", True, False),
        (ELSEWHERE, "changed", False, True),
        (ELSEWHERE, "extra", False, True),
    ],
)
def test_a_difference_that_this_machine_may_have_made_is_excused(surroundings, kind, empty, computed):
    assert surroundings.excuse(kind, empty=empty, computed=computed)


@pytest.mark.parametrize(
    ("surroundings", "kind", "empty", "computed"),
    [
        (Surroundings(), "absent", False, False),
        (Surroundings(), "missing", True, True),
        (LACKING, "changed", False, True),
        (BOTH, "changed", False, False),
        (BOTH, "missing", False, False),
        (BOTH, "extra", False, False),
    ],
)
def test_any_other_difference_accuses_the_dump(surroundings, kind, empty, computed):
    assert surroundings.excuse(kind, empty=empty, computed=computed) == ""
