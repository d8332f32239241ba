"""Which node a failure is told of, and when a replica is left behind: lanes and handles without a server."""

import asyncio
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from replcheck.audit import handles, lanes
from replcheck.audit.damage import CatalogDamage
from replcheck.audit.handles import NodeHandle
from replcheck.audit.lanes import Lane
from replcheck.audit.options import AuditOptions
from replcheck.audit.shortfalls import Shortfall
from replcheck.audit.worker import LaneWorker
from replcheck.errors import (
    AuthenticationRefused,
    ConnectionsExhausted,
    NodeError,
    NodeLost,
    NodeReplaced,
    NodeUnfit,
    NodeUnreachable,
)
from replcheck.events import Event, NodeCameBack, NodeWentAway
from replcheck.model.node import NodeTarget
from replcheck.model.wal import Lsn
from replcheck.postgres.wal import ReplayState
from tests.core.nodes import facts


class Told:
    """A node's handle that notes what it is told."""

    def __init__(self, name: str, *, control: NodeError | None = None) -> None:
        self.name = name
        self.facts = facts(name, in_recovery=name != "db1")
        self.gone: Shortfall | None = None
        self.away = False
        self.usable = True
        self.lagging_since: float | None = None
        self.unaligned_since: float | None = None
        self.troubles: list[NodeError] = []
        self._control = control

    async def control(self) -> Any:
        if self._control is not None:
            raise self._control
        return SimpleNamespace(node=self.name)

    def report(self, error: NodeError) -> None:
        self.troubles.append(error)

    def leave_behind(self, lack: Shortfall) -> None:
        self.gone, self.usable = lack, False

    def succeeded(self) -> None:
        self.unaligned_since = None


def cluster_of(primary: Told, *replicas: Told, clock: Callable[[], float] = lambda: 0.0) -> Any:
    nodes = {node.name: node for node in (primary, *replicas)}

    async def advance(_primary: object) -> Any:
        return SimpleNamespace(lsn=Lsn(100), xmax=5)

    return SimpleNamespace(
        primary=primary,
        replicas={node.name: node for node in replicas},
        nodes=(primary, *replicas),
        node=nodes.__getitem__,
        options=AuditOptions(replay_wait_s=4.0),
        clock=clock,
        emit=lambda _: None,
        over=False,
        anchors=SimpleNamespace(chasing=asyncio.Lock(), advance=advance, draw=lambda: 1, drawn=1),
    )


class NeverAligned:
    """A chase that finds no snapshot of any replica recent enough."""

    def __init__(self, *_: object, **__: object) -> None:
        self.lsn, self.unsettled, self.attempts, self.taken = Lsn(900), {}, 1, 0.0

    async def run(self) -> bool:
        return False


async def _delay(_session: object) -> float:
    return 0.2


async def _reached(*_: object, **__: object) -> Any:
    return SimpleNamespace(reached=True)


async def _behind(_session: object) -> ReplayState:
    return ReplayState(received=Lsn(900), replayed=Lsn(300), paused=False, starved=False)


@pytest.fixture
def replaying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas replay what they are waited for, and are always too late for the present."""
    monkeypatch.setattr(lanes, "writer_delay_s", _delay)
    monkeypatch.setattr(lanes, "wait_replayed", _reached)
    monkeypatch.setattr(lanes, "replay_state", _behind)
    monkeypatch.setattr(lanes, "Chase", NeverAligned)


def lane_of(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Lane:
    lane = Lane(1, "clinic", 7, cluster, CatalogDamage("clinic", 7))

    async def session(handle: Told) -> Any:
        return SimpleNamespace(node=handle.name, rollback=_nothing, close=_nothing)

    monkeypatch.setattr(lane, "session", session)
    return lane


async def _nothing() -> None: ...


def test_a_replica_that_is_always_a_little_behind_is_left_behind_with_its_distance(
    replaying: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    replica = Told("db2")
    cluster = cluster_of(Told("db1"), replica, clock=lambda: float(next(ticks)))
    lane = lane_of(cluster, monkeypatch)
    rounds = 0
    while replica.gone is None:
        assert asyncio.run(lane.align(frozenset({"db2"}))) is None
        rounds += 1
        assert rounds < 10, "it is chased without end"
    assert rounds > 1, "one search says nothing yet"
    assert replica.gone.code == "left_behind"
    assert "600 bytes of WAL behind" in replica.gone.reason
    assert replica.troubles == cluster.primary.troubles == []


@pytest.mark.parametrize("error", [NodeLost("lost", node="db2"), NodeUnfit("was promoted", node="db2")])
def test_a_replica_that_fails_when_it_is_looked_at_once_more_is_the_one_that_is_told(
    replaying: None, monkeypatch: pytest.MonkeyPatch, error: NodeError
) -> None:
    replica, ticks = Told("db2"), itertools.count()
    primary = Told("db1")
    cluster = cluster_of(primary, replica, clock=lambda: float(10 * next(ticks)))
    lane = lane_of(cluster, monkeypatch)
    job: Any = SimpleNamespace(queue=SimpleNamespace(aligning=0, proofs={}), absent={})
    worker = LaneWorker(lane, cluster, job)
    replica.unaligned_since = 0.0

    async def gone_by_now(_session: object) -> ReplayState:
        raise error

    calls = 0

    async def state(session: Any) -> ReplayState:
        nonlocal calls
        calls += 1
        return await (_behind if calls == 1 else gone_by_now)(session)

    monkeypatch.setattr(lanes, "replay_state", state)
    assert asyncio.run(worker.align(frozenset({"db2"}))) is False
    assert calls == 2
    assert replica.troubles == [error]
    assert primary.troubles == []


def test_a_primary_that_fails_while_a_replica_is_waited_for_is_the_one_that_is_told(
    replaying: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = NodeLost("lost", node="db1")
    primary, replica = Told("db1", control=lost), Told("db2")
    lane = lane_of(cluster_of(primary, replica), monkeypatch)
    assert asyncio.run(lane.align(frozenset({"db2"}))) is None
    assert primary.troubles == [lost]
    assert replica.troubles == []


# --- nodes that went away ---


@pytest.mark.parametrize(
    ("in_recovery", "settings", "life_s"),
    [
        (False, {"hot_standby_feedback": "off"}, 60.0),
        (True, {"hot_standby_feedback": "on"}, 60.0),
        (True, {"hot_standby_feedback": "off", "max_standby_streaming_delay": "-1"}, 5.0),
        (True, {"hot_standby_feedback": "off", "max_standby_streaming_delay": "8000"}, 2.0),
    ],
)
def test_the_server_ends_a_snapshot_on_a_standby_as_early_as_the_client_would(in_recovery, settings, life_s):
    control: Any = SimpleNamespace(alive=False, close=_nothing)
    there = facts("db2", in_recovery=in_recovery, settings=settings)
    target = NodeTarget(name="db2", dsn="host=db2")
    handle = NodeHandle(target, there, control, options=AuditOptions(max_snapshot_age_s=60.0), emit=lambda _: None)
    assert (handle.limits.statement_s, handle.limits.transaction_s) == (life_s + 1, life_s)


def handle_of(events: list[Event]) -> NodeHandle:
    control: Any = SimpleNamespace(alive=False, close=_nothing)
    return NodeHandle(
        NodeTarget(name="db2", dsn="host=db2"),
        facts("db2", in_recovery=True),
        control,
        options=AuditOptions(node_timeout_s=30.0),
        emit=events.append,
        clock=lambda: 0.0,
    )


def revived(monkeypatch: pytest.MonkeyPatch, *attempts: NodeError | None) -> tuple[NodeHandle, list[Event], int]:
    """Report a node lost whose connections then fail like this, one after the other; None is one that works."""
    events: list[Event] = []
    made = iter(attempts)
    tried = 0

    async def open_session(*_: object, **__: object) -> Any:
        nonlocal tried
        tried += 1
        failure = next(made)
        if failure is not None:
            raise failure
        return SimpleNamespace(alive=True, close=_nothing)

    async def identity(_session: object) -> Any:
        return facts("db2", in_recovery=True).identity

    monkeypatch.setattr(handles, "open_session", open_session)
    monkeypatch.setattr(handles, "read_identity", identity)
    monkeypatch.setattr(handles, "_RETRY_S", 0.0)

    async def run() -> NodeHandle:
        handle = handle_of(events)
        handle.report(NodeLost("the connection was lost", node="db2"))
        assert handle.away
        await handle.wait_usable()
        await handle.close()
        return handle

    return asyncio.run(run()), events, tried


@pytest.mark.parametrize("kind", [ConnectionsExhausted, NodeUnreachable, NodeLost])
def test_a_node_that_cannot_be_reached_or_has_no_connection_free_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, kind: type[NodeError]
) -> None:
    handle, events, tried = revived(monkeypatch, kind("not now", node="db2"), kind("not now", node="db2"), None)
    assert (handle.gone, handle.usable, tried) == (None, True, 3)
    assert [type(event) for event in events] == [NodeWentAway, NodeCameBack]


@pytest.mark.parametrize("kind", [AuthenticationRefused, NodeReplaced, NodeUnfit])
def test_a_node_that_refuses_or_is_another_one_by_now_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, kind: type[NodeError]
) -> None:
    handle, _, tried = revived(monkeypatch, kind("never again", node="db2"), None)
    assert handle.gone is not None
    assert (handle.gone.code, handle.gone.reason, tried) == ("node_lost", "never again", 1)


@pytest.mark.parametrize(("feedback", "statement_s"), [("on", 61.0), ("off", 6.0)])
def test_a_standby_that_gives_no_feedback_ends_statements_when_its_snapshots_must_end(
    feedback: str, statement_s: float
) -> None:
    settings = {"hot_standby_feedback": feedback, "max_standby_streaming_delay": "30000"}
    handle = handle_of([])
    handle.facts = facts("db2", in_recovery=True, settings=settings)
    assert handle.limits.statement_s == statement_s
    handle.facts = facts("db2", settings=settings)
    assert handle.limits.statement_s == 61.0
