"""Each node is examined by itself, errors become lines of the report, and the command to type holds no secret."""

import shlex
from pathlib import Path

import pytest

from replcheck.audit.options import AuditOptions
from replcheck.cli.arguments import DoctorArguments
from replcheck.cli.doctor_run import audit_command
from replcheck.cli.options import Format
from replcheck.doctor.facts import Failure
from replcheck.errors import (
    AuthenticationRefused,
    ConnectionsExhausted,
    DatabaseMissing,
    NodeError,
    NodeLost,
    NodeUnfit,
    NodeUnreachable,
    UsageError,
)
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.postgres.dsn import parse as dsn_words
from replcheck.postgres.session import Session
from replcheck.runs import doctor as use_case
from replcheck.runs.doctor import examine, run_doctor
from replcheck.runs.request import AuditRequest
from tests.core.doctors import rights

TARGET = NodeTarget(name="db2", dsn="host=db2,db2b port=6432 password=canary", expected_role=NodeRole.STANDBY)
REQUEST = AuditRequest(cluster="clinic", targets=(TARGET,), options=AuditOptions(databases=("clinic",)))


class Closing:
    """Stands for a session and remembers whether it was closed."""

    closed = False

    async def close(self) -> None:
        self.closed = True


def raising(error: BaseException):
    async def failing(*_: object, **__: object) -> Session:
        raise error

    return failing


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (NodeUnreachable, "unreachable"),
        (AuthenticationRefused, "refused"),
        (ConnectionsExhausted, "connections"),
        (DatabaseMissing, "no_database"),
        (NodeUnfit, "too_old"),
        (NodeLost, "failed"),
    ],
)
async def test_why_a_node_can_not_be_reached_is_told_without_its_name(monkeypatch, kind, code):
    error = kind('node "db2" is not what it was', node="db2", hint="Look at it.")
    monkeypatch.setattr(use_case, "open_session", raising(error))
    exam = await examine(TARGET, AuditOptions())
    assert exam.failure is not None
    assert (exam.failure.code, exam.failure.what, exam.failure.hint) == (code, "is not what it was", "Look at it.")
    assert (exam.address, exam.hosts, exam.facts) == ("db2:6432,db2b:6432", ("db2", "db2b"), None)
    assert "canary" not in repr(exam)


@pytest.mark.parametrize(("error", "code"), [(NodeUnfit, "pooler"), (NodeLost, "failed")])
async def test_what_was_read_before_a_failure_is_kept_and_the_session_closed(monkeypatch, error, code):
    session = Closing()

    async def opened(*_: object, **__: object) -> Closing:
        return session

    async def read(*_: object) -> object:
        return rights()

    monkeypatch.setattr(use_case, "open_session", opened)
    monkeypatch.setattr(use_case, "read_rights", read)
    monkeypatch.setattr(use_case, "read_facts", raising(error("it broke", node="db2")))
    exam = await examine(TARGET, AuditOptions())
    assert exam.failure is not None
    assert (exam.failure.code, exam.rights) == (code, rights())
    assert session.closed


async def test_a_database_is_entered_once_the_session_before_has_left(monkeypatch):
    full = ConnectionsExhausted("no free connection", node="db2")
    answers = iter([full, full, Closing()])
    tried = []

    async def opened(target: NodeTarget, *, database: str, **_: object) -> object:
        tried.append(database)
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(use_case, "open_session", opened)
    monkeypatch.setattr(use_case, "read_database", raising(NodeLost("it broke", node="db2")))
    monkeypatch.setattr(use_case, "_LEAVING_S", 0)
    failed = await use_case._examine_database(TARGET, "clinic")
    assert tried == ["clinic"] * 3
    assert isinstance(failed, Failure)
    assert failed.code == "failed"
    monkeypatch.setattr(use_case, "open_session", raising(full))
    crowded = await use_case._examine_database(TARGET, "clinic")
    assert isinstance(crowded, Failure)
    assert crowded.code == "connections"


def test_a_pattern_is_no_mistake_where_no_node_could_be_asked(monkeypatch):
    monkeypatch.setattr(use_case, "open_session", raising(NodeUnreachable("nobody answers", node="db2")))
    result = run_doctor(REQUEST, command="replcheck audit")
    assert [check.code for check in result.checks] == ["unreachable", "replicas"]
    assert (result.exit_status, result.cost, result.command) == (3, None, "replcheck audit")


def test_what_is_no_fault_of_a_node_is_raised(monkeypatch):
    monkeypatch.setattr(use_case, "open_session", raising(UsageError("no such thing")))
    with pytest.raises(UsageError):
        run_doctor(REQUEST, command="")
    assert issubclass(NodeUnfit, NodeError)


def arguments(**changes: object) -> DoctorArguments:
    given = {
        "primary": None,
        "replicas": (),
        "config": None,
        "jobs": None,
        "databases": (),
        "tables": (),
        "excludes": (),
        "catalogs": None,
        "format": Format.HUMAN,
        "output": None,
        "quiet": False,
        "verbose": False,
    }
    return DoctorArguments(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, []),
        ({"config": Path("my clinic.toml")}, ["--config", "my clinic.toml"]),
        ({"primary": "db1", "replicas": ("db2", "db3")}, ["--primary", "db1", "--replica", "db2", "--replica", "db3"]),
        (
            {"jobs": 4, "databases": ("a*",), "tables": ("t",), "excludes": ("x", "y"), "catalogs": False},
            [*("--jobs", "4", "--database", "a*", "--table", "t", "--exclude", "x", "--exclude", "y"), "--no-catalogs"],
        ),
    ],
)
def test_the_audit_to_type_asks_for_the_same(given, words):
    command, left_out = audit_command(arguments(**given))
    assert shlex.split(command) == ["replcheck", "audit", *words]
    assert left_out == ()


@pytest.mark.parametrize(
    "dsn",
    [
        r"host=db1 user='o\'brien x' password=canary options=-ccanary",
        "postgresql://o%27brien%20x:canary@db1/?options=-ccanary",
    ],
)
def test_the_audit_to_type_holds_no_secret_and_names_what_it_lacks(dsn):
    command, left_out = audit_command(arguments(primary=dsn, replicas=("host=db2 passfile=/p",)))
    assert "canary" not in command
    assert left_out == ("options", "password")
    words = shlex.split(command)
    assert dsn_words(words[3]) == {"host": "db1", "user": "o'brien x"}
    assert words[4:] == ["--replica", "passfile=/p host=db2"]
