"""Audits of lab clusters in which something happens at an exact moment.

An audit tells its events in the middle of its work, before it goes on: what an act does when it is told one happens
between two steps of the audit, and always between the same two. For moments that no event tells, `before_snapshots`
acts on the way to the server.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from threading import Event as Flag
from threading import Thread
from typing import Any, TypeVar

import pytest

from replcheck.audit.auditor import audit_cluster
from replcheck.audit.options import AuditOptions
from replcheck.events import Event, RelationStarted, RowsDiffer
from replcheck.lab.cluster import LabCluster
from replcheck.model.audit import AuditResult, RelationReport, ReplicaReport
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.model.outcome import Verdict
from replcheck.postgres.local import LocalConnection, Statement, connect
from replcheck.postgres.server import LocalServer
from replcheck.postgres.session import Session
from tests import labs

Kind = TypeVar("Kind", bound=Event)
PATIENCE_S = 60.0
"""How long a condition may take that is bound to come; only a broken test waits so long."""

newest_only = pytest.mark.parametrize("major", labs.majors()[:1], ids="pg{}".format, indirect=True)
"""For tests whose subject does not depend on the version."""


@dataclass(frozen=True)
class Staged:
    """A finished audit with everything it told."""

    result: AuditResult
    events: list[Event]
    seconds: float

    @property
    def verdict(self) -> Verdict:
        return self.result.verdict

    def told(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    def replica(self, name: str) -> ReplicaReport:
        return next(replica for replica in self.result.replicas if replica.node.name == name)

    def relation(self, name: str) -> RelationReport:
        return next(relation for relation in self.result.relations if relation.name == name)

    def on(self, node: str, relation: str) -> Verdict:
        return next(replica.verdict for replica in self.relation(relation).replicas if replica.node == node)

    @property
    def exact(self) -> bool:
        """Whether every alignment under which something was proven was exact."""
        return all(
            alignment.exact for replica in self.result.replicas for alignment in replica.alignments if alignment.chunks
        )

    @property
    def in_flight(self) -> int:
        return max((event.in_flight for event in self.told(RowsDiffer)), default=0)

    @property
    def unexplained(self) -> int:
        return sum(event.differing for event in self.told(RowsDiffer))

    def assert_consistent(self) -> None:
        """Everything was compared, matched, and was never even suspected."""
        assert (self.result.not_checked, self.result.divergences) == ((), ())
        assert self.verdict is Verdict.CONSISTENT
        assert {replica.verdict for replica in self.result.replicas} == {Verdict.CONSISTENT}
        assert self.unexplained == 0


class Act:
    """What a test does the first time an event of a kind is told, about one relation where it names one."""

    def __init__(self, kind: type[Event], do: Callable[[], object], *, relation: str | None = None) -> None:
        self._kind = kind
        self._do = do
        self._relation = relation
        self.done = False

    def heed(self, event: Event) -> None:
        if self.done or not isinstance(event, self._kind):
            return
        if self._relation is None or getattr(event, "relation", None) == f"public.{self._relation}":
            self.done = True
            self._do()


def at(kind: type[Event], do: Callable[[], object], *, relation: str | None = None) -> Act:
    """Return an act for the first event of a kind; every act of an audit must have come up when it ends."""
    return Act(kind, do, relation=relation)


def between_plan_and_read(relation: str, do: Callable[[], object]) -> Act:
    """Return an act for the moment when all snapshots are open and the relation planned, and none of it is read."""
    return Act(RelationStarted, do, relation=relation)


def targets_of(cluster: LabCluster, **dsns: str) -> list[NodeTarget]:
    """Return the nodes of a cluster as the audit's targets; `dsns` replaces the connection strings of some."""
    primary = cluster.primary.name
    return [
        NodeTarget(
            name=name,
            dsn=dsns.get(name, cluster.audit_dsn(name)),
            expected_role=NodeRole.PRIMARY if name == primary else NodeRole.STANDBY,
        )
        for name in cluster.nodes
    ]


def audit(
    cluster: LabCluster,
    database: str,
    *acts: Act,
    targets: Sequence[NodeTarget] | None = None,
    every: Callable[[Event], object] = lambda _: None,
    **options: Any,
) -> Staged:
    """Audit one database without its catalogs, one lane at a time unless told otherwise; `every` hears every event."""
    events: list[Event] = []
    failures: list[BaseException] = []

    def emit(event: Event) -> None:
        events.append(event)
        try:
            every(event)
            for act in acts:
                act.heed(event)
        except BaseException as failure:  # noqa: BLE001 - the audit must not take it for its own; raised again below
            failures.append(failure)

    chosen = AuditOptions(**{"databases": (database,), "catalogs": False, "jobs": 1, **options})

    async def run() -> AuditResult:
        nodes = targets if targets is not None else targets_of(cluster)
        return await audit_cluster(nodes, chosen, run_id="test", cluster="lab", emit=emit, stop=asyncio.Event())

    began = time.monotonic()
    result = asyncio.run(run())
    for failure in failures:
        raise failure
    assert all(act.done for act in acts), "the moment of an act never came"
    return Staged(result, events, time.monotonic() - began)


def before_snapshots(monkeypatch: pytest.MonkeyPatch, database: str, act: Callable[[str, int], object]) -> None:
    """Call `act` with a node's name and a count, from 1, just before each snapshot is opened there in a database."""
    counts: dict[str, int] = {}
    opened = Session.fetch_batch

    async def fetch_batch(self: Session, *arguments: Any, **words: Any) -> Any:
        if self._connection.info.dbname == database:
            counts[self.node] = counts.get(self.node, 0) + 1
            act(self.node, counts[self.node])
        return await opened(self, *arguments, **words)

    monkeypatch.setattr(Session, "fetch_batch", fetch_batch)


def until(condition: Callable[[], object], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Wait for a condition that can be seen."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)


def value(server: LocalServer, query: Statement, *params: Any, dbname: str = "postgres") -> Any:
    """Return the only value of a query's only row."""
    [(found,)] = server.execute(query, params, dbname)
    return found


def session_on(
    server: LocalServer, database: str, *, autocommit: bool = False
) -> AbstractContextManager[LocalConnection]:
    """Return a connection of a test's own."""
    return connect(server.dsn(database), node=server.name, autocommit=autocommit)


@contextmanager
def paused(*servers: LocalServer) -> Iterator[None]:
    """Hold the replay of standbys still."""
    for server in servers:
        pause(server)
    try:
        yield
    finally:
        for server in servers:
            resume(server)


def pause(server: LocalServer) -> None:
    """Pause a standby's replay and wait until it stands still."""
    server.execute("select pg_wal_replay_pause()")
    until(
        lambda: value(server, "select pg_get_wal_replay_pause_state()") == "paused", f"replay of {server.name} paused"
    )


def resume(server: LocalServer) -> None:
    """Let a standby replay again."""
    server.execute("select pg_wal_replay_resume()")


def make_slow_tables(
    server: LocalServer,
    database: str,
    names: Sequence[str],
    *,
    rows: int = 20,
    seconds: float = 0.5,
    row_bytes: int = 0,
) -> None:
    """Make tables that take about `seconds` each to read: sending an array of ranges is slow work.

    A row has `row_bytes` in the heap beside its array, which is stored outside.
    """
    with session_on(server, database, autocommit=True) as connection:
        elements = max(1, int(seconds / rows / _seconds_per_element(connection)))
        for name in names:
            connection.execute(f"create table {name} (id int, v int4range[], filler text)")
            connection.execute(f"alter table {name} alter column filler set storage plain")
            connection.execute(
                f"insert into {name} select g, array_fill('[1,5)'::int4range, array[%s]), repeat('x', %s)"
                " from generate_series(1, %s) g",
                [elements, row_bytes, rows],
            )


def _seconds_per_element(connection: LocalConnection) -> float:
    """Return how long an element takes when nobody is in the way: the shortest of several measurements."""
    return min(_measured(connection) for _ in range(8))


def _measured(connection: LocalConnection) -> float:
    [(seconds,)] = connection.execute(
        "select extract(epoch from clock_timestamp() - s.begun)::float8 / 5000 from (select b.begun, record_send(row("
        "array_fill('[1,5)'::int4range, array[5000]))) as sent from (select clock_timestamp() as begun offset 0) as b"
        " offset 0) as s where length(s.sent) > 0"
    ).fetchall()
    return float(seconds)


class Background:
    """A piece of work beside the test; `join` raises what it raised."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.finished = Flag()
        self._failure: BaseException | None = None
        self._work = work
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as failure:  # noqa: BLE001 - raised again by join
            self._failure = failure
        finally:
            self.finished.set()

    def join(self, patience_s: float = PATIENCE_S) -> None:
        assert self.finished.wait(patience_s), "the work beside the test did not end"
        self._thread.join()
        if self._failure is not None:
            raise self._failure
