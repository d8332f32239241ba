"""A running audit as the screen knows it, folded from its events alone."""

from dataclasses import replace
from datetime import timedelta

import pytest

from replcheck.events import (
    BlocksProven,
    ChunkCompared,
    DatabasePlanned,
    DivergenceFound,
    HeldStill,
    ListedRelation,
    NodeCameBack,
    NodeObserved,
    NodeWentAway,
    RelationFinished,
    RelationStarted,
    RowsDiffer,
    RunFinished,
    RunStarted,
    Waited,
)
from replcheck.model.node import NodeRole
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.progress import ProvenBlocks, RelationState
from replcheck.tui.audit_fold import fold_audit
from replcheck.tui.audit_state import AuditModel, Order, Phase, Rank, arranged
from tests.tui import stories

BEGAN = stories.NOW
KEY = ("records", "clinic.chart")


def at(seconds: float):
    return BEGAN + timedelta(seconds=seconds)


def chunk(first: int, last: int | None, verdict: Verdict = Verdict.CONSISTENT, seconds: float = 1.0) -> ChunkCompared:
    return ChunkCompared(
        at=at(seconds),
        lane=0,
        database=KEY[0],
        relation=KEY[1],
        first_block=first,
        last_block=last,
        rows=100 if verdict is Verdict.CONSISTENT else 0,
        size_bytes=8192,
        elapsed_s=0.1,
        verdict=verdict,
    )


def differ(rows: int, in_flight: int, look: int) -> RowsDiffer:
    return RowsDiffer(
        at=at(1), database=KEY[0], relation=KEY[1], node="db3", differing=rows, in_flight=in_flight, look=look
    )


def finished(*, diverged: bool = False) -> RelationFinished:
    return RelationFinished(at=at(9), relation=stories.report(*KEY, 81920, 1000, 1, diverged=diverged))


def audit(*events) -> AuditModel:
    beginning = [
        RunStarted(at=BEGAN, run_id="r", kind="audit", cluster="clinic"),
        *(NodeObserved(at=BEGAN, node=stories.observed(name, NodeRole.STANDBY)) for name in ("db2", "db3")),
        DatabasePlanned(
            at=BEGAN,
            database=KEY[0],
            relations=1,
            size_bytes=10 * 8192,
            oid=1,
            listed=(ListedRelation(oid=7, relation=KEY[1], size_bytes=10 * 8192),),
        ),
        RelationStarted(at=BEGAN, database=KEY[0], relation=KEY[1], size_bytes=10 * 8192),
    ]
    model = fold_audit(None, [*beginning, *events])
    assert model is not None
    return model


def relation(*events):
    return audit(*events).relations[KEY]


def test_nothing_is_known_of_an_audit_before_it_begins():
    assert fold_audit(None, [chunk(0, 3)]) is None


def proof(first: int, end: int, *replicas: str, oid: int = 7, database: int = 1) -> BlocksProven:
    state = RelationState(database=database, relation=oid, token=1, filenode=None)
    blocks = ProvenBlocks(
        state=state, replicas=replicas or ("db2", "db3"), ranges=((first, end),), rows=None, proven_at=at(1)
    )
    return BlocksProven(at=at(1), proof=blocks)


def test_a_chunk_that_matched_is_proven_once_that_is_settled():
    assert relation(chunk(0, 3)).matched == ((0, 4),)
    assert relation(chunk(0, 3)).proven == ()
    assert relation(chunk(0, 3), proof(0, 4)).proven == ((0, 4),)


def test_a_chunk_that_is_proven_for_one_replica_alone_is_not_proven():
    one = [chunk(0, 3), proof(0, 4, "db2")]
    assert relation(*one).proven == ()
    assert relation(*one, proof(2, 3, "db3")).proven == ((2, 3),)


def test_a_proof_without_an_end_reaches_the_end_of_the_relation():
    assert relation(proof(0, 1 << 32)).proven == ((0, 10),)


def test_what_an_earlier_run_has_proven_is_proven_before_anything_is_read():
    listed = DatabasePlanned(
        at=at(0),
        database="billing",
        relations=1,
        size_bytes=81920,
        oid=2,
        listed=(ListedRelation(oid=9, relation="clinic.visit", size_bytes=81920),),
    )
    model = audit(proof(0, 4, oid=9, database=2), listed)
    assert model.relations["billing", "clinic.visit"].proven == ((0, 4),)
    assert model.unplaced == ()


def test_proofs_of_relations_that_were_never_listed_are_not_kept_for_ever():
    model = audit(*(proof(0, 4, oid=oid) for oid in range(100, 200)))
    assert model.unplaced == ()


def test_the_last_chunk_without_an_upper_bound_reaches_the_end_of_the_relation():
    assert relation(chunk(4, None)).matched == ((4, 10),)


def test_a_chunk_to_be_read_again_is_in_flight_until_it_matched():
    reread = chunk(0, 3, Verdict.INCONCLUSIVE)
    assert relation(chunk(0, 3), reread).in_flight == ((0, 4),)
    assert relation(chunk(0, 3), reread).matched == ()
    later = relation(reread, chunk(0, 3))
    assert (later.in_flight, later.matched) == ((), ((0, 4),))


def test_rows_that_differ_on_a_first_look_are_no_divergence():
    first = relation(differ(3, 0, 1), chunk(0, 3, Verdict.INCONCLUSIVE))
    assert (first.diverged, first.rank) == ((), Rank.READING)


def test_rows_that_differ_on_a_second_look_are_a_divergence_of_just_those_blocks():
    second = relation(differ(3, 0, 2), chunk(0, 3, Verdict.INCONCLUSIVE), chunk(4, 9))
    assert (second.diverged, second.matched, second.rank) == (((0, 4),), ((4, 10),), Rank.DIVERGED)


def test_blocks_beside_the_rows_that_differ_are_proven():
    looked = [differ(1, 0, 2), chunk(0, 3, Verdict.INCONCLUSIVE)]
    beside = relation(*looked, proof(0, 4, "db2"), proof(0, 2, "db3"), proof(3, 4, "db3"), finished(diverged=True))
    assert (beside.proven, beside.diverged) == (((0, 2), (3, 4)), ((2, 3),))


def test_rows_in_flight_on_a_second_look_are_no_divergence():
    assert relation(differ(0, 2, 2), chunk(0, 3, Verdict.INCONCLUSIVE)).diverged == ()


def test_a_consistent_relation_is_proven_in_all_its_blocks():
    done = relation(chunk(0, 3, Verdict.INCONCLUSIVE), finished())
    assert (done.proven, done.in_flight, done.rank, done.share) == (((0, 10),), (), Rank.PROVEN, 1.0)


def test_what_was_not_compared_of_a_diverged_relation_is_not_shown_as_proven():
    done = relation(proof(0, 4), differ(3, 0, 2), chunk(4, 5, Verdict.INCONCLUSIVE), finished(diverged=True))
    assert (done.proven, done.diverged) == (((0, 4),), ((4, 6),))


def test_rows_count_once_they_are_settled():
    model = audit(chunk(0, 3, Verdict.INCONCLUSIVE), chunk(0, 3), chunk(4, 9))
    assert (model.rows, model.chunks, model.chunks_again) == (200, 3, 1)


def test_the_time_it_holds_still_is_no_time_of_work():
    model = audit(
        HeldStill(at=at(10), reason="paused"),
        Waited(at=at(40), node=None, reason="paused", elapsed_s=30.0),
    )
    assert model.phase is Phase.READING
    assert model.worked_s(at(50)) == 20.0


def test_while_it_holds_still_its_clock_stands():
    model = audit(HeldStill(at=at(10), reason="paused"), HeldStill(at=at(20), reason="paused; lag"))
    assert (model.phase, model.held_because) == (Phase.HELD, "paused; lag")
    assert model.worked_s(at(100)) == 10.0


def test_a_wait_for_a_node_ends_no_pause():
    model = audit(HeldStill(at=at(1), reason="paused"), Waited(at=at(2), node="db3", reason="replay", elapsed_s=1.0))
    assert model.phase is Phase.HELD


def test_a_node_that_went_away_is_away_until_it_is_back():
    away = NodeWentAway(at=at(1), node="db3", reason="connection refused")
    assert audit(away).away == {"db3": "connection refused"}
    assert audit(away, NodeCameBack(at=at(3), node="db3", elapsed_s=2.0)).away == {}


def test_an_audit_is_never_whole_before_it_ends():
    model = audit(*(chunk(block, block) for block in range(10)))
    assert model.share < 1
    done = audit(RunFinished(at=at(9), run_id="r", outcome=Outcome.PROVEN, summary="all matched"))
    assert (done.share, done.running, done.outcome) == (1.0, False, Outcome.PROVEN)


def test_an_audit_that_was_ended_early_is_not_whole():
    ended = RunFinished(at=at(9), run_id="r", outcome=Outcome.UNCHECKED, summary="the run was stopped")
    assert audit(chunk(0, 3), ended).share == pytest.approx(0.1)


def test_the_next_audit_begins_anew():
    model = audit(chunk(0, 3), RunStarted(at=at(99), run_id="s", kind="audit", cluster="clinic"))
    assert (model.run_id, model.rows, dict(model.relations)) == ("s", 0, {})


def test_the_rate_is_that_of_the_last_seconds():
    slow = [chunk(block, block, seconds=block * 1.0) for block in range(1, 6)]
    quick = [chunk(block, block, seconds=60 + block * 0.1) for block in range(1, 31)]
    assert audit(*slow, *quick).rows_per_s(at(63)) == pytest.approx(1000, rel=0.4)


def test_what_is_planned_is_listed_before_it_is_begun():
    model = fold_audit(None, list(stories.audit_events(BEGAN, 0.0, "", 20)))
    assert model is not None
    assert len(model.relations) == 20
    assert sum(one.rank is Rank.WAITING for one in model.relations.values()) == 19


def test_a_divergence_is_known_with_its_positions_before_the_audit_ends():
    found = stories.divergence(*KEY)
    assert audit(finished(diverged=True), DivergenceFound(at=at(9), divergence=found)).divergences == (found,)


def test_a_batch_folds_to_the_same_as_its_events_one_by_one():
    events = list(stories.audit_events(BEGAN, 1.0, "clinic.chart", 60))
    single = None
    for event in events:
        single = fold_audit(single, [event])
    assert single == fold_audit(None, events)


def test_trouble_comes_first_and_what_is_proven_last():
    model = fold_audit(None, list(stories.audit_events(BEGAN, 0.7, "clinic.chart", 60)))
    assert model is not None
    ranks = [one.rank for one in arranged(model, Order.TROUBLE)]
    assert ranks[0] is Rank.DIVERGED
    assert ranks == sorted(ranks)


def test_relations_are_found_by_letters_of_their_names():
    model = fold_audit(None, list(stories.audit_events(BEGAN, 0.2, "", 60)))
    assert model is not None
    found = arranged(model, Order.NAME, "VISIT")
    assert {one.relation for one in found} == {"clinic.visit", "clinic.visit_1", "clinic.visit_2"}


def test_a_relation_is_found_by_its_name_as_it_is_and_as_it_is_shown():
    model = fold_audit(None, list(stories.audit_events(BEGAN, 0.2, "", 60)))
    assert model is not None
    key, relation = next(iter(model.relations.items()))
    odd = replace(model, relations={key: replace(relation, relation="clinic.esc\x1bape")})
    for needle in ("x1bA", "\x1b", "esc\\x1bape"):
        assert len(arranged(odd, Order.NAME, needle)) == 1, needle
    assert arranged(odd, Order.NAME, "x1c") == []
