"""One audit from the first connection to the result."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from replcheck import __version__
from replcheck.audit.cluster import Cluster
from replcheck.audit.cross_check import Sampler, report_of, shortfall_of
from replcheck.audit.database import DatabaseAudit
from replcheck.audit.digest import new_hasher
from replcheck.audit.ending import INTERRUPTED, SEEN_ENOUGH, time_over
from replcheck.audit.filters import RelationFilters
from replcheck.audit.gate import Gate
from replcheck.audit.gathered import Gathered, place_of
from replcheck.audit.handles import NodeHandle
from replcheck.audit.index_verdicts import IndexFindings
from replcheck.audit.monitor import monitor, require_visible
from replcheck.audit.options import AuditOptions
from replcheck.audit.parity import compare_nodes
from replcheck.audit.plan import shared_in_scope
from replcheck.audit.preflight import connect_nodes, independent_voters, node_report
from replcheck.audit.proof import RelationProof
from replcheck.audit.restarts import MOST_REPEATS, DatabaseRun, heard_by, starts_of, still_resting
from replcheck.audit.scope import check_filters, check_tables, databases_in_scope, scope_of
from replcheck.audit.sequences import SequenceVerdict
from replcheck.audit.shortfalls import (
    DROPPED,
    NEVER_LISTED,
    NOTHING_COMPARED,
    RESTARTED,
    STILL_IN_FLIGHT,
    UNLOGGED,
    UNSHARED,
    Shortfall,
)
from replcheck.audit.verdicts import (
    extra_divergences,
    lone_votes,
    not_checked,
    note_verdict,
    odd_node,
    relation_divergences,
    relation_report,
    sequence_divergence,
    sequence_report,
    shortfalls,
)
from replcheck.errors import Interrupted, NodeError
from replcheck.events import Emit, FindingRaised, NodeObserved, ProvingBegan, Skipped
from replcheck.model.audit import (
    AuditResult,
    DifferenceKind,
    Divergence,
    Finding,
    NotChecked,
    RelationKind,
    RelationReport,
    ReplicaReport,
    Resumption,
)
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Outcome, Verdict, worst, worst_verdict
from replcheck.model.progress import Premises, Progress, TakenOver, taken_over
from replcheck.postgres.catalog import Relation
from replcheck.postgres.nodes import Database, read_databases


async def audit_cluster(
    targets: Sequence[NodeTarget],
    options: AuditOptions,
    *,
    run_id: str,
    cluster: str,
    emit: Emit,
    stop: asyncio.Event,
    gate: Gate | None = None,
    earlier: Sequence[Progress] = (),
) -> AuditResult:
    """Prove, row by row, that the replicas among `targets` are transactionally consistent copies of the primary.

    Raises a ReplcheckError where the audit cannot begin. Once it has begun it always returns a result; where `stop` is
    set meanwhile, or another reason ends it early, what was not proven by then stays so and `stopped` says why. What
    `earlier` runs, newest first, have proven and what still holds is not read again.
    """
    started_at, began = datetime.now(UTC), time.monotonic()
    nodes = await _connect(targets, options, emit, stop)
    hasher = new_hasher(options.level, [node.facts.version_num for node in nodes])
    premises = Premises(
        encoding=hasher.encoding.name,
        system_identifier=nodes[0].facts.identity.system_identifier,
        servers={node.name: node.facts.identity.start_key for node in nodes},
        primary=nodes[0].name,
        timeline=nodes[0].facts.timeline,
    )
    taken = taken_over(earlier, premises, started_at)
    cluster_ = Cluster(
        primary=nodes[0],
        replicas={node.name: node for node in nodes[1:]},
        hasher=hasher,
        options=options,
        emit=emit,
        gate=gate or Gate(),
        filters=RelationFilters(options.filters),
        sampler=Sampler(options.cross_check),
        earlier=taken.proofs,
    )
    cluster_.gate.tell(emit)
    try:
        require_visible(nodes, options)
        emit(ProvingBegan(at=datetime.now(UTC), premises=premises))
        async with _watched(cluster_, stop, began):
            return await _Audit(cluster_, run_id=run_id, name=cluster, taken=taken, started_at=started_at).run()
    finally:
        await asyncio.gather(*(node.close() for node in nodes))


@asynccontextmanager
async def _watched(cluster: Cluster, stop: asyncio.Event, began: float) -> AsyncIterator[None]:
    """Watch the servers, and end the audit when `stop` is set or its time, counted from `began`, is over."""
    halt, budget_s = cluster.halt, cluster.options.time_budget_s

    async def stopped() -> None:
        await stop.wait()
        halt.call(INTERRUPTED)

    async def over(budget_s: float) -> None:
        await asyncio.sleep(max(0.0, began + budget_s - time.monotonic()))
        halt.call(time_over(budget_s))

    async def opened() -> None:
        await halt.wait()
        cluster.gate.end()

    watching = [monitor(cluster), stopped(), opened(), *([over(budget_s)] if budget_s is not None else [])]
    tasks = [asyncio.create_task(each) for each in watching]
    try:
        yield
    finally:
        cluster.gate.end()
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error


async def _connect(
    targets: Sequence[NodeTarget], options: AuditOptions, emit: Emit, stop: asyncio.Event
) -> list[NodeHandle]:
    """Connect, unless `stop` is set before an answer has come; raise Interrupted then."""
    connecting = asyncio.create_task(connect_nodes(targets, options, emit))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not connecting.done():
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        raise Interrupted("the audit was stopped before every node had answered")
    return connecting.result()


class _Audit:
    def __init__(self, cluster: Cluster, *, run_id: str, name: str, taken: TakenOver, started_at: datetime) -> None:
        self._cluster = cluster
        self._options = cluster.options
        self._run_id = run_id
        self._name = name
        self._taken = taken
        self._halt = cluster.halt
        self._started_at = started_at
        self._gathered = Gathered()
        self._shared_found: list[Divergence] = []
        """Divergences of shared catalogs, found in databases that were dropped before they were done."""
        self._runs: dict[int, DatabaseRun] = {}
        """The last audit of each database, by oid."""
        self._told: set[NotChecked | Finding] = set()

    async def run(self) -> AuditResult:
        nodes = self._cluster.nodes
        for node in nodes:
            self._cluster.emit(NodeObserved(at=datetime.now(UTC), node=node_report(node, nodes)))
        for finding in compare_nodes(nodes[0].facts, [node.facts for node in nodes[1:]]):
            self._find(finding)
        if self._taken.lack:
            what = f"nothing of an earlier run is built upon: {self._taken.lack}"
            self._find(Finding(code="resume", node=None, what=what, outcome=Outcome.PROVEN))
        databases = await self._databases(nodes[0])
        await check_tables(nodes[0], databases, self._gathered.not_checked, self._options)
        await check_filters(nodes[0], databases, self._gathered.not_checked, self._cluster.filters)
        shared_left = shared_in_scope(self._options)
        for database in databases:
            entered = await self._audit_database(database, shared_here=shared_left)
            shared_left = shared_left and not entered
        unshared = databases[-1] if shared_left and databases else None
        unshared = await self._repeat_outdated() or unshared
        for run in self._runs.values():
            self._gathered.add(run.gathered)
        self._settle_shared(unshared)
        if not (self._gathered.relations or any(not note.by_design for note in self._gathered.not_checked)):
            nothing = NOTHING_COMPARED
            self._skip(not_checked(None, None, None, nothing.code, nothing.reason, hint=nothing.hint))
        return self._result()

    async def _repeat_outdated(self) -> Database | None:
        """Read again what was read of nodes that were started anew since; tell what could not be.

        Returns the database in which shared catalogs were to be read again, where it was dropped meanwhile.
        """
        unshared = None
        for left in reversed(range(MOST_REPEATS + 1)):
            if self._halt.called:
                break
            await asyncio.gather(*(node.look() for node in self._cluster.nodes))
            outdated = [run for run in self._runs.values() if run.outdated(self._cluster)]
            if not outdated or not left or self._cluster.over:
                break
            for run in outdated:
                entered = await self._audit_database(run.database, shared_here=run.shared_here)
                unshared = run.database if run.shared_here and not entered else unshared
        for run in self._runs.values():
            self._void(run)
        return unshared

    def _void(self, run: DatabaseRun) -> None:
        names, primary = run.outdated(self._cluster), self._cluster.primary.name
        run.gathered.void(names)
        reason = f"the primary: {RESTARTED.reason}" if primary in names else RESTARTED.reason
        for node in [None] if primary in names else sorted(names):
            note = not_checked(run.database.name, None, node, RESTARTED.code, reason, hint=RESTARTED.hint)
            self._skip(note, run.gathered)

    async def _databases(self, primary: NodeHandle) -> list[Database]:
        able, left_out = await databases_in_scope(primary, self._options)
        for note in left_out:
            self._skip(note)
        return able

    async def _audit_database(self, database: Database, *, shared_here: bool) -> bool:
        """Audit a database; return False where nothing counts of it because it was dropped meanwhile."""
        before = self._runs.pop(database.oid, None)
        earlier = (
            before.still_holding(self._cluster) if before else still_resting(self._cluster.earlier, {}, self._cluster)
        )
        run = DatabaseRun(database=database, shared_here=shared_here, starts=starts_of(self._cluster))
        cluster = heard_by(run, self._cluster, earlier)
        audit = DatabaseAudit(database.name, database.oid, cluster, shared_here=shared_here)
        besides: list[_Besides] = []
        work = asyncio.create_task(self._whole(audit, besides))
        ending = asyncio.create_task(self._halt.wait())
        try:
            await asyncio.wait({work, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await asyncio.wait({work}, timeout=ending.result().grace_s)
            if not work.done():
                await audit.cancel()
                work.cancel()
            failure = (await asyncio.gather(work, return_exceptions=True))[0]
        finally:
            ending.cancel()
            await audit.close()
        if isinstance(failure, Exception) and not self._halt.called:
            raise failure
        if self._cluster.primary.name in audit.absent and await self._database_gone(database):
            note = not_checked(database.name, None, None, DROPPED.code, DROPPED.reason, by_design=True)
            self._skip(note, self._gathered)
            if before:
                run.gathered.keep(before.gathered)
                self._gathered.add(run.gathered)
            shared = (proof for proof in audit.proofs if proof.relation.shared)
            for proof in shared:
                self._shared_found += relation_divergences(database.name, proof, self._cluster.primary.name)
            return False
        audit.finish(self._cluster.left_over)
        self._runs[database.oid] = run
        self._gather(audit, besides[0] if besides else _Besides({}, []), run.gathered)
        if before:
            run.gathered.keep(before.gathered)
        if self._options.fail_fast and run.gathered.divergences:
            self._halt.call(SEEN_ENOUGH)
        return True

    def _settle_shared(self, last: Database | None) -> None:
        """Tell what is known of the shared catalogs beside what a database brought that is still there.

        `last` is the last database to be entered where all in which they could have been compared were dropped.
        """
        told = {place_of(found) for found in self._gathered.divergences}
        for found in self._shared_found:
            if place_of(found) not in told:
                told.add(place_of(found))
                self._gathered.divergences.append(found)
                self._gathered.votes.append(None)
        if last is not None:
            self._skip(not_checked(last.name, None, None, UNSHARED.code, UNSHARED.reason, hint=UNSHARED.hint))

    async def _whole(self, audit: DatabaseAudit, besides: list["_Besides"]) -> None:
        await audit.run()
        if not self._halt.called:
            besides.append(_Besides(await audit.bracket(), await audit.compare_software()))
            await audit.check_indexes()

    def _gather(self, audit: DatabaseAudit, besides: "_Besides", gathered: Gathered) -> None:
        name = audit.database
        for proof in audit.proofs:
            gathered.relations.append(self._report(name, proof))
            if proof.relation.row_filter is not None:
                reason = "rows that its filter leaves out"
                self._skip(not_checked(name, proof.relation.label, None, "filtered", reason, by_design=True), gathered)
            gathered.divergences += relation_divergences(name, proof, self._cluster.primary.name)
        gathered.votes += [*lone_votes(audit.proofs), *audit.damage.votes]
        gathered.divergences += audit.damage.divergences
        for damaged in audit.damage.divergences:
            gathered.damaged.setdefault(damaged.node, []).append(name)
        for dropped in audit.dropped:
            lack = UNLOGGED if dropped.unlogged else DROPPED
            self._skip(not_checked(name, dropped.label, None, lack.code, lack.reason, by_design=True), gathered)
        for note in shortfalls(name, audit.proofs):
            self._skip(note, gathered)
        gathered.divergences += extra_divergences(name, audit.extras)
        for node in sorted(audit.unsettled_extras):
            self._skip(not_checked(name, None, node, STILL_IN_FLIGHT.code, STILL_IN_FLIGHT.reason), gathered)
        for finding in besides.findings:
            self._find(finding, gathered)
        self._gather_indexes(audit.index_findings(self._cluster.left_over), gathered)
        for replica, reports in audit.alignments.items():
            gathered.alignments.setdefault(replica, []).extend(reports)
        if audit.plan is None:
            self._skip_database(audit, gathered)
        else:
            for node in sorted(audit.unlisted):
                note = not_checked(name, None, node, NEVER_LISTED.code, NEVER_LISTED.reason, hint=NEVER_LISTED.hint)
                self._skip(note, gathered)
            gathered.not_checked += audit.plan.not_checked
            for sequence in audit.plan.sequences:
                self._gather_sequence(name, sequence, besides.sequences, gathered)

    def _report(self, database: str, proof: RelationProof) -> RelationReport:
        """Return the report of a relation; what this audit takes over from itself is no proof of an earlier run."""
        report = relation_report(database, proof)
        own = report.proven_since is not None and report.proven_since >= self._started_at
        return replace(report, proven_since=None) if own else report

    def _gather_indexes(self, found: IndexFindings, gathered: Gathered) -> None:
        gathered.indexes += found.reports
        gathered.divergences += found.divergences
        gathered.votes += found.votes
        for finding in found.findings:
            self._find(finding, gathered)
        for note in found.not_checked:
            self._skip(note, gathered)

    async def _database_gone(self, database: Database) -> bool:
        """Return whether a database that can't be entered was dropped; one that was renamed is still there."""
        try:
            listed = await read_databases(await self._cluster.primary.control())
        except NodeError:
            return False
        return database.oid not in {other.oid for other in listed}

    def _skip_database(self, audit: DatabaseAudit, gathered: Gathered) -> None:
        name = audit.database
        lack = self._cluster.left_over
        for node in self._cluster.replicas.values():
            # A replica follows its primary: where that has no database of the name either, it is not at fault.
            absent = audit.absent.get(self._cluster.primary.name) or audit.absent.get(node.name)
            why = node.gone or absent or lack
            reason = f"the whole database: {why.reason}"
            self._skip(not_checked(name, None, node.name, why.code, reason, hint=why.hint), gathered)

    def _gather_sequence(
        self,
        database: str,
        sequence: Relation,
        verdicts: Mapping[str, Mapping[int, SequenceVerdict]],
        gathered: Gathered,
    ) -> None:
        left_over = self._cluster.left_over
        found: dict[str, SequenceVerdict] = {}
        for node in self._cluster.replicas.values():
            lack = node.gone or left_over
            unread = SequenceVerdict(verdict=lack.verdict, reason=lack.reason)
            found[node.name] = verdicts.get(node.name, {}).get(sequence.oid, unread)
        if any(verdict.dropped for verdict in found.values()):
            self._skip(
                not_checked(database, sequence.label, None, DROPPED.code, DROPPED.reason, by_design=True), gathered
            )
            return
        gathered.relations.append(sequence_report(database, sequence, found))
        for name, verdict in found.items():
            if verdict.verdict is Verdict.DIVERGED:
                gathered.votes.append(None)
                gathered.divergences.append(sequence_divergence(database, sequence, name, verdict))
            elif verdict.verdict is not Verdict.CONSISTENT:
                code = "sequence_unsteady" if verdict.verdict is Verdict.INCONCLUSIVE else "sequence_unread"
                self._skip(not_checked(database, sequence.label, name, code, verdict.reason), gathered)

    def _find(self, finding: Finding, into: Gathered | None = None) -> None:
        (into or self._gathered).findings.append(finding)
        if finding not in self._told:
            self._told.add(finding)
            self._cluster.emit(FindingRaised(at=datetime.now(UTC), finding=finding))

    def _skip(self, note: NotChecked, into: Gathered | None = None) -> None:
        (into or self._gathered).not_checked.append(note)
        if note not in self._told:
            self._told.add(note)
            self._cluster.emit(Skipped(at=datetime.now(UTC), what=note))

    def _result(self) -> AuditResult:
        gathered, nodes = self._gathered, self._cluster.nodes
        for node in nodes:
            if node.restarts:
                times = f" {node.restarts} times" if node.restarts > 1 else ""
                what = f"it was restarted{times} while the audit ran"
                self._find(Finding(code="restarted", node=node.name, what=what, outcome=Outcome.PROVEN))
        compared = [relation for relation in gathered.relations if relation.kind is not RelationKind.SEQUENCE]
        lack = shortfall_of(self._cluster.sampler, rows=sum(relation.rows or 0 for relation in compared))
        if lack is not None:
            self._find(lack)
        replicas = tuple(self._replica(node) for node in nodes[1:])
        ending = self._halt.ending
        verdict = _run_verdict(replicas, gathered, ending.code.outcome if ending else Outcome.PROVEN)
        return AuditResult(
            run_id=self._run_id,
            started_at=self._started_at,
            finished_at=datetime.now(UTC),
            tool_version=__version__,
            encoding=self._cluster.hasher.encoding.name,
            level=self._options.level.value,
            cluster=self._name,
            scope=scope_of(self._options),
            verdict=verdict,
            primary=node_report(nodes[0], nodes),
            replicas=replicas,
            odd_node=odd_node(gathered.divergences, gathered.votes, independent_voters(nodes)),
            relations=tuple(gathered.relations),
            divergences=tuple(gathered.divergences),
            findings=tuple(gathered.findings),
            not_checked=tuple(gathered.not_checked),
            stopped=ending.what if ending else "",
            stop_code=ending.code if ending else None,
            resumed=_resumption(self._taken.run, gathered.relations),
            cross_check=report_of(self._cluster.sampler, gathered.divergences),
            held_s=round(sum(self._cluster.gate.held.values()), 3),
            rows=sum(relation.rows or 0 for relation in compared),
            size_bytes=sum(relation.size_bytes for relation in compared if relation.rows is not None),
            indexes=tuple(gathered.indexes),
        )

    def _replica(self, node: NodeHandle) -> ReplicaReport:
        gathered, nodes = self._gathered, self._cluster.nodes
        mine = [
            replica.verdict
            for relation in gathered.relations
            for replica in relation.replicas
            if replica.node == node.name
        ]
        differing = mine.count(Verdict.DIVERGED)
        if any(found.node == node.name for found in gathered.divergences):
            mine.append(Verdict.DIVERGED)
        notes = [note for note in gathered.not_checked if not note.by_design and note.node in (None, node.name)]
        lack = node.gone or nodes[0].gone
        verdict = worst_verdict([*mine, *map(note_verdict, notes), *([lack.verdict] if lack else [])])
        return ReplicaReport(
            node=node_report(node, nodes),
            verdict=verdict,
            reason=_reason(verdict, lack, mine, differing, _other_damage(gathered, node)),
            alignments=tuple(gathered.alignments.get(node.name, ())),
        )


@dataclass(frozen=True, slots=True)
class _Besides:
    sequences: Mapping[str, Mapping[int, SequenceVerdict]]
    findings: list[Finding]


def _resumption(earlier: Progress | None, relations: Sequence[RelationReport]) -> Resumption | None:
    taken_over = sum(relation.proven_since is not None for relation in relations)
    if earlier is None or not taken_over:
        return None
    return Resumption(run_id=earlier.run_id, started_at=earlier.started_at, relations=taken_over)


def _run_verdict(replicas: Sequence[ReplicaReport], gathered: Gathered, ended_early: Outcome) -> Verdict:
    outcomes = [ended_early, *(replica.verdict.outcome for replica in replicas)]
    outcomes += [finding.outcome for finding in gathered.findings]
    outcomes += [Outcome.REFUTED for _ in gathered.divergences]
    outcomes += [note_verdict(note).outcome for note in gathered.not_checked]  # of the primary too
    return {verdict.outcome: verdict for verdict in Verdict}[worst(outcomes)]


def _other_damage(gathered: Gathered, node: NodeHandle) -> str:
    """Say what is wrong with a node beside its relations; empty where nothing is."""
    databases = gathered.damaged.get(node.name, [])
    if databases:
        return f"it cannot read the catalogs of database{'s' * (len(databases) > 1)} {', '.join(databases)}"
    broken = sum(found.kind is DifferenceKind.INDEX and found.node == node.name for found in gathered.divergences)
    return {0: "", 1: "1 index is broken"}.get(broken, f"{broken} indexes are broken")


def _reason(
    verdict: Verdict, lack: Shortfall | None, relations: Sequence[Verdict], differing: int, other_damage: str
) -> str:
    if verdict is Verdict.CONSISTENT:
        return ""
    if verdict is Verdict.DIVERGED and other_damage and not differing:
        return other_damage
    if verdict is Verdict.DIVERGED:
        return "1 relation differs" if differing == 1 else f"{differing or 'no'} relations differ"
    if lack is not None:
        return lack.reason
    count = sum(found is verdict for found in relations)
    return f"{count} relations are {verdict.value}" if count else "something in scope could not be checked"
