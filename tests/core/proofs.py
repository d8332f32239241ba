"""Relations, findings and whole audits in memory, for the tests of what is folded from them."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from replcheck.audit.comparison import (
    BlockRange,
    ChunkFinding,
    PartsRequest,
    ReplicaFinding,
    Request,
    SweepRequest,
    WholeRequest,
    compare,
)
from replcheck.audit.explanation import Ctid, RowDifference
from replcheck.audit.proof import Chunk, RelationProof
from replcheck.audit.shortfalls import Shortfall
from replcheck.audit.work import Finished, Pause, Realign, WorkQueue
from replcheck.model.audit import DifferenceKind, RelationKind
from replcheck.model.outcome import Verdict
from replcheck.postgres.catalog import Relation
from replcheck.postgres.digests import LAST_BLOCK, Digest
from tests.core.heaps import PRIMARY, ModelRelation, run

FIRST_OID = 20_000


def relation(oid: int = FIRST_OID, **changes: Any) -> Relation:
    """Return an ordinary table that may be read."""
    made = Relation(
        oid=oid,
        schema="public",
        name=f"visit_{oid}",
        kind=RelationKind.TABLE,
        persistence="p",
        filenode=oid + 7,
        filenode_now=oid + 7,
        shared=False,
        access_method="heap",
        row_security=False,
        readable=True,
        schema_usable=True,
        populated=True,
    )
    return replace(made, **changes)


def proof(*replicas: str, known_blocks: int = 100, sweep: bool = False, **changes: Any) -> RelationProof:
    """Return the proof of a table that begins."""
    return RelationProof(relation(**changes), replicas or ("db2",), known_blocks=known_blocks, sweep=sweep)


def lack(code: str = "locked", verdict: Verdict = Verdict.INCONCLUSIVE) -> Shortfall:
    return Shortfall(code=code, reason=f"because of {code}", verdict=verdict)


def rows(*ctids: Ctid, in_flight: bool = False, lone: str | None = None) -> tuple[RowDifference, ...]:
    """Return rows that are missing on a replica."""
    kind = DifferenceKind.MISSING
    return tuple(RowDifference(ctid=ctid, kind=kind, in_flight=in_flight, lone=lone) for ctid in ctids)


def showing(**replicas: ReplicaFinding) -> ChunkFinding:
    """Return a finding of a chunk of one row on the primary."""
    return ChunkFinding(digest=Digest(1, (7,)), replicas=replicas)


def clean(*replicas: str) -> ChunkFinding:
    """Return a finding that is clean on each of these replicas."""
    return showing(**{name: ReplicaFinding() for name in replicas})


def missing(*ctids: Ctid, in_flight: bool = False) -> ReplicaFinding:
    """Return a finding in which a replica lacks rows."""
    return ReplicaFinding(rows=rows(*ctids, in_flight=in_flight))


UNSEEN = ReplicaFinding(seen=False)


def covered(chunks: Iterable[Chunk]) -> list[BlockRange]:
    """Return every range of some chunks in order."""
    return sorted(blocks for chunk in chunks for blocks in chunk.ranges)


def tiles_the_heap(ranges: list[BlockRange]) -> bool:
    """Tell whether ranges, in order, hold every block exactly once."""
    edges = [0, *(blocks.end for blocks in ranges)]
    return [blocks.first for blocks in ranges] == edges[:-1] and edges[-1] == LAST_BLOCK


Look = Callable[[int], ModelRelation]
"""Returns what the nodes of a relation show under an alignment, told by its number."""


@dataclass
class ModelLane:
    alignment: int | None = None
    replicas: frozenset[str] = frozenset()
    pending: list[tuple[Chunk, ChunkFinding]] = field(default_factory=list)
    done: bool = False


class ModelAudit:
    """Lanes that work off a queue against model relations; what happens when is drawn from a seed."""

    budget_s = 60.0
    most_steps = 5_000

    def __init__(
        self, proofs: list[RelationProof], looks: dict[int, Look], *, seed: int, lanes: int = 2, rows_limit: int = 1_000
    ) -> None:
        self.chance = random.Random(seed)
        self.chunk_blocks = self.chance.choice([40, 300, 5_000])
        self.queue = WorkQueue(proofs, lambda _: self.chunk_blocks)
        self.now = 0.0
        self.alignments = 0
        self.flakiness = 0.0
        """How likely a replica is lost while a chunk is read."""
        self._looks = looks
        self._rows_limit = rows_limit
        self._lanes = [ModelLane() for _ in range(lanes)]

    @property
    def replicas(self) -> frozenset[str]:
        return frozenset(name for each in self.queue.proofs.values() for name in each.tallies)

    def run(self) -> None:
        """Work until every lane has nothing left to do."""
        for _ in range(self.most_steps):
            working = [lane for lane in self._lanes if not lane.done]
            if not working:
                return
            self.now += self.chance.choice([0.0, 0.01, 0.3])
            lane = self.chance.choice(working)
            if self.chance.random() < 0.1:
                self._settle(lane)
            self._step(lane)
        raise AssertionError("the audit does not come to an end")

    def _step(self, lane: ModelLane) -> None:
        step = self.queue.next(lane.alignment, lane.replicas, self.now)
        match step:
            case Chunk():
                assert lane.alignment is not None
                more = self.queue.more_small(step, lane.alignment, lane.replicas, self.now)
                for chunk in (step, *more):
                    assert chunk.last_alignment != lane.alignment
                    assert chunk.not_before <= self.now
                    if more and self.chance.random() < self.flakiness:
                        self.queue.put_back([replace(chunk, alone=True)])
                    else:
                        lane.pending.append(self._read(lane, chunk))
                    self.queue.done()
            case Realign(wanted=wanted):
                self._settle(lane)
                self._align(lane, wanted)
            case Pause(until=until):
                self._settle(lane)
                self.now = max(self.now, until)
            case Finished():
                self._settle(lane)
                lane.done = self.queue.next(None, frozenset(), self.now) == Finished()

    def _align(self, lane: ModelLane, wanted: frozenset[str]) -> None:
        able = frozenset(name for name in self.replicas if self.chance.random() < 0.8)
        if able & wanted:
            self.alignments += 1
            lane.alignment, lane.replicas = self.alignments, able

    def _read(self, lane: ModelLane, chunk: Chunk) -> tuple[Chunk, ChunkFinding]:
        each = self.queue.proofs[chunk.oid]
        present = self._looks[chunk.oid](lane.alignment or 0)
        asked = lane.replicas if chunk.looks else lane.replicas & chunk.needed & each.active
        lost = {name for name in asked if self.chance.random() < self.flakiness}
        comparison = compare(
            self._request(each, chunk),
            primary=PRIMARY,
            unsettled={name: present.unsettled[name] for name in sorted(asked)},
            known_blocks=each.known_blocks,
            rows_limit=self._rows_limit - each.rows_listed,
        )
        after = self.chance.randrange(4)
        count = 0

        def answer(request: Request) -> Any:
            nonlocal count
            count += 1
            return present.reply(request, {PRIMARY, *asked} - (lost if count > after else set()))

        finding = run(comparison, answer)
        for name in lost:
            if not finding.replicas[name].seen:
                chunk = chunk.failed(name, lack("conflict"))
        return chunk, finding

    def _request(self, each: RelationProof, chunk: Chunk) -> WholeRequest | SweepRequest | PartsRequest:
        if chunk.sweep:
            return SweepRequest(tuple(range(50, each.known_blocks, 50)))
        return WholeRequest() if chunk.whole else PartsRequest(chunk.ranges, 16)

    def _settle(self, lane: ModelLane) -> None:
        for chunk, finding in lane.pending:
            each = self.queue.proofs[chunk.oid]
            assert lane.alignment is not None
            self.queue.put_back(
                each.absorb(chunk, finding, alignment=lane.alignment, now=self.now, budget_s=self.budget_s)
            )
        lane.alignment, lane.replicas, lane.pending = None, frozenset(), []
