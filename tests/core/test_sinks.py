"""Events reach every reader, and no reader can end a run."""

import io
import json

import pytest

from replcheck.errors import UsageError
from replcheck.events import ChunkCompared, NodeObserved, RunFinished, Waited
from replcheck.model.outcome import Outcome, Verdict
from replcheck.runs.sinks import FanOut, JsonLines, event_document, open_json_lines
from tests.factories import BEGUN, node

WAITED = Waited(at=BEGUN, node="db2", reason="replay is behind", elapsed_s=0.5)


def broken(event):
    raise OSError(28, "No space left on device")


def test_a_broken_sink_is_dropped_and_told_once_while_the_others_go_on():
    taken, told = [], []
    emit = FanOut([broken, taken.append], report_broken=told.append)
    emit(WAITED)
    emit(WAITED)
    assert len(taken) == 2
    assert told == ["events are no longer written: no space left on device"]


def test_a_defect_in_a_sink_is_told_by_its_class_alone():
    told = []

    def defective(event):
        raise KeyError("a row's value")

    FanOut([defective], report_broken=told.append)(WAITED)
    assert told == ["events are no longer written: KeyError"]


def test_an_event_is_one_flat_object():
    assert event_document(WAITED) == {
        "event": "waited",
        "at": "2026-03-01T06:30:00.000Z",
        "node": "db2",
        "reason": "replay is behind",
        "elapsed_s": 0.5,
    }


def test_events_are_written_one_a_line_in_ascii(tmp_path):
    path = tmp_path / "events.jsonl"
    sink = open_json_lines(path)
    sink(NodeObserved(at=BEGUN, node=node("db2")))
    sink(RunFinished(at=BEGUN, run_id="r", outcome=Outcome.PROVEN, summary="línea\nuna"))
    written = path.read_bytes()
    sink.close()
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["event"] for line in lines] == ["node_observed", "run_finished"]
    assert lines[0]["node"]["lsn"] == "16/B374D848"
    assert lines[1]["summary"] == "línea\nuna"
    assert written.isascii()


def test_names_no_codec_knows_are_written_all_the_same():
    stream = io.StringIO()
    chunk = ChunkCompared(
        at=BEGUN,
        lane=1,
        database="d",
        relation="public.\udcff",
        first_block=0,
        last_block=None,
        rows=1,
        size_bytes=8192,
        elapsed_s=0.1,
        verdict=Verdict.CONSISTENT,
    )
    JsonLines(stream)(chunk)
    assert json.loads(stream.getvalue())["relation"] == "public.\udcff"


def test_a_place_that_cannot_be_written_is_refused_before_the_run(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write events to .*: no such file or directory"):
        open_json_lines(tmp_path / "none" / "events.jsonl")
