"""When a cluster was without a primary, and when a copy was lost, as its events tell: folds over the events.

Only what ended tells how long it took; what has not ended lasts until now, unless the last look shows otherwise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from replcheck.model.copies import AuditProof
from replcheck.model.live import ClusterEvent, EventKind
from replcheck.model.outcome import Verdict
from replcheck.model.spans import NodeSpan

_LOSSES = frozenset({EventKind.STANDBY_LOST, EventKind.STANDBY_DETACHED, EventKind.PRIMARY_LOST, EventKind.STRAYED})
_READ = frozenset({Verdict.CONSISTENT, Verdict.DIVERGED})
"""What no audit says of a node that it did not read."""
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
    told_at: datetime
    """When the loss was seen."""
    state: str = "lost"
    """What it is instead of a running copy, in one word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """A lost copy that runs again, and that nobody saw come back."""

    loss: Loss
    seen_lost_at: datetime
    """When it was last seen to be lost."""
    seen_running_at: datetime
    """When it was first seen, or proven, to run again."""

    @property
    def away_at_most_s(self) -> float:
        """Return how long it was away at most, in seconds."""
        return (self.seen_running_at - self.loss.since).total_seconds()

    @property
    def unknown_s(self) -> float:
        """Return for how long of that nothing is known of it, in seconds."""
        return (self.seen_running_at - self.seen_lost_at).total_seconds()


def outages(events: Sequence[ClusterEvent]) -> list[Outage]:
    """Return the times without a primary, in their order; `events` are in the order in which they happened.

    A primary that was just taken over from is told as a lost primary too, when it answers no more after that: then a
    copy is lost, and nobody is without a primary.
    """
    found: list[Outage] = []
    lost: ClusterEvent | None = None
    taken_over_from = ""
    for event in events:
        match event.kind:
            case EventKind.PRIMARY_LOST if event.node != taken_over_from:
                lost = event
            case EventKind.SWITCHED_OVER:
                found.append(_ended(event, lost, successor=event.node))
                lost, taken_over_from = None, event.detail if event.detail != event.node else ""
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
            found[event.node] = Loss(node=event.node, since=_beginning(event), told_at=event.at)
        elif event.kind in _RETURNS:
            found.pop(event.node, None)
    return found


def last_primary(found: Sequence[Outage]) -> str | None:
    """Return which node was the primary after all outages, as far as events tell; None where they do not."""
    last = found[-1] if found else None
    return (last.successor or last.node) if last is not None else None


def unseen_return(loss: Loss, spans: Iterable[NodeSpan], proofs: Iterable[AuditProof], running_at: datetime) -> Return:
    """Return how a copy came back that no event tells of; `running_at` is when the last look showed it running."""
    own = [span for span in spans if span.node == loss.node and span.began_at > loss.told_at]
    back = [span.began_at for span in own if span.state.is_running_copy]
    read = [proof.proven_at for proof in proofs if proof.node == loss.node and proof.verdict in _READ]
    seen_running_at = min([running_at, *back, *(at for at in read if at > loss.told_at)])
    gone = [
        span.ended_at
        for span in spans
        if span.node == loss.node and not span.state.is_running_copy and span.ended_at <= seen_running_at
    ]
    return Return(loss=loss, seen_lost_at=max([loss.told_at, *gone]), seen_running_at=seen_running_at)


def _ended(event: ClusterEvent, lost: ClusterEvent | None, *, successor: str | None) -> Outage:
    began_at = event.began_at or (_beginning(lost) if lost else event.at)
    seconds = event.seconds if event.seconds is not None else (event.at - began_at).total_seconds()
    node = lost.node if lost else event.detail or None
    return Outage(node=node, began_at=began_at, ended_at=event.at, seconds=seconds, successor=successor)


def _beginning(event: ClusterEvent) -> datetime:
    return event.began_at or event.at
