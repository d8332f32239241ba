"""A scratch server can reach nothing and overwrite nothing, and nothing of a drill outlives its removal."""

import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from replcheck.errors import BackupRefuted, DrillBlocked
from replcheck.postgres import processes
from replcheck.postgres.local import execute
from replcheck.postgres.server import LocalServer
from tests.drill.physicals import Place, base_source, contents, copied, own, rows_in, trial
from tests.staged import until

HOSTILE = """
listen_addresses = '*'
port = 1
archive_mode = on
archive_command = 'touch {folder}/archived'
primary_conninfo = 'host={sockets} port=5432 user=postgres'
primary_slot_name = 'upstream'
shared_preload_libraries = 'auto_explain'
session_preload_libraries = 'auto_explain'
max_logical_replication_workers = 10
restore_command = 'touch {folder}/fetched; false'
archive_cleanup_command = 'touch {folder}/cleaned'
recovery_end_command = 'touch {folder}/ended'
"""


def shown(server: LocalServer, name: str) -> str:
    [(value,)] = server.execute("select current_setting(%s)", [name])
    return str(value)


def listening_sockets(pid: int) -> set[str]:
    """Return the inodes of TCP sockets that a process holds and listens on."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        inodes |= {line.split()[9] for line in lines if line.split()[3] == "0A"}
    held = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    return {inode for inode in inodes if f"socket:[{inode}]" in held}


@pytest.mark.parametrize("target", ["latest", "half"])
def test_a_scratch_server_reaches_nothing(place: Place, scratch_root: Path, target: str):
    backup = copied(place.folder / "plain", place.folder / f"hostile_{target}")
    text = HOSTILE.format(folder=place.folder, sockets=place.primary.socket_dir)
    for name in ("postgresql.auto.conf", "postgresql.conf"):
        (backup / name).write_text(text)
        shutil.chown(backup / name, place.primary.data_dir.owner(), place.primary.data_dir.group())
    (backup / "standby.signal").touch()
    with trial(base_source(backup, place.wal), scratch_root) as made:
        server = made.run(target).server
        assert server is not None
        pid = server.pid
        assert pid is not None
        assert listening_sockets(pid) == set()
        expected = {
            "listen_addresses": "",
            "archive_mode": "off",
            "primary_conninfo": "",
            "shared_preload_libraries": "",
            "session_preload_libraries": "",
            "max_logical_replication_workers": "0",
            "archive_cleanup_command": "",
            "recovery_end_command": "",
        }
        assert {name: shown(server, name) for name in expected} == expected
        assert server.execute("select count(*) from pg_stat_wal_receiver") == [(0,)]
        assert not {"archived", "fetched", "cleaned", "ended"} & {path.name for path in place.folder.iterdir()}
        assert made.scratch is not None
        for folder in (made.scratch.directory, server.directory, server.data_dir, server.socket_dir):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        if os.geteuid() == 0:
            assert server.data_dir.stat().st_uid != 0
        socket = server.socket_dir / f".s.PGSQL.{server.port}"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    assert processes.processes_in(made.scratch.data_dir) == []


@pytest.mark.long
def test_a_subscription_does_not_start_and_settings_of_databases_load_nothing(place: Place, scratch_root: Path):
    primary = place.primary
    primary.execute("create database subscribing")
    try:
        primary.execute(
            "create subscription s connection 'host=/nowhere dbname=x' publication p with (connect = false)",
            dbname="subscribing",
        )
        primary.execute("alter subscription s enable", dbname="subscribing")
        primary.execute("alter database postgres set session_preload_libraries = 'no_such_library'")
        backup = place.base("subscribed")
    finally:
        primary.execute("alter database postgres reset session_preload_libraries", dbname="template1")
        primary.execute("alter subscription s disable", dbname="subscribing")
        primary.execute("alter subscription s set (slot_name = none)", dbname="subscribing")
        primary.execute("drop subscription s", dbname="subscribing")
        primary.execute("drop database subscribing")
    place.restore_point("subscribed_end")
    with trial(base_source(backup, place.wal), scratch_root) as made:
        server = made.run().server
        assert server is not None
        workers = "select count(*) from pg_stat_activity where backend_type like 'logical replication%'"
        assert server.execute(workers) == [(0,)]


def test_settings_of_roles_and_databases_that_came_with_a_backup_decide_nothing(lone_place: Place, scratch_root: Path):
    lone_place.write(rows=10)
    primary = lone_place.primary
    primary.execute("create role nobody")
    for setting in (
        "datestyle = 'German'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "idle_session_timeout = '1ms'",
        "role = nobody",
        "search_path = nowhere",
        "statement_timeout = '1ms'",
    ):
        for whose in ("role all", "role postgres", "database postgres"):
            if not (setting.startswith("role") and whose == "role all"):
                execute(f"{primary.dsn()} options='{_UNDECIDED}'", f"alter {whose} set {setting}", node="primary")
    backup = lone_place.folder / "decided"
    dsn = f"{primary.dsn()} options='{_UNDECIDED}'"
    lone_place.run("pg_basebackup", "--pgdata", str(backup), "--dbname", dsn, "--checkpoint", "fast", "-X", "fetch")
    execute(dsn, "select pg_create_restore_point('decided')", node="primary")
    [(last,)] = execute(dsn, "select pg_walfile_name(pg_switch_wal())", node="primary")
    until((lone_place.wal / last).is_file, "the WAL is archived")
    for target in ("latest", "decided"):
        with trial(base_source(backup, lone_place.wal), scratch_root) as made:
            restored = made.run(target)
            assert restored.server is not None
            asked = "select count(*), left(current_setting('datestyle'), 3) from public.visit"
            assert restored.server.execute(asked) == [(10, "ISO")]


_UNDECIDED = (
    "-c statement_timeout=0 -c role=none -c default_transaction_read_only=off -c idle_session_timeout=0"
    " -c datestyle=ISO"
)
"""What undoes the settings for a session of the test's own."""


@pytest.mark.long
def test_tablespaces_come_back_inside_the_scratch_directory(lone_place: Place, scratch_root: Path):
    original = lone_place.folder / "space"
    original.mkdir(mode=0o700)
    own(original)
    lone_place.primary.execute(f"create tablespace space location '{original}'")
    try:
        lone_place.primary.execute("create table spaced tablespace space as select generate_series(1, 100) id")
        tar = lone_place.base("spaced_tar", plain=False, wal="stream")
        plain = lone_place.base(
            "spaced", "--tablespace-mapping", f"{original}={lone_place.folder / 'space_copy'}", wal="stream"
        )
        lone_place.primary.execute("insert into spaced select generate_series(1, 100)")
        lone_place.primary.execute("checkpoint")
        before = contents(original)
        for backup in (tar, plain):
            with trial(base_source(backup), scratch_root) as made:
                server = made.run().server
                assert server is not None
                assert rows_in(made.restored, "spaced") == 100  # type: ignore[arg-type]
                server.execute("update spaced set id = id + 1")
                server.execute("checkpoint")
                for link in (server.data_dir / "pg_tblspc").iterdir():
                    assert link.resolve().is_relative_to(scratch_root.resolve())
            assert contents(original) == before
        hand_made = copied(plain, lone_place.folder / "by_hand")
        for link in (hand_made / "pg_tblspc").iterdir():
            link.unlink()
            link.symlink_to(original)
        (hand_made / "backup_manifest").unlink()
        with trial(base_source(hand_made), scratch_root) as made, pytest.raises(DrillBlocked) as raised:
            made.run()
        assert raised.value.code == "tablespace_outside"
        shutil.rmtree(lone_place.folder / "space_copy")
        with trial(base_source(plain), scratch_root) as made, pytest.raises(BackupRefuted) as refuted:
            made.run()
        assert refuted.value.code == "tablespace_missing"
        assert contents(original) == before
    finally:
        lone_place.primary.execute("drop table if exists spaced")
        lone_place.primary.execute("drop tablespace space")


@pytest.mark.long
def test_wal_that_creates_a_tablespace_is_never_replayed(lone_place: Place, scratch_root: Path):
    backup = lone_place.base("before_space")
    original = lone_place.folder / "late_space"
    original.mkdir(mode=0o700)
    own(original)
    lone_place.primary.execute(f"create tablespace late location '{original}'")
    try:
        lone_place.primary.execute("create table spaced tablespace late as select generate_series(1, 100) id")
        lone_place.archive()
        before = contents(original)
        with trial(base_source(backup, lone_place.wal), scratch_root) as made, pytest.raises(DrillBlocked) as raised:
            made.run()
        assert raised.value.code == "tablespace_in_wal"
        assert str(original) in raised.value.message
        assert re.search(r"creates tablespace \d+ at 0/[0-9A-F]+", raised.value.message)
        assert contents(original) == before
    finally:
        lone_place.primary.execute("drop table if exists spaced")
        lone_place.primary.execute("drop tablespace late")


@pytest.mark.long
def test_a_cluster_without_a_role_postgres_can_be_asked(lone_place: Place, scratch_root: Path):
    lone_place.write()
    lone_place.primary.execute("create role another superuser login")
    dsn = lone_place.primary.dsn(user="another")
    try:
        execute(dsn, "alter role postgres rename to owner_of_all", node="primary")
        backup = lone_place.folder / "renamed"
        lone_place.run(
            "pg_basebackup", "--pgdata", str(backup), "--dbname", dsn, "--checkpoint", "fast", "-X", "stream"
        )
    finally:
        execute(dsn, "alter role owner_of_all rename to postgres", node="primary")
        lone_place.primary.execute("drop role another")
    with trial(base_source(backup), scratch_root) as made:
        assert rows_in(made.run()) == lone_place.rows()
