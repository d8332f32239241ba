"""What explains a row that differs: only a transaction that one side sees, and only in the right direction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.explanation import RowVersion, differing, explain, questionable_multixacts
from replcheck.audit.visibility import Unsettled
from replcheck.model.audit import DifferenceKind
from tests.core.heaps import digest_of

EPOCH = 1 << 32
OLD, XID = 700, 5_000
HERE = (4, 2)


def version(xmin: int = OLD, xmax: int = 0, content: str = "") -> RowVersion:
    return RowVersion(HERE, xmin, xmax, digest_of(content))


def unsettled(side: str, *xids: int) -> Unsettled:
    """Return transactions that are unsettled in one direction, or in both."""
    return Unsettled(
        behind=frozenset(xids if side in ("behind", "both") else ()),
        ahead=frozenset(xids if side in ("ahead", "both") else ()),
    )


def in_flight(
    there: RowVersion | None,
    here: RowVersion | None,
    difference: Unsettled,
    updaters: dict[int, frozenset[int]] | None = None,
) -> bool:
    """Explain the one position that differs."""
    primary = [there] if there is not None else []
    replica = [here] if here is not None else []
    (row,) = explain(primary, replica, difference, updaters or {})
    assert row.ctid == HERE
    return row.in_flight


EXPLAINED = [
    ("inserted, and the replica does not see it yet", version(xmin=XID), None, "behind"),
    ("deleted, and the replica does not see it yet", None, version(xmax=XID), "behind"),
    ("inserted, and the primary does not see it yet", None, version(xmin=XID), "ahead"),
    ("deleted, and the primary does not see it yet", version(xmax=XID), None, "ahead"),
    ("replaced, and the replica sees the old row", version(xmin=XID), version(OLD, XID, "old"), "behind"),
    ("replaced, and the primary sees the old row", version(OLD, XID, "old"), version(xmin=XID), "ahead"),
]
CASES = pytest.mark.parametrize(
    ("there", "here", "side"), [case[1:] for case in EXPLAINED], ids=[c[0] for c in EXPLAINED]
)


@CASES
def test_a_row_is_in_flight_where_it_was(there, here, side):
    assert in_flight(there, here, unsettled(side, XID))


@CASES
def test_a_transaction_of_the_other_direction_explains_nothing(there, here, side):
    other = {"behind": "ahead", "ahead": "behind"}[side]
    assert not in_flight(there, here, unsettled(other, XID))


@CASES
def test_another_transaction_explains_nothing(there, here, side):
    assert not in_flight(there, here, unsettled(side, XID + 1))


@CASES
@pytest.mark.parametrize("epoch", [1, 5, 1 << 30])
def test_headers_hold_the_lower_half_of_an_xid(there, here, side, epoch):
    assert in_flight(there, here, unsettled(side, epoch * EPOCH + XID))


@CASES
def test_a_transaction_in_doubt_explains_in_both_directions(there, here, side):
    assert in_flight(there, here, unsettled("both", XID))


def test_a_deleter_may_hide_in_a_multixact_beside_lockers():
    members = {77: frozenset({XID})}
    assert in_flight(None, version(xmax=77), unsettled("behind", XID), members)
    assert in_flight(version(xmax=77), None, unsettled("ahead", XID), members)
    assert not in_flight(None, version(xmax=77), unsettled("ahead", XID), members)
    assert not in_flight(version(xmax=77), None, unsettled("behind", XID), members)
    assert not in_flight(None, version(xmax=78), unsettled("behind", XID), members)


def test_an_updater_of_long_ago_in_a_multixact_explains_nothing():
    assert not in_flight(None, version(xmax=77), unsettled("behind", XID), {77: frozenset({OLD})})


def test_one_version_with_two_contents_is_never_in_flight():
    """The same inserter at the same place is the same row: nothing in flight changes its columns."""
    there, here = version(XID, XID, "one"), version(XID, XID, "two")
    assert not in_flight(there, here, unsettled("both", XID))


def test_a_changed_row_needs_both_sides_explained():
    assert not in_flight(version(xmin=XID), version(OLD, 0, "old"), unsettled("behind", XID))
    assert not in_flight(version(OLD, 0), version(600, XID, "old"), unsettled("behind", XID))


ROWS = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(1, 3)), st.tuples(st.integers(1, 3), st.sampled_from("ab")), max_size=9
).map(lambda rows: [RowVersion(ctid, xmin, 0, digest_of(content)) for ctid, (xmin, content) in rows.items()])


@given(ROWS, ROWS)
def test_rows_differ_where_one_side_lacks_them_or_holds_something_else(there, here):
    kinds = differing(there, here)
    primary, replica = ({row.ctid: row.digest for row in rows} for rows in (there, here))
    for ctid in primary.keys() | replica.keys():
        expected = None if primary.get(ctid) == replica.get(ctid) else DifferenceKind.CHANGED
        if expected is not None and ctid not in replica:
            expected = DifferenceKind.MISSING
        if expected is not None and ctid not in primary:
            expected = DifferenceKind.EXTRA
        assert kinds.get(ctid) is expected


@given(ROWS, ROWS)
def test_nothing_is_in_flight_where_nothing_is_unsettled(there, here):
    assert not any(row.in_flight for row in explain(there, here, Unsettled(), {}))


@given(ROWS, ROWS)
def test_every_position_that_differs_is_told_once_in_order(there, here):
    told = [row.ctid for row in explain(there, here, Unsettled(behind=frozenset({1})), {})]
    assert told == sorted(differing(there, here))


def test_only_the_xmax_of_rows_that_differ_may_be_a_multixact_worth_asking_for():
    same, other = version(), RowVersion((9, 9), OLD, 88, digest_of("x"))
    asked = questionable_multixacts([same, other], [same], Unsettled(behind=frozenset({XID})))
    assert asked == {88}
    alike = questionable_multixacts([other], [other], Unsettled(behind=frozenset({XID})))
    assert alike == frozenset()


def test_an_xmax_that_is_zero_or_unsettled_itself_is_not_asked_for():
    there = [version(xmax=XID), RowVersion((9, 9), OLD, 0, digest_of("x"))]
    for difference in (Unsettled(behind=frozenset({EPOCH + XID})), Unsettled(ahead=frozenset({EPOCH + XID}))):
        assert questionable_multixacts(there, [], difference) == frozenset()


def test_no_multixact_is_asked_for_where_nothing_is_unsettled():
    assert questionable_multixacts([version(xmax=88)], [], Unsettled()) == frozenset()
