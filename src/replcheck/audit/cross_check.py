"""The second, independent path: some chunks are streamed to the client and hashed there.

A verdict then does not rest on the servers' hash functions alone. What is drawn is read again as a chunk of its own:
its digests first, and where these agree, the rows themselves under the same snapshots. Digests cover position and
content, so rows whose digests agree are the same rows, whatever transactions a snapshot sees; only a server function
that is blind can make them agree over other ones. Such a difference is told as a divergence when a second alignment
shows it again, like any other. A difference of digests found on the way is an ordinary one.

Pure but for the generator of random numbers, which comes in.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from random import Random
from secrets import SystemRandom

from replcheck.audit.comparison import (
    BlockRange,
    ChunkFinding,
    Comparison,
    ReplicaFinding,
    Reply,
    StreamRequest,
    Unstreamable,
    cut_at,
    differing_blocks,
    joined,
)
from replcheck.model.audit import CrossCheckReport, Divergence, Finding
from replcheck.model.outcome import Outcome
from replcheck.model.progress import without
from replcheck.postgres.copying import Streamed

PIECE_BLOCKS = 2048
"""Blocks that are drawn, and streamed, at once."""
DISAGREE = "digest and content disagree"


class Check(Enum):
    """What is decided of a chunk."""

    UNDECIDED = "undecided"
    DECIDED = "decided"
    """Its blocks were drawn from; those that were drawn are chunks of their own."""
    DRAWN = "drawn"
    """To be streamed."""
    COUNTED = "counted"
    """To be streamed again, for another look or another replica."""

    @property
    def streamed(self) -> bool:
        """Return whether the chunk is to be streamed."""
        return self in (Check.DRAWN, Check.COUNTED)


@dataclass(slots=True)
class Sampler:
    """Draws a share, 0 to 1, of the pieces that it is shown, and counts what became of them.

    Which are drawn is chance, how many is not: never fewer than the share of those shown, rounded down, nor two more.
    The first is always drawn: a share that was asked for is not missed for want of pieces.
    """

    share: float
    rng: Random = field(default_factory=SystemRandom)
    seen: int = 0
    chunks: int = 0
    """Pieces that were streamed from all their nodes and compared."""
    rows: int = 0
    """Rows of the primary in them."""
    too_wide: int = 0
    """Pieces with a row that exceeds what COPY can send: they were not compared."""
    _drawn: int = 0

    def draw(self) -> bool:
        """Return whether the next piece is drawn."""
        self.seen += 1
        due = self.seen * self.share
        drawn = self.seen == 1 or self._drawn < int(due)
        if not drawn and self._drawn < due + 1:
            drawn = self.rng.random() < self.share
        self._drawn += drawn
        return drawn

    def count(self, finding: ChunkFinding) -> bool:
        """Count what a streamed chunk showed; return whether it was streamed from all its nodes."""
        if finding.too_wide:
            self.too_wide += 1
        elif finding.streamed_rows is not None:
            self.chunks += 1
            self.rows += finding.streamed_rows
        return finding.too_wide or finding.streamed_rows is not None


def pieces(ranges: Iterable[BlockRange], known_blocks: int) -> list[tuple[BlockRange, ...]]:
    """Cut a chunk's ranges into pieces; what lies beyond the known blocks goes with the last one.

    >>> pieces([BlockRange(0, 3000)], 9000)
    [(BlockRange(first=0, end=2048),), (BlockRange(first=2048, end=3000),)]
    """
    bounded, tail = cut_at(ranges, known_blocks)
    cut = [(part,) for blocks in bounded for part in blocks.cut(PIECE_BLOCKS)]
    if tail is None:
        return [*cut]
    return [*cut[:-1], (*cut[-1], tail)] if cut else [(tail,)]


def cross_checked(comparison: Comparison, ranges: tuple[BlockRange, ...], primary: str) -> Comparison:
    """Do a comparison, then stream the rows of the blocks whose digests agree with the primary's on some replica.

    Blocks that differ, because rows are in flight perhaps, are looked at again as chunks of their own, and streamed
    then.
    """
    finding = yield from comparison
    agreeing = _agreeing(ranges, finding)
    if finding.digest is None or not agreeing:
        return finding
    reply = yield StreamRequest(agreeing)
    return judged(finding, reply, primary)


def _agreeing(ranges: Iterable[BlockRange], finding: ChunkFinding) -> tuple[BlockRange, ...]:
    read = [(part.first, part.end) for part in ranges]
    differing = [_own(shown) for shown in finding.replicas.values() if _readable(shown)]
    if not differing:
        return ()
    everywhere = differing[0]
    for own in differing[1:]:
        everywhere = without(everywhere, without(everywhere, own))
    return tuple(BlockRange(*part) for part in without(read, everywhere))


def _own(shown: ReplicaFinding) -> list[tuple[int, int]]:
    return [(part.first, part.end) for part in differing_blocks(shown)]


def _readable(shown: ReplicaFinding) -> bool:
    return shown.seen and not (shown.unreadable or shown.unreadable_everywhere)


def judged(finding: ChunkFinding, reply: Reply, primary: str) -> ChunkFinding:
    """Return a finding of digests with what the streamed rows add to it; who did not answer was not looked at."""
    there = reply.get(primary)
    if isinstance(there, Unstreamable) or any(isinstance(answer, Unstreamable) for answer in reply.values()):
        return replace(finding, too_wide=True)
    if not isinstance(there, Streamed):
        unseen = {name: replace(shown, seen=False) for name, shown in finding.replicas.items()}
        return replace(finding, digest=None, replicas=unseen)
    replicas = {}
    for name, shown in finding.replicas.items():
        here = reply.get(name)
        if not _readable(shown):
            replicas[name] = shown
        elif isinstance(here, Streamed):
            odd = [(part.first, part.end) for part in contradicted(there, here)]
            replicas[name] = replace(shown, contradicted=tuple(BlockRange(*part) for part in without(odd, _own(shown))))
        else:
            replicas[name] = replace(shown, seen=False)
    whole = all(isinstance(reply.get(name), Streamed) for name in finding.replicas)
    something = there.rows or finding.digest is None or not finding.digest.rows
    return replace(finding, replicas=replicas, streamed_rows=there.rows if whole and something else None)


def contradicted(there: Streamed, here: Streamed) -> tuple[BlockRange, ...]:
    """Return the blocks whose rows differ."""
    blocks = there.blocks.keys() | here.blocks.keys()
    odd = [block for block in blocks if there.blocks.get(block) != here.blocks.get(block)]
    return tuple(joined(BlockRange(block, block + 1) for block in odd))


def report_of(sampler: Sampler, divergences: Iterable[Divergence]) -> CrossCheckReport | None:
    """Return what was compared in the client, None where nothing was asked for."""
    if not sampler.share:
        return None
    return CrossCheckReport(
        share=sampler.share,
        chunks=sampler.chunks,
        rows=sampler.rows,
        mismatches=sum(found.count for found in divergences if found.what == DISAGREE),
        too_wide=sampler.too_wide,
    )


def shortfall_of(sampler: Sampler, *, rows: int) -> Finding | None:
    """Return what was asked for and could not be had, None where all was: it never counts as passed.

    `rows` were compared in all.
    """
    if not sampler.share:
        return None
    wide = f"{sampler.too_wide} of the chunks drawn hold a row too wide for COPY"
    lacks = [wide] if sampler.too_wide else []
    lacks += ["no chunk was compared in the client"] if rows and not sampler.chunks else []
    if not lacks:
        return None
    return Finding(code="cross_check", node=None, what=f"cross-check: {' and '.join(lacks)}", outcome=Outcome.PARTIAL)
