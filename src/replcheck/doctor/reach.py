"""How a node is reached: transport, connections that are free, and what could cut sessions that wait. Pure."""

from collections.abc import Iterator

from replcheck.audit.options import AuditOptions
from replcheck.audit.preflight import sessions_needed
from replcheck.doctor.facts import Failure, NodeExam, Place
from replcheck.model.doctor import Check
from replcheck.model.names import quoted
from replcheck.model.units import format_duration
from replcheck.postgres import advice
from replcheck.postgres.examination import Connections, DatabaseFacts, Transport
from replcheck.postgres.nodes import NodeFacts

_FEW_LEFT = 3
_SHORT_IDLE_LIMIT_S = 300.0
_VERIFIED = "verify-full"


def transport_word(transport: Transport) -> str:
    """Return how a connection travels, in one word."""
    if transport.unix_socket:
        return "socket"
    if transport.tls:
        return f"TLS {transport.sslmode}"
    if transport.gss:
        return "gss"
    return "loopback" if transport.loopback else "plain"


def transport_checks(transport: Transport, place: Place) -> Iterator[Check]:
    """Warn where somebody on the way could read along, or answer in the server's place."""
    remedy = (
        f"Put sslmode={_VERIFIED} into the connection string, and sslrootcert=FILE with the authority's certificate."
    )
    if transport.unix_socket or transport.loopback:
        yield place.ok("tls", f"the connection goes over {'a Unix socket' if transport.unix_socket else 'loopback'}")
    elif transport.gss:
        yield place.ok("tls", "the connection is encrypted by GSSAPI, which knows both ends")
    elif not transport.tls:
        yield place.warning("tls", "the connection is not encrypted, and anybody on the way could answer", remedy)
    elif transport.sslmode == _VERIFIED:
        yield place.ok("tls", f"the connection is encrypted ({transport.tls}) and the server's name verified")
    else:
        less = "its certificate is verified, but not its name"
        if transport.sslmode != "verify-ca":
            less = "but the server need not prove who it is"
        yield place.warning(
            "tls", f"the connection is encrypted ({transport.tls}), {less} (sslmode={transport.sslmode})", remedy
        )


def host_checks(exam: NodeExam, place: Place) -> Iterator[Check]:
    """Warn where one name stands for several servers."""
    if len(exam.hosts) > 1:
        yield place.warning(
            "several_hosts",
            f"its connection string names {len(exam.hosts)} hosts: an audit ends where another one answers",
            "Give each node the address of one server.",
        )


def free_connections(exam: NodeExam) -> int | None:
    """Return how many connections an audit could take, the one that asks included; None where nobody counted."""
    if exam.server is None or exam.facts is None:
        return None
    connections = exam.server.connections
    limited = connections.free
    if exam.facts.privileges.superuser:
        limited = connections.most - connections.used
    return max(0, min(limited, exam.facts.free_connections)) + 1


def connection_checks(exam: NodeExam, options: AuditOptions, place: Place) -> Iterator[Check]:
    """Say whether an audit finds room: one connection for control, and those of its lanes or of its index checks."""
    free = free_connections(exam)
    if free is None or exam.server is None or exam.facts is None:
        return
    sessions = sessions_needed(options, exam.facts.role)
    needed, told = 1 + sessions, _how_many(exam.server.connections, free)
    what = f"an audit needs {needed} connections, {told}"
    if free < needed:
        remedy = "Lower --jobs, end sessions nobody needs, or raise max_connections (or the role's CONNECTION LIMIT)."
        yield place.missing("connections", what, remedy)
    elif free - needed < _FEW_LEFT:
        yield place.warning("connections", f"{what}: hardly any is left for others", "Lower --jobs.")
    else:
        yield place.ok("connections", what)
    if exam.facts.privileges.superuser:
        return
    for name, found in exam.visited.items():
        if not isinstance(found, Failure) and 0 <= found.connection_limit < found.connections - 1 + sessions:
            yield place.of(name).missing(
                "database_connections",
                f"{_sessions(options.jobs, sessions)} do not fit: its CONNECTION LIMIT is {found.connection_limit},"
                f" {found.connections - 1} in use",
                "Lower --jobs, or raise the limit of the database.",
            )


def session_checks(sessions: dict[str, int], place: Place) -> Iterator[Check]:
    """Warn where other runs of replcheck are at work."""
    if sessions:
        count = sum(sessions.values())
        names = ", ".join(sorted(sessions))
        yield place.warning(
            "other_runs",
            f"{count} session{'s' if count > 1 else ''} of other runs of replcheck: {names}",
            "Two audits at a time share the servers' time: wait for the other, or end it.",
        )


def idle_checks(found: DatabaseFacts, facts: NodeFacts, place: Place) -> Iterator[Check]:
    """Warn where the server would cut sessions that wait for one another.

    Limits on statements and transactions need no look: every session of an audit sets its own.
    """
    if 0 < found.idle_session_timeout_s < _SHORT_IDLE_LIMIT_S:
        yield place.warning(
            "idle_session_timeout",
            f"idle_session_timeout is {format_duration(found.idle_session_timeout_s)} for role"
            f" {quoted(facts.privileges.role)}: the server cuts sessions that wait for a slower node",
            "Lift it for this role.",
            advice.lift_idle_limit(facts.privileges.role),
        )


def _sessions(lanes: int, needed: int) -> str:
    return f"{lanes} lanes" if needed == lanes else f"{needed} sessions that check indexes"


def _how_many(connections: Connections, free: int) -> str:
    limit = f"; the role may have {connections.role_limit}" if connections.role_limit >= 0 else ""
    others = connections.used - 1
    return (
        f"{free} can be had (max_connections {connections.most}, {connections.reserved} reserved, {others} in use"
        f" by others{limit})"
    )
