"""Which transactions a snapshot sees, against a model of a primary and its standby under random histories."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.visibility import (
    Position,
    Sight,
    Unsettled,
    View,
    distrusted,
    position,
    unsettled,
    view_of,
)
from replcheck.postgres.snapshots import Anchor, SnapshotReading, has_replayed_ends
from tests.core.histories import History, ModelServer, Unit, finish, histories, take_anchor, take_snapshot

WRAP = 1 << 32
FIRST_XIDS = st.sampled_from([3, 1000, WRAP - 8, 5 * WRAP - 20, 7 * WRAP + 3])
NO_XIDS = frozenset[int]()


@dataclass
class Pair:
    """Snapshots of a primary and a standby, with the truth."""

    history: History
    anchor: Anchor
    primary: ModelServer
    standby: ModelServer
    there: View
    here: View

    @property
    def only_primary(self) -> set[int]:
        return {xid for xid in self.history.xids if self.primary.sees(xid) and not self.standby.sees(xid)}

    @property
    def only_standby(self) -> set[int]:
        return {xid for xid in self.history.xids if self.standby.sees(xid) and not self.primary.sees(xid)}

    @property
    def candidates(self) -> frozenset[int]:
        return self.anchor.open_xids | set(range(self.anchor.xmax, max(self.there.xmax, self.here.xmax)))


def fold(reading: SnapshotReading) -> View:
    return view_of(
        xmin=reading.xmin,
        xmax=reading.xmax,
        known_before=reading.known_before,
        unfinished_before=reading.unfinished_before,
        in_progress=reading.in_progress,
        aborted=reading.aborted,
    )


@st.composite
def pairs(draw, *, first_xids=FIRST_XIDS, still: bool = False, quiet: bool = False, hasty_status: bool = False) -> Pair:
    """Draw a history and two snapshots of it after an anchor; with `still` nothing happens while a server is asked."""
    history = draw(histories(first_xids=first_xids, quiet=quiet))
    steps = iter(()) if still else iter(draw(st.lists(st.sampled_from([0, 0, 0, 1, 2, 5]), max_size=200)))
    moment = draw(st.integers(0, len(history.events)))
    primary = ModelServer(history, primary=True, moment=moment, steps=steps, hasty_status=hasty_status)
    anchor = take_anchor(primary)
    for distance in draw(st.lists(st.integers(0, 20), max_size=2)):
        primary.moment = min(primary.moment + distance, primary.last_moment)
        anchor = take_anchor(primary, anchor)
    later = draw(st.integers(primary.moment, len(history.events)))
    primary.moment = len(history.events) if quiet else later
    there = fold(take_snapshot(primary, anchor))
    replayed = len(history.wal) if quiet else draw(st.integers(anchor.lsn, len(history.wal)))
    standby = ModelServer(history, primary=False, moment=replayed, steps=steps)
    here = fold(take_snapshot(standby, anchor))
    return Pair(history, anchor, primary, standby, there, here)


@given(pairs())
def test_what_exactly_one_side_sees_is_unsettled_in_the_right_direction(pair):
    difference = unsettled(pair.there, pair.here)
    assert pair.only_primary <= difference.behind
    assert pair.only_standby <= difference.ahead


@given(pairs())
def test_an_exact_alignment_sees_the_same_on_both_sides(pair):
    if position(unsettled(pair.there, pair.here)) is Position.ALIGNED:
        assert not pair.only_primary
        assert not pair.only_standby


@given(pairs(first_xids=st.just(1000)))
def test_without_doubt_the_unsettled_are_exactly_what_one_side_sees(pair):
    if not (pair.there.doubtful or pair.here.doubtful):
        difference = unsettled(pair.there, pair.here)
        assert difference == Unsettled(behind=frozenset(pair.only_primary), ahead=frozenset(pair.only_standby))


@given(pairs(still=True))
def test_nothing_is_doubtful_where_nothing_happened_while_a_server_was_asked(pair):
    assert not pair.there.doubtful
    assert not pair.here.doubtful


@given(pairs(quiet=True, still=True))
def test_a_quiet_primary_and_a_standby_that_replayed_everything_are_aligned(pair):
    assert position(unsettled(pair.there, pair.here)) is Position.ALIGNED


@given(histories(first_xids=FIRST_XIDS), st.integers(0, 4), st.integers(0, 4))
def test_a_standby_that_has_replayed_all_ends_before_an_anchor_has_no_other_left(history, before, unreplayed):
    """Whatever of the anchor's WAL it has not replayed."""
    primary = ModelServer(history, primary=True, moment=max(0, len(history.events) - before), steps=iter(()))
    anchor = take_anchor(primary)
    standby = ModelServer(history, primary=False, moment=max(0, len(history.wal) - unreplayed), steps=iter(()))
    if finish(has_replayed_ends(standby, anchor)):  # type: ignore[arg-type]
        ended = {xid for unit in standby.ended(standby.moment) for xid in unit.xids}
        assert {xid for xid in history.xids if xid < anchor.xmax} - anchor.open_xids <= ended


def test_a_transaction_that_is_open_on_the_primary_stands_for_no_other():
    """Its end is replayed before the primary shows it, and that of a younger one, which the primary shows, is not."""
    older, younger = Unit((1000,), committed=True), Unit((1001,), committed=True)
    events = [("assigned", 1000), ("assigned", 1001), ("logged", older), ("logged", younger), ("shown", younger)]
    history = History(first_xid=1000, events=events)
    anchor = take_anchor(ModelServer(history, primary=True, moment=len(events), steps=iter(())))
    assert (set(anchor.open_xids), anchor.xmax) == ({1000}, 1002)
    for replayed, enough in ((0, False), (1, False), (2, True)):
        standby = ModelServer(history, primary=False, moment=replayed, steps=iter(()))
        assert finish(has_replayed_ends(standby, anchor)) is enough  # type: ignore[arg-type]


@given(pairs(quiet=True, first_xids=st.just(1000)))
def test_a_standby_of_a_quiet_primary_has_replayed_all_ends_however_long_the_wal_behind_them_is(pair):
    assert finish(has_replayed_ends(pair.standby, pair.anchor))


@given(pairs(), st.lists(st.integers(0, 9), max_size=30))
def test_a_standby_that_is_ahead_for_certain_stays_ahead(pair, steps):
    if pair.there.doubtful or pair.here.doubtful:
        return
    if position(unsettled(pair.there, pair.here)) is Position.AHEAD:
        later = ModelServer(pair.history, primary=False, moment=pair.standby.moment, steps=iter(steps))
        view = fold(take_snapshot(later, pair.anchor))
        assert position(unsettled(pair.there, view)) is Position.AHEAD


@given(pairs(hasty_status=True))
def test_a_distrusted_status_settles_nothing_falsely(pair):
    since = min(pair.there.xmin, pair.anchor.xmax)
    asked = pair.candidates | frozenset(range(since, pair.there.xmax))
    difference = unsettled(distrusted(pair.there, asked), distrusted(pair.here, asked))
    assert pair.only_primary <= difference.behind
    assert pair.only_standby <= difference.ahead


@given(pairs())
def test_each_view_says_of_each_transaction_the_truth_or_that_it_is_in_doubt(pair):
    for view, server in ((pair.there, pair.primary), (pair.here, pair.standby)):
        for xid in pair.candidates & frozenset(pair.history.xids):
            sight = view.sight(xid)
            assert sight is Sight.DOUBTFUL or (sight is Sight.SEEN) == server.sees(xid)


def view(xmax: int = 10, **sets: frozenset[int]) -> View:
    given_sets = {"in_progress": NO_XIDS, "doubtful": NO_XIDS, "aborted": NO_XIDS} | sets
    return View(xmin=1, xmax=xmax, **given_sets)


def test_a_transaction_that_ended_around_the_snapshot_is_in_doubt():
    folded = view_of(
        xmin=5, xmax=9, known_before=9, unfinished_before=frozenset({6, 9}), in_progress=NO_XIDS, aborted=NO_XIDS
    )
    assert folded.doubtful == {6}


def test_a_transaction_that_began_after_the_first_question_is_in_doubt():
    folded = view_of(xmin=5, xmax=9, known_before=7, unfinished_before=NO_XIDS, in_progress=NO_XIDS, aborted=NO_XIDS)
    assert folded.doubtful == {7, 8}


def test_no_doubt_is_left_below_xmin():
    folded = view_of(
        xmin=8, xmax=9, known_before=7, unfinished_before=frozenset({5}), in_progress=NO_XIDS, aborted=NO_XIDS
    )
    assert folded.doubtful == {8}


def test_an_aborted_transaction_is_never_unsettled():
    aborted = frozenset({9})
    assert not len(unsettled(view(aborted=aborted), view(xmax=9)))
    assert not len(unsettled(view(aborted=aborted, doubtful=aborted), view(doubtful=aborted)))
    assert not len(unsettled(view(in_progress=aborted), view(aborted=aborted)))


def test_what_both_doubt_is_unsettled_in_both_directions():
    doubt = frozenset({9})
    assert unsettled(view(doubtful=doubt), view(doubtful=doubt)) == Unsettled(behind=doubt, ahead=doubt)


def test_what_one_side_doubts_is_unsettled_in_the_direction_that_is_possible():
    doubt = frozenset({9})
    assert unsettled(view(), view(doubtful=doubt)) == Unsettled(behind=doubt)
    assert unsettled(view(doubtful=doubt), view()) == Unsettled(ahead=doubt)
    assert unsettled(view(doubtful=doubt), view(in_progress=doubt)) == Unsettled(behind=doubt)
    assert unsettled(view(in_progress=doubt), view(doubtful=doubt)) == Unsettled(ahead=doubt)


def test_what_began_between_the_snapshots_is_unsettled():
    assert unsettled(view(xmax=12), view(xmax=10)) == Unsettled(behind=frozenset({10, 11}))
    assert unsettled(view(xmax=10), view(xmax=12)) == Unsettled(ahead=frozenset({10, 11}))


def test_a_commit_that_the_standby_shows_first_is_ahead():
    """A primary shows a commit after its standby may have replayed it (the long fork)."""
    running = frozenset({7})
    difference = unsettled(view(in_progress=running), view())
    assert difference == Unsettled(ahead=running)
    assert position(difference) is Position.AHEAD


def test_a_standby_that_is_both_behind_and_ahead_counts_as_ahead():
    assert position(Unsettled(behind=frozenset({1}), ahead=frozenset({2}))) is Position.AHEAD
    assert position(Unsettled(behind=frozenset({1}))) is Position.BEHIND
    assert position(Unsettled()) is Position.ALIGNED


def test_a_transaction_unsettled_in_both_directions_counts_once():
    assert len(Unsettled(behind=frozenset({1, 2}), ahead=frozenset({2, 3}))) == 3


def test_a_hasty_status_would_settle_falsely_if_it_were_trusted():
    """The primary calls 7 committed before it shows it: only distrust keeps it unsettled."""
    there = view_of(xmin=7, xmax=9, known_before=9, unfinished_before=NO_XIDS, in_progress=NO_XIDS, aborted=NO_XIDS)
    here = view(xmax=9)
    assert not len(unsettled(there, here))
    candidates = frozenset({7, 8})
    assert unsettled(distrusted(there, candidates), here).ahead == candidates


def test_distrust_leaves_alone_what_is_not_seen():
    known = view(in_progress=frozenset({3}), aborted=frozenset({4}))
    doubted = distrusted(known, frozenset({3, 4, 5, 11}))
    assert doubted.doubtful == {5}
    assert (doubted.in_progress, doubted.aborted, doubted.xmax) == (known.in_progress, known.aborted, known.xmax)
