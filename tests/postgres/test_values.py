"""Values that naive checkers confuse are told apart by the digest, and equal ones never are."""

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from replcheck.audit.digest import ENCODINGS, Hasher
from replcheck.audit.options import Level
from replcheck.lab.cluster import LabCluster
from replcheck.lab.value_pairs import PAIRS, SETUP, Pair
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Verdict
from replcheck.postgres.catalog import read_relations
from replcheck.postgres.digests import Digest, digest_whole, hashes_bytes
from replcheck.postgres.local import connect
from replcheck.postgres.session import Limits, open_session
from tests.auditing import run_audit_of

SIDES = ("left", "right", "again")
"""`again` holds the rows of the left side, inserted by themselves."""
SEEDS = tuple(0x5EED_0000 + 7_919 * number for number in range(6))
"""Several: what a hash confuses under one seed by chance it does not under all."""
KINDS = tuple(dict.fromkeys(pair.kind for pair in PAIRS))
HASHED_BY_EQUALITY = {"bpchar", "float4", "float8"}
"""Types of the pairs with equal values that the level `fast` hashes by equality; it takes the bytes of all others."""
Digests = Mapping[tuple[str, str], Digest]
"""By way of hashing and table; one sum for each seed."""


def table_of(pair: Pair, side: str) -> str:
    """Return the name of the table that holds one side of a pair."""
    return f"{side}_{PAIRS.index(pair)}"


def make_tables(cluster: LabCluster, database: str) -> list[Pair]:
    """Make the tables of every pair that the server can hold, and return those pairs."""
    held = []
    with connect(cluster.primary.dsn(database), node="primary", autocommit=False) as connection:
        connection.execute(SETUP)
        for pair in PAIRS:
            if pair.needs and connection.execute(pair.needs).fetchone() != (True,):
                continue
            held.append(pair)
            for side in SIDES:
                source = "left" if side == "again" else side
                table, rows = table_of(pair, side), pair.rows(source)
                fill = f"insert into {table} {rows}" if rows else ""
                connection.execute(f"create table {table} ({pair.definition(source)}); {fill}")
    return held


async def digest_all(dsn: str) -> Digests:
    """Digest every table of a database in every way."""
    session = await open_session(NodeTarget(name="primary", dsn=dsn), purpose="test", limits=Limits())
    direct = hashes_bytes(session.server_version_num)
    hashers = [Hasher(encoding=ENCODINGS[level], seeds=SEEDS, direct=direct) for level in (Level.EXACT, Level.FAST)]
    exact, fast = hashers
    ways = {"by row": exact.how(), "by column": exact.how(by_column=True), "fast": fast.how()}
    try:
        await session.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        relations = [found for found in (await read_relations(session)).values() if not found.is_catalog]
        return {
            (way, relation.name): (await digest_whole(session, relation, how)).digests[0]
            for relation in relations
            for way, how in ways.items()
        }
    finally:
        await session.close()


@pytest.fixture(scope="module")
def held(cluster: LabCluster) -> Iterator[tuple[list[Pair], Digests]]:
    """The pairs that this major can hold, with the digests of their tables."""
    database = cluster.create_database("value_pairs")
    pairs = make_tables(cluster, database)
    yield pairs, asyncio.run(digest_all(cluster.primary.dsn(database)))
    cluster.drop_database(database)


Held = tuple[list[Pair], Digests]


def of_kind(held: Held, kind: str) -> list[Pair]:
    pairs = [pair for pair in held[0] if pair.kind == kind]
    if not pairs:
        pytest.skip(f"this server cannot hold {kind}")
    return pairs


def confused(held: Held, pairs: Iterable[Pair], way: str, other: str = "right") -> list[str]:
    """Return the pairs whose left side has the same digest as the other, under any of the seeds."""
    found = []
    for pair in pairs:
        left, right = (held[1][way, table_of(pair, side)] for side in ("left", other))
        alike = [mine == theirs for mine, theirs in zip(left.sums, right.sums, strict=True)]
        if left.rows == right.rows and any(alike):
            found.append(pair.name)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["by row", "by column"])
def test_byte_by_byte_the_two_are_told_apart_under_every_seed(held: Held, way: str, kind: str) -> None:
    assert confused(held, of_kind(held, kind), way) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_values_have_the_same_digest(held: Held, kind: str) -> None:
    pairs = of_kind(held, kind)
    for way in ("by row", "by column", "fast"):
        for pair in pairs:
            assert held[1][way, table_of(pair, "left")] == held[1][way, table_of(pair, "again")], pair.name


@pytest.mark.parametrize("kind", KINDS)
def test_the_fast_level_tells_apart_what_is_not_equal(held: Held, kind: str) -> None:
    assert (
        confused(held, [pair for pair in of_kind(held, kind) if not (pair.equal or pair.right_columns)], "fast") == []
    )


def test_the_fast_level_confuses_by_design_what_is_equal_of_types_that_hash_well(held: Held) -> None:
    """The level `exact` is there to tell these apart."""
    equal = [pair for pair in held[0] if pair.equal]
    assert confused(held, equal, "fast") == [pair.name for pair in equal if pair.kind in HASHED_BY_EQUALITY]


@pytest.fixture(scope="module")
def swapped(clusters_root: Path, newest_major: int) -> Iterator[tuple[LabCluster, list[Pair]]]:
    """A cluster whose standby1 has the files of the left and the right side of every pair exchanged."""
    with LabCluster.create(clusters_root, name=f"swapped_{os.getpid()}", major=newest_major) as cluster:
        pairs = [pair for pair in make_tables(cluster, "postgres") if not pair.right_columns]
        with connect(cluster.primary.dsn(), node="primary") as connection:
            connection.execute("vacuum (freeze)")
            connection.execute("checkpoint")
            paths = dict(
                connection.execute("select relname, pg_relation_filepath(oid) from pg_class where relkind = 'r'")
            )
        cluster.catch_up()
        standby = cluster.node("standby1")
        standby.execute("checkpoint")
        standby.stop()
        for pair in pairs:
            left, right = (standby.data_dir / paths[table_of(pair, side)] for side in ("left", "right"))
            aside = left.with_name("aside")
            left.rename(aside)
            right.rename(left)
            aside.rename(right)
        standby.start()
        cluster.wait_streaming()
        yield cluster, pairs


def test_a_standby_that_holds_the_other_value_is_diverged_in_both_directions(swapped) -> None:
    cluster, pairs = swapped
    first_of_each_kind = {pair.kind: pair for pair in reversed(pairs)}.values()
    assert_diverged(cluster, list(first_of_each_kind), Level.EXACT)


@pytest.mark.long
@pytest.mark.parametrize("level", Level)
def test_of_every_pair_a_standby_with_the_other_value_is_diverged(swapped, level: Level) -> None:
    cluster, pairs = swapped
    by_equality = HASHED_BY_EQUALITY if level is Level.FAST else set()
    assert_diverged(cluster, [pair for pair in pairs if not (pair.equal and pair.kind in by_equality)], level)


def assert_diverged(cluster: LabCluster, pairs: Iterable[Pair], level: Level) -> None:
    tables = {table_of(pair, side) for pair in pairs for side in ("left", "right")}
    result, _ = run_audit_of(cluster, tables=tuple(f"postgres.public.{table}" for table in tables), level=level)
    assert {found.name: found.verdict for found in result.relations} == dict.fromkeys(tables, Verdict.DIVERGED)
    assert {found.node for found in result.divergences} == {"standby1"}
    assert {replica.node.name: replica.verdict for replica in result.replicas} == {
        "standby1": Verdict.DIVERGED,
        "standby2": Verdict.CONSISTENT,
    }
    assert result.odd_node == "standby1"
