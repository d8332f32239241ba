"""What real servers tell in one sample, and what it costs them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest

from replcheck.errors import ReplcheckError
from replcheck.lab.backups import ARCHIVING, archive_all, begin_archive
from replcheck.lab.cluster import LabCluster
from replcheck.model.live import NodeAnswer
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.postgres.sampling import open_sampling_session, sample_node
from replcheck.postgres.session import Session
from replcheck.watch.sampler import steady_clock
from tests.conftest import MakeCluster
from tests.staged import Background, until, value


@asynccontextmanager
async def session_of(cluster: LabCluster, node: str, dsn: str | None = None) -> AsyncIterator[Session]:
    session = await open_sampling_session(NodeTarget(name=node, dsn=dsn or cluster.audit_dsn(node)))
    try:
        yield session
    finally:
        await session.close()


async def asked(cluster: LabCluster, node: str, dsn: str | None = None, *, first: bool = True) -> NodeAnswer:
    async with session_of(cluster, node, dsn) as session:
        return await sample_node(session, steady_clock(), first=first)


async def test_a_primary_tells_its_role_position_and_who_it_sends_to(cluster: LabCluster) -> None:
    cluster.catch_up()
    answer = await asked(cluster, "primary")
    assert (answer.role, answer.timeline, answer.replayed_lsn, answer.receiver) == (NodeRole.PRIMARY, 1, None, None)
    assert answer.insert_lsn is not None
    assert answer.server_version_num // 10000 == cluster.state.major
    assert {sender.application for sender in answer.senders} == {"standby1", "standby2"}
    assert {(sender.state, sender.sync_state, sender.logical) for sender in answer.senders} == {
        ("streaming", "async", False)
    }
    assert {(slot.name, slot.active, slot.wal_status) for slot in answer.slots} == {
        ("standby1", True, "reserved"),
        ("standby2", True, "reserved"),
    }
    assert answer.archiver is not None
    assert answer.archiver.mode == "off"
    assert (answer.data_checksums, answer.checksum_failures) == (True, 0)
    assert answer.wal_segment_size == 16 << 20
    assert answer.next_xid is not None
    assert answer.oldest_xid is not None
    assert answer.oldest_xid <= answer.next_xid
    assert abs(answer.server_at - datetime.now(UTC)) < timedelta(seconds=10)
    assert answer.host == str(cluster.state.socket_dir)


async def test_a_standby_tells_how_far_it_is_and_from_whom(cluster: LabCluster) -> None:
    cluster.catch_up()
    answer = await asked(cluster, "standby1")
    assert (answer.role, answer.timeline, answer.insert_lsn, answer.senders) == (NodeRole.STANDBY, 1, None, ())
    assert answer.receiver is not None
    assert (answer.receiver.status, answer.receiver.host) == ("streaming", str(cluster.state.socket_dir))
    assert answer.receiver.last_message_at is not None
    assert answer.received_lsn is not None
    assert answer.received_lsn == answer.replayed_lsn
    assert answer.replayed_commit_at is not None
    assert (answer.replay_paused, answer.apply_delay_s, answer.cluster_name) == (False, 0.0, "standby1")
    assert (answer.next_xid, answer.oldest_xid) == (None, None)


async def test_the_nodes_of_a_cluster_are_told_apart_and_belong_together(cluster: LabCluster) -> None:
    answers = [await asked(cluster, node) for node in cluster.nodes]
    assert len({answer.system_identifier for answer in answers}) == 1
    assert len({(answer.started_at, answer.own_port) for answer in answers}) == 3


async def test_a_role_without_privileges_sees_less_and_says_nothing_wrong(cluster: LabCluster) -> None:
    cluster.primary.execute("create role plain login")
    try:
        cluster.catch_up()
        primary = await asked(cluster, "primary", cluster.primary.dsn(user="plain"))
        standby = await asked(cluster, "standby1", cluster.node("standby1").dsn(user="plain"))
    finally:
        cluster.primary.execute("drop role plain")
    assert {(sender.state, sender.address, sender.replayed_lsn) for sender in primary.senders} == {(None, "", None)}
    assert len(primary.senders) == 2
    assert (primary.timeline, primary.oldest_wal, primary.archived_lsn) == (1, None, None)
    assert standby.receiver is not None
    assert (standby.receiver.status, standby.receiver.host, standby.timeline) == (None, "", None)
    assert standby.replayed_lsn is not None


async def test_a_first_answer_tells_the_oldest_wal_and_the_last_checkpoint(cluster: LabCluster) -> None:
    cluster.primary.execute("checkpoint")
    answer = await asked(cluster, "primary")
    assert answer.oldest_wal is not None
    assert answer.insert_lsn is not None
    assert answer.oldest_wal % answer.wal_segment_size == 0
    assert answer.oldest_wal <= answer.insert_lsn
    [mark] = answer.earlier
    assert mark.lsn <= answer.insert_lsn
    assert mark.at <= answer.at
    assert mark.next_xid is not None
    assert (await asked(cluster, "primary", first=False)).earlier == ()


async def test_a_first_answer_tells_what_is_archived_even_after_a_base_backup(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    cluster = make_cluster(major=newest_major, standbys=0, settings=ARCHIVING)
    archive = begin_archive(cluster)
    cluster.primary.execute("create table filled ()")
    [(segment,)] = cluster.primary.execute("select pg_walfile_name(pg_current_wal_insert_lsn())")
    archive_all(cluster, archive)
    deadline = asyncio.get_running_loop().time() + 30
    while cluster.primary.execute("select last_archived_wal from pg_stat_archiver") != [(segment,)]:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    answer = await asked(cluster, "primary")
    assert answer.archived_lsn == (int(segment[16:], 16) + 1) * (16 << 20)
    full = next(mark for mark in answer.earlier if mark.lsn == answer.archived_lsn)
    assert timedelta(0) <= answer.at - full.at < timedelta(seconds=60)
    assert answer.archiver is not None
    assert answer.archiver.archived >= 1


async def test_a_sample_costs_the_server_less_than_a_millisecond(cluster: LabCluster) -> None:
    costs = {}
    for node in cluster.nodes:
        async with session_of(cluster, node) as session:
            plans = [
                json.loads(bytes(row[0]) if isinstance(row[0], bytes) else row[0])
                if isinstance(row[0], bytes | str)
                else row[0]
                for _ in range(40)
                for row in await session.fetch("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE sample")
            ]
        # The plan is made once for a session; other work on this machine only ever adds.
        costs[node] = min(plan[0]["Execution Time"] for plan in plans)
    assert max(costs.values()) < 1.0, costs


async def test_a_sample_is_one_prepared_statement(cluster: LabCluster) -> None:
    async with session_of(cluster, "primary") as session:
        for _ in range(5):
            await sample_node(session, steady_clock())
        ((count, plans),) = await session.fetch(
            "SELECT count(*), max(generic_plans + custom_plans) FROM pg_prepared_statements"
        )
    assert (count, plans) == (1, 5)


@pytest.mark.parametrize("delay", ["0", "5min", "250ms", "1h"])
async def test_a_delay_on_purpose_is_told_in_seconds(cluster: LabCluster, delay: str) -> None:
    standby = cluster.node("standby2")
    standby.configure(recovery_min_apply_delay=delay)
    standby.reload()
    wanted, told = {"0": 0.0, "5min": 300.0, "250ms": 0.25, "1h": 3600.0}[delay], None
    try:
        for _ in range(100):
            told = (await asked(cluster, "standby2")).apply_delay_s
            if told == wanted:
                break
            await asyncio.sleep(0.05)
        assert told == wanted
    finally:
        standby.configure(recovery_min_apply_delay=None)
        standby.reload()


async def test_a_pooler_is_refused(cluster: LabCluster) -> None:
    from replcheck.errors import NodeUnfit
    from tests.proxies import proxied

    with proxied(cluster.primary, pooler=True) as pooler, pytest.raises(NodeUnfit):
        await asked(cluster, "primary", pooler.dsn(cluster.audit_dsn("primary")))


def test_a_clock_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 20.0, 5.0, 5.0, 30.0])
    beats = iter(range(100))

    class Fake(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(next(times), UTC)

    monkeypatch.setattr("replcheck.watch.sampler.datetime", Fake)
    monkeypatch.setattr("replcheck.watch.sampler.time.monotonic", lambda: float(next(beats)))
    clock: Callable[[], datetime] = steady_clock()
    told = [clock() for _ in range(4)]
    assert told == sorted(told)
    assert told[2] > told[1] > told[0]
    assert told[3] == datetime.fromtimestamp(30, UTC)


async def test_transactions_that_are_open_below_the_newest_ended_one_are_counted(cluster: LabCluster) -> None:
    holding = asyncio.create_task(asyncio.to_thread(cluster.primary.execute, _HOLD))
    async with session_of(cluster, "primary") as session:
        try:
            for _ in range(600):
                if cluster.primary.execute(_HELD) == [(True,)]:
                    break
                await asyncio.sleep(0.05)
            cluster.primary.execute("select pg_current_xact_id()")
            answer = await sample_node(session, steady_clock())
        finally:
            cluster.primary.execute(_END)
            with suppress(ReplcheckError):
                await holding
        after = await sample_node(session, steady_clock())
    assert answer.next_xid is not None
    assert answer.oldest_xid is not None
    assert (answer.open_xids, answer.oldest_xid < answer.next_xid) == (1, True)
    assert after.open_xids == 0


_HOLD = "select pg_current_xact_id(), pg_sleep(60) as held_by_a_test"
_HELD = (
    "select count(*) = 1 from pg_stat_activity where query like '%held_by_a_test' and backend_xid is not null "
    "and pid <> pg_backend_pid()"
)
_END = (
    "select pg_cancel_backend(pid) from pg_stat_activity where query like '%held_by_a_test' and backend_xid is not null"
)


async def test_the_slot_of_a_standby_is_no_temporary_one(cluster: LabCluster) -> None:
    answer = await asked(cluster, "primary")
    assert {sender.temporary_slot for sender in answer.senders} == {False}


def sync_states(answer: NodeAnswer) -> dict[str, str | None]:
    return {sender.application: sender.sync_state for sender in answer.senders}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("FIRST 1 (standby2, standby1)", {"standby1": "potential", "standby2": "sync"}),
        ("ANY 1 (standby1)", {"standby1": "quorum", "standby2": "async"}),
    ],
)
async def test_which_standby_the_commits_wait_for_is_told(cluster: LabCluster, names: str, wanted: object) -> None:
    primary, told = cluster.primary, None
    try:
        primary.configure(synchronous_standby_names=names)
        primary.reload()
        for _ in range(600):
            told = sync_states(await asked(cluster, "primary"))
            if told == wanted:
                break
            await asyncio.sleep(0.05)
        assert told == wanted
    finally:
        primary.configure(synchronous_standby_names=None)
        primary.reload()


async def test_a_slot_that_nobody_reads_retains_each_byte_that_is_written(cluster: LabCluster) -> None:
    cluster.primary.execute("select pg_create_physical_replication_slot('unread', true)")
    try:
        before = await asked(cluster, "primary")
        cluster.primary.execute("select pg_logical_emit_message(false, 'filler', repeat('x', 3000000))")
        after = await asked(cluster, "primary")
    finally:
        cluster.primary.execute("select pg_drop_replication_slot('unread')")
    kept = [next(slot for slot in answer.slots if slot.name == "unread") for answer in (before, after)]
    assert [(slot.active, slot.logical, slot.wal_status) for slot in kept] == [(False, False, "reserved")] * 2
    assert before.insert_lsn is not None
    assert after.insert_lsn is not None
    assert kept[0].retained_bytes is not None
    assert kept[1].retained_bytes is not None
    written = after.insert_lsn - before.insert_lsn
    assert written >= 3_000_000
    assert kept[1].retained_bytes - kept[0].retained_bytes == written


async def test_a_read_that_replay_ended_is_counted_as_a_conflict(cluster: LabCluster, database: str) -> None:
    standby = cluster.node("standby1")
    cluster.primary.execute("create table held as select 1 as id", dbname=database)
    cluster.catch_up()
    before = await asked(cluster, "standby1")
    standby.configure(max_standby_streaming_delay="0")
    standby.reload()
    try:
        until(lambda: value(standby, "show max_standby_streaming_delay") == "0", "the limit is in force")
        reading = Background(lambda: standby.execute("select pg_sleep(60) from held", dbname=database))
        until(lambda: value(standby, _READ) == 1, "the table is being read")
        cluster.primary.execute("drop table held", dbname=database)
        with pytest.raises(ReplcheckError, match="SQLSTATE 40001"):
            reading.join()
        until(lambda: value(standby, _CONFLICTS) > before.conflicts, "a recovery conflict")
        after = await asked(cluster, "standby1")
    finally:
        standby.configure(max_standby_streaming_delay=None)
        standby.reload()
    assert after.conflicts == value(standby, _CONFLICTS)
    assert (await asked(cluster, "primary")).conflicts == 0


_READ = "select count(*) from pg_stat_activity where query like '%from held' and wait_event = 'PgSleep'"
_CONFLICTS = "select sum(conflicts)::int from pg_stat_database"
