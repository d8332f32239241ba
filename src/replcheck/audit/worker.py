"""One lane at work: it takes chunks, reads them on all its nodes, and settles what it found.

A finding counts only after its alignment was given back and the relation's definition and file node were found
unchanged on every node since the plan: then they were the same all the time, since neither ever comes back (a token
holds the xmin of the catalog's rows, and a file node is not given twice).
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from replcheck.audit import shortfalls
from replcheck.audit.cluster import Cluster
from replcheck.audit.comparison import ChunkFinding, compare
from replcheck.audit.cross_check import cross_checked
from replcheck.audit.damage import CatalogDamage
from replcheck.audit.definitions import DefinitionWatch, Listing, redefined
from replcheck.audit.ending import SEEN_ENOUGH
from replcheck.audit.giving_way import GaveWay, giving_way
from replcheck.audit.lanes import Alignment, Lane
from replcheck.audit.pace import Pace
from replcheck.audit.proof import MAX_REPLANS, Chunk, RelationProof, Trial
from replcheck.audit.reading import HeapRewritten, ReadAhead, Readers, drive, read_ahead
from replcheck.audit.telling import Teller
from replcheck.audit.work import Finished, Pause, Realign, WorkQueue
from replcheck.errors import DatabaseMissing, NodeError, NodeLost, StatementCancelled, StatementFailed
from replcheck.model.audit import AlignmentReport
from replcheck.postgres.catalog import Relation, read_filenodes, read_relations, read_tokens
from replcheck.postgres.digests import PartDigests
from replcheck.postgres.failures import is_too_wide

_IDLE_S = 0.1
_SNAPSHOT_REST_S = 1.0
"""The longest rest in which a lane keeps its snapshots."""
_DEFINITION_SQLSTATES = frozenset({"42P01", "42703", "42704", "42883", "42804", "42809", "3F000", "0A000", "XX000"})
"""What a statement is refused with whose relation was dropped, renamed, redefined or made unlogged since it was
planned, or else whose type has a broken function."""
_ENDED_SQLSTATES = frozenset({"25P03", "25P04", "40001"})
"""Why a server that is well ends a session: its time limits, or a recovery conflict."""
_QUERY_CANCELED = "57014"

Definition = tuple[int, int | None]
"""Token and newest file node."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A finding that waits for its alignment to be settled."""

    chunk: Chunk
    relation: Relation
    finding: ChunkFinding
    refused: Mapping[str, shortfalls.Shortfall]
    """Nodes that refused to read it as they do where it was redefined; whether it was is seen when it is settled."""


@dataclass(frozen=True, slots=True)
class Job:
    """What the workers of one database share."""

    queue: WorkQueue
    watch: DefinitionWatch
    pace: Pace
    dropped: dict[int, Relation]
    """By oid, what was dropped or made unlogged since it was planned, and so is on no replica any more."""
    alignments: dict[str, list[AlignmentReport]]
    absent: dict[str, shortfalls.Shortfall]
    """Nodes that lack the database or cannot read its catalogs, the primary perhaps."""
    damage: CatalogDamage
    teller: Teller


class LaneWorker:
    """Works one lane until nothing is left to do."""

    def __init__(self, lane: Lane, cluster: Cluster, job: Job) -> None:
        self.lane = lane
        self._cluster = cluster
        self._job = job
        self._pending: list[_Pending] = []
        self._rest_s = 0.0

    async def work(self) -> None:
        """Take chunk after chunk; returns when all are settled, or when nobody is left to compare."""
        self._cluster.gate.enter()
        try:
            await self._work()
        finally:
            self._cluster.gate.leave()

    async def _work(self) -> None:
        lane, queue = self.lane, self._job.queue
        while not self.over:
            if self._cluster.gate.closed:
                await self.settle()
                await self._cluster.gate.wait_open()
                continue
            if self._rest_s:
                await self._rest()
            if lane.alignment is not None and (lane.expired or await lane.holds_up_replay()):
                await self.settle()
                continue
            number = lane.alignment.number if lane.alignment else None
            covered = lane.alignment.replicas if lane.alignment else frozenset()
            step = queue.next(number, covered, self._cluster.clock())
            match step:
                case Chunk():
                    await self._take(step)
                case Realign(wanted=wanted, witnesses=witnesses):
                    await self.settle()
                    others = [node.name for node in self._cluster.replicas.values() if witnesses and node.steady]
                    await self.align(wanted.union(others))
                case Pause(until=until):
                    await self.settle()
                    await asyncio.sleep(min(max(until - self._cluster.clock(), 0.01), _IDLE_S))
                case Finished():
                    await self.settle()
                    if queue.next(None, frozenset(), self._cluster.clock()) == Finished():
                        return
        await self.settle()

    async def _rest(self) -> None:
        """Make up for the time spent reading, as the pace wants it; a long rest keeps no snapshot."""
        if self._rest_s > _SNAPSHOT_REST_S:
            await self.settle()
        rest_s, self._rest_s = self._rest_s, 0.0
        await self._cluster.halt.sleep(rest_s)

    @property
    def over(self) -> bool:
        """Return whether nobody is left to compare in this database."""
        absent = self._job.absent
        gone = all(node.gone is not None or name in absent for name, node in self._cluster.replicas.items())
        return gone or self._cluster.over or self._cluster.primary.name in absent

    async def align(self, wanted: frozenset[str]) -> bool:
        """Align the lane with those of `wanted` that can be, and look again at what was redefined; False where none."""
        self.retire_gone()
        present = frozenset(
            name for name in wanted if self._cluster.replicas[name].gone is None and name not in self._job.absent
        )
        usable = any(self._cluster.replicas[name].usable for name in present)
        if not usable or self._cluster.primary.away or not await self._aligned(present):
            await asyncio.sleep(_IDLE_S)
            return False
        await self._look_at_definitions()
        return self.lane.alignment is not None

    async def _aligned(self, present: frozenset[str]) -> bool:
        self._job.queue.aligning += 1
        try:
            return await self.lane.align(present) is not None
        except DatabaseMissing:
            self._job.absent[self._cluster.primary.name] = shortfalls.DATABASE_RENAMED
            return False
        except NodeError as error:
            await self.lane.close()
            self.lane.report(error.node, error)
            return False
        finally:
            self._job.queue.aligning -= 1
            for name in self.lane.missing:
                self._job.absent.setdefault(name, shortfalls.NO_DATABASE)
            damaged, self.lane.damaged = self.lane.damaged, {}
            for name, failure in damaged.items():
                await self.failed(name, failure)

    async def list_relations(
        self,
        oids: list[int] | None,
        *,
        but: Collection[int] = (),
        detailed: Callable[[Relation], bool] = lambda _: True,
    ) -> Listing:
        """List relations under the lane's alignment, all or some, those in `but` left out.

        A node that could not is absent. Only those that are to be `detailed` have sizes and tokens, and on the primary
        columns and filters.
        """
        alignment = self.lane.alignment
        names = [self._cluster.primary.name, *sorted(alignment.replicas if alignment else ())]
        listed = await asyncio.gather(*(self._list_on(name, oids, but, detailed) for name in names))
        return {name: relations for name, relations in zip(names, listed, strict=True) if relations is not None}

    async def _list_on(
        self, name: str, oids: list[int] | None, but: Collection[int], detailed: Callable[[Relation], bool]
    ) -> Mapping[int, Relation] | None:
        session = self.lane.sessions.get(name)
        if session is None:
            return None
        there = name == self._cluster.primary.name
        try:
            listed = await read_relations(session, oids, but=but, detailed=detailed, columns=there)
            if oids is None and not but:
                self._job.damage.read(name, listed.values())
            if not there:
                return listed
            chosen = {oid: relation for oid, relation in listed.items() if detailed(relation)}
            return listed | await self._cluster.filters.applied(session, chosen, self.lane.database)
        except NodeError as error:
            await self.failed(name, error)
            return None

    async def failed(self, name: str, error: NodeError) -> None:
        """Go on without a session that failed, and tell the node's handle what that means for the node."""
        node = self._cluster.node(name)
        await self.lane.lose(name)
        if isinstance(error, NodeLost) and error.sqlstate in _ENDED_SQLSTATES:
            return
        if self._job.damage.concerns(error):
            lack = self._job.damage.saw(name, error)
            if lack is not None:
                self._job.absent.setdefault(name, lack)
        elif not isinstance(error, StatementFailed):
            node.report(error)
        elif not isinstance(error, StatementCancelled):
            node.leave_behind(shortfalls.node_lost(name, error.message))

    def retire_gone(self) -> None:
        """Give up what is left on replicas that take no further part."""
        for name, node in self._cluster.replicas.items():
            lack = node.gone or self._job.absent.get(name)
            if lack is not None:
                for proof in self._job.queue.proofs.values():
                    proof.give_up(name, lack)

    async def _look_at_definitions(self) -> None:
        """Look again, under this alignment, at relations that were redefined or that a replica defines otherwise."""
        alignment = self.lane.alignment
        if alignment is None:
            return
        suspects = self._job.watch.suspects(alignment.replicas)
        if not suspects:
            return
        listing = await self.list_relations(suspects)
        if self._cluster.primary.name in listing:
            for oid in suspects:
                self._replan(self._job.queue.proofs[oid], listing, alignment)

    def _replan(self, proof: RelationProof, listing: Listing, alignment: Alignment) -> None:
        now = listing[self._cluster.primary.name].get(proof.relation.oid)
        if now is None or now.unlogged:
            self._job.dropped.setdefault(proof.relation.oid, now or proof.relation)
            self._job.watch.forget(proof)
            for name in proof.tallies:
                proof.give_up(name, shortfalls.DROPPED)
            return
        if alignment.number < proof.planned_under:
            return
        if redefined(proof.relation, now):
            proof.replan(
                now,
                known_blocks=known_blocks(now, listing, self._job.pace),
                sweep=self._job.pace.sweeps(now),
                alignment=alignment.number,
                newest=self._cluster.anchors.drawn,
            )
            self._job.queue.reopen(now.oid)
            if proof.replans > MAX_REPLANS:
                for name in proof.active:
                    proof.give_up(name, shortfalls.REDEFINED)
        self._job.watch.compare(proof, listing, alignment.exact)

    async def _take(self, chunk: Chunk) -> None:
        """Read a chunk, and with a small relation more of them in the same round trip."""
        alignment, queue = self.lane.alignment, self._job.queue
        assert alignment is not None  # noqa: S101 - the queue gives chunks to aligned lanes only
        more = queue.more_small(chunk, alignment.number, alignment.replicas, self._cluster.clock())
        try:
            if more:
                await self._read_together([chunk, *more], alignment)
            else:
                await self._read(chunk)
        finally:
            for _ in (chunk, *more):
                queue.done()

    async def _read_together(self, chunks: list[Chunk], alignment: Alignment) -> None:
        """Read small relations in one round trip; where it brings trouble, each is read by itself after all.

        Only then can anybody say which of them the trouble is with.
        """
        queue, began = self._job.queue, self._cluster.clock()
        ahead = await self._read_ahead(chunks, alignment)
        spent = self._cluster.clock() - began
        for name, error in ahead.troubles.items():
            if isinstance(error, NodeLost):
                await self.failed(name, error)
        if ahead.troubles:
            self._make_up_for(spent)
            queue.put_back(replace(chunk, alone=True) for chunk in chunks)
            return
        for number, chunk in enumerate(chunks):
            if self.lane.alignment is not alignment or (number and self._interrupted):
                queue.put_back([chunk])
            else:
                await self._read(chunk, ahead.of(number), spent / len(chunks))

    @property
    def _interrupted(self) -> bool:
        """Return whether the lane is to do something else before it compares anything more."""
        return self.over or self.lane.expired or self._cluster.gate.closed

    async def _read_ahead(self, chunks: list[Chunk], alignment: Alignment) -> ReadAhead:
        proofs = [self._job.queue.proofs[chunk.oid] for chunk in chunks]
        for proof in proofs:
            self._job.teller.started(proof)
        names = [self._cluster.primary.name, *sorted(alignment.replicas & chunks[0].needed)]
        return await read_ahead(
            [proof.relation for proof in proofs],
            self._cluster.hasher.how(),
            {name: self.lane.sessions[name] for name in names},
            self._cluster.primary.name,
        )

    def _make_up_for(self, elapsed_s: float) -> None:
        """Owe a rest for time that was spent reading, as the pace wants it."""
        self._rest_s += elapsed_s * (1 / self._cluster.options.pacing.share - 1)

    async def _read(self, chunk: Chunk, ready: Mapping[str, PartDigests] | None = None, spent_s: float = 0.0) -> None:
        """Compare a chunk on its nodes; `ready` is what they have answered already, in `spent_s` seconds."""
        lane, alignment, primary = self.lane, self.lane.alignment, self._cluster.primary.name
        assert alignment is not None  # noqa: S101 - nothing is read without snapshots
        proof = self._job.queue.proofs[chunk.oid]
        self._job.teller.started(proof)
        asked = sorted(alignment.replicas if chunk.looks else alignment.replicas & chunk.needed & proof.active)
        readers = Readers(
            relation=proof.relation,
            how=self._cluster.hasher.how(by_column=chunk.by_column),
            sessions={name: lane.sessions[name] for name in (primary, *asked)},
            primary=primary,
            late=lambda: lane.expired,
            ready=ready or {},
        )
        comparison = compare(
            self._job.pace.request(proof, chunk),
            primary=primary,
            unsettled={name: alignment.unsettled[name] for name in asked},
            known_blocks=proof.known_blocks,
            rows_limit=self._cluster.options.max_rows_listed - proof.rows_listed,
        )
        if chunk.check.streamed:
            comparison = cross_checked(comparison, chunk.ranges, primary)
        began = self._cluster.clock()
        finding = await giving_way(drive(comparison, readers), readers, lambda name: self._cluster.node(name).control())
        elapsed = self._cluster.clock() - began + spent_s
        self._make_up_for(elapsed)
        self._job.teller.compared(lane.number, proof, chunk, finding, elapsed)
        if finding.digest is not None:
            self._job.pace.measure(proof, chunk, elapsed)
        alignment.chunks += 1
        await self._conclude(proof, chunk, finding, readers.troubles)
        if self._cluster.options.fail_fast and any(shown.unexplained for shown in finding.replicas.values()):
            # The second look must not wait until the snapshots are old.
            await self.settle()

    async def _conclude(
        self, proof: RelationProof, chunk: Chunk, finding: ChunkFinding, troubles: Mapping[str, NodeError]
    ) -> None:
        """Keep a finding until its alignment is settled, after dealing with the nodes that could not answer."""
        lost = [name for name, error in troubles.items() if isinstance(error, NodeLost)]
        for name in lost:
            await self.failed(name, troubles[name])
        refused = {
            name: shortfalls.refusal(error, self._cluster.node(name).facts.privileges.role)
            for name, error in troubles.items()
            if isinstance(error, StatementFailed) and _as_if_redefined(error)
        }
        there = troubles.get(self._cluster.primary.name)
        if there is not None and self._cluster.primary.name not in refused:
            self._primary_failed(proof, chunk, there)
            return
        if there is None:
            for name in troubles.keys() - refused.keys():
                chunk = self._replica_failed(proof, chunk, name, troubles[name])
        self._pending.append(_Pending(chunk, proof.relation, finding, refused))

    def _primary_failed(self, proof: RelationProof, chunk: Chunk, error: NodeError) -> None:
        """Put a chunk off that the primary could not read, or give it up."""
        if isinstance(error, NodeLost) and error.sqlstate in _ENDED_SQLSTATES:
            self._too_slow(proof, chunk)
        elif not isinstance(error, StatementFailed):
            self._put_off(proof, chunk, shortfalls.lost_while_reading(error.node, *_ends(chunk)), lost=True)
        elif is_too_wide(error) and not chunk.by_column:
            self._job.queue.put_back([replace(chunk, by_column=True)])
        elif isinstance(error, HeapRewritten):
            self._job.watch.suspect(proof)
            self._put_off(proof, chunk, shortfalls.REDEFINED)
        elif isinstance(error, GaveWay):
            self._too_slow(proof, chunk, shortfalls.LOCKED)
        elif isinstance(error, StatementCancelled) and error.sqlstate == _QUERY_CANCELED:
            self._too_slow(proof, chunk)
        elif isinstance(error, StatementCancelled):
            self._put_off(proof, chunk, shortfalls.LOCKED)
        else:
            proof.refuse(chunk, shortfalls.refusal(error, self._cluster.primary.facts.privileges.role))

    def _replica_failed(self, proof: RelationProof, chunk: Chunk, name: str, error: NodeError) -> Chunk:
        """Take note of what a replica answered instead of rows; return the chunk as it is to be settled."""
        if isinstance(error, NodeLost) and error.sqlstate in _ENDED_SQLSTATES:
            return chunk.failed(name, shortfalls.conflict(name, error.sqlstate))
        if not isinstance(error, StatementFailed):
            return chunk.failed(name, shortfalls.lost_while_reading(name, *_ends(chunk)), lost=True)
        if is_too_wide(error) and not chunk.by_column:
            return replace(chunk, by_column=True)
        if isinstance(error, HeapRewritten):
            self._job.watch.suspect(proof)
            return chunk.failed(name, shortfalls.REDEFINED)
        if isinstance(error, StatementCancelled):
            return chunk.failed(name, shortfalls.conflict(name, error.sqlstate))
        role = self._cluster.replicas[name].facts.privileges.role
        return chunk.failed(name, shortfalls.refusal(error, role), final=True)

    def _put_off(
        self,
        proof: RelationProof,
        chunk: Chunk,
        lack: shortfalls.Shortfall,
        *,
        lost: bool = False,
        final: bool = False,
    ) -> None:
        now, budget_s, primary = (
            self._cluster.clock(),
            self._cluster.options.settle_budget_s,
            self._cluster.primary.name,
        )
        failed = chunk.failed(primary, lack, lost=lost, final=final)
        self._job.queue.put_back(proof.put_off(failed, primary, now=now, budget_s=budget_s))

    def _too_slow(self, proof: RelationProof, chunk: Chunk, lack: shortfalls.Shortfall = shortfalls.TOO_SLOW) -> None:
        """Have a chunk read in smaller parts, or again where it has none; `lack` says why it was not read now."""
        if chunk.whole and not proof.in_ranges:
            if chunk.epoch == proof.epoch:
                proof.read_in_ranges()
                self._job.queue.reopen(chunk.oid)
            return
        halves = proof.halve(chunk)
        if halves:
            self._job.queue.put_back(halves)
        else:
            # Once says little: the machine may have been busy, or somebody may have cancelled the statement.
            self._put_off(proof, chunk, lack, lost=lack is shortfalls.TOO_SLOW)

    async def settle(self) -> None:
        """Give the lane's snapshots back, make sure nothing was redefined meanwhile, and take its findings in."""
        alignment, pending = self.lane.alignment, self._pending
        self._pending = []
        if alignment is None:
            return
        await self.lane.release()
        names = [self._cluster.primary.name, *sorted(alignment.replicas)]
        oids = sorted({item.chunk.oid for item in pending})
        states = await asyncio.gather(*(self._definitions(name, oids) for name in names))
        known = {name: state for name, state in zip(names, states, strict=True) if state is not None}
        clean = [name for item in pending for name in self._take_in(item, alignment, known)]
        if self._cluster.options.fail_fast and any(self._job.queue.proofs[oid].diverged for oid in oids):
            self._cluster.halt.call(SEEN_ENOUGH)
        self._record(alignment, clean)
        self._job.teller.finished(self._job.queue.proofs[oid] for oid in oids)

    async def _definitions(self, name: str, oids: list[int]) -> dict[int, Definition] | None:
        if not oids:
            return {}
        try:
            session = await self.lane.session(self._cluster.node(name))
            tokens = await read_tokens(session, oids)
            filenodes = await read_filenodes(session, oids)
        except NodeError as error:
            await self.failed(name, error)
            return None
        return {oid: (tokens.get(oid, 0), filenodes.get(oid)) for oid in oids}

    def _take_in(
        self, item: _Pending, alignment: Alignment, known: Mapping[str, Mapping[int, Definition]]
    ) -> list[str]:
        """Give a finding to its proof; return the replicas on which the chunk was clean."""
        proof, relation, finding = self._job.queue.proofs[item.chunk.oid], item.relation, item.finding
        planned = (relation.token, relation.filenode_now)
        concerned = {self._cluster.primary.name, *(item.chunk.needed & proof.active)}
        known = {name: state for name, state in known.items() if name in concerned}
        if any(state[relation.oid] != planned for state in known.values()):
            self._job.watch.suspect(proof)
            self._put_off(proof, item.chunk, shortfalls.REDEFINED)
            return []
        chunk = self._after_refusals(proof, item, known.keys())
        if chunk is None:
            return []
        shown = {name: found for name, found in finding.replicas.items() if name in known}
        if self._cluster.primary.name not in known:
            shown, finding = {}, ChunkFinding(digest=None, replicas={})
        cancelled = any(trial.lack and trial.lack.code == "conflict" for trial in chunk.trials.values())
        cancelled = cancelled and not any(found.seen for found in shown.values())
        if cancelled and chunk.whole and not proof.in_ranges and chunk.epoch == proof.epoch:
            proof.read_in_ranges()
            self._job.queue.reopen(relation.oid)
            return []
        halves = proof.halve(chunk) if cancelled else []
        if halves:
            self._job.queue.put_back(replace(half, last_alignment=alignment.number) for half in halves)
            return []
        finding = replace(finding, replicas=shown)
        chunk, drawn = proof.draw(chunk, finding, self._cluster.sampler)
        self._job.teller.proven(proof, item.chunk, finding, shown, alignment.taken_at, drawn)
        rest = proof.absorb(
            chunk,
            finding,
            alignment=alignment.number,
            now=self._cluster.clock(),
            budget_s=self._cluster.options.settle_budget_s,
        )
        self._job.queue.put_back([*rest, *drawn])
        return [name for name, found in shown.items() if found.clean]

    def _after_refusals(self, proof: RelationProof, item: _Pending, unchanged: Iterable[str]) -> Chunk | None:
        """Note in a chunk which nodes refused it although nothing was redefined there; None where the primary did.

        What is refused twice like this is refused for good.
        """
        chunk = item.chunk
        for name in item.refused.keys() & set(unchanged):
            lack = item.refused[name]
            again = chunk.trials.get(name, Trial()).lack == lack
            if name == self._cluster.primary.name:
                self._put_off(proof, item.chunk, lack, final=again)
                return None
            chunk = chunk.failed(name, lack, final=again)
        return chunk

    def _record(self, alignment: Alignment, clean: list[str]) -> None:
        for name, difference in alignment.unsettled.items():
            self._job.alignments[name].append(
                AlignmentReport(
                    lane=self.lane.number,
                    database=self.lane.database,
                    taken_at=alignment.taken_at,
                    lsn=alignment.lsn,
                    attempts=alignment.attempts,
                    elapsed_s=alignment.elapsed_s,
                    unsettled=len(difference),
                    chunks=clean.count(name),
                )
            )


def known_blocks(relation: Relation, listing: Listing, pace: Pace) -> int:
    """Return a relation's size in blocks, the largest of the nodes' in a listing."""
    sizes = [relations[relation.oid].size_bytes for relations in listing.values() if relation.oid in relations]
    return pace.blocks(max([relation.size_bytes, *sizes]))


def _as_if_redefined(error: StatementFailed) -> bool:
    return error.sqlstate in _DEFINITION_SQLSTATES and not is_too_wide(error)


def _ends(chunk: Chunk) -> tuple[int, int | None]:
    return chunk.blocks.first, None if chunk.blocks.open_ended else chunk.blocks.end - 1
