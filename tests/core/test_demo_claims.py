"""The demo believes nothing: every way in which an audit may say something else than was planted is a problem."""

from dataclasses import replace

import pytest

from replcheck.lab.planted import Cure, PlantedFault
from replcheck.model.audit import CtidRange, DifferenceKind
from replcheck.model.demo import RowLookedUp, UsualChecksRead
from replcheck.model.drill import LayerName, ScratchFacts
from replcheck.model.outcome import Verdict
from replcheck.runs import demo_claims
from tests import factories
from tests.core import drills

PLANTED = PlantedFault(
    fault="flip-row-bytes",
    node="db3",
    what="one bit of a value was flipped",
    cure=Cure.COPY,
    database="clinic",
    relation="public.visit",
    kind=DifferenceKind.CHANGED,
    rows=1,
    block=12,
    offset=3,
)
PLACE = CtidRange(first_block=12, first_offset=3, last_block=12, last_offset=3)
FOUND = factories.divergence(DifferenceKind.CHANGED, ranges=(PLACE,), count=1)
EXACT = factories.diverged(divergences=(FOUND,))
USUAL = UsualChecksRead(
    node="db3", relation="public.visit", state="streaming", lag_bytes=0, checksum_failures=0, rows=9, primary_rows=9
)


def test_what_holds_is_no_problem():
    assert demo_claims.wrong_with_copies(factories.consistent()) == []
    assert demo_claims.wrong_with_silence(USUAL) == []
    assert demo_claims.wrong_with_finding(EXACT, PLANTED) == []
    assert demo_claims.wrong_with_row(RowLookedUp(agreeing=("db1", "db2"), odd=("db3",)), "db3") == []


@pytest.mark.parametrize(
    "result",
    [
        factories.diverged(),
        factories.unchecked(),
        factories.inconclusive(),
        factories.consistent(stopped="the run was stopped"),
        factories.consistent(rows=0),
    ],
)
def test_copies_that_were_not_proven_are_a_problem(result):
    assert demo_claims.wrong_with_copies(result)


@pytest.mark.parametrize(
    "result",
    [
        factories.consistent(),
        factories.inconclusive(),
        replace(EXACT, divergences=()),
        replace(EXACT, divergences=(FOUND, FOUND)),
        replace(EXACT, divergences=(replace(FOUND, node="db2"),)),
        replace(EXACT, divergences=(replace(FOUND, relation="public.patient"),)),
        replace(EXACT, divergences=(replace(FOUND, database="postgres"),)),
        replace(EXACT, divergences=(replace(FOUND, kind=DifferenceKind.MISSING),)),
        replace(EXACT, divergences=(replace(FOUND, count=2),)),
        replace(EXACT, divergences=(replace(FOUND, ranges=(replace(PLACE, last_offset=4),)),)),
        replace(EXACT, divergences=(replace(FOUND, ranges=(PLACE, PLACE)),)),
        replace(EXACT, odd_node=None),
        replace(EXACT, odd_node="db1"),
        replace(EXACT, replicas=(factories.replica("db2", Verdict.UNCHECKED), EXACT.replicas[1])),
    ],
)
def test_anything_but_exactly_the_planted_fault_is_a_problem(result):
    assert demo_claims.wrong_with_finding(result, PLANTED)


@pytest.mark.parametrize(
    "change", [{"state": ""}, {"state": "catchup"}, {"checksum_failures": 1}, {"rows": 8}, {"primary_rows": 8}]
)
def test_a_fault_that_is_noticed_otherwise_is_a_problem(change):
    assert len(demo_claims.wrong_with_silence(replace(USUAL, **change))) == 1


@pytest.mark.parametrize("odd", [(), ("db2",), ("db2", "db3")])
def test_a_row_that_does_not_differ_on_the_broken_node_alone_is_a_problem(odd):
    assert demo_claims.wrong_with_row(RowLookedUp(agreeing=("db1",), odd=odd), "db3")


def test_the_draw_takes_every_node():
    assert {demo_claims.drawn(["a", "b"])[0] for _ in range(100)} == {"a", "b"}


def test_a_backup_that_was_proven_and_a_damaged_one_that_was_refuted_are_no_problem():
    assert demo_claims.wrong_with_restore(drills.result(), drills.seal()) == []
    assert demo_claims.wrong_with_refutation(drills.failed(), "base/5/16384") == []


@pytest.mark.parametrize(
    "result",
    [
        drills.failed(),
        drills.uncompared(),
        drills.blocked(),
        replace(drills.result(), layers=drills.layers(SEAL=drills.layer(LayerName.SEAL, rows=1))),
        replace(drills.result(), scratch=ScratchFacts(where="/x", removed=False)),
    ],
)
def test_a_restore_that_does_not_show_what_was_promised_is_a_problem(result):
    assert demo_claims.wrong_with_restore(result, drills.seal())


@pytest.mark.parametrize("result", [drills.result(), drills.uncompared(), drills.blocked(), drills.broken_archive()])
def test_a_damage_that_is_not_named_is_a_problem(result):
    assert demo_claims.wrong_with_refutation(result, "base/5/16384")
