"""A check as OpenMetrics text, for the textfile collector of a node exporter.

All are gauges: the collector reads the older text format of Prometheus, to which this is the same but for comments.
When the check was made is one of them, since a file that nobody writes any more looks as fresh as ever.
"""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from replcheck.model.control import CheckResult, Measure, Standing, Unit
from replcheck.model.evidence import EvidenceHead

if TYPE_CHECKING:
    from prometheus_client.metrics_core import GaugeMetricFamily

_UNITS = {Unit.COUNT: "", Unit.SECONDS: "seconds", Unit.BYTES: "bytes", Unit.PERCENT: "ratio"}
_MEASURES: tuple[tuple[str, str, Callable[[Measure], float | None]], ...] = (
    ("measure", "What a control was found to be.", lambda measure: measure.value),
    ("limit", "Beyond it a control is breached.", lambda measure: measure.limit),
    ("warning", "Beyond it a control is at risk.", lambda measure: measure.warn),
)


def metrics_text(result: CheckResult, evidence: EvidenceHead | None = None) -> str:
    """Return the text of the file; `evidence` is the check's own record."""
    # Large, and most checks write no such file.
    from prometheus_client.openmetrics.exposition import generate_latest

    text: bytes = generate_latest(_Collected(result, evidence))  # type: ignore[no-untyped-call]
    return text.decode()


class _Collected:
    """What the writer takes for a registry."""

    def __init__(self, result: CheckResult, evidence: EvidenceHead | None) -> None:
        self._result = result
        self._head = evidence.sha256 if evidence is not None else result.evidence_head

    def collect(self) -> Iterator["GaugeMetricFamily"]:
        """Yield every metric."""
        result, cluster = self._result, {"cluster": self._result.cluster}
        status = int(result.outcome.exit_status)
        took_s = (result.finished_at - result.started_at).total_seconds()
        yield _gauge("check_status", "Exit status of the last check: 0 proven to 3 unchecked.", [(cluster, status)])
        yield _gauge("check_time", "When it ended.", [(cluster, result.finished_at.timestamp())], Unit.SECONDS)
        yield _gauge("check_duration", "How long it took.", [(cluster, took_s)], Unit.SECONDS)
        if result.view is not None:
            seen = [(cluster, result.view.at.timestamp())]
            running = [(cluster | {"node": one.node}, one.state.is_running_copy) for one in result.view.nodes]
            yield _gauge("look_time", "When the nodes were last seen.", seen, Unit.SECONDS)
            yield _gauge("node_running", "Whether a node holds the data and keeps up.", running)
        yield from _of_controls(result)
        if self._head:
            head = cluster | {"sha256": self._head}
            yield _gauge("evidence_head", "The newest record of the chain of evidence.", [(head, 1)])


def _of_controls(result: CheckResult) -> Iterator["GaugeMetricFamily"]:
    statuses, standings = [], []
    for control in result.controls:
        labels = {"cluster": result.cluster, "control": control.name.value}
        if control.outcome is not None:
            statuses.append((labels, int(control.outcome.exit_status)))
        standings += [(labels | {"standing": one.value}, one is control.standing) for one in Standing]
    yield _gauge("control_status", "Exit status of a control that is asked: 0 met to 3 unchecked.", statuses)
    yield _gauge("control_standing", "1 for where a control stands.", standings)
    for name, told, chosen in _MEASURES:
        for unit in Unit:
            samples = [
                (labels, _ratio(value) if unit is Unit.PERCENT else value)
                for labels, measure in _measures(result)
                if measure.unit is unit and (value := chosen(measure)) is not None
            ]
            if samples:
                yield _gauge(f"control_{name}", told, samples, unit)


def _ratio(percent: float) -> float:
    """Return a percentage as a ratio, of the same digits.

    >>> _ratio(99.9)
    0.999
    """
    return float(Decimal(str(percent)) / 100)


def _measures(result: CheckResult) -> Iterator[tuple[dict[str, str], Measure]]:
    for control in result.controls:
        for one in control.measures:
            labels = {"cluster": result.cluster, "control": control.name.value}
            yield labels | {"measure": one.name, "subject": one.subject}, one


def _gauge(
    name: str, told: str, samples: Iterable[tuple[dict[str, str], float]], unit: Unit = Unit.COUNT
) -> "GaugeMetricFamily":
    from prometheus_client.metrics_core import GaugeMetricFamily

    family = GaugeMetricFamily(f"replcheck_{name}", told, labels=[], unit=_UNITS[unit])
    for labels, value in samples:
        family.add_sample(family.name, labels, float(value))
    return family
