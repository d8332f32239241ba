"""`replcheck init` on real servers: the file it writes leads an audit to every node, and holds no secret."""

import os
import select
import shlex
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replcheck.config import load
from replcheck.config.model import Configuration
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.postgres import dsn
from replcheck.postgres.local import sql
from tests.commands import COMMAND, Ended, assert_one_line, environment, run_here
from tests.staged import newest_only

CANARY = "zqcanary"
HOSTILE = """x"] [audit] level="fast" # """


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run a command in an empty folder, off a terminal."""

    def ran(*words: str) -> Ended:
        return run_here(*words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)

    return ran


def nodes_of(configuration: Configuration) -> dict[str, dict[str, str]]:
    common = dsn.parse(configuration.connect)
    return {name: dsn.parse(dsn.inherit(dsn.parse(node.dsn), common)) for name, node in configuration.nodes.items()}


def test_an_audit_with_the_written_file_proves_the_cluster_consistent(
    cluster: LabCluster, database: str, tmp_path: Path, run
) -> None:
    cluster.primary.execute("create table visit as select generate_series(1, 100) as id", dbname=database)
    cluster.catch_up()
    secret = (cluster.directory / "audit.pgpass").read_text().rstrip().rpartition(":")[2]
    ended = run("init", "--primary", f"{cluster.audit_dsn('standby2')} password={secret}", "--cluster", "clinic")
    assert ended.status == 0, ended
    assert "replcheck audit --plan --config replcheck.toml" in ended.out
    path = tmp_path / "replcheck.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(secret) > 10
    assert secret not in path.read_text() + ended.out + ended.err
    expected = {name: dsn.parse(cluster.audit_dsn(name)) for name in cluster.nodes}
    assert nodes_of(load(path)) == expected
    audit = run("audit", "--config", "replcheck.toml", "--database", database, "--no-catalogs", "--quiet")
    assert audit.status == 0, audit
    assert "are consistent copies of primary: every row of 3 relations" in " ".join(audit.out.split())
    again = run("init", "--primary", cluster.audit_dsn("primary"))
    assert "replcheck.toml exists already" in assert_one_line(again)
    assert nodes_of(load(path)) == expected


@newest_only
def test_a_role_that_may_not_see_replication_is_told_which_grant_it_needs(
    cluster: LabCluster, tmp_path: Path, run
) -> None:
    cluster.primary.execute("create role zq_blind login")
    try:
        cluster.catch_up()
        words = "user=zq_blind dbname=postgres"
        blind = run("init", "--primary", f"{cluster.primary.address} {words}", "--output", "a.toml")
        standby = run("init", "--primary", f"{cluster.nodes['standby1'].address} {words}", "--output", "b.toml")
    finally:
        cluster.primary.execute("drop role zq_blind")
    assert blind.status == 3
    assert "2 connections receive WAL" in blind.err
    assert 'GRANT pg_monitor TO "zq_blind";' in blind.err
    assert "a.toml is not complete: no replica was found" in blind.err
    assert '# GRANT pg_monitor TO "zq_blind";' in (tmp_path / "a.toml").read_text()
    assert 'GRANT pg_monitor TO "zq_blind";' in assert_one_line(standby)
    assert not (tmp_path / "b.toml").exists()


@pytest.fixture(scope="module")
def apart(clusters_root: Path, newest_major: int) -> Iterator[LabCluster]:
    """A cluster that is reached by TCP while its standbys stream over a Unix socket, one under a hostile name."""
    name = f"apart_{os.getpid()}"
    settings = {"listen_addresses": "127.0.0.1"}
    with LabCluster.create(clusters_root, name=name, major=newest_major, settings=settings) as cluster:
        cluster.primary.execute(
            sql.SQL("alter role {} password {}").format(sql.Identifier(AUDIT_ROLE), sql.Literal(CANARY))
        )
        standby = cluster.nodes["standby2"]
        conninfo = standby.settings()["primary_conninfo"].partition(" application_name=")[0]
        standby.configure(primary_conninfo=f"{conninfo} application_name='{HOSTILE}'")
        standby.restart()
        cluster.wait_streaming()
        yield cluster


def by_tcp(cluster: LabCluster, node: str, *, password: str = f" password={CANARY}") -> str:
    return f"host=127.0.0.1 port={cluster.nodes[node].port} user={AUDIT_ROLE} dbname=postgres{password}"


def test_standbys_whose_port_can_not_be_seen_are_comments_to_be_completed(
    apart: LabCluster, tmp_path: Path, run
) -> None:
    ended = run("init", "--primary", by_tcp(apart, "primary"))
    assert ended.status == 3
    assert "replcheck.toml is not complete: no replica was found at an address" in ended.err
    text = (tmp_path / "replcheck.toml").read_text()
    assert CANARY not in text + ended.out + ended.err
    assert "# [nodes.standby1]" in text
    completed = text.replace("# [nodes.standby1]", "[nodes.standby1]").replace(
        '# dsn = "host=HOST port=PORT"', f'dsn = "host=127.0.0.1 port={apart.nodes["standby1"].port}"', 1
    )
    (tmp_path / "completed.toml").write_text(completed)
    assert set(load(tmp_path / "completed.toml").nodes) == {"db1", "standby1"}


def test_replicas_that_are_named_complete_the_file_and_no_name_escapes_its_comment(
    apart: LabCluster, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = [word for name in ("standby1", "standby2") for word in ("--replica", by_tcp(apart, name, password=""))]
    ended = run("init", "--primary", by_tcp(apart, "primary"), *bare)
    assert ended.status == 0, ended
    configuration = load(tmp_path / "replcheck.toml")
    # The replicas' strings lack the password; they have it from the primary's, and the file from nobody.
    assert configuration.connect == f"user={AUDIT_ROLE} dbname=postgres"
    assert {name: node.dsn for name, node in configuration.nodes.items()} == {
        "primary": f"host=127.0.0.1 port={apart.primary.port}",
        "standby1": f"host=127.0.0.1 port={apart.nodes['standby1'].port}",
        "standby2": f"host=127.0.0.1 port={apart.nodes['standby2'].port}",
    }
    assert configuration.audit.level == "exact"
    assert "as application x" in (tmp_path / "replcheck.toml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--primary", "host=/nonexistent password=zqcanary"], "does not answer"),
        (["--primary", "host='x password=zqcanary"], "--primary is malformed"),
        (["--primary", "host=/x", "--cluster", "two words"], "--cluster is no name"),
        (["--replica", "zqcanary"], "--replica (number 1) is malformed"),
        ([], "no server to ask"),
    ],
)
def test_what_can_not_work_is_one_line(tmp_path: Path, run, words: list[str], message: str) -> None:
    told = assert_one_line(run("init", *words))
    assert message in told
    assert CANARY not in told
    assert list(tmp_path.iterdir()) == []


def conversation(home: Path, words: list[str], answers: list[tuple[str, str]]) -> tuple[int, str, str]:
    """Run a command on a terminal and answer its questions; return status, output and what the terminal showed."""
    master, slave = os.openpty()
    shown = ""
    with subprocess.Popen(
        [*COMMAND, *words],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        cwd=home,
        env=environment(home),
        text=True,
    ) as process:
        try:
            for sign, answer in answers:
                shown += _shown_until(sign, master)
                os.write(master, f"{answer}\n".encode())
            out, _ = process.communicate(timeout=60)
            shown += _shown_until(None, master)
        finally:
            process.kill()
            os.close(slave)
            os.close(master)
    return process.returncode, out, shown


def _shown_until(sign: str | None, terminal: int) -> str:
    """Return what a terminal shows until a question with this sign in it; None is all that is there."""
    shown, deadline = "", time.monotonic() + 60
    while sign is None or not (sign in shown.rpartition("\n")[2] and shown.endswith(": ")):
        ready = select.select([terminal], [], [], 0 if sign is None else 1)[0]
        if sign is None and not ready:
            break
        assert time.monotonic() < deadline, shown
        if ready:
            shown += os.read(terminal, 4096).decode()
    return shown


def test_on_a_terminal_it_asks_for_what_it_could_not_see(apart: LabCluster, tmp_path: Path) -> None:
    answers = [
        ('application "standby1"', "127.0.0.1:1"),
        ('application "standby1"', f"127.0.0.1:{apart.nodes['standby1'].port}"),
        ("over a Unix socket", ""),
        ("Name of the cluster", "clinic"),
        ("zone that primary", "rack-a"),
        ("zone that standby1", ""),
    ]
    status, out, shown = conversation(tmp_path, ["init", "--primary", by_tcp(apart, "primary")], answers)
    assert status == 0, shown
    assert "does not answer" in shown
    configuration = load(tmp_path / "replcheck.toml")
    assert configuration.cluster == "clinic"
    assert {name: node.zone for name, node in configuration.nodes.items()} == {"primary": "rack-a", "standby1": None}
    assert out.startswith("wrote replcheck.toml: cluster clinic\n")
    assert CANARY not in out + shown + (tmp_path / "replcheck.toml").read_text()
    assert shlex.split(out.splitlines()[-1]) == ["replcheck", "audit", "--config", "replcheck.toml"]
