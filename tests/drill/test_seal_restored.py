"""A sealed primary, restored to its restore point: equal is proven equal, and what is planted is found."""

from replcheck.drill.layers.seal import SealLayer
from replcheck.model.drill import LayerState
from replcheck.model.seal import SealVerdict
from tests.conftest import MakeCluster
from tests.drill.sealed_cluster import (
    archive_all,
    archiving_cluster,
    base_backup,
    difference_of,
    restored,
    run_layer,
    seal,
    to_seal,
)

TABLES = """
create table visit (id int primary key, note text);
insert into visit select g, repeat('x', 50) from generate_series(1, 20000) g;
create table patient (id int generated always as identity, name text);
insert into patient (name) select md5(g::text) from generate_series(1, 500) g;
"""


def test_a_copy_at_the_restore_point_is_proven_and_a_planted_difference_is_found(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    cluster = archiving_cluster(make_cluster, newest_major)
    for statement in TABLES.strip().split(";\n"):
        cluster.primary.execute(statement)
    backup = base_backup(cluster)
    cluster.primary.execute("update visit set note = 'before' where id = 5")
    manifest = seal(cluster)
    assert manifest.verdict is SealVerdict.SEALED, manifest.not_sealed
    cluster.primary.execute("update visit set note = 'after' where id = 6")
    cluster.primary.execute("create table later (id int)")
    archive_all(cluster)
    with restored(cluster, backup, to_seal(manifest)) as (_, copy):
        report = run_layer(SealLayer(manifest), copy)
        assert (report.state, report.reason, report.differences) == (LayerState.PASSED, "", ())
        assert report.rows == manifest.rows
        assert report.relations == manifest.relations
    with restored(cluster, backup, to_seal(manifest), action="promote") as (server, copy):
        assert run_layer(SealLayer(manifest), copy).state is LayerState.PASSED
        server.execute("delete from visit where id between 100 and 102")
        server.execute("update patient set name = 'other' where id = 7")
        server.execute("drop table if exists visit_gone")
        report = run_layer(SealLayer(manifest), copy)
        assert report.state is LayerState.FAILED
        missing = difference_of(report, "public.visit")
        assert (missing.kind, missing.count, missing.first_block) == ("missing", 3, 0)
        assert difference_of(report, "public.patient").kind == "changed"
        assert {found.relation for found in report.differences} == {"public.visit", "public.patient"}
