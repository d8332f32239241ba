"""Find the primary among nodes whose roles are only observed."""

import asyncio
from collections.abc import Sequence

from replcheck.errors import NodeError, NodeUnfit, UsageError
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.postgres.nodes import read_identity
from replcheck.postgres.session import Limits, open_session


async def find_primary(nodes: Sequence[NodeTarget]) -> NodeTarget:
    """Return the one node that is a primary; those that do not answer are passed over where one is found.

    A single node is returned unasked. Raises UsageError where there is none at all, NodeUnfit where several are
    primaries or none that answers is one, and what a node's connection raises where none answers.
    """
    if not nodes:
        raise UsageError("no primary is named", hint="Give --primary DSN, or a configuration with --config FILE.")
    if len(nodes) == 1:
        return nodes[0]
    asked = await asyncio.gather(*(_role_of(node) for node in nodes), return_exceptions=True)
    failures = [answer for answer in asked if isinstance(answer, BaseException)]
    for failure in failures:
        if not isinstance(failure, NodeError):
            raise failure
    primaries = [node for node, role in zip(nodes, asked, strict=True) if role is NodeRole.PRIMARY]
    if len(primaries) > 1:
        names = ", ".join(f'"{node.name}"' for node in primaries)
        raise NodeUnfit(
            f"more than one node is a primary: {names}",
            node=primaries[1].name,
            hint="If nobody promoted one on purpose, this is a split brain. Name the right one with --primary.",
        )
    if primaries:
        return primaries[0]
    if failures:
        raise failures[0]
    raise NodeUnfit("none of the nodes is a primary", node=nodes[0].name, hint="Name the primary with --primary DSN.")


async def _role_of(node: NodeTarget) -> NodeRole:
    session = await open_session(node, purpose="roles", limits=Limits())
    try:
        identity = await read_identity(session)
    finally:
        await session.close()
    return NodeRole.STANDBY if identity.in_recovery else NodeRole.PRIMARY
