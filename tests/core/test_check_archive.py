"""How old the recovery point is as far as one look can tell: what it cannot settle is unknown, never too old."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from replcheck.model.live import NodeAnswer, RecoveryPoint, Sample, WalMark
from replcheck.model.node import NodeRole
from replcheck.model.wal import Lsn
from replcheck.runs.check_archive import seen_at_once
from tests.core.checks import CLUSTER, NOW, ago, view

ARCHIVED = Lsn(0x5000000)
HERE = Lsn(0x50000D8)
LIMIT_S = 300.0


def answer(name: str, **changes: Any) -> NodeAnswer:
    standby = name != "db1"
    held: dict[str, Any] = {
        "node": name,
        "at": NOW,
        "elapsed_s": 0.001,
        "role": NodeRole.STANDBY if standby else NodeRole.PRIMARY,
        "system_identifier": CLUSTER,
        "server_version_num": 180001,
        "started_at": ago(9999),
        "server_at": NOW,
        "host": "10.0.0.1",
        "timeline": 1,
        "insert_lsn": None if standby else HERE,
        "received_lsn": HERE if standby else None,
        "replayed_lsn": HERE if standby else None,
        "replayed_commit_at": ago(1000) if standby else None,
        "replay_paused": False,
        "apply_delay_s": 0.0,
        "receiver": None,
        "senders": (),
        "slots": (),
        "archiver": None,
        "data_checksums": True,
        "checksum_failures": 0,
        "conflicts": 0,
        "wal_segment_size": 16 << 20,
        "archived_lsn": None if standby else ARCHIVED,
    }
    return NodeAnswer(**held | changes)


def told(age_s: float | None, *answers: NodeAnswer, reason: str = "") -> RecoveryPoint:
    point = RecoveryPoint(at=None if age_s is None else ago(age_s), age_s=age_s, reason=reason)
    return seen_at_once(view(recovery_point=point), Sample(at=NOW, answers=answers), LIMIT_S)


PRIMARY, QUIET = answer("db1"), answer("db2")


def test_what_is_within_its_limit_or_unknown_stays_as_it_is():
    assert told(300.0, PRIMARY, answer("db2", replayed_commit_at=ago(1))).age_s == 300.0
    assert told(None, PRIMARY, QUIET, reason="archive_mode is off").reason == "archive_mode is off"


def test_nothing_is_left_to_archive_where_the_last_commit_is_older_than_the_last_file():
    assert told(900.0, PRIMARY, QUIET) == RecoveryPoint(at=NOW, age_s=0.0)


def test_a_commit_behind_the_last_file_that_is_itself_too_old_is_certainly_late():
    assert told(900.0, PRIMARY, answer("db2", replayed_commit_at=ago(301))).age_s == 900.0


@pytest.mark.parametrize(
    "standbys",
    [
        (),
        (answer("db2", replayed_commit_at=ago(10)),),
        (answer("db2", replayed_lsn=Lsn(HERE - 1)),),
        (answer("db2", replayed_commit_at=None),),
        (answer("db2", system_identifier="other"),),
    ],
)
def test_what_one_look_cannot_settle_is_unknown(standbys):
    point = told(900.0, PRIMARY, *standbys, reason="archiving fails")
    assert (point.age_s, point.at) == (None, None)
    assert point.reason.startswith("archiving fails; one look cannot tell")


@pytest.mark.parametrize(("behind", "age_s"), [(2 << 20, 900.0), (100, None)])
def test_much_wal_that_a_checkpoint_saw_long_ago_and_that_is_not_archived_is_certainly_late(behind, age_s):
    mark = WalMark(at=ago(400), lsn=Lsn(ARCHIVED + behind))
    assert told(900.0, replace(PRIMARY, earlier=(mark,))).age_s == age_s
    young = WalMark(at=ago(200), lsn=Lsn(ARCHIVED + behind))
    assert told(900.0, replace(PRIMARY, earlier=(young,))).age_s is None


def test_commits_are_told_by_the_clock_of_the_primary():
    ahead = timedelta(seconds=5000)
    primary = replace(PRIMARY, server_at=NOW + ahead)
    assert told(900.0, primary, answer("db2", replayed_commit_at=ago(1000) + ahead)).age_s == 0.0
    assert told(900.0, primary, answer("db2", replayed_commit_at=ago(100) + ahead)).age_s is None
