"""Damage that servers report themselves is told once, and again only where it goes on."""

from replcheck.model.live import EventKind, Slot
from tests.core.watched import Watch, healthy, kinds, only, primary, sample, standby


def failing(at, failures, **changes):
    return sample(at, primary(at), standby(at, checksum_failures=failures, **changes), standby(at, "db3"))


def test_a_checksum_failure_is_told_once():
    watch = Watch()
    watch.see(healthy(0), *(failing(number, 1) for number in range(1, 200)))
    assert watch.kinds() == [EventKind.CHECKSUM_FAILURE]
    assert only(watch.told, EventKind.CHECKSUM_FAILURE).node == "db2"


def test_failures_that_go_on_are_told_once_a_minute():
    watch = Watch()
    watch.see(*(failing(number, number) for number in range(601)))
    assert 9 <= len(watch.kinds()) <= 11
    assert "600" in watch.told[-1].what or "5" in watch.told[-1].what


def test_failures_from_before_the_watch_are_told_at_its_beginning():
    assert kinds(Watch().see(failing(0, 3))) == [EventKind.CHECKSUM_FAILURE]


def test_failures_after_the_statistics_were_reset_are_told():
    watch = Watch()
    watch.see(failing(0, 3), failing(50, 0), failing(100, 1))
    assert watch.kinds() == [EventKind.CHECKSUM_FAILURE, EventKind.CHECKSUM_FAILURE]


def test_where_failures_may_not_be_seen_nothing_is_told():
    watch = Watch()
    watch.see(failing(0, None), failing(1, None))
    assert watch.kinds() == []
    assert watch.node("db2").checksum_failures is None


def test_a_slot_that_lost_its_wal_is_told_once_by_its_name():
    watch = Watch()
    lost = Slot(name="db3", logical=False, active=False, retained_bytes=None, wal_status="lost")
    watch.see(healthy(0), *(sample(number, primary(number, slots=(lost,)), standby(number)) for number in (1, 2, 3)))
    event = only(watch.told, EventKind.SLOT_LOST)
    assert (event.node, event.detail) == ("db1", "db3")
