"""What must not be overlooked, as one line."""

from dataclasses import dataclass

from replcheck.model.live import NodeState, Severity
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
    view = model.view
    if model.link is Link.LOST:
        last = f"; what follows was seen at {look.moment(view.at)}" if view else ""
        return Alarm(
            printable(f"nothing is watched: {model.link_what or 'the source is lost'}{last}"), Severity.CRITICAL
        )
    if view is None:
        return None
    if view.split_brain:
        names = " and ".join(node.node for node in view.nodes if node.state is NodeState.PRIMARY)
        return Alarm(f"split brain: {names} both take writes", Severity.CRITICAL)
    if view.primary is None:
        return Alarm("no primary: nobody takes writes", Severity.CRITICAL)
    if model.stale(look.now):
        stale_s = (look.now - view.at).total_seconds()
        return Alarm(f"no sample for {age(stale_s)}; what follows was seen at {look.moment(view.at)}", Severity.WARNING)
    return None
