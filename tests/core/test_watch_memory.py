"""However long a watch goes on, it holds no more: flapping nodes, passing senders and a busy primary all the while."""

import pickle

import pytest

from replcheck.watch.limits import WatchLimits
from tests.core.watched import Watch, archiver, primary, sample, sender, silence, standby

LIMITS = WatchLimits(copies=3, lag_s=5, recovery_age_s=60)


def second_of(number: int):
    """Return a sample of a cluster in which everything comes and goes and every position is new."""
    lsn, xid = 1_000 + 500 * number, number
    spare = sender(f"spare{number // 50}")
    archived = archiver(archived=number, last_archived=f"00000001{number // 300:016X}")
    one = primary(number, lsn=lsn, next_xid=xid, oldest_xid=xid, senders=(sender("db2"), spare), archiver=archived)
    two = standby(number, lsn=lsn - (2_000 if number % 40 < 20 else 0), replay_paused=number % 30 < 10)
    three = silence(number, "db3") if number % 7 < 3 else standby(number, "db3", lsn=lsn)
    return sample(number, one, two, three)


def held_after(seconds: int, *, every: int) -> list[int]:
    """Fold a sample of each other second, and return how much the state holds from time to time, as pickled bytes."""
    watch, held = Watch(LIMITS), []
    for number in range(0, seconds, 2):
        watch.see(second_of(number))
        watch.told.clear()
        if number % every == 0:
            held.append(len(pickle.dumps(watch.state)))
    return held


def test_what_a_watch_holds_is_bounded():
    assert max(held_after(4_000, every=100)) < 50_000


@pytest.mark.long
def test_the_second_half_of_a_day_holds_no_more_than_the_first():
    held = held_after(86_400, every=300)
    assert max(held[144:]) <= max(held[:144]) * 1.05
