"""Over TLS an audit proves what it proves elsewhere, and doctor warns wherever the server need not prove who it is.

The servers listen on loopback alone. A client that goes to 0.0.0.0 reaches them, but to an address that is none of
loopback, as one at a distance would be; that the certificate's names are no real ones does not matter, for `hostaddr`
says where to go.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.postgres.programs import find_programs
from tests import labs
from tests.commands import Ended, run_here, wait_for

DOMAIN = "replcheck.test"
ELSEWHERE = "0.0.0.0"  # noqa: S104 - where a client goes, not where a server listens
LOOPBACK = "127.0.0.1"


def majors_with_tls() -> list[int]:
    """Return the majors whose server was built with TLS."""
    return [major for major in labs.majors() if b"SSL_CTX_new" in find_programs(major).path("postgres").read_bytes()]


@dataclass(frozen=True, slots=True)
class Guarded:
    """A cluster that can be reached by TLS, and the file with the certificate to know it by."""

    cluster: LabCluster
    root: Path

    def nodes(self, *, sslmode: str, hostaddr: str = ELSEWHERE, root: bool = True, domain: str = DOMAIN) -> list[str]:
        """Return the words that name the primary and its standby on the command line."""
        known = self.root if root else self.root.parent / "nowhere"
        primary, standby = (
            f"host={name}.{domain} hostaddr={hostaddr} port={server.port} {self.cluster.audit_words()}"
            f" sslmode={sslmode} sslrootcert={known} gssencmode=disable"
            for name, server in self.cluster.nodes.items()
        )
        return ["--primary", primary, "--replica", standby]


@pytest.fixture(scope="module")
def guarded(clusters_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A primary and a standby with `ssl = on`, on loopback only, and one certificate that is its own authority."""
    found = majors_with_tls()
    if not found:
        pytest.skip("no server on this machine was built with TLS")
    with LabCluster.create(
        clusters_root,
        name=f"tls_{os.getpid()}",
        major=found[0],
        standbys=1,
        settings={"listen_addresses": LOOPBACK, "log_connections": "on"},
    ) as cluster:
        certificate, key = self_signed([f"{name}.{DOMAIN}" for name in cluster.nodes])
        for server in cluster.nodes.values():
            server.write_data_file("server.crt", certificate)
            server.write_data_file("server.key", key)
            server.configure(ssl="on")
            server.restart()
        cluster.primary.execute("create table visit as select g as id from generate_series(1, 500) g")
        cluster.wait_streaming()
        cluster.catch_up()
        root = tmp_path_factory.mktemp("tls") / "root.crt"
        root.write_text(certificate)
        yield Guarded(cluster, root)


def self_signed(names: list[str]) -> tuple[str, str]:
    """Return a certificate for these host names, signed by its own key, and that key; both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "replcheck tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM).decode(), pem.decode()


class Terminal:
    """Runs commands in this process, in an empty folder."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._home, self._monkeypatch, self._capfd = home, monkeypatch, capfd

    def run(self, *words: str) -> Ended:
        return run_here(*words, home=self._home, monkeypatch=self._monkeypatch, capfd=self._capfd)

    def examined(self, nodes: list[str]) -> list[tuple[str, str]]:
        """Return state and text of what doctor says of the protection of each node, where no node misses anything."""
        ended = self.run("doctor", *nodes, "--database", "postgres", "--format", "json")
        assert (ended.status, ended.err) == (0, ""), ended
        found = [check for node in json.loads(ended.out)["nodes"] for check in node["checks"]]
        return [(check["state"], check["what"]) for check in found if check["code"] == "tls"]


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, monkeypatch, capfd)


@pytest.mark.parametrize(
    ("sslmode", "root", "state", "said"),
    [
        ("disable", False, "warning", "the connection is not encrypted, and anybody on the way could answer"),
        ("require", False, "warning", "but the server need not prove who it is (sslmode=require)"),
        ("require", True, "warning", "its certificate is verified, but not its name (sslmode=verify-ca)"),
        ("verify-ca", True, "warning", "its certificate is verified, but not its name (sslmode=verify-ca)"),
        ("verify-full", True, "ok", "and the server's name verified"),
    ],
)
def test_doctor_warns_of_each_node_below_verify_full(
    guarded: Guarded, terminal: Terminal, sslmode: str, root: bool, state: str, said: str
) -> None:
    found = terminal.examined(guarded.nodes(sslmode=sslmode, root=root))
    assert [checked for checked, _ in found] == [state, state]
    for _, text in found:
        assert text.endswith(said)
        assert text.startswith("the connection is encrypted (TLSv1.") or sslmode == "disable"


def test_within_one_machine_nobody_is_on_the_way(guarded: Guarded, terminal: Terminal) -> None:
    found = terminal.examined(guarded.nodes(sslmode="require", root=False, hostaddr=LOOPBACK))
    assert found == [("ok", "the connection goes over loopback")] * 2


def test_under_a_name_that_its_certificate_does_not_bear_no_server_is_taken_for_a_node(
    guarded: Guarded, terminal: Terminal
) -> None:
    assert [state for state, _ in terminal.examined(guarded.nodes(sslmode="verify-ca", domain="other.test"))] == [
        "warning"
    ] * 2
    nodes = guarded.nodes(sslmode="verify-full", domain="other.test")
    refused = terminal.run("doctor", *nodes, "--format", "json")
    assert refused.status == 3
    checks = [check for node in json.loads(refused.out)["nodes"] for check in node["checks"]]
    assert [(check["code"], check["state"]) for check in checks] == [("unreachable", "missing")] * 2
    assert terminal.run("audit", *nodes, "--no-store").status == 3


def test_an_audit_over_verified_tls_proves_and_sends_nothing_in_the_clear(guarded: Guarded, terminal: Terminal) -> None:
    logs = {server.log_file: server.log_file.stat().st_size for server in guarded.cluster.nodes.values()}
    ended = terminal.run("audit", *guarded.nodes(sslmode="verify-full"), "--table", "public.visit", "--no-store")
    assert ended.status == 0, ended
    for log, size in logs.items():
        wait_for(lambda log=log, size=size: len(authorized(log, size)) >= 2)  # type: ignore[misc]
        assert all("SSL enabled (protocol=TLSv1." in line for line in authorized(log, size))


def authorized(log: Path, start: int) -> list[str]:
    """Return what a server has logged, from a position on, of connections that it let the audit role in by."""
    said = log.read_bytes()[start:].decode("utf-8", "replace")
    return [line for line in said.splitlines() if f"connection authorized: user={AUDIT_ROLE} " in line]
