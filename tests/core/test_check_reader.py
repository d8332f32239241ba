"""What a check reads of a history: joined as far as it says the same, and nothing that would have told otherwise."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replcheck.errors import StoreError
from replcheck.model.copies import AuditProof, standings
from replcheck.model.live import EventKind, NodeState
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.run import RunRecord
from replcheck.model.spans import GAP_S, NodeSpan, WatchSpan
from replcheck.store import open_check_reader, open_history
from replcheck.store.live_rows import event_values, node_span_values, proof_values, watch_span_values
from tests.core.checks import DAY, HOUR, NOW, ago, event, proof, span, watch

CLUSTER = "clinic"


def insert(path: Path, table: str, rows: Sequence[dict[str, Any]]) -> None:
    import json

    with sqlite3.connect(path) as database:
        for row in rows:
            names = ", ".join(row)
            values = [json.dumps(value) if isinstance(value, dict) else value for value in row.values()]
            database.execute(f"insert into {table} ({names}) values ({', '.join('?' * len(row))})", values)
    database.close()


def keep(path: Path, spans: Sequence[NodeSpan] = (), watched: Sequence[WatchSpan] = ()) -> None:
    insert(path, "node_spans", [node_span_values(CLUSTER, one, 0) for one in spans])
    insert(path, "watch_spans", [watch_span_values(CLUSTER, one, 0) for one in watched])


def record(run_id: str, kind: str = "audit", began_ago: float = HOUR, cluster: str = CLUSTER) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        kind=kind,
        cluster=cluster,
        started_at=ago(began_ago),
        tool_version="0.1.0",
        argument_digest="0" * 64,
        finished_at=ago(began_ago - 10),
        outcome=Outcome.PROVEN,
        verdict="consistent",
        exit_status=Outcome.PROVEN.exit_status,
        summary="all of it was proven.",
    )


def keep_proofs(path: Path, proofs: Sequence[AuditProof]) -> None:
    history = open_history(path)
    for run_id, one in {one.run_id: one for one in proofs}.items():
        history.finish(replace(record(run_id), started_at=one.proven_at, finished_at=one.finished_at))
    insert(path, "audit_nodes", [proof_values(one) for one in proofs])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "clinic.db"
    open_history(path)
    return path


@st.composite
def rows_of_a_node(draw, name: str) -> list[NodeSpan]:
    found, end = [], 0.0
    for _ in range(draw(st.integers(0, 12))):
        gap = draw(st.sampled_from([1.0, 1.0, 10.0, 59.0, 60.0, 60.001, 61.0, 500.0]))
        length = draw(st.sampled_from([0.0, 9.0, 30.0, 3000.0]))
        found.append(
            span(
                name,
                0,
                began_at=ago(4 * DAY - end - gap),
                ended_at=ago(4 * DAY - end - gap - length),
                longest_gap_s=gap if draw(st.booleans()) else 1.0,
                state=draw(st.sampled_from([NodeState.STREAMING] * 5 + [NodeState.LOST])),
                timeline=draw(st.sampled_from([None, 1, 1, 1, 2])),
                data_checksums=draw(st.sampled_from([None, True, True, False])),
                max_lag_bytes=draw(st.sampled_from([None, 0, 7])),
            )
        )
        end += gap + length
    return found


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows_of_a_node("db2"), rows_of_a_node("db3"), st.floats(0, 4 * DAY), st.floats(0, 4 * DAY))
def test_joined_spans_prove_the_same_copies_as_those_they_were_joined_of(tmp_path, db2, db3, since, until):
    # A file of its own for each example: what is left beside a removed one may be taken for the next one's.
    path = Path(mkdtemp(dir=tmp_path)) / "clinic.db"
    open_history(path)
    keep(path, [*db2, *db3])
    reader = open_check_reader(path)
    joined = reader.joined_node_spans(CLUSTER, ago(10 * DAY), NOW)
    assert len(joined) <= len(db2) + len(db3)
    proofs = [proof(name, since, took=0) for name in ("db2", "db3")]
    moment = ago(until)
    told = [
        {
            name: (one.proven, one.reason, one.refuted)
            for name, one in standings(moment, proofs, spans, max_age_s=DAY).items()
        }
        for spans in (reader.node_spans(CLUSTER, ago(10 * DAY), NOW), joined)
    ]
    assert told[0] == told[1]
    for name, own in (("db2", db2), ("db3", db3)):
        of_node = [one for one in joined if one.node == name]
        assert sum(one.samples for one in of_node) == sum(one.samples for one in own)
        assert max((one.max_lag_bytes or 0 for one in of_node), default=0) == max(
            (one.max_lag_bytes or 0 for one in own), default=0
        )


def test_spans_are_joined_up_to_a_change_or_a_gap(store):
    keep(
        store,
        [
            span("db2", 1000, 900, max_lag_bytes=5),
            span("db2", 890, 800, max_lag_bytes=9),
            span("db2", 739.9, 700),
            span("db2", 690, 600, host="10.9.9.9"),
            span("db2", 590, 500, NodeState.LOST),
        ],
        [watch(1000, 900, max_recovery_age_s=200.0), watch(890, 800), watch(700, 600, recovery_unknown=True)],
    )
    reader = open_check_reader(store)
    joined = reader.joined_node_spans(CLUSTER, ago(DAY), NOW)
    assert [(one.began_at, one.ended_at) for one in joined[:2]] == [(ago(1000), ago(800)), (ago(739.9), ago(700))]
    assert (joined[0].max_lag_bytes, joined[0].data_checksums, joined[0].replay_paused) == (9, True, False)
    assert len(joined) == 4
    watched = reader.joined_watch_spans(CLUSTER, ago(DAY), NOW)
    assert [(one.ended_at, one.max_recovery_age_s, one.recovery_unknown) for one in watched] == [
        (ago(800), 200.0, False),
        (ago(600), 60.0, True),
    ]
    last = reader.last_watch_span_before(CLUSTER, ago(800))
    assert last is not None
    assert last.max_recovery_age_s == 60.0
    assert reader.joined_node_spans("other", ago(DAY), NOW) == []
    assert reader.joined_node_spans(CLUSTER, ago(650), ago(640)) == [joined[2]]


def test_proofs_that_settle_are_found_however_old_they_are(store):
    digest = "d" * 64
    proofs = [
        proof("db2", 90 * DAY),
        proof("db2", 80 * DAY, whole=False, scope_digest=digest),
        proof("db2", 70 * DAY, whole=False),
        proof("db2", 60 * DAY, Verdict.INCONCLUSIVE),
        proof("db2", 95 * DAY, Verdict.DIVERGED, whole=False),
        proof("db3", DAY),
    ]
    keep_proofs(store, proofs)
    reader = open_check_reader(store)
    assert reader.settling_proofs(CLUSTER, "db2", "", NOW) == [proofs[0], proofs[4]]
    assert reader.settling_proofs(CLUSTER, "db2", digest, NOW) == [proofs[1], proofs[4]]
    assert reader.settling_proofs(CLUSTER, "db1", digest, NOW) == []
    assert reader.settling_proofs("other", "db2", digest, NOW) == []
    assert reader.first_proofs_since(CLUSTER, ago(80 * DAY)) == [proofs[1], proofs[2], proofs[5]]


def test_the_first_proofs_of_a_node_are_found_behind_however_many_of_the_others(store):
    """What was seen once: the old primary came back long after, when its first audits were pushed out of sight."""
    others = [proof("db3", 90 * DAY - number * HOUR, run_id=f"early-{number}") for number in range(60)]
    unsettled = [
        proof("db2", 80 * DAY - number * HOUR, Verdict.UNCHECKED, run_id=f"u-{number}") for number in range(60)
    ]
    first = proof("db2", 40 * DAY, Verdict.DIVERGED)
    keep_proofs(store, [*others, *unsettled, first, proof("db2", DAY)])
    found = open_check_reader(store).first_proofs_since(CLUSTER, ago(90 * DAY))
    assert others[0] in found
    assert [one for one in found if one.node == "db2"] == [first, proof("db2", DAY)]
    assert open_check_reader(store).first_proofs_since("other", ago(90 * DAY)) == []


def test_events_of_some_kinds_are_read_newest_first(store):
    happened = [
        event(EventKind.STANDBY_LOST, 300, "db2"),
        event(EventKind.LAG_OVER, 200, "db2"),
        event(EventKind.NODE_BACK, 100, "db2", seconds=200.0),
    ]
    insert(store, "cluster_events", [event_values(CLUSTER, one) for one in happened])
    reader = open_check_reader(store)
    kinds = (EventKind.STANDBY_LOST, EventKind.NODE_BACK)
    assert reader.events_of(CLUSTER, kinds, 5) == [happened[2], happened[0]]
    assert reader.events_of(CLUSTER, kinds, 1) == [happened[2]]


def test_the_newest_moment_is_that_of_whatever_the_history_holds(store):
    reader = open_check_reader(store)
    assert reader.newest_moment(CLUSTER) is None
    open_history(store).finish(record("01", began_ago=HOUR))
    assert reader.newest_moment(CLUSTER) == ago(HOUR - 10)
    keep(store, [span("db2", 900, 800)])
    assert reader.newest_moment(CLUSTER) == ago(800)
    insert(store, "cluster_events", [event_values(CLUSTER, event(EventKind.NODE_BACK, 700))])
    assert reader.newest_moment(CLUSTER) == ago(700)
    open_history(store).begin(record("02", began_ago=-600))
    assert reader.newest_moment(CLUSTER) == NOW + timedelta(seconds=600)


def test_runs_of_a_kind_come_with_their_results_newest_first(store):
    history = open_history(store)
    history.finish(record("01", "drill", 300), {"number": 1})
    history.finish(record("02", "audit", 200), {"number": 2})
    history.finish(record("03", "drill", 100))
    history.finish(record("04", "drill", 50, cluster="other"), {"number": 4})
    found = open_check_reader(store).newest_results(CLUSTER, "drill", 5)
    assert [(one.run.run_id, one.document) for one in found] == [("03", None), ("01", {"number": 1})]


def test_all_is_seen_as_of_one_moment(store):
    reader = open_check_reader(store)
    with reader.at_one_moment():
        assert reader.newest_moment(CLUSTER) is None
        open_history(store).begin(record("01"))
        assert reader.newest_moment(CLUSTER) is None
    assert reader.newest_moment(CLUSTER) == ago(HOUR)


def test_damage_is_told_in_one_line(store):
    keep(store, [span("db2", 900, 800), span("db2", 790, 700)])
    with sqlite3.connect(store) as database:
        database.execute("update node_spans set ended_at = 'soon' where span_id = 1")
    database.close()
    with pytest.raises(StoreError, match="what was seen of the nodes is damaged"):
        open_check_reader(store).joined_node_spans(CLUSTER, ago(DAY), NOW)


def test_a_gap_is_as_long_as_everywhere_else():
    assert GAP_S == 60.0
