"""The cross-check on real servers: what a blind digest misses is found, and a healthy copy is never accused."""

import asyncio
import os
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from psycopg import sql

from replcheck.audit.cross_check import DISAGREE
from replcheck.errors import StatementFailed
from replcheck.events import BlocksProven, Event, ProvingBegan, RowsDiffer
from replcheck.lab.cluster import LabCluster
from replcheck.lab.faults import apply_fault
from replcheck.lab.planted import PlantedFault
from replcheck.model.audit import AuditResult, DifferenceKind
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.progress import Progress
from replcheck.postgres import digests
from replcheck.postgres.catalog import Relation, read_relations
from replcheck.postgres.copying import stream_ranges
from replcheck.postgres.digests import LAST_BLOCK
from replcheck.postgres.filters import row_filter
from replcheck.postgres.local import connect
from replcheck.postgres.session import Limits, Session, open_session
from replcheck.report.document import audit_document
from tests.auditing import Controls, audit_of, divergences_of, relation_of, run_audit_of
from tests.commands import run_command
from tests.postgres.test_levels import TYPES
from tests.staged import audit, newest_only


@pytest.fixture(scope="module")
def streamed(cluster: LabCluster) -> Iterator[str]:
    """A database with tables of many shapes."""
    name = cluster.create_database("streamed")
    with connect(cluster.primary.dsn(name), node="primary") as connection:
        columns = ", ".join(f"{expression} as {column}" for column, expression in TYPES.items())
        connection.execute(f"create table typed as select {columns} from generate_series(1, 500) n")
        connection.execute("create table bare ()")
        connection.execute("insert into bare select from generate_series(1, 50)")
        connection.execute("create table empty (id int)")
        connection.execute("create table unsent (a aclitem[], x xml, n int)")
        acl = "array[makeaclitem(10, 10, 'SELECT', false)]"
        connection.execute(f"insert into unsent select {acl}, null, n from generate_series(1, 50) n")
        connection.execute("create table wide (id int, v text)")
        connection.execute("alter table wide alter column v set storage external")
        connection.execute("insert into wide select n, repeat(md5(n::text), 6000) from generate_series(1, 200) n")
        connection.execute("create table many as select n as id, repeat('x', 50) as v from generate_series(1, 30000) n")
        connection.execute("delete from many where id % 7 = 0")
    cluster.catch_up()
    yield name
    cluster.drop_database(name)


@pytest.fixture
async def sessions(cluster: LabCluster, streamed: str) -> AsyncIterator[dict[str, Session]]:
    opened = {}
    for name in ("primary", "standby1"):
        target = NodeTarget(name=name, dsn=cluster.audit_dsn(name))
        opened[name] = await open_session(target, database=streamed, purpose="test", limits=Limits())
        await opened[name].fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    yield opened
    for session in opened.values():
        await session.close()


async def relations_of(session: Session) -> dict[str, Relation]:
    return {found.name: found for found in (await read_relations(session)).values()}


async def test_streams_of_the_same_rows_are_the_same_and_cut_alike(sessions: dict[str, Session]) -> None:
    for name, relation in (await relations_of(sessions["primary"])).items():
        if name not in {"typed", "bare", "empty", "unsent", "wide", "many"}:
            continue
        whole = [await stream_ranges(session, relation, [(0, LAST_BLOCK)]) for session in sessions.values()]
        assert (whole[0].rows, whole[0].blocks) == (whole[1].rows, whole[1].blocks)
        assert [part.in_recovery for part in whole] == [False, True]
        ((rows, blocks),) = await sessions["primary"].read(
            sql.SQL("select count(*), count(distinct (ctid::text::point)[0]) from {}").format(
                sql.Identifier(relation.schema, relation.name)
            )
        )
        assert (whole[0].rows, len(whole[0].blocks)) == (rows, blocks)
        cut = await stream_ranges(sessions["primary"], relation, [(0, 1), (1, 3), (3, 200), (200, LAST_BLOCK)])
        assert (cut.rows, cut.blocks) == (whole[0].rows, whole[0].blocks)


async def test_a_stream_leaves_the_snapshot_and_no_lock(sessions: dict[str, Session]) -> None:
    for session in sessions.values():
        relation = (await relations_of(session))["many"]
        before = await session.fetch("SELECT pg_catalog.pg_current_snapshot()::text")
        await stream_ranges(session, relation, [(0, LAST_BLOCK)])
        assert await session.fetch("SELECT pg_catalog.pg_current_snapshot()::text") == before
        held = await session.fetch(
            "SELECT count(*) FROM pg_catalog.pg_locks WHERE pid = pg_backend_pid() AND relation = %s::bigint::oid",
            [relation.oid],
        )
        seqscan = await session.fetch("SELECT pg_catalog.current_setting('enable_seqscan')")
        assert (held, [bytes(value) if isinstance(value, bytes) else value.encode() for (value,) in seqscan]) == (
            [(0,)],
            [b"on"],
        )


async def test_a_stream_that_fails_leaves_the_transaction(sessions: dict[str, Session]) -> None:
    session = sessions["primary"]
    found = await relations_of(session)
    with pytest.raises(StatementFailed):
        await stream_ranges(session, replace(found["many"], name="nothing"), [(0, 1), (1, 2)])
    assert (await stream_ranges(session, found["bare"], [(0, LAST_BLOCK)])).rows == 50


async def test_memory_does_not_grow_with_what_is_streamed(sessions: dict[str, Session]) -> None:
    session = sessions["primary"]
    relation = (await relations_of(session))["wide"]
    await stream_ranges(session, relation, [(0, LAST_BLOCK)])
    tracemalloc.start()
    try:
        found = await stream_ranges(session, relation, [(0, LAST_BLOCK)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.rows == 200
    assert peak < 3_000_000 < 200 * 192_000


def test_everything_is_cross_checked_where_all_of_it_is_asked_for(cluster: LabCluster, streamed: str) -> None:
    result, _ = run_audit_of(cluster, databases=(streamed,), catalogs=False, cross_check=1.0)
    assert (result.verdict, result.divergences) == (Verdict.CONSISTENT, ())
    told = result.cross_check
    assert told is not None
    rows = sum(relation.rows or 0 for relation in result.relations)
    assert (told.share, told.rows, told.mismatches, told.too_wide) == (1.0, rows, 0, 0)
    assert told.chunks >= 5
    assert audit_document(result)["cross_check"] == {
        "share": 1.0, "chunks": told.chunks, "rows": rows, "mismatches": 0, "too_wide": 0
    }  # fmt: skip
    assert relation_of(result, "many").rows == 30000 - 30000 // 7


@newest_only
def test_a_share_is_drawn_and_none_unless_asked(cluster: LabCluster, streamed: str) -> None:
    none, _ = run_audit_of(cluster, databases=(streamed,))
    assert none.cross_check is None
    some, _ = run_audit_of(cluster, databases=(streamed,), cross_check=0.1)
    assert some.verdict is Verdict.CONSISTENT
    assert some.cross_check is not None
    holding = sum(1 for relation in some.relations if relation.rows and relation.kind.value != "sequence")
    assert holding / 10 - 1 <= some.cross_check.chunks <= holding / 10 + 3
    assert 0 < some.cross_check.rows < some.rows


@pytest.fixture(scope="module")
def torn(clusters_root: Path, newest_major: int) -> Iterator[tuple[LabCluster, PlantedFault]]:
    """A cluster whose first standby holds one changed row."""
    with LabCluster.create(clusters_root, name=f"blind_{os.getpid()}", major=newest_major) as cluster:
        cluster.primary.execute(
            "create table torn as select n as id, repeat('x', 100) as note from generate_series(1, 20000) n"
        )
        cluster.primary.execute("create table whole as table torn")
        cluster.primary.execute("vacuum torn")
        cluster.catch_up()
        planted = apply_fault(cluster, "flip-row-bytes", node="standby1", relation="torn")
        cluster.wait_streaming()
        cluster.catch_up()
        yield cluster, planted


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers whose hash function sees where a row lies, and nothing of what it holds."""

    def blind_hash(relation: object, how: object, seed: sql.Literal) -> sql.Composed:
        return sql.SQL("pg_catalog.hashtidextended(t.ctid, {}::bigint)").format(seed)

    monkeypatch.setattr(digests, "_hash", blind_hash)


@pytest.mark.usefixtures("blind")
def test_what_a_blind_hash_function_misses_is_found_in_the_client(torn: tuple[LabCluster, PlantedFault]) -> None:
    cluster, planted = torn
    options: dict[str, Any] = {"databases": ("postgres",), "tables": ("torn", "whole")}
    missed, _ = run_audit_of(cluster, **options)
    assert missed.verdict is Verdict.CONSISTENT
    result, events = run_audit_of(cluster, **options, cross_check=1.0)
    assert result.verdict is Verdict.DIVERGED
    [found] = result.divergences
    assert (found.node, found.kind, found.what, found.capped) == ("standby1", DifferenceKind.CHANGED, DISAGREE, True)
    assert [(place.first_block, place.last_block) for place in found.ranges] == [(planted.block, planted.block)]
    assert f"({planted.block},1)" in found.query
    assert result.cross_check is not None
    assert result.cross_check.mismatches == 1
    assert relation_of(result, "whole").verdict is Verdict.CONSISTENT
    looks = [event.look for event in events if isinstance(event, RowsDiffer)]
    assert looks == [1, 2]
    replicas = {replica.node.name: replica.verdict for replica in result.replicas}
    assert replicas == {"standby1": Verdict.DIVERGED, "standby2": Verdict.CONSISTENT}


@pytest.mark.usefixtures("blind")
def test_a_contradiction_that_was_seen_once_before_an_interrupt_is_seen_again(
    torn: tuple[LabCluster, PlantedFault],
) -> None:
    cluster, _ = torn
    options: dict[str, Any] = {"databases": ("postgres",), "tables": ("torn", "whole"), "cross_check": 1.0}

    async def run() -> tuple[AuditResult, AuditResult]:
        controls, looks = Controls(), list[int]()

        def on_event(event: Event) -> None:
            if isinstance(event, RowsDiffer):
                looks.append(event.look)
                controls.stop.set()

        controls.on_event = on_event
        first, events = await audit_of(cluster, controls=controls, **options)
        assert looks == [1]
        [premises] = [event.premises for event in events if isinstance(event, ProvingBegan)]
        proofs = tuple(event.proof for event in events if isinstance(event, BlocksProven))
        earlier = Progress(run_id="earlier", started_at=first.started_at, premises=premises, proofs=proofs)
        second, _ = await audit_of(cluster, controls=Controls(earlier=earlier), **options)
        return first, second

    first, second = asyncio.run(run())
    assert (first.verdict, first.divergences) == (Verdict.UNCHECKED, ())
    assert [(found.node, found.what) for found in second.divergences] == [("standby1", DISAGREE)]


def test_a_difference_that_digests_show_is_counted_once(torn: tuple[LabCluster, PlantedFault]) -> None:
    cluster, _ = torn
    result, _ = run_audit_of(cluster, databases=("postgres",), tables=("torn",), cross_check=1.0)
    [found] = divergences_of(result, "torn")
    assert (found.count, found.what, result.verdict) == (1, "", Verdict.DIVERGED)
    assert [replica.rows_differing for replica in relation_of(result, "torn").replicas] == [1, 0]


@pytest.mark.usefixtures("blind")
def test_only_rows_inside_a_filter_are_streamed(torn: tuple[LabCluster, PlantedFault]) -> None:
    cluster, planted = torn
    [(odd,)] = cluster.primary.execute(
        "select id from torn where ctid = %s::text::tid", [f"({planted.block},{planted.offset})"]
    )
    options: dict[str, Any] = {"databases": ("postgres",), "tables": ("torn",), "cross_check": 1.0}
    outside, _ = run_audit_of(cluster, **options, filters=(row_filter(f"torn: id <> {odd}", origin="--where"),))
    assert (outside.verdict, outside.cross_check and outside.cross_check.rows) == (Verdict.CONSISTENT, 19999)


@newest_only
def test_a_row_that_copy_cannot_send_is_said(
    cluster: LabCluster, streamed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_wide(session: Session, relation: Relation, ranges: object) -> None:
        raise StatementFailed("too wide", node=session.node, sqlstate="54000")

    monkeypatch.setattr("replcheck.audit.reading.stream_ranges", too_wide)
    result, _ = run_audit_of(cluster, databases=(streamed,), tables=("many",), cross_check=1.0)
    assert relation_of(result, "many").verdict is Verdict.CONSISTENT
    assert result.verdict is Verdict.INCONCLUSIVE
    assert [finding.code for finding in result.findings if finding.outcome is Outcome.PARTIAL] == ["cross_check"]
    assert result.cross_check is not None
    assert (result.cross_check.chunks, result.cross_check.too_wide) == (0, 1)


@pytest.mark.long
@newest_only
def test_a_healthy_copy_under_writes_is_never_accused(cluster: LabCluster, database: str) -> None:
    primary = cluster.primary
    primary.execute(
        "create table busy as select n as id, 0 as n, repeat('x', 40) as v from generate_series(1, 5000) n",
        dbname=database,
    )
    cluster.catch_up()
    stop = threading.Event()

    def write(seed: int) -> None:
        rng = Random(seed)
        with connect(primary.dsn(database), node="primary", autocommit=True) as connection:
            while not stop.is_set():
                low = rng.randrange(2400) + 2500 * (seed - 1)
                connection.execute("update busy set n = n + 1 where id between %s and %s", [low, low + 50])

    writers = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    try:
        for budget_s in (5.0, 0.0, 0.0):
            staged = audit(cluster, database, cross_check=1.0, align_budget_s=budget_s, jobs=2)
            assert (staged.result.divergences, staged.unexplained) == ((), 0)
            assert staged.verdict is Verdict.CONSISTENT
            assert staged.result.cross_check is not None
            assert (staged.result.cross_check.chunks > 0, staged.result.cross_check.mismatches) == (True, 0)
    finally:
        stop.set()
        for writer in writers:
            writer.join()


@newest_only
def test_the_command_tells_what_was_cross_checked(cluster: LabCluster, streamed: str, tmp_path: Path) -> None:
    nodes = ["--primary", cluster.audit_dsn("primary"), "--replica", cluster.audit_dsn("standby1")]
    words = ["audit", *nodes, "--database", streamed, "--no-catalogs", "--no-store", "--cross-check", "100%"]
    ended = run_command(*words, home=tmp_path)
    assert ended.status == 0, ended
    assert "cross-check of 100%: " in ended.out
