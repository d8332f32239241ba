"""The driver's errors: each is translated, to the most specific of ours, and nothing a server quotes is kept."""

from collections.abc import Iterator
from types import SimpleNamespace

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors

from replcheck.errors import (
    AuthenticationRefused,
    ConnectionsExhausted,
    DatabaseMissing,
    NodeError,
    NodeLost,
    NodeStarting,
    NodeUnreachable,
    StatementCancelled,
    StatementFailed,
)
from replcheck.postgres.failures import CORRUPTION_SQLSTATES, connect_failure, is_corruption, statement_failure

CANARY = "canary-4111"
KNOWN_CLASSES = {
    *("02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23", "24", "25", "26", "27"),
    *("28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55", "57", "58", "72"),
    *("F0", "HV", "P0", "XX"),
}
"""Classes of SQLSTATEs (PostgreSQL manual, Appendix A) that were looked at when the mapping was written."""
KNOWN_DRIVER_ERRORS = {
    "CancellationTimeout",
    "ConnectionTimeout",
    "DataError",
    "DatabaseError",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "OutOfOrderTransactionNesting",
    "PipelineAborted",
    "ProgrammingError",
}
"""Errors without a SQLSTATE, which the driver raises by itself, that were looked at too."""
CANCELLED = {"57014", "55P03", "40001", "40P01", "55006"}


def kinds_of_errors(parent: type[psycopg.Error] = psycopg.Error) -> Iterator[type[psycopg.Error]]:
    for kind in parent.__subclasses__():
        if kind.__module__.startswith("psycopg"):
            yield kind
            yield from kinds_of_errors(kind)


WITH_SQLSTATE = sorted(
    {kind for kind in kinds_of_errors() if kind.sqlstate is not None}, key=lambda kind: str(kind.sqlstate)
)


def raised(sqlstate: str | None, text: str = CANARY) -> psycopg.Error:
    """Return what the driver raises for a server's message."""
    kind = psycopg.OperationalError if sqlstate is None else errors.lookup(sqlstate)
    told = SimpleNamespace(message_primary=text, message_detail=CANARY, sqlstate=sqlstate)
    error: psycopg.Error = type("Raised", (kind,), {"diag": told})(f"{text}\nDETAIL:  {CANARY}")
    return error


def refused(sqlstate: str, text: str = CANARY) -> StatementFailed:
    failure = statement_failure(raised(sqlstate, text), node="db2", broken=False)
    assert isinstance(failure, StatementFailed)
    return failure


def everything_told(failure: NodeError) -> str:
    return " ".join([failure.message, failure.hint, str(failure), repr(failure), getattr(failure, "detail", "")])


def test_every_class_of_sqlstates_that_the_driver_knows_was_looked_at():
    assert {str(kind.sqlstate)[:2] for kind in WITH_SQLSTATE} == KNOWN_CLASSES


def test_every_error_that_the_driver_raises_by_itself_was_looked_at():
    names = {kind.__name__ for kind in kinds_of_errors() if kind.sqlstate is None and kind.__name__[0] != "_"}
    assert names == KNOWN_DRIVER_ERRORS


@pytest.mark.parametrize("kind", WITH_SQLSTATE, ids=lambda kind: str(kind.sqlstate))
def test_every_refusal_keeps_its_sqlstate_and_node_and_nothing_that_was_quoted(kind):
    failure = refused(str(kind.sqlstate))
    assert failure.sqlstate == kind.sqlstate
    assert failure.node == "db2"
    assert isinstance(failure, StatementCancelled) == (kind.sqlstate in CANCELLED)
    assert CANARY not in everything_told(failure)
    assert str(kind.sqlstate) in failure.message
    assert is_corruption(failure) == (kind.sqlstate in CORRUPTION_SQLSTATES)


def driver_error(name: str) -> psycopg.Error:
    return next(kind for kind in kinds_of_errors() if kind.__name__ == name)(CANARY)


CONNECTION_ERRORS = {
    "CancellationTimeout",
    "ConnectionTimeout",
    "InterfaceError",
    "OperationalError",
    "PipelineAborted",
}


@pytest.mark.parametrize("name", sorted(CONNECTION_ERRORS))
def test_an_error_of_the_connection_without_a_sqlstate_means_that_it_is_gone(name):
    failure = statement_failure(driver_error(name), node="db2", broken=False)
    assert type(failure) is NodeLost
    assert CANARY not in everything_told(failure)


@pytest.mark.parametrize("name", sorted(KNOWN_DRIVER_ERRORS - CONNECTION_ERRORS))
def test_an_error_of_the_driver_itself_is_a_refusal_that_quotes_nothing(name):
    failure = statement_failure(driver_error(name), node="db2", broken=False)
    assert type(failure) is StatementFailed
    assert not is_corruption(failure)
    assert CANARY not in everything_told(failure)


@pytest.mark.parametrize("sqlstate", ["57P01", "40001", "XX000", "25P03", None])
def test_whatever_ended_the_connection_the_node_is_lost(sqlstate):
    failure = statement_failure(raised(sqlstate), node="db2", broken=True)
    assert type(failure) is NodeLost
    assert failure.sqlstate == sqlstate
    assert CANARY not in everything_told(failure)


KEPT = [
    ("XX001", "invalid page in block 7 of relation base/5/16384", 7),
    ("XX001", 'invalid page in block 7 of relation "base/5/16384"', 7),
    ("XX002", 'index "visit_pkey" contains corrupted page at block 3', 3),
    ("58P01", 'could not open file "base/5/16384": No such file or directory', None),
    ("58030", 'could not read blocks 9..9 in file "base/5/16384": Input/output error', 9),
    ("XX000", "missing chunk number 0 for toast value 16388 in pg_toast_16385", None),
    ("XX001", "compressed pglz data is corrupt", None),
    ("XX000", "invalid memory alloc request size 18446744073709551613", None),
]


@pytest.mark.parametrize(("sqlstate", "text", "block"), KEPT)
def test_what_tells_of_damage_is_kept_with_its_block(sqlstate, text, block):
    failure = refused(sqlstate, text)
    assert failure.detail == text
    assert text in failure.message
    assert failure.block == block
    assert is_corruption(failure)


QUOTING = [
    'unrecognized token: "{}"',
    'corrupt value "{}" in column',
    'invalid attribute value "{}"',
    'cache lookup failed for "{}"',
    'could not read "{}"',
    "unrecognized input '{}'",
]


@pytest.mark.parametrize("sqlstate", sorted([*CORRUPTION_SQLSTATES, "XX000"]))
@pytest.mark.parametrize("text", QUOTING)
def test_no_value_that_a_server_quotes_is_kept(sqlstate, text):
    assert CANARY not in everything_told(refused(sqlstate, text.format(CANARY)))


@given(st.sampled_from([str(kind.sqlstate) for kind in WITH_SQLSTATE]), st.text(max_size=40))
def test_a_refusal_never_spans_more_than_one_line(sqlstate, text):
    assert "\n" not in refused(sqlstate, f"invalid page\n{text}").message


def test_an_internal_error_of_unknown_wording_is_no_corruption():
    failure = refused("XX000", "failed to do something")
    assert not is_corruption(failure)
    assert failure.detail == ""


@pytest.mark.parametrize("sqlstate", ["22012", "42501", "53200", "54000", "57014", "08006"])
def test_a_refusal_of_another_kind_is_no_corruption_whatever_it_says(sqlstate):
    assert not is_corruption(refused(sqlstate, "invalid page in block 7"))


def test_a_deadline_and_a_conflict_may_be_tried_again():
    for sqlstate in CANCELLED:
        assert isinstance(refused(sqlstate), StatementCancelled)


CONNECTING = [
    ("28P01", "", AuthenticationRefused),
    ("28000", "", AuthenticationRefused),
    (None, 'password authentication failed for user "x"', AuthenticationRefused),
    (None, 'no pg_hba.conf entry for host "10.0.0.1"', AuthenticationRefused),
    (None, 'FATAL:  role "audit" does not exist', AuthenticationRefused),
    (None, 'FATAL:  role "audit" is not permitted to log in', AuthenticationRefused),
    (None, 'FATAL:  pg_hba.conf rejects connection for host "[local]", user "audit"', AuthenticationRefused),
    (None, 'FATAL:  Peer authentication failed for user "audit"', AuthenticationRefused),
    (None, 'FATAL:  permission denied for database "x"', AuthenticationRefused),
    (None, "fe_sendauth: no password supplied", AuthenticationRefused),
    ("53300", "", ConnectionsExhausted),
    (None, "sorry, too many clients already", ConnectionsExhausted),
    (None, "remaining connection slots are reserved", ConnectionsExhausted),
    (None, 'too many connections for role "x"', ConnectionsExhausted),
    ("3D000", "", DatabaseMissing),
    (None, 'database "x" does not exist', DatabaseMissing),
    ("57P03", "", NodeStarting),
    (None, "the database system is starting up", NodeStarting),
    (None, "Connection refused", NodeUnreachable),
    (None, "something never heard of", NodeUnreachable),
    ("08006", "", NodeUnreachable),
]


@pytest.mark.parametrize(("sqlstate", "text", "expected"), CONNECTING)
def test_a_connection_that_fails_says_what_to_do_and_quotes_nothing(sqlstate, text, expected):
    failure = connect_failure(raised(sqlstate, f"{text} {CANARY}"), node="db2", address="db2.internal:5432")
    assert type(failure) is expected
    assert failure.node == "db2"
    assert "db2.internal:5432" in failure.message
    assert failure.hint.endswith(".")
    assert CANARY not in everything_told(failure)


@pytest.mark.parametrize("kind", WITH_SQLSTATE, ids=lambda kind: str(kind.sqlstate))
def test_no_sqlstate_lets_a_failed_connection_quote_anything(kind):
    failure = connect_failure(raised(str(kind.sqlstate)), node="db2", address="db2.internal:5432")
    assert CANARY not in everything_told(failure)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("connection to server at x failed: Connection refused", "connection refused"),
        ("connection failed: No such file or directory", "no such socket"),
        ("connection timeout expired", "timed out"),
        ('could not translate host name "x" to address', "unknown host name"),
        ("failed to resolve host 'x'", "unknown host name"),
        ("SSL error: certificate verify failed", "certificate not accepted"),
        ("server does not support SSL, but SSL was required", "TLS could not be agreed"),
    ],
)
def test_a_connection_that_fails_names_its_cause(text, cause):
    assert f"({cause})" in connect_failure(raised(None, text), node="db2", address="x:1").message
