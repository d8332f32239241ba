"""The audit of one database as far as it needs no server: what it makes of what nodes list and tell."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from replcheck.audit import unaligned
from replcheck.audit.cluster import Cluster
from replcheck.audit.database import DatabaseAudit
from replcheck.audit.gate import Gate
from replcheck.audit.lanes import Alignment
from replcheck.audit.options import AuditOptions
from replcheck.audit.plan import Plan
from replcheck.audit.shortfalls import DATABASE_RENAMED, NO_DATABASE, STOPPED
from replcheck.audit.visibility import Unsettled
from replcheck.errors import DatabaseMissing, NodeError, NodeLost, StatementCancelled
from replcheck.events import Event, Skipped
from replcheck.model.audit import Finding
from replcheck.model.outcome import Outcome
from replcheck.postgres.software import Software
from tests.core.nodes import facts
from tests.core.proofs import proof, relation

VISIT = relation(1, name="visit")
UNREAD = {
    "privilege": {"readable": False},
    "row_security": {"row_security": True},
    "access_method": {"access_method": "columnar"},
}


class Worker:
    """A lane's worker that aligns whenever it is asked and finds nothing to read."""

    def __init__(self) -> None:
        self.over = False
        self.settled = 0
        self.failures: list[tuple[str, NodeError]] = []
        self.lane = SimpleNamespace(session=None)

    async def settle(self) -> None:
        self.settled += 1

    async def failed(self, name: str, error: NodeError) -> None:
        self.failures.append((name, error))


def node(name: str) -> Any:
    async def wait_usable() -> None: ...

    return SimpleNamespace(name=name, facts=facts(name), gone=None, usable=True, wait_usable=wait_usable)


class Audited:
    """An audit whose plan holds one table; `lists` are the primary's answers when latecomers are asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *lists: list[Any] | None) -> None:
        self.told: list[Event] = []
        self.asked = 0
        self.lists = list(lists)
        self.worker = Worker()
        self.primary, self.replica = node("db1"), node("db2")
        self.now = 0.0
        hasher: Any = None
        cluster = Cluster(
            primary=self.primary,
            replicas={"db2": self.replica},
            hasher=hasher,
            options=AuditOptions(jobs=1),
            emit=self.told.append,
            gate=Gate(monotonic=lambda: self.now),
        )
        self.audit = DatabaseAudit("clinic", 5, cluster, shared_here=True)
        self.audit.plan = Plan(digested=(VISIT,), sequences=(), not_checked=())
        monkeypatch.setattr(self.audit, "_workers", [self.worker])
        monkeypatch.setattr(self.audit._unaligned, "_worker", self.worker)
        monkeypatch.setattr(self.audit, "_listing", self.listing)
        self.alignment = self._alignment()

    @staticmethod
    def _alignment() -> Alignment:
        unknown: dict[str, Any] = {"taken_at": None, "lsn": None, "attempts": 1, "elapsed_s": 0.0}
        return Alignment(number=1, expires=0.0, unsettled={"db2": Unsettled()}, **unknown)

    async def listing(self, *, but: Any = ()) -> Any:
        self.asked += 1
        assert self.asked < 1_000, "it asks for ever"
        found = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if found is None:
            return None
        listed = {each.oid: each for each in found if each.oid not in but}
        return {"db1": listed, "db2": listed}, self.alignment

    def look_for_latecomers(self) -> frozenset[int]:
        return asyncio.run(self.audit._plan_latecomers())

    @property
    def notes(self) -> list[tuple[str | None, str, bool]]:
        assert self.audit.plan is not None
        return [(note.relation, note.code, note.by_design) for note in self.audit.plan.not_checked]


@pytest.mark.parametrize(("code", "trait"), UNREAD.items())
def test_a_latecomer_that_cannot_be_read_is_told(monkeypatch, code, trait):
    audited = Audited(monkeypatch, [relation(2, name="visit", **trait)])
    assert audited.look_for_latecomers() == frozenset()
    assert audited.notes == [("public.visit", code, False)]
    assert [event.what.code for event in audited.told if isinstance(event, Skipped)] == [code]


def test_what_was_told_already_is_not_told_again_when_latecomers_are_looked_for(monkeypatch):
    audited = Audited(monkeypatch, [relation(2, name="scratch", persistence="u"), relation(3, name="late")])
    assert audited.look_for_latecomers() == {3}
    assert audited.look_for_latecomers() == frozenset()
    assert audited.notes == [("public.scratch", "unlogged", True)]
    assert len([event for event in audited.told if isinstance(event, Skipped)]) == 1


def test_a_relation_that_was_made_unlogged_is_told_once(monkeypatch):
    audited = Audited(monkeypatch, [relation(1, name="visit", persistence="u")])
    audited.audit._job.dropped[1] = relation(1, name="visit", persistence="u")
    audited.look_for_latecomers()
    assert audited.notes == []
    assert audited.audit.dropped != []


def test_latecomers_are_asked_for_again_when_the_list_fails(monkeypatch):
    audited = Audited(monkeypatch, None, None, [relation(2, name="late")])
    assert audited.look_for_latecomers() == {2}
    assert (audited.asked, audited.worker.settled, audited.notes) == (3, 2, [])


def test_a_list_that_never_comes_is_told_and_counts_as_inconclusive(monkeypatch):
    audited = Audited(monkeypatch, None)
    assert audited.look_for_latecomers() == frozenset()
    assert audited.notes == [(None, "unlisted", False)]


def test_tries_count_only_while_somebody_can_be_aligned(monkeypatch):
    audited = Audited(monkeypatch, None)
    audited.replica.usable = False
    answer = audited.listing

    async def listing(**words: Any) -> Any:
        audited.replica.usable = audited.asked > 100
        if audited.asked > 110:
            audited.lists = [[relation(2, name="late")]]
        return await answer(**words)

    monkeypatch.setattr(audited.audit, "_listing", listing)
    assert audited.look_for_latecomers() == {2}


@pytest.mark.parametrize("why", ["stopped", "replica gone"])
def test_a_list_that_is_missed_because_the_audit_is_over_is_not_told_besides(monkeypatch, why):
    audited = Audited(monkeypatch, None)
    audited.worker.over = True
    (audited.primary if why == "stopped" else audited.replica).gone = STOPPED
    assert audited.look_for_latecomers() == frozenset()
    assert (audited.asked, audited.notes) == (0, [])


@pytest.mark.parametrize("proven", [True, False])
def test_a_database_that_got_another_name_before_the_last_list_is_told_where_all_else_was_proven(monkeypatch, proven):
    audited = Audited(monkeypatch, None)
    audited.worker.over = True
    audited.audit._job.absent["db1"] = DATABASE_RENAMED
    if not proven:
        audited.audit._job.queue.add(proof(oid=1))
    audited.look_for_latecomers()
    assert audited.notes == ([(None, "unlisted", False)] if proven else [])


# --- versions of software ---

GLIBC = Software(extensions={}, collations={"de": "2.36"})
OTHER = Software(extensions={}, collations={"de": "2.41"})


def software(monkeypatch: pytest.MonkeyPatch, audited: Audited, **answers: list[Software | NodeError]) -> list[Finding]:
    """Compare what nodes answer, one answer after the other, the last one again and again."""

    async def session(handle: Any) -> str:
        name: str = handle.name
        return name

    async def read_software(name: str) -> Software:
        left = answers[name]
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, NodeError):
            raise found
        return found

    audited.worker.lane.session = session
    monkeypatch.setattr(unaligned, "read_software", read_software)
    return asyncio.run(audited.audit.compare_software())


def lost(name: str) -> NodeLost:
    return NodeLost("connection lost", node=name)


def cancelled(name: str) -> StatementCancelled:
    return StatementCancelled("canceled", node=name, sqlstate="57014")


@pytest.mark.parametrize("failure", [lost, cancelled])
@pytest.mark.parametrize("name", ["db1", "db2"])
def test_versions_are_asked_for_again_where_an_answer_was_lost(monkeypatch, name, failure):
    audited = Audited(monkeypatch, [])
    answers: dict[str, Any] = {"db1": [GLIBC], "db2": [OTHER]}
    answers[name].insert(0, failure(name))
    [found] = software(monkeypatch, audited, **answers)
    assert (found.code, found.node, found.outcome) == ("collation_version", "db2", Outcome.PARTIAL)
    assert [failed for failed, _ in audited.worker.failures] == [name]


@pytest.mark.parametrize("name", ["db1", "db2"])
def test_versions_that_are_never_told_count_as_not_compared(monkeypatch, name):
    audited = Audited(monkeypatch, [])
    answers: dict[str, Any] = {"db1": [GLIBC], "db2": [GLIBC], name: [lost(name)]}
    [found] = software(monkeypatch, audited, **answers)
    assert (found.code, found.node, found.outcome) == ("software", name, Outcome.PARTIAL)
    assert found.what == "database clinic: versions of extensions and collations not compared: connection lost"


def test_a_node_that_is_away_is_waited_for_before_its_versions_are_read(monkeypatch):
    audited = Audited(monkeypatch, [])
    audited.replica.usable = False

    async def come_back() -> None:
        audited.replica.usable = True

    audited.replica.wait_usable = come_back
    [found] = software(monkeypatch, audited, db1=[GLIBC], db2=[OTHER])
    assert found.code == "collation_version"


@pytest.mark.parametrize(("name", "why"), [("db1", DATABASE_RENAMED.reason), ("db2", NO_DATABASE.reason)])
def test_a_database_that_is_gone_when_versions_are_read_is_told_and_its_node_is_not_blamed(monkeypatch, name, why):
    audited = Audited(monkeypatch, [])
    answers: dict[str, Any] = {"db1": [GLIBC], "db2": [GLIBC], name: [DatabaseMissing("no such database", node=name)]}
    [found] = software(monkeypatch, audited, **answers)
    assert (found.node, found.what.rpartition("compared: ")[2]) == (name, why)
    assert (set(audited.audit.absent), audited.worker.failures) == ({name}, [])


def test_of_a_node_that_is_gone_nothing_is_said_besides(monkeypatch):
    audited = Audited(monkeypatch, [])
    audited.replica.gone = STOPPED
    assert software(monkeypatch, audited, db1=[GLIBC], db2=[OTHER]) == []


@pytest.mark.parametrize("proven", [True, False])
def test_a_database_that_a_replica_lacks_in_the_end_is_told_where_all_rows_were_proven(monkeypatch, proven):
    audited = Audited(monkeypatch, [])
    audited.audit._job.absent["db2"] = NO_DATABASE
    if not proven:
        audited.audit._job.queue.add(proof(oid=1))
    found = software(monkeypatch, audited, db1=[GLIBC], db2=[GLIBC])
    assert [(each.node, each.what.rpartition(": ")[2]) for each in found] == (
        [("db2", "it has no such database")] if proven else []
    )


# --- relations that only a replica has ---


def looked_at(monkeypatch: pytest.MonkeyPatch, *, joins: bool = True, extra: bool = True) -> Audited:
    """Look for the extra relations of an audit that planned without db2, which joins afterwards if at all."""
    audited = Audited(monkeypatch, [])
    audited.audit._job.watch.note_extras({"db1": {1: VISIT}}, frozenset({1, 9}), frozenset())
    there, here = {1: VISIT}, {1: VISIT, **({9: relation(9, name="stray")} if extra else {})}

    async def align(wanted: frozenset[str]) -> bool:
        assert wanted == {"db2"}
        audited.asked += 1
        audited.now += 10.0
        return joins

    async def list_relations(_: None, *, detailed: object) -> Any:
        return {"db1": there, "db2": here}

    worker: Any = audited.worker
    worker.align, worker.list_relations = align, list_relations
    worker.lane = SimpleNamespace(alignment=audited.alignment if joins else None)
    asyncio.run(audited.audit._look_at_extras())
    return audited


def test_a_replica_that_joined_after_the_plan_is_looked_at_for_relations_of_its_own(monkeypatch):
    audited = looked_at(monkeypatch)
    assert {name: set(found) for name, found in audited.audit.extras.items()} == {"db2": {9}}
    assert (audited.asked, audited.audit.unlisted) == (2, frozenset())


def test_one_that_has_none_is_looked_at_once(monkeypatch):
    audited = looked_at(monkeypatch, extra=False)
    assert (audited.audit.extras, audited.asked, audited.audit.unlisted) == ({}, 1, frozenset())


def test_one_that_cannot_be_listed_in_time_is_told(monkeypatch):
    audited = looked_at(monkeypatch, joins=False)
    assert audited.audit.unlisted == {"db2"}
    assert audited.asked == AuditOptions().settle_budget_s / 10


@pytest.mark.parametrize("how", ["gone", "absent"])
def test_one_that_takes_no_part_is_not_told_besides(monkeypatch, how):
    audited = looked_at(monkeypatch, joins=False)
    if how == "gone":
        audited.replica.gone = STOPPED
    else:
        audited.audit._job.absent["db2"] = NO_DATABASE
    assert audited.audit.unlisted == frozenset()
