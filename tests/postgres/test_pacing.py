"""An audit yields: it holds still and leaves nothing behind meanwhile, ends in its time, and goes on where it ended."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from replcheck.audit.gate import USER, Gate
from replcheck.audit.options import Level, Pacing
from replcheck.audit.pressure import PauseLimits
from replcheck.errors import NodeLost, NodeUnfit, StatementFailed
from replcheck.events import BlocksProven, ChunkCompared, Event, HeldStill, ProvingBegan, Waited
from replcheck.lab.cluster import LabCluster
from replcheck.lab.faults import apply_fault
from replcheck.model.audit import AuditResult, StopCode
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.progress import Progress
from replcheck.postgres.filters import row_filter
from replcheck.postgres.server import LocalServer
from tests.auditing import Controls, audit_of, relation_of, targets_of
from tests.commands import left_behind
from tests.conftest import MakeCluster
from tests.staged import Background, newest_only, session_on, until, value

TABLES = [f"t{number}" for number in range(12)]


@pytest.fixture
def tables(cluster: LabCluster, database: str) -> str:
    """A database of tables of one block each."""
    make_tables(cluster, database)
    return database


def make_tables(cluster: LabCluster, database: str, count: int = len(TABLES)) -> None:
    with session_on(cluster.primary, database, autocommit=True) as connection:
        for number in range(count):
            connection.execute(f"create table t{number} as select g as id, 'v' || g as v from generate_series(1, 20) g")
    cluster.catch_up()


@pytest.fixture
def broken(make_cluster: MakeCluster, newest_major: int) -> LabCluster:
    """A cluster of the test's own, one row of whose table t0 has another value on standby1."""
    made = make_cluster(major=newest_major)
    make_tables(made, "postgres", 200)
    apply_fault(made, "flip-row-bytes", node="standby1", database="postgres", relation="public.t0")
    return made


def only(database: str) -> dict[str, Any]:
    return {"databases": (database,), "tables": ("public.*",)}


def compared(events: list[Event]) -> set[str]:
    return {event.relation for event in events if isinstance(event, ChunkCompared)}


def progress_of(events: list[Event]) -> Progress:
    """What a run has told that it proved, as the history would keep it."""
    [began] = [event for event in events if isinstance(event, ProvingBegan)]
    proofs = tuple(event.proof for event in events if isinstance(event, BlocksProven))
    return Progress(run_id="earlier", started_at=datetime.now(UTC), premises=began.premises, proofs=proofs)


def after(count: int, act: Callable[[], None]) -> Callable[[Event], None]:
    """Return a reader of events that acts once, when so many chunks were compared."""
    seen = 0

    def on_event(event: Event) -> None:
        nonlocal seen
        if isinstance(event, ChunkCompared):
            seen += 1
            if seen == count:
                act()

    return on_event


async def ended_early(cluster: LabCluster, database: str, *, after_chunks: int = 4) -> tuple[AuditResult, list[Event]]:
    """Audit one table after the other, and stop in the middle."""
    controls = Controls()
    controls.on_event = after(after_chunks, controls.stop.set)
    return await audit_of(cluster, jobs=1, controls=controls, **only(database))


@newest_only
async def test_while_it_holds_still_nothing_of_it_is_left_on_any_node(cluster: LabCluster, tables: str) -> None:
    gate = Gate()
    held: list[tuple[object, ...]] = [("nobody looked",)]

    async def look() -> None:
        for _ in range(100):
            rows = [row for found in left_behind(cluster).values() for row in found]
            held[:] = [row for row in rows if row[0] in ("lock", "snapshot")]
            if not held:
                break
            await asyncio.sleep(0.05)
        gate.open(USER)

    def hold() -> None:
        gate.close(USER, "paused")
        tasks.append(asyncio.create_task(look()))

    tasks: list[asyncio.Task[None]] = []
    controls = Controls(gate=gate, on_event=after(3, hold))
    result, events = await audit_of(cluster, controls=controls, **only(tables))
    assert held == []
    assert result.verdict is Verdict.CONSISTENT
    assert result.held_s > 0
    assert [event.reason for event in events if isinstance(event, HeldStill)] == ["paused"]


@newest_only
async def test_no_time_limit_of_the_audit_runs_while_it_holds_still(cluster: LabCluster, tables: str) -> None:
    """A row in flight when the audit is held must not be given up because of that."""
    primary = cluster.primary
    with session_on(primary, tables) as writer:
        writer.execute("update t0 set v = 'other'")
        gate = Gate()

        def hold() -> None:
            gate.close(USER, "paused")
            asyncio.get_running_loop().call_later(1.5, go_on)

        def go_on() -> None:
            writer.commit()
            gate.open(USER)

        controls = Controls(gate=gate, on_event=after(1, hold))
        result, _ = await audit_of(cluster, jobs=1, settle_budget_s=1.0, controls=controls, **only(tables))
    assert result.verdict is Verdict.CONSISTENT


@newest_only
async def test_a_time_budget_ends_in_what_was_proven(cluster: LabCluster, tables: str) -> None:
    gate = Gate()
    controls = Controls(gate=gate, on_event=after(4, lambda: gate.close(USER, "paused")))
    result, _ = await audit_of(cluster, jobs=1, time_budget_s=2.0, controls=controls, **only(tables))
    assert (result.verdict, result.stop_code, result.stop_outcome) == (
        Verdict.INCONCLUSIVE,
        StopCode.TIME_BUDGET,
        Outcome.PARTIAL,
    )
    verdicts = [relation.verdict for relation in result.relations]
    assert verdicts.count(Verdict.CONSISTENT) == 4
    assert set(verdicts) == {Verdict.CONSISTENT, Verdict.INCONCLUSIVE}
    assert {note.code for note in result.not_checked if not note.by_design} == {"time_budget"}
    assert (result.finished_at - result.started_at).total_seconds() < 10


async def test_at_the_first_divergence_it_ends_where_that_is_asked(broken: LabCluster) -> None:
    make_tables(broken, broken.create_database("read_later"))
    result, events = await audit_of(broken, jobs=1, fail_fast=True, tables=("public.*",))
    assert (result.verdict, result.stop_code) == (Verdict.DIVERGED, StopCode.FAIL_FAST)
    assert {event.database for event in events if isinstance(event, ChunkCompared)} == {"postgres"}
    assert any(relation.rows is None for relation in result.relations)
    notes = [note for note in result.not_checked if note.database == "read_later"]
    assert {(note.node, note.code) for note in notes} == {("standby1", "fail_fast"), ("standby2", "fail_fast")}


@newest_only
async def test_a_limit_holds_it_until_the_servers_are_within(cluster: LabCluster, tables: str) -> None:
    primary, standby = cluster.primary, cluster.nodes["standby1"]
    standby.execute("select pg_wal_replay_pause()")
    primary.execute("create table wal as select repeat('x', 100) from generate_series(1, 20000)", dbname=tables)

    def on_event(event: Event) -> None:
        if isinstance(event, HeldStill):
            standby.execute("select pg_wal_replay_resume()")

    try:
        result, events = await audit_of(
            cluster,
            controls=Controls(on_event=on_event),
            pause_if=PauseLimits(lag_bytes=1024**2),
            **only(tables),
        )
    finally:
        standby.execute("select pg_wal_replay_resume()")
    held = [event.reason for event in events if isinstance(event, HeldStill)]
    assert held
    assert held[0].startswith("standby1 is ")
    assert "(limit 1MB)" in held[0]
    assert result.verdict is Verdict.CONSISTENT


async def test_limits_that_are_far_away_hold_nothing(cluster: LabCluster, tables: str) -> None:
    limits = PauseLimits(active_clients=1000, xmin_age=10**9, checkpoints_per_min=1000.0)
    result, events = await audit_of(cluster, pause_if=limits, **only(tables))
    assert result.verdict is Verdict.CONSISTENT
    assert not [event for event in events if isinstance(event, HeldStill)]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAudit:
    """An audit that a limit held still before it had read anything, until the reason was taken away."""

    result: AuditResult
    events: list[Event]
    why: str
    compared_before: set[str]
    """What was compared while the reason stood."""

    def assert_held_and_then_proven(self) -> None:
        """Check that it waited for that very reason, and proved everything when it was gone."""
        assert self.compared_before == set()
        assert self.why in [event.reason for event in self.events if isinstance(event, Waited)]
        assert self.result.held_s > 0
        assert self.result.verdict is Verdict.CONSISTENT
        assert compared(self.events) == {f"public.{name}" for name in TABLES}


async def held_audit(
    cluster: LabCluster,
    database: str,
    limits: PauseLimits,
    *,
    lift: Callable[[], object],
    press: Callable[[], object] = lambda: None,
) -> HeldAudit:
    """Audit with `limits`, `press` until one is exceeded, and `lift` what exceeds it a while later.

    The test holds the audit too until the limit does, so that it is held from its beginning, however quick it is.
    """
    gate, exceeded, events = Gate(), asyncio.Event(), list[Event]()
    gate.close("test", "staged")

    def on_event(event: Event) -> None:
        events.append(event)
        if isinstance(event, HeldStill) and "(limit " in event.reason:
            exceeded.set()

    async def stage() -> tuple[str, set[str]]:
        while not exceeded.is_set():
            await asyncio.to_thread(press)
            await asyncio.sleep(0.1)
        gate.open("test")
        why = gate.why
        await asyncio.sleep(1.2)  # for longer than the watch takes from one look to the next
        seen = compared(events)
        await asyncio.to_thread(lift)
        return why, seen

    staging = asyncio.create_task(stage())
    try:
        # With a budget, so that one which nothing lets go on fails instead of hanging.
        controls = Controls(gate=gate, on_event=on_event)
        result, _ = await audit_of(cluster, controls=controls, pause_if=limits, time_budget_s=30.0, **only(database))
        assert exceeded.is_set(), "no limit held it"
        why, seen = await asyncio.wait_for(staging, timeout=10)
    finally:
        staging.cancel()
    return HeldAudit(result=result, events=events, why=why, compared_before=seen)


@contextmanager
def busy_clients(server: LocalServer, count: int) -> Iterator[Callable[[], None]]:
    """Keep so many clients of a server active; what is given ends them."""
    name = "somebody's clients"

    def work() -> None:
        with suppress(NodeLost, StatementFailed), session_on(server, "postgres", autocommit=True) as client:
            client.execute("select set_config('application_name', %s, false)", [name])
            client.execute("select pg_sleep(600)")

    def end() -> None:
        server.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s", [name])

    active = "select count(*) from pg_stat_activity where application_name = %s and wait_event = 'PgSleep'"
    clients = [Background(work) for _ in range(count)]
    try:
        until(lambda: value(server, active, name) == count, "clients are active")
        yield end
    finally:
        end()
        for client in clients:
            client.join()


@newest_only
@pytest.mark.parametrize("node", ["primary", "standby2"])
async def test_active_clients_of_any_node_hold_it_until_they_are_fewer(
    cluster: LabCluster, tables: str, node: str
) -> None:
    with busy_clients(cluster.nodes[node], 3) as end:
        held = await held_audit(cluster, tables, PauseLimits(active_clients=2), lift=end)
    assert held.why == f"3 clients are active on {node} (limit 2)"
    held.assert_held_and_then_proven()


@newest_only
@pytest.mark.parametrize("node", ["primary", "standby1"])
async def test_an_old_snapshot_holds_it_until_that_is_gone(cluster: LabCluster, tables: str, node: str) -> None:
    """One of a standby counts too: by its feedback, the slot on the primary holds back vacuum for it."""
    primary = cluster.primary
    spend = "do $$ begin for number in 1..3000 loop perform pg_current_xact_id(); commit; end loop; end $$"
    old_slots = "select array_agg(slot_name::text) from pg_replication_slots where age(xmin) > 2000"
    with session_on(cluster.nodes[node], tables) as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from t0")
        primary.execute(spend)
        # Feedback comes late: until then the slots look as if every standby had an old snapshot.
        until(lambda: value(primary, old_slots) == ([node] if node != "primary" else None), "feedback has come")
        held = await held_audit(cluster, tables, PauseLimits(xmin_age=2000), lift=reader.rollback)
    assert re.fullmatch(r"a snapshot of the primary is \d,\d{3} transactions old \(limit 2,000\)", held.why)
    held.assert_held_and_then_proven()


async def test_requested_checkpoints_hold_it_until_nobody_counts_them(cluster: LabCluster, tables: str) -> None:
    """Without the counts of a minute ago, as after a reset of the statistics, the minute need not be waited for."""
    primary = cluster.primary
    counted = "checkpointer" if primary.programs.major >= 17 else "bgwriter"
    held = await held_audit(
        cluster,
        tables,
        PauseLimits(checkpoints_per_min=2.0),
        press=lambda: primary.execute("checkpoint"),
        lift=lambda: primary.execute("select pg_stat_reset_shared(%s)", [counted]),
    )
    assert re.fullmatch(r"\d+ checkpoints were requested within a minute \(limit 2\)", held.why)
    held.assert_held_and_then_proven()


@newest_only
async def test_a_limit_that_the_role_cannot_watch_is_refused(cluster: LabCluster, tables: str) -> None:
    cluster.primary.execute("create role plain login; grant pg_read_all_data to plain")
    cluster.catch_up()
    targets = [NodeTarget(name=each.name, dsn=f"{each.dsn} user=plain") for each in targets_of(cluster, superuser=True)]
    try:
        with pytest.raises(NodeUnfit, match=r"pause_if\.active_clients cannot be watched") as refused:
            await audit_of(cluster, targets=targets, pause_if=PauseLimits(active_clients=3), **only(tables))
        assert refused.value.hint == 'GRANT pg_monitor TO "plain";'
    finally:
        cluster.primary.execute("drop role plain")


@newest_only
async def test_a_gentle_audit_proves_the_same(cluster: LabCluster, tables: str) -> None:
    result, events = await audit_of(cluster, jobs=1, pacing=Pacing.GENTLE, **only(tables))
    assert result.verdict is Verdict.CONSISTENT
    reading = sum(event.elapsed_s for event in events if isinstance(event, ChunkCompared))
    assert (result.finished_at - result.started_at).total_seconds() > 8 * reading


# --- going on ---


@newest_only
async def test_only_what_is_not_proven_yet_is_read(cluster: LabCluster, tables: str) -> None:
    first, told = await ended_early(cluster, tables)
    assert first.stop_code is StopCode.INTERRUPTED
    proven = {f"public.{found.name}" for found in first.relations if found.verdict is Verdict.CONSISTENT}
    assert len(proven) >= 3
    result, events = await audit_of(cluster, controls=Controls(earlier=progress_of(told)), **only(tables))
    assert result.verdict is Verdict.CONSISTENT
    assert compared(events) == {f"public.{name}" for name in TABLES} - proven
    assert result.resumed is not None
    assert (result.resumed.run_id, result.resumed.relations) == ("earlier", len(proven))
    assert {relation.rows for relation in result.relations} == {20}
    assert progress_of(events).proofs[: len(proven)] == progress_of(told).proofs


@newest_only
async def test_what_was_redefined_rewritten_or_dropped_since_is_not_taken_over(
    cluster: LabCluster, tables: str
) -> None:
    _, told = await audit_of(cluster, **only(tables))
    for statement in (
        "alter table t0 alter v type varchar",
        "alter table t1 rename to other",
        "truncate t2",
        "drop table t3",
        "create table t3 as select 1 as id",
        "alter table t4 add extra int",
        "vacuum full t5",
    ):
        cluster.primary.execute(statement, dbname=tables)
    cluster.catch_up()
    result, events = await audit_of(cluster, controls=Controls(earlier=progress_of(told)), **only(tables))
    assert result.verdict is Verdict.CONSISTENT
    assert compared(events) == {f"public.{name}" for name in ("t0", "other", "t2", "t3", "t4", "t5")}


@newest_only
async def test_that_all_which_was_proven_has_changed_since_is_told(cluster: LabCluster, tables: str) -> None:
    _, told = await audit_of(cluster, **only(tables))
    for name in TABLES:
        cluster.primary.execute(f"alter table {name} add extra int", dbname=tables)
    cluster.catch_up()
    result, _ = await audit_of(cluster, controls=Controls(earlier=progress_of(told)), **only(tables))
    assert (result.verdict, result.resumed) == (Verdict.CONSISTENT, None)
    why = "every relation of which it had proven something was changed, left out or filtered since"
    assert [found.what for found in result.findings if found.code == "resume"] == [
        f"nothing of an earlier run is built upon: {why}"
    ]


@newest_only
async def test_another_level_proves_everything_again(cluster: LabCluster, tables: str) -> None:
    _, told = await audit_of(cluster, **only(tables))
    result, events = await audit_of(
        cluster, level=Level.STRONG, controls=Controls(earlier=progress_of(told)), **only(tables)
    )
    assert result.verdict is Verdict.CONSISTENT
    assert len(compared(events)) == len(TABLES)
    assert result.resumed is None


@newest_only
async def test_what_was_compared_by_the_servers_alone_is_compared_again_where_the_client_is_to_compare_it(
    cluster: LabCluster, tables: str
) -> None:
    _, told = await audit_of(cluster, **only(tables))
    result, events = await audit_of(
        cluster, cross_check=1.0, controls=Controls(earlier=progress_of(told)), **only(tables)
    )
    assert (result.verdict, result.resumed) == (Verdict.CONSISTENT, None)
    assert result.cross_check is not None
    assert result.cross_check.rows == 20 * len(TABLES)
    _, told = await audit_of(cluster, cross_check=1.0, **only(tables))
    result, events = await audit_of(
        cluster, cross_check=1.0, controls=Controls(earlier=progress_of(told)), **only(tables)
    )
    assert compared(events) == set()
    assert (result.verdict, result.resumed is not None) == (Verdict.CONSISTENT, True)


@newest_only
async def test_rows_that_another_filter_left_out_are_compared_when_a_run_is_resumed(
    cluster: LabCluster, tables: str
) -> None:
    narrow, wide = (row_filter(f"t0: id <= {most}", origin="--where") for most in (5, 15))
    _, told = await audit_of(cluster, filters=(narrow,), **only(tables))
    for now, rows in ((narrow, None), (wide, 15)):
        result, events = await audit_of(
            cluster, filters=(now,), controls=Controls(earlier=progress_of(told)), **only(tables)
        )
        assert result.verdict is Verdict.CONSISTENT
        assert compared(events) == ({"public.t0"} if rows else set())
        assert relation_of(result, "t0").rows == (rows or 5)


async def test_a_difference_is_never_taken_for_proven(broken: LabCluster) -> None:
    first, told = await audit_of(broken, **only("postgres"))
    assert first.verdict is Verdict.DIVERGED
    result, events = await audit_of(broken, controls=Controls(earlier=progress_of(told)), **only("postgres"))
    assert result.verdict is Verdict.DIVERGED
    assert compared(events) == {"public.t0"}
    assert {replica.node: replica.verdict for replica in relation_of(result, "t0").replicas} == {
        "standby1": Verdict.DIVERGED,
        "standby2": Verdict.CONSISTENT,
    }


async def test_a_standby_that_was_restarted_is_proven_again_alone(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = make_cluster(major=newest_major)
    cluster.primary.execute("create table visit as select g as id from generate_series(1, 500) g")
    cluster.catch_up()
    _, told = await audit_of(cluster, **only("postgres"))
    cluster.nodes["standby1"].restart()
    result, events = await audit_of(cluster, controls=Controls(earlier=progress_of(told)), **only("postgres"))
    assert result.verdict is Verdict.CONSISTENT
    assert compared(events) == {"public.visit"}
    [proof] = [
        event.proof for event in events if isinstance(event, BlocksProven) and "standby1" in event.proof.replicas
    ]
    assert proof.replicas == ("standby1",)


async def test_what_was_proven_against_one_primary_is_not_taken_over_against_the_next(broken: LabCluster) -> None:
    """A replica that never was a copy is promoted, and what was equal to the old primary is not equal to it."""
    _, told = await audit_of(broken, **only("postgres"))
    fallen, promoted, other = broken.primary, broken.nodes["standby1"], broken.nodes["standby2"]
    fallen.stop()
    promoted.promote()
    other.follow(promoted)
    other.reload()
    result, events = await audit_of(broken, controls=Controls(earlier=progress_of(told)), **only("postgres"))
    assert result.primary.name == "standby1"
    assert {found.relation for found in result.divergences} == {"public.t0"}
    assert len(compared(events)) == 200
    assert [(found.code, found.what, found.outcome) for found in result.findings if found.code == "resume"] == [
        ("resume", f"nothing of an earlier run is built upon: {fallen.name} was the primary then", Outcome.PROVEN)
    ]
