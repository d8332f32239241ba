"""Dumps of every format come back as they were; what is damaged in them is named, and nothing of their rows is told."""

import gzip
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replcheck.config.model import DumpBackup
from replcheck.drill.backups.dump import DumpSource
from replcheck.drill.backups.source import Restored
from replcheck.drill.layers.amcheck import AmcheckLayer
from replcheck.drill.layers.assertions import AssertionsLayer
from replcheck.drill.layers.completeness import CompletenessLayer
from replcheck.errors import BackupRefuted, DrillBlocked, DrillError
from replcheck.lab.cluster import LabCluster
from replcheck.model.drill import BackupKind, Blame, LayerState
from replcheck.postgres.assertions import parse_assertion
from replcheck.postgres.copies import read_copy_server
from replcheck.postgres.dump_databases import (
    PREFIX,
    create_database,
    drop_abandoned,
    drop_database,
    keep_database,
    mark_of,
    shape_of,
)
from replcheck.postgres.local import sql
from tests.drill.dumped import CANARY, FORMATS, SCHEMA, Dumped, drilled
from tests.drill.sealed_cluster import run_layer


@pytest.fixture(scope="module")
def dumped(cluster: LabCluster, backups_root: Path) -> Iterator[Dumped]:
    """A database of the shared cluster, dumped once for each format."""
    name = cluster.create_database("dumped")
    primary = cluster.primary
    primary.execute(SCHEMA, dbname=name)
    # New each time: a worker that takes over tests of another comes back to what it had left.
    folder = Path(tempfile.mkdtemp(prefix="dumps", dir=backups_root))
    folder.chmod(0o711)
    yield Dumped(server=primary, database=name, folder=folder)
    cluster.drop_database(name)


def in_time(value: str, quick: bool) -> object:
    """Return a parameter that every test run takes, or the long one alone."""
    return value if quick else pytest.param(value, marks=pytest.mark.long)


def assertions(**texts: str) -> AssertionsLayer:
    return AssertionsLayer(assertions=tuple(parse_assertion(name, text) for name, text in texts.items()))


@pytest.mark.parametrize(
    "kind",
    [kind if kind in ("directory", "plain.gz") else pytest.param(kind, marks=pytest.mark.long) for kind in FORMATS],
)
def test_a_sound_dump_comes_back_whole(dumped, scratch_root, kind):
    before = dumped.state(dumped.server.dsn(dumped.database))
    with drilled(dumped.dump(kind), scratch_root) as copy:
        assert copy.restored.problems == ()
        assert dumped.state(copy.restored.dsn) == before
        assert copy.restored.server is not None
        shown = {"listen_addresses", "archive_mode", "shared_preload_libraries", "max_logical_replication_workers"}
        rows = copy.restored.server.execute("select name, setting from pg_settings where name = any(%s)", [[*shown]])
        assert dict(rows) == {
            "listen_addresses": "",
            "archive_mode": "off",
            "shared_preload_libraries": "",
            "max_logical_replication_workers": "0",
        }


def test_the_layers_pass_on_a_sound_dump_and_leave_it_as_it_was(dumped, scratch_root):
    with drilled(dumped.dump("custom"), scratch_root) as copy:
        amcheck = copy.layer(AmcheckLayer())
        assert (amcheck.state, amcheck.problems) == (LayerState.PASSED, ())
        assert amcheck.relations is not None
        assert amcheck.relations > 100
        complete = copy.layer(CompletenessLayer())
        assert (complete.state, complete.reason) == (LayerState.PASSED, "")
        assert "1 large object" in complete.checked
        held = copy.layer(assertions(**{"dumped.many": "(select count(*) from patient) = 2000"}))
        assert held.state is LayerState.PASSED
        server = copy.restored.server
        assert server is not None
        assert server.execute("select from pg_extension where extname = 'amcheck'", dbname=dumped.database) == []


@pytest.mark.long
def test_assertions_fail_and_are_never_passed_where_they_cannot_be_asked(dumped, scratch_root):
    asked = {
        "false": f"exists (select from patient where name = '{CANARY}')",
        "null": "null::boolean",
        "other.database": "true",
        "volatile": "random() > 2",
        "own": "twice(2) = 4",
        "unknown": "exists (select from nowhere)",
        "sleeps": "pg_sleep(0) is null",
        "text": "'true'",
        "error": "(select name::int from patient limit 1) = 1",
    }
    with drilled(dumped.dump("plain"), scratch_root) as copy:
        report = copy.layer(assertions(**asked))
    assert report.state is LayerState.FAILED
    assert [problem.blame for problem in report.problems] == [Blame.BACKUP] + [Blame.ENVIRONMENT] * 8
    assert CANARY not in repr(report)
    assert "SQLSTATE 22P02" in report.problems[-1].what


Damage = Callable[[Path], None]


def cut(part: float, pattern: str = "") -> Damage:
    """Cut off a file, or the largest of a folder that matches a pattern."""

    def damage(path: Path) -> None:
        file = largest(path, pattern)
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * part)])

    return damage


def flip(part: float, pattern: str = "") -> Damage:
    def damage(path: Path) -> None:
        file = largest(path, pattern)
        content = bytearray(file.read_bytes())
        content[int(len(content) * part)] ^= 0xFF
        file.write_bytes(content)

    return damage


def cut_line(pattern: str = "") -> Damage:
    """Cut off a file at the end of a line: nothing but its end is missing."""

    def damage(path: Path) -> None:
        file = largest(path, pattern)
        content = file.read_bytes()
        file.write_bytes(content[: content.index(b"\n", len(content) // 2) + 1])

    return damage


def emptied(pattern: str = "") -> Damage:
    def damage(path: Path) -> None:
        largest(path, pattern).write_bytes(b"")

    return damage


def removed(pattern: str) -> Damage:
    return lambda path: largest(path, pattern).unlink()


def replaced(old: bytes, new: bytes) -> Damage:
    def damage(path: Path) -> None:
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new, 1))

    return damage


def largest(path: Path, pattern: str) -> Path:
    return max(path.glob(pattern), key=lambda file: file.stat().st_size) if pattern else path


REFUTED = [
    ("custom", cut(0), "dump_truncated"),
    pytest.param("custom", cut(0.0005), "dump_truncated", marks=pytest.mark.long),
    pytest.param("custom", cut(0.2), "dump_truncated", marks=pytest.mark.long),
    pytest.param("custom", cut(0.7), "dump_truncated", marks=pytest.mark.long),
    ("custom", flip(0), "dump_corrupt"),
    pytest.param("custom", flip(0.6), "dump_corrupt", marks=pytest.mark.long),
    pytest.param("directory", cut(0.5, "[0-9]*.dat.gz"), "dump_truncated", marks=pytest.mark.long),
    pytest.param("directory", cut(0.999, "[0-9]*.dat.gz"), "dump_truncated", marks=pytest.mark.long),
    pytest.param("directory", flip(0.5, "[0-9]*.dat.gz"), "dump_corrupt", marks=pytest.mark.long),
    ("directory", emptied("[0-9]*.dat.gz"), "dump_truncated"),
    pytest.param("directory", removed("[0-9]*.dat.gz"), "dump_file_missing", marks=pytest.mark.long),
    ("directory", removed("blob_*.dat.gz"), "dump_file_missing"),
    pytest.param("directory", cut(0.5, "blob_*.dat.gz"), "dump_truncated", marks=pytest.mark.long),
    pytest.param("directory", removed("toc.dat"), "dump_file_missing", marks=pytest.mark.long),
    pytest.param("directory", cut(0.5, "toc.dat"), "dump_truncated", marks=pytest.mark.long),
    ("uncompressed", cut_line("[0-9]*.dat"), "dump_truncated"),
    pytest.param("tar", cut(0.01), "dump_truncated", marks=pytest.mark.long),
    ("tar", cut(0.5), "dump_truncated"),
    ("plain", cut_line(), "dump_truncated"),
    pytest.param("plain", cut(0.999), "dump_truncated", marks=pytest.mark.long),
    pytest.param(
        "plain", replaced(b"COPY public.visit", b"\\! id\nCOPY public.visit"), "dump_corrupt", marks=pytest.mark.long
    ),
    ("plain", replaced(b"-- PostgreSQL database dump", b"-- something"), "dump_corrupt"),
    pytest.param("plain.gz", cut(0.5), "dump_truncated", marks=pytest.mark.long),
    pytest.param("plain.gz", cut(0.0005), "dump_truncated", marks=pytest.mark.long),
    pytest.param("plain.gz", flip(0.6), "dump_corrupt", marks=pytest.mark.long),
    pytest.param("inserts", cut_line(), "dump_truncated", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("kind", "damage", "code"), REFUTED)
def test_a_damaged_dump_is_refuted_with_what_is_wrong(dumped, scratch_root, kind, damage, code):
    path = dumped.copy(kind)
    damage(path)
    with pytest.raises(BackupRefuted) as refuted, drilled(path, scratch_root):
        pytest.fail("it was restored")
    assert refuted.value.code == code


WRONG = [
    (replaced(b"\t2000-01-01\t", b"\tAda Canary!\t"), "22007"),
    (replaced(b"\n500\t500\tsecond", b"\n499\t500\tsecond"), "23505"),
    (replaced(b"\n500\t500\tsecond", b"\n500\t9999\tsecond"), "23503"),
    (replaced(b"\tsecond\t", b"\tAda Canary\t"), "22P02"),
    (replaced(b"CREATE TABLE public.visit (", b"CREATE TABLE public.visit (id int,"), "42701"),
]


@pytest.mark.long
@pytest.mark.parametrize(("damage", "sqlstate"), WRONG)
def test_rows_that_do_not_come_back_refute_a_dump_by_name(dumped, scratch_root, damage, sqlstate):
    path = dumped.copy("plain")
    damage(path)
    with drilled(path, scratch_root) as copy:
        problems = copy.restored.problems
        assert {(problem.code, problem.blame) for problem in problems} == {("restore_error", Blame.BACKUP)}
        assert any(f"SQLSTATE {sqlstate}" in problem.what for problem in problems)
        assert re.search(r"public (visit|patient)", problems[0].what)


@pytest.mark.long
def test_rows_of_a_missing_table_are_never_taken_for_statements(dumped, scratch_root):
    path = dumped.copy("plain")
    replaced(b"CREATE TABLE public.visit (", b"CREATE TABLE public.visit (id int,")(path)
    with drilled(path, scratch_root) as copy:
        assert copy.restored.server is not None
        assert copy.restored.server.execute("select count(*) from patient", dbname="restored") == [(2000,)]


@pytest.mark.long
def test_an_archive_whose_rows_do_not_fit_is_refuted_without_a_row_of_it(dumped, scratch_root):
    path = dumped.copy("uncompressed")
    file = next(file for file in path.glob("[0-9]*.dat") if b"\t2000-01-01\t" in file.read_bytes())
    file.write_bytes(file.read_bytes().replace(b"\t2000-01-01\t", f"\t{CANARY}\t".encode(), 1))
    with drilled(path, scratch_root) as copy:
        [first, *_] = copy.restored.problems
        assert (first.code, first.blame) == ("restore_error", Blame.BACKUP)
        assert "TABLE DATA public patient" in first.what


@pytest.mark.long
def test_roles_that_are_missing_are_told_and_the_rows_come_back_all_the_same(dumped, scratch_root, backups_root):
    server = dumped.server
    server.execute('create role "Odd role"')
    server.execute("create role reader")
    server.execute('alter table patient owner to "Odd role"; grant select on visit to reader', dbname=dumped.database)
    try:
        path = dumped.dump("custom", "owned")
        globals_file = dumped.folder / "globals.sql"
        dumped.run("pg_dumpall", "--globals-only", "--file", str(globals_file), "--dbname", server.dsn())
    finally:
        server.execute("alter table patient owner to postgres; revoke all on visit from reader", dbname=dumped.database)
        server.execute('drop role "Odd role"')
        server.execute("drop role reader")
    with drilled(path, scratch_root) as copy:
        assert copy.codes() == [("role_missing", "environment")] * 2
        assert '"Odd role"' in copy.restored.problems[0].what
        assert copy.restored.server is not None
        assert copy.restored.server.execute("select count(*) from patient", dbname=dumped.database) == [(2000,)]
        assert copy.layer(CompletenessLayer()).state is LayerState.INCONCLUSIVE
    with drilled(path, scratch_root, run_id="run-2", globals=str(globals_file)) as copy:
        assert copy.codes() == []
        assert copy.layer(CompletenessLayer()).state is LayerState.PASSED
    globals_file.write_text(globals_file.read_text().replace("reader", "writer"))
    with drilled(path, scratch_root, run_id="run-3", globals=str(globals_file)) as copy:
        assert copy.codes() == [("role_missing", "backup")]


@pytest.mark.long
def test_an_extension_that_is_missing_is_told_before_anything_is_fetched(dumped, scratch_root):
    path = dumped.copy("custom")
    path.write_bytes(path.read_bytes().replace(b"hstore", b"hstorf"))
    with pytest.raises(DrillBlocked, match="hstorf") as blocked, drilled(path, scratch_root):
        pytest.fail("it was restored")
    assert blocked.value.code == "extension_missing"
    plain = dumped.copy("plain")
    replaced(b"CREATE EXTENSION IF NOT EXISTS hstore", b"CREATE EXTENSION IF NOT EXISTS hstorf")(plain)
    with drilled(plain, scratch_root) as copy:
        assert copy.codes()[0] == ("extension_missing", "environment")
        assert {blame for _, blame in copy.codes()} == {"environment"}


def test_a_dump_of_a_newer_version_names_the_programs_it_needs(dumped, scratch_root):
    path = dumped.copy("plain")
    path.write_bytes(re.sub(rb"by pg_dump version \d+", b"by pg_dump version 99", path.read_bytes()))
    with pytest.raises(DrillBlocked, match="99") as blocked, drilled(path, scratch_root):
        pytest.fail("it was restored")
    assert blocked.value.hint


@pytest.mark.long
def test_nothing_that_comes_with_a_dump_reaches_another_server(dumped, scratch_root):
    server, name = dumped.server, dumped.database
    server.execute("create extension postgres_fdw", dbname=name)
    try:
        server.execute(
            f"create server far foreign data wrapper postgres_fdw options (host '{server.socket_dir}', "
            f"port '{server.port}', dbname '{name}')",
            dbname=name,
        )
        server.execute("create user mapping for postgres server far options (user 'postgres')", dbname=name)
        server.execute(
            "create foreign table there (id int, note text) server far options (table_name 'visit')", dbname=name
        )
        server.execute("create materialized view seen as select count(*) as n from there", dbname=name)
        server.execute("create publication all_rows for all tables", dbname=name)
        server.execute(
            f"create subscription upstream connection '{server.dsn(name)}' publication all_rows with (connect = false)",
            dbname=name,
        )
        paths = [dumped.dump("custom", "reaching"), dumped.dump("plain", "reaching.sql")]
    finally:
        server.execute("alter subscription upstream set (slot_name = none)", dbname=name)
        server.execute("drop subscription upstream", dbname=name)
        server.execute("drop publication if exists all_rows", dbname=name)
        server.execute("drop extension postgres_fdw cascade", dbname=name)
    for number, path in enumerate(paths):
        with drilled(path, scratch_root, run_id=f"run-{number}") as copy:
            assert copy.codes() == [("foreign_unread", "environment")]
            assert copy.restored.server is not None
            database = copy.restored.databases[0] if copy.restored.databases else ""
            assert copy.restored.server.execute("select from pg_subscription", dbname=database) == []
            assert copy.layer(assertions(far="exists (select from there)")).state is LayerState.INCONCLUSIVE


def test_the_newest_of_several_is_first_and_what_is_none_is_not_passed_over(dumped, tmp_path):
    folder = tmp_path
    (folder / "notes.txt").write_text("nothing")
    (folder / "a.dump").write_bytes(dumped.dump("custom").read_bytes())
    (folder / "b.sql.gz").write_bytes(gzip.compress(dumped.dump("plain").read_bytes()))
    (folder / "z.dump").write_bytes(b"")
    source = DumpSource(name="n", section=DumpBackup(kind="dump", path=str(folder)))
    copies = source.copies()
    assert copies[0].label == "z.dump"
    assert {copy.label: copy.format for copy in copies} == {
        "a.dump": "custom",
        "b.sql.gz": "plain.gz",
        "z.dump": "unreadable",
    }
    assert {copy.major for copy in copies if copy.major} == {dumped.major}


@pytest.mark.long
@pytest.mark.parametrize("superuser", [True, False])
def test_a_dump_comes_back_on_a_server_of_the_users_and_goes_again(dumped, scratch_root, superuser):
    server = dumped.server
    server.execute(f"create role restorer login createdb {'superuser' if superuser else ''}")
    dsn = server.dsn("postgres", user="restorer")
    try:
        killed = re.sub(r"pid=\d+ started=\d+", "pid=1 started=1", mark_of("killed"))
        create_database(dsn, f"{PREFIX}killed", shape_of("", encoding="UTF8"), mark=killed)
        for number, kind in enumerate(("custom", "plain")):
            with drilled(dumped.dump(kind), scratch_root, run_id=f"run-{number}", scratch_dsn=dsn) as copy:
                name = f"{PREFIX}run{number}"
                assert copy.restored.databases == (name,)
                assert copy.restored.server is None
                assert name in copy.restored.where
                assert databases(server) == [name], "what a killed drill left is still there"
                if superuser:
                    assert copy.restored.problems == ()
                    assert dumped.state(copy.restored.dsn) == dumped.state(server.dsn(dumped.database))
                else:
                    assert all(blame == "environment" for _, blame in copy.codes())
                assert server.execute("select count(*) from patient", dbname=name) == [(2000,)]
            assert databases(server) == []
    finally:
        server.execute("drop role restorer")


def test_a_plain_dump_changes_no_database_of_the_users(dumped, scratch_root):
    server, name, role = dumped.server, dumped.database, "settler"
    server.execute(f"create role {role}")
    try:
        server.execute(f"alter role {role} in database {name} set work_mem to '1MB'")
        path = dumped.dump("created", "settled.sql")
        server.execute(f"alter role {role} in database {name} set work_mem to '2MB'")
        assert f"ALTER ROLE {role} IN DATABASE".encode() in path.read_bytes()
        with drilled(path, scratch_root, scratch_dsn=server.dsn()) as copy:
            assert copy.codes() == []
        settings = server.execute("select setconfig from pg_db_role_setting where setrole = %s::regrole", [role])
        assert settings == [(["work_mem=2MB"],)]
    finally:
        server.execute(f"alter role {role} in database {name} reset all")
        server.execute(f"drop role {role}")


def databases(server) -> list[str]:
    return [
        name for (name,) in server.execute("select datname from pg_database where starts_with(datname, %s)", [PREFIX])
    ]


def test_only_databases_that_bear_our_mark_are_created_and_dropped(dumped):
    server, dsn, shape = dumped.server, dumped.server.dsn(), shape_of("", encoding="UTF8")
    name = f"{PREFIX}own"
    server.execute(f"create database {name}")
    try:
        with pytest.raises(DrillBlocked, match="did not create"):
            create_database(dsn, name, shape, mark=mark_of("run"))
        with pytest.raises(DrillError, match="no mark"):
            drop_database(dsn, name, run_id="run")
        assert databases(server) == [name]
        killed = f"{PREFIX}killed"
        create_database(dsn, killed, shape, mark=re.sub(r"pid=\d+ started=\d+", "pid=1 started=1", mark_of("killed")))
        with pytest.raises(DrillError, match="not created by this drill"):
            drop_database(dsn, killed, run_id="another")
        running = f"{PREFIX}running"
        create_database(dsn, running, shape, mark=mark_of("running"))
        keep_database(dsn, killed, run_id="killed")
        server.execute(
            sql.SQL("comment on database {} is {}").format(
                sql.Identifier(killed),
                sql.Literal(re.sub(r"pid=\d+ started=\d+", "pid=1 started=1", f"{mark_of('killed')} kept")),
            )
        )
        assert drop_abandoned(dsn) == ()
        assert drop_abandoned(dsn, kept=True) == (killed,)
        assert databases(server) == [name, running]
        server.execute(f"drop database {name}")
        drop_database(dsn, running, run_id="running")
        drop_database(dsn, running, run_id="running")
        assert databases(server) == []
    finally:
        for left in databases(server):
            server.execute(f"drop database {left}")


@pytest.mark.long
def test_databases_that_let_nobody_in_are_told_and_templates_of_ones_own_looked_at(dumped):
    server = dumped.server
    server.execute("create database shut allow_connections false")
    server.execute("create database golden is_template true")
    try:
        found = read_copy_server(server.dsn())
        assert found.closed == ("shut",)
        assert {"golden", "postgres"} <= set(found.databases)
        assert not {"template0", "template1"} & {*found.databases, *found.closed}
        copy = Restored(
            kind=BackupKind.BASE, dsn=server.dsn(), server=server, programs=None, databases=None, recovery=None
        )
        report = run_layer(CompletenessLayer(), copy)
        assert "database_closed" in [problem.code for problem in report.problems]
        assert report.state is LayerState.INCONCLUSIVE
        amcheck = run_layer(AmcheckLayer(), copy)
        assert amcheck.state is LayerState.INCONCLUSIVE
        assert amcheck.reason == "database shut lets nobody in"
    finally:
        server.execute("alter database golden is_template false")
        server.execute("drop database golden")
        server.execute("drop database shut")


def test_what_a_copy_lost_beside_rows_is_found(dumped, scratch_root):
    builtin = dumped.server.programs.major >= 17
    versioned = "provider = builtin, locale = 'C.UTF-8'" if builtin else "provider = icu, locale = 'en'"
    with drilled(dumped.dump("custom"), scratch_root) as copy:
        assert copy.restored.server is not None
        for change in (
            "create function own(int) returns int language sql immutable return $1",
            "create index visit_own on visit (own(id))",
            "create or replace function own(int) returns int language sql immutable return -$1",
            "select setval('patient_id_seq', 7)",
            "refresh materialized view counted with no data",
            "update pg_index set indisvalid = false where indexrelid = 'visit_note'::regclass",
            "update pg_extension set extname = 'nonesuch' where extname = 'plpgsql'",
            f"create collation of_another_system ({versioned})",
            "update pg_collation set collversion = '0' where collname = 'of_another_system'",
        ):
            copy.restored.server.execute(change, dbname=dumped.database)
        found = copy.layer(CompletenessLayer())
        assert found.state is LayerState.INCONCLUSIVE
        doubts = {"sequence_behind", "view_unpopulated", "index_invalid", "extension_missing", "collation_mismatch"}
        assert {problem.code for problem in found.problems} == doubts
        for change in (
            "create role leaver",
            "grant select on visit to leaver",
            "delete from pg_authid where rolname = 'leaver'",
            "update pg_extension set extname = 'plpgsql' where extname = 'nonesuch'",
        ):
            copy.restored.server.execute(change, dbname=dumped.database)
        found = copy.layer(CompletenessLayer())
        assert found.state is LayerState.FAILED
        assert [problem.code for problem in found.problems if problem.blame is Blame.BACKUP] == ["role_missing"]
        checked = copy.layer(AmcheckLayer())
        assert checked.state is LayerState.FAILED
        [problem] = checked.problems
        assert problem.code == "index_damaged"
        assert "public.visit_own" in problem.what
        assert "does not know a row in block 0 of its table" in problem.what
