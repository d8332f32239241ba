"""Seals of a cluster that is written to: they block nobody, and a copy at the restore point is never accused."""

import asyncio
import time

import pytest

from replcheck.drill.layers.seal import SealLayer
from replcheck.drill.seal_options import SealOptions
from replcheck.drill.sealing import connect_primary, seal_primary
from replcheck.errors import DrillBlocked, NodeUnfit
from replcheck.lab.cluster import LabCluster
from replcheck.lab.pgbench import PgbenchLoad
from replcheck.lab.workload import MixedWorkload
from replcheck.model.drill import LayerState
from replcheck.model.node import NodeTarget
from replcheck.model.seal import SealVerdict
from replcheck.postgres.session import Session
from tests.conftest import MakeCluster
from tests.drill.sealed_cluster import (
    archive_all,
    archiving_cluster,
    base_backup,
    restored,
    run_layer,
    seal,
    to_seal,
)
from tests.staged import Background, make_slow_tables, newest_only, session_on, until, value


@pytest.mark.long
def test_copies_of_a_written_cluster_are_never_accused(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = archiving_cluster(make_cluster, newest_major)
    backup = base_backup(cluster)
    manifests = []
    with PgbenchLoad(cluster, rate=None, clients=4), MixedWorkload(cluster, rate=None, seed=7):
        time.sleep(1)
        manifests += [seal(cluster, superuser=True, settle_s=5.0) for _ in range(2)]
    archive_all(cluster)
    for manifest in manifests:
        assert manifest.rows > 100_000
        for action in ("pause", "promote"):
            with restored(cluster, backup, to_seal(manifest), action=action) as (_, copy):
                report = run_layer(SealLayer(manifest), copy)
                assert report.differences == (), report
                assert report.state in (LayerState.PASSED, LayerState.INCONCLUSIVE)
                if report.state is LayerState.PASSED:
                    assert report.rows == manifest.rows


def test_a_transaction_that_commits_into_the_gap_is_named_and_accuses_nobody(
    make_cluster: MakeCluster, newest_major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit between the snapshot and the restore point is in the copy and not in the seal."""
    cluster = archiving_cluster(make_cluster, newest_major)
    primary = cluster.primary
    primary.execute("create table visit as select g as id from generate_series(1, 20000) g")
    primary.execute("create table patient as select g as id from generate_series(1, 500) g")
    backup = base_backup(cluster)
    opened = Session.fetch_batch

    async def fetch_batch(self, batches):
        made = any("pg_create_restore_point" in str(statement) for batch in batches for statement, _ in batch)
        if not made:
            return await opened(self, batches)
        *before, (begin, snapshot, point, after) = batches
        rows = await opened(self, [*before, [begin, snapshot]])
        # Each try changes its first block anew: on a busy machine the first try may be one of several.
        first = "select min(id) from visit where id > 0"
        primary.execute(f"delete from visit where id = ({first}); insert into visit values (0)")
        return [*rows, *await opened(self, [[point, after]])]

    with session_on(primary, "postgres") as connection:
        connection.execute("update patient set id = -1 where id = 7")
        with monkeypatch.context() as patched:
            patched.setattr(Session, "fetch_batch", fetch_batch)
            manifest = seal(cluster, fix_budget_s=0.0)
        connection.rollback()
    assert manifest.unsettled == 2
    archive_all(cluster)
    with restored(cluster, backup, to_seal(manifest), action="promote") as (server, copy):
        report = run_layer(SealLayer(manifest), copy)
        assert (report.state, report.differences) == (LayerState.INCONCLUSIVE, ())
        assert "postgres.public.visit, blocks 0 to 15" in report.reason
        assert "patient" not in report.reason
        server.execute("update visit set id = -5 where id = 12000")
        report = run_layer(SealLayer(manifest), copy)
        assert report.state is LayerState.FAILED
        assert {found.relation for found in report.differences} == {"public.visit"}


@newest_only
def test_a_seal_waits_for_no_lock_and_holds_none_for_long(cluster: LabCluster, database: str) -> None:
    primary = cluster.primary
    make_slow_tables(primary, database, ["slow"], rows=40, seconds=4.0, row_bytes=7000)
    with session_on(primary, database) as locker:
        primary.execute("create table closed (id int)", dbname=database)
        locker.execute("lock table closed in access exclusive mode")
        manifests: list = []
        sealing = Background(
            lambda: manifests.append(
                seal(cluster, superuser=True, databases=(database,), catalogs=False, settle_s=1.0, jobs=1)
            )
        )
        reading = "select count(*) from pg_stat_activity where application_name = 'replcheck seal' and state = 'active'"
        until(lambda: sealing.finished.is_set() or value(primary, reading) > 0, "the slow table is being read")
        longest = 0.0
        while not sealing.finished.is_set():
            began = time.monotonic()
            primary.execute("alter table slow alter id set default 5", dbname=database)
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.2)
        sealing.join()
        locker.rollback()
    [manifest] = manifests
    assert longest < 1.5
    assert manifest.verdict is SealVerdict.IN_PART
    lacks = {note.relation: note.code for note in manifest.not_sealed if not note.by_design}
    assert lacks.pop("public.slow") in ("locked", "redefined")
    assert lacks == {"public.closed": "locked"}


@newest_only
def test_no_snapshot_is_exported_or_imported_on_a_standby(
    cluster: LabCluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exported snapshot of a standby can damage hint bits there."""
    sent: list[str] = []
    for name in ("fetch", "read", "in_savepoint", "fetch_batch"):
        _record(monkeypatch, name, sent)

    async def seal_standby() -> None:
        options = SealOptions(databases=(database,))
        handle = await connect_primary(NodeTarget(name="db2", dsn=cluster.standbys[0].dsn()), options, lambda _: None)
        await seal_primary(handle, options, seal_id="x", cluster="x", emit=lambda _: None, stop=asyncio.Event())

    with pytest.raises(NodeUnfit, match="is a standby"):
        asyncio.run(seal_standby())
    assert sent
    assert not [text for text in sent if "export_snapshot" in text or "TRANSACTION SNAPSHOT" in text]
    seal(cluster, superuser=True, databases=(database,), catalogs=False)
    assert [text for text in sent if "export_snapshot" in text]


def _record(monkeypatch: pytest.MonkeyPatch, name: str, sent: list[str]) -> None:
    original = getattr(Session, name)

    async def recording(self, *arguments, **words):
        sent.append(repr(arguments))
        return await original(self, *arguments, **words)

    monkeypatch.setattr(Session, name, recording)


@pytest.mark.long
def test_a_snapshot_lives_no_longer_than_it_may(cluster: LabCluster, database: str) -> None:
    make_slow_tables(cluster.primary, database, ["slow"], rows=400, seconds=8.0, row_bytes=7000)
    with pytest.raises(DrillBlocked, match="was 1s old"):
        seal(cluster, superuser=True, databases=(database,), catalogs=False, max_age_s=1.0, jobs=1)
    held = "select count(*) from pg_stat_activity where application_name like 'replcheck seal%'"
    until(lambda: value(cluster.primary, held) == 0, "the snapshot is given back")
