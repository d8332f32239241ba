"""A recorded feed reads back as what was told."""

import json

from replcheck.tui.feed import AuditEnded, Update
from replcheck.tui.state import Model, fold
from tests.tui import stories
from tests.tui.recordings import Mark, read, written


def test_every_update_reads_back_as_it_was(tmp_path):
    told: list[Update | Mark] = [
        *stories.degraded(),
        Mark(name="audit"),
        *stories.audit(share=1.0),
        *stories.drill(until=None),
    ]
    told.append(AuditEnded(at=stories.NOW, result=None, problem="interrupted"))
    path = tmp_path / "feed.jsonl"
    path.write_text("".join(written(told)), encoding="utf-8")
    assert read(path) == told


def test_a_recording_holds_one_object_a_line(tmp_path):
    lines = list(written(stories.healthy()))
    assert all(json.loads(line)["at"] for line in lines)
    assert fold(Model(), stories.healthy()).view is not None
