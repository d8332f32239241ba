"""Connection strings: read as libpq does, merged, and never shown."""

import pytest

from replcheck.errors import ConfigurationError, ReplcheckError, UsageError
from replcheck.postgres import dsn

SECRET = "hunter2canary"
MALFORMED = [
    f"host=db1 password='{SECRET}",
    f"host=db1 {SECRET}",
    f"postgresql://u:{SECRET} x@db1/app",
    f"host=db1 {SECRET}=1",
    f"postgresql://u:{SECRET}%zz@db1/app",
    f"postgresql://u:{SECRET}%00@db1/app",
    f"postgresql://u:{SECRET}@[::1/app",
    f"postgresql://db1/app?{SECRET}=1",
    f"host=db1 password={SECRET}\0",
]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("postgresql://u:p%40@h1/db?sslmode=require", {"user": "u", "password": "p@", "host": "h1", "dbname": "db"}),
        ("host=h1 password='a b'", {"host": "h1", "password": "a b"}),
        ("service=clinic", {"service": "clinic"}),
        ("", {}),
    ],
)
def test_libpq_forms_are_read(text, words):
    assert words.items() <= dsn.parse(text).items()


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_string_is_refused_without_a_word_of_it(text):
    with pytest.raises(UsageError, match="--replica is malformed") as caught:
        dsn.parse(text, origin="--replica")
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ or error.__context__


def test_the_caller_chooses_the_error():
    with pytest.raises(ConfigurationError, match=r"nodes\.db1\.dsn is malformed: a word has no ="):
        dsn.parse("nonsense", origin="nodes.db1.dsn", failure=ConfigurationError)


def test_every_reason_can_be_reached():
    told = set()
    for text in MALFORMED:
        with pytest.raises(ReplcheckError) as caught:
            dsn.parse(text)
        told.add(caught.value.message.partition(": ")[2])
    assert len(told) >= 5


def test_merged_words_win():
    merged = dsn.parse(dsn.merge("host=db1 dbname=app", dbname="other", connect_timeout="10"))
    assert merged == {"host": "db1", "dbname": "other", "connect_timeout": "10"}


def test_merging_keeps_awkward_values():
    password = r"it's a \ 'test' = x"
    assert dsn.parse(dsn.merge("host=db1", password=password))["password"] == password


def test_a_node_inherits_what_it_does_not_say():
    words = dsn.parse(dsn.inherit({"host": "db1", "user": "own"}, {"user": "common", "dbname": "clinic"}))
    assert words == {"host": "db1", "user": "own", "dbname": "clinic"}


def test_a_node_with_its_own_host_inherits_no_other_address():
    words = dsn.parse(dsn.inherit({"host": "db1"}, {"hostaddr": "10.0.0.9", "port": "6432"}))
    assert words == {"host": "db1", "port": "6432"}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("postgresql://auditor:secret@db1:6432/app", "db1:6432"),
        ("host=h1,h2 port=5433", "h1:5433,h2:5433"),
        ("host=h1,h2 port=1,2", "h1:1,h2:2"),
        ("hostaddr=::1", "[::1]:5432"),
        ("host=/tmp port=5433 password=secret", "/tmp:5433"),
        ("service=clinic password=secret", "service clinic"),
    ],
)
def test_the_public_address_shows_no_more_than_where(text, address, monkeypatch):
    for variable in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE"):
        monkeypatch.delenv(variable, raising=False)
    assert dsn.public_address(text) == address


def test_the_public_address_follows_the_environment_as_libpq_does(monkeypatch):
    monkeypatch.setenv("PGHOST", "db9.internal")
    monkeypatch.setenv("PGPORT", "6000")
    assert dsn.public_address("dbname=app") == "db9.internal:6000"
