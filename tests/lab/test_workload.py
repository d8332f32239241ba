"""The loads write what they promise, without an error, and leave nothing open."""

import time

import pytest

from replcheck.lab.actions import ACTIONS
from replcheck.lab.cluster import LabCluster
from replcheck.lab.pgbench import PgbenchLoad
from replcheck.lab.schema import create_schema
from replcheck.lab.workload import MixedWorkload
from tests.conftest import MakeCluster

EVERYTHING = """
    select (select sum(hashtextextended(p::text, 0)) from clinic.patient p),
           (select sum(hashtextextended(v::text, 0)) from clinic.visit v),
           (select sum(hashtextextended(m::text, 0)) from clinic.measurement m),
           (select count(*) from pg_largeobject), (select count(*) from clinic.ledger)
"""


def assert_calm(cluster: LabCluster, database: str) -> None:
    """Nothing is left open or prepared, and every standby holds the same rows."""
    assert cluster.primary.execute("select gid from pg_prepared_xacts where database = %s", [database]) == []
    open_ones = (
        "select 1 from pg_stat_activity where datname = %s and xact_start is not null and pid <> pg_backend_pid()"
    )
    deadline = time.monotonic() + 10
    while cluster.primary.execute(open_ones + " and backend_type = 'client backend'", [database]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    cluster.catch_up()
    assert len({tuple(node.execute(EVERYTHING, dbname=database)) for node in cluster.nodes.values()}) == 1


def test_the_mixed_load_does_everything(cluster: LabCluster, database: str) -> None:
    with MixedWorkload(cluster, seed=cluster.state.major, rate=None, database=database, patients=300) as load:
        load.wait_for(1200, timeout_s=60)
    assert load.transactions >= 1200
    assert len(load.actions) >= len(ACTIONS) - 4
    [(multixacts, subtransactions)] = cluster.primary.execute(
        "select mxid_age(datminmxid), (select max(pg_current_xact_id()::text::numeric)) from pg_database"
        " where datname = current_database()",
        dbname=database,
    )
    assert multixacts > 50
    assert subtransactions > load.transactions
    assert_calm(cluster, database)


@pytest.mark.long
def test_the_mixed_load_holds_out(cluster: LabCluster, database: str) -> None:
    with MixedWorkload(cluster, seed=1, rate=None, database=database, writers=8) as load:
        load.wait_for(12_000, timeout_s=200)
    assert set(load.actions) == {action.__name__ for action in ACTIONS}
    assert_calm(cluster, database)


def test_the_rate_is_kept(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = make_cluster(major=newest_major, standbys=0)
    with MixedWorkload(cluster, seed=4, rate=60, patients=200) as load:
        begun = time.monotonic()
        time.sleep(2)
        finished, elapsed = load.transactions, time.monotonic() - begun
    assert 20 * elapsed < finished < 75 * elapsed + 10


def test_the_load_follows_a_failover(fresh_cluster: LabCluster) -> None:
    with MixedWorkload(fresh_cluster, seed=2, rate=200, patients=200) as load:
        load.wait_for(30)
        fresh_cluster.nodes["primary"].kill()
        fresh_cluster.nodes["standby1"].promote()
        load.wait_for(30)
    assert fresh_cluster.primary.name == "standby1"
    assert fresh_cluster.primary.execute("select count(*) from pg_prepared_xacts") == [(0,)]


def test_two_databases_are_filled_alike(cluster: LabCluster, database: str) -> None:
    other = cluster.create_database(f"{database}_twin")
    try:
        for name in (database, other):
            create_schema(cluster.primary, name, patients=100)
        query = "select sum(hashtextextended((id, name, born, balance, notes)::text, 0)) from clinic.patient"
        assert cluster.primary.execute(query, dbname=database) == cluster.primary.execute(query, dbname=other)
    finally:
        cluster.drop_database(other)


def test_pgbench_writes_and_ends(cluster: LabCluster, database: str) -> None:
    with PgbenchLoad(cluster, rate=None, database=database, clients=2) as load:
        deadline = time.monotonic() + 20
        while load.transactions < 50:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    cluster.catch_up()
    query = "select count(*) from pgbench_history"
    assert len({tuple(node.execute(query, dbname=database)) for node in cluster.nodes.values()}) == 1
