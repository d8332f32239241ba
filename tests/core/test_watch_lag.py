"""How far standbys are behind: an idle primary, a delay on purpose and a paused replay are told apart."""

from replcheck.model.live import EventKind
from replcheck.model.wal import Lsn
from replcheck.watch.limits import WatchLimits
from replcheck.watch.marks import Marks, extended, reached
from tests.core.watched import Watch, healthy, kinds, only, primary, sample, second, silence, standby

LIMITS = WatchLimits(lag_s=10, lag_bytes=1_000_000)


def behind(at, *, written=None, replayed=1000, xid=None, **changes):
    """Return a sample in which db2 has replayed less than the primary has written."""
    written = 1000 + at if written is None else written
    answer = primary(at, lsn=written, next_xid=xid or at, oldest_xid=xid or at)
    return sample(at, answer, standby(at, lsn=replayed, received_lsn=written, **changes))


def test_an_idle_primary_makes_no_lag_however_old_the_last_commit_is():
    watch = Watch(LIMITS)
    for number in range(0, 600, 5):
        watch.see(
            sample(number, primary(number, next_xid=7, oldest_xid=7), standby(number, replayed_commit_at=second(-9e4)))
        )
    assert (watch.node("db2").lag_s, watch.node("db2").lag_bytes) == (0.0, 0)
    assert watch.kinds() == []


def test_housekeeping_of_an_idle_primary_makes_no_lag_in_seconds():
    watch = Watch(LIMITS)
    watch.see(*(behind(number, xid=7) for number in range(40)))
    assert watch.node("db2").lag_s == 0.0


def test_lag_in_seconds_is_the_age_of_what_the_standby_shows():
    watch = Watch(LIMITS)
    watch.see(healthy(0), *(behind(number) for number in range(1, 8)))
    # All that was committed by the sample at 0 s was replayed, and something after it was not.
    assert watch.node("db2").lag_s == 7.01
    assert watch.node("db2").lag_bytes == 7


def test_a_commit_that_the_standby_replayed_makes_the_age_exact():
    watch = Watch(LIMITS)
    watch.see(healthy(0), *(behind(n, replayed_commit_at=second(n - 0.5)) for n in range(1, 8)))
    assert watch.node("db2").lag_s == 0.51


def test_a_first_sample_takes_the_age_from_the_last_replayed_commit():
    watch = Watch(LIMITS)
    watch.see(behind(0, written=5000, replayed_commit_at=second(-20)))
    assert watch.node("db2").lag_s == 20.01


def test_lag_over_the_limit_is_told_once_and_once_that_it_is_back():
    watch = Watch(LIMITS)
    watch.see(healthy(0), *(behind(number) for number in range(1, 30)))
    event = only(watch.told, EventKind.LAG_OVER)
    assert (event.node, event.at, event.size_bytes) == ("db2", second(10.01), 10)
    told = watch.see(sample(30, primary(30, lsn=1030, next_xid=30, oldest_xid=30), standby(30, lsn=1030)))
    assert kinds(told) == [EventKind.LAG_BACK]
    assert only(told, EventKind.LAG_BACK).seconds == 20.0


def test_a_standby_that_replays_late_on_purpose_is_over_the_limit_by_what_goes_beyond():
    watch = Watch(LIMITS)
    watch.see(healthy(0), *(behind(number, apply_delay_s=20.0) for number in range(1, 30)))
    assert watch.kinds() == []
    watch.see(behind(31, apply_delay_s=20.0))
    assert watch.kinds() == [EventKind.LAG_OVER]


def test_a_paused_replay_is_told_as_such_before_it_makes_lag():
    watch = Watch(LIMITS)
    watch.see(healthy(0), *(behind(number, replay_paused=True) for number in range(1, 30)))
    assert watch.kinds() == [EventKind.REPLAY_PAUSED, EventKind.LAG_OVER]
    assert "its replay is paused" in only(watch.told, EventKind.LAG_OVER).what
    told = watch.see(behind(30, replay_paused=False, replayed=1030))
    assert kinds(told) == [EventKind.LAG_BACK, EventKind.REPLAY_RESUMED]
    assert only(told, EventKind.REPLAY_RESUMED).seconds == 29.0


def test_lag_in_bytes_has_a_limit_of_its_own():
    watch = Watch(LIMITS)
    watch.see(healthy(0), behind(1, written=5_000_000))
    assert "4.8MB" in only(watch.told, EventKind.LAG_OVER).what


def test_lag_is_unknown_while_the_primary_does_not_answer():
    watch = Watch(LIMITS)
    watch.see(sample(0, standby(0)))
    assert (watch.node("db2").lag_s, watch.node("db2").lag_bytes) == (None, None)


def test_the_empty_head_of_a_page_is_no_lag():
    watch = Watch(LIMITS)
    watch.see(behind(0, written=0x3000028, replayed=0x3000000))
    assert (watch.node("db2").lag_s, watch.node("db2").lag_bytes) == (0.0, 0)


def test_bounded_marks_tell_the_age_of_any_position_and_never_too_young():
    marks: Marks = ()
    for number in range(100_000):
        marks = extended(marks, primary(number, lsn=1000 + number, next_xid=number, oldest_xid=number))
    assert len(marks) <= 600
    for age in (1, 10, 250, 1_000, 30_000, 99_000):
        at = reached(marks, Lsn(1000 + 99_999 - age)).at
        assert at is not None
        told = (second(99_999) - at).total_seconds()
        assert age <= told <= age * 1.1 + 1


def test_a_paused_replay_and_its_lag_are_over_with_the_promotion():
    watch = Watch(LIMITS)
    watch.see(healthy(0), *(behind(number, replay_paused=True) for number in range(1, 30)))
    told = watch.see(sample(30, silence(30, "db1"), primary(30, "db2", timeline=2)))
    assert {EventKind.REPLAY_RESUMED, EventKind.LAG_BACK} <= set(kinds(told))
