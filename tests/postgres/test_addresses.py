"""Every way that libpq takes an address and a password reaches the very server that libpq would reach."""

import asyncio
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from replcheck.config import load
from replcheck.errors import AuthenticationRefused, NodeError, NodeUnfit, NodeUnreachable
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.model.outcome import Verdict
from replcheck.postgres import dsn
from replcheck.postgres.local import sql
from replcheck.postgres.nodes import NodeFacts, read_facts
from replcheck.postgres.server import libpq_quoted
from replcheck.postgres.session import Limits, open_session
from replcheck.runs.request import AuditFlags, audit_request
from tests.auditing import run_audit_of

ROLE = "we@rd:role/x"
PASSWORD = "p@ss:w/rd %41 'zqcanary\\"
ABSTRACT = f"@replcheck_{os.getpid()}"
AUDITOR = f"user={AUDIT_ROLE} dbname=postgres"


@pytest.fixture(scope="module")
def reachable(clusters_root: Path, newest_major: int) -> Iterator[LabCluster]:
    """A primary and a standby that listen on TCP, IPv6 too where there is one, and on abstract sockets."""
    name = f"reachable_{os.getpid()}"
    addresses = "127.0.0.1,::1" if has_ipv6() else "127.0.0.1"
    settings = {"listen_addresses": addresses, "password_encryption": "scram-sha-256"}
    with LabCluster.create(clusters_root, name=name, major=newest_major, standbys=1, settings=settings) as cluster:
        cluster.primary.execute("create table tiny as select i from generate_series(1, 100) i")
        for role in (AUDIT_ROLE, ROLE):
            if role == ROLE:
                cluster.primary.execute(
                    sql.SQL("create role {} login in role pg_read_all_data, pg_monitor").format(sql.Identifier(role))
                )
            cluster.primary.execute(
                sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(PASSWORD))
            )
        cluster.catch_up()
        for name, server in cluster.nodes.items():
            hba = server.directory / "pg_hba.conf"
            hba.write_text(f'local all "{ROLE}" scram-sha-256\n{hba.read_text()}host all all ::1/128 scram-sha-256\n')
            own = server.settings()["unix_socket_directories"]
            server.configure(unix_socket_directories=f"{own}, {abstract(name)}")
            server.restart()
        cluster.wait_streaming()
        yield cluster


def abstract(name: str) -> str:
    return f"{ABSTRACT}_{name}"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [variable for variable in os.environ if variable.startswith("PG")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "passwords"))


def facts_of(words: str, *, database: str | None = None) -> NodeFacts:
    """Return what an audit learns of the server that a connection string leads to."""

    async def read() -> NodeFacts:
        session = await open_session(
            NodeTarget(name="node", dsn=words), database=database, purpose="test", limits=Limits()
        )
        try:
            return await read_facts(session)
        finally:
            await session.close()

    return asyncio.run(read())


def reached(words: str) -> int:
    """Return the port of the server that a connection string leads to, by its own configuration."""
    return facts_of(words).identity.own_port


def uri(server: object, host: str, *, role: str = AUDIT_ROLE) -> str:
    port = server.port  # type: ignore[attr-defined]
    return f"postgresql://{quote(role, safe='')}:{quote(PASSWORD, safe='')}@{host}:{port}/postgres"


def services(path: Path, cluster: LabCluster, *more: str, **changes: object) -> None:
    """Write a service file with a service for each node, named after it."""
    lines = []
    for name, server in cluster.nodes.items():
        words = {"host": "127.0.0.1", "port": server.port, "user": AUDIT_ROLE, "dbname": "postgres"} | changes
        lines += [f"[{name}]", *(f"{word}={value}" for word, value in words.items()), f"password={PASSWORD}", ""]
    path.write_text("\n".join([*lines, *more]))


def given_password(path: Path, *lines: str, mode: int = 0o600) -> None:
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    path.write_text("".join(f"{line}:{escaped}\n" for line in lines))
    path.chmod(mode)


def test_words_and_uris_with_awkward_names_and_passwords(reachable: LabCluster) -> None:
    for server in reachable.nodes.values():
        folder = quote(str(server.socket_dir), safe="")
        for words in (
            f"host=127.0.0.1 port={server.port} {AUDITOR} password={libpq_quoted(PASSWORD)}",
            f"{server.address} dbname=postgres user={libpq_quoted(ROLE)} password={libpq_quoted(PASSWORD)}",
            uri(server, "127.0.0.1"),
            uri(server, "127.0.0.1", role=ROLE).replace("postgresql:", "postgres:"),
            uri(server, folder, role=ROLE),
            f"postgresql:///postgres?host={folder}&port={server.port}&user={AUDIT_ROLE}&password={quote(PASSWORD)}",
        ):
            assert reached(words) == server.port, words
            assert "zqcanary" not in dsn.public_address(words)


def test_an_ipv6_address(reachable: LabCluster) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    server = reachable.nodes["standby1"]
    assert reached(uri(server, "[::1]")) == server.port
    assert reached(f"hostaddr=::1 port={server.port} {AUDITOR} password={libpq_quoted(PASSWORD)}") == server.port
    assert dsn.public_address(uri(server, "[::1]")) == f"[::1]:{server.port}"


def test_an_address_beside_a_name_that_no_one_knows(reachable: LabCluster) -> None:
    server = reachable.nodes["standby1"]
    words = f"host=db2.invalid hostaddr=127.0.0.1 port={server.port} {AUDITOR} password={libpq_quoted(PASSWORD)}"
    assert reached(words) == server.port
    assert dsn.public_address(words) == f"db2.invalid:{server.port}"


def test_a_socket_in_the_abstract_namespace(reachable: LabCluster) -> None:
    for name, server in reachable.nodes.items():
        words = f"host={abstract(name)} port={server.port} {AUDITOR} password={libpq_quoted(PASSWORD)}"
        assert reached(words) == server.port
        assert dsn.public_address(words) == f"{abstract(name)}:{server.port}"
    with pytest.raises(NodeUnreachable, match=r"does not answer at @nobody:5432 \(connection refused\)"):
        reached(f"host=@nobody {AUDITOR}")


def test_a_whole_audit_through_abstract_sockets(reachable: LabCluster) -> None:
    targets = [
        NodeTarget(
            name=name, dsn=f"host={abstract(name)} port={server.port} {AUDITOR} password={libpq_quoted(PASSWORD)}"
        )
        for name, server in reachable.nodes.items()
    ]
    result, _ = run_audit_of(reachable, targets=targets, databases=("postgres",), tables=("tiny",))
    assert result.verdict is Verdict.CONSISTENT
    assert result.rows == 100


def test_a_service_and_what_is_said_beside_it(
    reachable: LabCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services(tmp_path / "services", reachable)
    primary, standby = reachable.nodes.values()
    for name, server in reachable.nodes.items():
        assert reached(f"service={name}") == server.port
        assert reached(f"postgresql://?service={name}") == server.port
        assert dsn.public_address(f"service={name}") == f"127.0.0.1:{server.port} (service {name})"
    assert reached(f"service=primary port={standby.port}") == standby.port
    assert facts_of(f"service=primary user={libpq_quoted(ROLE)}").privileges.role == ROLE
    monkeypatch.setenv("PGSERVICE", "standby1")
    assert reached("") == standby.port
    assert reached("service=primary") == primary.port
    assert os.environ["PGSERVICE"] == "standby1"


def test_a_service_wins_over_the_environment(
    reachable: LabCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver looks for a host in the environment although the service names one: it must not be asked."""
    services(tmp_path / "services", reachable)
    primary, standby = reachable.nodes.values()
    services_by_socket = tmp_path / "sockets"
    services(services_by_socket, reachable, host=primary.socket_dir)
    monkeypatch.setenv("PGHOST", "127.0.0.2")
    monkeypatch.setenv("PGPORT", str(primary.port))
    for file in (tmp_path / "services", services_by_socket):
        monkeypatch.setenv("PGSERVICEFILE", str(file))
        assert reached("service=standby1") == standby.port
    monkeypatch.setenv("PGHOST", "db9.invalid")
    assert reached("service=standby1") == standby.port


@pytest.mark.parametrize(
    ("words", "content", "message"),
    [
        ("service=nobody", "", "no service of that name is defined"),
        ("service=primary", None, "the service file cannot be read"),
        ("service=odd", "[odd]\nzqcanary\n", "the service file cannot be read"),
        ("service=odd", "[odd]\nzqcanary=1\n", "the service file cannot be read"),
    ],
)
def test_a_service_that_is_missing_or_malformed_is_told_so(
    tmp_path: Path, words: str, content: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "services").write_text(content)
    for variable in (None, words.partition("=")[2]):
        if variable:
            monkeypatch.setenv("PGSERVICE", variable)
        with pytest.raises(NodeUnreachable, match=f"has no address: {message}") as caught:
            reached("" if variable else words)
        assert "zqcanary" not in caught.value.message + caught.value.hint


def test_a_node_with_its_own_service_inherits_no_address(reachable: LabCluster, tmp_path: Path) -> None:
    services(tmp_path / "services", reachable)
    path = tmp_path / "c.toml"
    nodes = "".join(f'{name} = {{ dsn = "service={name}" }}\n' for name in reachable.nodes)
    path.write_text(f'cluster = "c"\nconnect = "host=db9.invalid port=1 connect_timeout=2"\n[nodes]\n{nodes}')
    targets = audit_request(AuditFlags(), load(path)).targets
    assert [reached(target.dsn) for target in targets] == [server.port for server in reachable.nodes.values()]


def test_what_nodes_have_in_common_is_inherited(reachable: LabCluster, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    connect = f"postgresql://{AUDIT_ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1/postgres"
    nodes = "".join(f'{name} = {{ dsn = "port={server.port}" }}\n' for name, server in reachable.nodes.items())
    path.write_text(f'cluster = "c"\nconnect = "{connect}"\n[nodes]\n{nodes}')
    targets = audit_request(AuditFlags(), load(path)).targets
    assert [reached(target.dsn) for target in targets] == [server.port for server in reachable.nodes.values()]


def test_a_password_file_by_its_variable_its_word_and_its_usual_place(
    reachable: LabCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = reachable.nodes["standby1"]
    words = f"host=127.0.0.1 port={server.port} {AUDITOR}"
    given_password(tmp_path / "passwords", f"127.0.0.1:{server.port}:postgres:{AUDIT_ROLE}")
    assert reached(words) == server.port
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    given_password(tmp_path / "other", f"*:*:*:{AUDIT_ROLE}")
    assert reached(f"{words} passfile={tmp_path / 'other'}") == server.port
    with pytest.raises(AuthenticationRefused, match="refuses the role or its password"):
        reached(words)
    monkeypatch.delenv("PGPASSFILE")
    with pytest.raises(AuthenticationRefused):
        reached(words)


def test_a_password_file_that_others_may_read_is_not_used(
    reachable: LabCluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = reachable.nodes["standby1"]
    given_password(tmp_path / "passwords", f"*:*:*:{AUDIT_ROLE}", mode=0o644)
    with pytest.raises(AuthenticationRefused, match="refuses the role or its password"):
        reached(f"host=127.0.0.1 port={server.port} {AUDITOR}")
    assert "zqcanary" not in "".join(capfd.readouterr())


def test_the_environment_alone(reachable: LabCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for server in reachable.nodes.values():
        for variable, value in {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGUSER": AUDIT_ROLE,
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": "postgres",
        }.items():
            monkeypatch.setenv(variable, value)
        assert reached("") == server.port
        assert dsn.public_address("") == f"127.0.0.1:{server.port}"
        other = next(other for other in reachable.nodes.values() if other is not server)
        assert reached(f"port={other.port}") == other.port


def test_options_of_a_session_change_nothing_that_an_audit_needs(reachable: LabCluster) -> None:
    options = (
        "-c search_path=nowhere -c default_transaction_read_only=off -c extra_float_digits=-15 -cstatement_timeout=5s"
    )
    targets = [
        NodeTarget(
            name=name,
            dsn=f"{server.address} {AUDITOR} password={libpq_quoted(PASSWORD)} options='{options}'",
        )
        for name, server in reachable.nodes.items()
    ]
    result, _ = run_audit_of(reachable, targets=targets, databases=("postgres",), tables=("tiny",))
    assert result.verdict is Verdict.CONSISTENT


def test_a_list_of_hosts_leads_to_the_first_that_answers(reachable: LabCluster) -> None:
    primary, standby = reachable.nodes.values()
    common = f"{AUDITOR} password={libpq_quoted(PASSWORD)}"
    assert reached(f"host=/nonexistent,127.0.0.1 port=1,{standby.port} {common}") == standby.port
    both = f"host=127.0.0.1,127.0.0.1 port={primary.port},{standby.port} {common}"
    assert reached(f"{both} target_session_attrs=standby") == standby.port
    assert reached(f"{both} target_session_attrs=read-write") == primary.port
    with pytest.raises(NodeUnreachable, match="not what target_session_attrs asks for"):
        reached(f"host=127.0.0.1 port={standby.port} {common} target_session_attrs=read-write")


def test_a_list_of_hosts_that_leads_to_two_servers_proves_nothing(reachable: LabCluster) -> None:
    primary, standby = reachable.nodes.values()
    common = f"{AUDITOR} password={libpq_quoted(PASSWORD)}"
    both = f"host=127.0.0.1,127.0.0.1 port={primary.port},{standby.port} {common}"
    targets = [
        NodeTarget(name="primary", dsn=f"host=127.0.0.1 port={primary.port} {common}"),
        NodeTarget(name="replica1", dsn=both, expected_role=NodeRole.STANDBY),
    ]
    with pytest.raises(NodeUnfit, match="one and the same server"):
        run_audit_of(reachable, targets=targets, databases=("postgres",), tables=("tiny",))
    # Whichever server a connection meets, nothing but the truth may come out.
    targets[1] = NodeTarget(name="replica1", dsn=f"{both} load_balance_hosts=random")
    for _ in range(4):
        try:
            result, _ = run_audit_of(reachable, targets=targets, databases=("postgres",), tables=("tiny",))
        except NodeError:
            continue
        assert result.replicas[0].node.role is NodeRole.STANDBY
        assert result.verdict in (Verdict.CONSISTENT, Verdict.UNCHECKED)


@pytest.mark.parametrize("method", ["scram-sha-256", "!password"])
def test_a_way_of_authentication_that_is_asked_for_and_given(reachable: LabCluster, method: str) -> None:
    server = reachable.nodes["standby1"]
    words = f"host=127.0.0.1 port={server.port} {AUDITOR} password={libpq_quoted(PASSWORD)}"
    assert reached(f"{words} require_auth={method}") == server.port


@pytest.mark.parametrize("more", ["require_auth=md5", "require_auth=none", "channel_binding=require", "password=wrong"])
def test_a_way_of_authentication_that_is_not_given_is_a_refusal(reachable: LabCluster, more: str) -> None:
    server = reachable.nodes["standby1"]
    words = f"host=127.0.0.1 port={server.port} {AUDITOR} password={libpq_quoted(PASSWORD)}"
    with pytest.raises(AuthenticationRefused, match=re.escape(f"127.0.0.1:{server.port} refuses the role")):
        reached(f"{words} {more}")


def test_a_replication_connection_is_one_clear_error(reachable: LabCluster) -> None:
    server = reachable.nodes["standby1"]
    words = f"host=127.0.0.1 port={server.port} {AUDITOR} password={libpq_quoted(PASSWORD)}"
    for value in ("database", "true"):
        with pytest.raises(NodeError):
            reached(f"{words} replication={value}")
