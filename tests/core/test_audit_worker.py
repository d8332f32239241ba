"""Small relations that a lane reads in one round trip, and what becomes of them where that brings trouble."""

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from replcheck.audit import shortfalls, worker
from replcheck.audit.comparison import BlockRange, ChunkFinding
from replcheck.audit.gate import Gate
from replcheck.audit.giving_way import GaveWay
from replcheck.audit.lanes import Alignment
from replcheck.audit.options import AuditOptions, Pacing
from replcheck.audit.proof import MAX_LOSSES, Chunk, RelationProof, Trial
from replcheck.audit.reading import ReadAhead, Readers
from replcheck.audit.visibility import Unsettled
from replcheck.audit.work import WorkQueue
from replcheck.audit.worker import LaneWorker
from replcheck.errors import NodeError, NodeLost, StatementCancelled, StatementFailed
from replcheck.postgres.catalog import Relation
from replcheck.postgres.digests import Digest, PartDigests
from tests.core.proofs import clean, proof

OIDS = (1, 2, 3)
BATCH_S = 0.3


class Lane:
    """A lane that is aligned with two replicas; it expires after so many relations."""

    number = 1

    def __init__(self, *, expires_after: int = 100) -> None:
        unsettled = {"db2": Unsettled(), "db3": Unsettled()}
        facts: Any = {"taken_at": None, "lsn": None, "attempts": 1, "elapsed_s": 0.0}
        self.alignment: Alignment | None = Alignment(number=1, expires=0.0, unsettled=unsettled, **facts)
        self.sessions = dict.fromkeys(("db1", "db2", "db3"), object())
        self.compared: list[int] = []
        self._expires_after = expires_after

    @property
    def expired(self) -> bool:
        return len(self.compared) >= self._expires_after


class Works:
    """One lane's worker over three small relations; `answer` is what nodes answer for all of them at once."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        answer: Callable[[Sequence[Relation]], ReadAhead],
        *,
        lane: Lane | None = None,
        pacing: Pacing = Pacing.DEFAULT,
    ) -> None:
        self.lane = lane or Lane()
        self.now = 0.0
        self.gate = Gate()
        self.on_compared: Callable[[], object] = lambda: None
        self.started: list[int] = []
        self.started_before_the_read: list[int] = []
        self.failures: list[NodeError] = []
        self.ready: dict[int, set[str]] = {}
        self.queue = WorkQueue([proof("db2", "db3", oid=oid, known_blocks=1) for oid in OIDS], lambda _: 1_000)
        cluster: Any = SimpleNamespace(
            primary=SimpleNamespace(name="db1"),
            options=AuditOptions(pacing=pacing),
            hasher=SimpleNamespace(how=lambda **_: None),
            clock=lambda: self.now,
            gate=self.gate,
            replicas={"db2": SimpleNamespace(gone=None)},
            over=False,
        )
        self.cluster = cluster
        job: Any = SimpleNamespace(
            queue=self.queue,
            absent={},
            teller=SimpleNamespace(
                started=lambda each: self.started.append(each.relation.oid), compared=lambda *_: None
            ),
            pace=SimpleNamespace(request=lambda *_: None, measure=lambda *_: None),
        )
        lane_: Any = self.lane
        self.worker = LaneWorker(lane_, cluster, job)

        async def read_ahead(relations: Sequence[Relation], *_: object) -> ReadAhead:
            self.started_before_the_read = list(self.started)
            self.now += BATCH_S
            return answer(relations)

        async def drive(_comparison: object, readers: Readers) -> ChunkFinding:
            self.lane.compared.append(readers.relation.oid)
            self.ready[readers.relation.oid] = set(readers.ready)
            self.on_compared()
            return clean("db2", "db3")

        async def failed(name: str, error: NodeError) -> None:
            assert error.node == name
            self.failures.append(error)

        monkeypatch.setattr(worker, "read_ahead", read_ahead)
        monkeypatch.setattr(worker, "compare", lambda *_, **__: None)
        monkeypatch.setattr(worker, "drive", drive)
        monkeypatch.setattr(self.worker, "failed", failed)

    def take(self) -> None:
        chunk = self.next()
        asyncio.run(self.worker._take(chunk))

    def next(self) -> Chunk:
        step = self.queue.next(1, frozenset({"db2", "db3"}), self.now)
        assert isinstance(step, Chunk)
        return step


def answered(relations: Sequence[Relation]) -> ReadAhead:
    parts = [
        PartDigests(filenode=each.filenode_now, in_recovery=False, digests=(Digest(1, (7,)),)) for each in relations
    ]
    return ReadAhead(answers=dict.fromkeys(("db1", "db2", "db3"), parts))


def troubled(error: NodeError) -> Callable[[Sequence[Relation]], ReadAhead]:
    def answer(relations: Sequence[Relation]) -> ReadAhead:
        answers = {name: parts for name, parts in answered(relations).answers.items() if name != error.node}
        return ReadAhead(answers=answers, troubles={error.node: error})

    return answer


def test_each_of_several_relations_is_compared_with_what_every_node_answered(monkeypatch):
    works = Works(monkeypatch, answered)
    works.take()
    assert works.lane.compared == list(OIDS)
    assert works.ready == {key: {"db1", "db2", "db3"} for key in OIDS}
    assert (works.queue.at_work, works.failures) == (0, [])


def test_all_are_told_to_begin_before_any_is_read(monkeypatch):
    works = Works(monkeypatch, answered)
    works.take()
    assert works.started_before_the_read == list(OIDS)


@pytest.mark.parametrize("node", ["db1", "db2"])
@pytest.mark.parametrize(
    ("kind", "sqlstate", "lost"),
    [
        (StatementFailed, "42501", False),
        (StatementCancelled, "55P03", False),
        (StatementCancelled, "57014", False),
        (NodeLost, "40001", True),
        (NodeLost, None, True),
    ],
)
def test_where_one_brings_trouble_each_is_read_by_itself_and_none_is_blamed(monkeypatch, node, kind, sqlstate, lost):
    error = kind("trouble", node=node, sqlstate=sqlstate)
    works = Works(monkeypatch, troubled(error))
    works.take()
    assert works.lane.compared == []
    assert works.failures == ([error] if lost else [])
    chunks = [works.next() for _ in OIDS]
    assert sorted(chunk.oid for chunk in chunks) == list(OIDS)
    assert all(chunk.alone and not chunk.trials and chunk.first for chunk in chunks)
    assert works.queue.at_work == len(OIDS)


def test_what_is_read_by_itself_is_asked_of_every_node(monkeypatch):
    works = Works(monkeypatch, troubled(StatementFailed("refused", node="db2", sqlstate="42501")))
    for _ in range(1 + len(OIDS)):
        works.take()
    assert sorted(works.lane.compared) == list(OIDS)
    assert works.ready == {oid: set() for oid in OIDS}


def test_what_is_left_when_the_snapshots_grow_too_old_is_read_again(monkeypatch):
    works = Works(monkeypatch, answered, lane=Lane(expires_after=1))
    works.take()
    assert works.lane.compared == [1]
    assert [works.next().oid for _ in range(2)] == [2, 3]


def test_what_is_left_when_the_gate_is_closed_is_compared_when_it_opens(monkeypatch):
    works = Works(monkeypatch, answered)
    works.on_compared = lambda: works.gate.close("user", "paused")
    works.take()
    assert works.lane.compared == [1]
    assert [works.next().oid for _ in range(2)] == [2, 3]


def test_what_is_left_when_the_audit_ends_is_left(monkeypatch):
    works = Works(monkeypatch, answered)
    works.on_compared = lambda: setattr(works.cluster, "over", True)
    works.take()
    assert works.lane.compared == [1]


def test_what_was_answered_under_snapshots_that_are_gone_is_not_believed(monkeypatch):
    lane = Lane()

    def gone_meanwhile(relations: Sequence[Relation]) -> ReadAhead:
        lane.alignment = None
        return answered(relations)

    works = Works(monkeypatch, gone_meanwhile, lane=lane)
    works.take()
    assert lane.compared == []
    assert [works.next().oid for _ in OIDS] == list(OIDS)


@pytest.mark.parametrize("answer", [answered, troubled(StatementFailed("no", node="db2", sqlstate="42501"))])
def test_a_gentle_pace_rests_for_what_was_read_together_whatever_came_of_it(monkeypatch, answer):
    works = Works(monkeypatch, answer, pacing=Pacing.GENTLE)
    works.take()
    assert works.worker._rest_s == pytest.approx(BATCH_S * (1 / Pacing.GENTLE.share - 1))
    assert works.worker._rest_s > 0


# --- what gave way to somebody who waited for its lock ---


def gave_way(each: RelationProof, chunk: Chunk, monkeypatch: pytest.MonkeyPatch) -> WorkQueue:
    works = Works(monkeypatch, answered)
    works.queue.add(each)
    error = GaveWay("gave way", node="db1", sqlstate="57014")
    works.worker._primary_failed(each, chunk, error)
    return works.queue


def test_a_whole_relation_that_gave_way_is_read_in_parts(monkeypatch):
    each = proof("db2", "db3", oid=9, known_blocks=100)
    chunk = each.fresh(1_000)
    assert chunk is not None
    assert chunk.whole
    gave_way(each, chunk, monkeypatch)
    assert each.in_ranges
    assert each.unread


def test_a_range_that_gave_way_is_halved_and_a_single_block_is_put_off_however_often(monkeypatch):
    each = proof("db2", "db3", oid=9, known_blocks=1_000)
    chunk = each.fresh(2)
    assert chunk is not None
    halves = gave_way(each, chunk, monkeypatch)._returned
    assert [half.ranges for half in halves] == [(BlockRange(0, 1),), (BlockRange(1, 2),)]
    [block] = [chunk for chunk in gave_way(each, halves[0], monkeypatch)._returned if chunk.trials]
    for _ in range(MAX_LOSSES):
        [block] = gave_way(each, block, monkeypatch)._returned
    assert block.trials["db1"] == Trial(tries=1 + MAX_LOSSES, losses=0, lack=shortfalls.LOCKED)
