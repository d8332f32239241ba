"""An audit's way through the databases, as far as it needs no server: what is compared when some are dropped."""

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from replcheck.audit import auditor
from replcheck.audit.auditor import _Audit
from replcheck.audit.cluster import Cluster
from replcheck.audit.options import AuditOptions
from replcheck.audit.plan import Plan
from replcheck.audit.proof import RelationProof
from replcheck.audit.shortfalls import DATABASE_RENAMED
from replcheck.model.audit import AuditResult
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Verdict
from replcheck.model.progress import TakenOver
from replcheck.postgres.nodes import Database
from tests.core.nodes import facts
from tests.core.proofs import clean, missing, relation, showing

AUTHID = relation(1260, schema="pg_catalog", name="pg_authid", shared=True)


def catalog(*, differs: bool) -> RelationProof:
    """Return the finished proof of a shared catalog."""
    proof = RelationProof(AUTHID, ["db2"], known_blocks=1, sweep=False)
    finding = showing(db2=missing((0, 1))) if differs else clean("db2")
    left, number = [proof.fresh(1_000)], 0
    while left and left[0] is not None:
        number += 1
        left = [*proof.absorb(left[0], finding, alignment=number, now=0.0, budget_s=9.0)]
    return proof


def node(name: str, *, in_recovery: bool = False) -> Any:
    async def control() -> object:
        return object()

    async def look() -> None: ...

    return SimpleNamespace(
        name=name,
        facts=facts(name, in_recovery=in_recovery),
        target=NodeTarget(name=name, dsn=""),
        gone=None,
        restarts=0,
        control=control,
        look=look,
    )


class DatabaseAudits:
    """Stands for the audits of databases: each compares a shared catalog where that is its part, and nothing else."""

    def __init__(self, *, dropped: Collection[str], differs: Collection[str], unlisted: Collection[str]) -> None:
        self.shared_in: list[str] = []
        self._unlisted = unlisted
        self._dropped = dropped
        self._differs = differs

    def __call__(self, database: str, _oid: int, _cluster: object, *, shared_here: bool) -> Any:
        if shared_here:
            self.shared_in.append(database)

        async def nothing(found: Any = None) -> Any:
            return found

        return SimpleNamespace(
            database=database,
            proofs=[catalog(differs=database in self._differs)] if shared_here else [],
            absent={"db1": DATABASE_RENAMED} if database in self._dropped else {},
            plan=Plan(digested=(), sequences=(), not_checked=()),
            dropped=[],
            damage=SimpleNamespace(votes=[], divergences=[]),
            extras={},
            unsettled_extras=(),
            unlisted=self._unlisted,
            alignments={},
            run=nothing,
            bracket=lambda: nothing({}),
            compare_software=lambda: nothing([]),
            check_indexes=nothing,
            close=nothing,
            finish=lambda _: None,
            index_findings=lambda _: SimpleNamespace(reports=[], divergences=[], votes=[], findings=[], not_checked=[]),
        )


def audited(
    monkeypatch: pytest.MonkeyPatch,
    *names: str,
    dropped: Collection[str] = (),
    differs: Collection[str] = (),
    unlisted: Collection[str] = (),
    **options: Any,
) -> tuple[AuditResult, list[str]]:
    """Audit databases, some of which are dropped meanwhile; return the result and where shared catalogs were read."""
    databases = [
        Database(
            name=name,
            allows_connections=True,
            valid=True,
            may_connect=True,
            encoding="UTF8",
            is_template=False,
            oid=number,
        )
        for number, name in enumerate(names)
    ]

    async def in_scope(*_: object) -> tuple[list[Database], list[Any]]:
        return databases, []

    async def still_there(_: object) -> list[Database]:
        return [each for each in databases if each.name not in dropped]

    async def nothing(*_: object) -> None: ...

    audits = DatabaseAudits(dropped=dropped, differs=differs, unlisted=unlisted)
    monkeypatch.setattr(auditor, "DatabaseAudit", audits)
    monkeypatch.setattr(auditor, "databases_in_scope", in_scope)
    monkeypatch.setattr(auditor, "read_databases", still_there)
    monkeypatch.setattr(auditor, "check_tables", nothing)
    monkeypatch.setattr(auditor, "check_filters", nothing)
    hasher: Any = SimpleNamespace(encoding=SimpleNamespace(name="exact/1"))
    cluster = Cluster(
        primary=node("db1"),
        replicas={"db2": node("db2", in_recovery=True)},
        hasher=hasher,
        options=AuditOptions(**options),
        emit=lambda _: None,
    )
    audit = _Audit(cluster, run_id="r", name="clinic", taken=TakenOver(), started_at=datetime.now(UTC))
    return asyncio.run(audit.run()), audits.shared_in


def test_shared_catalogs_are_compared_in_the_first_database_alone(monkeypatch):
    result, shared_in = audited(monkeypatch, "ci", "clinic", "postgres")
    assert shared_in == ["ci"]
    assert [found.name for found in result.relations] == ["pg_authid"]
    assert (result.verdict, result.not_checked) == (Verdict.CONSISTENT, ())


def test_shared_catalogs_are_compared_in_the_next_database_when_the_first_is_dropped(monkeypatch):
    result, shared_in = audited(monkeypatch, "ci", "ci2", "clinic", "postgres", dropped=("ci", "ci2"))
    assert shared_in == ["ci", "ci2", "clinic"]
    assert [(found.database, found.name) for found in result.relations] == [("clinic", "pg_authid")]
    assert result.verdict is Verdict.CONSISTENT


def test_shared_catalogs_are_not_passed_over_when_every_database_is_dropped(monkeypatch):
    result, _ = audited(monkeypatch, "ci", "ci2", dropped=("ci", "ci2"))
    assert [(note.database, note.code, note.by_design) for note in result.not_checked] == [
        ("ci", "dropped", True),
        ("ci2", "dropped", True),
        ("ci2", "shared_catalogs", False),
    ]
    assert result.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("options", [{"catalogs": False}, {"tables": ("public.*", "visit")}])
def test_shared_catalogs_that_nobody_asked_for_are_not_missed(monkeypatch, options):
    result, shared_in = audited(monkeypatch, "ci", dropped=("ci",), **options)
    assert shared_in == []
    assert "shared_catalogs" not in {note.code for note in result.not_checked}


def test_an_audit_that_compared_nothing_because_every_database_was_dropped_proves_nothing(monkeypatch):
    result, _ = audited(monkeypatch, "ci", "ci2", dropped=("ci", "ci2"), catalogs=False)
    assert [note.code for note in result.not_checked if not note.by_design] == ["nothing_compared"]
    assert result.replicas[0].verdict is result.verdict is Verdict.INCONCLUSIVE


def test_an_audit_in_whose_scope_nothing_is_proves_nothing(monkeypatch):
    result, _ = audited(monkeypatch, "clinic", catalogs=False)
    assert [(note.database, note.code) for note in result.not_checked] == [(None, "nothing_compared")]
    assert result.replicas[0].verdict is result.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("dropped", [("ci",), ("ci", "clinic")])
@pytest.mark.parametrize("differs", [("ci",), ("ci", "clinic")])
def test_what_was_found_in_shared_catalogs_is_told_once_though_the_database_was_dropped(monkeypatch, dropped, differs):
    result, _ = audited(monkeypatch, "ci", "clinic", dropped=dropped, differs=differs)
    assert [(found.node, found.relation) for found in result.divergences] == [("db2", "pg_catalog.pg_authid")]
    assert result.verdict is Verdict.DIVERGED
    assert result.odd_node is None


def test_a_replica_whose_relations_were_never_listed_is_not_consistent(monkeypatch):
    result, _ = audited(monkeypatch, "clinic", unlisted=("db2",))
    assert [(note.database, note.node, note.code) for note in result.not_checked] == [("clinic", "db2", "unlisted")]
    assert result.replicas[0].verdict is result.verdict is Verdict.INCONCLUSIVE
