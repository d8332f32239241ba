"""The search for an alignment, against model servers on which transactions come and go while it asks."""

import asyncio
import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.chase import TRUSTED_STATUS_VERSION, Chase
from replcheck.audit.options import AuditOptions, Pacing
from replcheck.errors import NodeLost
from replcheck.postgres.snapshots import Anchor
from tests.core.histories import History, ModelServer, Unit, finish, histories, take_anchor

STEPS = st.lists(st.sampled_from([0, 0, 0, 1, 2]), max_size=400)


@dataclass
class ModelNode:
    """What a chase asks of a node's handle."""

    name: str
    server: ModelServer
    troubles: list[Exception] = field(default_factory=list)

    async def control(self) -> ModelServer:
        return self.server

    def same_backend(self, _started_at: object, *, in_recovery: bool) -> bool:
        return in_recovery is not self.server.primary

    def report(self, error: Exception) -> None:
        self.troubles.append(error)


@dataclass
class Staged:
    """A primary and its replicas before a chase; the chase's clock moves at each look."""

    primary: ModelNode
    replicas: list[ModelNode]
    pacing: Pacing = Pacing.DEFAULT
    rests_s: list[float] = field(default_factory=list)

    def chase(self) -> tuple[Chase, bool]:
        ticks = itertools.count()
        nodes = {node.name: node for node in self.replicas}
        cluster: Any = SimpleNamespace(
            clock=lambda: next(ticks) / 20,
            options=AuditOptions(align_budget_s=1.0, pacing=self.pacing),
            halt=SimpleNamespace(sleep=self._sleep),
            primary=self.primary,
            replicas=nodes,
            anchors=SimpleNamespace(advance=self._advance),
        )
        server: Any = self.primary.server
        anchor = take_anchor(server)
        ready = finish(self._renew(frozenset(nodes), anchor))
        chase = Chase(
            cluster,
            server,
            ready,
            anchor,
            renew=self._renew,
            report=lambda name, error: cluster.replicas[name].report(error),
        )
        return chase, asyncio.run(chase.run())

    async def _sleep(self, seconds: float) -> None:
        self.rests_s.append(seconds)

    async def _advance(self, primary: Any) -> Anchor:
        return take_anchor(primary.server)

    async def _renew(self, names: frozenset[str], anchor: Anchor) -> dict[str, Any]:
        servers = {node.name: node.server for node in self.replicas if node.name in names}
        for server in servers.values():
            server.moment = max(server.moment, anchor.lsn)
        return servers


@st.composite
def clusters(draw, *, hasty_status: bool = False, quiet: bool = False) -> Staged:
    history = draw(histories(quiet=quiet))
    moment = len(history.events) if quiet else draw(st.integers(0, len(history.events)))
    server = ModelServer(history, primary=True, moment=moment, steps=iter(draw(STEPS)), hasty_status=hasty_status)
    primary = ModelNode("db1", server)
    replicas = []
    for name in ("db2", "db3"):
        replayed = draw(st.integers(0, len(history.wal)))
        steps = itertools.repeat(1) if quiet else iter(draw(STEPS))
        replicas.append(ModelNode(name, ModelServer(history, primary=False, moment=replayed, steps=steps)))
    return Staged(primary, replicas)


def covers(chase: Chase, staged: Staged) -> bool:
    """Tell whether every kept snapshot differs from the primary's in unsettled transactions only."""
    for node in staged.replicas:
        if node.name not in chase.unsettled:
            continue
        difference = chase.unsettled[node.name]
        for xid in node.server.history.xids:
            there, here = staged.primary.server.sees(xid), node.server.sees(xid)
            if there != here and xid not in (difference.behind if there else difference.ahead):
                return False
    return True


@given(clusters())
def test_a_chase_leaves_no_transaction_out_that_one_side_sees(staged):
    chase, found = staged.chase()
    assert found == bool(chase.unsettled)
    assert covers(chase, staged)


@given(clusters(hasty_status=True))
def test_an_old_servers_hasty_status_settles_nothing_falsely(staged):
    assert staged.primary.server.server_version_num < TRUSTED_STATUS_VERSION
    chase, _ = staged.chase()
    assert covers(chase, staged)


def test_an_old_server_that_calls_a_waiting_commit_done_is_not_believed():
    """1000 waits for a synchronous standby: called committed, replayed everywhere, and not shown by the primary."""
    waiting, newer = Unit((1000,), committed=True), Unit((1001,), committed=True)
    history = History(1000, [("assigned", 1000), ("assigned", 1001), ("logged", newer), ("shown", newer)])
    history.events.append(("logged", waiting))
    still: list[ModelServer] = [
        ModelServer(history, primary=True, moment=5, steps=iter(()), hasty_status=True),
        ModelServer(history, primary=False, moment=2, steps=iter(())),
    ]
    staged = Staged(ModelNode("db1", still[0]), [ModelNode("db2", still[1])])
    chase, found = staged.chase()
    assert found
    assert 1000 in chase.unsettled["db2"].ahead


@given(clusters(quiet=True))
def test_standbys_that_replay_on_are_exactly_aligned_with_a_quiet_primary(staged):
    chase, found = staged.chase()
    assert found
    assert [len(chase.unsettled[name]) for name in ("db2", "db3")] == [0, 0]


def test_a_replica_that_shows_a_commit_before_the_primary_is_aligned_once_both_show_it():
    commit = Unit((1000,), committed=True)
    history = History(1000, [("assigned", 1000), ("logged", commit), ("shown", commit)])
    primary = ModelServer(history, primary=True, moment=2, steps=iter([0] * 12 + [1]))
    standby = ModelServer(history, primary=False, moment=1, steps=iter(()))
    chase, found = Staged(ModelNode("db1", primary), [ModelNode("db2", standby)]).chase()
    assert found
    assert len(chase.unsettled["db2"]) == 0
    assert chase.attempts > 1


@given(clusters(quiet=True))
def test_a_replica_that_was_promoted_is_left_out_and_its_handle_told(staged):
    promoted: Any = staged.replicas[0]
    promoted.same_backend = lambda _started_at, *, in_recovery: False
    promoted.server.close = lambda: asyncio.sleep(0)
    chase, found = staged.chase()
    assert found
    assert set(chase.unsettled) == {"db3"}
    assert [type(error) for error in promoted.troubles] == [NodeLost]


@pytest.mark.parametrize(("pacing", "rested"), [(Pacing.GENTLE, True), (Pacing.DEFAULT, False)])
def test_only_a_gentle_chase_rests_between_its_attempts_nine_times_as_long_as_they_took(pacing, rested):
    commit = Unit((1000,), committed=True)
    history = History(1000, [("assigned", 1000), ("logged", commit), ("shown", commit)])
    primary = ModelServer(history, primary=True, moment=2, steps=iter([0] * 12 + [1]))
    standby = ModelServer(history, primary=False, moment=1, steps=iter(()))
    staged = Staged(ModelNode("db1", primary), [ModelNode("db2", standby)], pacing=pacing)
    chase, found = staged.chase()
    assert found
    assert chase.attempts > 1
    assert staged.rests_s == ([pytest.approx(0.45)] * (chase.attempts - 1) if rested else [])
