"""Much of everything: relations, rows, columns, bytes in a row, transactions in between, WAL still to be replayed.

Paused and delayed standbys are in tests/postgres/test_facts_replay.py, rows beyond the server's largest value in
test_levels.py there.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import pytest

from replcheck.events import Event, NodeObserved
from replcheck.lab.cluster import LabCluster
from replcheck.lab.faults import apply_fault
from replcheck.model.outcome import Verdict
from replcheck.postgres.local import connect
from tests.conftest import MakeCluster
from tests.scale.scenes import disk_root, free_gib, measured_audit
from tests.staged import audit, pause, resume, session_on, until, value

pytestmark = [pytest.mark.postgres, pytest.mark.long, pytest.mark.timeout(1800)]
DATABASES = tuple(f"ward{number}" for number in range(10))
TABLES = 500
SCALE_GB = float(os.environ.get("REPLCHECK_SCALE_GB", "2"))
"""GiB of the one large relation. Ten take longer to make and to audit twice than all other long tests together."""
OLD_XIDS = 3_000_000
LAG_BYTES = 100_000_000


@pytest.fixture
def disk() -> Iterator[Path]:
    with disk_root() as root:
        yield root


# --- relations ---


def test_five_thousand_relations_in_ten_databases(make_cluster: MakeCluster, newest_major: int, tmp_path: Path) -> None:
    cluster = make_cluster(major=newest_major)
    for database in DATABASES:
        cluster.create_database(database)
        cluster.primary.execute(
            "do $$ begin for i in 1..500 loop execute format('create table public.t%s (id int primary key, note text)',"
            " i); execute format('insert into public.t%s select g, md5(g::text) from generate_series(1, 20) g', i);"
            " end loop; end $$",
            dbname=database,
        )
        cluster.primary.execute("vacuum (freeze, analyze)", dbname=database)
    cluster.catch_up(timeout_s=120)
    found = measured_audit(cluster, tmp_path)
    assert found.status == 0, found
    mine = [relation for relation in found.report["relations"] if relation["schema"] == "public"]
    assert {(relation["database"], relation["rows"]) for relation in mine} == {(name, 20) for name in DATABASES}
    assert len(mine) == len(DATABASES) * TABLES

    apply_fault(cluster, "flip-row-bytes", node="standby2", database="ward7", relation="public.t123")
    broken = measured_audit(cluster, tmp_path)
    assert broken.status == 2, broken
    assert broken.divergences == [("ward7", "public.t123", "standby2")]
    assert broken.not_consistent == [("ward7", "t123")]
    assert broken.report["odd_node"] == "standby2"


# --- bytes ---

_LINE = "2026-01-01 00:00:{:02d}+00\t{}.25\tward {}\t{}\n"
_ROWS = 5000
_ROW_BYTES = 295
"""A little less than each takes."""


def _fill(cluster: LabCluster, size_bytes: int) -> None:
    """Load rows of some 300 bytes, frozen as they are written, so that nothing is left for an audit to write."""
    block = "".join(_LINE.format(n % 60, n, n % 97, f"{n:032x}" * 7) for n in range(_ROWS))
    with connect(cluster.primary.dsn(), node="primary", autocommit=False) as connection:
        connection.execute(
            "create table observation (id bigint generated always as identity, at timestamptz, level numeric,"
            " place text, note text)"
        )
        load: LiteralString = "copy observation (at, level, place, note) from stdin with (freeze)"
        with connection.cursor() as cursor, cursor.copy(load) as copy:
            for _ in range(-(-size_bytes // (_ROW_BYTES * _ROWS))):
                copy.write(block)
        connection.commit()
    cluster.primary.execute("checkpoint")


@pytest.mark.skipif(
    free_gib() < 2.2 * SCALE_GB + 4,
    reason=f"two copies of {SCALE_GB:g} GB need more room than is free; choose another size with REPLCHECK_SCALE_GB",
)
def test_one_large_relation(disk: Path, newest_major: int, tmp_path: Path) -> None:
    with LabCluster.create(disk, name=f"large_{os.getpid()}", major=newest_major, standbys=0) as cluster:
        began = time.monotonic()
        _fill(cluster, int(SCALE_GB * 1024**3))
        cluster.add_standby("standby1")
        sys.stdout.write(f"made in {time.monotonic() - began:.0f} s\n")
        found = measured_audit(cluster, tmp_path)
        assert found.status == 0, found
        [report] = [relation for relation in found.report["relations"] if relation["table"] == "observation"]
        assert report["size_bytes"] >= SCALE_GB * 1024**3
        assert report["rows"] == value(cluster.primary, "select max(id) from observation")

        apply_fault(cluster, "flip-row-bytes", node="standby1", relation="public.observation")
        broken = measured_audit(cluster, tmp_path, "--table", "public.observation")
        assert broken.status == 2, broken
        assert broken.divergences == [("postgres", "public.observation", "standby1")]
        assert broken.report["divergences"][0]["count"] == 1


# --- columns and wide rows ---


def test_as_many_columns_as_there_can_be(make_cluster: MakeCluster, newest_major: int, tmp_path: Path) -> None:
    cluster = make_cluster(major=newest_major, standbys=1)
    columns = ", ".join(f"c{number} {'int' if number % 2 else 'bool'}" for number in range(1600))
    values = ", ".join("null" if number % 7 == 0 else "g" if number % 2 else "g % 3 = 0" for number in range(1600))
    with connect(cluster.primary.dsn(), node="primary") as connection:
        connection.execute(f"create table wide ({columns})")
        connection.execute(f"insert into wide select {values} from generate_series(1, 2000) g")
    cluster.catch_up()
    words = ("--table", "public.wide", "--cross-check", "100%")
    found = measured_audit(cluster, tmp_path, *words)
    assert (found.status, found.report["rows"]) == (0, 2000), found
    apply_fault(cluster, "flip-row-bytes", node="standby1", relation="public.wide")
    broken = measured_audit(cluster, tmp_path, *words)
    assert broken.divergences == [("postgres", "public.wide", "standby1")]
    assert broken.report["divergences"][0]["count"] == 1


@pytest.mark.skipif(free_gib() < 8, reason="rows of 200 and 600 MB on two nodes, and their WAL, need 8 GB of room")
def test_rows_of_hundreds_of_megabytes(disk: Path, newest_major: int, tmp_path: Path) -> None:
    with LabCluster.create(disk, name=f"scans_{os.getpid()}", major=newest_major, standbys=1) as cluster:
        with connect(cluster.primary.dsn(), node="primary") as connection:
            connection.execute("create table scan (id int, image text)")
            connection.execute("alter table scan alter image set storage external")
            for row, megabytes in enumerate((200, 200, 600)):
                connection.execute(
                    "insert into scan values (%s, repeat(md5(%s::text), %s))", [row, row, megabytes * 1_000_000 // 32]
                )
            connection.execute("vacuum (freeze) scan")
        cluster.catch_up(timeout_s=300)
        assert value(cluster.primary, "select pg_total_relation_size('scan')") > 1_000_000_000
        found = measured_audit(cluster, tmp_path, "--table", "public.scan")
        assert (found.status, found.report["rows"]) == (0, 3), found
        apply_fault(cluster, "corrupt-toast", node="standby1", relation="public.scan")
        broken = measured_audit(cluster, tmp_path, "--table", "public.scan")
        assert broken.divergences == [("postgres", "public.scan", "standby1")]
        assert broken.report["divergences"][0]["count"] == 1


# --- transactions ---

_SUBTRANSACTIONS: LiteralString = """
    do $$ begin
        for i in 1..30 loop
            for j in 1..50000 loop
                begin insert into went_by values (j); exception when division_by_zero then null; end;
            end loop;
            commit;
        end loop;
    end $$"""
_TRANSACTIONS: LiteralString = (
    "do $$ begin for i in 1..1500000 loop perform pg_current_xact_id(); commit; end loop; end $$"
)


def test_millions_of_transactions_beside_one_that_is_open(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = make_cluster(major=newest_major, settings={"max_wal_size": "2GB"})
    primary = cluster.primary
    primary.execute("create table visit as select g as id, 'old' as note from generate_series(1, 5000) g")
    primary.execute("create table went_by (n int)")
    cluster.catch_up()
    with session_on(primary, "postgres") as old:
        old.execute("update visit set note = 'new' where id <= 10")
        with session_on(primary, "postgres", autocommit=True) as others:
            others.execute("set synchronous_commit = off")
            others.execute(_SUBTRANSACTIONS)
            others.execute(_TRANSACTIONS)
        cluster.catch_up(timeout_s=300)
        window = "select (pg_snapshot_xmax(s)::text::bigint - pg_snapshot_xmin(s)::text::bigint)"
        assert value(primary, f"{window} from pg_current_snapshot() s") > OLD_XIDS
        run = audit(cluster, "postgres", jobs=2)
        sys.stdout.write(f"{run.verdict.value} in {run.seconds:.1f} s\n")
        run.assert_consistent()
        assert run.exact
        assert run.seconds < 60
        old.rollback()


# --- lag ---


def test_a_standby_that_has_100_mb_to_replay_is_waited_for_and_one_that_cascades_is_proven(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    cluster = make_cluster(major=newest_major, standbys=1)
    cluster.add_standby("leaf", upstream="standby1")
    cluster.add_standby("far")
    primary, far = cluster.primary, cluster.node("far")
    primary.execute("create table visit as select g as id from generate_series(1, 500) g")
    cluster.catch_up()
    pause(far)
    primary.execute(
        "create table much as select g as id, repeat(md5(g::text), 20) as v from generate_series(1, 160000) g"
    )
    until(
        lambda: value(far, "select pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn()") > LAG_BYTES,
        "100 MB are received and not replayed",
    )
    lags: dict[str, int] = {}

    def go_on(event: Event) -> None:
        if isinstance(event, NodeObserved):
            lags[event.node.name] = event.node.lag_bytes or 0
            if event.node.name == "far":
                resume(far)

    run = audit(cluster, "postgres", every=go_on)
    assert lags["far"] > LAG_BYTES
    run.assert_consistent()
    assert {replica.node.name: replica.node.upstream for replica in run.result.replicas}["leaf"] == "standby1"
    assert run.relation("much").rows == 160_000
    assert run.on("far", "much") is run.on("leaf", "much") is Verdict.CONSISTENT
