"""Nodes and events of the overview, a line each, and when it was watched."""

from collections.abc import Sequence
from datetime import datetime

from textual.content import Content

from replcheck.model.copies import CopyStanding
from replcheck.model.live import ClusterEvent, NodeState, NodeView, Severity
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.spans import GAP_S, WatchSpan
from replcheck.model.units import format_size
from replcheck.tui.draw.spark import lag_curve
from replcheck.tui.draw.table import ANY, Cell, Column, Layout, laid_out
from replcheck.tui.look import (
    BAD,
    COLOUR,
    FAINT,
    GOOD,
    QUIET,
    SEVERITY_COLOUR,
    SEVERITY_SIGN,
    SIGN,
    STATE_OUTCOME,
    STATE_SIGN,
    VALUE,
    WARN,
    Look,
    age,
    verdict_mark,
)
from replcheck.tui.state import Model

CURVE_S = 300.0
"""Over how many seconds the curves of lag go."""
_NODES = (
    Column(key="node", title="NODES", least=10, most=20),
    Column(key="state", title="state", least=11),
    Column(key="timeline", title="TL", least=2, most=3, right=True, keep=60),
    Column(key="lag", title="lag", least=6, most=8, right=True, keep=90),
    Column(key="behind", title="behind", least=6, most=8, right=True, keep=30),
    Column(key="curve", title="last 5min", least=10, most=60, keep=50),
    Column(key="proof", title="proof", least=8, most=10, right=True, keep=80),
    Column(key="copy", title="copy", least=14, most=60, keep=100),
    Column(key="zone", title="zone", least=8, most=12, keep=20),
    Column(key="upstream", title="from", least=8, most=14, keep=18),
    Column(key="sync", title="sync", least=5, most=9, keep=14),
    Column(key="slots", title="kept WAL", least=8, right=True, keep=12),
    Column(key="host", title="host", least=14, most=24, keep=10),
)


def node_layout(width: int) -> Layout:
    """Return the columns of the nodes that fit."""
    return laid_out(_NODES, width)


def node_row(layout: Layout, model: Model, node: NodeView, look: Look) -> Content:
    """Return one node as a line."""
    standing = (model.standings or {}).get(node.node)
    well = node.state.is_running_copy
    sign, colour = state_mark(model, node, look)
    return layout.row(
        {
            "node": (node.node, VALUE),
            "state": (f"{sign} {node.state.value}", colour),
            "timeline": str(node.timeline) if node.timeline is not None else "",
            "lag": _lag(node, look) if well else (_trouble(node, look), colour),
            "behind": _behind(node),
            "curve": _curve(model, node, look, layout.width("curve")),
            "proof": _proof_age(standing, look),
            "copy": _copy(node, standing)
            if not model.stale(look.now)
            else ("? not watched", COLOUR[Outcome.UNCHECKED]),
            "zone": (node.zone or "", QUIET),
            "upstream": (node.upstream or "", QUIET),
            "sync": (node.sync_state or "", QUIET),
            "slots": (_retained(node), QUIET),
            "host": (node.host, QUIET),
        },
        spread="" if well else "lag",
        until="copy",
    )


def state_mark(model: Model, node: NodeView, look: Look) -> tuple[str, str]:
    """Return the sign and colour of a node's state; what nobody watches any more is no good news."""
    outcome = STATE_OUTCOME[node.state]
    if model.stale(look.now):
        return SIGN[Outcome.UNCHECKED], COLOUR[Outcome.UNCHECKED]
    if node.state is NodeState.PRIMARY and model.view is not None and model.view.split_brain:
        return SIGN[Outcome.REFUTED], COLOUR[Outcome.REFUTED]
    return STATE_SIGN[node.state], COLOUR[outcome]


def _trouble(node: NodeView, look: Look) -> str:
    """Return since when a node is not well, and why: it takes the place of figures that are no longer true."""
    for_s = age((look.now - node.since).total_seconds())
    told = f"for {for_s}, since {look.moment(node.since)}"
    return f"{node.reason}, {told}" if node.reason else told


def _lag(node: NodeView, look: Look) -> Cell:
    if node.state is NodeState.PRIMARY:
        return "–", FAINT
    if node.lag_bytes is None:
        return "?", QUIET
    limit = look.asked.lag_bytes
    over = limit is not None and node.lag_bytes > limit
    text = format_size(max(0, node.lag_bytes))
    return (f"▲{text}", BAD) if over else (text, VALUE if node.lag_bytes else "")


def _behind(node: NodeView) -> Cell:
    if node.lag_s is None or node.state is NodeState.PRIMARY:
        return ""
    return age(node.lag_s) if node.lag_s >= 1 else f"{node.lag_s:.1f}s"


def _curve(model: Model, node: NodeView, look: Look, width: int) -> Cell:
    if node.state is NodeState.PRIMARY and not any(
        point.state is not NodeState.PRIMARY for point in model.lags.get(node.node, ())
    ):
        return ""
    return lag_curve(
        model.lags.get(node.node, ()), now=look.now, span_s=CURVE_S, width=width, limit=look.asked.lag_bytes
    )


def _proof_age(standing: CopyStanding | None, look: Look) -> Cell:
    if standing is None or standing.proof is None:
        return "–", FAINT
    age_s = (look.now - standing.proof.proven_at).total_seconds()
    limit = look.asked.proof_age_s
    return (age(age_s), WARN) if limit is not None and age_s > limit else age(age_s)


def _copy(node: NodeView, standing: CopyStanding | None) -> Cell:
    """Return whether it is a proven copy, and why not."""
    if node.replay_paused:
        return "▲ replay paused", WARN
    if standing is None:
        return "", QUIET
    if standing.proven:
        return f"{SIGN[Outcome.PROVEN]} proven", GOOD
    if standing.diverged:
        return f"{SIGN[Outcome.REFUTED]} diverged", COLOUR[Outcome.REFUTED]
    if standing.proof is None:
        return f"{SIGN[Outcome.UNCHECKED]} {standing.reason or 'not proven'}", COLOUR[Outcome.UNCHECKED]
    if standing.proof.verdict is not Verdict.CONSISTENT:
        return verdict_mark(standing.proof.verdict)
    return f"{SIGN[Outcome.PARTIAL]} {standing.reason}", WARN


def _retained(node: NodeView) -> str:
    kept = [slot.retained_bytes for slot in node.slots if slot.retained_bytes is not None]
    return format_size(max(kept)) if kept else ""


def watch_strip(model: Model, look: Look, width: int) -> Content:
    """Return over the window of the policy when something watched, and what share of it, as one line."""
    if model.watched_from is None:
        return Content.styled("when the cluster was watched before is not known", QUIET)
    title = f"watched, last {age((look.now - model.watched_from).total_seconds())}"
    cells = max(10, width - len(title) - 9)
    covered = _covered(model.watched, model.watched_from, look.now)
    share = _share(covered)
    return Content.assemble((title, QUIET), " ", *_strip(covered, cells), (f" {_percent(share):>6}", VALUE))


def _percent(share: float) -> str:
    # Never rounded up to the whole: a gap is a gap.
    return "100%" if share >= 1 else f"{min(share * 100, 99.9):.1f}%"


def _covered(spans: Sequence[WatchSpan], since: datetime, now: datetime) -> list[tuple[float, float]]:
    """Return what was watched as parts of the window, 0 to 1; gaps too short to count are closed."""
    whole = (now - since).total_seconds()
    found: list[tuple[float, float]] = []
    for span in sorted(spans, key=lambda span: span.began_at):
        begin, end = ((moment - since).total_seconds() for moment in (span.began_at, span.ended_at))
        if found and begin - found[-1][1] <= GAP_S and span.longest_gap_s <= GAP_S:
            begin = found.pop()[0]
        found.append((max(0.0, begin), max(0.0, end)))
    if found and whole - found[-1][1] <= GAP_S:
        found[-1] = (found[-1][0], whole)
    return [(begin / whole, end / whole) for begin, end in found if end > begin]


def _share(covered: Sequence[tuple[float, float]]) -> float:
    share = sum(end - begin for begin, end in covered)
    return 1.0 if share > 1 - 1e-9 else share


def _strip(covered: Sequence[tuple[float, float]], cells: int) -> list[tuple[str, str]]:
    parts = []
    for cell in range(cells):
        low, high = cell / cells, (cell + 1) / cells
        held = sum(max(0.0, min(high, end) - max(low, begin)) for begin, end in covered) * cells
        parts.append(("━", GOOD) if held > 1 - 1e-6 else ("╌", WARN) if held > 0 else ("·", BAD))
    return parts


_EVENTS = (
    Column(key="at", title="EVENTS", least=11),
    Column(key="severity", title="", least=1),
    Column(key="node", title="node", least=10, most=16, keep=2),
    Column(key="what", title="what happened", least=96, most=ANY, cut=True),
)


def event_layout(width: int) -> Layout:
    """Return the columns of the events that fit."""
    return laid_out(_EVENTS, width)


def event_row(layout: Layout, event: ClusterEvent, look: Look) -> Content:
    """Return one event as a line."""
    colour = SEVERITY_COLOUR[event.severity]
    return layout.row(
        {
            "at": (look.moment(event.at), QUIET),
            "severity": (SEVERITY_SIGN[event.severity], colour),
            "node": (event.node or "", VALUE if event.severity is Severity.CRITICAL else ""),
            "what": (event.what, colour if event.severity is not Severity.INFO else ""),
        }
    )
