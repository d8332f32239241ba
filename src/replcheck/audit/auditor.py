"""One audit from the first connection to the result."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from replcheck import __version__
from replcheck.audit.database import DatabaseAudit
from replcheck.audit.digest import Hasher, new_hasher
from replcheck.audit.handles import NodeHandle
from replcheck.audit.lanes import Anchors
from replcheck.audit.options import AuditOptions
from replcheck.audit.parity import compare_nodes
from replcheck.audit.preflight import connect_nodes, independent_voters, node_report
from replcheck.audit.proof import Shortfall
from replcheck.audit.sequences import SequenceVerdict
from replcheck.audit.verdicts import (
    lone_votes,
    odd_node,
    relation_divergences,
    relation_report,
    replica_verdict,
    shortfalls,
)
from replcheck.errors import UsageError
from replcheck.events import Emit, FindingRaised, NodeObserved, Skipped
from replcheck.model.audit import (
    AlignmentReport,
    AuditResult,
    DifferenceKind,
    Divergence,
    Finding,
    NotChecked,
    RelationKind,
    RelationReplica,
    RelationReport,
    ReplicaReport,
    Scope,
)
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Outcome, Verdict, worst, worst_verdict
from replcheck.postgres import advice
from replcheck.postgres.catalog import Relation
from replcheck.postgres.digests import rows_query
from replcheck.postgres.nodes import Database, read_databases

_TEMPLATE0 = "template0"


@dataclass(slots=True)
class _Gathered:
    """What the databases brought, one after the other."""

    relations: list[RelationReport] = field(default_factory=list)
    divergences: list[Divergence] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    not_checked: list[NotChecked] = field(default_factory=list)
    alignments: dict[str, list[AlignmentReport]] = field(default_factory=dict)
    votes: list[str | None] = field(default_factory=list)
    in_scope: int = 0
    """Relations that the patterns let in, checked or not."""


async def audit_cluster(
    targets: Sequence[NodeTarget],
    options: AuditOptions,
    *,
    run_id: str,
    cluster: str,
    emit: Emit,
    stop: asyncio.Event,
) -> AuditResult:
    """Prove, row by row, that the replicas among `targets` are transactionally consistent copies of the primary.

    Raises a ReplcheckError where the audit cannot begin. Once it has begun it always returns a result; where `stop` is
    set meanwhile, what was not proven by then is unchecked and `stopped` says why.
    """
    audit = _Audit(options, run_id=run_id, cluster=cluster, emit=emit, stop=stop)
    nodes = await connect_nodes(targets, options, emit)
    try:
        return await audit.run(nodes)
    finally:
        await asyncio.gather(*(node.close() for node in nodes))


class _Audit:
    def __init__(self, options: AuditOptions, *, run_id: str, cluster: str, emit: Emit, stop: asyncio.Event) -> None:
        self._options = options
        self._run_id = run_id
        self._cluster = cluster
        self._emit = emit
        self._stop = stop
        self._hasher: Hasher = new_hasher(options.level)
        self._anchors = Anchors()
        self._gathered = _Gathered()
        self.started_at = datetime.now(UTC)

    async def run(self, nodes: list[NodeHandle]) -> AuditResult:
        for node in nodes:
            self._emit(NodeObserved(at=datetime.now(UTC), node=node_report(node, nodes)))
        for finding in compare_nodes(nodes[0].facts, [node.facts for node in nodes[1:]]):
            self._find(finding)
        databases = await self._databases(nodes[0])
        shared_in = next((database.name for database in databases), None)
        for database in databases:
            await self._audit_database(database.name, nodes, shared_here=database.name == shared_in)
        self._check_patterns_matched()
        return self._result(nodes)

    async def _databases(self, primary: NodeHandle) -> list[Database]:
        listed = await read_databases(await primary.control())
        patterns = self._options.databases
        for pattern in patterns:
            if not any(fnmatchcase(database.name, pattern) for database in listed):
                raise UsageError(
                    f'no database matches "{pattern}"', hint="Names are matched as the server spells them."
                )
        asked = [db for db in listed if not patterns or any(fnmatchcase(db.name, pattern) for pattern in patterns)]
        if self._options.tables:
            asked = [db for db in asked if any(_may_match(db.name, pattern) for pattern in self._options.tables)]
        able = []
        for database in asked:
            note = _why_not(database, primary.facts.privileges.role, self._options.excludes)
            if note is None:
                able.append(database)
            else:
                self._skip(note)
        return able

    async def _audit_database(self, name: str, nodes: list[NodeHandle], *, shared_here: bool) -> None:
        audit = DatabaseAudit(
            name,
            nodes[0],
            {node.name: node for node in nodes[1:]},
            hasher=self._hasher,
            anchors=self._anchors,
            options=self._options,
            emit=self._emit,
            shared_here=shared_here,
        )
        work = asyncio.create_task(_whole(audit))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await audit.cancel()
                work.cancel()
            besides = (await asyncio.gather(work, return_exceptions=True))[0]
            if isinstance(besides, Exception):
                raise besides
        finally:
            stopping.cancel()
            await audit.close()
        audit.stop(_left_over(nodes[0], stopped=self._stop.is_set()))
        self._gather(audit, name, nodes, besides if isinstance(besides, _Besides) else _Besides({}, []))

    def _gather(self, audit: DatabaseAudit, name: str, nodes: list[NodeHandle], besides: "_Besides") -> None:
        gathered, primary = self._gathered, nodes[0].name
        proofs = [proof for oid, proof in audit.queue.proofs.items() if oid not in {gone.oid for gone in audit.dropped}]
        gathered.in_scope += len(audit.plan.digested) + len(audit.plan.sequences) + len(audit.plan.not_checked)
        for proof in proofs:
            gathered.relations.append(relation_report(name, proof))
            gathered.divergences += relation_divergences(name, proof, primary)
        gathered.votes += lone_votes(proofs)
        gathered.not_checked += audit.plan.not_checked
        for dropped in audit.dropped:
            self._skip(_note(name, dropped.label, None, "dropped", "dropped while the audit ran", by_design=True))
        for note in shortfalls(name, proofs):
            self._skip(note)
        self._gather_sequences(audit, name, nodes, besides.sequences)
        self._gather_extras(audit, name)
        for finding in besides.findings:
            self._find(finding)
        for replica, reports in audit.alignments.items():
            gathered.alignments.setdefault(replica, []).extend(reports)
        if not audit.planned:
            lack = _left_over(nodes[0], stopped=self._stop.is_set())
            for node in nodes[1:]:
                reason = (node.gone or lack).reason
                self._skip(_note(name, None, node.name, (node.gone or lack).code, f"the database: {reason}"))

    def _gather_sequences(
        self,
        audit: DatabaseAudit,
        database: str,
        nodes: Sequence[NodeHandle],
        verdicts: Mapping[str, Mapping[int, SequenceVerdict]],
    ) -> None:
        for sequence in audit.plan.sequences:
            replicas = []
            for node in nodes[1:]:
                lack = node.gone or _left_over(nodes[0], stopped=self._stop.is_set())
                unread = SequenceVerdict(verdict=lack.verdict, reason=lack.reason)
                found = verdicts.get(node.name, {}).get(sequence.oid, unread)
                replicas.append(RelationReplica(node=node.name, verdict=found.verdict))
                if found.verdict is Verdict.DIVERGED:
                    self._gathered.votes.append(None)
                    self._gathered.divergences.append(
                        Divergence(
                            database=database,
                            relation=sequence.label,
                            node=node.name,
                            kind=DifferenceKind.UNREADABLE if found.sqlstate else DifferenceKind.CHANGED,
                            ranges=(),
                            count=1,
                            capped=False,
                            sqlstate=found.sqlstate,
                            block=None,
                            query=rows_query(sequence, ()),
                            what=found.reason,
                        )
                    )
                elif found.verdict is not Verdict.CONSISTENT:
                    self._skip(_note(database, sequence.label, node.name, "sequence", found.reason))
            self._gathered.relations.append(_sequence_report(database, sequence, tuple(replicas)))

    def _gather_extras(self, audit: DatabaseAudit, database: str) -> None:
        for node, relations in audit.extras.items():
            for relation in relations.values():
                self._gathered.divergences.append(
                    Divergence(
                        database=database,
                        relation=relation.label,
                        node=node,
                        kind=DifferenceKind.EXTRA,
                        ranges=(),
                        count=0,
                        capped=False,
                        sqlstate=None,
                        block=None,
                        query="",
                        what="the relation exists only there",
                    )
                )

    def _check_patterns_matched(self) -> None:
        if self._options.tables and not self._gathered.in_scope and not self._stop.is_set():
            raise UsageError(
                f"no relation matches {', '.join(repr(pattern) for pattern in self._options.tables)}",
                hint="Patterns are relation, schema.relation or database.schema.relation, with * and ?.",
            )

    def _find(self, finding: Finding) -> None:
        self._gathered.findings.append(finding)
        self._emit(FindingRaised(at=datetime.now(UTC), finding=finding))

    def _skip(self, note: NotChecked) -> None:
        self._gathered.not_checked.append(note)
        self._emit(Skipped(at=datetime.now(UTC), what=note))

    def _result(self, nodes: list[NodeHandle]) -> AuditResult:
        gathered, finished = self._gathered, datetime.now(UTC)
        for node in nodes:
            if node.restarts:
                what = (
                    "it was restarted while the audit ran"
                    if node.restarts == 1
                    else (f"it was restarted {node.restarts} times while the audit ran")
                )
                self._find(Finding(code="restarted", node=node.name, what=what, outcome=Outcome.PROVEN))
        replicas = tuple(self._replica(node, nodes) for node in nodes[1:])
        stopped = "the run was stopped" if self._stop.is_set() else ""
        verdict = _run_verdict(replicas, gathered, stopped=bool(stopped))
        compared = [relation for relation in gathered.relations if relation.kind is not RelationKind.SEQUENCE]
        return AuditResult(
            run_id=self._run_id,
            started_at=self.started_at,
            finished_at=finished,
            tool_version=__version__,
            encoding=self._hasher.encoding.name,
            level=self._options.level.value,
            cluster=self._cluster,
            scope=Scope(
                databases=self._options.databases,
                tables=self._options.tables,
                excludes=self._options.excludes,
                catalogs=self._options.catalogs,
            ),
            verdict=verdict,
            primary=node_report(nodes[0], nodes),
            replicas=replicas,
            odd_node=odd_node(gathered.divergences, gathered.votes, independent_voters(nodes)),
            relations=tuple(gathered.relations),
            divergences=tuple(gathered.divergences),
            findings=tuple(gathered.findings),
            not_checked=tuple(gathered.not_checked),
            stopped=stopped,
            rows=sum(relation.rows or 0 for relation in compared),
            size_bytes=sum(relation.size_bytes for relation in compared),
        )

    def _replica(self, node: NodeHandle, nodes: list[NodeHandle]) -> ReplicaReport:
        gathered = self._gathered
        mine = [
            replica.verdict
            for relation in gathered.relations
            for replica in relation.replicas
            if replica.node == node.name
        ]
        if any(found.node == node.name for found in gathered.divergences):
            mine.append(Verdict.DIVERGED)
        unread = any(not note.by_design and note.node in (None, node.name) for note in gathered.not_checked)
        incomplete = any(note.code in _PARTIAL_CODES and note.node == node.name for note in gathered.not_checked)
        lack = node.gone or nodes[0].gone
        verdict = replica_verdict(mine, lack=lack, unread=unread and not incomplete)
        return ReplicaReport(
            node=node_report(node, nodes),
            verdict=verdict,
            reason=_reason(verdict, lack, mine),
            alignments=tuple(gathered.alignments.get(node.name, ())),
        )


_PARTIAL_CODES = frozenset({"left_behind", "in_flight", "unsteady", "redefined", "locked", "conflict", "sequence"})


@dataclass(frozen=True, slots=True)
class _Besides:
    sequences: Mapping[str, Mapping[int, SequenceVerdict]]
    findings: list[Finding]


async def _whole(audit: DatabaseAudit) -> _Besides:
    await audit.run()
    return _Besides(await audit.bracket(), await audit.compare_software())


def _run_verdict(replicas: Sequence[ReplicaReport], gathered: _Gathered, *, stopped: bool) -> Verdict:
    outcomes = [replica.verdict.outcome for replica in replicas]
    outcomes += [finding.outcome for finding in gathered.findings]
    outcomes += [Outcome.REFUTED for _ in gathered.divergences]
    if stopped:
        outcomes.append(Outcome.UNCHECKED)
    return {verdict.outcome: verdict for verdict in Verdict}[worst(outcomes)]


def _reason(verdict: Verdict, lack: Shortfall | None, relations: Sequence[Verdict]) -> str:
    if verdict is Verdict.CONSISTENT:
        return ""
    if verdict is Verdict.DIVERGED:
        return f"{relations.count(Verdict.DIVERGED)} relations differ"
    if lack is not None:
        return lack.reason
    count = sum(found is verdict for found in relations)
    return f"{count} relations are {verdict.value}" if count else "something in scope could not be checked"


def _left_over(primary: NodeHandle, *, stopped: bool) -> Shortfall:
    if stopped:
        return Shortfall(code="stopped", reason="the run was stopped", verdict=Verdict.UNCHECKED)
    if primary.gone is not None:
        return Shortfall(
            code="primary_lost",
            reason=f"the primary: {primary.gone.reason}",
            verdict=Verdict.UNCHECKED,
            hint=primary.gone.hint,
        )
    return Shortfall(code="unfinished", reason="the audit ended before it was read", verdict=Verdict.UNCHECKED)


def _sequence_report(database: str, sequence: Relation, replicas: tuple[RelationReplica, ...]) -> RelationReport:
    return RelationReport(
        database=database,
        schema=sequence.schema,
        name=sequence.name,
        kind=RelationKind.SEQUENCE,
        verdict=worst_verdict(replica.verdict for replica in replicas),
        rows=1,
        chunks=1,
        size_bytes=sequence.size_bytes,
        replicas=replicas,
    )


def _why_not(database: Database, role: str, excludes: Sequence[str]) -> NotChecked | None:
    name = database.name
    if any(fnmatchcase(f"{name}.*.*", pattern) for pattern in excludes):
        return _note(name, None, None, "excluded", "excluded by the user", by_design=True)
    if name == _TEMPLATE0 and not database.allows_connections:
        return _note(name, None, None, "template", "the pristine template, which lets nobody in", by_design=True)
    if not database.allows_connections:
        return _note(name, None, None, "no_connections", "the database lets nobody in")
    if not database.valid:
        return _note(name, None, None, "invalid_database", "the database is half dropped", hint="Drop it.")
    if not database.may_connect:
        hint = advice.grant_connect(role, name)
        return _note(name, None, None, "privilege", "the role may not connect to the database", hint=hint)
    return None


def _may_match(database: str, pattern: str) -> bool:
    parts = pattern.split(".")
    return len(parts) < 3 or fnmatchcase(database, parts[0])


def _note(
    database: str,
    relation: str | None,
    node: str | None,
    code: str,
    reason: str,
    *,
    by_design: bool = False,
    hint: str = "",
) -> NotChecked:
    return NotChecked(
        database=database, relation=relation, node=node, code=code, reason=reason, by_design=by_design, hint=hint
    )
