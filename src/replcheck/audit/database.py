"""The audit of one database: its plan, its lanes at work, and the settling of what they found.

A finding counts only after its alignment was given back and the relation's definition and file node were found
unchanged on every node since the plan; a relation that changed is planned again and read again.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from replcheck.audit.comparison import LISTED_BLOCKS, ChunkFinding, PartsRequest, SweepRequest, WholeRequest, compare
from replcheck.audit.digest import Hasher
from replcheck.audit.handles import NodeHandle
from replcheck.audit.lanes import Alignment, Anchors, Lane, standby_lifetime_s
from replcheck.audit.options import AuditOptions
from replcheck.audit.parity import compare_software
from replcheck.audit.plan import Plan, in_scope, plan_relations
from replcheck.audit.proof import MAX_LOSSES, MAX_REPLANS, Chunk, RelationProof, Shortfall
from replcheck.audit.reading import HeapRewritten, Readers, drive
from replcheck.audit.sequences import SequenceVerdict, bracket_sequences, failed
from replcheck.audit.verdicts import relation_report
from replcheck.audit.work import Finished, Pause, Realign, WorkQueue
from replcheck.errors import NodeError, NodeLost, StatementCancelled, StatementFailed
from replcheck.events import (
    ChunkCompared,
    DatabasePlanned,
    Emit,
    RelationFinished,
    RelationStarted,
    RowsDiffer,
    Skipped,
)
from replcheck.model.audit import AlignmentReport, Finding
from replcheck.model.outcome import Verdict
from replcheck.postgres import advice
from replcheck.postgres.catalog import Relation, read_filenodes, read_relations, read_tokens
from replcheck.postgres.software import read_software

_FIRST_CHUNK_BLOCKS = 4096
_SMALLEST_CHUNK_BLOCKS = 256
_LARGEST_CHUNK_BLOCKS = 131_072
_SWEEP_PARTS = 512
_ASSUMED_BYTES_PER_S = 100_000_000
_IDLE_S = 0.1
_DEFINITION_SQLSTATES = frozenset({"42P01", "42703", "42704", "42883", "42804", "42809", "3F000", "XX000"})
_TOO_WIDE = "54000"
_QUERY_CANCELED = "57014"


@dataclass(frozen=True, slots=True)
class _Pending:
    """A finding that waits for its alignment to be settled."""

    chunk: Chunk
    relation: Relation
    finding: ChunkFinding


class DatabaseAudit:
    """Audits one database; read `queue.proofs`, `plan` and `alignments` when `run` has ended."""

    def __init__(
        self,
        database: str,
        primary: NodeHandle,
        replicas: Mapping[str, NodeHandle],
        *,
        hasher: Hasher,
        anchors: Anchors,
        options: AuditOptions,
        emit: Emit,
        shared_here: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database = database
        self.primary = primary
        self.replicas = replicas
        self.plan = Plan(digested=(), sequences=(), not_checked=())
        self.alignments: dict[str, list[AlignmentReport]] = {name: [] for name in replicas}
        self.queue = WorkQueue((), self._chunk_blocks)
        self.planned = False
        self.dropped: list[Relation] = []
        self.extras: dict[str, dict[int, Relation]] = {}
        """Relations that only a replica has, seen twice, by replica and oid."""
        self._extra_looks: dict[tuple[str, int], int] = {}
        self._hasher = hasher
        self._options = options
        self._emit = emit
        self._shared_here = shared_here
        self._clock = clock
        self._anchors = anchors
        self._lanes = [self._lane(number) for number in range(1, options.jobs + 1)]
        self._pending: dict[int, list[_Pending]] = {}
        self._announced: set[int] = set()
        self._reported: set[int] = set()
        self._suspected: dict[tuple[int, str], str] = {}
        self._bytes_per_s = float(_ASSUMED_BYTES_PER_S)

    def _lane(self, number: int) -> Lane:
        return Lane(
            number,
            self.database,
            self.primary,
            self.replicas,
            anchors=self._anchors,
            options=self._options,
            emit=self._emit,
            clock=self._clock,
        )

    async def run(self) -> None:
        """Prove what can be proven; returns early where the primary is gone or no replica is left."""
        if await self._plan():
            await asyncio.gather(*(self._work(lane) for lane in self._lanes))
            await self._second_extras()

    async def compare_software(self) -> list[Finding]:
        """Compare the versions of extensions and collations; call it after `run`."""
        lane, findings = self._lanes[0], []
        versions = {}
        for handle in (self.primary, *self.replicas.values()):
            if handle.usable:
                try:
                    versions[handle.name] = await read_software(await lane.session(handle))
                except NodeError as error:
                    await self._failed(lane, handle.name, error)
        there = versions.pop(self.primary.name, None)
        for name, here in versions.items():
            if there is not None:
                findings += compare_software(self.database, there, here, node=name)
        return findings

    async def bracket(self) -> dict[str, Mapping[int, SequenceVerdict]]:
        """Bracket the sequences on every replica; call it after `run`. The keys are replicas, then oids."""
        lane = self._lanes[0]
        names = list(self.replicas)
        verdicts = await asyncio.gather(*(self._bracket_on(lane, self.replicas[name]) for name in names))
        return dict(zip(names, verdicts, strict=True))

    async def _bracket_on(self, lane: Lane, replica: NodeHandle) -> Mapping[int, SequenceVerdict]:
        sequences = self.plan.sequences
        for node in (replica, self.primary):
            if node.gone is not None:
                lack = SequenceVerdict(verdict=node.gone.verdict, reason=node.gone.reason)
                return {sequence.oid: lack for sequence in sequences}
        try:
            return await bracket_sequences(
                sequences, primary=self.primary, replica=replica, sessions=lane.session, options=self._options
            )
        except NodeError as error:
            return failed(error, sequences)

    def stop(self, lack: Shortfall) -> None:
        """Record that what is left will not be proven, for every replica."""
        self._retire_gone()
        for proof in self.queue.proofs.values():
            for name in proof.active:
                proof.give_up(name, lack)

    async def close(self) -> None:
        """Close every lane."""
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    async def cancel(self) -> None:
        """End what the lanes are doing on the servers and close them."""
        await asyncio.gather(*(lane.cancel() for lane in self._lanes))

    @property
    def over(self) -> bool:
        """Return whether nobody is left to compare."""
        return self.primary.gone is not None or all(handle.gone is not None for handle in self.replicas.values())

    async def _plan(self) -> bool:
        lane = self._lanes[0]
        while not self.over:
            if not await self._align(lane, frozenset(self.replicas)):
                continue
            alignment = lane.alignment
            assert alignment is not None  # noqa: S101 - told by _align
            listed = await self._list(lane, alignment, None)
            if self.primary.name in listed:
                self._adopt(listed)
                self.planned = True
                return True
        return False

    def _adopt(self, listed: Mapping[str, Mapping[int, Relation]]) -> None:
        there = listed[self.primary.name]
        role = self.primary.facts.privileges.role
        self.plan = plan_relations(
            there.values(), self._options, database=self.database, shared_here=self._shared_here, role=role
        )
        proofs = []
        for relation in self.plan.digested:
            proof = RelationProof(
                relation, self.replicas, known_blocks=self._blocks(relation, listed), sweep=self._sweeps(relation)
            )
            proofs.append(proof)
        self.queue = WorkQueue(proofs, self._chunk_blocks)
        for proof in proofs:
            self._compare_definitions(proof, listed)
        self._note_extras(listed)
        size = sum(relation.size_bytes + relation.toast_bytes for relation in self.plan.digested)
        now = datetime.now(UTC)
        self._emit(DatabasePlanned(at=now, database=self.database, relations=len(proofs), size_bytes=size))
        for note in self.plan.not_checked:
            self._emit(Skipped(at=now, what=note))

    def _note_extras(self, listed: Mapping[str, Mapping[int, Relation]]) -> None:
        """Note relations that only a replica has; those seen so before are divergence."""
        there = listed[self.primary.name]
        for name, relations in listed.items():
            for oid, relation in relations.items():
                if oid not in there and in_scope(relation, self._options, self.database, shared_here=self._shared_here):
                    looks = self._extra_looks.get((name, oid), 0) + 1
                    self._extra_looks[name, oid] = looks
                    if looks > 1:
                        self.extras.setdefault(name, {})[oid] = relation

    async def _second_extras(self) -> None:
        """Look again, under another alignment, at relations that only a replica seemed to have."""
        lane = self._lanes[0]
        if self._extra_looks and not self.over:
            names = frozenset(name for name, _ in self._extra_looks)
            if await self._align(lane, names) and lane.alignment is not None:
                listed = await self._list(lane, lane.alignment, sorted({oid for _, oid in self._extra_looks}))
                await lane.release()
                if self.primary.name in listed:
                    self._note_extras(listed)

    async def _list(
        self, lane: Lane, alignment: Alignment, oids: list[int] | None
    ) -> dict[str, Mapping[int, Relation]]:
        names = [self.primary.name, *sorted(alignment.replicas)]
        listed = await asyncio.gather(*(self._list_on(lane, name, oids) for name in names))
        return {name: relations for name, relations in zip(names, listed, strict=True) if relations is not None}

    async def _list_on(self, lane: Lane, name: str, oids: list[int] | None) -> Mapping[int, Relation] | None:
        try:
            return await read_relations(lane.sessions[name], oids)
        except NodeError as error:
            await self._failed(lane, name, error)
            return None

    async def _failed(self, lane: Lane, name: str, error: NodeError) -> None:
        """A lane's session failed outside a chunk: forget the session, and tell the handle where the node is lost."""
        handle = self._handle(name)
        session = lane.sessions.pop(name, None)
        if session is not None:
            await session.close()
        if isinstance(error, NodeLost) or not isinstance(error, StatementFailed):
            handle.report(error)
        elif not isinstance(error, StatementCancelled):
            handle.leave_behind(
                Shortfall(code="node_lost", reason=error.message, verdict=Verdict.UNCHECKED, hint=error.hint)
            )

    def _handle(self, name: str) -> NodeHandle:
        return self.primary if name == self.primary.name else self.replicas[name]

    def _compare_definitions(self, proof: RelationProof, listed: Mapping[str, Mapping[int, Relation]]) -> None:
        """Compare how the nodes' aligned snapshots define a relation; what differs twice is divergence."""
        there = proof.relation
        for name, relations in listed.items():
            if name == self.primary.name or name not in proof.tallies:
                continue
            difference = _definition_difference(there, relations.get(there.oid))
            key = (there.oid, name)
            if not difference:
                self._suspected.pop(key, None)
            elif self._suspected.get(key) == difference:
                proof.tallies[name].different_definition = difference
            else:
                self._suspected[key] = difference

    async def _work(self, lane: Lane) -> None:
        while not self.over:
            if lane.alignment is not None and (lane.expired or await lane.holds_up_replay()):
                await self._settle(lane)
                continue
            number = lane.alignment.number if lane.alignment else None
            covered = lane.alignment.replicas if lane.alignment else frozenset()
            step = self.queue.next(number, covered, self._clock())
            match step:
                case Chunk():
                    await self._take(lane, step)
                case Realign(wanted=wanted):
                    await self._settle(lane)
                    await self._align(lane, wanted)
                case Pause(until=until):
                    await self._settle(lane)
                    await asyncio.sleep(min(max(until - self._clock(), 0.01), _IDLE_S))
                case Finished():
                    await self._settle(lane)
                    if self.queue.next(None, frozenset(), self._clock()) == Finished():
                        return
        await self._settle(lane)

    async def _align(self, lane: Lane, wanted: frozenset[str]) -> bool:
        present = frozenset(name for name in wanted if self.replicas[name].gone is None)
        self._retire_gone()
        if not present or self.primary.away or not any(self.replicas[name].usable for name in present):
            await asyncio.sleep(_IDLE_S)
            return False
        self.queue.aligning += 1
        try:
            if await lane.align(present) is None:
                await asyncio.sleep(_IDLE_S)
                return False
        except NodeError as error:
            await lane.close()
            self.primary.report(error)
            await asyncio.sleep(_IDLE_S)
            return False
        finally:
            self.queue.aligning -= 1
        await self._second_definitions(lane)
        return lane.alignment is not None

    async def _second_definitions(self, lane: Lane) -> None:
        """Look again at relations that a replica defined otherwise, or that were redefined, under this alignment."""
        alignment = lane.alignment
        if alignment is None:
            return
        suspected = sorted({oid for oid, name in self._suspected if name in alignment.replicas})
        if suspected:
            listed = await self._list(lane, alignment, suspected)
            if self.primary.name in listed:
                for oid in suspected:
                    self._replan(self.queue.proofs[oid], listed)

    def _retire_gone(self) -> None:
        for name, handle in self.replicas.items():
            if handle.gone is not None:
                for proof in self.queue.proofs.values():
                    proof.give_up(name, handle.gone)

    async def _take(self, lane: Lane, chunk: Chunk) -> None:
        try:
            await self._read(lane, chunk)
        finally:
            self.queue.done()

    async def _read(self, lane: Lane, chunk: Chunk) -> None:
        alignment = lane.alignment
        assert alignment is not None  # noqa: S101 - the queue gives chunks to aligned lanes only
        proof = self.queue.proofs[chunk.oid]
        if proof.relation.oid not in self._announced:
            self._announced.add(proof.relation.oid)
            size = proof.relation.size_bytes + proof.relation.toast_bytes
            self._emit(
                RelationStarted(
                    at=datetime.now(UTC), database=self.database, relation=proof.relation.label, size_bytes=size
                )
            )
        asked = alignment.replicas if chunk.looks else alignment.replicas & chunk.needed & proof.active
        began = self._clock()
        readers = Readers(
            relation=proof.relation,
            how=self._hasher.for_relation(proof.relation, by_column=chunk.by_column),
            sessions={name: lane.sessions[name] for name in (self.primary.name, *sorted(asked))},
            primary=self.primary.name,
        )
        comparison = compare(
            self._request(proof, chunk),
            primary=self.primary.name,
            unsettled={name: alignment.unsettled[name] for name in sorted(asked)},
            known_blocks=proof.known_blocks,
            rows_limit=self._options.max_rows_listed - max(len(t.rows) for t in proof.tallies.values()),
        )
        finding = await drive(comparison, readers)
        elapsed = self._clock() - began
        self._tell(lane, proof, chunk, finding, elapsed)
        self._measure(proof, chunk, finding, elapsed)
        alignment.chunks += 1
        rest = await self._handle_troubles(lane, proof, chunk, readers)
        if rest is not None:
            self._pending.setdefault(lane.number, []).append(_Pending(rest, proof.relation, finding))

    def _request(self, proof: RelationProof, chunk: Chunk) -> WholeRequest | SweepRequest | PartsRequest:
        if chunk.sweep:
            step = max(LISTED_BLOCKS, -(-proof.known_blocks // _SWEEP_PARTS))
            return SweepRequest(tuple(range(step, proof.known_blocks, step)))
        return WholeRequest() if chunk.whole else PartsRequest(chunk.ranges, LISTED_BLOCKS)

    async def _handle_troubles(self, lane: Lane, proof: RelationProof, chunk: Chunk, readers: Readers) -> Chunk | None:
        """Deal with the nodes that could not answer; return what of the chunk its finding stands for."""
        lost = False
        for name, error in readers.troubles.items():
            if isinstance(error, NodeLost):
                lost = True
                await self._failed(lane, name, error)
        primary_trouble = readers.troubles.get(self.primary.name)
        if primary_trouble is not None:
            self._primary_failed(proof, chunk, primary_trouble, lost=lost)
            if isinstance(primary_trouble, NodeLost):
                await self._settle(lane)
            return None
        for name, error in readers.troubles.items():
            if isinstance(error, StatementFailed):
                chunk = self._replica_failed(proof, chunk, name, error)
            else:
                chunk = replace(chunk, losses=chunk.losses + 1, trouble=_lost_while_reading(name, chunk))
        if lost:
            await self._drop_from_alignment(lane, readers)
        return chunk

    async def _drop_from_alignment(self, lane: Lane, readers: Readers) -> None:
        if lane.alignment is not None:
            gone = {name for name, error in readers.troubles.items() if isinstance(error, NodeLost)}
            kept = {name: u for name, u in lane.alignment.unsettled.items() if name not in gone}
            lane.alignment.unsettled = kept

    def _primary_failed(self, proof: RelationProof, chunk: Chunk, error: NodeError, *, lost: bool) -> None:
        now, budget = self._clock(), self._options.settle_budget_s
        if isinstance(error, HeapRewritten) or (
            isinstance(error, StatementFailed) and error.sqlstate in _DEFINITION_SQLSTATES
        ):
            self._suspect(proof)
            self.queue.put_back(proof.put_off(chunk, _REDEFINED, now=now, budget_s=budget))
        elif isinstance(error, StatementCancelled) and error.sqlstate == _QUERY_CANCELED:
            self._too_slow(proof, chunk)
        elif isinstance(error, StatementCancelled):
            self.queue.put_back(proof.put_off(chunk, _LOCKED, now=now, budget_s=budget))
        elif isinstance(error, StatementFailed) and error.sqlstate == _TOO_WIDE and not chunk.by_column:
            self.queue.put_back([replace(chunk, by_column=True)])
        elif isinstance(error, StatementFailed):
            self._refused(proof, chunk, error)
        else:
            again = replace(chunk, losses=chunk.losses + int(lost))
            lack = _lost_while_reading(error.node, chunk)
            self.queue.put_back(proof.put_off(again, lack, now=now, budget_s=budget))

    def _too_slow(self, proof: RelationProof, chunk: Chunk) -> None:
        if chunk.whole:
            proof.read_in_ranges()
            self.queue.reopen(chunk.oid)
            return
        halves = proof.halve(chunk)
        if halves:
            self.queue.put_back(halves)
        else:
            self.queue.put_back(proof.put_off(chunk, _TOO_SLOW, now=self._clock(), budget_s=0.0))

    def _refused(self, proof: RelationProof, chunk: Chunk, error: StatementFailed) -> None:
        lack = _refusal(error, self.primary.facts.privileges.role)
        for name in chunk.needed:
            proof.tallies[name].fall_short(lack)
        proof.drop(chunk)

    def _replica_failed(self, proof: RelationProof, chunk: Chunk, name: str, error: StatementFailed) -> Chunk:
        """Take note of what a replica answered instead of rows; return the chunk as it is to be settled."""
        if isinstance(error, HeapRewritten) or error.sqlstate in _DEFINITION_SQLSTATES:
            self._suspect(proof)
            return replace(chunk, trouble=_REDEFINED)
        if error.sqlstate == _TOO_WIDE and not chunk.by_column:
            return replace(chunk, by_column=True)
        if isinstance(error, StatementCancelled):
            return replace(chunk, trouble=_conflict(name, error))
        return replace(chunk, losses=MAX_LOSSES, trouble=_refusal(error, self.replicas[name].facts.privileges.role))

    def _suspect(self, proof: RelationProof) -> None:
        for name in proof.active:
            self._suspected.setdefault((proof.relation.oid, name), "")

    async def _settle(self, lane: Lane) -> None:
        """Give the lane's snapshots back, make sure nothing was redefined meanwhile, and take its findings in."""
        alignment = lane.alignment
        pending = self._pending.pop(lane.number, [])
        if alignment is None:
            return
        names = [self.primary.name, *sorted(alignment.replicas)]
        await lane.release()
        oids = sorted({item.chunk.oid for item in pending})
        states = await asyncio.gather(*(self._definitions(lane, name, oids) for name in names)) if oids else []
        known = {name: state for name, state in zip(names, states, strict=False) if state is not None}
        proven: dict[str, int] = dict.fromkeys(alignment.replicas, 0)
        for item in pending:
            self._take_in(item, alignment, known, proven)
        self._record(lane, alignment, proven)
        self._report_finished(oids)

    def _report_finished(self, oids: Iterable[int]) -> None:
        for oid in oids:
            proof = self.queue.proofs[oid]
            if proof.finished and oid not in self._reported:
                self._reported.add(oid)
                report = relation_report(self.database, proof)
                self._emit(RelationFinished(at=datetime.now(UTC), relation=report))

    async def _definitions(self, lane: Lane, name: str, oids: list[int]) -> dict[int, tuple[int, int | None]] | None:
        try:
            session = await lane.session(self._handle(name))
            tokens = await read_tokens(session, oids)
            filenodes = await read_filenodes(session, oids)
        except NodeError as error:
            await self._failed(lane, name, error)
            return None
        return {oid: (tokens.get(oid, 0), filenodes.get(oid)) for oid in oids}

    def _take_in(
        self,
        item: _Pending,
        alignment: Alignment,
        known: Mapping[str, Mapping[int, tuple[int, int | None]]],
        proven: dict[str, int],
    ) -> None:
        proof, relation = self.queue.proofs[item.chunk.oid], item.relation
        planned = (relation.token, relation.filenode_now)
        if any(state[relation.oid] != planned for state in known.values()):
            self._suspect(proof)
            self.queue.put_back(
                proof.put_off(item.chunk, _REDEFINED, now=self._clock(), budget_s=self._options.settle_budget_s)
            )
            return
        finding = item.finding
        if self.primary.name not in known:
            finding = ChunkFinding(digest=None, replicas={})
        shown = {name: found for name, found in finding.replicas.items() if name in known}
        finding = ChunkFinding(digest=finding.digest, replicas=shown)
        for name, found in shown.items():
            proven[name] += int(found.clean)
        self._give_back(proof, item.chunk, finding, alignment)

    def _give_back(self, proof: RelationProof, chunk: Chunk, finding: ChunkFinding, alignment: Alignment) -> None:
        now, budget = self._clock(), self._options.settle_budget_s
        if any(not shown.seen for shown in finding.replicas.values()) and len(finding.replicas) == 1:
            halves = proof.halve(chunk) if chunk.trouble is not None and chunk.trouble.code == "conflict" else []
            if halves:
                self.queue.put_back(replace(half, last_alignment=alignment.number) for half in halves)
                return
        self.queue.put_back(proof.absorb(chunk, finding, alignment=alignment.number, now=now, budget_s=budget))

    def _record(self, lane: Lane, alignment: Alignment, proven: Mapping[str, int]) -> None:
        for name, difference in alignment.unsettled.items():
            self.alignments[name].append(
                AlignmentReport(
                    lane=lane.number,
                    database=self.database,
                    taken_at=alignment.taken_at,
                    lsn=alignment.lsn,
                    attempts=alignment.attempts,
                    elapsed_s=alignment.elapsed_s,
                    unsettled=len(difference),
                    chunks=proven.get(name, 0),
                )
            )

    def _replan(self, proof: RelationProof, listed: Mapping[str, Mapping[int, Relation]]) -> None:
        there = listed[self.primary.name].get(proof.relation.oid)
        if there is None:
            self.dropped.append(proof.relation)
            lack = Shortfall(code="dropped", reason="dropped while the audit ran", verdict=Verdict.CONSISTENT)
            for name in proof.tallies:
                proof.give_up(name, lack)
                self._suspected.pop((proof.relation.oid, name), None)
            return
        changed = (there.token, there.filenode_now, there.filenode) != (
            proof.relation.token,
            proof.relation.filenode_now,
            proof.relation.filenode,
        )
        if changed:
            proof.replans += 1
            proof.replan(there, known_blocks=self._blocks(there, listed), sweep=self._sweeps(there))
            self.queue.reopen(there.oid)
            if proof.replans > MAX_REPLANS:
                for name in proof.active:
                    proof.give_up(name, _REDEFINED)
        self._compare_definitions(proof, listed)

    def _blocks(self, relation: Relation, listed: Mapping[str, Mapping[int, Relation]]) -> int:
        sizes = [relations[relation.oid].size_bytes for relations in listed.values() if relation.oid in relations]
        return -(-max([relation.size_bytes, *sizes]) // self.primary.facts.block_size)

    def _sweeps(self, relation: Relation) -> bool:
        """Tell whether to read a relation in one plain scan: it is large for some node's buffers, and soon read."""
        nodes = [self.primary, *self.replicas.values()]
        large = relation.size_bytes > min(node.facts.shared_buffers for node in nodes) / 4
        lifetimes = [standby_lifetime_s(node.facts.settings) for node in self.replicas.values()]
        bound = min([self._options.max_snapshot_age_s, *lifetimes]) / 2
        return large and (relation.size_bytes + relation.toast_bytes) / self._bytes_per_s <= bound

    def _chunk_blocks(self, proof: RelationProof) -> int:
        if proof.blocks_per_s is None:
            return _FIRST_CHUNK_BLOCKS
        lifetimes = [standby_lifetime_s(node.facts.settings) for node in self.replicas.values()]
        seconds = min(self._options.chunk_target_s, *(lifetime / 3 for lifetime in lifetimes))
        wanted = int(proof.blocks_per_s * seconds)
        return max(_SMALLEST_CHUNK_BLOCKS, min(_LARGEST_CHUNK_BLOCKS, wanted))

    def _measure(self, proof: RelationProof, chunk: Chunk, finding: ChunkFinding, elapsed: float) -> None:
        blocks = min(chunk.blocks.end, proof.known_blocks) - chunk.blocks.first
        if elapsed > 0 and blocks >= _SMALLEST_CHUNK_BLOCKS and finding.digest is not None:
            proof.blocks_per_s = blocks / elapsed
            share = blocks / max(proof.known_blocks, 1)
            size = share * (proof.relation.size_bytes + proof.relation.toast_bytes)
            self._bytes_per_s += (size / elapsed - self._bytes_per_s) / 4

    def _tell(self, lane: Lane, proof: RelationProof, chunk: Chunk, finding: ChunkFinding, elapsed: float) -> None:
        now, relation = datetime.now(UTC), proof.relation
        for name, shown in finding.replicas.items():
            if shown.seen and not shown.clean and name in chunk.needed:
                differing = sum(not row.in_flight for row in shown.rows) + len(shown.unlisted) + len(shown.unreadable)
                self._emit(
                    RowsDiffer(
                        at=now,
                        database=self.database,
                        relation=relation.label,
                        node=name,
                        differing=differing,
                        in_flight=shown.in_flight,
                        look=len(chunk.looks.get(name, ())) + 1,
                    )
                )
        clean = all(shown.clean for name, shown in finding.replicas.items() if name in chunk.needed)
        last = min(chunk.blocks.end, max(proof.known_blocks, chunk.blocks.first))
        known = max(proof.known_blocks, 1)
        share = (last - chunk.blocks.first) / known if chunk.first else 0.0
        self._emit(
            ChunkCompared(
                at=now,
                lane=lane.number,
                database=self.database,
                relation=relation.label,
                first_block=chunk.blocks.first,
                last_block=None if chunk.blocks.open_ended else chunk.blocks.end - 1,
                rows=finding.digest.rows if finding.digest else 0,
                size_bytes=int(share * (relation.size_bytes + relation.toast_bytes)),
                elapsed_s=elapsed,
                verdict=Verdict.CONSISTENT if clean and finding.replicas else Verdict.INCONCLUSIVE,
            )
        )


_REDEFINED = Shortfall(
    code="redefined",
    reason="it was redefined again and again while it was read",
    verdict=Verdict.INCONCLUSIVE,
    hint="Audit it when no DDL runs.",
)
_LOCKED = Shortfall(
    code="locked",
    reason="a lock kept the audit out",
    verdict=Verdict.INCONCLUSIVE,
    hint="Look for a session that holds ACCESS EXCLUSIVE on it (pg_locks) and audit it again.",
)
_TOO_SLOW = Shortfall(
    code="too_slow",
    reason="a single block takes longer to read than a snapshot may live",
    verdict=Verdict.UNCHECKED,
    hint="Raise --max-snapshot-age.",
)


def _conflict(node: str, error: StatementCancelled) -> Shortfall:
    return Shortfall(
        code="conflict",
        reason=f"{node} cancelled the read each time (SQLSTATE {error.sqlstate})",
        verdict=Verdict.INCONCLUSIVE,
        hint="Turn on hot_standby_feedback there, or raise max_standby_streaming_delay.",
    )


def _lost_while_reading(node: str, chunk: Chunk) -> Shortfall:
    last = "the end" if chunk.blocks.open_ended else str(chunk.blocks.end - 1)
    return Shortfall(
        code="lost_while_reading",
        reason=f"{node} was lost each time while blocks {chunk.blocks.first} to {last} were read",
        verdict=Verdict.UNCHECKED,
        hint="Look at that server's log: a damaged page can crash a server.",
    )


def _refusal(error: StatementFailed, role: str) -> Shortfall:
    privilege = error.sqlstate == "42501"
    return Shortfall(
        code="privilege" if privilege else f"sqlstate_{error.sqlstate}",
        reason="the role may not read it" if privilege else error.message,
        verdict=Verdict.UNCHECKED,
        hint=advice.grant_read_all_data(role) if privilege else "",
    )


def _definition_difference(there: Relation, here: Relation | None) -> str:
    if here is None:
        return "the relation is missing"
    if (there.schema, there.name) != (here.schema, here.name):
        return "the relation has another name"
    if there.token != here.token:
        return "the columns are defined otherwise"
    return "the relation lies in another file" if there.filenode_now != here.filenode_now else ""
