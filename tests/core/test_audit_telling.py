"""What is told as proven for good: with a cross-check nothing whose drawn pieces were not streamed to their end."""

from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest

from replcheck.audit.comparison import BlockRange, ChunkFinding, ReplicaFinding
from replcheck.audit.cross_check import PIECE_BLOCKS, Check, Sampler
from replcheck.audit.proof import Chunk, RelationProof
from replcheck.audit.telling import Teller
from replcheck.events import BlocksProven, Event
from replcheck.postgres.digests import Digest
from tests.core.proofs import proof, rows

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BLOCKS = 3 * PIECE_BLOCKS
AGREED = ReplicaFinding()
CONTRADICTED = ReplicaFinding(contradicted=(BlockRange(5, 6),))
FIRST, SECOND, THIRD = ((PIECE_BLOCKS * number, PIECE_BLOCKS * (number + 1)) for number in range(3))


class Run:
    """The proof of a relation of three pieces; findings are settled in the order of calls."""

    def __init__(self, share: float) -> None:
        self.events: list[Event] = []
        self.proof: RelationProof = proof("db2", "db3", known_blocks=BLOCKS)
        self.sampler = Sampler(share, rng=Random(1))
        self._teller = Teller("clinic", 5, "db1", self.events.append)
        self._alignment = 0
        self.rows = 300
        """Of the primary, in each chunk."""

    def read(self, blocks: int = BLOCKS) -> Chunk:
        chunk = self.proof.fresh(blocks)
        assert chunk is not None
        return chunk

    def settle(
        self, chunk: Chunk, *, too_wide: bool = False, **shown: ReplicaFinding
    ) -> tuple[list[Chunk], list[Chunk]]:
        """Settle what a chunk showed as a lane does; return what is to be read again, and what was drawn."""
        self._alignment += 1
        streamed = 100 if chunk.check.streamed and not too_wide else None
        found = ChunkFinding(digest=Digest(self.rows, (7,)), replicas=shown, streamed_rows=streamed, too_wide=too_wide)
        after, drawn = self.proof.draw(chunk, found, self.sampler)
        self._teller.proven(self.proof, chunk, found, shown, NOW, drawn)
        return self.proof.absorb(after, found, alignment=self._alignment, now=0.0, budget_s=60.0), drawn

    @property
    def told(self) -> list[tuple[tuple[str, ...], tuple[tuple[int, int], ...], int | None]]:
        proofs = [event.proof for event in self.events if isinstance(event, BlocksProven)]
        return [(proof.replicas, proof.ranges, proof.rows) for proof in proofs]


def test_without_a_cross_check_a_chunk_is_told_when_its_digests_agree():
    run = Run(0.0)
    assert run.settle(run.read(), db2=AGREED, db3=AGREED) == ([], [])
    assert run.told == [(("db2", "db3"), ((0, BLOCKS),), 300)]


def test_nothing_of_a_chunk_is_told_before_every_piece_that_was_drawn_agreed():
    run = Run(1.0)
    _, drawn = run.settle(run.read(), db2=AGREED, db3=AGREED)
    assert [part.ranges for part in drawn] == [(BlockRange(*each),) for each in (FIRST, SECOND, THIRD)]
    for part in drawn[:-1]:
        run.settle(part, db2=AGREED, db3=AGREED)
        assert run.told == []
    run.settle(drawn[-1], db2=AGREED, db3=AGREED)
    assert run.told == [(("db2", "db3"), ((0, BLOCKS),), 300)]


def test_a_chunk_of_which_nothing_is_drawn_waits_for_no_other():
    run = Run(0.01)
    _, drawn = run.settle(run.read(PIECE_BLOCKS), db2=AGREED, db3=AGREED)
    assert drawn
    assert run.settle(run.read(PIECE_BLOCKS), db2=AGREED, db3=AGREED)[1] == []
    assert run.told == [(("db2", "db3"), (SECOND,), 300)]


def test_a_contradiction_that_was_seen_once_keeps_a_chunk_from_being_told_of_that_replica():
    run = Run(1.0)
    _, drawn = run.settle(run.read(PIECE_BLOCKS), db2=AGREED, db3=AGREED)
    (again,), _ = run.settle(drawn[0], db2=CONTRADICTED, db3=AGREED)
    assert run.told == [(("db3",), (FIRST,), 300)]
    run.settle(again, db2=CONTRADICTED)
    assert run.told == [(("db3",), (FIRST,), 300)]


def test_a_contradiction_that_a_second_look_does_not_show_is_no_obstacle():
    run = Run(1.0)
    _, drawn = run.settle(run.read(PIECE_BLOCKS), db2=AGREED, db3=AGREED)
    (again,), _ = run.settle(drawn[0], db2=CONTRADICTED, db3=AGREED)
    assert again.check is Check.COUNTED
    run.settle(again, db2=AGREED)
    assert run.told == [(("db3",), (FIRST,), 300), (("db2",), (FIRST,), None)]


def test_a_replica_that_is_read_later_waits_for_its_stream_too():
    run = Run(1.0)
    (later,), drawn = run.settle(run.read(PIECE_BLOCKS), db2=AGREED)
    run.settle(later, db3=AGREED)
    (rest,), _ = run.settle(drawn[0], db2=AGREED)
    assert run.told == [(("db2",), (FIRST,), 300)]
    run.settle(rest, db3=AGREED)
    assert run.told == [(("db2",), (FIRST,), 300), (("db3",), (FIRST,), None)]


@pytest.mark.parametrize("how", ["too wide", "unanswered"])
def test_a_piece_that_was_not_streamed_keeps_its_chunk_from_being_told(how):
    run = Run(1.0)
    _, drawn = run.settle(run.read(PIECE_BLOCKS), db2=AGREED, db3=AGREED)
    shown = AGREED if how == "too wide" else replace(AGREED, seen=False)
    run.settle(drawn[0], too_wide=how == "too wide", db2=shown, db3=shown)
    assert run.told == []


def test_what_was_drawn_of_a_plan_that_is_void_keeps_nothing_of_the_next_from_being_told():
    run = Run(1.0)
    run.settle(run.read(PIECE_BLOCKS), db2=AGREED, db3=AGREED)
    run.proof.read_in_ranges()
    run.sampler.share = 0.0
    run.settle(run.read(PIECE_BLOCKS), db2=AGREED, db3=AGREED)
    assert run.told == [(("db2", "db3"), (FIRST,), 300)]


FIRST_OF_LAST = 2 * PIECE_BLOCKS + 1


def differs(block: int) -> ReplicaFinding:
    return ReplicaFinding(rows=rows((block, 1), in_flight=True))


def taken_over_rows(run: Run) -> int:
    """Return the rows of the relation as a run counts them that goes on with what was told, and finds it equal."""
    proofs = [event.proof for event in run.events if isinstance(event, BlocksProven)]
    again = RelationProof(run.proof.relation, run.proof.tallies, known_blocks=BLOCKS, sweep=False, earlier=proofs)
    number = 0
    while (chunk := again.fresh(BLOCKS)) is not None:
        number += 1
        blocks = sum(min(part.end, BLOCKS) - part.first for part in chunk.ranges)
        found = ChunkFinding(digest=Digest(blocks, (7,)), replicas=dict.fromkeys(chunk.needed, AGREED))
        again.absorb(chunk, found, alignment=number, now=0.0, budget_s=60.0)
    assert again.rows is not None
    return again.rows


def settled(run: Run, chunk: Chunk, **shown: ReplicaFinding) -> list[Chunk]:
    """Settle what a chunk of one row a block showed."""
    run.rows = min(chunk.blocks.end, BLOCKS) - chunk.blocks.first
    again, _ = run.settle(chunk, too_wide=False, **shown)
    return again


def test_rows_of_a_block_that_differs_everywhere_are_counted_once_by_the_run_that_goes_on():
    run = Run(0.0)
    settled(run, run.read(PIECE_BLOCKS), db2=AGREED, db3=AGREED)
    settled(run, run.read(PIECE_BLOCKS - 1), db2=AGREED, db3=AGREED)
    again = settled(run, run.read(PIECE_BLOCKS), db2=differs(FIRST_OF_LAST), db3=differs(FIRST_OF_LAST))
    assert taken_over_rows(run) == BLOCKS
    settled(run, again[0], **{next(iter(again[0].needed)): AGREED})
    assert taken_over_rows(run) == BLOCKS
    settled(run, again[1], **{next(iter(again[1].needed)): AGREED})
    assert taken_over_rows(run) == BLOCKS


def test_rows_of_a_block_that_differs_on_one_replica_are_counted_once_by_the_run_that_goes_on():
    run = Run(0.0)
    settled(run, run.read(BLOCKS), db2=differs(5), db3=AGREED)
    assert run.told
    assert taken_over_rows(run) == BLOCKS
