"""A cluster of the lab is a real one, and nothing is left of it."""

import time
from pathlib import Path

import pytest

from replcheck.errors import LabError, StatementFailed
from replcheck.lab.cluster import LabCluster
from replcheck.postgres import processes
from replcheck.postgres.local import connect


def test_standbys_replay_what_the_primary_writes(cluster: LabCluster, database: str) -> None:
    cluster.primary.execute("create table visit (id int primary key)", dbname=database)
    cluster.primary.execute("insert into visit select generate_series(1, 100)", dbname=database)
    cluster.catch_up()
    assert [node.execute("select count(*) from visit", dbname=database) for node in cluster.standbys] == [[(100,)]] * 2


def test_the_nodes_are_of_the_major_asked_for(cluster: LabCluster, major: int) -> None:
    for node in cluster.nodes.values():
        [(number,)] = node.execute("select current_setting('server_version_num')::int / 10000")
        assert number == major


def test_the_audit_role_needs_its_password_and_reads_only(cluster: LabCluster, database: str) -> None:
    cluster.primary.execute("create table visit (id int)", dbname=database)
    with connect(cluster.audit_dsn("primary", database), node="primary") as connection:
        assert connection.execute("select count(*) from visit").fetchall() == [(0,)]
    with (
        pytest.raises(StatementFailed) as refused,
        connect(cluster.audit_dsn("primary", database), node="primary") as connection,
    ):
        connection.execute("insert into visit values (1)")
    assert refused.value.sqlstate == "42501"


def test_two_clusters_have_different_system_identifiers(cluster: LabCluster, fresh_cluster: LabCluster) -> None:
    query = "select system_identifier from pg_control_system()"
    assert cluster.primary.execute(query) != fresh_cluster.primary.execute(query)
    assert {tuple(node.execute(query)) for node in fresh_cluster.nodes.values()} == {
        tuple(fresh_cluster.primary.execute(query))
    }


def test_a_killed_standby_starts_again_and_catches_up(fresh_cluster: LabCluster) -> None:
    standby = fresh_cluster.nodes["standby1"]
    standby.kill()
    assert not standby.running
    assert processes.processes_in(standby.data_dir) == []
    fresh_cluster.primary.execute("create table visit (id int)")
    standby.start()
    fresh_cluster.catch_up()
    assert standby.execute("select count(*) from visit") == [(0,)]


def test_a_cascading_standby_streams_from_its_upstream(fresh_cluster: LabCluster) -> None:
    leaf = fresh_cluster.add_standby("leaf", upstream="standby1", hot_standby_feedback="off")
    fresh_cluster.primary.execute("create table visit (id int)")
    fresh_cluster.catch_up()
    assert leaf.execute("select count(*) from visit") == [(0,)]
    assert leaf.execute("show hot_standby_feedback") == [("off",)]
    upstream = fresh_cluster.nodes["standby1"]
    assert upstream.execute("select application_name from pg_stat_replication") == [("leaf",)]


def test_roles_are_observed_after_a_failover(fresh_cluster: LabCluster) -> None:
    fresh_cluster.nodes["primary"].stop()
    fresh_cluster.nodes["standby2"].promote()
    assert fresh_cluster.primary.name == "standby2"
    assert [node.name for node in fresh_cluster.standbys] == ["standby1"]


def test_catching_up_names_the_standby_that_does_not(fresh_cluster: LabCluster) -> None:
    fresh_cluster.nodes["standby2"].execute("select pg_wal_replay_pause()")
    fresh_cluster.primary.execute("create table visit (id int)")
    with pytest.raises(LabError, match="standby2 had not replayed"):
        fresh_cluster.catch_up(timeout_s=0.5)


def test_a_quick_cluster_is_found_by_name_and_leaves_nothing(clusters_root: Path, newest_major: int) -> None:
    started = time.monotonic()
    made = LabCluster.create(clusters_root, name="found", major=newest_major)
    assert time.monotonic() - started < 8
    data_dirs = [node.data_dir for node in made.nodes.values()]
    found = LabCluster.open(clusters_root, "found")
    assert list(found.nodes) == ["primary", "standby1", "standby2"]
    found.destroy()
    assert not made.directory.exists()
    assert [processes.processes_in(data_dir) for data_dir in data_dirs] == [[], [], []]


def test_a_name_is_taken_once(cluster: LabCluster) -> None:
    with pytest.raises(LabError, match="already"):
        LabCluster.create(cluster.directory.parent, name=cluster.name)
    assert cluster.primary.running
