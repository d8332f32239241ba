"""What an audit would do, found out from catalogs alone.

Nodes are checked, databases entered and relations sorted and cut by the functions that an audit uses. No statement here
reads a row of a user's relation, and no snapshot is kept.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from replcheck import __version__
from replcheck.audit.digest import new_hasher
from replcheck.audit.filters import RelationFilters
from replcheck.audit.handles import NodeHandle
from replcheck.audit.lanes import snapshot_lifetime_s
from replcheck.audit.monitor import require_visible
from replcheck.audit.options import AuditOptions
from replcheck.audit.pace import ASSUMED_BYTES_PER_S, Pace, chunk_bytes
from replcheck.audit.plan import plan_relations
from replcheck.audit.preflight import connect_nodes, node_report, sessions_needed
from replcheck.audit.proof import RelationProof
from replcheck.audit.scope import check_filters, check_tables, databases_in_scope, scope_of
from replcheck.audit.shortfalls import DROPPED, NO_DATABASE, node_lost
from replcheck.audit.verdicts import not_checked
from replcheck.audit.worker import known_blocks
from replcheck.errors import DatabaseMissing, NodeError
from replcheck.model.audit import NotChecked
from replcheck.model.node import NodeTarget
from replcheck.model.plan import AuditPlan, Estimate, PlannedDatabase, PlannedNode, PlannedRelation, Rate, Reading
from replcheck.postgres.catalog import Relation, read_relations
from replcheck.postgres.nodes import Database, read_database_oid

ASSUMED_RATE = Rate(bytes_per_s=float(ASSUMED_BYTES_PER_S))
"""Of one lane that reads without rest; chunk sizes begin with it too."""


async def plan_cluster(targets: Sequence[NodeTarget], options: AuditOptions, *, cluster: str) -> AuditPlan:
    """Return what an audit of these targets would do, its time estimated by the assumed rate.

    Raises what an audit raises that cannot begin, and NodeError where the primary fails meanwhile. What fails on a
    replica in one database is told as not checked.
    """
    nodes = await connect_nodes(targets, options, lambda _: None)
    try:
        require_visible(nodes, options)
        databases, left_out = await databases_in_scope(nodes[0], options)
        await check_tables(nodes[0], databases, left_out, options)
        await check_filters(nodes[0], databases, left_out, RelationFilters(options.filters))
        planned = []
        for database in databases:
            plan, notes = await _plan_database(database, nodes, options, shared_here=database is databases[0])
            planned += plan
            left_out += notes
    finally:
        await asyncio.gather(*(node.close() for node in nodes))
    return AuditPlan(
        made_at=datetime.now(UTC),
        tool_version=__version__,
        encoding=new_hasher(options.level).encoding.name,
        level=options.level.value,
        cluster=cluster,
        scope=scope_of(options),
        lanes=options.jobs,
        primary=_planned_node(nodes[0], nodes, options),
        replicas=tuple(_planned_node(node, nodes, options) for node in nodes[1:]),
        databases=tuple(planned),
        not_checked=tuple(left_out),
        estimate=estimate(planned, assumed_rate(options), options.jobs),
    )


def assumed_rate(options: AuditOptions) -> Rate:
    """Return what one lane is assumed to compare, its rests included."""
    return replace(ASSUMED_RATE, bytes_per_s=ASSUMED_RATE.bytes_per_s * options.pacing.share)


def with_rate(plan: AuditPlan, rate: Rate) -> AuditPlan:
    """Return the plan with its time estimated by a measured rate."""
    return replace(plan, estimate=estimate(plan.databases, rate, plan.lanes))


def estimate(databases: Iterable[PlannedDatabase], rate: Rate, lanes: int) -> Estimate:
    """Return how long databases take, one after the other.

    A measured rate is that of a whole run. The assumed one is that of a lane: lanes share the work, but not one scan.
    """
    if rate.run_id is not None:
        return Estimate(seconds=sum(database.size_bytes for database in databases) / rate.bytes_per_s, rate=rate)
    longest = (max([database.size_bytes / lanes, *_undivided(database)]) for database in databases)
    return Estimate(seconds=sum(longest) / rate.bytes_per_s, rate=rate)


def plan_relation(proof: RelationProof, pace: Pace) -> PlannedRelation:
    """Return how a relation would be read, by cutting it as an audit does that measures the assumed rate."""
    relation, chunks, reading = proof.relation, 0, None
    while (chunk := proof.fresh(pace.chunk_blocks(proof))) is not None:
        chunks += 1
        if reading is None:
            reading = Reading.SCAN if chunk.sweep else Reading.WHOLE if chunk.whole else Reading.RANGES
            pace.measure(proof, chunk, chunk_bytes(proof, chunk) / ASSUMED_RATE.bytes_per_s)
    assert relation.kind is not None  # noqa: S101 - what is planned holds rows
    return PlannedRelation(
        schema=relation.schema,
        name=relation.name,
        kind=relation.kind,
        size_bytes=relation.total_bytes,
        blocks=proof.known_blocks,
        chunks=chunks,
        reading=reading or Reading.WHOLE,
    )


def _undivided(database: PlannedDatabase) -> list[int]:
    return [relation.size_bytes for relation in database.relations if relation.reading is not Reading.RANGES]


async def _plan_database(
    database: Database, nodes: Sequence[NodeHandle], options: AuditOptions, *, shared_here: bool
) -> tuple[list[PlannedDatabase], list[NotChecked]]:
    primary, replicas = nodes[0], nodes[1:]
    try:
        listing = {primary.name: await _relations(primary, database)}
    except DatabaseMissing:
        return [], [not_checked(database.name, None, None, DROPPED.code, DROPPED.reason, by_design=True)]
    notes = []
    listed = await asyncio.gather(*(_relations(node, database) for node in replicas), return_exceptions=True)
    for node, found in zip(replicas, listed, strict=True):
        if isinstance(found, NodeError):
            notes.append(_absent(database.name, node.name, found))
        elif isinstance(found, BaseException):
            raise found
        else:
            listing[node.name] = found
    plan = plan_relations(
        listing[primary.name].values(),
        options,
        database=database.name,
        shared_here=shared_here,
        role=primary.facts.privileges.role,
    )
    pace = Pace(options, primary.facts, [node.facts for node in replicas])
    names = [node.name for node in replicas]
    proofs = [
        RelationProof(relation, names, known_blocks=known_blocks(relation, listing, pace), sweep=pace.sweeps(relation))
        for relation in plan.digested
    ]
    planned = PlannedDatabase(
        name=database.name,
        relations=tuple(plan_relation(proof, pace) for proof in proofs),
        sequences=tuple(sequence.label for sequence in plan.sequences),
    )
    return [planned], [*plan.not_checked, *notes]


async def _relations(node: NodeHandle, database: Database) -> Mapping[int, Relation]:
    session = await node.open(database.name, "plan")
    try:
        if await read_database_oid(session) != database.oid:
            raise DatabaseMissing(f'node "{node.name}" has another database of that name', node=node.name)
        return await read_relations(session)
    finally:
        await session.close()


def _absent(database: str, node: str, error: NodeError) -> NotChecked:
    lack = NO_DATABASE if isinstance(error, DatabaseMissing) else node_lost(node, error.message)
    return not_checked(database, None, node, lack.code, f"the whole database: {lack.reason}", hint=lack.hint)


def _planned_node(handle: NodeHandle, nodes: Sequence[NodeHandle], options: AuditOptions) -> PlannedNode:
    age_s = options.max_snapshot_age_s
    if handle is not nodes[0]:
        age_s = min(age_s, snapshot_lifetime_s(handle.facts.settings, nodes[0].facts.settings))
    return PlannedNode(
        node=node_report(handle, nodes),
        # One without a snapshot is open already when the free ones are counted.
        connections_needed=1 + sessions_needed(options, handle.facts.role),
        connections_free=1 + handle.facts.free_connections,
        max_snapshot_age_s=age_s,
    )
