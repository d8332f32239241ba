"""What the lanes of one database tell while they work; beginnings and ends of relations once each."""

from collections.abc import Iterable, Mapping
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
from replcheck.model.progress import ProvenBlocks


class Teller:
    """Emits the events of one database's relations; shared by its lanes."""

    def __init__(self, database: str, oid: int, primary: str, emit: Emit) -> None:
        self._database = database
        self._oid = oid
        self._primary = primary
        self._emit = emit
        self._started: set[int] = set()
        self._finished: set[int] = set()

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
    ) -> None:
        """Tell which blocks a settled finding proves for good, so that a later run can build on it.

        `shown` are the replicas whose definition was found unchanged, `at` is when the snapshots were taken.
        """
        rows = finding.digest.rows if finding.digest and chunk.first else None
        for ranges, replicas in proof.proven(chunk, shown).items():
            kept = ProvenBlocks(
                state=proof.relation.state(self._oid),
                replicas=tuple(replicas),
                ranges=ranges,
                rows=rows,
                proven_at=at,
            )
            rows = None
            self.taken_over([kept])

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
