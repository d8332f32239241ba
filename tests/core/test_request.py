"""What is audited, and how: flags over file, and roles as expectations only where they were spelled out."""

from pathlib import Path

import pytest

from replcheck.audit.options import AuditOptions, Level
from replcheck.config import load
from replcheck.errors import ConfigurationError, UsageError
from replcheck.model.node import NodeRole
from replcheck.postgres import dsn
from replcheck.runs.request import AuditFlags, audit_request

CONFIG = """
cluster = "clinic"
connect = "user=auditor dbname=clinic"
[nodes]
db1 = { dsn = "host=db1", zone = "rack-a" }
db2 = { dsn = "host=db2 user=own" }
[audit]
level = "strong"
jobs = 5
exclude = ["a.*"]
catalogs = false
max_snapshot_age = "10s"
"""


@pytest.fixture
def configuration(tmp_path: Path):
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    return load(path)


def test_configured_nodes_inherit_common_words_and_expect_no_role(configuration):
    request = audit_request(AuditFlags(), configuration)
    assert request.cluster == "clinic"
    assert [(target.name, target.expected_role, target.zone) for target in request.targets] == [
        ("db1", None, "rack-a"),
        ("db2", None, None),
    ]
    assert dsn.parse(request.targets[0].dsn) == {"host": "db1", "user": "auditor", "dbname": "clinic"}
    assert dsn.parse(request.targets[1].dsn)["user"] == "own"


def test_spelled_out_nodes_are_numbered_and_expect_their_roles():
    request = audit_request(AuditFlags(primary="host=a", replicas=("host=b", "postgresql://c/x")), None)
    assert [(target.name, target.expected_role) for target in request.targets] == [
        ("primary", NodeRole.PRIMARY),
        ("replica1", NodeRole.STANDBY),
        ("replica2", NodeRole.STANDBY),
    ]
    assert request.options == AuditOptions()


def test_a_configured_node_can_be_named_with_an_expected_role(configuration):
    request = audit_request(AuditFlags(primary="db2", replicas=("db1",)), configuration)
    assert [(target.name, target.expected_role) for target in request.targets] == [
        ("db2", NodeRole.PRIMARY),
        ("db1", NodeRole.STANDBY),
    ]


def test_the_file_decides_where_no_flag_does(configuration):
    options = audit_request(AuditFlags(jobs=1, catalogs=True), configuration).options
    assert (options.level, options.jobs, options.catalogs, options.excludes) == (Level.STRONG, 1, True, ("a.*",))
    assert options.max_snapshot_age_s == 10


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (AuditFlags(), "no cluster to audit"),
        (AuditFlags(primary="host=a"), "--primary was given without --replica"),
        (AuditFlags(replicas=("host=a",)), "--replica was given without --primary"),
        (AuditFlags(primary="db1", replicas=("host=b",)), "--primary names no configured node"),
        (AuditFlags(primary="host=a", replicas=("host='canary",)), r"--replica \(number 1\) is malformed"),
    ],
)
def test_nodes_that_make_no_cluster_are_refused(flags, message):
    with pytest.raises(UsageError, match=message) as caught:
        audit_request(flags, None)
    assert "canary" not in caught.value.message
    assert caught.value.hint


def test_a_node_given_twice_is_refused(configuration):
    with pytest.raises(UsageError, match='node "db1" is given twice'):
        audit_request(AuditFlags(primary="db1", replicas=("db1",)), configuration)


def test_a_malformed_address_in_the_file_is_named_by_its_key(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(CONFIG.replace("host=db2 user=own", "host=db2 canary"))
    with pytest.raises(ConfigurationError, match=r"configuration key nodes\.db2\.dsn is malformed") as caught:
        audit_request(AuditFlags(), load(path))
    assert "canary" not in caught.value.message


def test_the_argument_digest_tells_requests_apart_and_ignores_passwords(configuration):
    plain = audit_request(AuditFlags(), configuration)
    other = audit_request(AuditFlags(tables=("visit",)), configuration)
    assert plain.argument_digest != other.argument_digest
    first = audit_request(AuditFlags(primary="host=a password=x", replicas=("host=b",)), None)
    second = audit_request(AuditFlags(primary="host=a password=y", replicas=("host=b",)), None)
    assert first.argument_digest == second.argument_digest
