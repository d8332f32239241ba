"""The audit of one database as far as it needs no server: what it makes of the lists of relations that nodes give."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from replcheck.audit.cluster import Cluster
from replcheck.audit.database import DatabaseAudit
from replcheck.audit.lanes import Alignment
from replcheck.audit.options import AuditOptions
from replcheck.audit.plan import Plan
from replcheck.audit.shortfalls import DATABASE_RENAMED, STOPPED
from replcheck.audit.visibility import Unsettled
from replcheck.events import Event, Skipped
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

    async def settle(self) -> None:
        self.settled += 1


def node(name: str) -> Any:
    return SimpleNamespace(name=name, facts=facts(name), gone=None, usable=True)


class Audited:
    """An audit whose plan holds one table; `lists` are the primary's answers when latecomers are asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *lists: list[Any] | None) -> None:
        self.told: list[Event] = []
        self.asked = 0
        self.lists = list(lists)
        self.worker = Worker()
        self.primary, self.replica = node("db1"), node("db2")
        hasher: Any = None
        cluster = Cluster(
            primary=self.primary,
            replicas={"db2": self.replica},
            hasher=hasher,
            options=AuditOptions(jobs=1),
            emit=self.told.append,
        )
        self.audit = DatabaseAudit("clinic", 5, cluster, shared_here=True)
        self.audit.plan = Plan(digested=(VISIT,), sequences=(), not_checked=())
        monkeypatch.setattr(self.audit, "_workers", [self.worker])
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
