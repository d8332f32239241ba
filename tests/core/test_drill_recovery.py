"""A target that this very backup cannot reach says nothing against the backup."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from replcheck.drill.plan import sealed_target
from replcheck.drill.recovery import (
    Recovery,
    Start,
    not_reached,
    probed_hole,
    require_later_target,
    require_same_cluster,
)
from replcheck.drill.targets import parse_target
from replcheck.errors import BackupRefuted, DrillBlocked
from replcheck.model.wal import Lsn
from tests.core import drills

SEAL = drills.seal()
TARGET = sealed_target(parse_target("seal:x"), SEAL)


def start(redo: int) -> Start:
    return Start(redo=Lsn(redo), timeline=1, at=None)


def test_a_seal_of_another_cluster_is_not_tried():
    same = SimpleNamespace(system_identifier=SEAL.server.system_identifier)
    require_same_cluster(TARGET, same)  # type: ignore[arg-type]
    require_same_cluster(parse_target("latest"), same)  # type: ignore[arg-type]
    with pytest.raises(DrillBlocked) as raised:
        require_same_cluster(TARGET, SimpleNamespace(system_identifier=SEAL.server.system_identifier + 1))  # type: ignore[arg-type]
    assert raised.value.code == "seal_foreign"


@pytest.mark.parametrize("further", [0, 1])
def test_a_seal_before_the_start_of_recovery_is_not_tried(further: int):
    with pytest.raises(DrillBlocked) as raised:
        require_later_target(TARGET, start(SEAL.restore_point.lsn + further))
    assert raised.value.code == "target_before_backup"


def test_a_target_at_or_after_the_start_of_recovery_is_tried():
    require_later_target(TARGET, start(SEAL.restore_point.lsn - 1))
    require_later_target(parse_target("0/100"), start(0x100))


def test_only_a_name_that_nobody_vouches_for_leaves_the_backup_unchecked():
    words = {"code": "target_not_reached", "hint": ""}
    assert isinstance(not_reached("the WAL ends", parse_target("befroe_migration"), **words), DrillBlocked)
    assert isinstance(not_reached("the WAL ends", TARGET, **words), BackupRefuted)


@pytest.mark.parametrize(
    ("there", "hole"),
    [
        ({1, 2}, None),
        ({1, 2, 4}, ("3", "4")),
        ({1, 2, 3, 7}, ("4", "7")),
        ({1, 2, 9}, None),
        (set(), None),
    ],
)
def test_a_hole_of_an_archive_that_cannot_be_listed_is_found_by_asking(there, hole):
    following = (str(number) for number in range(1, 100))
    assert probed_hole(following, frozenset({"1"} & {str(n) for n in there}), lambda name: int(name) in there) == hole


@pytest.mark.parametrize(
    ("target", "reason", "reached"),
    [
        ("latest", "no recovery target specified", True),
        ("before_migration", 'at restore point "before_migration"', True),
        ("before_migration", 'at restore point "another"', False),
        ("before_migration", "no recovery target specified", False),
        ("0/5000028", "after LSN 0/5000028", True),
        ("0/5000028", "no recovery target specified", False),
        ("2026-11-28 10:00:00+00", "before 2026-11-28 10:00:01.5+00", True),
        ("2026-11-28 10:00:00+00", "before transaction 771 at 2026-11-28 10:00:01.5+00", True),
        ("2026-11-28 10:00:00+00", "no recovery target specified", False),
        ("0/5000028", None, False),
    ],
)
def test_a_server_that_promoted_reached_its_target_only_where_its_timeline_says_so(
    tmp_path: Path, target: str, reason: str | None, reached: bool
):
    (tmp_path / "pg_wal").mkdir()
    if reason is not None:
        (tmp_path / "pg_wal" / "00000002.history").write_text(f"1\t0/5000028\t{reason}\n")
    recovery = Recovery.__new__(Recovery)
    recovery._target, recovery.server = parse_target(target), SimpleNamespace(data_dir=tmp_path)  # type: ignore[assignment]
    assert recovery._promoted_at_target(2) is reached
