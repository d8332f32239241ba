"""Recordings come back as they were written, and what is none is refused with its line."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from replcheck.errors import UsageError
from replcheck.model.live import NodeState
from replcheck.runs.replaying import replayed
from replcheck.watch.limits import WatchLimits
from replcheck.watch.replay import RecordedNode, Recording, RecordingHead, read_head, read_recording
from tests.core.watched import Watch, archiver, healthy, primary, sample, sender, silence, standby

HEAD = RecordingHead(cluster="clinic", nodes=(RecordedNode(name="db1", zone="rack-a"), RecordedNode(name="db2")))
SAMPLES = [
    healthy(0),
    sample(1, primary(1, senders=(sender("db2"),), archiver=archiver()), silence(1, "db2")),
    sample(2, standby(2, replay_paused=True)),
]


def recorded(path):
    with Recording.create(path, HEAD) as recording:
        for each in SAMPLES:
            recording.take(each)
    return path


def test_a_recording_comes_back_as_it_was_written(tmp_path):
    path = recorded(tmp_path / "watch.jsonl")
    assert read_head(path) == HEAD
    assert list(read_recording(path)) == SAMPLES


def test_a_replayed_recording_tells_what_the_watch_told(tmp_path):
    path = recorded(tmp_path / "watch.jsonl")
    watched, again = Watch(), Watch()
    watched.see(*SAMPLES)
    again.see(*read_recording(path))
    assert again.told == watched.told
    assert again.state.view == watched.state.view


@pytest.mark.parametrize(
    ("line", "text", "said"),
    [
        (1, "", "line 1 of recording .*: it is no JSON"),
        (1, "{}", "line 1 .* is no watch"),
        (2, '{"kind":"sample"', "line 2 .* is no JSON"),
        (3, '{"kind":"event"}', "line 3 .* is no sample"),
        (3, '{"kind":"sample","at":"yesterday"}', "line 3 .* at is no datetime"),
        (4, '{"kind":"sample","at":"2026-03-01T12:00:00Z","answers":[{}]}', "line 4 .*answers.0.node is missing"),
        (2, "[" * 100_000, "line 2 .* cannot be read"),
        (2, "1" * 10_000, "line 2 .* cannot be read"),
    ],
)
def test_a_line_that_is_no_sample_is_refused_with_its_number(tmp_path, line, text, said):
    path = recorded(tmp_path / "watch.jsonl")
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines))
    with pytest.raises(UsageError, match=said):
        list(read_recording(path))


def test_an_empty_file_a_missing_one_and_one_that_is_no_text_are_refused(tmp_path):
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.touch()
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (empty, tmp_path / "missing", binary, tmp_path):
        with pytest.raises(UsageError, match=re.escape(str(path))):
            read_head(path)


def test_a_recording_of_a_later_format_is_refused(tmp_path):
    path = tmp_path / "watch.jsonl"
    with Recording.create(path, replace(HEAD, format=2)):
        pass
    with pytest.raises(UsageError, match="format 2"):
        read_head(path)


def test_a_file_that_is_there_already_is_not_overwritten(tmp_path):
    path = recorded(tmp_path / "watch.jsonl")
    with pytest.raises(UsageError, match="exists"):
        Recording.create(path, HEAD)


def test_times_of_a_recording_are_kept_to_the_millisecond(tmp_path):
    path = tmp_path / "watch.jsonl"
    exact = replace(healthy(0), at=healthy(0).at + timedelta(microseconds=1))
    with Recording.create(path, HEAD) as recording:
        recording.take(exact)
    assert abs(next(read_recording(path)).at - exact.at) < timedelta(milliseconds=1)


def test_a_recording_of_a_watch_that_asked_rarely_is_judged_by_how_often_it_asked(tmp_path):
    path = tmp_path / "watch.jsonl"
    with Recording.create(path, replace(HEAD, interval_s=20.0)) as recording:
        for at in (0, 20, 40):
            wrote = primary(at, lsn=1000 + at, next_xid=at, oldest_xid=at)
            recording.take(sample(at, wrote, standby(at)))
    updates = list(replayed(path, WatchLimits()))
    assert [update.view.nodes[1].state for update in updates] == [NodeState.STREAMING] * 3
