"""What it means that an archive, whole as far as it goes, ends before a time or a position in the WAL."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.drill.archiving import early_end_problem
from replcheck.drill.targets import parse_target
from replcheck.drill.trial import run_trial
from replcheck.errors import NotArchived
from replcheck.model.drill import Blame, DrillResult, DrillVerdict, Stage, Target
from tests.core.drills import BEGAN, COPY, FakeSource, trial

HOUR = 3600.0
MISSING = "000000010000000000000009"


def to_time(age_s: float) -> Target:
    return parse_target((BEGAN - timedelta(seconds=age_s)).isoformat(sep=" "))


def drilled(target: Target) -> DrillResult:
    copy = replace(COPY, taken_at=BEGAN - timedelta(days=9))
    error = NotArchived(MISSING, progress="; recovery got to 0/9")
    source = FakeSource(found=[copy], fails_in=Stage.RECOVER, error=error)
    return run_trial(trial([], source=source, target=target), emit=lambda _: None, now=lambda: BEGAN)


@pytest.mark.parametrize(
    ("target", "verdict", "said"),
    [
        (parse_target("0/A000000"), DrillVerdict.NOT_TRIED, "not archived yet, or was never written"),
        (to_time(60), DrillVerdict.NOT_TRIED, "1min ago, is archived yet"),
        (to_time(23 * HOUR), DrillVerdict.NOT_TRIED, "23h ago, is archived yet"),
        (to_time(25 * HOUR), DrillVerdict.FAILED, "the archive holds no commit later than"),
    ],
)
def test_what_may_not_be_archived_yet_leaves_a_backup_not_tried(target: Target, verdict: DrillVerdict, said: str):
    found = drilled(target)
    [problem] = found.problems
    assert found.verdict is verdict
    assert said in problem.what
    assert problem.what.endswith(f"WAL file {MISSING} is not there; recovery got to 0/9")
    assert ("pg_switch_wal()" in problem.hint) is (verdict is DrillVerdict.NOT_TRIED)


def test_a_time_to_come_is_told_before_anything_is_fetched():
    found = drilled(to_time(-2 * HOUR))
    assert found.verdict is DrillVerdict.NOT_TRIED
    assert "lies 2h in the future" in found.problems[0].what
    assert [report.stage for report in found.stages] == [Stage.LOCATE]


@given(st.floats(0, 1e7), st.floats(1, 1e7))
def test_no_time_is_excused_for_ever(age_s: float, delay_s: float):
    problem = early_end_problem(to_time(age_s), NotArchived(MISSING), now=BEGAN, delay_s=delay_s)
    assert (problem.blame is Blame.ENVIRONMENT) is (round(age_s, 6) <= max(delay_s, 24 * HOUR))
