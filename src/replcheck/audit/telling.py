"""What the lanes of one database tell while they work; beginnings and ends of relations once each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from replcheck.audit.comparison import ChunkFinding, ReplicaFinding
from replcheck.audit.pace import chunk_bytes
from replcheck.audit.proof import Chunk, RelationProof
from replcheck.audit.verdicts import relation_divergences, relation_report
from replcheck.events import (
    BlocksProven,
    ChunkCompared,
    DivergenceFound,
    Emit,
    RelationFinished,
    RelationStarted,
    RowsDiffer,
)
from replcheck.model.outcome import Verdict
from replcheck.model.progress import ProvenBlocks, without

Proven = Mapping[tuple[tuple[int, int], ...], Iterable[str]]
"""Replicas by the ranges of blocks that are proven for them."""

Ranges = Sequence[tuple[int, int]]
"""First block, and the block behind the last, of each range."""


class Pending:
    """What is proven of one plan of a relation by digests, but for blocks that are still to be streamed."""

    def __init__(self, *, epoch: int) -> None:
        self.epoch = epoch
        self._unstreamed: dict[str, list[tuple[int, int]]] = {}
        self._held: list[tuple[list[ProvenBlocks], int | None]] = []
        """Proofs of one replica each that belong together, with the rows of their blocks where they count them."""
        self._incomplete: list[tuple[Ranges, Ranges]] = []
        """Chunks whose rows were counted, each with its blocks that are proven for no replica yet."""

    def await_stream(self, drawn: Proven) -> None:
        """Wait for blocks to be streamed."""
        for ranges, replicas in drawn.items():
            for name in replicas:
                self._unstreamed.setdefault(name, []).extend(ranges)

    def streamed(self, agreed: Proven) -> None:
        """Wait no longer for blocks whose rows were the same here."""
        for ranges, replicas in agreed.items():
            for name in replicas:
                self._unstreamed[name] = without(self._unstreamed.get(name, ()), ranges)

    def counted(self, chunk: Ranges, proven: Ranges) -> None:
        """Tell nothing of a counted chunk until each of its blocks is proven for some replica.

        A run that took over the rows of all of it, and not all of its blocks, would count those that are left again.
        """
        missing = without(chunk, proven)
        if missing:
            self._incomplete.append((chunk, missing))

    def covered(self, proven: Ranges) -> None:
        """Take note that blocks are proven for some replica."""
        left = ((chunk, without(missing, proven)) for chunk, missing in self._incomplete)
        self._incomplete = [(chunk, missing) for chunk, missing in left if missing]

    def hold(self, proof: ProvenBlocks, rows: int | None) -> None:
        """Take a proof in, with the rows of its blocks; None where another proof counts them."""
        self._held.append(([replace(proof, replicas=(name,)) for name in proof.replicas], rows))

    def settled(self) -> list[ProvenBlocks]:
        """Give out the proofs that wait for nothing; where replicas are settled one by one, the first has the rows."""
        told, held, self._held = list[ProvenBlocks](), self._held, []
        for proofs, rows in held:
            ready = [proof for proof in proofs if not self._waits(proof)]
            waiting = [proof for proof in proofs if proof not in ready]
            if ready:
                told.append(
                    replace(ready[0], replicas=tuple(name for each in ready for name in each.replicas), rows=rows)
                )
            if waiting:
                self._held.append((waiting, None if ready else rows))
        return told

    def _waits(self, proof: ProvenBlocks) -> bool:
        cut = [*self._unstreamed.get(proof.replicas[0], ()), *(part for chunk, _ in self._incomplete for part in chunk)]
        return without(proof.ranges, cut) != sorted(proof.ranges)


class Teller:
    """Emits the events of one database's relations; shared by its lanes."""

    def __init__(self, database: str, oid: int, primary: str, emit: Emit) -> None:
        self._database = database
        self._oid = oid
        self._primary = primary
        self._emit = emit
        self._started: set[int] = set()
        self._finished: set[int] = set()
        self._pending: dict[int, Pending] = {}

    def started(self, proof: RelationProof) -> None:
        """Tell that a relation is being read, the first time."""
        relation = proof.relation
        if relation.oid not in self._started:
            self._started.add(relation.oid)
            self._emit(
                RelationStarted(
                    at=datetime.now(UTC),
                    database=self._database,
                    relation=relation.label,
                    size_bytes=relation.total_bytes,
                )
            )

    def compared(self, lane: int, proof: RelationProof, chunk: Chunk, finding: ChunkFinding, elapsed_s: float) -> None:
        """Tell what a chunk showed; nothing of it is settled yet."""
        now, relation = datetime.now(UTC), proof.relation.label
        needed = {name: shown for name, shown in finding.replicas.items() if name in chunk.needed}
        for name, shown in needed.items():
            if shown.seen and not shown.clean:
                self._emit(
                    RowsDiffer(
                        at=now,
                        database=self._database,
                        relation=relation,
                        node=name,
                        differing=shown.differing,
                        in_flight=shown.in_flight,
                        look=len(chunk.looks.get(name, ())) + 1,
                    )
                )
        clean = bool(needed) and all(shown.clean for shown in needed.values())
        self._emit(
            ChunkCompared(
                at=now,
                lane=lane,
                database=self._database,
                relation=relation,
                first_block=chunk.blocks.first,
                last_block=None if chunk.blocks.open_ended else chunk.blocks.end - 1,
                rows=finding.digest.rows if finding.digest and not chunk.check.streamed else 0,
                size_bytes=chunk_bytes(proof, chunk),
                elapsed_s=elapsed_s,
                verdict=Verdict.CONSISTENT if clean else Verdict.INCONCLUSIVE,
            )
        )

    def proven(
        self,
        proof: RelationProof,
        chunk: Chunk,
        finding: ChunkFinding,
        shown: Mapping[str, ReplicaFinding],
        at: datetime,
        drawn: Iterable[Chunk] = (),
    ) -> None:
        """Tell which blocks a settled finding proves for good, so that a later run can build on it.

        `shown` are the replicas whose definition was found unchanged, `at` is when the snapshots were taken. `drawn` is
        what of the chunk is to be compared in the client too: until that is done, nothing of the chunk is told. A run
        that took it over would draw nothing of it again, and a contradiction that was seen once would be lost.
        """
        proven = proof.proven(chunk, shown)
        pending = self._pending.get(proof.relation.oid)
        if pending is None or pending.epoch != proof.epoch:
            pending = self._pending[proof.relation.oid] = Pending(epoch=proof.epoch)
        if not chunk.check.streamed:
            for part in drawn:
                pending.await_stream(proof.proven(part, dict.fromkeys(part.needed, ReplicaFinding())))
            rows = finding.digest.rows if finding.digest and chunk.first else None
            found = [part for ranges in proven for part in ranges]
            pending.covered(found)
            if rows is not None:
                for ranges in proof.proven(chunk, dict.fromkeys(chunk.needed, ReplicaFinding())):
                    pending.counted(ranges, found)
            state = proof.relation.state(self._oid)
            for ranges, replicas in proven.items():
                kept = ProvenBlocks(state=state, replicas=tuple(replicas), ranges=ranges, rows=None, proven_at=at)
                pending.hold(kept, rows)
                rows = None
        elif not finding.too_wide:
            pending.streamed(proven)
        self.taken_over(pending.settled())

    def taken_over(self, proofs: Iterable[ProvenBlocks]) -> None:
        """Tell that blocks are proven, by this run or by the one that it goes on with."""
        for proof in proofs:
            self._emit(BlocksProven(at=datetime.now(UTC), proof=proof))

    def finished(self, proofs: Iterable[RelationProof]) -> None:
        """Tell which of these relations have nothing left to read."""
        for proof in proofs:
            oid = proof.relation.oid
            if proof.finished and oid not in self._finished:
                self._finished.add(oid)
                report, now = relation_report(self._database, proof), datetime.now(UTC)
                self._emit(RelationFinished(at=now, relation=report))
                if report.verdict is Verdict.DIVERGED:
                    for divergence in relation_divergences(self._database, proof, self._primary):
                        self._emit(DivergenceFound(at=now, divergence=divergence))
