"""What a lane does next: the fresh and the returned chunks of one database's relations.

Pure but for the clock's value, which comes in. A returned chunk is never given to the alignment it came from: a second
look must be an independent one. No chunk is given to an alignment older than its relation's plan: an old snapshot sees
nothing of a heap that was rewritten since, on any node.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from replcheck.audit.proof import SMALL_BLOCKS, Chunk, RelationProof

MOST_TOGETHER = 32
"""Small relations that are read in one round trip."""
TOGETHER_BLOCKS = 256
"""Blocks of such relations: their locks are held until all are read."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing can be done before `until` (monotonic seconds), or before another lane is done."""

    until: float


@dataclass(frozen=True, slots=True)
class Realign:
    """There is work, but not under this alignment: one with some of these replicas is needed."""

    wanted: frozenset[str]
    witnesses: bool
    """Whether the other replicas are to take part too: a second look tells which node stands alone."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing is left to do."""


Step = Chunk | Pause | Realign | Finished


class WorkQueue:
    """The chunks of one database; shared by its lanes."""

    def __init__(self, proofs: Iterable[RelationProof], chunk_blocks: Callable[[RelationProof], int]) -> None:
        self.proofs = {proof.relation.oid: proof for proof in proofs}
        self._order: dict[int, None] = dict.fromkeys(self.proofs)
        """Relations with parts that were never given out, perhaps; in the order in which they are."""
        self._chunk_blocks = chunk_blocks
        self._returned: list[Chunk] = []
        self.at_work = 0
        """Chunks that lanes have taken and not given back; their findings may bring more work."""
        self.aligning = 0
        """Lanes that are looking for an alignment."""

    def add(self, proof: RelationProof) -> None:
        """Take a relation in."""
        self.proofs[proof.relation.oid] = proof
        self._order[proof.relation.oid] = None

    def put_back(self, chunks: Iterable[Chunk]) -> None:
        """Take chunks that are to be read again."""
        self._returned.extend(chunks)

    def next(self, alignment: int | None, replicas: frozenset[str], now: float) -> Step:
        """Return what a lane does that holds this alignment with these replicas (None and empty: with none)."""
        self._forget_void()
        wanted: set[str] = set()
        wake = float("inf")
        for number, chunk in enumerate(self._returned):
            open_for = chunk.needed & self.proofs[chunk.oid].active
            if chunk.not_before > now:
                wake = min(wake, chunk.not_before)
            elif self._serves(alignment, chunk.oid) and chunk.last_alignment != alignment and open_for & replicas:
                self.at_work += 1
                return self._returned.pop(number)
            else:
                wanted |= open_for
        fresh = self._fresh(alignment, replicas) if alignment is not None else None
        if fresh is not None:
            self.at_work += 1
            return fresh
        unread = self._wanted_fresh()
        if unread or (wanted and not self.aligning):
            looks = any(chunk.looks for chunk in self._returned)
            return Realign(frozenset(wanted | unread), witnesses=looks)
        if wanted:
            return Pause(now + 0.05)
        if self._returned or self.at_work:
            return Pause(wake if self._returned else now + 0.05)
        return Finished()

    def more_small(self, like: Chunk, alignment: int, replicas: frozenset[str], now: float) -> list[Chunk]:
        """Return chunks to be read in one round trip with one that was just taken; each of them is to be `done` too.

        Each covers a small relation whole and is needed by the same replicas.
        """
        first, taken = self.proofs[like.oid], list[Chunk]()
        left = TOGETHER_BLOCKS - first.weight
        while like.plain and first.small and left >= SMALL_BLOCKS and len(taken) < MOST_TOGETHER - 1:
            chunk = self._returned_like(like, alignment, now) or self._fresh_like(like, alignment, replicas)
            if chunk is None:
                break
            left -= self.proofs[chunk.oid].weight
            taken.append(chunk)
        self.at_work += len(taken)
        return taken

    def _returned_like(self, like: Chunk, alignment: int, now: float) -> Chunk | None:
        for number, chunk in enumerate(self._returned):
            proof = self.proofs[chunk.oid]
            ripe = chunk.not_before <= now and chunk.last_alignment != alignment and self._serves(alignment, chunk.oid)
            if ripe and chunk.plain and proof.small and chunk.needed == like.needed <= proof.active:
                return self._returned.pop(number)
        return None

    def _fresh_like(self, like: Chunk, alignment: int, replicas: frozenset[str]) -> Chunk | None:
        while self._order and not self.proofs[next(iter(self._order))].unread:
            del self._order[next(iter(self._order))]
        proof = self.proofs[next(iter(self._order))] if self._order else None
        fit = proof is not None and proof.small and proof.untouched and proof.active == like.needed
        return self._fresh(alignment, replicas) if fit else None

    def done(self) -> None:
        """Tell that a chunk taken with `next` was given back, whatever came of it."""
        self.at_work -= 1

    def _forget_void(self) -> None:
        kept = []
        for chunk in self._returned:
            proof = self.proofs[chunk.oid]
            if chunk.epoch == proof.epoch and chunk.needed & proof.active:
                kept.append(chunk)
            else:
                proof.drop(chunk)
        self._returned = kept

    def _serves(self, alignment: int | None, oid: int) -> bool:
        return alignment is not None and alignment >= self.proofs[oid].planned_under

    def _fresh(self, alignment: int, replicas: frozenset[str]) -> Chunk | None:
        exhausted, chunk = [], None
        for oid in self._order:
            proof = self.proofs[oid]
            active = proof.active
            if active and not (active & replicas and self._serves(alignment, oid)):
                continue
            chunk = proof.fresh(self._chunk_blocks(proof))
            if chunk is not None:
                break
            exhausted.append(oid)
        for oid in exhausted:
            del self._order[oid]
        return chunk

    def _wanted_fresh(self) -> frozenset[str]:
        unread = (self.proofs[oid] for oid in self._order)
        return frozenset[str]().union(*(proof.active for proof in unread if proof.unread))

    def reopen(self, oid: int) -> None:
        """Offer a relation's fresh chunks again, after it was planned anew."""
        self._order.setdefault(oid)
