"""A drill must come farther than the last one did: what is lost is told, and an idle primary raises no alarm."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from replcheck.config.model import DumpBackup
from replcheck.drill.advance import Point, is_comparable, point_of, standing_still, went_back
from replcheck.drill.archiving import BEHIND
from replcheck.drill.manifest import write_manifest
from replcheck.drill.seal_choice import overdue_seal
from replcheck.drill.targets import parse_target
from replcheck.model.drill import BackupKind, DrillVerdict
from replcheck.model.wal import Lsn
from replcheck.postgres.control import stored_system_identifier
from replcheck.runs.drill import Parts, run_drills
from replcheck.runs.drill_request import DrillFlags, DrillRequest, drill_request
from tests.core.drills import BEGAN, COPY, LATEST, RECOVERED, FakeRoom, FakeSource, result, seal

SIZE = 16 << 20
COMMIT = BEGAN - timedelta(minutes=3)
LAST = Point(run_id="01a2-last", drilled_at=BEGAN, timeline=1, replayed=Lsn(0x900), commit_at=COMMIT)


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({}, False),
        ({"replayed": Lsn(0x901)}, False),
        ({"replayed": Lsn(0x8FF)}, True),
        ({"replayed": Lsn(0xFFFF), "timeline": 2}, False),
        ({"replayed": Lsn(0x8FF), "timeline": 2}, True),
        # What an older clock says of commits that lie farther on is no loss.
        ({"replayed": Lsn(0x901), "commit_at": COMMIT - timedelta(hours=1)}, False),
        ({"replayed": Lsn(0x901), "commit_at": None}, False),
    ],
)
def test_only_a_point_that_lies_behind_the_last_is_a_loss(changes, lost):
    found = went_back(replace(LAST, **changes), LAST)
    assert (found is not None) is lost
    if found is not None:
        assert found.partial
        assert "0/8FF on timeline" in found.what
        assert (
            "drill 01a2-last had come to 0/900 on timeline 1 (newest commit of 2026-11-28 04:27:00+00:00)" in found.what
        )


def test_an_older_timeline_is_a_loss_wherever_it_ends():
    assert went_back(replace(LAST, replayed=Lsn(0xFFFF)), replace(LAST, timeline=2)) is not None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "nothing was archived"),
        ({"replayed": Lsn(0x901)}, "nothing was committed"),
        ({"replayed": Lsn(0x901), "commit_at": COMMIT + timedelta(seconds=1)}, ""),
        ({"replayed": Lsn(0x901), "commit_at": None}, ""),
    ],
)
def test_an_idle_primary_is_noted_and_no_loss(changes, told):
    now = replace(LAST, **changes)
    assert went_back(now, LAST) is None
    assert standing_still(now, LAST).startswith(told)
    assert bool(standing_still(now, LAST)) is bool(told)


@pytest.mark.parametrize(("hours", "lost", "still"), [(-1, True, False), (0, False, True), (1, False, False)])
def test_of_dumps_the_age_is_compared(hours, lost, still):
    last = Point(run_id="01a2-last", drilled_at=BEGAN, commit_at=COMMIT)
    now = replace(last, commit_at=COMMIT + timedelta(hours=hours))
    assert (went_back(now, last) is not None) is lost
    assert bool(standing_still(now, last)) is still


def test_only_the_end_of_the_archive_tells_how_far_one_can_get():
    latest = result(target=LATEST)
    assert point_of(latest) == Point(
        run_id=latest.run_id, drilled_at=BEGAN, timeline=1, replayed=RECOVERED.replayed, commit_at=COMMIT
    )
    assert point_of(result()) is None
    assert point_of(replace(latest, recovery=None)) is None
    dump = replace(COPY, kind=BackupKind.DUMP)
    assert point_of(replace(latest, recovery=None, copy=dump)) is not None
    assert not is_comparable(latest, replace(latest, copy=dump))
    assert not is_comparable(latest, replace(latest, copy=replace(COPY, system_identifier=7)))
    assert is_comparable(latest, replace(latest, copy=replace(COPY, system_identifier=None)))


@pytest.mark.parametrize(
    ("lsn", "age_s", "timeline", "in_recovery", "overdue"),
    [
        (0x9A00100, 7200, 1, True, False),
        (0xB000100, 7200, 1, True, True),
        (0xB000100, 7200, 1, False, True),
        (0xB000100, 60, 1, True, False),
        (0xA000100, 7200, 1, True, False),
        (0xA000100, 90_000, 1, True, True),
        (0x9A00000, 90_000, 1, True, False),
        (0xB000100, 7200, 2, True, False),
    ],
)
def test_a_seal_shows_that_the_primary_went_on_without_its_archive(
    tmp_path: Path, lsn, age_s, timeline, in_recovery, overdue
):
    recovery = replace(RECOVERED, replayed=Lsn(0x9A00000), in_recovery=in_recovery)
    whole = seal()
    point = replace(whole.restore_point, lsn=Lsn(lsn), created_at=BEGAN - timedelta(seconds=age_s), timeline=timeline)
    server = replace(whole.server, system_identifier=COPY.system_identifier or 0)
    write_manifest(replace(whole, restore_point=point, server=server), tmp_path)
    found = overdue_seal(result(target=LATEST, recovery=recovery), tmp_path, delay_s=3600)
    assert (found is not None and found.code == BEHIND) is overdue


def request(backup="base:/backups/x", **flags) -> DrillRequest:
    made = drill_request(DrillFlags(source=backup, layers=("manifest",), **flags), None, {"HOME": "/nonexistent"})
    return replace(made, cluster="clinic", name="nightly")


def drilled(store: Path, monkeypatch, asked=None, **source):
    monkeypatch.setattr("replcheck.runs.drill.layers_for", lambda *_: ([], []))
    parts = Parts(
        source=lambda _: FakeSource(log=[], **source),
        room=lambda _: FakeRoom(log=[]),
        clean=lambda _: [],
        destroy=lambda _: [],
    )
    [done] = run_drills(asked or request(), store=store, parts=parts)
    assert done.result is not None
    assert done.record.verdict == done.result.verdict.value
    return done.result


def test_a_drill_is_held_against_the_last_of_the_same_backup(tmp_path, monkeypatch):
    store = tmp_path / "clinic.db"
    first = drilled(store, monkeypatch)
    assert first.problems == ()
    assert "nothing was archived since drill" in drilled(store, monkeypatch).tool_notes[-1]
    behind = replace(RECOVERED, replayed=Lsn(RECOVERED.replayed - 1))
    lost = drilled(store, monkeypatch, recovery=behind)
    assert [problem.code for problem in lost.problems] == ["point_went_back"]
    assert lost.verdict is DrillVerdict.UNCOMPARED
    for asked in (
        replace(request(), name="weekly"),
        replace(request(), cluster="shop"),
        replace(request(), target=parse_target("0/9000000")),
        replace(request(), copy_label=COPY.label),
    ):
        farther = replace(RECOVERED, replayed=Lsn(RECOVERED.replayed - 2))
        assert drilled(store, monkeypatch, asked, recovery=farther).problems == ()


def test_a_backup_on_the_command_line_is_held_against_the_same_one_only(tmp_path, monkeypatch):
    store = tmp_path / "unnamed.db"
    named = replace(request(), name="--from")
    drilled(store, monkeypatch, named)
    behind = replace(RECOVERED, replayed=Lsn(RECOVERED.replayed - 1))
    other = replace(request("base:/backups/y"), name="--from")
    assert drilled(store, monkeypatch, other, recovery=behind).problems == ()
    assert drilled(store, monkeypatch, named, recovery=behind).problems != ()


def test_a_history_that_cannot_be_read_says_nothing(tmp_path, monkeypatch):
    store = tmp_path / "clinic.db"
    store.write_text("no history")
    assert drilled(store, monkeypatch).problems == ()


def test_dumps_that_get_older_are_told(tmp_path, monkeypatch):
    store = tmp_path / "clinic.db"
    asked = replace(request(), backup=DumpBackup(kind="dump", path="/dumps"))
    dump = replace(COPY, kind=BackupKind.DUMP)
    drilled(store, monkeypatch, asked, found=[dump], kind=BackupKind.DUMP, recovery=None)
    older = replace(dump, taken_at=BEGAN - timedelta(days=1))
    lost = drilled(store, monkeypatch, asked, found=[older], kind=BackupKind.DUMP, recovery=None)
    assert [problem.code for problem in lost.problems] == ["point_went_back"]


def test_a_control_file_begins_with_the_system_identifier(tmp_path):
    (tmp_path / "global").mkdir()
    assert stored_system_identifier(tmp_path) is None
    (tmp_path / "global" / "pg_control").write_bytes((7).to_bytes(8, "little") + bytes(100))
    assert stored_system_identifier(tmp_path) == 7
