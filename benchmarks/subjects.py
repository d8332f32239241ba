"""The clusters that are measured, and what lies in them."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import getpid
from pathlib import Path
from random import Random
from types import MappingProxyType

from replcheck.errors import LabError
from replcheck.lab import pages, surgery
from replcheck.lab.cluster import LabCluster
from replcheck.lab.rows import bit_flipped, prepared, shuffled_rows
from replcheck.lab.surgery import Heap, Site, Stored
from replcheck.postgres.local import sql

DATABASE = "bench"
TABLE = "records"
SETTINGS = {
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "listen_addresses": "127.0.0.1",
    "autovacuum": "off",
}
"""Beside the lab's own, of which `fsync = off` matters most: writes are quicker here than anywhere else."""
_BATCH = 500_000


@contextmanager
def cluster_of(
    root: Path, *, standbys: int = 1, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[LabCluster]:
    """Make a cluster with an empty database; gone afterwards. `settings` come beside the usual ones."""
    merged = {**SETTINGS, **settings}
    with LabCluster.create(root, name=f"bench_{getpid()}", standbys=standbys, settings=merged) as cluster:
        cluster.create_database(DATABASE)
        yield cluster


def add_records(cluster: LabCluster, first: int, last: int) -> None:
    """Insert rows of 128 bytes with these numbers, 4 million of which make 512 MB, and settle them on every node."""
    cluster.primary.execute(
        f"create table if not exists {TABLE} (id bigint primary key, patient int not null, kind text not null,"
        " amount numeric not null, noted timestamptz not null, note text not null)",
        dbname=DATABASE,
    )
    for begin in range(first, last + 1, _BATCH):
        cluster.primary.execute(
            f"insert into {TABLE} select i, i % 100000, 'kind ' || i % 7, i * 0.25,"
            " timestamptz '2024-01-01 00:00+00' + i * interval '1 s', md5(i::text) || 'note'"
            f" from generate_series({begin}, {min(begin + _BATCH - 1, last)}) i",
            dbname=DATABASE,
        )
    settle(cluster)


def settle(cluster: LabCluster) -> None:
    """Vacuum, so that no reading sets a hint bit, and have everything written and replayed."""
    cluster.primary.execute("vacuum (freeze, analyze)", dbname=DATABASE)
    cluster.primary.execute("checkpoint")
    cluster.catch_up(timeout_s=600)
    for standby in cluster.standbys:
        standby.execute("checkpoint")


def add_small_relations(cluster: LabCluster, count: int) -> None:
    """Make many small tables."""
    for begin in range(1, count + 1, 250):
        cluster.primary.execute(
            f"do $do$ begin for n in {begin}..{min(begin + 249, count)} loop"
            " execute format('create table small_%s as select i as id, md5(i::text) as note"
            " from generate_series(1, 20) i', n); end loop; end $do$",
            dbname=DATABASE,
        )
    settle(cluster)


def hide_differences(cluster: LabCluster, node: str, rows: int, seed: int) -> int:
    """Flip one bit of a value in one row of so many pages, far apart, on one standby; return how many there are."""
    site = Site(
        cluster=cluster, node=cluster.node(node), database=DATABASE, relation=f"public.{TABLE}", rng=Random(seed)
    )
    stored = prepared(site)
    with surgery.stopped(site):
        files = surgery.heap(site, stored)
        blocks = site.rng.sample(range(files.blocks), min(rows, files.blocks))
        for block in blocks:
            _flip_one(site, stored, files, block)
    return len(blocks)


def _flip_one(site: Site, stored: Stored, files: Heap, block: int) -> None:
    for row in shuffled_rows(site, files, block):
        spans = pages.column_spans(row.data, stored.attributes)
        usable = [spans[name] for name in sorted(stored.robust_columns & spans.keys()) if spans[name].plain]
        if usable:
            page = bit_flipped(site, files.read(block), row.pointer.offset, site.rng.choice(usable))
            files.write(block, page)
            return
    raise LabError(f"block {block} of {stored.name} has no row that could be changed")


def digest_of(table: str, columns: tuple[str, ...]) -> sql.Composed:
    """Return the query that the level `exact` digests a table with, and nothing around it."""
    names = sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(column)) for column in columns)
    return sql.SQL(
        "select count(*), sum(hash_record_extended(row(record_send(row({}))), hashtidextended(t.ctid, 42)))"
        " from only {} as t"
    ).format(names, sql.Identifier(table))


def percentile(values: list[float], share: float) -> float:
    """Return the value below which a share of them lies.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5)
    2.0
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
