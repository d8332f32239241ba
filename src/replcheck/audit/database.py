"""The audit of one database: its plan, its lanes, and what came into being while they worked."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from replcheck.audit.cluster import Cluster
from replcheck.audit.damage import CatalogDamage
from replcheck.audit.definitions import DefinitionWatch, Listing
from replcheck.audit.index_verdicts import IndexFindings
from replcheck.audit.indexes import IndexAudit
from replcheck.audit.lanes import Alignment, Lane
from replcheck.audit.pace import Pace, left_bytes
from replcheck.audit.plan import Plan, in_scope, plan_relations
from replcheck.audit.proof import RelationProof
from replcheck.audit.sequences import SequenceVerdict
from replcheck.audit.shortfalls import (
    TOO_LATE,
    UNFINISHED,
    UNLISTED,
    UNLOGGED,
    Shortfall,
)
from replcheck.audit.telling import Teller
from replcheck.audit.unaligned import UnalignedReads
from replcheck.audit.verdicts import not_checked
from replcheck.audit.work import WorkQueue
from replcheck.audit.worker import Job, LaneWorker, known_blocks
from replcheck.errors import NodeError
from replcheck.events import DatabasePlanned, ListedRelation, Skipped
from replcheck.model.audit import AlignmentReport, Finding, NotChecked
from replcheck.postgres.catalog import Relation, read_relations

_ROUNDS = 8
"""How often relations are looked for that came into being while the others were read."""
_PLANNING_TRIES = 20
_DAMAGE_TRIES = 5
"""How often at most the lists are read again because a node could not read its own."""


class DatabaseAudit:
    """Audits one database; what it proved can be read when `run` has ended."""

    def __init__(self, database: str, oid: int, cluster: Cluster, *, shared_here: bool) -> None:
        self.database = database
        self._oid = oid
        self.plan: Plan | None = None
        self._unread: frozenset[int] = frozenset()
        """Relations that were planned last, and not read when nobody looks for more."""
        self._cluster = cluster
        self._shared_here = shared_here
        self._pace = Pace(cluster.options, cluster.primary.facts, [node.facts for node in cluster.replicas.values()])
        self._job = Job(
            queue=WorkQueue((), self._pace.chunk_blocks),
            watch=DefinitionWatch(cluster.primary.name),
            pace=self._pace,
            dropped={},
            alignments={name: [] for name in cluster.replicas},
            absent={},
            damage=CatalogDamage(database, oid),
            teller=Teller(database, oid, cluster.primary.name, cluster.emit),
        )
        numbers = range(1, cluster.options.jobs + 1)
        lanes = [Lane(number, database, oid, cluster, self._job.damage) for number in numbers]
        self._workers = [LaneWorker(lane, cluster, self._job) for lane in lanes]
        self._indexes = IndexAudit(database, cluster)
        self._unaligned = UnalignedReads(database, cluster, self._workers[0], self._job)

    @property
    def proofs(self) -> list[RelationProof]:
        """Return the proofs of the relations that still exist."""
        return [proof for oid, proof in self._job.queue.proofs.items() if oid not in self._job.dropped]

    @property
    def dropped(self) -> list[Relation]:
        """Return the relations that were dropped, or made unlogged, while the audit ran."""
        return list(self._job.dropped.values())

    @property
    def absent(self) -> Mapping[str, Shortfall]:
        """Return the nodes that lack the database or cannot read its catalogs."""
        return self._job.absent

    @property
    def damage(self) -> CatalogDamage:
        """Return which nodes cannot read the database's catalogs."""
        return self._job.damage

    @property
    def extras(self) -> Mapping[str, Mapping[int, Relation]]:
        """Return the relations that only a replica has, by replica and oid."""
        return self._job.watch.extras

    @property
    def unsettled_extras(self) -> frozenset[str]:
        """Return the replicas that seem to have a relation which the primary lacks, without certainty."""
        return frozenset(name for _, name in self._job.watch.unsettled_extras)

    @property
    def unlisted(self) -> frozenset[str]:
        """Return the replicas that take part, and of which nobody knows whether they have relations of their own."""
        return self._job.watch.never_listed(name for name in self._cluster.replicas if self._takes_part(name))

    @property
    def alignments(self) -> Mapping[str, list[AlignmentReport]]:
        """Return the alignments by replica."""
        return self._job.alignments

    async def run(self) -> None:
        """Prove what can be proven; returns early where the primary is gone or no replica is left."""
        await self._cluster.gate.wait_open()
        if await self._make_plan():
            for _ in range(_ROUNDS):
                await asyncio.gather(*(worker.work() for worker in self._workers))
                self._unread = await self._plan_latecomers()
                if not self._unread:
                    break
            await self._look_at_extras()
        await self._find_witness()
        # What is read next follows no snapshot, and one that is left open would keep the locks of what is read.
        await self._workers[0].settle()

    async def compare_software(self) -> list[Finding]:
        """Compare the versions of extensions and collations; call it after `run`."""
        return await self._unaligned.compare_software()

    async def check_indexes(self) -> None:
        """Check indexes against their tables, where that is asked for; call it last, since it gives the lanes back."""
        if self._cluster.options.indexes and self.plan is not None:
            await self._close_lanes()
            await self._indexes.run(self.plan.digested)

    def index_findings(self, left_over: Shortfall) -> IndexFindings:
        """Return what came of the indexes; what was not checked is so because of `left_over`."""
        return self._indexes.findings(left_over)

    async def bracket(self) -> dict[str, Mapping[int, SequenceVerdict]]:
        """Bracket the sequences on every replica; call it after `run`. The keys are replicas, then oids."""
        return await self._unaligned.bracket(self.plan.sequences if self.plan else ())

    def finish(self, lack: Shortfall) -> None:
        """Record that what is left will not be proven, for every replica."""
        self._workers[0].retire_gone()
        lack = self._job.absent.get(self._cluster.primary.name, lack)
        for oid, proof in self._job.queue.proofs.items():
            late = oid in self._unread and lack is UNFINISHED
            for name in proof.active:
                proof.give_up(name, TOO_LATE if late else lack)

    async def close(self) -> None:
        """Close every session."""
        await asyncio.gather(self._close_lanes(), self._indexes.close())

    async def cancel(self) -> None:
        """End what is going on on the servers and close every session."""
        await asyncio.gather(*(worker.lane.cancel() for worker in self._workers), self._indexes.cancel())

    async def _close_lanes(self) -> None:
        await asyncio.gather(*(worker.lane.close() for worker in self._workers))

    async def _make_plan(self) -> bool:
        tries = 0
        while not self._workers[0].over and tries < _PLANNING_TRIES:
            listing = await self._listing()
            if listing is not None and not (self._job.damage.unsettled and tries < _DAMAGE_TRIES):
                self._adopt(*listing)
                return True
            await self._workers[0].settle()
            tries += int(self._cluster.primary.usable)
        return False

    async def _find_witness(self) -> None:
        """Have the other nodes list the database where all that is known of it is that one cannot."""
        worker = self._workers[0]
        for node in self._cluster.nodes if self._job.damage.unwitnessed else ():
            if node.usable and node.name not in self._job.absent:
                try:
                    listed = await read_relations(await worker.lane.session(node))
                except NodeError as error:
                    await worker.failed(node.name, error)
                else:
                    self._job.damage.read(node.name, listed.values())

    async def _listing(self, *, but: Collection[int] = ()) -> tuple[Listing, Alignment] | None:
        """List every relation on every node that can be aligned, those in `but` left out.

        None where the primary could not. What is out of scope is only named: nobody looks up what it is made of.
        """
        worker = self._workers[0]
        if not await worker.align(frozenset(self._cluster.replicas)):
            return None
        alignment = worker.lane.alignment
        if alignment is None:
            return None
        listing = await worker.list_relations(None, but=but, detailed=self._is_in_scope)
        return (listing, alignment) if self._cluster.primary.name in listing else None

    def _sorted(self, listing: Listing) -> Plan:
        return plan_relations(
            listing[self._cluster.primary.name].values(),
            self._cluster.options,
            database=self.database,
            shared_here=self._shared_here,
            role=self._cluster.primary.facts.privileges.role,
        )

    def _adopt(self, listing: Listing, alignment: Alignment) -> None:
        self.plan = self._sorted(listing)
        self._take_on(self.plan.digested, listing, alignment)
        self._job.watch.note_extras(listing, self._in_scope(listing), alignment.exact)
        proofs = self._job.queue.proofs
        now, size = datetime.now(UTC), sum(left_bytes(proofs[relation.oid]) for relation in self.plan.digested)
        self._cluster.emit(
            DatabasePlanned(
                at=now,
                database=self.database,
                relations=len(self.plan.digested),
                size_bytes=size,
                oid=self._oid,
                listed=tuple(_listed(relation) for relation in self.plan.digested),
            )
        )
        for note in self.plan.not_checked:
            self._cluster.emit(Skipped(at=now, what=note))

    def _take_on(self, relations: Iterable[Relation], listing: Listing, alignment: Alignment) -> None:
        newest = self._cluster.anchors.drawn
        for relation in relations:
            earlier = self._cluster.earlier.get(relation.state(self._oid), ())
            proof = RelationProof(
                relation,
                self._cluster.replicas,
                known_blocks=known_blocks(relation, listing, self._pace),
                sweep=self._pace.sweeps(relation),
                alignment=alignment.number,
                newest=newest,
                earlier=earlier,
            )
            self._job.queue.add(proof)
            self._job.watch.compare(proof, listing, alignment.exact)
            self._job.teller.taken_over(earlier)
            if proof.finished:
                self._job.teller.finished([proof])

    async def _plan_latecomers(self) -> frozenset[int]:
        """Plan relations that came into being since the last listing; return what there is to read of them.

        What cannot be listed or read is told: a table that took another's place under its name must not be missed. One
        that was unlogged when it was looked at, and is not any more, is new again.
        """
        plan, dropped = self.plan, self._job.dropped
        if plan is None:
            return frozenset()
        listing = await self._list_latecomers(plan)
        if listing is None:
            self._tell_unlisted()
            return frozenset()
        now = self._sorted(listing[0])
        self.plan = replace(plan, digested=(*plan.digested, *now.digested), sequences=(*plan.sequences, *now.sequences))
        told = {(relation.label, UNLOGGED.code) for relation in dropped.values() if relation.unlogged}
        self._skip(note for note in now.not_checked if (note.relation, note.code) not in told)
        for relation in now.digested:
            dropped.pop(relation.oid, None)
        self._take_on(now.digested, *listing)
        return frozenset(relation.oid for relation in now.digested)

    async def _list_latecomers(self, plan: Plan) -> tuple[Listing, Alignment] | None:
        """List what is not planned yet; None where nobody is left to compare, or the primary could not, often."""
        tries = 0
        while not self._workers[0].over and tries < _PLANNING_TRIES:
            await self._cluster.gate.wait_open()
            known = self._job.queue.proofs.keys() | {other.oid for other in plan.sequences}
            known -= {oid for oid, relation in self._job.dropped.items() if relation.unlogged}
            listing = await self._listing(but=known)
            if listing is not None:
                return listing
            await self._workers[0].settle()
            tries += int(self._cluster.primary.usable and any(node.usable for node in self._cluster.replicas.values()))
        return None

    def _tell_unlisted(self) -> None:
        """Tell that what came into being meanwhile is unknown, unless something else says that not all was proven."""
        if self._cluster.primary.name in self._job.absent:
            told_besides = not all(proof.finished for proof in self._job.queue.proofs.values())
        else:
            told_besides = self._workers[0].over
        if not (self._cluster.over or told_besides):
            self._skip([not_checked(self.database, None, None, UNLISTED.code, UNLISTED.reason, hint=UNLISTED.hint)])

    def _skip(self, notes: Iterable[NotChecked]) -> None:
        """Take notes into the plan, and tell them, but for those that are there."""
        assert self.plan is not None  # noqa: S101 - nothing is noted before there is a plan
        new = [note for note in dict.fromkeys(notes) if note not in self.plan.not_checked]
        self.plan = replace(self.plan, not_checked=(*self.plan.not_checked, *new))
        for note in new:
            self._cluster.emit(Skipped(at=datetime.now(UTC), what=note))

    async def _look_at_extras(self) -> None:
        """Look for relations that only a replica has, where that was not done: on those that joined after the plan.

        What seemed to be one is looked at again under other alignments.
        """
        watch, worker = self._job.watch, self._workers[0]
        began = self._cluster.clock()
        while (left := self._to_be_listed()) and self._cluster.clock() - began < self._cluster.options.settle_budget_s:
            await self._cluster.gate.wait_open()
            aligned = not worker.over and await worker.align(left)
            alignment = worker.lane.alignment
            if not aligned or alignment is None:
                if worker.over:
                    return
                continue
            listing = await worker.list_relations(None, detailed=lambda _: False)
            exact = alignment.exact
            await worker.settle()
            if self._cluster.primary.name in listing:
                watch.note_extras(listing, self._in_scope(listing), exact)

    def _to_be_listed(self) -> frozenset[str]:
        return self.unlisted | {name for name in self.unsettled_extras if self._takes_part(name)}

    def _takes_part(self, name: str) -> bool:
        return self._cluster.replicas[name].gone is None and name not in self._job.absent

    def _in_scope(self, listing: Listing) -> frozenset[int]:
        return frozenset(
            oid for relations in listing.values() for oid, relation in relations.items() if self._is_in_scope(relation)
        )

    def _is_in_scope(self, relation: Relation) -> bool:
        return in_scope(relation, self._cluster.options, self.database, shared_here=self._shared_here)


def _listed(relation: Relation) -> ListedRelation:
    return ListedRelation(oid=relation.oid, relation=relation.label, size_bytes=relation.total_bytes)
