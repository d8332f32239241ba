"""How much to read at once: chunk sizes from the measured rate, and which relations are read in one plain scan.

Pure. A plain scan of a large relation goes through a small ring of buffers and leaves the hot set in memory, but it
must end within the life of a snapshot; TID ranges can be of any size.
"""

from collections.abc import Iterable

from replcheck.audit.comparison import LISTED_BLOCKS, PartsRequest, SweepRequest, WholeRequest
from replcheck.audit.options import AuditOptions, Pacing
from replcheck.audit.proof import Chunk, RelationProof
from replcheck.postgres.catalog import Relation
from replcheck.postgres.nodes import NodeFacts, standby_lifetime_s

_FIRST_CHUNK_BLOCKS = 4096
_SMALLEST_CHUNK_BLOCKS = 256
_LARGEST_CHUNK_BLOCKS = 131_072
_SWEEP_PARTS = 512
_SLOW_PARTS = 64
"""Into how many chunks a relation is cut at first that was too slow, or in somebody's way, when it was read whole."""
_SWEEP_S = 5.0
"""The longest scan, as far as can be told before; its lock lasts as long, unless somebody waits for it."""
_GENTLE_SWEEP_S = 1.0
_GENTLE_CHUNK_S = 0.1
"""So short that the rest behind it keeps the snapshot: an alignment under load costs more than such a chunk."""
ASSUMED_BYTES_PER_S = 100_000_000
"""What one lane reads before anything was measured."""


class Pace:
    """Sizes of what is read from one set of nodes."""

    def __init__(self, options: AuditOptions, primary: NodeFacts, replicas: Iterable[NodeFacts]) -> None:
        nodes = [primary, *replicas]
        life_s = min([options.max_snapshot_age_s, *(standby_lifetime_s(node.settings) for node in nodes[1:])])
        self._block_size = primary.block_size
        self._smallest_buffers = min(node.shared_buffers for node in nodes)
        gentle = options.pacing is Pacing.GENTLE
        self._sweep_s = min(life_s / 2, _GENTLE_SWEEP_S if gentle else _SWEEP_S)
        self._chunk_s = min(_GENTLE_CHUNK_S if gentle else options.chunk_target_s, life_s / 3)
        self._bytes_per_s = float(ASSUMED_BYTES_PER_S)

    def blocks(self, size_bytes: int) -> int:
        """Return the number of blocks of so many bytes."""
        return -(-size_bytes // self._block_size)

    def sweeps(self, relation: Relation) -> bool:
        """Tell whether to read a relation in one plain scan: it is large for some node's buffers, and soon read."""
        large = relation.size_bytes > self._smallest_buffers / 4
        return large and relation.total_bytes / self._bytes_per_s <= self._sweep_s

    def chunk_blocks(self, proof: RelationProof) -> int:
        """Return how many blocks of a relation take about as long as a chunk should on the slowest node."""
        if proof.blocks_per_s is None:
            first = _of_heap(proof, _FIRST_CHUNK_BLOCKS)
            return min(first, max(1, proof.known_blocks // _SLOW_PARTS)) if proof.in_ranges else first
        blocks = min(_of_heap(proof, _LARGEST_CHUNK_BLOCKS), int(proof.blocks_per_s * self._chunk_s))
        return max(_of_heap(proof, _SMALLEST_CHUNK_BLOCKS), blocks)

    def request(self, proof: RelationProof, chunk: Chunk) -> WholeRequest | SweepRequest | PartsRequest:
        """Return how to begin the comparison of a chunk."""
        if chunk.sweep:
            step = max(LISTED_BLOCKS, -(-proof.known_blocks // _SWEEP_PARTS))
            return SweepRequest(tuple(range(step, proof.known_blocks, step)))
        return WholeRequest() if chunk.whole else PartsRequest(chunk.ranges, LISTED_BLOCKS)

    def measure(self, proof: RelationProof, chunk: Chunk, elapsed_s: float) -> None:
        """Learn from how long a fresh chunk took."""
        blocks = min(chunk.blocks.end, proof.known_blocks) - chunk.blocks.first
        if elapsed_s > 0 and chunk.first and blocks >= _of_heap(proof, _SMALLEST_CHUNK_BLOCKS):
            proof.blocks_per_s = blocks / elapsed_s
            self._bytes_per_s += (chunk_bytes(proof, chunk) / elapsed_s - self._bytes_per_s) / 4


def _of_heap(proof: RelationProof, blocks: int) -> int:
    """Return about how many of so many blocks are the heap's where values stored outside are read with them."""
    return max(1, blocks * max(proof.known_blocks, 1) // max(proof.weight - 1, 1))


def left_bytes(proof: RelationProof) -> int:
    """Return the bytes of the relation that no earlier run has proven, values stored outside included."""
    known = max(proof.known_blocks, 1)
    return proof.relation.total_bytes * min(proof.blocks_left, known) // known


def chunk_bytes(proof: RelationProof, chunk: Chunk) -> int:
    """Return the bytes of the relation that a fresh chunk stands for, values stored outside included; 0 for another."""
    if not chunk.first:
        return 0
    known = max(proof.known_blocks, 1)
    last = min(chunk.blocks.end, max(known, chunk.blocks.first))
    return proof.relation.total_bytes * (last - chunk.blocks.first) // known
