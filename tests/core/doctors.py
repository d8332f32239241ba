"""Examinations of a sound cluster, to be spoiled one fact at a time; none needs a server."""

from dataclasses import replace
from typing import Any

from replcheck.audit.options import AuditOptions
from replcheck.doctor.diagnosis import Diagnosis, diagnose
from replcheck.doctor.facts import NodeExam
from replcheck.model.doctor import Check, CheckState
from replcheck.model.node import NodeTarget
from replcheck.model.wal import Lsn
from replcheck.postgres.catalog import Relation
from replcheck.postgres.examination import (
    Administrators,
    Connections,
    DatabaseFacts,
    Platform,
    Rights,
    ServerFacts,
    Transport,
)
from replcheck.postgres.nodes import Database, Privileges
from replcheck.postgres.wal import ReplayState
from tests.core.nodes import facts
from tests.core.proofs import relation

VERIFIED = Transport(unix_socket=False, loopback=False, tls="TLSv1.3", gss=False, sslmode="verify-full")
POSITION = Lsn.parse("16/B374D848")


def rights(**changes: Any) -> Rights:
    made = Rights(
        role="auditor",
        platform=Platform.OWN,
        member_of_read_all_data=True,
        member_of_monitor=True,
        refused_functions=(),
        administrators=Administrators(),
    )
    return replace(made, **changes)


def privileges(**changes: Any) -> Privileges:
    made = Privileges(role="auditor", superuser=False, bypasses_row_security=False, reads_all_data=True, monitors=True)
    return replace(made, **changes)


def connections(**changes: Any) -> Connections:
    made = Connections(most=100, reserved=3, used=11, used_by_role=1, role_limit=-1)
    return replace(made, **changes)


def server(*, standby: bool = False, **changes: Any) -> ServerFacts:
    replay = ReplayState(received=POSITION, replayed=POSITION, paused=False, starved=True)
    made = ServerFacts(
        transport=VERIFIED,
        connections=connections(),
        sessions={},
        replay=replay if standby else None,
        receiving=True if standby else None,
    )
    return replace(made, **changes)


def database(name: str = "clinic", **changes: Any) -> Database:
    made = Database(
        name=name, allows_connections=True, valid=True, may_connect=True, encoding="UTF8", is_template=False, oid=16_400
    )
    return replace(made, **changes)


def content(*relations: Relation, **changes: Any) -> DatabaseFacts:
    made = DatabaseFacts(
        relations=relations or (relation(16_384, name="visit", size_bytes=8 << 20),),
        visible_pages={16_384: 1024},
        refused_functions=(),
        idle_session_timeout_s=0,
        connection_limit=-1,
        connections=1,
        amcheck=None,
    )
    return replace(made, **changes)


def exam(
    name: str = "db1", *, standby: bool = False, settings: dict[str, str] | None = None, **changes: Any
) -> NodeExam:
    """Return a node that was read whole; `settings` come on top of sound ones."""
    own = {"wal_log_hints": "off", "synchronous_commit": "on", "synchronous_standby_names": ""}
    made = NodeExam(
        target=NodeTarget(name=name, dsn="host=canary password=canary"),
        address=f"{name}.internal:5432",
        hosts=(f"{name}.internal",),
        rights=rights(),
        facts=facts(name, in_recovery=standby, settings=own | (settings or {}), lsn=POSITION),
        server=server(standby=standby),
        databases=(database(),),
        visited={"clinic": content()},
    )
    return replace(made, **changes)


def spoiled(of: NodeExam, **changes: Any) -> NodeExam:
    """Return an examination whose NodeFacts are changed."""
    assert of.facts is not None
    return replace(of, facts=replace(of.facts, **changes))


def sound() -> list[NodeExam]:
    return [exam(), exam("db2", standby=True), exam("db3", standby=True)]


def diagnosed(*exams: NodeExam, **options: Any) -> Diagnosis:
    return diagnose(list(exams) or sound(), AuditOptions(**options))


def checks_of(*exams: NodeExam, **options: Any) -> list[Check]:
    """Return every check of these nodes, of a sound cluster without any."""
    diagnosis = diagnosed(*exams, **options)
    return [check for node in diagnosis.nodes for check in node.checks] + list(diagnosis.together)


def bad(*exams: NodeExam, **options: Any) -> set[tuple[str, str | None, CheckState]]:
    """Return code, node and state of whatever is not in order; of a node alone, not that it has no replica."""
    alone = len(exams) == 1
    return {
        (check.code, check.node, check.state)
        for check in checks_of(*exams, **options)
        if check.state is not CheckState.OK and not (alone and check.code == "replicas")
    }


def only(code: str, *exams: NodeExam, **options: Any) -> Check:
    """Return the one check of a code that is not in order, or that of the first node where all are."""
    found = [check for check in checks_of(*exams, **options) if check.code == code]
    ill = [check for check in found if check.state is not CheckState.OK]
    assert found, code
    assert len(ill) < 2, ill
    return (ill or found)[0]
