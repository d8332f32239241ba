"""When a cluster was without a primary, and when a copy was lost, as its events tell: folds over the events.

Only what ended tells how long it took; what has not ended lasts until now, unless the last look shows otherwise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from replcheck.model.live import ClusterEvent, EventKind

_LOSSES = frozenset({EventKind.STANDBY_LOST, EventKind.STANDBY_DETACHED, EventKind.PRIMARY_LOST, EventKind.STRAYED})
_RETURNS = frozenset({EventKind.NODE_BACK, EventKind.COPY_RECREATED, EventKind.REJOINED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A time without a primary."""

    node: str | None
    """The primary that was lost."""
    began_at: datetime
    ended_at: datetime | None
    """None where no event says that it ended."""
    seconds: float | None
    """How long nobody took writes; None while it lasts."""
    successor: str | None = None
    """The node that took over; None where the old primary came back, or nobody did yet."""

    @property
    def switched(self) -> bool:
        """Return whether another node took over."""
        return self.successor is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A copy that is gone and did not come back."""

    node: str
    since: datetime


def outages(events: Sequence[ClusterEvent]) -> list[Outage]:
    """Return the times without a primary, in their order; `events` are in the order in which they happened."""
    found: list[Outage] = []
    lost: ClusterEvent | None = None
    for event in events:
        match event.kind:
            case EventKind.PRIMARY_LOST:
                lost = event
            case EventKind.SWITCHED_OVER:
                found.append(_ended(event, lost, successor=event.node))
                lost = None
            case EventKind.NODE_BACK if lost is not None and event.node == lost.node:
                found.append(_ended(event, lost, successor=None))
                lost = None
    if lost is not None:
        found.append(Outage(node=lost.node, began_at=_beginning(lost), ended_at=None, seconds=None))
    return found


def losses(events: Iterable[ClusterEvent]) -> dict[str, Loss]:
    """Return the copies that are lost after all events, by node."""
    found: dict[str, Loss] = {}
    for event in events:
        if event.node is None:
            continue
        if event.kind in _LOSSES and event.node not in found:
            found[event.node] = Loss(node=event.node, since=_beginning(event))
        elif event.kind in _RETURNS:
            found.pop(event.node, None)
    return found


def _ended(event: ClusterEvent, lost: ClusterEvent | None, *, successor: str | None) -> Outage:
    began_at = event.began_at or (_beginning(lost) if lost else event.at)
    seconds = event.seconds if event.seconds is not None else (event.at - began_at).total_seconds()
    node = lost.node if lost else event.detail or None
    return Outage(node=node, began_at=began_at, ended_at=event.at, seconds=seconds, successor=successor)


def _beginning(event: ClusterEvent) -> datetime:
    return event.began_at or event.at
