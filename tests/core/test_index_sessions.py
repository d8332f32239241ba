"""How many connections the checks of indexes take, on fakes."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from replcheck.audit.cluster import Cluster
from replcheck.audit.digest import new_hasher
from replcheck.audit.index_checks import NodeChecker
from replcheck.audit.options import AuditOptions, Level
from replcheck.audit.preflight import _check_connections, sessions_needed
from replcheck.errors import ConnectionsExhausted
from replcheck.model.node import NodeRole
from tests.core.nodes import facts


class Primary:
    """A primary that counts the sessions that are open on it."""

    name = "db1"

    def __init__(self) -> None:
        self.facts = facts()
        self.open_now = self.most_open = 0

    async def open(self, *_: object, **__: object) -> Any:
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        return SimpleNamespace(fetch=self._fetch, close=self._close)

    async def _fetch(self, *_: object) -> list[object]:
        await asyncio.sleep(0)
        return []

    async def _close(self) -> None:
        self.open_now -= 1


async def test_what_several_standbys_report_is_looked_at_again_over_one_more_session_of_the_primary(monkeypatch):
    primary: Any = Primary()
    standbys: Any = {
        name: SimpleNamespace(name=name, facts=facts(name, in_recovery=True), gone=None)
        for name in ("db2", "db3", "db4")
    }
    options = AuditOptions(indexes=True, jobs=1)
    cluster = Cluster(
        primary=primary, replicas=standbys, hasher=new_hasher(Level.EXACT), options=options, emit=lambda _: None
    )
    looked: list[str] = []

    async def caught_up(_: NodeChecker) -> bool:
        await asyncio.sleep(0)
        return True

    async def look(name: str) -> None:
        async with NodeChecker(standbys[name], "clinic", cluster)._entries_kept():
            await asyncio.sleep(0)
            looked.append(name)

    monkeypatch.setattr(NodeChecker, "_catch_up", caught_up)
    await asyncio.gather(*(look(name) for name in standbys))
    assert sorted(looked) == list(standbys)
    assert (primary.most_open, primary.open_now) == (1, 0)


@pytest.mark.parametrize(
    ("role", "jobs", "indexes", "needed"),
    [
        (NodeRole.PRIMARY, 1, False, 1),
        (NodeRole.PRIMARY, 1, True, 2),
        (NodeRole.PRIMARY, 3, True, 3),
        (NodeRole.STANDBY, 1, True, 1),
    ],
)
def test_the_connections_that_indexes_need_are_counted(role, jobs, indexes, needed):
    options = AuditOptions(jobs=jobs, indexes=indexes)
    assert sessions_needed(options, role) == needed
    there = facts(in_recovery=role is NodeRole.STANDBY, free_connections=needed)
    _check_connections(there, options)
    with pytest.raises(ConnectionsExhausted, match=f"the audit needs {needed} more"):
        _check_connections(facts(in_recovery=role is NodeRole.STANDBY, free_connections=needed - 1), options)
