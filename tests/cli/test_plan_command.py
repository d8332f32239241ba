"""`replcheck audit --plan` on real servers: it says what the audit then does, and reads no row."""

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from replcheck.audit.options import AuditOptions
from replcheck.audit.planning import plan_cluster
from replcheck.errors import ConnectionsExhausted, UsageError
from replcheck.lab.cluster import LabCluster
from replcheck.model.audit import RelationKind
from replcheck.model.node import NodeTarget
from replcheck.model.plan import AuditPlan, Reading
from replcheck.postgres.local import connect
from replcheck.report.plan_document import plan_schema
from tests.auditing import audit_of, targets_of
from tests.commands import run_here
from tests.proxies import proxied
from tests.staged import newest_only

pytestmark = newest_only

_SCHEMA = """
create table zqcanary (id int primary key, v text);
insert into zqcanary select n, repeat('x', 1000) from generate_series(1, 6000) as n;
create table small (id bigserial primary key, v text);
insert into small (v) values ('a');
create table "Odd ""name" (v text);
create unlogged table passing (v int);
create table hidden (v int);
alter table hidden enable row level security;
create table left_out (v int);
create materialized view never as select * from small with no data;
create materialized view kept as select * from small;
"""


@pytest.fixture
def filled(cluster: LabCluster, database: str) -> str:
    """A database with a relation of each kind."""
    with connect(cluster.primary.dsn(database), node="primary") as connection:
        connection.execute(_SCHEMA)
        connection.execute("vacuum analyze")
    cluster.catch_up()
    return database


def plan_of(cluster: LabCluster, targets: list[NodeTarget] | None = None, **options: Any) -> AuditPlan:
    return asyncio.run(plan_cluster(targets or targets_of(cluster), AuditOptions(**options), cluster=cluster.name))


@pytest.mark.parametrize("catalogs", [True, False])
def test_the_audit_does_what_the_plan_says(cluster: LabCluster, filled: str, catalogs: bool) -> None:
    options: dict[str, Any] = {"databases": (filled,), "excludes": ("left_*",), "catalogs": catalogs}
    plan = plan_of(cluster, **options)
    result, _ = asyncio.run(audit_of(cluster, **options))
    [database] = plan.databases
    compared = [found for found in result.relations if found.kind is not RelationKind.SEQUENCE]
    assert {(found.schema, found.name, found.kind, found.chunks) for found in compared} == {
        (found.schema, found.name, found.kind, found.chunks) for found in database.relations
    }
    # Catalogs grow meanwhile: autovacuum writes statistics.
    sizes = [
        {found.name: found.size_bytes for found in listed if found.kind is not RelationKind.CATALOG}
        for listed in (compared, database.relations)
    ]
    assert sizes[0] == sizes[1]
    assert list(database.sequences) == ["public.small_id_seq"]
    assert sum(found.kind is RelationKind.SEQUENCE for found in result.relations) == 1
    assert plan.not_checked == result.not_checked
    assert {"row_security", "unlogged", "unpopulated", "excluded"} <= {note.code for note in plan.not_checked}
    assert (plan.scope, plan.encoding) == (result.scope, result.encoding)
    readings = {found.name: found.reading for found in database.relations}
    assert (readings["zqcanary"], readings["small"]) == (Reading.SCAN, Reading.WHOLE)
    assert database.relations[0].name == "zqcanary"


def test_no_statement_of_a_plan_reads_a_relation_of_the_user(cluster: LabCluster, filled: str) -> None:
    with ExitStack() as stack:
        proxies = {name: stack.enter_context(proxied(server)) for name, server in cluster.nodes.items()}
        targets = [NodeTarget(name=name, dsn=proxy.dsn(cluster.audit_dsn(name))) for name, proxy in proxies.items()]
        before = scans(cluster, filled)
        plan_of(cluster, targets, databases=(filled,), tables=("public.*",))
        sent = {name: list(proxy.statements) for name, proxy in proxies.items()}
        assert scans(cluster, filled) == before
        asyncio.run(audit_of(cluster, targets=targets, databases=(filled,), tables=("public.*",)))
        sent_by_audit = [statement for proxy in proxies.values() for statement in proxy.statements]
    assert any("zqcanary" in statement for statement in sent_by_audit)
    assert scans(cluster, filled) != before
    for name, statements in sent.items():
        assert len(statements) > 10, name
        for statement in statements:
            assert not any(table in statement for table in ("zqcanary", "small", "kept", "hash_record")), statement
            assert "SAVEPOINT" not in statement.upper()
            assert "BEGIN" not in statement.upper()


def scans(cluster: LabCluster, database: str) -> list[tuple[object, ...]]:
    """Return how often each table was scanned; a session's counts are there once it has ended."""
    return cluster.primary.execute(
        "select relname, seq_scan, seq_tup_read, coalesce(idx_scan, 0) from pg_stat_user_tables order by 1",
        dbname=database,
    )


def test_what_the_role_may_not_read_is_told_with_the_grant(cluster: LabCluster, filled: str) -> None:
    cluster.primary.execute("create role zq_narrow login")
    try:
        cluster.catch_up()
        targets = [
            NodeTarget(name=name, dsn=f"{server.address} user=zq_narrow dbname={filled}")
            for name, server in cluster.nodes.items()
        ]
        plan = plan_of(cluster, targets, databases=(filled,))
    finally:
        cluster.primary.execute("drop role zq_narrow")
    [note] = [note for note in plan.not_checked if note.relation == "public.zqcanary"]
    assert (note.code, note.by_design) == ("privilege", False)
    assert note.hint == 'GRANT pg_read_all_data TO "zq_narrow";'
    [database] = plan.databases
    assert {found.kind for found in database.relations} == {RelationKind.CATALOG, RelationKind.LARGE_OBJECTS}


def test_it_fails_where_an_audit_would(cluster: LabCluster, filled: str) -> None:
    for tables in (("none_such",), ("public.none_such",)):
        with pytest.raises(UsageError, match="no relation matches"):
            plan_of(cluster, databases=(filled,), tables=tables)
    with pytest.raises(UsageError, match="no database matches"):
        plan_of(cluster, databases=("none_such",))
    cluster.primary.execute("alter role replcheck_audit connection limit 50")
    try:
        cluster.catch_up()
        with pytest.raises(ConnectionsExhausted, match="the audit needs 64 more"):
            plan_of(cluster, jobs=64)
    finally:
        cluster.primary.execute("alter role replcheck_audit connection limit -1")


def command(cluster: LabCluster, database: str, *more: str) -> list[str]:
    replicas = [word for name in ("standby1", "standby2") for word in ("--replica", cluster.audit_dsn(name))]
    return ["audit", "--plan", "--primary", cluster.audit_dsn("primary"), *replicas, "--database", database, *more]


def test_the_command_ends_with_0_writes_json_and_keeps_no_record(
    cluster: LabCluster,
    filled: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def ran(*more: str):
        return run_here(*command(cluster, filled, *more), home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)

    ended = ran("--format", "json", "--output", "plan.json", "--no-catalogs")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    document = json.loads((tmp_path / "plan.json").read_text())
    jsonschema.validate(document, plan_schema())
    assert document["databases"][0]["relations"][0]["name"] == "public.zqcanary"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert '"Odd ""name"' in ran("--no-catalogs").out
    for words in (("--table", "nix"), ("--events", "events.jsonl")):
        ended = ran(*words)
        assert (ended.status, ended.out) == (3, "")
        assert len(ended.err.splitlines()) == 2


def test_the_time_is_estimated_by_the_last_recorded_run_of_these_servers(
    cluster: LabCluster,
    filled: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    plan = command(cluster, filled, "--no-catalogs", "--quiet")
    audit = [word for word in plan if word != "--plan"]

    def ran(words: list[str]):
        return run_here(*words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)

    assert "This rate is assumed" in " ".join(ran(plan).out.split())
    # A table under row-level security stays unchecked.
    assert ran(audit).status == 3
    ended = ran(plan)
    assert ended.status == 0
    assert "if it goes as quickly as run" in " ".join(ended.out.split())
    assert "This rate is assumed" in " ".join(ran([*plan, "--level", "fast"]).out.split())
    assert "This rate is assumed" in " ".join(ran([*plan, "--no-store"]).out.split())
