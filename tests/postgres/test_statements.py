"""Every statement that reaches an audited node is understood by every major, and read the way it was meant to be."""

import importlib
import itertools
import pkgutil
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any, cast

import psycopg
import pytest
from psycopg import sql

from replcheck import postgres
from replcheck.errors import StatementCancelled, StatementFailed
from replcheck.lab.cluster import LabCluster
from replcheck.model.names import printable
from replcheck.model.node import NodeTarget
from replcheck.postgres import digests
from replcheck.postgres.catalog import Column, Form, Relation, read_filenodes, read_relations, read_tokens
from replcheck.postgres.digests import LAST_BLOCK, RowHash
from replcheck.postgres.local import connect
from replcheck.postgres.nodes import read_databases, read_facts
from replcheck.postgres.portable import PortableRow
from replcheck.postgres.seal_digests import digest_parts
from replcheck.postgres.sequences import read_sequences
from replcheck.postgres.session import Limits, Session, open_session
from replcheck.postgres.snapshots import open_snapshot, read_anchor
from replcheck.postgres.software import read_software
from replcheck.postgres.wal import flush_lsn, insert_lsn, replay_state, writer_delay_s
from tests.core import proofs

LAB_MODULES = {"local", "server", "processes", "programs"}
"""Modules that start servers of ours and speak to them alone."""
NODES = ("primary", "standby1")
_READS = re.compile(r"\s*(WITH|SELECT)\b")
_PLACEHOLDERS = {"{oids}": "ARRAY[1259]", "{oid}": "1259", "{hash}": "hashint8extended(1, 2)", "{page}": "2048"}


def _constants() -> Iterator[tuple[str, str]]:
    """Yield name and text of every constant of replcheck.postgres that reads as the beginning of a statement."""
    for module in pkgutil.iter_modules(postgres.__path__):
        if module.name not in LAB_MODULES:
            for name, value in vars(importlib.import_module(f"replcheck.postgres.{module.name}")).items():
                text = value.as_string(None) if isinstance(value, sql.SQL | sql.Composed) else value
                if isinstance(text, str) and not name.startswith("__") and _READS.match(text):
                    yield f"{module.name}.{name}", text


def _whole(constants: dict[str, str]) -> dict[str, str]:
    """Leave out those that others begin with."""
    texts = constants.values()
    return {name: text for name, text in constants.items() if not any(o != text and o.startswith(text) for o in texts)}


CONSTANTS = _whole(dict(_constants()))


def test_the_statements_are_found() -> None:
    assert len(CONSTANTS) > 15
    assert {"catalog._RELATIONS", "snapshots.AFTER", "nodes._IDENTITY"} <= CONSTANTS.keys()


@pytest.mark.parametrize("node", NODES)
def test_every_constant_statement_can_be_prepared(cluster: LabCluster, node: str) -> None:
    refused = []
    with connect(cluster.audit_dsn(node), node=node) as connection:
        for name, text in CONSTANTS.items():
            if not _is_meant_for(cluster.primary.programs.major, name):
                continue
            try:
                connection.execute(f"prepare it as {with_numbered_parameters(text)}; deallocate it")
            except psycopg.Error as error:
                refused.append((name, str(error)))
    assert refused == []


def _is_meant_for(major: int, name: str) -> bool:
    """Return whether a statement is sent to servers of a version; its name says where it is not sent to all."""
    bounds = re.search(r"_(BEFORE|FROM)_(\d+)$", name)
    return bounds is None or (major < int(bounds[2])) == (bounds[1] == "BEFORE")


def with_numbered_parameters(statement: str) -> str:
    for placeholder, value in _PLACEHOLDERS.items():
        statement = statement.replace(placeholder, value)
    numbers = itertools.count(1)
    return re.sub(r"%s", lambda _: f"${next(numbers)}", statement).replace("%%", "%")


@pytest.fixture(scope="module")
def with_a_table(cluster: LabCluster) -> Iterator[str]:
    """A database with a table of 40 blocks and a sequence."""
    database = cluster.create_database("statements")
    with connect(cluster.primary.dsn(database), node="primary") as connection:
        connection.execute(
            "create table many (id int primary key, v text);"
            " insert into many select n, repeat('x', 1000) from generate_series(1, 280) as n; create sequence counted"
        )
        connection.execute("vacuum (freeze, analyze)")
    cluster.catch_up()
    yield database
    cluster.drop_database(database)


@pytest.fixture
async def sessions(cluster: LabCluster, with_a_table: str) -> AsyncIterator[dict[str, Session]]:
    """A session of the audit's role on the primary and on a standby."""
    opened = {
        name: await open_session(
            NodeTarget(name=name, dsn=cluster.audit_dsn(name)), database=with_a_table, purpose="test", limits=Limits()
        )
        for name in NODES
    }
    yield opened
    for session in opened.values():
        await session.close()


async def test_everything_that_is_read_of_a_node_can_be_read_on_every_major(sessions: dict[str, Session]) -> None:
    anchor = await read_anchor(sessions["primary"])
    again = await read_anchor(sessions["primary"], anchor)
    assert again.xmax >= anchor.xmax
    assert await flush_lsn(sessions["primary"]) <= await insert_lsn(sessions["primary"])
    assert await writer_delay_s(sessions["primary"]) > 0
    assert (await replay_state(sessions["standby1"])).replayed >= anchor.lsn - 1_000_000
    for name, session in sessions.items():
        facts = await read_facts(session)
        assert facts.identity.in_recovery == (name != "primary")
        assert (facts.timeline, facts.free_connections > 0) == (1, True)
        assert {found.name for found in await read_databases(session)} >= {"postgres", "template0", "template1"}
        reading = await open_snapshot(session, anchor)
        assert reading.backend.in_recovery == (name != "primary")
        relations = await read_relations(session)
        assert len(relations) > 60
        tokens, filenodes = await read_tokens(session, list(relations)), await read_filenodes(session, list(relations))
        assert {oid: (tokens[oid], filenodes[oid]) for oid in relations} == {
            oid: (relation.token, relation.filenode_now) for oid, relation in relations.items()
        }
        [sequence] = [relation for relation in relations.values() if relation.name == "counted"]
        states = await read_sequences(session, [sequence])
        assert states[sequence.oid].increment == 1  # type: ignore[union-attr]
        assert "plpgsql" in (await read_software(session)).extensions


class Explained(Exception):
    """Carries the plan of a statement that was explained instead of run."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__(plan)
        self.plan = plan


class ExplainingSession:
    """Explains what would be run inside a savepoint."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.rendered = session.rendered

    async def in_savepoint(
        self, statement: sql.Composed | bytes, parameters: object = None, *, before: Any = None
    ) -> None:
        sent = statement if isinstance(statement, bytes) else self._session.rendered(statement)
        ((plan,),) = await self._session.in_savepoint(b"EXPLAIN (FORMAT JSON) " + sent, before=before)
        raise Explained(plan[0]["Plan"])


def scans_of(plan: dict[str, Any]) -> set[tuple[str, str]]:
    """Return how each relation of a plan is scanned."""
    found = {(plan["Relation Name"], plan["Node Type"])} if "Relation Name" in plan else set()
    return found.union(*(scans_of(part) for part in plan.get("Plans", ())))


WAYS = {
    "exact": RowHash(seeds=(1,)),
    "strong": RowHash(seeds=(1, 2)),
    "fast": RowHash(seeds=(1,), by_equality=True),
    "by column": RowHash(seeds=(1,), by_column=True),
}
READS = {
    "whole": ("Seq Scan", digests.digest_whole),
    "with others": (
        "Seq Scan",
        lambda s, r, how: digests.digest_together(s, s.rendered(digests.together([r, r], how))),
    ),
    "in a sweep": ("Seq Scan", lambda s, r, how: digests.digest_sweep(s, r, how, (10, 20, 30))),
    "a range": ("Tid Range Scan", lambda s, r, how: digests.digest_ranges(s, r, how, [(8, 24)], 16)),
    "several ranges": ("Tid Range Scan", lambda s, r, how: digests.digest_ranges(s, r, how, [(0, 8), (24, 32)], 4)),
    "the end": ("Tid Range Scan", lambda s, r, how: digests.digest_ranges(s, r, how, [(32, LAST_BLOCK)], 16)),
    "rows": ("Tid Range Scan", lambda s, r, how: digests.list_rows(s, r, how, [(8, 9), (12, 14)])),
}


@pytest.mark.parametrize("read", READS)
async def test_rows_are_read_by_the_plan_that_was_meant(sessions: dict[str, Session], read: str) -> None:
    wanted, ask = READS[read]
    for session in sessions.values():
        await session.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        relation = await relation_named(session, "many")
        for way, how in WAYS.items():
            with pytest.raises(Explained) as explained:
                await ask(cast("Session", ExplainingSession(session)), relation, how)
            assert scans_of(explained.value.plan) == {("many", wanted)}, way
        await session.rollback()


async def test_a_sweep_sorts_no_rows_and_expects_few_groups(sessions: dict[str, Session]) -> None:
    """A planner that takes every position for a group of its own would sort all rows, on the disk of the server."""
    for session in sessions.values():
        await session.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        relation = await relation_named(session, "many")
        for way, how in WAYS.items():
            with pytest.raises(Explained) as explained:
                await digests.digest_sweep(cast("Session", ExplainingSession(session)), relation, how, (10, 20, 30))
            *_, grouping, scan = path_to(explained.value.plan, "many")
            assert (grouping["Strategy"], scan["Node Type"]) == ("Hashed", "Seq Scan"), way
            assert grouping["Plan Rows"] < scan["Plan Rows"], way
        await session.rollback()


def path_to(plan: dict[str, Any], relation: str) -> list[dict[str, Any]]:
    """Return the nodes of a plan from its top down to the scan of a relation, none where it is not scanned."""
    if plan.get("Relation Name") == relation:
        return [plan]
    below = next((found for part in plan.get("Plans", ()) if (found := path_to(part, relation))), [])
    return [plan, *below] if below else []


@pytest.mark.parametrize("way", WAYS)
async def test_a_relation_read_in_parts_is_the_same_as_read_whole(sessions: dict[str, Session], way: str) -> None:
    for session in sessions.values():
        await session.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        relation = await relation_named(session, "many")
        [whole] = (await digests.digest_whole(session, relation, WAYS[way])).digests
        assert whole.rows == 280
        how = replace(WAYS[way], direct=digests.hashes_bytes(session.server_version_num))
        assert (await digests.digest_whole(session, relation, how)).digests == (whole,)
        _, listed = await digests.list_rows(session, relation, how, [(0, LAST_BLOCK)])
        assert len(listed) == 280
        assert tuple(map(sum, zip(*(row.sums for row in listed), strict=True))) == whole.sums
        blocks = max(row.block for row in listed) + 1
        assert blocks == 40
        per_block = {block: [row for row in listed if row.block == block] for block in range(blocks)}
        for width in (1, 3, 16, 40, 64):
            edges = list(range(width, blocks, width))
            swept = (await digests.digest_sweep(session, relation, how, edges)).digests
            cut = (await digests.digest_ranges(session, relation, how, [(0, blocks)], width)).digests
            assert swept == cut
            starts = [0, *edges]
            assert [part.rows for part in cut] == [
                sum(len(per_block[block]) for block in range(first, min(first + width, blocks))) for first in starts
            ]
            assert tuple(map(sum, zip(*(part.sums for part in cut), strict=True))) == whole.sums
        [tail] = (await digests.digest_ranges(session, relation, how, [(39, LAST_BLOCK)], 16)).digests
        assert (tail.rows, tail.sums[0]) == (len(per_block[39]), sum(row.sums[0] for row in per_block[39]))
        [beyond] = (await digests.digest_ranges(session, relation, how, [(40, LAST_BLOCK)], 16)).digests
        assert (beyond.rows, set(beyond.sums)) == (0, {0})
        await session.rollback()


@pytest.mark.parametrize("way", WAYS)
async def test_a_seal_digests_parts_as_an_audit_does_and_rows_as_a_dump_carries_them(
    sessions: dict[str, Session], way: str
) -> None:
    for session in sessions.values():
        await session.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        relation = await relation_named(session, "many")
        how = replace(WAYS[way], seeds=(7, -11), direct=digests.hashes_bytes(session.server_version_num))
        portable = PortableRow(
            columns=relation.columns, seeds=how.seeds, by_column=how.by_column, direct=not how.by_column and how.direct
        )
        expected = (await digests.digest_ranges(session, relation, how, [(0, 40)], 16)).digests
        alone = await digest_parts(session, relation, how, [(0, 40)], 16)
        assert (alone.digests, alone.portable) == (expected, ())
        both = await digest_parts(session, relation, how, [(0, 40)], 16, portable=portable)
        assert (both.digests, both.marked) == (expected, alone.marked)
        statement = sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(sql.SQL("sum({})::text::bytea").format(value) for value in portable.hashes()),
            digests.rows_of(relation),
        )
        [carried] = await session.read(statement)
        assert both.portable == tuple(int(bytes(value)) for value in carried)
        await session.rollback()


@pytest.mark.parametrize("way", WAYS)
async def test_relations_read_together_are_the_same_as_each_read_by_itself(
    sessions: dict[str, Session], way: str
) -> None:
    how = WAYS[way]
    for session in sessions.values():
        await session.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        small = (found for found in (await read_relations(session)).values() if found.total_bytes < 50_000)
        listed = [found for found in small if found.columns]
        some = [await relation_named(session, "many"), *listed[:20]]
        found = await digests.digest_together(session, session.rendered(digests.together(some, how)))
        assert found == [await digests.digest_whole(session, relation, how) for relation in some]
        assert found[0].digests[0].rows == 280
        await session.rollback()


async def test_relations_read_together_leave_no_lock_and_no_limit_of_theirs(sessions: dict[str, Session]) -> None:
    for session in sessions.values():
        await session.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        settings = await session.fetch(_LIMITS)
        relation = await relation_named(session, "many")
        await digests.digest_together(session, session.rendered(digests.together([relation] * 3, WAYS["exact"])))
        broken = replace(relation, columns=(Column(name=b"nowhere", form=Form.SENT, hashed=True),))
        with pytest.raises(StatementFailed):
            await digests.digest_together(
                session, session.rendered(digests.together([relation, broken], WAYS["exact"]))
            )
        assert await locks_on(session, relation) == 0
        assert await session.fetch(_LIMITS) == settings
        await session.rollback()


async def test_the_server_soon_ends_a_read_of_several_relations(sessions: dict[str, Session]) -> None:
    """Their locks are held as long; the limit is on all of them together, not on each."""
    session = sessions["primary"]
    await session.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    each = b" UNION ALL ".join(b"SELECT 0, 0, false, 0, 0 FROM pg_catalog.pg_sleep(0.1)" for _ in range(20))
    began = time.monotonic()
    with pytest.raises(StatementCancelled) as cancelled:
        await digests.digest_together(session, each)
    assert time.monotonic() - began < 1.5
    assert cancelled.value.sqlstate == "57014"
    await session.rollback()


_LIMITS = "SELECT pg_catalog.current_setting('statement_timeout'), pg_catalog.current_setting('lock_timeout')"


async def locks_on(session: Session, relation: Relation) -> int:
    ((count,),) = await session.fetch(
        "SELECT count(*) FROM pg_catalog.pg_locks AS l WHERE l.pid = pg_backend_pid() AND l.relation = %s::bigint::oid",
        [relation.oid],
    )
    return int(count)


async def test_a_statement_that_is_refused_leaves_the_snapshot_and_no_lock(sessions: dict[str, Session]) -> None:
    session = sessions["primary"]
    await session.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    before = await session.fetch("SELECT pg_catalog.pg_current_snapshot()::text")
    with pytest.raises(StatementFailed) as refused:
        await session.in_savepoint("SELECT 1 / 0 FROM public.many")
    assert refused.value.sqlstate == "22012"
    relation = await relation_named(session, "many")
    await digests.digest_whole(session, relation, WAYS["exact"])
    locks = await locks_on(session, relation)
    assert (locks, await session.fetch("SELECT pg_catalog.pg_current_snapshot()::text")) == (0, before)
    await session.rollback()


async def relation_named(session: Session, name: str) -> Relation:
    [found] = [relation for relation in (await read_relations(session)).values() if relation.name == name]
    return found


def test_the_query_for_looking_at_rows_can_be_copied_from_a_report_whatever_the_name(cluster: LabCluster) -> None:
    names = ("visit", "Visit", 'a"b', "esc\x1b[2J", 'back\\slash\n"q"', "\u202egnirts", "bell\x07\u00e9")
    with connect(cluster.primary.dsn(), node="primary") as connection:
        for name in names:
            schema = f"of {name}"
            table = sql.Identifier(schema, name)
            connection.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))
            connection.execute(sql.SQL("create table {} as select 7 as i").format(table))
            query = digests.rows_query(replace(proofs.relation(), schema=schema, name=name), [("(0,1)", "(0,9)")])
            assert printable(query) == query
            assert connection.execute(query.encode()).fetchall()[0][-1] == 7, name
            connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(schema)))
