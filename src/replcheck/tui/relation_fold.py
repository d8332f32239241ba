"""What each event of an audit makes of one relation: pure functions from one state of it to the next."""

from collections.abc import Iterable
from dataclasses import replace

from replcheck.events import ChunkCompared, RowsDiffer
from replcheck.model.audit import Divergence, RelationReport
from replcheck.model.outcome import Verdict
from replcheck.tui.audit_state import RANK_OF, Difference, Rank, RelationProgress
from replcheck.tui.ranges import Ranges, added, common, removed


def with_chunk(known: RelationProgress, event: ChunkCompared, *, second_look: bool) -> RelationProgress:
    """Return the relation after a chunk was read; `second_look` where its rows differ for the second time."""
    first = event.first_block
    # The last chunk of a relation has no upper bound: it holds what is written behind the blocks that were planned.
    end = event.last_block + 1 if event.last_block is not None else max(known.blocks, first + 1)
    matched, in_flight, diverged = known.matched, known.in_flight, known.diverged
    settled = event.verdict is not Verdict.INCONCLUSIVE
    if second_look:
        diverged, in_flight = added(diverged, first, end), removed(in_flight, first, end)
    elif settled:
        matched, in_flight = added(matched, first, end), removed(in_flight, first, end)
    else:
        in_flight, matched = added(in_flight, first, end), removed(matched, first, end)
    return replace(
        known,
        matched=matched,
        in_flight=in_flight,
        diverged=diverged,
        blocks=max(known.blocks, end),
        rows=known.rows + (event.rows if settled else 0),
        chunks=known.chunks + 1,
        compared_bytes=known.compared_bytes + (event.size_bytes if settled else 0),
        rank=known.rank if known.report else Rank.DIVERGED if diverged else Rank.READING,
    )


def with_difference(known: RelationProgress, event: RowsDiffer) -> RelationProgress:
    """Return the relation after rows of it were seen to differ."""
    found = Difference(rows=event.differing, in_flight=event.in_flight, look=event.look)
    return replace(known, differences={**known.differences, event.node: found})


def with_proof(
    known: RelationProgress, ranges: Iterable[tuple[int, int]], replicas: Iterable[str], all_replicas: Iterable[str]
) -> RelationProgress:
    """Return the relation after blocks of it were proven for some replicas; proven it is where they are for all."""
    blocks = [(first, min(end, known.blocks)) for first, end in ranges]
    by = dict(known.proven_by)
    for name in replicas:
        by[name] = _with_all(by.get(name, ()), blocks)
    proven = _proven_for_all([by.get(name, ()) for name in all_replicas])
    in_flight, diverged = known.in_flight, known.diverged
    for first, end in blocks:
        if proven:
            in_flight, diverged = (_without(part, first, end, proven) for part in (in_flight, diverged))
    return replace(known, proven_by=by, proven=proven, in_flight=in_flight, diverged=diverged)


def with_report(known: RelationProgress, report: RelationReport) -> RelationProgress:
    """Return the relation with its verdict, which has the last word."""
    rows = report.rows if report.rows is not None else known.rows
    known = replace(known, report=report, rank=RANK_OF[report.verdict], rows=rows)
    if report.verdict is Verdict.CONSISTENT:
        return replace(known, proven=((0, known.blocks),), in_flight=(), diverged=())
    if report.verdict is Verdict.DIVERGED:
        return replace(known, diverged=known.diverged or known.in_flight, in_flight=())
    return known


def with_divergence(known: RelationProgress, found: Divergence) -> RelationProgress:
    """Return the relation with the blocks in which its rows differ, as exactly as they are known."""
    diverged = known.diverged
    for part in found.ranges:
        diverged = added(diverged, part.first_block, part.last_block + 1)
    return replace(known, diverged=diverged)


def _with_all(ranges: Ranges, blocks: Iterable[tuple[int, int]]) -> Ranges:
    for first, end in blocks:
        ranges = added(ranges, first, end)
    return ranges


def _proven_for_all(sets: Iterable[Ranges]) -> Ranges:
    first, *others = sets or [()]
    for other in others:
        first = first if other is first or other == first else common(first, other)
    return first


def _without(ranges: Ranges, first: int, end: int, proven: Ranges) -> Ranges:
    for low, high in common(proven, ((first, end),)):
        ranges = removed(ranges, low, high)
    return ranges
