"""One audit from the first connection to the result."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from replcheck.audit.cluster import Cluster
from replcheck.audit.cross_check import Sampler, shortfall_of
from replcheck.audit.database import DatabaseAudit
from replcheck.audit.digest import new_hasher
from replcheck.audit.ending import INTERRUPTED, SEEN_ENOUGH, time_over
from replcheck.audit.filters import RelationFilters
from replcheck.audit.gate import Gate
from replcheck.audit.gathered import Gathered, place_of
from replcheck.audit.gathering import Besides, Gathering, Teller
from replcheck.audit.handles import NodeHandle
from replcheck.audit.monitor import monitor, require_visible
from replcheck.audit.options import AuditOptions
from replcheck.audit.parity import compare_nodes
from replcheck.audit.plan import shared_in_scope
from replcheck.audit.preflight import connect_nodes, node_report
from replcheck.audit.restarts import MOST_REPEATS, DatabaseRun, heard_by, starts_of, still_resting
from replcheck.audit.result import RunFacts, result_of, rows_read
from replcheck.audit.scope import check_filters, check_tables, databases_in_scope
from replcheck.audit.shortfalls import DROPPED, NOTHING_COMPARED, RESTARTED, UNSHARED, Shortfall
from replcheck.audit.verdicts import not_checked, relation_divergences
from replcheck.errors import Interrupted, NodeError
from replcheck.events import Emit, NodeObserved, ProvingBegan
from replcheck.model.audit import AuditResult, Divergence, Finding
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Outcome
from replcheck.model.progress import Premises, Progress, TakenOver, taken_over
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
        cross_check=options.cross_check,
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
        self._run = RunFacts(run_id=run_id, cluster=name, started_at=started_at, resumed=taken.run)
        self._taken = taken
        self._halt = cluster.halt
        self._teller = Teller(cluster.emit)
        self._gathered = Gathered()
        self._shared_found: list[Divergence] = []
        """Divergences of shared catalogs, found in databases that were dropped before they were done."""
        self._runs: dict[int, DatabaseRun] = {}
        """The last audit of each database, by oid."""

    async def run(self) -> AuditResult:
        nodes = self._cluster.nodes
        for node in nodes:
            self._cluster.emit(NodeObserved(at=datetime.now(UTC), node=node_report(node, nodes)))
        for finding in compare_nodes(nodes[0].facts, [node.facts for node in nodes[1:]]):
            self._teller.find(finding, self._gathered)
        if self._taken.lack:
            self._build_anew(self._taken.lack)
        databases = await self._databases(nodes[0])
        await check_tables(nodes[0], databases, self._gathered.not_checked, self._cluster.options)
        await check_filters(nodes[0], databases, self._gathered.not_checked, self._cluster.filters)
        shared_left = shared_in_scope(self._cluster.options)
        for database in databases:
            entered = await self._audit_database(database, shared_here=shared_left)
            shared_left = shared_left and not entered
        unshared = databases[-1] if shared_left and databases else None
        unshared = await self._repeat_outdated() or unshared
        for run in self._runs.values():
            self._gathered.add(run.gathered)
        self._settle_shared(unshared)
        if not (self._gathered.relations or any(not note.by_design for note in self._gathered.not_checked)):
            self._lack(None, NOTHING_COMPARED)
        self._tell_beside()
        return result_of(self._cluster, self._gathered, self._run)

    def _lack(self, database: Database | None, lack: Shortfall) -> None:
        name = database.name if database else None
        self._teller.skip(not_checked(name, None, None, lack.code, lack.reason, hint=lack.hint), self._gathered)

    def _build_anew(self, why: str) -> None:
        what = f"nothing of an earlier run is built upon: {why}"
        self._teller.find(Finding(code="resume", node=None, what=what, outcome=Outcome.PROVEN), self._gathered)

    def _saw_everything(self) -> bool:
        """Return whether every database was listed, on servers that stayed the same to an end of its own."""
        restarted = any(node.restarts for node in self._cluster.nodes)
        unlisted = any(note.relation is None and not note.by_design for note in self._gathered.not_checked)
        return not (self._halt.called or restarted or unlisted)

    def _took_over(self) -> bool:
        return any(relation.proven_since is not None for relation in self._gathered.relations)

    def _tell_beside(self) -> None:
        """Tell what is known when all was read: what was taken over, which nodes were restarted, what was streamed."""
        if self._taken.run and self._saw_everything() and not self._took_over():
            self._build_anew("every relation of which it had proven something was changed, left out or filtered since")
        for node in self._cluster.nodes:
            if node.restarts:
                times = f" {node.restarts} times" if node.restarts > 1 else ""
                what = f"it was restarted{times} while the audit ran"
                finding = Finding(code="restarted", node=node.name, what=what, outcome=Outcome.PROVEN)
                self._teller.find(finding, self._gathered)
        shortfall = shortfall_of(self._cluster.sampler, rows=rows_read(self._gathered))
        if shortfall is not None:
            self._teller.find(shortfall, self._gathered)

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
            self._teller.skip(note, run.gathered)

    async def _databases(self, primary: NodeHandle) -> list[Database]:
        able, left_out = await databases_in_scope(primary, self._cluster.options)
        for note in left_out:
            self._teller.skip(note, self._gathered)
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
        besides = await self._carry_out(audit)
        if self._cluster.primary.name in audit.absent and await self._database_gone(database):
            self._leave_out(audit, run, before)
            return False
        audit.finish(self._cluster.left_over)
        self._runs[database.oid] = run
        gathering = Gathering(audit, self._cluster, self._teller, run.gathered)
        gathering.gather(besides, since=self._run.started_at)
        if before:
            run.gathered.keep(before.gathered)
        if self._cluster.options.fail_fast and run.gathered.divergences:
            self._halt.call(SEEN_ENOUGH)
        return True

    async def _carry_out(self, audit: DatabaseAudit) -> Besides:
        """Audit a database until it is done or the whole audit is to end, and return what was read beside its rows."""
        besides: list[Besides] = []
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
        return besides[0] if besides else Besides()

    async def _whole(self, audit: DatabaseAudit, besides: list[Besides]) -> None:
        await audit.run()
        if not self._halt.called:
            sequences, findings = await audit.bracket(), await audit.compare_software()
            besides.append(Besides(sequences=sequences, findings=tuple(findings)))
            await audit.check_indexes()

    def _leave_out(self, audit: DatabaseAudit, run: DatabaseRun, before: DatabaseRun | None) -> None:
        """Tell that a database was dropped meanwhile; keep what differed in it and in the shared catalogs."""
        name = run.database.name
        note = not_checked(name, None, None, DROPPED.code, DROPPED.reason, by_design=True)
        self._teller.skip(note, self._gathered)
        if before:
            run.gathered.keep(before.gathered)
            self._gathered.add(run.gathered)
        for proof in audit.proofs:
            if proof.relation.shared:
                self._shared_found += relation_divergences(name, proof, self._cluster.primary.name)

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
            self._lack(last, UNSHARED)

    async def _database_gone(self, database: Database) -> bool:
        """Return whether a database that can't be entered was dropped; one that was renamed is still there."""
        try:
            listed = await read_databases(await self._cluster.primary.control())
        except NodeError:
            return False
        return database.oid not in {other.oid for other in listed}
