"""What an audit does to the servers it reads: nothing but reads, and nothing stays behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import LiteralString

import pytest

import replcheck
from replcheck.errors import StatementFailed
from replcheck.events import ChunkCompared, RowsDiffer
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import ExitStatus, Verdict
from replcheck.postgres.nodes import text
from replcheck.postgres.session import Limits, Session, open_session
from replcheck.postgres.snapshots import open_snapshot, read_anchor
from tests import labs
from tests.conftest import MakeCluster
from tests.proxies import proxied
from tests.staged import (
    audit,
    before_snapshots,
    make_slow_tables,
    newest_only,
    session_on,
    targets_of,
    until,
    value,
)

_OURS: LiteralString = (
    "from pg_stat_activity where application_name like 'replcheck%' and application_name <> 'replcheck lab'"
)

# --- only reads are sent ---

_BEGINNINGS = (
    "SELECT ",
    "WITH ",
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SAVEPOINT ",
    "ROLLBACK",
    "RELEASE SAVEPOINT ",
    "SET client_encoding ",
    "SET default_transaction_isolation = 'read committed'",
    "SET statement_timeout = 0",
)
_EFFECTS = re.compile(
    r"\b(INSERT|UPDATE|DELETE|MERGE|INTO|CREATE|DROP|ALTER|TRUNCATE|COPY|LOCK|NOTIFY|LISTEN|GRANT|REVOKE|CALL|VACUUM"
    r"|ANALYZE|REINDEX|CLUSTER|REFRESH|COMMENT|DECLARE|CHECKPOINT|SHARE|SNAPSHOT\s+'|pg_export_snapshot)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""")
_REPORTING = {
    "pg_backend_pid",
    "pg_blocking_pids",
    "pg_collation_actual_version",
    "pg_control_checkpoint",
    "pg_control_system",
    "pg_current_wal_flush_lsn",
    "pg_current_wal_insert_lsn",
    "pg_database_collation_actual_version",
    "pg_get_multixact_members",
    "pg_is_in_recovery",
    "pg_is_wal_replay_paused",
    "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn",
    "pg_relation_size",
    "pg_xact_status",
    "set_config",
}
"""Volatile functions that only report, and the one that sets what lasts as long as the session."""


def _parted(text: str) -> list[str]:
    """Return the statements of one message, each on a line, without comments."""
    plain = " ".join(re.sub(r"--[^\n]*", "", text).split())
    parts = re.findall(r"""(?:'(?:[^']|'')*'|"(?:[^"]|"")*"|[^;'"])+""", plain)
    return [part.strip() for part in parts if part.strip()]


@newest_only
def test_nothing_but_reads_ever_reaches_an_audited_node(
    cluster: LabCluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole audit of all databases, with sequences, rows listed one by one, multixacts asked and chunks retried."""
    with session_on(cluster.primary, database, autocommit=True) as connection:
        connection.execute("create table visit (id int generated always as identity primary key, note text)")
        connection.execute("create table bill (visit_id int references visit)")
        connection.execute("insert into visit (note) select 'old' from generate_series(1, 3000)")
        connection.execute("create sequence ticket cycle maxvalue 10")
        connection.execute("create extension pg_buffercache")
    cluster.catch_up()
    with session_on(cluster.primary, database) as writer, ExitStack() as stack:
        proxies = {name: stack.enter_context(proxied(server)) for name, server in cluster.nodes.items()}
        writer.execute("insert into bill select g from generate_series(1, 20) g")
        writer.execute("savepoint s")
        writer.execute("update visit set note = 'new' where id <= 20")

        def commit(node: str, number: int) -> None:
            if node != "primary" and writer.info.transaction_status:
                writer.commit()
                cluster.catch_up()

        before_snapshots(monkeypatch, database, commit)
        dsns = {name: proxy.dsn(cluster.audit_dsn(name)) for name, proxy in proxies.items()}
        run = audit(
            cluster,
            database,
            targets=targets_of(cluster, **dsns),
            databases=("postgres", "template1", database),
            catalogs=True,
            align_budget_s=0.0,
            jobs=1,  # a second lane may read one of the tables after the commit
        )
    assert run.verdict is Verdict.CONSISTENT
    assert run.told(RowsDiffer)
    assert any(event.verdict is Verdict.INCONCLUSIVE for event in run.told(ChunkCompared))
    sent = {statement for proxy in proxies.values() for text in proxy.statements for statement in _parted(text)}
    for fact in ("pg_get_multixact_members", "ctid", "last_value", "SAVEPOINT"):
        assert any(fact in text for text in sent), f"the audit was not whole: {fact} was never sent"
    assert [text for text in sent if not text.startswith(_BEGINNINGS)] == []
    assert [text for text in sent if _EFFECTS.search(_QUOTED.sub("''", text))] == []
    called = {name for text in sent for name in re.findall(r"(\w+) ?\(", _QUOTED.sub("''", text))}
    volatile = "select array_agg(distinct proname::text) from pg_proc where provolatile = 'v' and proname = any (%s)"
    assert set(value(cluster.primary, volatile, sorted(called))) <= _REPORTING


# --- what a session is pinned to ---


async def _open(dsn: str, limits: Limits | None = None) -> Session:
    return await open_session(NodeTarget(name="node", dsn=dsn), purpose="test", limits=limits or Limits())


@pytest.mark.parametrize("node", ["primary", "standby1"])
async def test_a_session_is_read_only_limited_and_named_whatever_its_address_asks_for(
    cluster: LabCluster, major: int, node: str
) -> None:
    """With the audit's own role, which is no superuser."""
    contrary = (
        "options='-c default_transaction_read_only=off -c statement_timeout=0 -c datestyle=German -c row_security=on'"
    )
    session = await _open(
        f"{cluster.audit_dsn(node)} application_name=other {contrary}",
        Limits(statement_s=7, transaction_s=9, lock_s=0.25),
    )
    try:
        rows = await session.fetch(
            "select textsend(name), textsend(setting) from pg_settings where setting is not null"
        )
    finally:
        await session.close()
    shown = {text(name): text(setting) for name, setting in rows}
    expected = {
        "default_transaction_read_only": "on",
        "statement_timeout": "7000",
        "lock_timeout": "250",
        "idle_in_transaction_session_timeout": "14000",
        "client_connection_check_interval": "2000",
        "row_security": "off",
        "search_path": "",
        "DateStyle": "ISO, YMD",
        "application_name": "replcheck test",
        "enable_indexscan": "off",
    }
    assert {name: shown[name] for name in expected} == expected
    if major >= 17:
        # Where the idle limit is not the lower one, the server does not heed it.
        assert 14_000 < int(shown["transaction_timeout"]) < 30_000
    assert shown["client_encoding"] in (shown["server_encoding"], "SQL_ASCII"), "no text is ever converted"


@newest_only
@pytest.mark.parametrize("setting", ["default_transaction_isolation = 'serializable'", "statement_timeout = '1ms'"])
async def test_what_a_role_brings_along_keeps_no_node_from_being_asked(
    cluster: LabCluster, setting: LiteralString
) -> None:
    """A query of a hot standby may not be serializable, and one may take longer than a role's own limit."""
    name = setting.partition(" ")[0]
    cluster.primary.execute(f"alter role {AUDIT_ROLE} set {setting}")
    try:
        cluster.catch_up()
        for target in targets_of(cluster):
            session = await open_session(target, purpose="test", limits=Limits())
            try:
                [[isolation, limit]] = await session.fetch(
                    "select current_setting('default_transaction_isolation'), current_setting('statement_timeout')"
                )
            finally:
                await session.close()
            assert (text(isolation), text(limit) in {"0", "1ms"}) == ("read committed", False)
    finally:
        cluster.primary.execute(f"alter role {AUDIT_ROLE} reset {name}")
        cluster.catch_up()


@newest_only
async def test_a_session_refuses_to_write_even_for_a_superuser(cluster: LabCluster) -> None:
    session = await _open(cluster.primary.dsn())
    try:
        with pytest.raises(StatementFailed) as refused:
            await session.fetch("create table never ()")
    finally:
        await session.close()
    assert refused.value.sqlstate == "25006"


@newest_only
def test_every_backend_of_an_audit_can_be_told_from_others(cluster: LabCluster, database: str) -> None:
    cluster.primary.execute("create table visit as select 1 as id", dbname=database)
    names: set[str] = set()

    def look(event: object) -> None:
        if isinstance(event, ChunkCompared):
            for node in cluster.nodes.values():
                names.update(value(node, f"select array_agg(application_name) {_OURS}"))

    audit(cluster, database, every=look, jobs=1)
    assert names == {"replcheck control", "replcheck lane 1"}


# --- nothing stays behind ---


@contextmanager
def _reading(cluster: LabCluster, database: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command line's audit and wait until it reads rows on every node; it has many seconds of work."""
    make_slow_tables(cluster.primary, database, ["slow"], rows=200, seconds=40)
    cluster.catch_up()
    command = [sys.executable, "-m", "replcheck", "audit", "--primary", cluster.audit_dsn("primary")]
    for standby in cluster.standbys:
        command += ["--replica", cluster.audit_dsn(standby.name)]
    command += ["--database", database, "--table", "slow", "--no-store", "--quiet", *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(replcheck.__file__).parents[1])}
    busy: LiteralString = f"select count(*) > 0 {_OURS} and state = 'active' and query like '%slow%'"
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for node in cluster.nodes.values():
            until(lambda node=node: value(node, busy), f"rows are read on {node.name}")  # type: ignore[misc]
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_until_nothing_is_left(cluster: LabCluster, condition: LiteralString = "true", patience_s: float = 10) -> None:
    """A server looks every two seconds whether its client is still there."""
    left: LiteralString = f"select count(*) {_OURS} and {condition}"
    for node in cluster.nodes.values():
        until(lambda node=node: value(node, left) == 0, f"{node.name} is left alone", patience_s=patience_s)  # type: ignore[misc]


@newest_only
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_audit_that_is_told_to_stop_leaves_no_backend(cluster: LabCluster, database: str, name: str) -> None:
    with _reading(cluster, database) as process:
        process.send_signal(signal.Signals[name])
        assert process.wait(20) == ExitStatus.UNCHECKED
        _wait_until_nothing_is_left(cluster)


@newest_only
def test_an_audit_that_is_killed_leaves_no_backend_for_long(cluster: LabCluster, database: str) -> None:
    with _reading(cluster, database) as process:
        process.kill()
        process.wait()
        _wait_until_nothing_is_left(cluster)


@pytest.mark.parametrize("major", labs.majors()[-1:], ids="pg{}".format, indirect=True)
async def test_the_server_ends_a_transaction_whose_client_falls_silent(cluster: LabCluster) -> None:
    """On a version without transaction_timeout: the limit on idle transactions must be in force after every step."""
    limits = Limits(statement_s=1, transaction_s=0.5)
    target = NodeTarget(name="primary", dsn=cluster.audit_dsn("primary"))
    after = {step: await open_session(target, purpose=step, limits=limits) for step in ("look", "read", "refusal")}
    try:
        anchor = await read_anchor(after["look"])
        for session in after.values():
            await open_snapshot(session, anchor)
        await after["read"].in_savepoint("select 1")
        with pytest.raises(StatementFailed):
            await after["refusal"].in_savepoint("select 1 / 0")
        query: LiteralString = "select count(*) from pg_stat_activity where application_name = %s"
        for step in after:
            until(
                lambda step=step: value(cluster.primary, query, f"replcheck {step}") == 0,  # type: ignore[misc]
                f"the transaction is ended after a {step}",
                patience_s=20,
            )
    finally:
        for session in after.values():
            await session.close()


@newest_only
def test_an_audit_that_is_stopped_in_its_tracks_holds_no_snapshot_beyond_its_age(
    cluster: LabCluster, database: str
) -> None:
    """Its connections stand, so that the servers must end the transactions by themselves."""
    with _reading(cluster, database, "--max-snapshot-age", "2s") as process:
        process.send_signal(signal.SIGSTOP)
        _wait_until_nothing_is_left(cluster, "backend_xmin is not null", patience_s=30)


# --- kind reading ---

_CACHED: LiteralString = """
    select count(*) from pg_buffercache b join pg_class c on b.relfilenode = pg_relation_filenode(c.oid)
    where c.relname = 'hot' and b.reldatabase = (select oid from pg_database where datname = current_database())"""


def test_a_sweep_of_a_large_relation_leaves_the_hot_set_in_memory(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = make_cluster(
        major=newest_major, standbys=1, settings={"autovacuum": "off", "max_standby_streaming_delay": "-1"}
    )
    with session_on(cluster.primary, "postgres", autocommit=True) as connection:
        connection.execute("create extension pg_buffercache")
        for name, pages in (("hot", 400), ("large", 6000)):
            connection.execute(f"create table {name} (id int, filler text)")
            connection.execute(f"alter table {name} alter column filler set storage plain")
            connection.execute(
                f"insert into {name} select g, repeat('x', 3900) from generate_series(1, %s) g", [2 * pages]
            )
            connection.execute(f"vacuum freeze {name}")
        connection.execute("checkpoint")
    cluster.catch_up()

    def warm() -> dict[str, int]:
        for node in cluster.nodes.values():
            node.execute("select count(*) from hot")
        return cached()

    def cached() -> dict[str, int]:
        return {name: value(node, _CACHED) for name, node in cluster.nodes.items()}

    before = warm()
    assert min(before.values()) >= 390
    run = audit(cluster, "postgres", tables=("large",))
    after = cached()
    run.assert_consistent()
    assert run.relation("large").rows == 12_000
    assert all(after[name] >= 0.9 * before[name] for name in before)

    warm()
    with session_on(cluster.primary, "postgres") as connection:
        connection.execute("set enable_seqscan = off")
        for _ in range(3):
            connection.execute("select count(*) from large where ctid >= '(0,0)' and ctid < '(6000,0)'")
    assert cached()["primary"] < 0.5 * before["primary"], "a range scan was kind too: the test shows nothing"
