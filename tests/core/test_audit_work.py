"""The queue of chunks, and whole audits in memory: whatever happens in whatever order, the verdicts are right."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.comparison import BlockRange, ReplicaFinding
from replcheck.audit.cross_check import Check
from replcheck.audit.proof import SMALL_BLOCKS, Chunk, RelationProof, Trial
from replcheck.audit.verdicts import relation_report
from replcheck.audit.visibility import Unsettled
from replcheck.audit.work import MOST_TOGETHER, TOGETHER_BLOCKS, Finished, Pause, Realign, WorkQueue
from replcheck.model.outcome import Verdict
from replcheck.model.progress import ProvenBlocks
from tests.core.heaps import PRIMARY, ModelNode, ModelRelation
from tests.core.proofs import (
    FIRST_OID,
    UNSEEN,
    Look,
    ModelAudit,
    covered,
    lack,
    missing,
    proof,
    relation,
    showing,
    tiles_the_heap,
)

REPLICAS = frozenset({"db2", "db3"})
SEEDS = st.integers(0, 2**32)
AFTER_THE_WRITES = 1_000
CLEAN = ReplicaFinding()


def queue(*proofs: RelationProof) -> WorkQueue:
    return WorkQueue(proofs or [proof("db2", "db3")], lambda _: 1_000)


def take(work: WorkQueue, alignment: int = 1, replicas: frozenset[str] = REPLICAS, now: float = 0.0) -> Chunk:
    step = work.next(alignment, replicas, now)
    assert isinstance(step, Chunk)
    return step


def give_back(work: WorkQueue, chunk: Chunk, *, alignment: int = 1, **found: ReplicaFinding) -> None:
    work.put_back(work.proofs[chunk.oid].absorb(chunk, showing(**found), alignment=alignment, now=0.0, budget_s=60.0))
    work.done()


def test_a_lane_without_an_alignment_is_told_whom_to_align():
    assert queue().next(None, frozenset(), 0.0) == Realign(REPLICAS, witnesses=False)


def test_a_lane_that_is_aligned_gets_chunks_until_none_is_left():
    work = queue(proof("db2", oid=1), proof("db2", oid=2))
    chunks = [take(work), take(work)]
    assert [chunk.oid for chunk in chunks] == [1, 2]
    for chunk in chunks:
        give_back(work, chunk, db2=CLEAN)
    assert work.next(1, REPLICAS, 0.0) == Finished()


def test_a_lane_waits_while_another_is_at_work():
    work = queue()
    take(work)
    step = work.next(2, REPLICAS, 10.0)
    assert isinstance(step, Pause)
    assert step.until > 10.0


def test_a_returned_chunk_is_never_given_to_the_alignment_it_came_from():
    work = queue()
    give_back(work, take(work), alignment=1, db2=missing((1, 1)), db3=CLEAN)
    assert work.next(1, REPLICAS, 5.0) == Realign(frozenset({"db2"}), witnesses=True)
    assert take(work, alignment=2, now=5.0).looks


def test_a_returned_chunk_is_given_only_to_a_lane_with_a_replica_that_needs_it():
    work = queue()
    give_back(work, take(work), db3=CLEAN)
    assert work.next(2, frozenset({"db3"}), 5.0) == Realign(frozenset({"db2"}), witnesses=False)
    assert take(work, 2, frozenset({"db2"}), 5.0).needed == {"db2"}


def test_a_returned_chunk_is_not_given_before_its_time():
    work = queue()
    give_back(work, take(work), db2=missing((1, 1)), db3=CLEAN)
    step = work.next(2, REPLICAS, 0.0)
    assert isinstance(step, Pause)
    assert isinstance(work.next(2, REPLICAS, step.until), Chunk)


def test_fresh_chunks_are_given_while_a_returned_one_waits():
    work = queue(proof("db2", oid=1), proof("db2", oid=2))
    give_back(work, take(work), db2=missing((1, 1)))
    assert take(work).oid == 2


def test_returned_chunks_come_before_fresh_ones():
    work = queue(proof("db2", known_blocks=100_000))
    give_back(work, take(work), db2=missing((1, 1)))
    assert take(work, alignment=2, now=5.0).looks
    assert not take(work, alignment=2, now=5.0).looks


def test_one_lane_at_a_time_looks_for_an_alignment_for_returned_chunks():
    work = queue()
    give_back(work, take(work), db2=missing((1, 1)), db3=CLEAN)
    assert isinstance(work.next(1, REPLICAS, 0.0), Pause)
    work.aligning = 1
    assert isinstance(work.next(None, frozenset(), 5.0), Pause)
    work.aligning = 0
    assert isinstance(work.next(None, frozenset(), 5.0), Realign)


def test_a_fresh_chunk_waits_for_a_lane_with_a_replica_of_its_relation():
    work = queue(proof("db2"))
    assert work.next(1, frozenset({"db3"}), 0.0) == Realign(frozenset({"db2"}), witnesses=False)


def test_no_chunk_is_given_to_an_alignment_older_than_its_plan():
    """An old snapshot sees nothing of a heap that was rewritten since, on any node."""
    rewritten = RelationProof(
        relation(filenode=1, filenode_now=2), ["db2"], known_blocks=9, sweep=False, alignment=4, newest=4
    )
    work = queue(rewritten)
    assert isinstance(work.next(4, REPLICAS, 0.0), Realign)
    chunk = take(work, alignment=5)
    work.put_back(rewritten.put_off(chunk.failed("db1", lack()), "db1", now=0.0, budget_s=60.0))
    work.done()
    assert isinstance(work.next(4, REPLICAS, 9.0), Realign)
    assert isinstance(work.next(5, REPLICAS, 9.0), Chunk)


def test_chunks_of_a_replica_that_was_given_up_are_forgotten():
    work = queue(proof("db2"))
    give_back(work, take(work), db2=missing((1, 1)))
    work.proofs[FIRST_OID].give_up("db2", lack("node_lost", Verdict.UNCHECKED))
    assert work.next(2, REPLICAS, 5.0) == Finished()
    assert work.proofs[FIRST_OID].finished


def test_chunks_of_an_older_plan_are_forgotten_and_the_new_plan_is_offered():
    work = queue(proof("db2"))
    give_back(work, take(work), db2=missing((1, 1)))
    assert isinstance(work.next(1, REPLICAS, 0.0), Pause)
    work.proofs[FIRST_OID].replan(relation(token=1), known_blocks=10, sweep=False, alignment=1, newest=1)
    work.reopen(FIRST_OID)
    work.reopen(FIRST_OID)
    assert take(work, alignment=2, now=5.0).whole
    assert isinstance(work.next(2, REPLICAS, 5.0), Pause)


def test_relations_can_be_added():
    work = WorkQueue((), lambda _: 1_000)
    assert work.next(1, REPLICAS, 0.0) == Finished()
    work.add(proof("db2", oid=7))
    assert take(work).oid == 7


def test_nobody_is_left_to_read_for():
    work = queue(proof("db2"))
    work.proofs[FIRST_OID].give_up("db2", lack("node_lost", Verdict.UNCHECKED))
    assert work.next(1, REPLICAS, 0.0) == Finished()


CTIDS = st.tuples(st.integers(0, 1_200), st.integers(1, 2))


@st.composite
def clusters(draw) -> tuple[dict[int, Look], dict[int, dict[str, set[tuple[int, int]]]], list[RelationProof]]:
    """Draw relations with planted differences that stay, and rows in flight that differ at each alignment."""
    looks, planted, proofs = {}, {}, []
    for oid in range(FIRST_OID, FIRST_OID + draw(st.integers(1, 3))):
        base = dict.fromkeys(draw(st.lists(CTIDS, max_size=12)))
        lost = {name: draw(st.sets(CTIDS, max_size=3)) for name in sorted(REPLICAS)}
        busy = draw(st.integers(0, 12))
        looks[oid] = look_at(set(base), lost, busy)
        planted[oid] = lost
        known = draw(st.sampled_from([0, 0, 9, 100, 700, 1_200]))
        sweep = draw(st.booleans())
        proofs.append(RelationProof(relation(oid), sorted(REPLICAS), known_blocks=known, sweep=sweep))
    return looks, planted, proofs


def look_at(base: set[tuple[int, int]], lost: dict[str, set[tuple[int, int]]], busy: int) -> Look:
    """Return what nodes show: every row but the lost ones, and under the first `busy` alignments rows in flight."""

    def look(alignment: int) -> ModelRelation:
        nodes = {name: ModelNode() for name in (PRIMARY, *sorted(REPLICAS))}
        for name, node in nodes.items():
            for ctid in base.union(*lost.values()) - lost.get(name, set()):
                node.put(ctid)
        unsettled = {name: Unsettled() for name in REPLICAS}
        if alignment <= busy:
            unsettled = {name: Unsettled(behind=frozenset({5_000 + alignment})) for name in REPLICAS}
            for block in (3, 300 + alignment, 900):
                nodes[PRIMARY].put((block, 50), xmin=5_000 + alignment)
        return ModelRelation(nodes, unsettled, {})

    return look


def verdicts(each: RelationProof) -> dict[str, Verdict]:
    return {found.node: found.verdict for found in relation_report("clinic", each).replicas}


@given(clusters(), SEEDS)
def test_an_audit_finds_exactly_what_differs_on_each_replica(cluster, seed):
    looks, planted, proofs = cluster
    ModelAudit(proofs, looks, seed=seed).run()
    for each in proofs:
        assert each.finished
        for name, tally in each.tallies.items():
            lost = planted[each.relation.oid][name]
            assert Counter(row.ctid for row in tally.rows) == Counter(lost)
            assert verdicts(each)[name] is (Verdict.DIVERGED if lost else Verdict.CONSISTENT)


@given(clusters(), SEEDS)
def test_replicas_that_are_lost_now_and_then_get_the_right_verdicts_too(cluster, seed):
    looks, planted, proofs = cluster
    audit = ModelAudit(proofs, looks, seed=seed)
    audit.flakiness = 0.3
    audit.run()
    for each in proofs:
        assert each.finished
        for name, verdict in verdicts(each).items():
            lost = planted[each.relation.oid][name]
            assert verdict in (
                {Verdict.DIVERGED, Verdict.INCONCLUSIVE} if lost else {Verdict.CONSISTENT, Verdict.INCONCLUSIVE}
            )
            if verdict is Verdict.INCONCLUSIVE:
                assert each.tallies[name].shortfalls


@given(clusters(), SEEDS, st.integers(1, 3), st.integers(-1, 4))
def test_an_audit_accuses_no_sound_replica_whatever_may_be_listed(cluster, seed, lanes, limit):
    looks, planted, proofs = cluster
    ModelAudit(proofs, looks, seed=seed, lanes=lanes, rows_limit=limit).run()
    for each in proofs:
        for name, verdict in verdicts(each).items():
            assert (verdict is Verdict.DIVERGED) == bool(planted[each.relation.oid][name])


@given(clusters(), SEEDS)
def test_an_audit_counts_every_row_of_a_quiet_primary(cluster, seed):
    looks, _, proofs = cluster
    audit = ModelAudit(proofs, looks, seed=seed)
    audit.alignments = AFTER_THE_WRITES
    audit.run()
    for each in proofs:
        assert each.rows == len(looks[each.relation.oid](AFTER_THE_WRITES).nodes[PRIMARY].rows)


def test_rows_in_flight_that_never_settle_are_inconclusive():
    each = RelationProof(relation(), sorted(REPLICAS), known_blocks=100, sweep=False)
    audit = ModelAudit([each], {FIRST_OID: look_at(set(), {}, busy=1_000_000)}, seed=1)
    audit.run()
    assert set(verdicts(each).values()) == {Verdict.INCONCLUSIVE}
    assert {tally.in_flight for tally in each.tallies.values()} == {2}, "of three, one lay elsewhere at each look"


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["clean", "differs", "unseen"])), max_size=60))
def test_no_chunk_is_lost_and_none_starves(steps):
    """Lanes take turns; in the end every block was proven on the replica, whatever came back in between."""
    work = queue(proof("db2", known_blocks=3_000), proof("db2", oid=5, known_blocks=700))
    proven: dict[int, list[Chunk]] = {FIRST_OID: [], 5: []}
    now, alignment = 0.0, 0
    outcomes = iter(steps)
    for _ in range(500):
        lane, outcome = next(outcomes, (1, "clean"))
        step = work.next(alignment, frozenset({"db2"}), now)
        if isinstance(step, Finished):
            break
        if not isinstance(step, Chunk):
            alignment, now = alignment + lane, now + 1.0
            continue
        found = {"clean": CLEAN, "differs": missing((step.blocks.first, 1), in_flight=True)}
        if outcome == "clean" and not step.looks and step.differs_since is None:
            proven[step.oid].append(step)
        shown = found.get(outcome, UNSEEN)
        if outcome == "differs" and step.differs_since is None:
            proven[step.oid].append(step)
        give_back(work, step, alignment=alignment, db2=shown)
    else:
        pytest.fail("some chunk starves")
    assert all(tiles_the_heap(covered(chunks)) for chunks in proven.values())
    assert all(each.finished for each in work.proofs.values())


# --- small relations that are read together ---


def small(
    *oids: int, blocks: int = 1, replicas: tuple[str, ...] = ("db2", "db3"), **changes: Any
) -> list[RelationProof]:
    return [proof(*replicas, oid=oid, known_blocks=blocks, **changes) for oid in oids]


def together(
    work: WorkQueue, *, alignment: int = 1, replicas: frozenset[str] = REPLICAS, now: float = 0.0
) -> list[int]:
    """Return the relations that are read in one round trip."""
    first = take(work, alignment, replicas, now)
    return [first.oid, *(chunk.oid for chunk in work.more_small(first, alignment, replicas, now))]


def test_small_relations_are_read_together_as_many_as_are_read_soon():
    blocks = SMALL_BLOCKS - 1
    most = TOGETHER_BLOCKS // SMALL_BLOCKS
    work = queue(*small(*range(1, most + 3), blocks=blocks))
    assert together(work) == list(range(1, most + 1))
    assert together(work) == [most + 1, most + 2]
    assert isinstance(work.next(1, REPLICAS, 0.0), Pause)


def test_empty_relations_are_read_together_only_so_many_too():
    work = queue(*small(*range(MOST_TOGETHER + 1), blocks=0))
    assert together(work) == list(range(MOST_TOGETHER))
    assert together(work) == [MOST_TOGETHER]


@pytest.mark.parametrize("large", [{"blocks": SMALL_BLOCKS}, {"toast_bytes": SMALL_BLOCKS * 8192}])
def test_a_relation_that_is_not_small_is_read_by_itself_wherever_its_bytes_lie(large):
    work = queue(*small(1), *small(2, **large), *small(3))
    assert [together(work) for _ in range(3)] == [[1], [2], [3]]


def test_only_relations_that_the_same_replicas_need_are_read_together():
    work = queue(*small(1), *small(2, replicas=("db2",)), *small(3))
    assert [together(work) for _ in range(3)] == [[1], [2], [3]]


def test_a_relation_that_was_planned_later_than_the_alignment_is_not_read_with_others():
    late = RelationProof(relation(2), ("db2", "db3"), known_blocks=1, sweep=False, alignment=5, newest=5)
    assert together(queue(*small(1), late)) == [1]


def test_what_an_earlier_run_has_proven_in_part_is_not_read_with_others():
    [partly] = small(2)
    earlier = ProvenBlocks(
        state=partly.relation.state(7), replicas=("db2",), ranges=((0, 1),), rows=3, proven_at=datetime.now(UTC)
    )
    partly = RelationProof(relation(2), ("db2", "db3"), known_blocks=1, sweep=False, earlier=[earlier])
    assert together(queue(*small(1), partly)) == [1]


def test_what_is_read_together_is_waited_for():
    work = queue(*small(1, 2))
    first = take(work)
    [second] = work.more_small(first, 1, REPLICAS, 0.0)
    give_back(work, first, db2=CLEAN, db3=CLEAN)
    assert isinstance(work.next(1, REPLICAS, 0.0), Pause)
    give_back(work, second, db2=CLEAN, db3=CLEAN)
    assert work.next(1, REPLICAS, 0.0) == Finished()


def test_what_brought_trouble_together_is_read_by_itself():
    work = queue(*small(1, 2, 3))
    first = take(work)
    chunks = [first, *work.more_small(first, 1, REPLICAS, 0.0)]
    work.put_back(replace(chunk, alone=True) for chunk in chunks[:2])
    work.put_back(chunks[2:])
    for _ in chunks:
        work.done()
    assert [together(work) for _ in range(3)] == [[1], [2], [3]]


def test_what_came_back_unread_is_read_together_again():
    work = queue(*small(1, 2, 3))
    taken = [take(work) for _ in range(3)]
    for chunk in taken:
        give_back(work, chunk, db2=CLEAN)  # the lane had no snapshot of db3
    assert isinstance(work.next(1, REPLICAS, 5.0), Realign)
    assert together(work, alignment=2, now=5.0) == [1, 2, 3]


@pytest.mark.parametrize(
    "chunk", [{"not_before": 9.0}, {"last_alignment": 2}, {"by_column": True}, {"needed": frozenset({"db2"})}]
)
def test_a_chunk_that_came_back_is_read_together_only_under_the_rules_of_its_own(chunk):
    work = queue(*small(1, 2))
    taken = [take(work) for _ in range(2)]
    work.put_back([taken[0], replace(taken[1], **chunk)])
    for _ in taken:
        work.done()
    assert together(work, alignment=2, now=5.0) == [1]


def test_a_chunk_with_an_earlier_look_is_never_read_with_others():
    work = queue(*small(1, 2))
    for chunk in [take(work) for _ in range(2)]:
        give_back(work, chunk, db2=missing((0, 1)), db3=CLEAN)
    assert len(together(work, alignment=2, now=5.0)) == 1


def test_a_lane_without_an_alignment_finds_no_work_once_all_is_given_out():
    """Else every other lane opens its sessions for nothing."""
    work = queue(*small(1))
    take(work)
    assert isinstance(work.next(None, frozenset(), 0.0), Pause)


@pytest.mark.parametrize(
    "changes",
    [
        {"ranges": (BlockRange(0, 1),)},
        {"sweep": True},
        {"by_column": True},
        {"alone": True},
        {"check": Check.DRAWN},
        {"check": Check.COUNTED},
        {"looks": {"db2": (missing((0, 1)),)}},
        {"trials": {"db2": Trial(tries=1)}},
    ],
)
def test_only_a_chunk_that_one_digest_answers_is_read_with_others(changes):
    work = queue(*small(1, 2))
    chunk = take(work)
    assert chunk.plain
    assert not replace(chunk, **changes).plain
    assert work.more_small(replace(chunk, **changes), 1, REPLICAS, 0.0) == []
