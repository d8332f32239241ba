"""The one line that monitoring systems read: a state, a sentence, and the measures as performance data.

Follows the Monitoring Plugins Development Guidelines (sections Plugin Output and Threshold and Ranges).
"""

import re

from replcheck.model.control import Bound, CheckResult, Measure, Unit
from replcheck.model.names import printable
from replcheck.model.outcome import ExitStatus
from replcheck.model.units import format_ago
from replcheck.report.check_words import check_sentence, first_problems, not_met

_STATES = {
    ExitStatus.PROVEN: "OK",
    ExitStatus.PARTIAL: "WARNING",
    ExitStatus.REFUTED: "CRITICAL",
    ExitStatus.UNCHECKED: "UNKNOWN",
}
_UNITS = {Unit.COUNT: "", Unit.SECONDS: "s", Unit.BYTES: "B", Unit.PERCENT: "%"}
_LONGEST = 1_000
"""Characters of the text: what monitoring systems show, and how much they store, is bounded."""
_YOUNG_S = 60.0
"""How old a look may be and still be one of now: a watch keeps what it sees every ten seconds."""
_PLAIN_LABEL = re.compile(r"[A-Za-z0-9_.-]+")


def plugin_line(result: CheckResult) -> str:
    """Return the line, with a line break at its end."""
    status = result.outcome.exit_status
    told = check_sentence(result).rstrip(".")
    if status is not ExitStatus.PROVEN:
        told = f"{told}{_as_of(result)}: {first_problems(not_met(result))}"
    return _line(_STATES[status], told, _performance(result))


def _as_of(result: CheckResult) -> str:
    """Return of when the look at the nodes is, where that is not of now: an audit may know later things."""
    age_s = (result.finished_at - result.view.at).total_seconds() if result.view is not None else 0.0
    return "" if result.fresh or age_s < _YOUNG_S else f" (nodes seen {format_ago(age_s)})"


def plugin_error(message: str) -> str:
    """Return the line for a check that could not be made."""
    return _line("UNKNOWN", message, "")


def _line(state: str, text: str, performance: str) -> str:
    shown = printable(" ".join(text.split())).replace("|", "/")
    shown = shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 3]}..."
    return f"REPLCHECK {state} - {shown}{f' | {performance}' if performance else ''}\n"


def _performance(result: CheckResult) -> str:
    return " ".join(_item(control.name.value, one) for control in result.controls for one in control.measures)


def _item(control: str, measure: Measure) -> str:
    name = "_".join(filter(None, (control.replace("-", "_"), measure.name, measure.subject)))
    label = name if _PLAIN_LABEL.fullmatch(name) else "'{}'".format(re.sub("['=]", "_", name))
    value = "U" if measure.value is None else f"{_number(measure.value)}{_UNITS[measure.unit]}"
    limits = [_range(measure.warn, measure.bound), _range(measure.limit, measure.bound)]
    most = ["100"] if measure.unit is Unit.PERCENT else []
    return f"{label}={';'.join([value, *limits, '0', *most])}"


def _range(limit: float | None, bound: Bound) -> str:
    if limit is None:
        return ""
    return f"{_number(limit)}:" if bound is Bound.AT_LEAST else _number(limit)


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
