"""What must not be overlooked, as one line."""

from dataclasses import dataclass

from replcheck.model.live import TAKES_WRITES, ClusterView, NodeState, NodeView, Severity
from replcheck.model.names import printable
from replcheck.tui.feed import Link
from replcheck.tui.look import Look, age
from replcheck.tui.state import Model


@dataclass(frozen=True, slots=True)
class Alarm:
    """One line, and how bad it is."""

    text: str
    severity: Severity


def alarm(model: Model, look: Look) -> Alarm | None:
    """Return the worst of what is wrong with the cluster or with the watching of it; None where all is well."""
    if model.link is Link.LOST:
        last = f"; what follows was seen at {look.moment(model.view.at)}" if model.view else ""
        text = f"nothing is watched: {model.link_what or 'the source is lost'}{last}"
        return Alarm(printable(text), Severity.CRITICAL)
    return _of_cluster(model, model.view, look) if model.view is not None else None


def _of_cluster(model: Model, view: ClusterView, look: Look) -> Alarm | None:
    if model.stale(look.now):
        stale_s = (look.now - view.at).total_seconds()
        return Alarm(f"no sample for {age(stale_s)}; what follows was seen at {look.moment(view.at)}", Severity.WARNING)
    if view.split_brain:
        names = " and ".join(node.node for node in view.nodes if _takes_writes(node))
        return Alarm(f"split brain: {names} both take writes", Severity.CRITICAL)
    if view.primary is None:
        return _without_primary(view)
    if diverged := diverged_copies(model):
        these = "they are no copies" if len(diverged) > 1 else "it is no copy"
        return Alarm(f"{' and '.join(diverged)} diverged: {these} of {view.primary}", Severity.CRITICAL)
    return None


def _takes_writes(node: NodeView) -> bool:
    return node.state is NodeState.PRIMARY or node.reason.startswith(TAKES_WRITES)


def _without_primary(view: ClusterView) -> Alarm:
    states = {node.state for node in view.nodes}
    if states <= {NodeState.UNSEEN, NodeState.STARTING}:
        return Alarm("no node has answered yet", Severity.WARNING)
    # One that may not be seen may well be the primary.
    certain = "" if states & {NodeState.UNSEEN, NodeState.UNSURE} else ": nobody takes writes"
    return Alarm(f"no primary is seen{certain}", Severity.CRITICAL)


def diverged_copies(model: Model) -> list[str]:
    """Return the running nodes of which the newest word is that they diverged."""
    standings = model.standings or {}
    nodes = model.view.nodes if model.view else ()
    return [
        node.node
        for node in nodes
        if node.state.is_running_copy and (standing := standings.get(node.node)) is not None and standing.diverged
    ]
