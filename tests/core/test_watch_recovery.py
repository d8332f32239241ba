"""To which second the archive could restore: from positions and names of files, never from a status word."""

from dataclasses import replace
from typing import Any

import pytest

from replcheck.model.live import EventKind, WalMark
from replcheck.model.wal import Lsn
from replcheck.watch.limits import WatchLimits
from replcheck.watch.topology import begin
from tests.core.watched import NODES, SEGMENT, Watch, archiver, only, primary, sample, second, sender, silence, standby

LIMITS = WatchLimits(recovery_age_s=60)
FILE = "000000010000000000000002"
"""Ends at 0/3000000."""
END = 3 * SEGMENT


def writing(at, lsn, *, last=FILE, xid=None, **changes):
    """Return a sample of a primary that archives and has written so far."""
    found = {"archiver": archiver(archived=2, last_archived=last, last_archived_at=second(-1))} | changes
    return sample(at, primary(at, lsn=lsn, next_xid=xid or at, oldest_xid=xid or at, **found))


def point(watch):
    return watch.state.view.recovery_point


def test_nothing_left_to_archive_is_no_age():
    watch = Watch(LIMITS)
    watch.see(*(writing(number, END - 100) for number in range(5)))
    assert (point(watch).age_s, point(watch).at, point(watch).reason) == (0.0, second(4.01), "")


def test_the_age_is_that_of_the_oldest_wal_that_is_not_archived():
    watch = Watch(LIMITS)
    watch.see(writing(0, END - 100), writing(10, END + 100), writing(25, END + 200))
    assert (point(watch).at, point(watch).age_s) == (second(0), 25.01)


def test_the_age_goes_back_when_a_file_is_archived():
    watch = Watch(LIMITS)
    watch.see(writing(0, END - 100), writing(10, END + 100), writing(20, END + SEGMENT + 50))
    watch.see(writing(21, END + SEGMENT + 99, last="000000010000000000000003"))
    assert (point(watch).at, point(watch).age_s) == (second(10), 11.01)


def test_housekeeping_of_an_idle_primary_leaves_nothing_to_archive():
    watch = Watch(LIMITS)
    watch.see(writing(0, END + 40, xid=7), *(writing(number, END + 100, xid=7) for number in range(1, 300, 5)))
    assert point(watch).age_s == 0.0
    assert watch.kinds() == []


def test_a_recovery_point_over_the_limit_is_told_once_and_once_that_it_is_back():
    watch = Watch(LIMITS)
    watch.see(writing(0, END - 100), *(writing(number, END + 100 + number) for number in range(5, 100, 5)))
    event = only(watch.told, EventKind.RECOVERY_POINT_OVER)
    assert (event.at, event.began_at) == (second(60.01), second(0))
    watch.see(writing(100, END + 100, last="000000010000000000000003"))
    assert only(watch.told, EventKind.RECOVERY_POINT_BACK).seconds == 40.0


def test_without_archive_the_recovery_point_is_unknown_with_its_reason():
    watch = Watch(LIMITS)
    watch.see(sample(0, primary(0)))
    assert (point(watch).at, point(watch).age_s) == (None, None)
    assert point(watch).reason == "archive_mode is off, and no pg_receivewal is connected"


def test_a_wal_receiver_archives_what_it_has_flushed():
    watch = Watch(LIMITS)
    keeping = sender("pg_receivewal", replayed_lsn=None, flushed_lsn=Lsn(1500))
    watch.see(sample(0, primary(0, lsn=1400, senders=(keeping,))), sample(5, primary(5, lsn=1600, senders=(keeping,))))
    assert (point(watch).at, point(watch).age_s) == (second(0), 5.01)


def test_a_first_look_knows_only_what_the_files_tell():
    watch = Watch(LIMITS)
    watch.see(writing(0, END + 500))
    assert point(watch).at is None
    assert "the watch began after" in point(watch).reason


def test_a_first_look_takes_the_time_at_which_the_last_archived_file_was_full():
    watch = Watch(LIMITS)
    watch.see(writing(0, END + 500, earlier=(WalMark(at=second(-30), lsn=Lsn(END)),)))
    assert (point(watch).at, point(watch).age_s) == (second(-30), 30.01)


def test_a_first_look_at_a_primary_that_was_idle_since_its_checkpoint_finds_nothing_left():
    checkpoint = WalMark(at=second(-900), lsn=Lsn(END - 5000), next_xid=7, idle=True)
    full = WalMark(at=second(-600), lsn=Lsn(END))
    watch = Watch(LIMITS)
    watch.see(writing(0, END + 100, xid=7, earlier=(checkpoint, full)))
    assert point(watch).age_s == 0.0


def test_a_file_of_another_kind_does_not_move_the_point():
    watch = Watch(LIMITS)
    watch.see(writing(0, END - 100), writing(10, END + 100, last="00000002.history"))
    assert point(watch).age_s == 10.01


def test_a_failing_archive_is_told_once_and_once_that_it_works_again():
    failing = archiver(archived=2, last_archived=FILE, last_archived_at=second(-1), failed=1, last_failed_at=second(1))
    watch = Watch(LIMITS)
    watch.see(writing(0, END - 100), *(writing(number, END + 100, archiver=failing) for number in (1, 2, 3)))
    assert watch.kinds() == [EventKind.ARCHIVE_FAILING]
    working = archiver(
        archived=3,
        last_archived="000000010000000000000003",
        last_archived_at=second(5),
        failed=1,
        last_failed_at=second(1),
    )
    watch.see(writing(6, END + 100, archiver=working))
    assert only(watch.told, EventKind.ARCHIVE_WORKING).seconds == 5.0


def test_the_point_goes_on_from_the_old_primary_to_the_new_one():
    watch = Watch(LIMITS)
    watch.see(writing(0, END - 100), writing(5, END + 100), sample(6, silence(6, "db1"), standby(6, lsn=END + 100)))
    new = primary(
        10,
        "db2",
        lsn=END + 200,
        timeline=2,
        promoted_lsn=Lsn(END + 100),
        next_xid=10,
        oldest_xid=10,
        archiver=archiver(),
    )
    watch.see(sample(10, new))
    assert (point(watch).at, point(watch).age_s) == (second(0), 10.01)


def test_a_lost_primary_makes_the_point_older_and_says_why():
    watch = Watch(LIMITS)
    watch.see(writing(0, END - 100), sample(7, silence(7, "db1")))
    assert (point(watch).age_s, point(watch).reason) == (7.01, "the primary does not answer")


@pytest.mark.parametrize(
    "copying",
    [
        (sender("pg_basebackup", replayed_lsn=None, flushed_lsn=Lsn(END + 900)),),
        (sender("clone", replayed_lsn=None, flushed_lsn=Lsn(END + 900), temporary_slot=True),),
        (
            sender("clone", state="backup", replayed_lsn=None, flushed_lsn=None),
            sender("clone", replayed_lsn=None, flushed_lsn=Lsn(END + 900)),
        ),
    ],
    ids=["by its name", "by its slot", "by the backup beside it"],
)
def test_the_wal_stream_of_a_base_backup_is_no_archive(copying):
    watch = Watch(LIMITS)
    watch.see(writing(0, END - 100), *(writing(at, END + 100 + at) for at in range(5, 100, 5)))
    watch.see(*(writing(at, END + 100 + at, senders=copying) for at in range(100, 130)))
    assert point(watch).at == second(0)
    assert watch.kinds() == [EventKind.RECOVERY_POINT_OVER]


def test_a_wal_receiver_beside_a_base_backup_still_is_an_archive():
    watch = Watch(LIMITS)
    keeping = sender("pg_receivewal", replayed_lsn=None, flushed_lsn=Lsn(END + 900))
    copying = sender("pg_basebackup", state="backup", replayed_lsn=None, flushed_lsn=None)
    watch.see(writing(0, END - 100), writing(10, END + 800, senders=(keeping, copying)))
    assert point(watch).age_s == 0.0


def test_an_archive_that_is_switched_off_leaves_the_point_where_it_was_and_is_told_over_the_limit():
    watch = Watch(LIMITS)
    watch.see(writing(0, END - 100), writing(10, END - 50))
    off = [writing(at, END + at, archiver=archiver(mode="off")) for at in range(20, 120, 5)]
    watch.see(*off)
    event = only(watch.told, EventKind.RECOVERY_POINT_OVER)
    assert (event.at, event.began_at) == (second(75.01), second(10.01))
    assert "archive_mode is off" in event.what
    watch.see(writing(130, END + 200, last="000000010000000000000003"))
    assert only(watch.told, EventKind.RECOVERY_POINT_BACK).seconds == 55.0


def test_a_point_that_is_unknown_for_longer_than_the_limit_is_told_with_its_reason_once_over_restarts():
    watch = Watch(LIMITS)
    watch.see(*(sample(at, primary(at)) for at in range(0, 100, 5)))
    event = only(watch.told, EventKind.RECOVERY_POINT_OVER)
    assert (event.at, event.began_at, event.seconds) == (second(65.01), second(0.01), None)
    assert "unknown for 1min 5s (archive_mode is off" in event.what
    assert watch.state.view is not None
    after = Watch(LIMITS, state=begin("clinic", NODES, earlier=watch.state.view, limits=LIMITS))
    after.see(*(sample(at, primary(at)) for at in range(100, 300, 5)))
    assert EventKind.RECOVERY_POINT_OVER not in after.kinds()


def test_an_archive_that_is_off_while_a_server_is_restarted_is_not_told():
    watch = Watch(LIMITS)
    watch.see(writing(0, END - 100), *(writing(at, END - 50, archiver=archiver(mode="off")) for at in (5, 20, 40)))
    watch.see(*(writing(at, END - 10) for at in (50, 70, 90)))
    assert watch.kinds() == []


def test_an_idle_primary_whose_archive_is_not_known_yet_is_not_told():
    watch = Watch(LIMITS)
    watch.see(*(writing(at, END + 500, xid=7) for at in range(0, 200, 5)))
    assert point(watch).age_s is None
    assert watch.kinds() == []


def test_a_busy_primary_of_which_nothing_is_known_to_be_archived_is_told_after_the_limit():
    watch = Watch(LIMITS)
    watch.see(*(writing(at, END + 500 + at, last=None) for at in range(0, 100, 5)))
    event = only(watch.told, EventKind.RECOVERY_POINT_OVER)
    assert (event.at, "no WAL file of this timeline" in event.what) == (second(65.01), True)


def test_a_primary_that_never_answered_has_no_point_to_tell_of():
    watch = Watch(LIMITS)
    watch.see(*(sample(at, silence(at, "db1"), standby(at)) for at in range(0, 200, 5)))
    assert EventKind.RECOVERY_POINT_OVER not in watch.kinds()


def test_an_open_transaction_of_an_otherwise_idle_primary_leaves_nothing_to_archive():
    watch = Watch(LIMITS)
    watch.see(writing(0, END - 100, xid=7))
    open_one: dict[str, Any] = {"next_xid": 9, "oldest_xid": 7, "open_xids": 1}
    samples = [
        sample(at, primary(at, lsn=END - 50 + at, archiver=archiver(archived=2, last_archived=FILE), **open_one))
        for at in range(1, 300, 5)
    ]
    watch.see(*samples)
    assert point(watch).age_s == 0.0
    assert watch.kinds() == []


def test_one_of_several_open_transactions_that_ends_may_have_committed():
    watch = Watch(LIMITS)
    for at, still_open in ((0, 2), (5, 1), (90, 1)):
        answer = primary(at, lsn=END - 50 + 30 * at, next_xid=12, oldest_xid=7, open_xids=still_open)
        watch.see(sample(at, replace(answer, archiver=archiver(archived=2, last_archived=FILE))))
    assert point(watch).at == second(0)
