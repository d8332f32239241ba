"""From what was read of the nodes to what is told of them. Pure: facts in, report out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from replcheck.audit.options import AuditOptions
from replcheck.doctor import reach, rights, standby, together
from replcheck.doctor.cost import cost_of, visibility_checks
from replcheck.doctor.facts import Failure, NodeExam, Place
from replcheck.model.doctor import AuditCost, Check, NodeExamined, RoleReport
from replcheck.model.node import NodeReport
from replcheck.postgres.nodes import NodeFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Everything that the facts say."""

    nodes: tuple[NodeExamined, ...]
    together: tuple[Check, ...]
    cost: AuditCost | None


def diagnose(exams: Sequence[NodeExam], options: AuditOptions) -> Diagnosis:
    """Say what would keep an audit with these options from a proof, what is only worth a warning, and what is well."""
    cost = cost_of(exams, options)
    return Diagnosis(
        nodes=tuple(_node(exam, exams, options, cost) for exam in exams),
        together=tuple(together.cluster_checks(exams)),
        cost=cost,
    )


def _node(exam: NodeExam, exams: Sequence[NodeExam], options: AuditOptions, cost: AuditCost | None) -> NodeExamined:
    facts = exam.facts
    return NodeExamined(
        name=exam.name,
        address=exam.address,
        observed=_report(exam, exams, facts) if facts else None,
        platform=exam.platform.value,
        role=_role(facts) if facts else None,
        transport=reach.transport_word(exam.server.transport) if exam.server else "",
        connections_free=reach.free_connections(exam),
        checks=tuple(_checks(exam, exams, options, cost)),
    )


def _checks(
    exam: NodeExam, exams: Sequence[NodeExam], options: AuditOptions, cost: AuditCost | None
) -> Iterator[Check]:
    primary = together.the_primary(exams)
    granted = Place(node=exam.name, sql_node=primary.name if primary else None)
    own = Place(node=exam.name, sql_node=exam.name)
    if exam.facts is None and exam.rights is not None and exam.rights.refused_functions:
        # What was refused is known, which tells more than that something was.
        yield from rights.function_checks(exam.rights.refused_functions, exam.rights.role, granted)
    elif exam.failure is not None:
        yield own.missing(exam.failure.code, exam.failure.what, exam.failure.hint)
    if exam.facts is None or exam.rights is None:
        return
    yield from together.identity_checks(exam, exams, own)
    yield from reach.host_checks(exam, own)
    yield from rights.role_checks(exam.rights, exam.facts, granted)
    yield from rights.database_checks(exam, exam.facts.privileges.role, granted)
    yield from _database_checks(exam, exam.facts, options, granted)
    yield from reach.connection_checks(exam, options, own)
    yield from standby.setting_checks(primary, exam, exam.platform, own)
    yield from _server_checks(exam, exam.facts, primary, own)
    if cost is not None and cost.node == exam.name:
        yield from visibility_checks(cost, granted)


def _database_checks(exam: NodeExam, facts: NodeFacts, options: AuditOptions, place: Place) -> Iterator[Check]:
    role, shared_here = facts.privileges.role, True
    for name, found in exam.visited.items():
        if isinstance(found, Failure):
            continue
        here = place.of(name)
        yield from rights.function_checks(found.refused_functions, role, here)
        yield from rights.relation_checks(exam, name, found, options, shared_here=shared_here, place=here)
        yield from reach.idle_checks(found, facts, here)
        yield from rights.amcheck_checks(found.amcheck, role, here)
        shared_here = False


def _server_checks(exam: NodeExam, facts: NodeFacts, primary: NodeExam | None, own: Place) -> Iterator[Check]:
    if exam.server is None:
        return
    yield from reach.transport_checks(exam.server.transport, own)
    yield from reach.session_checks(exam.server.sessions, own)
    if exam.is_standby:
        yield from standby.standby_checks(facts, exam.server, exam.platform, own)
        yield from standby.lag_checks(standby.lag_of(exam, primary), own)
    else:
        yield from standby.primary_checks(facts, own)


def _role(facts: NodeFacts) -> RoleReport:
    may = facts.privileges
    return RoleReport(
        name=may.role,
        superuser=may.superuser,
        reads_all_data=may.superuser or may.reads_all_data,
        monitors=may.superuser or may.monitors,
        bypasses_row_security=may.superuser or may.bypasses_row_security,
    )


def _report(exam: NodeExam, exams: Sequence[NodeExam], facts: NodeFacts) -> NodeReport:
    return NodeReport(
        name=exam.name,
        role=facts.role,
        server_version=facts.version,
        server_version_num=facts.version_num,
        system_identifier=facts.identity.system_identifier,
        timeline=facts.timeline,
        lsn=facts.lsn,
        lag_bytes=standby.lag_of(exam, together.the_primary(exams)),
        address=exam.address,
        upstream=next((other.name for other in exams if _sends_to(other, exam, facts)), None),
    )


def _sends_to(other: NodeExam, exam: NodeExam, facts: NodeFacts) -> bool:
    if other is exam or other.facts is None or facts.upstream is None:
        return False
    host, port = facts.upstream
    return port == other.facts.identity.port and host in {other.facts.identity.host, *other.hosts}
