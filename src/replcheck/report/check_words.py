"""What a check says in words: one sentence for all of it, and the words of a control and of a plugin's line."""

from collections.abc import Sequence

from replcheck.model.control import CheckResult, ControlResult, Standing
from replcheck.model.outcome import Outcome
from replcheck.report.verdict import counted, joined

_WORST_FIRST = (Standing.BREACHED, Standing.UNCHECKED, Standing.AT_RISK, Standing.WAIVED)
_VERDICT_OF = {
    Outcome.PROVEN: Standing.MET,
    Outcome.PARTIAL: Standing.AT_RISK,
    Outcome.REFUTED: Standing.BREACHED,
    Outcome.UNCHECKED: Standing.UNCHECKED,
}


def check_verdict(result: CheckResult) -> Standing:
    """Return the word of a check for its outcome."""
    return _VERDICT_OF[result.outcome]


def check_sentence(result: CheckResult) -> str:
    """Return the outcome of a check in one sentence."""
    asked = [control for control in result.controls if control.outcome is not None]
    met = sum(control.standing is Standing.MET for control in asked)
    parts = [
        f"{joined(names)} {'is' if len(names) == 1 else 'are'} {standing.value}"
        for standing in _WORST_FIRST
        if (names := [control.name.value for control in asked if control.standing is standing])
    ]
    if not asked:
        return f"nothing is asked of {result.cluster}."
    if not parts and result.left_out:
        looked_at = joined([control.name.value for control in asked])
        return f"{looked_at} of {result.cluster} {'is' if met == 1 else 'are'} met; nothing else was looked at."
    if not parts:
        return f"all that is asked of {result.cluster} is met: {counted(len(asked), 'control')}."
    return f"{'; '.join(parts)}; {met} of {counted(len(asked), 'control')} of {result.cluster} met."


def not_met(result: CheckResult) -> list[ControlResult]:
    """Return the controls that were asked and are not met, the worst first."""
    found = [control for control in result.controls if control.standing in _WORST_FIRST]
    return sorted(found, key=lambda control: _WORST_FIRST.index(control.standing))


def problem_of(control: ControlResult) -> str:
    """Return why a control is not met, in one line; empty where it is."""
    told = "; ".join(control.problems)
    if control.standing is Standing.WAIVED and control.waiver is not None:
        return f"waived until {control.waiver.until.isoformat()} ({control.waiver.reason}): {told}"
    return told


def first_problems(controls: Sequence[ControlResult]) -> str:
    """Return the first reason of each control, for one line."""
    return "; ".join(f"{one.name.value} {one.standing.value}: {one.problems[0]}" for one in controls if one.problems)
