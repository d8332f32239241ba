"""How relations would be cut, and how long that takes: by the functions of an audit, without a server."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.lanes import snapshot_lifetime_s
from replcheck.audit.options import AuditOptions, Pacing
from replcheck.audit.pace import ASSUMED_BYTES_PER_S, Pace
from replcheck.audit.planning import ASSUMED_RATE, assumed_rate, estimate, plan_relation, with_rate
from replcheck.audit.proof import RelationProof
from replcheck.model.audit import Resumption
from replcheck.model.plain import utc_text
from replcheck.model.plan import PlannedDatabase, PlannedRelation, Rate, Reading
from replcheck.report.document import audit_document
from replcheck.runs.plan import rate_of
from tests import factories
from tests.core.nodes import facts
from tests.core.proofs import relation

BLOCK = 8_192
MEGABYTE = 1 << 20


def planned(size_bytes: int, *, toast_bytes: int = 0, **settings: str) -> PlannedRelation:
    """Return how a table would be read from servers with 128 MB of buffers."""
    pace = Pace(AuditOptions(), facts(), [facts("db2", in_recovery=True, settings=settings)])
    table = relation(size_bytes=size_bytes, toast_bytes=toast_bytes)
    proof = RelationProof(table, ["db2"], known_blocks=pace.blocks(size_bytes), sweep=pace.sweeps(table))
    return plan_relation(proof, pace)


def test_a_small_relation_is_read_whole_a_large_one_in_one_scan_and_one_larger_still_by_ranges():
    assert (planned(0).reading, planned(0).chunks) == (Reading.WHOLE, 1)
    assert (planned(4 * MEGABYTE).reading, planned(4 * MEGABYTE).chunks) == (Reading.WHOLE, 1)
    assert planned(16 * MEGABYTE).reading is Reading.RANGES
    assert (planned(64 * MEGABYTE).reading, planned(64 * MEGABYTE).chunks) == (Reading.SCAN, 1)
    assert planned(5_000 * MEGABYTE).reading is Reading.RANGES


def test_a_standby_whose_snapshots_live_shortly_is_read_by_ranges():
    assert planned(400 * MEGABYTE).reading is Reading.SCAN
    assert planned(400 * MEGABYTE, hot_standby_feedback="off").reading is Reading.RANGES


@given(st.integers(0, 1 << 42), st.integers(0, 1 << 40))
def test_ranges_take_a_second_each_once_the_first_was_measured(size_bytes, toast_bytes):
    plan = planned(size_bytes, toast_bytes=toast_bytes)
    assert plan.size_bytes == size_bytes + toast_bytes
    assert plan.blocks == -(-size_bytes // BLOCK)
    if plan.reading is Reading.RANGES:
        # The first has 4096 blocks and the last none that is known; no chunk has fewer than 256, those of values that
        # are stored outside included, or one of the table, down to which its blocks are rounded.
        weight = plan.blocks + toast_bytes // BLOCK
        seconds = plan.size_bytes / ASSUMED_BYTES_PER_S
        least = min(plan.blocks, seconds * 2, weight / 256) if toast_bytes > size_bytes else min(seconds, weight / 256)
        assert 1 <= plan.chunks <= 1.05 * least + plan.blocks / 131_072 + 3
        assert plan.chunks >= plan.blocks / 131_072
    else:
        assert plan.chunks == 1


def database(*sizes: int, reading: Reading = Reading.RANGES) -> PlannedDatabase:
    relations = tuple(factories.planned_relation(f"t{size}", size, reading=reading) for size in sizes)
    return PlannedDatabase(name="clinic", relations=relations, sequences=())


def test_lanes_share_what_is_cut_and_not_one_scan():
    gigabyte = 1_000_000_000
    assert estimate([database(gigabyte, gigabyte)], ASSUMED_RATE, lanes=2).seconds == 10
    assert estimate([database(gigabyte, gigabyte)], ASSUMED_RATE, lanes=4).seconds == 5
    assert estimate([database(gigabyte, 10, reading=Reading.SCAN)], ASSUMED_RATE, lanes=4).seconds == 10
    assert estimate([], ASSUMED_RATE, lanes=2).seconds == 0


def test_a_gentle_audit_is_assumed_to_rest_most_of_its_time():
    assert assumed_rate(AuditOptions()) == ASSUMED_RATE
    assert assumed_rate(AuditOptions(pacing=Pacing.GENTLE)).bytes_per_s == ASSUMED_BYTES_PER_S / 10


def test_the_time_a_run_was_held_still_does_not_count():
    plan = factories.audit_plan()
    rate = rate_of(recorded(size_bytes=plan.size_bytes, held_s=50.0), plan)
    assert rate is not None
    assert rate.bytes_per_s == plan.size_bytes / 50


def test_databases_take_their_time_one_after_the_other():
    assert estimate([database(10**9), database(10**9)], ASSUMED_RATE, lanes=2).seconds == 10


def test_a_measured_rate_is_that_of_the_whole_run():
    rate = Rate(bytes_per_s=10**6, run_id="r", measured_at=datetime(2026, 3, 1, tzinfo=UTC))
    assert estimate([database(10**9), database(10**9)], rate, lanes=64).seconds == 2000


def recorded(*, size_bytes: int, elapsed_s: float = 100, **changes):
    end = factories.BEGUN + timedelta(seconds=elapsed_s)
    return audit_document(factories.consistent(size_bytes=size_bytes, finished_at=end, **changes))


def test_a_recorded_run_of_the_same_servers_tells_the_rate():
    plan = factories.audit_plan()
    document = recorded(size_bytes=plan.size_bytes)
    rate = rate_of(document, plan)
    assert rate is not None
    assert (rate.bytes_per_s, rate.run_id) == (plan.size_bytes / 100, document["run_id"])
    assert rate.measured_at is not None
    assert utc_text(rate.measured_at) == document["finished_at"]
    assert with_rate(plan, rate).estimate.seconds == pytest.approx(100)


@pytest.mark.parametrize(
    "changes",
    [
        {"stopped": "the run was stopped"},
        {"level": "strong"},
        {"resumed": Resumption(run_id="r", started_at=factories.BEGUN, relations=1)},
        {"held_s": 100.0},
        {"size_bytes": 0},
        {"size_bytes": factories.audit_plan().size_bytes // 11},
        {"elapsed_s": 0},
        {"primary": factories.node("db1", system_identifier="1")},
    ],
    ids=str,
)
def test_a_run_of_other_servers_or_another_size_tells_nothing(changes):
    plan = factories.audit_plan()
    assert rate_of(recorded(**{"size_bytes": plan.size_bytes, **changes}), plan) is None


@pytest.mark.parametrize("document", [None, [], {}, {"run_id": 1}])
def test_what_is_no_report_tells_nothing(document):
    assert rate_of(document, factories.audit_plan()) is None


def test_an_idle_lane_does_not_delay_commits_that_wait_for_replay():
    waits = {"synchronous_commit": "remote_apply", "synchronous_standby_names": "*"}
    feedback = {"hot_standby_feedback": "on"}
    assert snapshot_lifetime_s(feedback, waits) == 1
    assert snapshot_lifetime_s(feedback, waits | {"synchronous_standby_names": ""}) == float("inf")
    assert snapshot_lifetime_s(feedback, waits | {"synchronous_commit": "on"}) == float("inf")
    assert snapshot_lifetime_s({"max_standby_streaming_delay": "2000"}, waits) == 0.5
