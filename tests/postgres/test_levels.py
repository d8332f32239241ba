"""The levels on real rows: what they compute is the same on every major, and stays so."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from replcheck.audit.digest import ENCODINGS, Hasher, new_hasher
from replcheck.audit.options import Level
from replcheck.errors import StatementFailed
from replcheck.lab.cluster import LabCluster
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Verdict
from replcheck.postgres.catalog import read_relations
from replcheck.postgres.digests import Digest, digest_whole, hashes_bytes
from replcheck.postgres.local import connect
from replcheck.postgres.session import Limits, open_session
from tests.auditing import relation_of, run_audit_of

SEEDS = (20_260_101, 4_242_424_242_424_242)
ROWS = 1_000
VAST_NEEDS_GB = 15
"""For a row of 1.2 GB, which two servers read at once: each session holds it several times over."""
TYPES = {
    "a_bool": "n % 2 = 0",
    "a_int2": "n::int2",
    "a_int4": "n * 1000",
    "a_int8": "n * 10000000000",
    "a_numeric": "n / 7.0",
    "a_float4": "(n / 7.0)::float4",
    "a_float8": "n / 7.0::float8",
    "a_text": "md5(n::text)",
    "a_varchar": "n::varchar(10)",
    "a_bpchar": "n::char(10)",
    "a_name": "n::text::name",
    "a_char": "'x'::\"char\"",
    "a_bytea": "decode(md5(n::text), 'hex')",
    "a_date": "date '2000-01-01' + n",
    "a_time": "time '00:00' + n * interval '1 second'",
    "a_timetz": "timetz '00:00+01' + n * interval '1 second'",
    "a_timestamp": "timestamp '2000-01-01' + n * interval '1.000001 hours'",
    "a_timestamptz": "timestamptz '2000-01-01 00:00+00' + n * interval '1.000001 hours'",
    "a_interval": "n * interval '1 day 1 hour'",
    "a_uuid": "md5(n::text)::uuid",
    "a_json": "format('{\"n\": %s}', n)::json",
    "a_jsonb": 'format(\'{"n": %s, "a": [1.0, null]}\', n)::jsonb',
    "a_array": "array[n, null, n + 1]",
    "a_range": "int4range(n, n + 10)",
    "a_multirange": "int4multirange(int4range(n, n + 10))",
    "a_bit": "n::bit(20)",
    "a_varbit": "n::bit(20)::varbit",
    "a_inet": "inet '10.0.0.0' + n",
    "a_macaddr": "macaddr '08:00:2b:01:02:03'",
    "a_tsvector": "('w' || n || ':1A')::tsvector",
    "a_point": "point(n, -n)",
    "a_lsn": "pg_lsn '0/0' + n",
    "a_money": "n::money",
    "a_null": "null::text",
}
DIGESTS = {
    "fast/1": Digest(ROWS, (-186706102984807509892,)),
    "exact/1": Digest(ROWS, (59004077552939539305,)),
    "strong/1": Digest(ROWS, (59004077552939539305, 117780849890115095972)),
}
"""Of the table below under SEEDS. An encoding once released stays computable: these numbers never change."""


@pytest.fixture
def typed(cluster: LabCluster, database: str) -> str:
    """A database with a table of many types, the same on every major."""
    with connect(cluster.primary.dsn(database), node="primary") as connection:
        columns = ", ".join(f"{expression} as {name}" for name, expression in TYPES.items())
        connection.execute(
            f"set timezone = 'UTC'; create table typed as select {columns} from generate_series(1, {ROWS}) n"
        )
    cluster.catch_up()
    return database


async def test_the_same_rows_have_the_same_digest_on_every_major_and_node(cluster: LabCluster, typed: str) -> None:
    for name in cluster.nodes:
        target = NodeTarget(name=name, dsn=cluster.audit_dsn(name))
        session = await open_session(target, database=typed, purpose="test", limits=Limits())
        await session.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        [relation] = [found for found in (await read_relations(session)).values() if found.name == "typed"]
        for direct in {False, hashes_bytes(session.server_version_num)}:
            found = {}
            for level in Level:
                encoding = ENCODINGS[level]
                how = Hasher(encoding=encoding, seeds=SEEDS[: encoding.seeds], direct=direct).how()
                [found[encoding.name]] = (await digest_whole(session, relation, how)).digests
            assert found == DIGESTS
        await session.close()


def test_every_level_proves_the_same_rows(cluster: LabCluster, typed: str) -> None:
    for level in Level:
        result, _ = run_audit_of(cluster, databases=(typed,), catalogs=False, level=level)
        assert (result.verdict, relation_of(result, "typed").rows) == (Verdict.CONSISTENT, ROWS)
        assert (result.level, result.encoding) == (level.value, ENCODINGS[level].name)


async def test_fast_digests_hold_the_bytes_of_texts_whose_hashes_depend_on_the_library_that_sorts_them(
    cluster: LabCluster, database: str
) -> None:
    make = "create collation folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    try:
        cluster.primary.execute(make, dbname=database)
    except StatementFailed:
        pytest.skip("this server was built without ICU, which alone has such collations")
    cluster.primary.execute(
        "create table lower (n int, note text collate folding, code varchar(9) collate folding, plain text);"
        "create table upper (like lower); insert into lower values (1, 'a', 'a', 'a'); insert into upper"
        " values (1, 'A', 'A', 'a')",
        dbname=database,
    )
    target = NodeTarget(name="primary", dsn=cluster.audit_dsn("primary"))
    session = await open_session(target, database=database, purpose="test", limits=Limits())
    await session.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    found = {relation.name: relation for relation in (await read_relations(session)).values()}
    assert [column.hashed for column in found["lower"].columns] == [True, False, False, True]
    how = Hasher(encoding=ENCODINGS[Level.FAST], seeds=SEEDS[:1], direct=False).how()
    digests = [(await digest_whole(session, found[name], how)).digests for name in ("lower", "upper")]
    await session.close()
    assert digests[0] != digests[1]


def test_the_seeds_of_two_runs_differ_and_strong_has_two() -> None:
    for level, seeds in ((Level.FAST, 1), (Level.EXACT, 1), (Level.STRONG, 2)):
        first, second = new_hasher(level), new_hasher(level)
        assert len(set(first.seeds)) == len(set(second.seeds)) == seeds
        assert not set(first.seeds) & set(second.seeds)


def _available_gb() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    [kilobytes] = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return kilobytes / 1e6


@pytest.fixture(scope="module")
def vast(clusters_root: Path, newest_major: int) -> Iterator[LabCluster]:
    """A cluster with a row of 1.2 GB; it compresses well, so that the disk has room for it."""
    if (there := _available_gb()) < VAST_NEEDS_GB:
        pytest.skip(f"{VAST_NEEDS_GB} GB of free memory are needed, and {there:.0f} are there")
    with LabCluster.create(clusters_root, name=f"vast_{os.getpid()}", major=newest_major, standbys=1) as made:
        with connect(made.primary.dsn(), node="primary") as connection:
            connection.execute("create table vast (a text, b text, c int)")
            connection.execute("insert into vast values (repeat('x', 600000000), null, 1), ('a', 'b', 2)")
            connection.execute("update vast set b = repeat('y', 600000000) where c = 1")
            connection.execute("vacuum vast")
        made.catch_up(timeout_s=120)
        yield made


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("level", Level)
def test_rows_beyond_the_largest_value_of_the_server_are_compared_column_by_column(
    vast: LabCluster, level: Level
) -> None:
    result, _ = run_audit_of(vast, databases=("postgres",), tables=("vast",), level=level)
    assert (result.verdict, relation_of(result, "vast").rows) == (Verdict.CONSISTENT, 2)
    assert result.not_checked == ()
