"""`replcheck seal` as it is typed: report, manifest, record, signature, and what it refuses."""

import json
import platform
import signal
import stat
from pathlib import Path

import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from replcheck.drill.manifest import read_manifest
from replcheck.drill.seals import find_seal
from replcheck.lab.cluster import LabCluster
from replcheck.model.seal import SignatureState
from replcheck.report.seal import seal_schema
from tests.commands import Ended, assert_nothing_left, assert_one_line, finished, interrupt, run_here, started
from tests.staged import make_slow_tables, newest_only, until, value

GRANT = "grant execute on function pg_create_restore_point(text) to replcheck_audit"


def _key(folder: Path) -> Path:
    path = folder / "clinic.key"
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return path


def _configuration(cluster: LabCluster, folder: Path, **output: str) -> Path:
    path = folder / "clinic.toml"
    nodes = "".join(f'{name} = {{ dsn = "{cluster.node(name).address}" }}\n' for name in cluster.nodes)
    settings = "".join(f'{key} = "{value}"\n' for key, value in output.items())
    path.write_text(
        f'cluster = "clinic"\nconnect = "{cluster.audit_words()}"\n[nodes]\n{nodes}[output]\n{settings}', "utf-8"
    )
    return path


@newest_only
def test_a_seal_is_reported_kept_signed_and_recorded(
    cluster: LabCluster,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def run(command: str, *words: str) -> Ended:
        options = ("--config", str(config), *words)
        return run_here(command, *options, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)

    cluster.primary.execute("create table visit as select g as id from generate_series(1, 1000) g", dbname=database)
    config = _configuration(cluster, tmp_path, signing_key=str(_key(tmp_path)))
    refused = assert_one_line(run("seal", "--database", database))
    assert f"In database {database}, run as" in refused
    assert "GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text)" in refused
    assert "In database postgres, run as" in assert_one_line(run("seal"))
    cluster.primary.execute(GRANT, dbname=database)
    done = run("seal", "--format", "json")
    told = run("seal", "--database", database, "--dump", "visit.dump")
    assert (done.status, done.err) == (0, "")
    document = json.loads(done.out)
    jsonschema.validate(document, seal_schema())
    assert (told.status, told.err) == (0, "")
    assert "SEALED" in told.out
    major, machine = cluster.primary.programs.major, platform.machine()
    assert f"PostgreSQL {major} on {machine}, cluster {document['server']['system_identifier']}" in told.out
    assert (document["server"]["major"], document["server"]["architecture"]) == (major, machine)
    assert stat.S_IMODE((tmp_path / "visit.dump").stat().st_mode) == 0o600
    path = Path(document["file"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    seal = read_manifest(path, signing_key=tmp_path / "clinic.key")
    assert (seal.signature, seal.sha256) == (SignatureState.VERIFIED, document["sha256"])
    assert seal.manifest.database(database) is not None
    assert seal.manifest.seeds[0] not in done.out + told.out
    newest = find_seal("latest", path.parent)
    assert newest.manifest.dump is not None
    assert newest.signature is SignatureState.UNVERIFIED
    assert run("history").out.count(" seal ") == 4
    assert_nothing_left(cluster)


@newest_only
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--primary", "standby1"), "is a standby"),
        (("--dump", "clinic.toml"), "exists already"),
        (("--dump", "new.dump"), "a dump is taken of one database"),
        (("--database", "nosuch"), "no database matches"),
        (("--max-age", "soon"), "--max-age must be a duration"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    cluster: LabCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    config = _configuration(cluster, tmp_path)
    ended = run_here("seal", "--config", str(config), *words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    assert said in assert_one_line(ended)


@newest_only
def test_a_key_that_others_can_read_is_refused(
    cluster: LabCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    key = _key(tmp_path)
    key.chmod(0o644)
    config = _configuration(cluster, tmp_path, signing_key=str(key))
    ended = run_here("seal", "--config", str(config), home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    said = assert_one_line(ended)
    assert "can be read by others" in said
    assert f"chmod 600 {key}" in said


@newest_only
@pytest.mark.long
def test_an_interrupted_seal_leaves_nothing_behind(cluster: LabCluster, database: str, tmp_path: Path) -> None:
    make_slow_tables(cluster.primary, database, ["slow"], rows=400, seconds=20.0, row_bytes=7000)
    cluster.primary.execute(GRANT, dbname=database)
    config = _configuration(cluster, tmp_path)
    words = ("seal", "--config", str(config), "--database", database, "--dump", "slow.dump")
    reading = "select count(*) from pg_stat_activity where application_name = 'replcheck seal' and state = 'active'"
    with started(*words, home=tmp_path) as process:
        until(lambda: value(cluster.primary, reading) > 0, "the slow table is being read")
        interrupt(process, signal.SIGINT)
        ended = finished(process)
    assert ended.status == 3
    assert "stopped" in ended.err
    assert not (tmp_path / "slow.dump").exists()
    assert not list(tmp_path.rglob("*.seal.json*"))
    assert_nothing_left(cluster)
