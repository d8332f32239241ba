"""What a drill comes to: never restored without compared rows, never refuted for what is not the backup's fault."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.drill import verdict
from replcheck.model.drill import (
    Blame,
    DrillLimits,
    DrillVerdict,
    LayerName,
    LayerState,
    Problem,
    Stage,
    StageReport,
    TargetKind,
)
from replcheck.model.outcome import Outcome, worst
from tests.core import drills
from tests.core.drills import LATEST, RECOVERED, SEAL, layer, layers

STATES = st.sampled_from(LayerState)
PROBLEMS = st.lists(
    st.builds(
        Problem,
        code=st.just("x"),
        what=st.just("x"),
        blame=st.sampled_from(Blame),
        partial=st.sampled_from([False, True]),
    ),
    max_size=3,
)


@st.composite
def some_layers(draw):
    """Draw a report for every layer."""
    return tuple(layer(name, draw(STATES), by_design=draw(st.booleans())) for name in LayerName)


@given(some_layers(), PROBLEMS, st.booleans(), st.sampled_from([True, False, None]))
def test_restored_means_that_rows_were_compared_and_nothing_speaks_against_it(reports, problems, opened, reached):
    found = verdict.verdict_of(reports, problems, opened=opened, reached=reached)
    clean = (
        opened
        and reached is not False
        and not problems
        and any(report.name.compares_rows and report.state is LayerState.PASSED for report in reports)
        and all(report.state in (LayerState.PASSED, LayerState.NOT_RUN) for report in reports)
    )
    assert (found is DrillVerdict.RESTORED) == clean


@given(some_layers(), PROBLEMS, st.booleans(), st.sampled_from([True, False, None]))
def test_failed_means_that_the_backup_is_to_blame(reports, problems, opened, reached):
    found = verdict.verdict_of(reports, problems, opened=opened, reached=reached)
    to_blame = (
        any(problem.blame is Blame.BACKUP for problem in problems)
        or any(report.state is LayerState.FAILED for report in reports)
        or reached is False
    )
    assert (found is DrillVerdict.FAILED) == to_blame


@given(some_layers(), PROBLEMS, PROBLEMS)
def test_another_problem_never_makes_it_better(reports, problems, more):
    before = verdict.verdict_of(reports, problems, opened=True).outcome
    after = verdict.verdict_of(reports, [*problems, *more], opened=True).outcome
    assert worst([before, after]) is after


@given(some_layers())
def test_what_falls_short_is_told_exactly_where_it_is_not_proven(reports):
    found = verdict.verdict_of(reports, (), opened=True)
    if found.came_back:
        assert bool(verdict.shortfalls(reports)) == (found is not DrillVerdict.RESTORED)


@given(some_layers())
def test_rows_are_called_not_compared_exactly_where_no_layer_compared_one(reports):
    found = verdict.verdict_of(reports, (), opened=True)
    if found in (DrillVerdict.UNPROVEN, DrillVerdict.UNCOMPARED):
        assert any(report.compared_rows for report in reports) == (found is DrillVerdict.UNPROVEN)


def test_rows_that_a_seal_proved_are_not_called_not_compared_because_the_primary_has_moved_on():
    moved = layer(LayerName.PRIMARY, LayerState.INCONCLUSIVE, reason="181 rows have moved on since")
    assert verdict.verdict_of(layers(SEAL=layer(LayerName.SEAL), PRIMARY=moved), (), opened=True) is (
        DrillVerdict.UNPROVEN
    )
    assert verdict.verdict_of(layers(PRIMARY=moved), (), opened=True) is DrillVerdict.UNPROVEN


@pytest.mark.parametrize(
    ("changes", "silent"),
    [
        ({}, True),
        ({"PRIMARY": layer(LayerName.PRIMARY, LayerState.INCONCLUSIVE, reason=f"181 {verdict.MOVED_ON}")}, True),
        ({"PRIMARY": layer(LayerName.PRIMARY, LayerState.INCONCLUSIVE, reason=f"2 {verdict.MOVED_ON}; x")}, False),
        ({"PRIMARY": layer(LayerName.PRIMARY, LayerState.INCONCLUSIVE, reason="x was redefined since")}, False),
        ({"SEAL": layer(LayerName.SEAL, LayerState.INCONCLUSIVE, reason=verdict.DUMP_CHANGED)}, False),
        ({"AMCHECK": layer(LayerName.AMCHECK, LayerState.INCONCLUSIVE, reason="an index could not be read")}, False),
        ({"SEAL": layer(LayerName.SEAL)}, False),
        ({"CHECKSUMS": layer(LayerName.CHECKSUMS, LayerState.FAILED)}, False),
    ],
)
def test_only_a_copy_that_lacks_nothing_but_rows_to_compare_says_nothing_against_a_backup(changes, silent):
    found = drills.result(target=LATEST, layers=layers(**changes))
    found = replace(found, verdict=verdict.result_verdict(found))
    assert verdict.lacks_only_rows(found) == silent
    lost = Problem(code="role_missing", what="role x is missing", blame=Blame.ENVIRONMENT, partial=True)
    assert not verdict.lacks_only_rows(replace(found, problems=(lost,)))


def test_a_layer_that_could_match_no_row_has_compared_none():
    nothing = layer(LayerName.PRIMARY, LayerState.INCONCLUSIVE, reason="181 rows have moved on since", rows=0)
    assert verdict.verdict_of(layers(PRIMARY=nothing), (), opened=True) is DrillVerdict.UNCOMPARED


@given(st.sampled_from(LayerName), st.booleans())
def test_a_required_layer_that_did_not_run_leaves_the_backup_unchecked(name, by_design):
    reports = layers(**{name.name: layer(name, LayerState.NOT_RUN, by_design=by_design, reason="no program")})
    problems = list(verdict.required_problems(reports, {name}))
    assert [problem.blame for problem in problems] == [Blame.ENVIRONMENT]
    assert "no program" in problems[0].what
    assert verdict.verdict_of(reports, problems, opened=True) is DrillVerdict.NOT_TRIED
    assert list(verdict.required_problems(layers(**{name.name: layer(name)}), {name})) == []


def test_what_is_in_doubt_although_the_copy_came_back_makes_it_partial():
    lost = Problem(code="role_missing", what="role x is missing", blame=Blame.ENVIRONMENT, partial=True)
    reports = layers(SEAL=layer(LayerName.SEAL))
    assert verdict.verdict_of(reports, [lost], opened=True) is DrillVerdict.UNPROVEN
    assert verdict.shortfalls(reports, [lost]) == ["role x is missing"]
    assert verdict.verdict_of(reports, [replace(lost, partial=False)], opened=True) is DrillVerdict.NOT_TRIED
    assert verdict.verdict_of(reports, [replace(lost, blame=Blame.BACKUP)], opened=True) is DrillVerdict.FAILED


def test_a_copy_that_never_answered_is_not_tried():
    assert verdict.verdict_of(layers(SEAL=layer(LayerName.SEAL)), (), opened=False) is DrillVerdict.NOT_TRIED


def test_a_failed_layer_wins_over_an_interrupt():
    interrupt = Problem(code="interrupted", what="ended by SIGINT", blame=Blame.ENVIRONMENT)
    reports = layers(MANIFEST=layer(LayerName.MANIFEST, LayerState.FAILED))
    assert verdict.verdict_of(reports, [interrupt], opened=False) is DrillVerdict.FAILED


durations = st.floats(min_value=0, max_value=1e6)


@given(st.lists(durations, min_size=1, max_size=4), durations)
def test_the_recovery_time_is_refuted_only_beyond_its_limit(times, limit):
    recovery = (Stage.FETCH, Stage.RESTORE, Stage.RECOVER, Stage.OPEN)[-len(times) :]
    stages = [StageReport(stage=stage, elapsed_s=time) for stage, time in zip(recovery, times, strict=True)]
    stages += [StageReport(stage=Stage.PROVE, elapsed_s=1e9), StageReport(stage=Stage.LOCATE, elapsed_s=1e9)]
    found = list(verdict.limit_problems(DrillLimits(max_time_s=limit), stages, LATEST, None))
    assert bool(found) == (sum(times) > limit)
    assert all(problem.blame is Blame.BACKUP for problem in found)


@given(st.none() | durations, st.none() | durations, st.sampled_from(TargetKind))
def test_the_recovery_point_is_judged_where_the_end_of_the_archive_was_asked_for(age, limit, kind):
    target = replace(LATEST, kind=kind)
    found = list(verdict.limit_problems(DrillLimits(max_age_s=limit), drills.STAGES, target, age))
    if limit is None or kind is not TargetKind.LATEST:
        assert found == []
    elif age is None:
        assert [(problem.blame, problem.partial) for problem in found] == [(Blame.ENVIRONMENT, True)]
    else:
        assert [problem.blame for problem in found] == ([Blame.BACKUP] if age > limit else [])


def test_no_limit_is_judged_of_a_copy_that_never_opened():
    unopened = [replace(stage, finished=False) for stage in drills.STAGES]
    limits = DrillLimits(max_time_s=1, max_age_s=1)
    assert list(verdict.limit_problems(limits, unopened, LATEST, 1e9)) == []


def test_a_target_that_was_passed_refutes_whatever_its_source_said():
    passed = replace(RECOVERED, reached=False)
    [problem] = verdict.recovery_problems(passed, SEAL)
    assert problem.blame is Blame.BACKUP
    assert "0/9A000D8" in problem.what
    assert list(verdict.recovery_problems(RECOVERED, SEAL)) == []
    assert list(verdict.recovery_problems(None, SEAL)) == []


@given(st.lists(st.tuples(st.sampled_from(Stage), durations, st.none() | st.integers(0, 10), st.booleans())))
def test_stages_that_were_entered_again_count_whole(entered):
    reports = [
        StageReport(stage=stage, elapsed_s=elapsed, size_bytes=size, finished=finished)
        for stage, elapsed, size, finished in entered
    ]
    whole = verdict.merged(reports)
    assert [report.stage for report in whole] == [stage for stage in Stage if any(r.stage is stage for r in reports)]
    assert sum(r.elapsed_s for r in whole) == pytest.approx(sum(r.elapsed_s for r in reports))
    assert sum(r.size_bytes or 0 for r in whole) == sum(r.size_bytes or 0 for r in reports)


@pytest.mark.parametrize("name", drills.RESULTS)
def test_a_result_leads_to_its_verdict_by_itself(name):
    assert verdict.result_verdict(drills.RESULTS[name]) is drills.RESULTS[name].verdict


def test_the_outcome_of_a_drill_is_that_of_the_table():
    assert [verdict.outcome for verdict in DrillVerdict] == [
        Outcome.PROVEN,
        Outcome.PARTIAL,
        Outcome.PARTIAL,
        Outcome.REFUTED,
        Outcome.UNCHECKED,
    ]
    assert drills.result().finished_at - drills.BEGAN == timedelta(seconds=31)
