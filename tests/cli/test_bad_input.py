"""Whatever is wrong, the command says so in one line, ends with the right status and leaves nothing on any node."""

import json
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import jsonschema
import pytest

from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.lab.faults import apply_fault
from replcheck.postgres.local import connect, sql
from replcheck.report.document import audit_schema
from tests.commands import (
    Ended,
    assert_nothing_left,
    assert_one_line,
    finished,
    interrupt,
    left_behind,
    run_command,
    run_here,
    started,
    wait_for,
)
from tests.proxies import proxied

_SLOW_TYPE = """
create type slow;
create function slow_in(cstring) returns slow language internal immutable strict as 'textin';
create function slow_out(slow) returns cstring language internal immutable strict as 'textout';
create type slow (input = slow_in, output = slow_out, like = text);
create function slow_send(slow) returns bytea language plpgsql as
$$ begin perform pg_catalog.pg_sleep(0.05); return ''::bytea; end $$;
update pg_type set typsend = 'slow_send(slow)'::regprocedure where oid = 'slow'::regtype;
create table crawling as select 'x'::slow as value from generate_series(1, 160)
"""
"""A table of which every row takes a twentieth of a second to send: long enough to be interrupted."""
_TABLES = """
create table healthy as select i, md5(i::text) as content from generate_series(1, 2000) i;
create table broken as select i, md5(i::text) as content from generate_series(1, 4000) i;
vacuum (freeze, analyze)
"""


@pytest.fixture(scope="module")
def house(clusters_root: Path, newest_major: int) -> Iterator[LabCluster]:
    """A primary and two standbys; standby2 has lost a row of the table `broken`."""
    with LabCluster.create(clusters_root, name=f"house_{os.getpid()}", major=newest_major) as cluster:
        for statement in _TABLES.split(";\n"):
            cluster.primary.execute(statement)
        cluster.create_database("slow")
        for statement in _SLOW_TYPE.split(";\n"):
            cluster.primary.execute(statement, dbname="slow")
        cluster.catch_up()
        apply_fault(cluster, "lose-row", node="standby2", relation="broken")
        cluster.catch_up()
        yield cluster


@pytest.fixture(scope="module")
def stranger(clusters_root: Path, newest_major: int) -> Iterator[LabCluster]:
    """Another cluster, with few connections."""
    settings = {"max_connections": "12"}
    name = f"stranger_{os.getpid()}"
    with LabCluster.create(clusters_root, name=name, major=newest_major, standbys=1, settings=settings) as cluster:
        yield cluster


def nodes(cluster: LabCluster, *names: str, dbname: str = "postgres") -> list[str]:
    """Return --primary and --replica for the nodes named, in this order."""
    first, *others = [cluster.audit_dsn(name, dbname) for name in names or ("primary", "standby1", "standby2")]
    return ["--primary", first, *(word for dsn in others for word in ("--replica", dsn))]


def audit(cluster: LabCluster, *more: str, home: Path, **variables: str) -> Ended:
    """Audit the whole cluster."""
    return run_command("audit", *nodes(cluster), *more, home=home, **variables)


HEALTHY = ("--database", "postgres", "--table", "healthy")
BROKEN = ("--database", "postgres", "--table", "broken")
ROLE = f"user={AUDIT_ROLE}"


# Nodes that cannot be used


@pytest.mark.parametrize(
    ("address", "cause"),
    [("host=/nonexistent", "no such socket"), ("host=127.0.0.1 port=1", "connection refused")],
)
def test_an_unreachable_node_is_named_with_its_address(
    house: LabCluster, tmp_path: Path, address: str, cause: str
) -> None:
    ended = run_command("audit", *nodes(house, "primary", "standby1"), "--replica", address, home=tmp_path)
    told = assert_one_line(ended)
    assert 'node "replica2" does not answer at' in told
    assert cause in told
    assert "The others can be audited without it" in told
    assert_nothing_left(house)


def test_a_wrong_password_is_refused(house: LabCluster, tmp_path: Path) -> None:
    wrong = f"{house.nodes['standby1'].address} {ROLE} dbname=postgres password=wrong"
    told = assert_one_line(run_command("audit", *nodes(house, "primary"), "--replica", wrong, home=tmp_path))
    assert "refuses the role or its password" in told
    assert "password file" in told
    assert "wrong" not in told
    assert_nothing_left(house)


def test_a_standby_of_another_cluster_is_no_replica(house: LabCluster, stranger: LabCluster, tmp_path: Path) -> None:
    ended = run_command(
        "audit", *nodes(house, "primary", "standby1"), "--replica", stranger.audit_dsn("standby1"), home=tmp_path
    )
    told = assert_one_line(ended)
    assert 'node "replica2" is no physical replica of node "primary"' in told
    assert "system identifier" in told
    assert_nothing_left(house)
    assert_nothing_left(stranger)


def test_a_primary_given_as_a_replica_is_refused(house: LabCluster, stranger: LabCluster, tmp_path: Path) -> None:
    ended = run_command(
        "audit", *nodes(house, "primary", "standby1"), "--replica", stranger.audit_dsn("primary"), home=tmp_path
    )
    assert 'node "replica2" was given as a replica, but it is a primary' in assert_one_line(ended)


def test_a_standby_given_as_the_primary_is_refused(house: LabCluster, tmp_path: Path) -> None:
    ended = run_command("audit", *nodes(house, "standby1", "standby2"), home=tmp_path)
    assert 'node "primary" was given as the primary, but it is a standby' in assert_one_line(ended)


@pytest.mark.parametrize("names", [("primary", "standby1", "standby1"), ("primary", "primary")])
def test_a_node_given_twice_is_no_copy_of_itself(house: LabCluster, tmp_path: Path, names: tuple[str, ...]) -> None:
    told = assert_one_line(run_command("audit", *nodes(house, *names), home=tmp_path))
    assert "are one and the same server" in told
    assert_nothing_left(house)


def test_nodes_without_a_primary_are_refused(house: LabCluster, tmp_path: Path) -> None:
    lines = ['cluster = "clinic"', "[nodes]"]
    lines += [f"{name} = {{ dsn = {json.dumps(house.audit_dsn(name))} }}" for name in ("standby1", "standby2")]
    (tmp_path / "replcheck.toml").write_text("\n".join(lines))
    assert "none of the nodes is a primary" in assert_one_line(run_command("audit", home=tmp_path))


def test_a_pooler_is_refused(house: LabCluster, tmp_path: Path) -> None:
    with proxied(house.nodes["standby1"], pooler=True) as proxy:
        ended = run_command(
            "audit", *nodes(house, "primary"), "--replica", proxy.dsn(house.audit_dsn("standby1")), home=tmp_path
        )
    assert 'node "replica1" is reached through a connection pooler' in assert_one_line(ended)
    assert_nothing_left(house)


@contextmanager
def pretended_server(version: str) -> Iterator[str]:
    """Serve just enough of the protocol to let clients in, under a version of our choice; yield the address."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!I", len(body) + 4) + body

    parameters = {"server_version": version, "server_encoding": "UTF8", "client_encoding": "UTF8"}
    hello = message(b"R", struct.pack("!I", 0))
    hello += b"".join(message(b"S", f"{name}\0{value}\0".encode()) for name, value in parameters.items())
    hello += message(b"K", struct.pack("!II", 4711, 42)) + message(b"Z", b"I")

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    client.recv(10_000)
                    client.sendall(hello)
                    client.recv(10_000)

    with TemporaryDirectory(prefix="rc-old-") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/.s.PGSQL.5432")
        listener.listen()
        Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"host={folder} port=5432 user=x dbname=x"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("version", ["13.22", "9.6.24"])
def test_an_old_server_is_refused(house: LabCluster, tmp_path: Path, version: str) -> None:
    with pretended_server(version) as address:
        told = assert_one_line(run_command("audit", *nodes(house, "primary"), "--replica", address, home=tmp_path))
    assert f'node "replica1" runs PostgreSQL {version.partition(".")[0]}, which is too old' in told
    assert "PostgreSQL 14 or newer is needed" in told
    assert_nothing_left(house)


# Connections and privileges


def test_a_role_with_too_few_connections_is_refused(house: LabCluster, tmp_path: Path) -> None:
    role = sql.Identifier(AUDIT_ROLE)
    house.primary.execute(sql.SQL("alter role {} connection limit 4").format(role))
    try:
        house.catch_up()
        told = assert_one_line(audit(house, "--jobs", "5", home=tmp_path))
        assert "free connections, the audit needs 5 more" in told
        assert "Lower --jobs" in told
        ended = audit(house, "--jobs", "2", *HEALTHY, home=tmp_path)
        assert ended.status == 0, ended
    finally:
        house.primary.execute(sql.SQL("alter role {} connection limit -1").format(role))
        house.catch_up()
    assert_nothing_left(house)


@pytest.mark.parametrize(("spared", "message"), [(0, "has no free connection"), (2, "free connections, the audit")])
def test_a_server_with_too_few_connections_is_refused(
    stranger: LabCluster, tmp_path: Path, spared: int, message: str
) -> None:
    with ExitStack() as held:
        # 12 connections, of which 3 are kept for superusers, and each role of ours is one.
        for _ in range(9 - spared):
            held.enter_context(connect(stranger.primary.dsn(), node="primary"))
        wait_for(lambda: busy_connections(stranger) >= 9 - spared)
        ended = run_command("audit", *nodes(stranger, "primary", "standby1"), "--jobs", "4", home=tmp_path)
        assert message in assert_one_line(ended)
    assert_nothing_left(stranger)


def busy_connections(cluster: LabCluster) -> int:
    [(count,)] = cluster.primary.execute(
        "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
    )
    return int(count)


def test_a_missing_privilege_is_told_with_the_sql_that_grants_it(house: LabCluster, tmp_path: Path) -> None:
    house.primary.execute("create role curious login password 'x'")
    try:
        house.primary.execute("create database closed")
        house.primary.execute("revoke connect on database closed from public")
        house.catch_up()
        words = "user=curious password=x"
        access = [f"{house.nodes[name].address} dbname=postgres {words}" for name in ("primary", "standby1")]
        ended = run_command("audit", "--primary", access[0], "--replica", access[1], *HEALTHY, home=tmp_path)
        assert ended.status == 3, ended
        assert "the role may not read it" in ended.out
        assert 'GRANT pg_read_all_data TO "curious"' in " ".join(ended.out.split())
        closed = run_command(
            "audit", "--primary", access[0], "--replica", access[1], "--database", "closed", home=tmp_path
        )
        assert closed.status == 3, closed
        assert 'GRANT CONNECT ON DATABASE "closed" TO "curious"' in " ".join(closed.out.split())
        for run in (ended, closed):
            assert "Traceback" not in run.out + run.err
    finally:
        house.drop_database("closed")
        house.primary.execute("drop role curious")
        house.catch_up()
    assert_nothing_left(house)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--table", "no_such_table"), "no relation matches 'no_such_table'"),
        (("--database", "no_such_database"), 'no database matches "no_such_database"'),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(
    house: LabCluster, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    assert message in assert_one_line(audit(house, *options, home=tmp_path))
    assert_nothing_left(house)


def test_a_database_to_connect_to_must_exist(house: LabCluster, tmp_path: Path) -> None:
    ended = run_command("audit", *nodes(house, dbname="no_such"), home=tmp_path)
    told = assert_one_line(ended)
    assert "has no such database" in told


# Arguments and configuration


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--jobs", "0"), "invalid value for '--jobs'"),
        (("--jobs", "65"), "invalid value for '--jobs'"),
        (("--level", "best"), "invalid value for '--level'"),
        (("--max-snapshot-age", "0s"), "--max-snapshot-age must be between 1s and 3600s"),
        (("--format", "xml"), "invalid value for '--format'"),
        (("--no-such-option",), "no such option: --no-such-option"),
        (("--config", "/nonexistent.toml"), "cannot read configuration /nonexistent.toml: no such file or directory"),
        (("--config", "/"), "cannot read configuration /: is a directory"),
        (("--output", "/nonexistent/report"), "cannot write the report to /nonexistent/report: no such file"),
    ],
)
def test_a_wrong_option_is_one_line(
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    given = ("audit", "--primary", "host=/a", "--replica", "host=/b", *words)
    ended = run_here(*given, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    assert message in assert_one_line(ended)


def test_a_primary_without_a_replica_is_one_line(tmp_path: Path) -> None:
    ended = run_command("audit", "--primary", "host=/a", home=tmp_path)
    assert "--primary was given without --replica" in assert_one_line(ended)
    assert "no cluster to audit" in assert_one_line(run_command("audit", home=tmp_path))


_NODES = '[nodes]\na = { dsn = "host=/a" }\nb = { dsn = "host=/b" }\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'cluster = "c"\n{_NODES}[audit\n', "c.toml: line 5"),
        (f'cluster = "c"\n{_NODES}[audit]\njobs = \n', "c.toml: line 6"),
        (f'cluster = "c"\n{_NODES}[audit]\njobz = 3\n', 'unknown key audit.jobz\nhint: Did you mean "jobs"?'),
        (f'cluster = "c"\n{_NODES}[audit]\njobs = 0\n', "c.toml: audit.jobs"),
        (f'cluster = "c"\n{_NODES}[audit]\nlevel = "best"\n', "c.toml: audit.level"),
        (f'cluster = "c"\n{_NODES}[audit]\nnode_timeout = "soon"\n', "c.toml: audit.node_timeout"),
        (f'cluster = "c"\n{_NODES}c = {{ dns = "host=/c" }}\n', "c.toml: unknown key nodes.c.dns"),
        (f'cluster = "c"\n{_NODES}c = {{ dsn = "host" }}\n', "configuration key nodes.c.dsn is malformed"),
        ('cluster = "c"\n[nodes]\n', "nodes must name at least the primary"),
        ('cluster = "c"\n[nodes]\na = { dsn = "host=/a" }\n', "an audit needs a primary and at least one replica"),
        (_NODES, "c.toml: cluster is missing"),
    ],
)
def test_a_malformed_configuration_is_told_by_key_or_line(
    tmp_path: Path, text: str, message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text(text)
    ended = run_here("audit", "--config", "c.toml", home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    assert message in assert_one_line(ended)


# Exit statuses, and what is written where


def test_a_consistent_cluster_ends_with_0(house: LabCluster, tmp_path: Path) -> None:
    ended = audit(house, *HEALTHY, home=tmp_path)
    assert ended.status == 0, ended
    assert "CONSISTENT" in ended.out
    assert ended.err == ""
    assert_nothing_left(house)


def test_a_standby_that_stands_still_ends_with_1(house: LabCluster, tmp_path: Path) -> None:
    lines = ['cluster = "house"', "[nodes]"]
    lines += [f"{name} = {{ dsn = {json.dumps(house.audit_dsn(name))} }}" for name in house.nodes]
    (tmp_path / "replcheck.toml").write_text("\n".join([*lines, "[audit]", 'replay_wait = "1s"', ""]))
    apply_fault(house, "pause-replay", node="standby1")
    try:
        house.primary.execute("create table meanwhile ()")
        ended = run_command("audit", *HEALTHY, "--format", "json", home=tmp_path)
    finally:
        house.nodes["standby1"].execute("select pg_wal_replay_resume()")
        house.catch_up()
    assert ended.status == 1, ended
    assert checked(ended)["verdict"] == "inconclusive"
    assert_nothing_left(house)


def test_a_lost_row_ends_with_2_and_is_told_by_its_place(house: LabCluster, tmp_path: Path) -> None:
    ended = audit(house, *BROKEN, "--format", "json", home=tmp_path)
    assert ended.status == 2, ended
    report = checked(ended)
    divergences: list[dict[str, object]] = report["divergences"]
    (divergence,) = divergences
    assert (divergence["relation"], divergence["kind"], divergence["count"]) == ("public.broken", "missing", 1)
    assert report["odd_node"] == "replica2"
    assert audit(house, *BROKEN, home=tmp_path).out.count("DIVERGED") >= 1
    assert_nothing_left(house)


def checked(ended: Ended) -> dict[str, Any]:
    """Return the report of a run in JSON, after comparing it with the published schema and the exit status."""
    report: dict[str, Any] = json.loads(ended.out)
    jsonschema.Draft202012Validator(audit_schema()).validate(report)
    assert report["exit_code"] == ended.status
    return report


def test_events_are_json_lines_from_the_start_to_the_end(house: LabCluster, tmp_path: Path) -> None:
    ended = audit(house, *BROKEN, "--events", "-", "--output", "report.txt", "--verbose", home=tmp_path)
    assert ended.status == 2, ended
    assert ended.err == ""
    events = [json.loads(line) for line in ended.out.splitlines()]
    assert all(event.keys() >= {"event", "at"} for event in events)
    names = [event["event"] for event in events]
    assert (names[0], names[-1]) == ("run_started", "run_finished")
    assert {"node_observed", "aligned", "database_planned", "chunk_compared", "rows_differ"} <= set(names)
    assert [event["outcome"] for event in events if event["event"] == "run_finished"] == ["refuted"]
    assert "DIVERGED" in (tmp_path / "report.txt").read_text()


def test_quiet_says_the_verdict_and_what_to_do(house: LabCluster, tmp_path: Path) -> None:
    for scope, status, word in ((HEALTHY, 0, "CONSISTENT"), (BROKEN, 2, "DIVERGED")):
        ended = audit(house, *scope, "--quiet", home=tmp_path)
        assert (ended.status, ended.err) == (status, "")
        assert word in ended.out
        assert len(ended.out.splitlines()) < len(audit(house, *scope, home=tmp_path).out.splitlines()) / 2


@pytest.mark.parametrize("width", ["20", "400"])
def test_a_report_fits_any_terminal(house: LabCluster, tmp_path: Path, width: str) -> None:
    ended = audit(house, *BROKEN, home=tmp_path, COLUMNS=width)
    assert ended.status == 2, ended
    assert "DIVERGED" in ended.out
    assert "public.broken" in ended.out


def test_color_is_for_terminals_and_for_who_asks(house: LabCluster, tmp_path: Path) -> None:
    ascii_only = audit(house, *HEALTHY, home=tmp_path, LC_ALL="C")
    assert ascii_only.out.isascii()
    assert "\x1b[" not in ascii_only.out
    forced = audit(house, *HEALTHY, home=tmp_path, FORCE_COLOR="1")
    assert "\x1b[" in forced.out
    plain = audit(house, *HEALTHY, home=tmp_path, FORCE_COLOR="1", NO_COLOR="1")
    assert "\x1b[" not in plain.out


# Ends before the end


@contextmanager
def crawling(house: LabCluster, *more: str, home: Path) -> Iterator[subprocess.Popen[str]]:
    """Start an audit of a table that takes very long, and wait until every node is reading it."""
    words = ("audit", *nodes(house), "--table", "crawling", "--node-timeout", "1s", *more)
    with started(*words, home=home) as process:
        wait_for(lambda: process.poll() is not None or reading_everywhere(house))
        yield process


def reading_everywhere(house: LabCluster) -> bool:
    asleep = "select 1 from pg_stat_activity where usename = %s and wait_event = 'PgSleep'"
    return all(node.execute(asleep, [AUDIT_ROLE]) for node in house.nodes.values() if node.running)


SLOW = ("--database", "slow")
ONE_AFTER_THE_OTHER = ("--database", "postgres", "--database", "slow", "--table", "broken")
"""What differs is known before the slow table is begun: databases are audited in the order of their names."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_3_and_leaves_nothing(house: LabCluster, tmp_path: Path, number: signal.Signals) -> None:
    with crawling(house, *SLOW, "--format", "json", home=tmp_path) as process:
        interrupt(process, number)
        ended = finished(process)
    assert ended.status == 3, ended
    assert ended.err == f"replcheck: {number.name}: stopping; once more ends at once\n"
    report = checked(ended)
    assert report["stopped"]
    assert report["verdict"] == "unchecked"
    assert_nothing_left(house)


@contextmanager
def silent_address() -> Iterator[str]:
    """The address of something that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"host=127.0.0.1 port={listener.getsockname()[1]} sslmode=disable {ROLE} dbname=postgres"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_node_does_not_answer_ends_at_once_with_3(
    house: LabCluster, tmp_path: Path, number: signal.Signals
) -> None:
    with silent_address() as address:
        words = ("audit", *nodes(house, "primary", "standby1"), "--replica", address)
        with started(*words, home=tmp_path) as process:
            wait_for(lambda: process.poll() is not None or {"primary", "standby1"} <= left_behind(house).keys())
            began = time.monotonic()
            interrupt(process, number)
            ended = finished(process)
            # It would give up by itself after ten seconds.
            assert time.monotonic() - began < 6
    stopping, error = ended.err.splitlines()
    assert (ended.status, ended.out) == (3, "")
    assert stopping == f"replcheck: {number.name}: stopping; once more ends at once"
    assert error == "replcheck: error: the audit was stopped before every node had answered"
    assert_nothing_left(house)


def test_an_interrupt_after_a_divergence_ends_with_2(house: LabCluster, tmp_path: Path) -> None:
    with crawling(house, *ONE_AFTER_THE_OTHER, "--format", "json", home=tmp_path) as process:
        interrupt(process, signal.SIGINT)
        ended = finished(process)
    assert ended.status == 2, ended
    report = checked(ended)
    assert report["stopped"]
    assert report["verdict"] == "diverged"
    assert_nothing_left(house)


def test_a_second_interrupt_ends_at_once(house: LabCluster, tmp_path: Path) -> None:
    with crawling(house, *SLOW, home=tmp_path) as process:
        interrupt(process, signal.SIGINT)
        with suppress(AssertionError):
            interrupt(process, signal.SIGINT)
        ended = finished(process)
    assert ended.status == 3, ended
    assert "Traceback" not in ended.err
    # The servers look after clients that are gone every two seconds.
    assert_nothing_left(house, within_s=20)


def test_a_killed_audit_leaves_nothing_and_the_next_one_runs(house: LabCluster, tmp_path: Path) -> None:
    with crawling(house, *SLOW, home=tmp_path) as process:
        assert left_behind(house)
        interrupt(process, signal.SIGKILL)
        assert finished(process).status == -signal.SIGKILL
    assert_nothing_left(house, within_s=20)
    ended = audit(house, *HEALTHY, home=tmp_path)
    assert (ended.status, ended.err) == (0, "")


def test_a_node_lost_in_the_middle_costs_no_verdict_of_the_others(house: LabCluster, tmp_path: Path) -> None:
    node = house.nodes["standby1"]
    try:
        with crawling(house, *ONE_AFTER_THE_OTHER, "--format", "json", home=tmp_path) as process:
            node.kill()
            ended = finished(process)
    finally:
        node.start()
        house.wait_streaming()
    assert ended.status == 2, ended
    report = checked(ended)
    verdicts = {replica["name"]: replica["verdict"] for replica in report["replicas"]}
    assert verdicts == {"replica1": "unchecked", "replica2": "diverged"}
    found = {
        (relation["table"], one["node"]): one["verdict"]
        for relation in report["relations"]
        for one in relation["replicas"]
    }
    assert found == {
        ("broken", "replica1"): "consistent",
        ("broken", "replica2"): "diverged",
        ("crawling", "replica1"): "unchecked",
        ("crawling", "replica2"): "consistent",
    }
    assert_nothing_left(house)
