"""What is watched as lines of text: the state of a cluster, and what happens to it, each line with its time."""

from collections.abc import Iterator, Mapping

from replcheck.model.copies import CopyStanding
from replcheck.model.live import ClusterEvent, ClusterView, NodeState, NodeView, Severity
from replcheck.model.names import printable
from replcheck.model.plain import Plain, plain_object
from replcheck.model.units import format_age, format_ago, format_duration, format_size
from replcheck.report.style import Style

_WORD_WIDTH = max(len(severity.value) for severity in Severity)


def event_line(event: ClusterEvent, style: Style) -> str:
    """Return what happened as one line: when, how much it matters, and what.

    >>> from datetime import UTC, datetime
    >>> from replcheck.model.live import EventKind
    >>> at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    >>> kind, severity = EventKind.STANDBY_LOST, Severity.WARNING
    >>> event_line(ClusterEvent(kind=kind, severity=severity, at=at, node="db2", what="db2 is lost"), Style(zone=UTC))
    '2026-03-01 12:00:00+00:00  warning   db2 is lost'
    """
    return f"{style.time(event.at)}  {event.severity.value:{_WORD_WIDTH}}  {printable(event.what)}"


def state_lines(view: ClusterView, standings: Mapping[str, CopyStanding], style: Style) -> Iterator[str]:
    """Yield the state of a cluster: one line for all of it, and one for each node."""
    when, known = style.time(view.at), view.proven_copies is not None
    yield summary_line(view, standings, style)
    width = max((len(printable(node.node)) for node in view.nodes), default=0)
    for node in view.nodes:
        yield f"{when}  {printable(node.node):{width}}  {_node(node, standings.get(node.node) if known else None)}"


def summary_line(view: ClusterView, standings: Mapping[str, CopyStanding], style: Style) -> str:
    """Return as one line how many copies run and are proven, and how old the recovery point is."""
    # Where nobody knows of any proofs, as in a recording, that is not the same as that there are none.
    known = view.proven_copies is not None
    proven = f"{sum(standing.proven for standing in standings.values())} proven" if known else "proofs unknown"
    primary = "split brain" if view.split_brain else f"primary {view.primary}" if view.primary else "no primary"
    age_s = view.recovery_point.age_s
    point = "recovery point unknown" if age_s is None else f"recovery point {_age(age_s)}"
    copies = f"{view.running_copies} of {len(view.nodes)} copies run, {proven}"
    return f"{style.time(view.at)}  {printable(view.cluster)}: {printable(primary)}, {copies}, {point}"


def cluster_event_document(event: ClusterEvent) -> dict[str, Plain]:
    """Return what happened to a cluster as one JSON object, among the events of runs."""
    return {"event": "cluster_event"} | plain_object(event)


def _node(node: NodeView, standing: CopyStanding | None) -> str:
    parts = [node.state.value]
    if node.state is NodeState.PRIMARY and node.timeline is not None:
        parts.append(f"timeline {node.timeline}")
    if node.state is not NodeState.PRIMARY and node.lag_bytes is not None:
        behind = f" ({format_duration(node.lag_s)})" if node.lag_s else ""
        parts.append(f"lag {format_size(node.lag_bytes)}{behind}")
    if node.replay_paused:
        parts.append("replay paused")
    if node.reason:
        parts.append(printable(node.reason))
    if standing is not None:
        parts.append(_proof(standing))
    return ", ".join(parts)


def _proof(standing: CopyStanding) -> str:
    if standing.proven and standing.age_s is not None:
        return f"proven {format_ago(standing.age_s)}"
    return f"not proven: {printable(standing.reason)}"


def _age(age_s: float) -> str:
    """Return an age; what is not a millisecond old is of now.

    >>> _age(0.0), _age(0.25), _age(90)
    ('now', '250ms old', '1min 30s old')
    """
    told = format_age(age_s)
    return "now" if told == "0ms old" else told
