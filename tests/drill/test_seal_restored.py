"""A sealed primary, restored to its restore point: equal is proven equal, and what is planted is found."""

from dataclasses import replace
from pathlib import Path

import pytest

from replcheck.drill.layers.seal import SealLayer
from replcheck.lab import pages
from replcheck.model.drill import LayerState, TargetKind
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
from tests.staged import value

TABLE_NAMES = ("visit", "patient")
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


def test_a_flipped_bit_is_found_whether_the_page_tells_or_not(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = archiving_cluster(make_cluster, newest_major)
    for statement in TABLES.strip().split(";\n"):
        cluster.primary.execute(statement)
    backup = base_backup(cluster)
    manifest = seal(cluster)
    archive_all(cluster)
    with restored(cluster, backup, to_seal(manifest), action="promote") as (server, copy):
        files = {name: server.data_dir / value(server, "select pg_relation_filepath(%s)", name) for name in TABLE_NAMES}
        server.stop()
        _flip(files["visit"], block=33, honest=False)
        _flip(files["patient"], block=0, honest=True)
        server.start()
        report = run_layer(SealLayer(manifest), copy)
        assert report.state is LayerState.FAILED
        unreadable = difference_of(report, "public.visit")
        assert (unreadable.kind, unreadable.first_block, unreadable.last_block) == ("unreadable", 33, 33)
        changed = difference_of(report, "public.patient")
        assert (changed.kind, changed.count, changed.first_block) == ("changed", 1, 0)
        assert len(report.differences) == 2
        assert report.rows is not None
        assert manifest.rows - 3000 < report.rows < manifest.rows


def _flip(file: Path, *, block: int, honest: bool) -> None:
    """Flip a bit inside the last value of a page, and make its checksum fit where the damage is to be honest."""
    content = bytearray(file.read_bytes())
    at = (block + 1) * pages.PAGE_SIZE - 8
    content[at] ^= 1
    page = slice(block * pages.PAGE_SIZE, (block + 1) * pages.PAGE_SIZE)
    if honest:
        content[page] = pages.with_checksum(bytes(content[page]), block)
    file.write_bytes(content)


def test_a_copy_that_stands_elsewhere_or_is_another_is_not_compared(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    cluster = archiving_cluster(make_cluster, newest_major)
    backup = base_backup(cluster)
    manifest = seal(cluster)
    cluster.primary.execute("create table later (id int); select pg_create_restore_point('later')")
    archive_all(cluster)
    with restored(cluster, backup, {"recovery_target_name": "later"}) as (_, copy):
        report = run_layer(SealLayer(manifest), copy, kind=TargetKind.RESTORE_POINT)
        assert (report.state, report.by_design) == (LayerState.NOT_RUN, True)
        assert "the seal's restore point at" in report.reason
        assert not run_layer(SealLayer(manifest), copy).by_design
        other = replace(manifest, server=replace(manifest.server, system_identifier=1))
        assert "another cluster" in run_layer(SealLayer(other), copy).reason
        other = replace(manifest, server=replace(manifest.server, major=9))
        assert "PostgreSQL 9" in run_layer(SealLayer(other), copy).reason
        other = replace(manifest, server=replace(manifest.server, hash_probe="1"))
        assert "blocks of 8192 bytes" in run_layer(SealLayer(other), copy).reason
    assert run_layer(SealLayer(None), copy).by_design
    assert run_layer(SealLayer(manifest), copy).state is LayerState.NOT_RUN


@pytest.mark.long
def test_rows_that_a_copy_has_too_many_are_counted_and_placed(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = archiving_cluster(make_cluster, newest_major)
    for statement in TABLES.strip().split(";\n"):
        cluster.primary.execute(statement)
    backup = base_backup(cluster)
    manifest = seal(cluster)
    archive_all(cluster)
    with restored(cluster, backup, to_seal(manifest), action="promote") as (server, copy):
        last = int(value(server, "select max((ctid::text::point)[0])::int from visit"))
        server.execute("insert into visit select g, 'planted' from generate_series(900001, 900900) g")
        report = run_layer(SealLayer(manifest), copy)
        assert report.state is LayerState.FAILED
        extra = difference_of(report, "public.visit")
        assert (extra.kind, extra.count) == ("extra", 900)
        assert extra.last_block is not None
        assert extra.last_block > last
        assert {found.relation for found in report.differences} == {"public.visit"}
