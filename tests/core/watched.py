"""Samples of a small cluster, each with sensible defaults; none needs a server."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from replcheck.model.live import (
    Archiver,
    ClusterEvent,
    EventKind,
    NodeAnswer,
    NodeSilence,
    Receiver,
    Sample,
    Sender,
    SilenceCode,
)
from replcheck.model.node import NodeRole
from replcheck.model.wal import Lsn
from replcheck.watch.limits import WatchLimits
from replcheck.watch.scene import Watched
from replcheck.watch.topology import FoldState, begin, fold

BEGUN = datetime(2026, 3, 1, 12, tzinfo=UTC)
NODES = tuple(Watched(name=name) for name in ("db1", "db2", "db3"))
SEGMENT = 16 << 20
IDENTIFIER = "7412345678901234567"
_PORTS = {"db1": 5432, "db2": 5433, "db3": 5434}


def second(number: float) -> datetime:
    """Return the time that many seconds after the beginning."""
    return BEGUN + timedelta(seconds=number)


def primary(at: float, node: str = "db1", *, lsn: int = 1000, **changes: Any) -> NodeAnswer:
    """Return the answer of a primary, a moment before the sample."""
    made = NodeAnswer(
        node=node,
        at=second(at),
        elapsed_s=0.002,
        role=NodeRole.PRIMARY,
        system_identifier=IDENTIFIER,
        server_version_num=180001,
        started_at=BEGUN - timedelta(days=1),
        server_at=second(at),
        host=f"10.0.0.{node[-1]}",
        timeline=1,
        insert_lsn=Lsn(lsn),
        received_lsn=None,
        replayed_lsn=None,
        replayed_commit_at=None,
        replay_paused=False,
        apply_delay_s=0.0,
        receiver=None,
        senders=(),
        slots=(),
        archiver=archiver(mode="off"),
        data_checksums=True,
        checksum_failures=0,
        conflicts=0,
        wal_segment_size=SEGMENT,
        own_port=_PORTS.get(node, 5432),
        cluster_name=node,
    )
    return replace(made, **changes)


def standby(at: float, node: str = "db2", *, lsn: int = 1000, **changes: Any) -> NodeAnswer:
    """Return the answer of a standby that streams and has replayed all that it has."""
    received = Receiver(status="streaming", host="10.0.0.1", port=5432, last_message_at=second(at))
    made = replace(
        primary(at, node),
        role=NodeRole.STANDBY,
        insert_lsn=None,
        received_lsn=Lsn(lsn),
        replayed_lsn=Lsn(lsn),
        receiver=received,
    )
    return replace(made, **changes)


def detached(at: float, node: str = "db2", *, lsn: int = 1000, **changes: Any) -> NodeAnswer:
    """Return the answer of a standby without a receiver, whose timeline is not told then."""
    return standby(at, node, lsn=lsn, **({"receiver": None, "timeline": None} | changes))


def silence(at: float, node: str, code: SilenceCode = SilenceCode.UNREACHABLE) -> NodeSilence:
    """Return the silence of a node."""
    return NodeSilence(node=node, at=second(at), code=code, reason="it does not answer (connection refused)")


def sender(application: str, **changes: Any) -> Sender:
    """Return a sender that feeds a standby."""
    made = Sender(
        application=application,
        address="",
        state="streaming",
        sync_state="async",
        sent_lsn=Lsn(1000),
        flushed_lsn=Lsn(1000),
        replayed_lsn=Lsn(1000),
    )
    return replace(made, **changes)


def archiver(**changes: Any) -> Archiver:
    """Return an archiver that has done nothing yet."""
    made = Archiver(
        mode="on",
        archived=0,
        last_archived=None,
        last_archived_at=None,
        failed=0,
        last_failed=None,
        last_failed_at=None,
    )
    return replace(made, **changes)


def sample(at: float, *results: NodeAnswer | NodeSilence) -> Sample:
    """Return a sample of these results."""
    return Sample(
        at=second(at + 0.01),
        answers=tuple(result for result in results if isinstance(result, NodeAnswer)),
        silences=tuple(result for result in results if isinstance(result, NodeSilence)),
    )


def healthy(at: float, *, lsn: int = 1000) -> Sample:
    """Return a sample of a primary and two standbys that stream."""
    return sample(at, primary(at, lsn=lsn), standby(at, "db2", lsn=lsn), standby(at, "db3", lsn=lsn))


class Watch:
    """A fold that is fed sample by sample and keeps what was told."""

    def __init__(self, limits: WatchLimits | None = None, *, state: FoldState | None = None) -> None:
        self.limits = limits or WatchLimits()
        self.state = state or begin("clinic", NODES)
        self.told: list[ClusterEvent] = []

    def see(self, *samples: Sample) -> list[ClusterEvent]:
        """Fold samples in and return what they made it tell."""
        new = []
        for each in samples:
            self.state, told = fold(self.state, each, self.limits)
            new += told
        self.told += new
        return new

    def kinds(self) -> list[EventKind]:
        """Return the kinds of all that was told, the beginning aside."""
        return kinds(self.told)

    def node(self, name: str) -> Any:
        """Return the view of a node."""
        assert self.state.view is not None
        return next(node for node in self.state.view.nodes if node.node == name)


def kinds(events: Sequence[ClusterEvent]) -> list[EventKind]:
    """Return the kinds of events, that the watch began aside."""
    return [event.kind for event in events if event.kind is not EventKind.WATCH_BEGAN]


def only(events: Sequence[ClusterEvent], kind: EventKind) -> ClusterEvent:
    """Return the one event of a kind."""
    [event] = [event for event in events if event.kind is kind]
    return event
