"""Sound backups of clusters that have one of everything unusual are never accused of anything."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from replcheck.errors import StatementFailed
from replcheck.lab.cluster import LabCluster
from replcheck.postgres.local import connect
from replcheck.postgres.programs import run_program
from replcheck.postgres.server import LocalServer
from tests.commands import run_command
from tests.drill.damaging import Bench
from tests.drill.physicals import Place, archiving_place, own
from tests.drill.test_snapshots import at_one_moment
from tests.staged import until

pytestmark = pytest.mark.long
UNDECIDED = " ".join(
    f"-c {setting}"
    for setting in ("statement_timeout=0", "default_transaction_read_only=off", "client_encoding=UTF8", "datestyle=ISO")
)
STATEMENTS = r"""
create schema "hostile %s {0} 'n"
create table "hostile %s {0} 'n"."ta""b\le; drop--" ("co l%" int primary key, "select" text)
insert into "hostile %s {0} 'n"."ta""b\le; drop--" select g, repeat('x', g) from generate_series(1, 300) g
create role "O'Bri""en; drop"
create database "we""ird 'db"
create database closed allow_connections false
create table parted (id int, at date) partition by range (at)
create table parted_a partition of parted for values from ('2000-01-01') to ('2010-01-01') partition by hash (id)
create table parted_a0 partition of parted_a for values with (modulus 2, remainder 0)
create table parted_a1 partition of parted_a for values with (modulus 2, remainder 1)
create table parted_rest partition of parted default
insert into parted select g, date '2000-01-01' + g * 30 from generate_series(1, 400) g
create unlogged table forgotten (id int generated always as identity primary key)
insert into forgotten select from generate_series(1, 100)
select lo_from_bytea(4711, decode(repeat('00ff', 30000), 'hex'))
create table toasted (id int, v text)
alter table toasted alter v set storage external
insert into toasted select g, repeat(md5(g::text), 5000) from generate_series(1, 20) g
alter table toasted drop column id
create table nothing ()
insert into nothing default values
create materialized view filled as select count(*) from parted
create materialized view unfilled as select 1 as a with no data
create table doubled (a int)
insert into doubled values (1), (1)
create publication everything for all tables
select pg_create_physical_replication_slot('physical', true)
select pg_create_logical_replication_slot('logical', 'pgoutput')
create sequence descending increment -3 minvalue -1000 start -5
select nextval('descending')
create sequence cycling maxvalue 3 cycle
select nextval('cycling')
create function refuse() returns event_trigger language plpgsql as $$ begin raise 'no' using errcode = '42501'; end $$
create event trigger refuse on ddl_command_start execute function refuse()
alter system set shared_preload_libraries = 'no_such_library'
alter system set huge_pages = 'on'
alter role replcheck_audit bypassrls
alter role all set search_path = 'nowhere'
alter role all set statement_timeout = '20s'
alter role all set default_transaction_isolation = 'serializable'
alter role all set datestyle = 'German'
alter role all set client_encoding = 'LATIN1'
alter role all set bytea_output = 'escape'
alter role all set enable_seqscan = off
alter database postgres set default_transaction_read_only = on
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """Backups of such a cluster, each with the words that name it, and a seal of later."""

    place: Place
    home: Path
    """Knows the seal."""
    backups: dict[str, str]


@pytest.fixture(scope="module")
def odd(clusters_root: Path, backups_root: Path, major: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odd]:
    folder = backups_root / f"odd{major}"
    folder.mkdir(mode=0o711)
    clusters = []

    def make(**options: object) -> LabCluster:
        clusters.append(LabCluster.create(clusters_root, name=f"odd{major}", **options))  # type: ignore[arg-type]
        return clusters[-1]

    settings = {"wal_level": "logical", "max_prepared_transactions": "5", "autovacuum": "off"}
    try:
        with archiving_place(make, folder, major=major, checksums=False, settings=settings) as place:
            _fill(place)
            home = tmp_path_factory.mktemp("sealing")
            backups = _backups(place)
            sealed = run_command("seal", "--primary", place.cluster.audit_dsn("primary"), home=home)
            assert sealed.status == 1, sealed
            assert "database closed: the database lets nobody in" in sealed.out
            primary = replace(place.primary, options=UNDECIDED)
            primary.execute("insert into public.spaced select generate_series(1000, 1100)")
            [(last,)] = primary.execute("select pg_walfile_name(pg_switch_wal())")
            until((place.wal / last).is_file, "the WAL is archived")
            yield Odd(place=place, home=home, backups=backups)
    finally:
        for cluster in clusters:
            cluster.destroy()


def _fill(place: Place) -> None:
    """Make one of everything, with WAL files of a size that is not the usual one."""
    primary, space = place.primary, place.folder / "space"
    primary.stop()
    words = ["--wal-segsize=1", "--pgdata", str(primary.data_dir)]
    run_program(primary.programs, "pg_resetwal", words, account=primary.account)
    primary.start()
    space.mkdir(mode=0o700)
    own(space)
    primary = replace(primary, options=UNDECIDED)
    primary.execute("grant execute on function pg_create_restore_point(text) to replcheck_audit")
    primary.execute(f"create tablespace space location '{space}'")
    primary.execute("create table spaced (id int primary key) tablespace space")
    primary.execute("insert into spaced select generate_series(1, 100)")
    primary.execute("create database elsewhere tablespace space")
    if primary.programs.major == 15:
        # The system's build has ICU.
        primary.execute("create collation icu (provider = icu, locale = 'de-u-ks-level2', deterministic = false)")
        primary.execute("create table sorted as select md5(g::text) collate icu as t from generate_series(1, 100) g")
        primary.execute("create index on sorted (t)")
    for statement in STATEMENTS.strip().splitlines():
        primary.execute(statement)
        if "doubled values" in statement:
            with suppress(StatementFailed):
                primary.execute("create unique index concurrently broken on doubled (a)")
    # Last, for a logical slot is made only once all that was begun before it has ended.
    with connect(primary.dsn(), node="primary", autocommit=False) as connection:
        connection.execute("insert into public.spaced values (-1)")
        connection.execute("prepare transaction 'left'")
    primary.write_data_file("postgresql.conf", "include 'nowhere.conf'\nhba_file = '/nonexistent/hba'\nno setting\n")
    primary.execute("checkpoint")


def _backups(place: Place) -> dict[str, str]:
    """Take backups of every form, and return how each is named on the command line."""
    primary, folder, space = replace(place.primary, options=UNDECIDED), place.folder, place.folder / "space"
    forms: dict[str, tuple[str, ...]] = {
        "none": ("--wal-method=none", f"--tablespace-mapping={space}={folder}/none_space"),
        "fetch": ("--wal-method=fetch", f"--tablespace-mapping={space}={folder}/fetch_space"),
        "stream": ("--wal-method=stream", "--slot=physical", "--format=tar", "--gzip"),
    }
    if primary.programs.major == 15:
        # The system's build has all compressions.
        forms |= {
            form: ("--format=tar", "--wal-method=fetch", f"--compress={form}")
            for form in ("server-zstd", "client-zstd:level=3", "server-lz4", "client-lz4")
        }
    for name, words in forms.items():
        _take(primary, folder / name, *words)
    snapshot = folder / "snapshot"
    with at_one_moment(primary):
        shutil.copytree(primary.data_dir, snapshot, symlinks=True)
    [link] = (snapshot / "pg_tblspc").iterdir()
    link.unlink()
    shutil.copytree(space, link)
    return {name: f"base:{folder / name}" for name in forms} | {"snapshot": f"snapshot:{snapshot}"}


def _take(server: LocalServer, folder: Path, *words: str) -> None:
    arguments = ["--pgdata", str(folder), "--dbname", server.dsn(), "--checkpoint=fast", "--no-sync", *words]
    run_program(server.programs, "pg_basebackup", arguments, account=server.account, timeout_s=120)


@pytest.mark.parametrize("target", ["seal:latest", "latest"])
def test_a_cluster_with_one_of_everything_is_accused_of_nothing(
    odd: Odd,
    scratch_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    target: str,
):
    bench = Bench(home=tmp_path, scratch=scratch_root, monkeypatch=monkeypatch, capfd=capfd)
    bench.know(odd.home)
    for name, source in odd.backups.items():
        layers = ["checksums", "amcheck", "completeness"]
        layers += ["seal"] if target != "latest" else []
        layers += ["manifest"] if source.startswith("base:") else []
        drilled = bench.drill("--from", source, "--wal", str(odd.place.wal), target=target, layers=layers)
        assert drilled.status == 1, (name, drilled.problems)
        assert {code for code in drilled.problems if code != "layer_not_run"} == set(), name
        states = {layer["name"]: layer["state"] for layer in drilled.document["layers"]}
        assert "failed" not in states.values(), (name, drilled.document["layers"])
        assert drilled.layer("page checksums")["reason"] == "data checksums are off in this cluster"
        if target != "latest":
            rows = drilled.layer("rows against a seal")
            assert rows["reason"] == "database closed is not sealed: the database lets nobody in"
            assert rows["rows"] > 50_000


def test_a_backup_that_was_taken_from_a_standby_is_proven(
    clusters_root: Path,
    scratch_root: Path,
    backups_root: Path,
    major: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    wal = backups_root / f"wal_of_standby{major}"
    wal.mkdir(mode=0o700)
    own(wal)
    settings = {"archive_mode": "on", "archive_command": f"cp %p '{wal}/.%f' && mv '{wal}/.%f' '{wal}/%f'"}
    with LabCluster.create(
        clusters_root, name=f"from_standby{major}", major=major, standbys=1, settings=settings
    ) as cluster:
        primary, backup = cluster.primary, wal / "backup"
        primary.execute("create table visit as select g as id from generate_series(1, 1000) g")
        primary.execute("grant execute on function pg_create_restore_point(text) to replcheck_audit")
        primary.execute("checkpoint")
        cluster.wait_streaming()
        _take(cluster.standbys[0], backup, "--wal-method=stream")
        sealed = run_command("seal", "--primary", cluster.audit_dsn("primary"), home=tmp_path)
        assert sealed.status == 0, sealed
        [(last,)] = primary.execute("select pg_walfile_name(pg_switch_wal())")
        until((wal / last).is_file, "the WAL is archived")
        bench = Bench(home=tmp_path, scratch=scratch_root, monkeypatch=monkeypatch, capfd=capfd)
        drilled = bench.drill("--from", f"base:{backup}", "--wal", str(wal), target="seal:latest")
        assert (drilled.status, drilled.verdict, drilled.problems) == (0, "restored", {}), drilled.problems
