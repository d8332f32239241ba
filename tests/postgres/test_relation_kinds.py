"""Every relation of every database is accounted for: compared, or named with the reason why not."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from replcheck.audit.options import Level
from replcheck.errors import UsageError
from replcheck.lab.cluster import LabCluster
from replcheck.model.audit import AuditResult, RelationKind
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Verdict
from replcheck.postgres.local import connect, sql
from replcheck.postgres.nodes import text
from tests import labs
from tests.auditing import notes_of, relation_of, run_audit_of, server_errors, targets_of, unaccounted
from tests.postgres import zoo
from tests.proxies import proxied

ZOO = "zoo"
ENCODINGS = {
    "zoo_latin1": ("LATIN1", b"caf\xe9"),
    "zoo_eucjp": ("EUC_JP", b"\xa5\xc6\xa1\xbc"),
    "zoo_ascii": ("SQL_ASCII", b"caf\xe9\xff"),
}
"""Databases in other encodings, with a name in its bytes."""
newest_only = pytest.mark.parametrize("major", labs.majors()[:1], ids="pg{}".format, indirect=True)
"""For tests whose subject does not depend on the version."""
DATABASES = (ZOO, *ENCODINGS)


@dataclass(frozen=True)
class Visit:
    """One audit of all databases of the zoo."""

    cluster: LabCluster
    major: int
    result: AuditResult
    logged: list[str]


@pytest.fixture(scope="module")
def made_zoo(cluster: LabCluster, major: int) -> Iterator[LabCluster]:
    """The shared cluster with the databases of the zoo, a temporary table and a prepared transaction held open."""
    primary = cluster.primary
    with connect(primary.dsn(), node="primary") as connection:
        connection.execute("set allow_in_place_tablespaces = on")
        connection.execute("create tablespace aside location ''")
    cluster.create_database(ZOO)
    with connect(primary.dsn(ZOO), node="primary") as connection:
        connection.execute(zoo.script(major))
        make_hostile_names(connection)
    for database, (encoding, name) in ENCODINGS.items():
        make_encoded(cluster, database, encoding, name)
    with connect(primary.dsn(ZOO), node="primary") as holder:
        holder.execute("create temporary table passing (id serial); insert into passing default values")
        holder.execute(
            "begin; delete from half_done; insert into half_done values (1), (2); prepare transaction 'half'"
        )
        yield cluster
        holder.execute("rollback prepared 'half'")
    for database in DATABASES:
        cluster.drop_database(database)
    primary.execute("drop tablespace aside")


def make_hostile_names(connection) -> None:
    for number, name in enumerate(zoo.HOSTILE_NAMES):
        schema = sql.Identifier(name if name != "select" else "Select")
        table = sql.Identifier(name)
        columns = sql.SQL(", ").join(
            sql.SQL("{} int").format(sql.Identifier(column)) for column in zoo.HOSTILE_NAMES[: number + 1]
        )
        connection.execute(sql.SQL("create schema {}").format(schema))
        connection.execute(sql.SQL("create table {}.{} ({})").format(schema, table, columns))
        connection.execute(sql.SQL("insert into {}.{} select 1, 2").format(schema, table) if number else "select 1")
        connection.execute(sql.SQL("create sequence {}.{}").format(schema, sql.Identifier(name[:20] + "'s")))


def make_encoded(cluster: LabCluster, database: str, encoding: str, name: bytes) -> None:
    """Make a database with a table, a column, a sequence and a value of that name."""
    cluster.primary.execute(
        f"create database {database} encoding '{encoding}' template template0 lc_collate 'C' lc_ctype 'C'"
    )
    with connect(f"{cluster.primary.dsn(database)} client_encoding=SQL_ASCII", node="primary") as connection:
        for statement in (
            b'create table "%b" ("%b" text)' % (name, name),
            b"insert into \"%b\" values ('%b'), ('a')" % (name, name),
            b'create sequence "%b\'s"' % name,
        ):
            connection.execute(statement)


@pytest.fixture(scope="module")
def visit(made_zoo: LabCluster, major: int) -> Visit:
    """An audit of the healthy zoo by the audit's own role."""
    made_zoo.catch_up()
    with server_errors(made_zoo) as logged:
        result, _ = run_audit_of(made_zoo, databases=("zoo*", "template*"))
    return Visit(made_zoo, major, result, logged)


def test_a_healthy_zoo_is_consistent(visit: Visit) -> None:
    assert [found for found in visit.result.relations if found.verdict is not Verdict.CONSISTENT] == []
    assert [note for note in visit.result.not_checked if not note.by_design] == []
    assert visit.result.divergences == ()
    assert visit.result.verdict is Verdict.CONSISTENT


def test_every_relation_of_every_database_is_accounted_for(visit: Visit) -> None:
    assert unaccounted(visit.cluster, visit.result, (*DATABASES, "template1")) == set()


def test_no_relation_is_told_twice(visit: Visit) -> None:
    told = [(found.database, found.schema, found.name) for found in visit.result.relations]
    assert len(told) == len(set(told))


def test_an_audit_leaves_no_error_in_the_logs_of_the_nodes(visit: Visit) -> None:
    assert visit.logged == []


@pytest.mark.parametrize("title", zoo.EXHIBITS)
def test_the_rows_of_each_kind_are_compared(visit: Visit, title: str) -> None:
    exhibit = zoo.EXHIBITS[title]
    if exhibit.since > visit.major:
        pytest.skip(f"PostgreSQL {visit.major} has no {title}")
    for name, rows in exhibit.rows.items():
        found = relation_of(visit.result, name if "." in name else f"public.{name}", database=ZOO)
        assert rows in (found.rows, -1), name
        assert {replica.verdict for replica in found.replicas} == {Verdict.CONSISTENT}


def test_partitions_are_compared_leaf_by_leaf_and_counted_once(visit: Visit) -> None:
    leaves = [found for found in visit.result.relations if found.name.startswith("parts_")]
    assert sum(found.rows or 0 for found in leaves) == 100
    assert [found for found in visit.result.relations if found.name in ("parts", "parts_low", "parts_low_a")] == []


@pytest.mark.parametrize("name", zoo.HOSTILE_NAMES)
def test_hostile_names_of_schemas_tables_and_columns_are_only_names(visit: Visit, name: str) -> None:
    schema = name if name != "select" else "Select"
    [table] = [found for found in visit.result.relations if (found.schema, found.name) == (schema, name)]
    assert table.rows == int(name != zoo.HOSTILE_NAMES[0])
    assert table.verdict is Verdict.CONSISTENT
    [sequence] = [found for found in visit.result.relations if (found.schema, found.name) == (schema, f"{name[:20]}'s")]
    assert sequence.kind is RelationKind.SEQUENCE


@pytest.mark.parametrize("title", zoo.BY_DESIGN)
def test_what_is_not_compared_by_design_is_named_and_changes_no_outcome(visit: Visit, title: str) -> None:
    name, code = zoo.BY_DESIGN[title]
    [note] = notes_of(visit.result, name)
    assert (note.database, note.code, note.by_design, note.node) == (ZOO, code, True, None)
    assert note.reason


@pytest.mark.parametrize("title", zoo.SEQUENCES)
def test_sequences_of_every_kind_are_consistent(visit: Visit, title: str) -> None:
    make = zoo.SEQUENCES[title]
    name = "with_identity_id_seq" if "identity" in make else make.split()[2].rstrip(";")
    found = relation_of(visit.result, name, database=ZOO)
    assert (found.kind, found.verdict) == (RelationKind.SEQUENCE, Verdict.CONSISTENT)


def test_large_objects_are_compared(visit: Visit) -> None:
    pages = relation_of(visit.result, "pg_catalog.pg_largeobject", database=ZOO)
    owners = relation_of(visit.result, "pg_catalog.pg_largeobject_metadata", database=ZOO)
    assert (pages.kind, pages.rows) == (RelationKind.LARGE_OBJECTS, 15)
    assert (owners.kind, owners.rows) == (RelationKind.LARGE_OBJECTS, 4)


def test_system_catalogs_are_compared_in_each_database_and_shared_ones_once(visit: Visit) -> None:
    catalogs = [found for found in visit.result.relations if found.kind is RelationKind.CATALOG]
    of_class = [found.database for found in catalogs if found.name == "pg_class"]
    assert sorted(of_class) == sorted((*DATABASES, "template1"))
    assert len([found for found in catalogs if found.name == "pg_database"]) == 1
    assert {found.schema for found in catalogs} == {"pg_catalog", "information_schema"}


@pytest.mark.parametrize("database", ENCODINGS)
def test_databases_in_other_encodings_are_compared(visit: Visit, database: str) -> None:
    _, name = ENCODINGS[database]
    found = relation_of(visit.result, text(name), database=database)
    assert (found.rows, found.verdict) == (2, Verdict.CONSISTENT)
    assert relation_of(visit.result, text(name + b"'s"), database=database).kind is RelationKind.SEQUENCE


@pytest.mark.timeout(60)
@pytest.mark.parametrize("encoding", ["EUC_TW", "MULE_INTERNAL"])
def test_databases_whose_encoding_the_driver_does_not_know_are_compared(cluster: LabCluster, encoding: str) -> None:
    database = f"foreign_{encoding.lower()}"
    try:
        make_encoded(cluster, database, encoding, b"named")
        cluster.catch_up()
        with server_errors(cluster) as logged:
            result, _ = run_audit_of(cluster, databases=(database,), catalogs=False)
        assert (result.verdict, relation_of(result, "named").rows) == (Verdict.CONSISTENT, 2)
        assert logged == []
    finally:
        cluster.drop_database(database)


def test_a_database_whose_name_is_in_other_bytes_is_compared_or_named(made_zoo: LabCluster) -> None:
    with connect(f"{made_zoo.primary.dsn('zoo_latin1')} client_encoding=SQL_ASCII", node="primary") as connection:
        connection.execute(b'create database "caf\xe9" template zoo_latin1')
        try:
            made_zoo.catch_up()
            result, _ = run_audit_of(made_zoo, databases=(text(b"caf\xe9"), "template1"), catalogs=False)
        finally:
            connection.execute(b'drop database "caf\xe9"')
    if result.verdict is not Verdict.CONSISTENT:
        assert [note.database for note in result.not_checked if not note.by_design] == [text(b"caf\xe9")]
        assert result.verdict is Verdict.UNCHECKED


def test_template0_is_named_and_changes_no_outcome(visit: Visit) -> None:
    [note] = [note for note in visit.result.not_checked if note.database == "template0"]
    assert (note.relation, note.by_design) == (None, True)


@pytest.mark.parametrize("level", [Level.FAST, Level.STRONG])
def test_every_kind_can_be_compared_at_the_other_levels(visit: Visit, level: Level) -> None:
    with server_errors(visit.cluster) as logged:
        result, _ = run_audit_of(visit.cluster, databases=(ZOO,), catalogs=False, level=level)
    assert [found for found in result.relations if found.verdict is not Verdict.CONSISTENT] == []
    assert result.verdict is Verdict.CONSISTENT
    rows = {(found.schema, found.name): found.rows for found in result.relations}
    compared = [
        found for found in visit.result.relations if found.database == ZOO and (found.schema, found.name) in rows
    ]
    assert {(found.schema, found.name): found.rows for found in compared} == rows
    assert logged == []


def test_without_catalogs_everything_else_is_compared_large_objects_too(visit: Visit) -> None:
    result, _ = run_audit_of(visit.cluster, databases=("zoo_ascii",), catalogs=False)
    kinds = {found.kind for found in result.relations}
    assert kinds == {RelationKind.TABLE, RelationKind.SEQUENCE, RelationKind.LARGE_OBJECTS}


@pytest.fixture
def guarded(cluster: LabCluster, database: str) -> str:
    """A database whose relations can be compared only in part."""
    with connect(cluster.primary.dsn(database), node="primary") as connection:
        connection.execute(
            "create table open_to_all (v int); insert into open_to_all values (1);"
            " create table hidden (v int); insert into hidden values (1);"
            " alter table hidden enable row level security;"
            " create access method other type table handler heap_tableam_handler;"
            " create table other_store (v int) using other"
        )
    cluster.catch_up()
    return database


@newest_only
def test_row_level_security_that_hides_rows_is_unchecked_with_the_grant_that_helps(
    cluster: LabCluster, guarded: str
) -> None:
    with server_errors(cluster) as logged:
        result, _ = run_audit_of(cluster, databases=(guarded,), catalogs=False, excludes=("other_store",))
    [note] = notes_of(result, "hidden")
    assert (note.code, note.by_design) == ("row_security", False)
    assert note.hint == 'ALTER ROLE "replcheck_audit" BYPASSRLS;'
    assert relation_of(result, "open_to_all").verdict is Verdict.CONSISTENT
    assert (result.verdict, logged) == (Verdict.UNCHECKED, [])


@newest_only
def test_row_level_security_is_no_obstacle_for_a_role_that_bypasses_it(cluster: LabCluster, guarded: str) -> None:
    result, _ = run_audit_of(cluster, superuser=True, databases=(guarded,), catalogs=False, excludes=("other_store",))
    assert (result.verdict, relation_of(result, "hidden").rows) == (Verdict.CONSISTENT, 1)


@newest_only
def test_an_access_method_other_than_heap_is_unchecked(cluster: LabCluster, guarded: str) -> None:
    result, _ = run_audit_of(cluster, superuser=True, databases=(guarded,), catalogs=False)
    [note] = notes_of(result, "other_store")
    assert (note.code, note.by_design) == ("access_method", False)
    assert "other" in note.reason
    assert result.verdict is Verdict.UNCHECKED


@pytest.fixture
def poor_targets(cluster: LabCluster, database: str) -> Iterator[list[NodeTarget]]:
    """The nodes under a role that may read one table, one column of another, and monitor."""
    with connect(cluster.primary.dsn(database), node="primary") as connection:
        connection.execute("create role poor login in role pg_monitor")
        connection.execute(
            "create table granted (v int); create table half_granted (v int, w int); create table closed (v int);"
            " create schema private create table inside (v int); create sequence counted;"
            " grant select on granted, private.inside to poor; grant select (v) on half_granted to poor"
        )
    cluster.catch_up()
    yield [replace(target, dsn=cluster.node(target.name).dsn(user="poor")) for target in targets_of(cluster)]
    with connect(cluster.primary.dsn(database), node="primary") as connection:
        connection.execute("drop owned by poor; drop role poor")


@newest_only
def test_what_the_role_may_not_read_is_unchecked_with_the_grant_that_helps(
    cluster: LabCluster, database: str, poor_targets: list[NodeTarget]
) -> None:
    with server_errors(cluster) as logged:
        result, _ = run_audit_of(cluster, targets=poor_targets, databases=(database,), catalogs=False)
    assert relation_of(result, "granted").verdict is Verdict.CONSISTENT
    for name in ("half_granted", "closed", "inside", "counted", "pg_largeobject"):
        [note] = notes_of(result, name)
        assert (note.code, note.by_design, note.hint) == ("privilege", False, 'GRANT pg_read_all_data TO "poor";')
    assert unaccounted(cluster, result, [database]) <= catalogs_of(cluster, database)
    assert (result.verdict, logged) == (Verdict.UNCHECKED, [])


def catalogs_of(cluster: LabCluster, database: str) -> set[tuple[str, str, str]]:
    return {
        (database, schema, name)
        for schema, name in cluster.primary.execute(
            "select relnamespace::regnamespace::text, relname from pg_class where oid < 16384", dbname=database
        )
    }


@newest_only
def test_a_database_that_lets_the_role_not_in_is_unchecked_with_the_grant_that_helps(
    cluster: LabCluster, database: str
) -> None:
    cluster.primary.execute(f"revoke connect on database {database} from public")
    cluster.catch_up()
    result, _ = run_audit_of(cluster, databases=(database, "template1"), catalogs=False)
    [note] = [note for note in result.not_checked if note.database == database]
    assert (note.relation, note.by_design) == (None, False)
    assert note.hint == f'GRANT CONNECT ON DATABASE "{database}" TO "replcheck_audit";'
    assert result.verdict is Verdict.UNCHECKED


@newest_only
def test_a_database_that_lets_nobody_in_is_unchecked_unless_it_is_excluded(cluster: LabCluster, database: str) -> None:
    cluster.primary.execute(f"alter database {database} allow_connections false")
    cluster.catch_up()
    chosen = (database, "template1")
    result, _ = run_audit_of(cluster, databases=chosen, catalogs=False)
    [note] = [note for note in result.not_checked if note.database == database]
    assert (note.relation, note.by_design, result.verdict) == (None, False, Verdict.UNCHECKED)
    result, _ = run_audit_of(cluster, databases=chosen, catalogs=False, excludes=(f"{database}.*.*",))
    [note] = [note for note in result.not_checked if note.database == database]
    assert (note.relation, note.by_design, result.verdict) == (None, True, Verdict.CONSISTENT)


@pytest.fixture
def shop(cluster: LabCluster, database: str) -> str:
    """A database with a few tables to choose from."""
    with connect(cluster.primary.dsn(database), node="primary") as connection:
        connection.execute(
            "create schema shop create table article (v int) create table customer (v int);"
            " create schema archive create table article (v int); create table tmp_note (v int)"
        )
    cluster.catch_up()
    return database


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (("article",), {"shop.article", "archive.article"}),
        (("shop.*",), {"shop.article", "shop.customer"}),
        (("shop.article", "tmp_*"), {"shop.article", "public.tmp_note"}),
        (("*.archive.article",), {"archive.article"}),
        (("pg_catalog.pg_class",), {"pg_catalog.pg_class"}),
        (("?rticle",), {"shop.article", "archive.article"}),
    ],
)
@newest_only
def test_only_the_tables_asked_for_are_compared(
    cluster: LabCluster, shop: str, patterns: tuple[str, ...], chosen: set[str]
) -> None:
    result, _ = run_audit_of(cluster, databases=(shop,), tables=patterns)
    assert {f"{found.schema}.{found.name}" for found in result.relations} == chosen
    assert (result.verdict, result.scope.tables) == (Verdict.CONSISTENT, patterns)


@pytest.mark.parametrize(
    ("patterns", "excluded"),
    [
        (("article",), {"shop.article", "archive.article"}),
        (("tmp_*",), {"public.tmp_note"}),
        (("test_*",), set()),
        (("shop.*",), {"shop.article", "shop.customer"}),
        (("*.shop.article",), {"shop.article"}),
        (("elsewhere.shop.article",), set()),
    ],
)
@newest_only
def test_what_is_excluded_is_named_and_changes_no_outcome(
    cluster: LabCluster, shop: str, patterns: tuple[str, ...], excluded: set[str]
) -> None:
    result, _ = run_audit_of(cluster, databases=(shop,), excludes=patterns, catalogs=False)
    assert {(note.relation, note.code, note.by_design) for note in result.not_checked} == {
        (name, "excluded", True) for name in excluded
    }
    compared = {f"{found.schema}.{found.name}" for found in result.relations if found.schema != "pg_catalog"}
    assert compared == {"shop.article", "shop.customer", "archive.article", "public.tmp_note"} - excluded
    assert result.verdict is Verdict.CONSISTENT


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"databases": ("no_such_database",)}, "no_such_database"),
        ({"databases": ("template1", "no_such_*")}, "no_such_*"),
        ({"databases": ("template1",), "tables": ("no_such_table",)}, "no_such_table"),
        ({"databases": ("template1",), "tables": ("pg_catalog.pg_class", "no_such_table")}, "no_such_table"),
        ({"tables": ("no_such_database.public.visit",)}, "no_such_database.public.visit"),
    ],
)
@newest_only
def test_a_name_that_names_nothing_is_a_usage_error(cluster: LabCluster, options: dict, named: str) -> None:
    with pytest.raises(UsageError) as refused:
        run_audit_of(cluster, **options)
    assert named in refused.value.message
    assert refused.value.hint


@newest_only
def test_a_name_that_was_searched_nowhere_is_not_said_to_be_missing(cluster: LabCluster, shop: str) -> None:
    def refused(**options: Any) -> UsageError:
        with pytest.raises(UsageError) as caught:
            run_audit_of(cluster, **options)
        return caught.value

    shut_out = f"{shop}.*.*"
    told = refused(databases=(shop,), tables=("article",), excludes=(shut_out,))
    assert told.message == (
        f"nothing was searched for 'article': it could only be in database \"{shop}\" (excluded by the user)"
    )
    told = refused(databases=(shop, "template1"), tables=("article",), excludes=(shut_out,))
    assert told.message == "no relation matches 'article'"
    assert f'Not searched: database "{shop}" (excluded by the user).' in told.hint
    cluster.primary.execute(f"revoke connect on database {shop} from public")
    cluster.catch_up()
    told = refused(tables=(f"{shop}.shop.article",))
    assert f'database "{shop}" (the role may not connect to the database)' in told.message
    assert "template0" not in told.message


@newest_only
def test_names_are_searched_for_without_a_look_at_any_relation(
    cluster: LabCluster, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a database of many relations their sizes, columns and definitions take a while."""
    with proxied(cluster.primary) as proxy:
        targets = [
            replace(target, dsn=proxy.dsn(target.dsn)) if target.name == "primary" else target
            for target in targets_of(cluster)
        ]
        with pytest.raises(UsageError):
            run_audit_of(cluster, targets=targets, databases=(shop,), tables=("no_such_table",))
        assert any("pg_namespace" in statement for statement in proxy.statements)
        for looked_at in ("pg_relation_size", "pg_attribute", "has_table_privilege"):
            assert not any(looked_at in statement for statement in proxy.statements)


@pytest.mark.parametrize(
    "options",
    [
        {"databases": ("template0",)},
        {"databases": ("template1",), "excludes": ("*.*.*",)},
        {"databases": ("template1",), "excludes": ("*.*",)},
        {"databases": ("template1",), "tables": ("pg_catalog.pg_class",), "excludes": ("pg_catalog.pg_class",)},
    ],
)
@newest_only
def test_an_audit_that_compares_nothing_proves_nothing(cluster: LabCluster, options: dict) -> None:
    try:
        result, _ = run_audit_of(cluster, **options)
    except UsageError:
        return
    assert result.verdict is not Verdict.CONSISTENT


def test_no_code_of_a_types_owner_runs_under_the_audit(cluster: LabCluster, database: str) -> None:
    """A cast to text may be made by whoever owns the type, and would be called with the rights of the audit's role."""
    with connect(cluster.primary.dsn(database), node="primary") as connection:
        connection.execute(
            "create type trap as (grants aclitem, n int);"
            " create function spring(trap) returns text language plpgsql as"
            " $$ begin raise warning 'the trap was sprung by %', current_user; return 'always the same'; end $$;"
            " create cast (trap as text) with function spring(trap) as assignment;"
            " create domain trapped as trap;"
            " create table bait (a trap, b trapped, c trap[]);"
            " insert into bait values (row(null, 1), row(null, 1), array[row(null, 1)::trap])"
        )
    cluster.catch_up()
    with server_errors(cluster) as logged:
        for level in Level:
            result, _ = run_audit_of(cluster, databases=(database,), catalogs=False, level=level)
            assert relation_of(result, "bait").verdict is Verdict.CONSISTENT
    assert logged == []
