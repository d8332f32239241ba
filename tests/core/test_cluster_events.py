"""What happened to a cluster, told to people and to machines, from a watch and from the history."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC

import jsonschema
import pytest

from replcheck.model.copies import CopyStanding
from replcheck.model.live import EventKind, NodeState, RecoveryPoint
from replcheck.report.cluster_events import PastEvent, cluster_events_json
from replcheck.report.published import schema_text
from replcheck.report.style import Style
from replcheck.report.watch_lines import cluster_event_document, event_line, state_lines
from replcheck.store import open_history, open_live_writer
from tests.commands import run_here
from tests.core.lives import WELL, at, happened, view

STYLE = Style(zone=UTC)
NODES = 'cluster = "clinic"\n[nodes]\na = { dsn = "host=a" }\nb = { dsn = "host=b" }\n'


def proven(name, age_s=60.0):
    return CopyStanding(node=name, proven=True, proof=None, age_s=age_s, reason="")


def test_the_state_is_told_in_a_line_for_the_cluster_and_one_for_each_node():
    standings = {
        "db1": proven("db1"),
        "db2": proven("db2"),
        "db3": CopyStanding(node="db3", proven=False, proof=None, age_s=None, reason="it was lost since it was proven"),
    }
    seen = view(0, lag=2048, proven_copies=2)
    lost = replace(seen.nodes[2], state=NodeState.LOST, reason="nothing listens", lag_bytes=None)
    seen = replace(seen, nodes=(*seen.nodes[:2], lost))
    assert list(state_lines(seen, standings, STYLE)) == [
        "2026-03-01 06:30:00+00:00  clinic: primary db1, 2 of 3 copies run, 2 proven, recovery point 5s old",
        "2026-03-01 06:30:00+00:00  db1  primary, timeline 1, proven 1min ago",
        "2026-03-01 06:30:00+00:00  db2  streaming, lag 2kB, proven 1min ago",
        "2026-03-01 06:30:00+00:00  db3  lost, nothing listens, not proven: it was lost since it was proven",
    ]


def test_a_proof_and_a_recovery_point_that_lie_ahead_are_told_so():
    """By a clock that was ahead when they were made, and is put right since."""
    seen = view(0, recovery_point=RecoveryPoint(at=None, age_s=-86_400.0), proven_copies=1)
    told = list(state_lines(seen, {"db1": proven("db1", age_s=-31_536_000.0)}, STYLE))
    assert told[0].endswith("recovery point dated 1d ahead of the clock")
    assert told[1].endswith("proven 365d ahead of the clock")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"primary": None}, "no primary"),
        ({"primary": None, "split_brain": True}, "split brain"),
        ({"recovery_point": RecoveryPoint(at=None, age_s=None)}, "recovery point unknown"),
    ],
)
def test_what_is_wrong_with_the_cluster_is_in_its_line(changes, told):
    assert told in next(state_lines(view(0, **changes), {}, STYLE))


def test_copies_of_which_no_proof_is_known_are_not_called_unproven():
    assert "3 of 3 copies run, proofs unknown" in next(state_lines(view(0, proven_copies=None), {}, STYLE))
    assert "0 proven" in next(state_lines(view(0, proven_copies=0), {}, STYLE))


def test_no_name_steers_the_terminal():
    event = happened(EventKind.STANDBY_LOST, 0, "db2", what="db2 \x1b[31mis lost")
    assert "\x1b" not in event_line(event, STYLE)
    assert "\x1b" not in "".join(state_lines(view(0, {"db\x1b[31m": NodeState.PRIMARY}), {}, STYLE))


def test_events_follow_their_schemas():
    event = happened(EventKind.SWITCHED_OVER, 3, "db2", seconds=4.5, timeline=2, began_at=at(1), detail="db1")
    jsonschema.validate(cluster_event_document(event), json.loads(schema_text("events")))
    document = json.loads(cluster_events_json([PastEvent(cluster="clinic", event=event)], store="/h.db"))
    jsonschema.validate(document, json.loads(schema_text("cluster_events")))
    assert document["events"][0]["kind"] == "switched over"


@pytest.fixture
def store(tmp_path):
    """A history of two clusters, with three events of one and one of the other."""
    path = tmp_path / "clinic.db"
    for cluster, moments in (("clinic", (1, 2, 3)), ("ward", (2.5,))):
        writer = open_live_writer(path, cluster)
        writer.take(view(0, WELL), [happened(EventKind.STANDBY_LOST, moment, f"db{moment}") for moment in moments])
        writer.close()
    return path


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    def ended(*words):
        return run_here("history", "events", *words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)

    return ended


def test_a_history_named_alone_tells_of_all_clusters(store, run):
    ended = run("--store", str(store))
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert [line.split()[3:5] for line in lines[:4]] == [
        ["clinic", "db3:"],
        ["ward", "db2.5:"],
        ["clinic", "db2:"],
        ["clinic", "db1:"],
    ]
    assert lines[-1] == "4 events"


def test_the_configured_cluster_alone_is_told_of(store, run, tmp_path):
    (tmp_path / "replcheck.toml").write_text(f'{NODES}[output]\nstore = "{store}"\n')
    assert [event["node"] for event in json.loads(run("--format", "json").out)["events"]] == ["db3", "db2", "db1"]


@pytest.mark.parametrize(
    ("words", "nodes"),
    [
        (("--limit", "2"), ["db3", "db2.5"]),
        (("--since", "2026-03-01T06:30:02.4+00:00"), ["db3", "db2.5"]),
        (("--until", "2026-03-01T06:30:02+00:00"), ["db1"]),
        (("--since", "2027-01-01"), []),
    ],
)
def test_events_are_narrowed(store, run, words, nodes):
    ended = run("--store", str(store), "--format", "json", *words)
    assert ended.status == 0
    assert [event["node"] for event in json.loads(ended.out)["events"]] == nodes


def test_a_damaged_event_is_counted_and_ends_with_3(store, run):
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("UPDATE cluster_events SET document = '{' WHERE node = 'db2'")
        connection.commit()
    ended = run("--store", str(store))
    assert ended.status == 3
    assert "warning: 1 damaged event left out" in ended.err
    assert "3 events" in ended.out


def test_a_history_in_which_nothing_was_watched_has_no_event(tmp_path, run):
    open_history(tmp_path / "h.db")
    assert run("--store", str(tmp_path / "h.db")).out == "no event matches\n"
