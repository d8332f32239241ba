"""Connect to every node and make sure that together they can be audited, before any row is read.

What prevents an audit is one error each: it names the node and says what to do. Roles are observed; what the
configuration expects must fit.
"""

import asyncio
from collections.abc import Sequence

from replcheck.audit.handles import NodeHandle
from replcheck.audit.options import AuditOptions
from replcheck.errors import ConnectionsExhausted, NodeError, NodeUnfit, UsageError
from replcheck.events import Emit
from replcheck.model.node import NodeReport, NodeRole, NodeTarget
from replcheck.model.wal import Lsn
from replcheck.postgres import dsn
from replcheck.postgres.nodes import NodeFacts, read_facts
from replcheck.postgres.session import Limits, Session, open_session


async def connect_nodes(targets: Sequence[NodeTarget], options: AuditOptions, emit: Emit) -> list[NodeHandle]:
    """Return a handle for each node, the primary first.

    Raises UsageError where there are too few nodes, NodeUnreachable, AuthenticationRefused, NodeUnfit or
    ConnectionsExhausted; nothing stays open then.
    """
    if len(targets) < 2:
        raise UsageError(
            "an audit needs a primary and at least one replica",
            hint="Add --replica DSN, or the replica to the nodes of the configuration.",
        )
    limits = Limits(statement_s=options.max_snapshot_age_s, transaction_s=options.max_snapshot_age_s)
    opened = await asyncio.gather(
        *(open_session(target, purpose="control", limits=limits) for target in targets), return_exceptions=True
    )
    sessions = [session for session in opened if isinstance(session, Session)]
    try:
        for failure in opened:
            if isinstance(failure, NodeError) and len(sessions) > 1:
                failure.hint = f"{failure.hint} {_WITHOUT_IT}".lstrip()
            if isinstance(failure, BaseException):
                raise failure
        facts = await asyncio.gather(*(read_facts(session) for session in sessions))
        ordered = _check(list(zip(targets, facts, sessions, strict=True)), options)
    except BaseException:
        await asyncio.gather(*(session.close() for session in sessions))
        raise
    return [NodeHandle(target, known, session, options=options, emit=emit) for target, known, session in ordered]


_WITHOUT_IT = "The others can be audited without it: name them with --primary and --replica."
_Node = tuple[NodeTarget, NodeFacts, Session]


def _check(nodes: list[_Node], options: AuditOptions) -> list[_Node]:
    facts = [known for _, known, _ in nodes]
    _check_distinct(facts)
    primaries = [node for node in nodes if node[1].role is NodeRole.PRIMARY]
    for target, known, _ in nodes:
        if target.expected_role is not None and target.expected_role is not known.role:
            raise _unexpected_role(known)
    if not primaries:
        raise NodeUnfit(
            "none of the nodes is a primary",
            node=facts[0].name,
            hint="Name the primary too: standbys are compared with it, not with one another.",
        )
    if len(primaries) > 1:
        names = ", ".join(f'"{known.name}"' for _, known, _ in primaries)
        raise NodeUnfit(
            f"more than one node is a primary: {names}",
            node=primaries[1][1].name,
            hint="A replica that was promoted is no copy any more; if nobody promoted it, this is a split brain.",
        )
    for known in facts:
        _check_cluster(primaries[0][1], known)
        _check_storage(known)
        _check_connections(known, options)
    return primaries + [node for node in nodes if node is not primaries[0]]


def _unexpected_role(known: NodeFacts) -> NodeError:
    if known.role is NodeRole.PRIMARY:
        return NodeUnfit(
            f'node "{known.name}" was given as a replica, but it is a primary',
            node=known.name,
            hint="It was promoted, or its address is that of another server.",
        )
    return NodeUnfit(
        f'node "{known.name}" was given as the primary, but it is a standby',
        node=known.name,
        hint="After a switch-over, name the new primary.",
    )


def _check_distinct(facts: Sequence[NodeFacts]) -> None:
    for number, known in enumerate(facts):
        for other in facts[:number]:
            if known.identity.same_start(other.identity):
                raise NodeUnfit(
                    f'nodes "{other.name}" and "{known.name}" are one and the same server',
                    node=known.name,
                    hint="A server compared with itself is always consistent: give each node its own address.",
                )


def _check_cluster(primary: NodeFacts, known: NodeFacts) -> None:
    if known.identity.system_identifier != primary.identity.system_identifier:
        raise NodeUnfit(
            f'node "{known.name}" is no physical replica of node "{primary.name}": its system identifier is'
            f" {known.identity.system_identifier}, not {primary.identity.system_identifier}",
            node=known.name,
            hint="Check the address; it belongs to another cluster.",
        )


def _check_storage(known: NodeFacts) -> None:
    if known.role is NodeRole.STANDBY and known.shared_storage:
        raise NodeUnfit(
            f'node "{known.name}" is a reader of {known.shared_storage}, which shares the storage of its primary',
            node=known.name,
            hint="A reader of shared storage is no copy: there is nothing to compare.",
        )


def _check_connections(known: NodeFacts, options: AuditOptions) -> None:
    needed = sessions_needed(options, known.role)
    if known.free_connections < needed:
        raise ConnectionsExhausted(
            f'node "{known.name}" has {max(known.free_connections, 0)} free connections, the audit needs {needed} more',
            node=known.name,
            hint="Lower --jobs, or raise max_connections there.",
        )


def sessions_needed(options: AuditOptions, role: NodeRole) -> int:
    """Return how many connections an audit needs at once on a node, beside the one that it opens first.

    One for each lane. Indexes are checked when the lanes are gone: over one on each node, and one more on the primary
    while what a standby reported is looked at again.
    """
    checks = (2 if role is NodeRole.PRIMARY else 1) if options.indexes else 0
    return max(options.jobs, checks)


def node_report(handle: NodeHandle, nodes: Sequence[NodeHandle]) -> NodeReport:
    """Return a node as it was observed when the run began; `nodes` are all of them, the primary first."""
    facts, primary = handle.facts, nodes[0].facts
    lag = None
    if facts.role is NodeRole.STANDBY and facts.lsn is not None and primary.lsn is not None:
        lag = max(0, primary.lsn - facts.lsn)
    return NodeReport(
        name=facts.name,
        role=facts.role,
        server_version=facts.version,
        server_version_num=facts.version_num,
        system_identifier=facts.identity.system_identifier,
        timeline=facts.timeline,
        lsn=Lsn(facts.lsn) if facts.lsn is not None else None,
        lag_bytes=lag,
        address=dsn.public_address(handle.target.dsn),
        upstream=upstream_of(handle, nodes),
    )


def upstream_of(handle: NodeHandle, nodes: Sequence[NodeHandle]) -> str | None:
    """Return the name of the node that a standby streams from, None where it is none of these or can't be told."""
    if handle.facts.upstream is None:
        return None
    host, port = handle.facts.upstream
    for other in nodes:
        hosts = {other.facts.identity.host, *dsn.hosts(other.target.dsn)}
        if other is not handle and port == other.facts.identity.port and host in hosts:
            return other.name
    return None


def independent_voters(nodes: Sequence[NodeHandle]) -> int:
    """Return how many nodes vote independently: those that took part to the end and stream from no other standby."""
    primary = nodes[0].name
    present = [node for node in nodes if node.gone is None]
    return sum(upstream_of(node, nodes) in (None, primary) for node in present)
