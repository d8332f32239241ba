"""The cross-check: what is drawn, what streams show beside digests, and what counts of it."""

import itertools
from dataclasses import replace
from random import Random

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.comparison import (
    WHOLE,
    BlockRange,
    ChunkFinding,
    Comparison,
    PartsRequest,
    ReplicaFinding,
    StreamRequest,
    Unstreamable,
    compare,
)
from replcheck.audit.cross_check import (
    DISAGREE,
    PIECE_BLOCKS,
    Check,
    Sampler,
    cross_checked,
    judged,
    pieces,
    report_of,
    shortfall_of,
)
from replcheck.audit.proof import Chunk, RelationProof
from replcheck.audit.verdicts import lone_votes, relation_divergences, relation_report
from replcheck.audit.visibility import Unsettled
from replcheck.model.audit import DifferenceKind
from replcheck.model.outcome import Outcome, Verdict
from replcheck.postgres.copying import Stream, Streamed
from replcheck.postgres.digests import LAST_BLOCK, Digest
from tests.core.heaps import PRIMARY, ModelNode, run
from tests.core.proofs import clean, covered, missing, proof, showing

BUDGET_S = 60.0


def odd(*spans: tuple[int, int], doubtful: bool = False) -> ReplicaFinding:
    """Return a finding whose content differs in blocks although the digests agree."""
    return ReplicaFinding(contradicted=tuple(BlockRange(*span) for span in spans), doubtful=doubtful)


def streamed(rows: int = 1, **blocks: int) -> Streamed:
    held = {int(name[1:]): bytes([content]) for name, content in blocks.items()}
    return Streamed(filenode=1, in_recovery=False, rows=rows, blocks=held)


@given(st.floats(0.001, 1), st.integers(0, 2_000), st.integers())
def test_the_share_that_was_asked_for_is_drawn_whatever_the_luck(share: float, count: int, seed: int) -> None:
    sampler = Sampler(share, Random(seed))
    drawn = [sampler.draw() for _ in range(count)]
    assert sampler.seen == count
    assert sum(drawn) >= int(count * share)
    assert sum(drawn) <= count * share + 2
    assert not count or drawn[0]


def test_which_chunks_are_drawn_is_chance() -> None:
    def drawn(seed: int) -> tuple[bool, ...]:
        sampler = Sampler(0.1, Random(seed))
        return tuple(sampler.draw() for _ in range(200))

    assert len({drawn(seed) for seed in range(20)}) == 20
    ever = {number for seed in range(300) for number, is_drawn in enumerate(drawn(seed)) if is_drawn}
    assert ever == set(range(200))


@given(
    st.lists(st.integers(1, 5_000), min_size=1, max_size=4),
    st.integers(0, 30_000),
    st.booleans(),
    st.integers(0, 9_000),
)
def test_pieces_hold_every_block_once(widths: list[int], first: int, growing: bool, known_blocks: int) -> None:
    ranges, edge = [], first
    for width in widths:
        ranges.append(BlockRange(edge, edge + width))
        edge += width + 1
    if growing:
        ranges.append(BlockRange(edge, LAST_BLOCK))
    cut = pieces(ranges, known_blocks)
    whole = sorted(blocks for part in cut for blocks in part)
    assert all(before.end <= after.first for before, after in itertools.pairwise(whole))
    assert sum(map(len, whole)) == sum(map(len, ranges))
    assert all(len(blocks) <= PIECE_BLOCKS or blocks.open_ended for blocks in whole)


def two_nodes(*, unsettled: bool = False) -> tuple[ModelNode, ModelNode, dict[str, Unsettled]]:
    there, here = ModelNode(), ModelNode()
    for node in (there, here):
        for block in range(4):
            for place in (1, 2):
                node.put((block, place))
    difference = Unsettled(behind=frozenset({5_000})) if unsettled else Unsettled()
    return there, here, {"db2": difference}


def checked(there: ModelNode, here: ModelNode, unsettled: dict[str, Unsettled]) -> ChunkFinding:
    whole = (WHOLE,)
    comparison = compare(PartsRequest(whole, 16), primary=PRIMARY, unsettled=unsettled, known_blocks=4, rows_limit=100)
    nodes = {PRIMARY: there, "db2": here}
    return run(
        cross_checked(comparison, whole, PRIMARY),
        lambda request: {name: node.answer(request, name) for name, node in nodes.items()},
    )


def test_what_digests_are_blind_to_is_seen() -> None:
    there, here, unsettled = two_nodes()
    assert checked(there, here, unsettled).replicas["db2"].clean
    here.unseen_by_digests[2, 1] = "something else"
    finding = checked(there, here, unsettled)
    assert finding.replicas["db2"] == odd((2, 3))
    assert (finding.streamed_rows, finding.replicas["db2"].differing, finding.replicas["db2"].clean) == (8, 1, False)


def test_beside_a_block_whose_digests_differ_all_others_are_streamed() -> None:
    there, here, unsettled = two_nodes()
    here.put((1, 1), content="changed")
    here.unseen_by_digests[2, 1] = "something else"
    finding = checked(there, here, unsettled)
    assert finding.streamed_rows == 6
    assert [row.ctid for row in finding.replicas["db2"].rows] == [(1, 1)]
    assert finding.replicas["db2"].contradicted == (BlockRange(2, 3),)


def test_beside_a_block_with_rows_in_flight_all_others_are_streamed() -> None:
    there, here, unsettled = two_nodes(unsettled=True)
    there.put((1, 3), xmin=5_000)
    finding = checked(there, here, unsettled)
    assert (finding.streamed_rows, finding.replicas["db2"].in_flight, finding.replicas["db2"].contradicted) == (
        6,
        1,
        (),
    )


def test_where_digests_differ_in_every_block_nothing_is_streamed() -> None:
    there, here, unsettled = two_nodes()
    for block in range(4):
        here.put((block, 1), content="changed")
    assert checked(there, here, unsettled).streamed_rows is None


def test_a_block_that_differs_on_one_replica_is_streamed_for_the_other() -> None:
    finding = showing(db2=missing((1, 1)), db3=ReplicaFinding())
    asked = cross_checked(_done(finding), (BlockRange(0, 4),), PRIMARY)
    assert next(asked) == StreamRequest((BlockRange(0, 4),))
    there, blind, odd_one = streamed(b0=1, b1=1), streamed(b0=1, b1=2), streamed(b0=2, b1=2)
    found = judged(finding, {PRIMARY: there, "db2": blind, "db3": blind}, PRIMARY).replicas
    assert (found["db2"].contradicted, found["db3"].contradicted) == ((), (BlockRange(1, 2),))
    assert judged(finding, {PRIMARY: there, "db2": odd_one, "db3": there}, PRIMARY).replicas["db2"].contradicted == (
        BlockRange(0, 1),
    )


def _done(finding: ChunkFinding) -> Comparison:
    return finding
    yield StreamRequest(())


def test_under_an_unsettled_alignment_a_disagreement_accuses_nobody() -> None:
    there, here, unsettled = two_nodes(unsettled=True)
    here.unseen_by_digests[2, 1] = "something else"
    shown = checked(there, here, unsettled).replicas["db2"]
    assert (shown.clean, shown.unexplained, shown.in_flight) == (False, False, 1)


def test_a_row_too_wide_for_copy_is_no_difference_and_no_success() -> None:
    there, here, unsettled = two_nodes()
    here.too_wide = True
    finding = checked(there, here, unsettled)
    assert (finding.too_wide, finding.streamed_rows, finding.replicas["db2"].clean) == (True, None, True)
    sampler = Sampler(1.0)
    assert sampler.count(finding)
    assert (sampler.chunks, sampler.too_wide) == (0, 1)


def test_who_does_not_answer_was_not_looked_at() -> None:
    finding = clean("db2", "db3")
    gone = judged(finding, {PRIMARY: streamed(b0=1), "db2": streamed(b0=1)}, PRIMARY)
    assert (gone.replicas["db2"].clean, gone.replicas["db3"].seen, gone.streamed_rows) == (True, False, None)
    nobody = judged(finding, {"db2": streamed(b0=1)}, PRIMARY)
    assert nobody.digest is None
    assert not any(shown.seen for shown in nobody.replicas.values())
    assert judged(finding, {PRIMARY: Unstreamable()}, PRIMARY).too_wide


def draw(each: RelationProof, sampler: Sampler, finding: ChunkFinding, chunk: Chunk | None = None) -> list[Chunk]:
    """Read a chunk with this finding, as a worker does; return what is to be read again."""
    taken = chunk or each.fresh(100_000)
    assert taken is not None
    taken, drawn = each.draw(taken, finding, sampler)
    alignment = (taken.last_alignment or 0) + 1
    return [*each.absorb(taken, finding, alignment=alignment, now=0.0, budget_s=BUDGET_S), *drawn]


def test_a_relation_is_not_proven_before_what_was_drawn_of_it_is() -> None:
    each = proof("db2", known_blocks=5_000)
    pending = draw(each, Sampler(1.0), clean("db2"))
    while (fresh := each.fresh(100_000)) is not None:
        pending += draw(each, Sampler(1.0), clean("db2"), fresh)
    assert {chunk.check for chunk in pending} == {Check.DRAWN}
    assert covered(pending)[-1].end in (5_000, LAST_BLOCK)
    assert not each.finished
    for chunk in pending:
        assert (chunk.first, chunk.sweep, chunk.looks) == (False, False, {})
        assert draw(each, Sampler(1.0), clean("db2"), chunk) == []
    assert each.finished
    assert relation_report("clinic", each).verdict is Verdict.CONSISTENT
    assert each.rows == each.chunks


def test_a_disagreement_counts_once_two_alignments_show_it() -> None:
    each, sampler = proof("db2"), Sampler(1.0)
    (piece,) = draw(each, sampler, clean("db2"))
    (again,) = draw(each, sampler, replace(showing(db2=odd((3, 5))), streamed_rows=1), piece)
    assert (again.check, again.ranges, again.last_alignment) == (Check.COUNTED, (BlockRange(3, 5),), 1)
    assert relation_report("clinic", each).verdict is Verdict.CONSISTENT
    assert draw(each, sampler, showing(db2=odd((4, 6))), again) == []
    [found] = relation_divergences("clinic", each, PRIMARY)
    assert (found.kind, found.what, found.count, found.capped) == (DifferenceKind.CHANGED, DISAGREE, 1, True)
    assert [(place.first_block, place.last_block) for place in found.ranges] == [(4, 5)]
    assert relation_report("clinic", each).verdict is Verdict.DIVERGED
    assert lone_votes([each]) == [None]
    assert sampler.chunks == 1
    assert report_of(sampler, [found]) is not None


@pytest.mark.parametrize("second", [ReplicaFinding(), odd((40, 41)), odd((3, 4), doubtful=True)])
def test_a_disagreement_that_is_not_seen_again_accuses_nobody(second: ReplicaFinding) -> None:
    each, sampler = proof("db2"), Sampler(1.0)
    (piece,) = draw(each, sampler, clean("db2"))
    (again,) = draw(each, sampler, showing(db2=odd((3, 4))), piece)
    draw(each, sampler, showing(db2=second), again)
    assert relation_divergences("clinic", each, PRIMARY) == []


def test_a_row_that_both_paths_show_is_counted_once() -> None:
    each, sampler = proof("db2"), Sampler(1.0)
    chunks = draw(each, sampler, showing(db2=missing((1, 1))))
    while chunks:
        chunks = [rest for chunk in chunks for rest in draw(each, sampler, showing(db2=missing((1, 1))), chunk)]
    [found] = relation_divergences("clinic", each, PRIMARY)
    assert found.count == 1
    assert sampler.chunks == 0


def test_nothing_is_drawn_unless_asked_for_nor_of_nothing() -> None:
    assert draw(proof("db2"), Sampler(0.0), clean("db2")) == []
    nothing = ChunkFinding(digest=Digest(0, (0,)), replicas={"db2": ReplicaFinding()})
    assert draw(proof("db2"), Sampler(1.0), nothing) == []
    assert report_of(Sampler(0.0), []) is None


def test_a_share_that_was_not_had_is_said() -> None:
    assert shortfall_of(Sampler(0.0), rows=5) is None
    assert shortfall_of(Sampler(0.5), rows=0) is None
    assert shortfall_of(Sampler(0.5, chunks=1), rows=5) is None
    for sampler in (Sampler(0.5), Sampler(0.5, chunks=3, too_wide=1)):
        finding = shortfall_of(sampler, rows=5)
        assert finding is not None
        assert (finding.code, finding.outcome) == ("cross_check", Outcome.PARTIAL)


HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def row(block: int, offset: int, content: bytes) -> bytes:
    ctid = block.to_bytes(4, "big") + offset.to_bytes(2, "big")
    return b"\0\2" + (6).to_bytes(4, "big") + ctid + len(content).to_bytes(4, "big") + content


def stream_of(*messages: bytes) -> Stream:
    stream = Stream()
    stream.begin()
    for message in messages:
        stream.take(memoryview(message))
    stream.end()
    return stream


def test_a_stream_is_told_apart_by_block_and_content() -> None:
    rows = [row(0, 1, b"a"), row(0, 2, b"b"), row(7, 1, b"c")]
    whole = stream_of(HEADER + rows[0], *rows[1:], b"\xff\xff")
    assert (whole.rows, sorted(whole.blocks)) == (3, [0, 7])
    assert stream_of(HEADER, *rows, b"\xff\xff").blocks == whole.blocks
    assert stream_of(HEADER + b"\xff\xff").rows == 0
    for changed in (
        [row(0, 1, b"x"), *rows[1:]],
        [rows[1], rows[0], rows[2]],
        [row(0, 3, b"a"), *rows[1:]],
        rows[1:],
    ):
        other = stream_of(HEADER, *changed, b"\xff\xff").blocks
        assert {block for block in (0, 7) if other.get(block) != whole.blocks[block]} == {0}
    assert {len(found) for found in whole.blocks.values()} == {16}


def test_what_is_no_binary_copy_is_refused() -> None:
    with pytest.raises(psycopg.DataError):
        stream_of(b"1\tx\n")
