"""`replcheck seal` as it is typed: report, manifest, record, signature, and what it refuses."""

import json
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
from tests.commands import assert_nothing_left, assert_one_line, run_command
from tests.staged import newest_only

GRANT = "grant execute on function pg_create_restore_point(text) to replcheck_audit"
REVOKE = "revoke execute on function pg_create_restore_point(text) from replcheck_audit"


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
def test_a_seal_is_reported_kept_signed_and_recorded(cluster: LabCluster, database: str, tmp_path: Path) -> None:
    cluster.primary.execute("create table visit as select g as id from generate_series(1, 1000) g", dbname=database)
    config = _configuration(cluster, tmp_path, signing_key=str(_key(tmp_path)))
    refused = run_command("seal", "--config", str(config), home=tmp_path)
    assert "GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text)" in assert_one_line(refused)
    cluster.primary.execute(GRANT)
    try:
        done = run_command("seal", "--config", str(config), "--format", "json", home=tmp_path)
        assert (done.status, done.err) == (0, "")
        document = json.loads(done.out)
        jsonschema.validate(document, seal_schema())
        cluster.primary.execute(GRANT, dbname=database)
        told = run_command(
            "seal", "--config", str(config), "--database", database, "--dump", "visit.dump", home=tmp_path
        )
    finally:
        cluster.primary.execute(REVOKE)
    assert told.status == 0, told
    assert "SEALED" in told.out
    assert stat.S_IMODE((tmp_path / "visit.dump").stat().st_mode) == 0o600
    path = Path(document["file"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    seal = read_manifest(path, signing_key=tmp_path / "clinic.key")
    assert (seal.signature, seal.sha256) == (SignatureState.VERIFIED, document["sha256"])
    assert seal.manifest.database(database) is not None
    assert seal.manifest.seeds[0] not in done.out
    newest = find_seal("latest", path.parent)
    assert newest.manifest.dump is not None
    assert newest.signature is SignatureState.UNVERIFIED
    history = run_command("history", "--config", str(config), home=tmp_path)
    assert history.out.count(" seal ") == 3
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
    cluster: LabCluster, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    config = _configuration(cluster, tmp_path)
    assert said in assert_one_line(run_command("seal", "--config", str(config), *words, home=tmp_path))


@newest_only
def test_a_key_that_others_can_read_is_refused(cluster: LabCluster, tmp_path: Path) -> None:
    key = _key(tmp_path)
    key.chmod(0o644)
    config = _configuration(cluster, tmp_path, signing_key=str(key))
    said = assert_one_line(run_command("seal", "--config", str(config), home=tmp_path))
    assert "can be read by others" in said
    assert f"chmod 600 {key}" in said
