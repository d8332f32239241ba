"""The digest of a configuration tells changes apart, and nobody can guess a secret from it."""

from typing import Any

from replcheck.config.model import Configuration
from replcheck.runs.signing import UNSIGNED, configuration_digest, signing_of

SAID: dict[str, Any] = {
    "cluster": "clinic",
    "connect": "user=replcheck password=one",
    "nodes": {"a": {"dsn": "host=a password=one"}, "b": {"dsn": "postgresql://u:one@b/app"}},
    "backups": {"c": {"kind": "command", "provision": ["restore", "one"], "destroy": ["drop", "one"]}},
    "drill": {"scratch": {"dsn": "host=s password=one"}, "assertions": {"sane": "exists (select one)"}},
    "audit": {"where": {"visit": "id = 1"}},
    "policy": {"recovery-point": {"max_age": "5min"}},
    "waivers": {"failover": {"reason": "soon", "by": "the head", "until": "2027-01-31"}},
}


def digest(**changes):
    return configuration_digest(Configuration.model_validate(SAID | changes))


def test_what_may_be_secret_is_not_covered():
    assert digest() == digest(
        connect="user=replcheck password=two",
        nodes={"a": {"dsn": "host=a password=two options='-c x=y'"}, "b": {"dsn": "postgresql://u:two@b/app"}},
        backups={"c": {"kind": "command", "provision": ["restore", "two"], "destroy": ["drop", "two"]}},
        drill={"scratch": {"dsn": "host=s password=two"}, "assertions": {"sane": "exists (select two)"}},
        audit={"where": {"visit": "id = 2"}},
    )


def test_what_is_asked_and_of_whom_is_covered():
    changes = (
        {"cluster": "other"},
        {"connect": "user=somebody"},
        {"nodes": SAID["nodes"] | {"b": {"dsn": "host=c"}}},
        {"nodes": SAID["nodes"] | {"a": {"dsn": "host=a", "zone": "rack-a"}}},
        {"audit": {"where": {"patient": "id = 1"}}},
        {"audit": {"jobs": 3}},
        {"policy": {"recovery-point": {"max_age": "6min"}}},
        {"waivers": {}},
        {"output": {"signing_key": "x"}},
        {"drill": {}},
    )
    digests = {digest(), *(digest(**change) for change in changes)}
    assert len(digests) == len(changes) + 1


def test_a_connection_string_that_libpq_cannot_read_is_left_out():
    assert digest(connect="=") == digest(connect="==")


def test_spelled_out_nodes_have_no_configuration():
    assert signing_of(None) == UNSIGNED
    assert UNSIGNED.configuration_sha256 is None
    signing = signing_of(Configuration.model_validate(SAID | {"output": {"signing_key": "/k"}}))
    assert (str(signing.key), len(signing.configuration_sha256 or "")) == ("/k", 64)
