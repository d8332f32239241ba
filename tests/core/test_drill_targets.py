"""Targets are read as they are meant, or refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.drill.backups.labels import parse_label, parse_manifest
from replcheck.drill.targets import parse_target
from replcheck.errors import UsageError
from replcheck.model.drill import TargetKind
from replcheck.model.wal import Lsn


@given(st.integers(0, (1 << 64) - 1))
def test_a_position_is_read_back(position: int):
    target = parse_target(str(Lsn(position)))
    assert (target.kind, target.lsn) == (TargetKind.LSN, position)


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_a_time_is_read_back_whatever_its_offset(naive: datetime, minutes: int):
    time = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    for text in (time.isoformat(), time.isoformat(sep=" ")):
        target = parse_target(text)
        assert (target.kind, target.time) == (TargetKind.TIME, time)


def test_times_as_postgresql_writes_them_are_read():
    assert parse_target("2026-11-28 10:00:00.5+00").time == datetime(2026, 11, 28, 10, 0, 0, 500000, tzinfo=UTC)
    assert parse_target("2026-11-28 10:00:00Z").time == datetime(2026, 11, 28, 10, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-11-28 10:00", "2026-11-28", "2026-13-01 10:00:00Z", "2026-11-28 25:00:00+00"])
def test_a_time_without_offset_or_that_is_none_is_refused(text: str):
    with pytest.raises(UsageError):
        parse_target(text)


@given(st.text(alphabet="abcxyz_-. ", min_size=1, max_size=63).filter(lambda name: name.strip() == name))
def test_a_restore_point_can_have_any_name(name: str):
    target = parse_target(f"name:{name}")
    assert (target.kind, target.name) == (TargetKind.RESTORE_POINT, name)


@pytest.mark.parametrize("name", ["latest", "0/1", "seal:x", "2026-11-28 10:00:00Z"])
def test_a_word_that_means_something_else_can_be_a_name(name: str):
    assert parse_target(f"name:{name}").name == name


@pytest.mark.parametrize("text", ["", "name:", "x" * 64, "a\x1bb", "seal:", "seal:a/b"])
def test_what_can_be_no_target_is_refused(text: str):
    with pytest.raises(UsageError) as raised:
        parse_target(text)
    assert "\x1b" not in raised.value.message


def test_a_seal_of_another_machine_is_named_by_its_file():
    target = parse_target("seal:/carried here/1.seal.json")
    assert (target.kind, target.seal_id) == (TargetKind.SEAL, "/carried here/1.seal.json")


def test_a_seal_is_named_by_its_identifier():
    target = parse_target("seal:20261128-1")
    assert (target.kind, target.seal_id, target.name) == (TargetKind.SEAL, "20261128-1", None)


LABEL = """\
START WAL LOCATION: 0/3000028 (file 000000010000000000000003)
CHECKPOINT LOCATION: 0/3000080
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: 2026-11-28 11:00:00 {zone}
LABEL: secret
START TIMELINE: 1
"""


def test_a_label_tells_where_and_when_a_backup_began():
    label = parse_label(LABEL.format(zone="UTC"))
    assert (label.start, label.timeline, label.previous) == (Lsn.parse("0/3000028"), 1, None)
    assert label.started_at == datetime(2026, 11, 28, 11, tzinfo=UTC)


def test_the_abbreviation_of_a_time_zone_is_not_guessed():
    assert parse_label(LABEL.format(zone="IST")).started_at is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"Files": [{}]}', '{"Files": 1}'])
def test_a_damaged_manifest_is_refused(text: str):
    with pytest.raises(ValueError, match="manifest"):
        parse_manifest(text)


def test_a_manifest_tells_sizes_and_where_the_wal_ends():
    manifest = parse_manifest(
        '{"System-Identifier": 7, "Files": [{"Path": "a", "Size": 3}, {"Encoded-Path": "62ff", "Size": 4}],'
        ' "WAL-Ranges": [{"Timeline": 1, "Start-LSN": "0/1", "End-LSN": "0/20"}]}'
    )
    assert (manifest.size_bytes, manifest.end, manifest.system_identifier) == (7, Lsn(0x20), 7)
