"""A copy beside the live primary: what is equal is proven, what moved on is counted, what is wrong is found twice."""

from replcheck.drill.layers.primary import PrimaryLayer
from replcheck.lab.cluster import LabCluster
from replcheck.model.drill import LayerState, TargetKind
from replcheck.model.node import NodeTarget
from tests.conftest import MakeCluster
from tests.drill.sealed_cluster import (
    archive_all,
    archiving_cluster,
    base_backup,
    difference_of,
    restored,
    run_layer,
)
from tests.staged import value


def _nodes(cluster: LabCluster) -> list[NodeTarget]:
    return [NodeTarget(name="db1", dsn=cluster.audit_dsn("primary"))]


def test_rows_of_a_copy_are_proven_counted_as_moved_on_or_refuted(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = archiving_cluster(make_cluster, newest_major)
    primary = cluster.primary
    primary.execute("create table visit as select g as id, repeat('x', 40) as note from generate_series(1, 5000) g")
    primary.execute("create table patient as select g as id from generate_series(1, 100) g")
    primary.execute("create table log (id int)")
    backup = base_backup(cluster)
    [(name, _)] = primary.execute("select 'here', pg_create_restore_point('here')::text")
    primary.execute("insert into visit select g, 'later' from generate_series(5001, 5100) g")
    archive_all(cluster)
    target = {"recovery_target_name": name}
    with restored(cluster, backup, target, action="promote") as (server, copy):
        report = run_layer(PrimaryLayer(_nodes(cluster)), copy, kind=TargetKind.RESTORE_POINT)
        assert (report.reason, report.differences, report.state) == ("", (), LayerState.PASSED)
        assert (report.rows, report.later_rows) == (5100, 100)
        assert "100 rows of the primary are later than the copy" in report.checked
        primary.execute("insert into log values (1), (2)")
        report = run_layer(PrimaryLayer(_nodes(cluster)), copy, kind=TargetKind.RESTORE_POINT)
        assert (report.state, report.rows) == (LayerState.INCONCLUSIVE, 5100)
        assert report.reason == (
            "postgres.public.log is empty in the copy, and all its rows on the primary (2) were written since"
        )
        primary.execute("update visit set note = 'y' where id <= 10; ")
        primary.execute("create table later (id int)")
        report = run_layer(PrimaryLayer(_nodes(cluster)), copy, kind=TargetKind.RESTORE_POINT)
        assert (report.differences, report.state) == ((), LayerState.INCONCLUSIVE)
        assert report.reason.startswith("10 rows have moved on since")
        assert "postgres.public.later was made or redefined since" in report.reason
        assert report.rows == 5090
        server.execute("delete from visit where id in (200, 201)")
        server.execute("set transaction read write; update patient set id = -1 where id = 1")
        report = run_layer(PrimaryLayer(_nodes(cluster)), copy, kind=TargetKind.RESTORE_POINT)
        assert report.state is LayerState.FAILED
        missing = difference_of(report, "public.visit")
        assert (missing.kind, missing.count) == ("missing", 2)
        assert (difference_of(report, "public.patient").kind, difference_of(report, "public.patient").count) == (
            "missing",
            1,
        )
    with restored(cluster, backup, target) as (server, copy):
        server.promote()
        report = run_layer(PrimaryLayer(_nodes(cluster)), copy, kind=TargetKind.RESTORE_POINT)
        assert report.state is LayerState.NOT_RUN
        assert report.reason.startswith(("the copy was promoted", "the copy was recovered on timeline 2"))
    with restored(cluster, backup, target) as (_, copy):
        primary.execute("vacuum full patient")
        report = run_layer(PrimaryLayer(_nodes(cluster)), copy, kind=TargetKind.RESTORE_POINT)
        assert report.state is LayerState.INCONCLUSIVE
        assert "postgres.public.patient was redefined or rewritten since" in report.reason
    assert value(primary, "select count(*) from pg_stat_activity where application_name like 'replcheck drill%'") == 0


def test_databases_and_relations_that_cannot_be_compared_are_doubts(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    cluster = archiving_cluster(make_cluster, newest_major)
    primary = cluster.primary
    primary.execute("create table visit as select g as id from generate_series(1, 50) g")
    primary.execute("create table hidden as select 1 as id")
    primary.execute("alter table hidden enable row level security")
    primary.execute("create sequence visits")
    primary.execute("create database gone")
    backup = base_backup(cluster)
    [(name, _)] = primary.execute("select 'here', pg_create_restore_point('here')::text")
    archive_all(cluster)
    with restored(cluster, backup, {"recovery_target_name": name}, action="promote") as (_, copy):
        primary.execute("drop database gone")
        primary.execute("create database fresh")
        report = run_layer(PrimaryLayer(_nodes(cluster)), copy, kind=TargetKind.RESTORE_POINT)
    assert (report.differences, report.state, report.rows) == ((), LayerState.INCONCLUSIVE, 50)
    assert "database gone is not on the primary any more" in report.reason
    assert "database fresh is not in the copy" in report.reason
    assert "postgres.public.hidden: row-level security hides rows from the role" in report.reason
    assert report.checked.endswith("; 1 sequence is not compared")
