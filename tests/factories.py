"""Facts for tests, each with sensible defaults; none needs a server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from replcheck.model.audit import (
    AlignmentReport,
    AuditResult,
    CtidRange,
    DifferenceKind,
    Divergence,
    Finding,
    IndexNode,
    IndexReport,
    NotChecked,
    RelationKind,
    RelationReplica,
    RelationReport,
    ReplicaReport,
    Scope,
)
from replcheck.model.node import NodeReport, NodeRole
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.plan import AuditPlan, Estimate, PlannedDatabase, PlannedNode, PlannedRelation, Rate, Reading
from replcheck.model.wal import Lsn

BEGUN = datetime(2026, 3, 1, 6, 30, 0, tzinfo=UTC)
WHOLE = Scope(databases=(), tables=(), excludes=(), catalogs=True)


def node(name: str, role: NodeRole = NodeRole.STANDBY, **changes: Any) -> NodeReport:
    primary = role is NodeRole.PRIMARY
    report = NodeReport(
        name=name,
        role=role,
        server_version="18.1",
        server_version_num=180001,
        system_identifier="7412345678901234567",
        timeline=1,
        lsn=Lsn.parse("16/B374D848"),
        lag_bytes=None if primary else 8192,
        address=f"{name}.internal:5432",
        upstream=None if primary else "db1",
    )
    return replace(report, **changes)


def alignment(**changes: Any) -> AlignmentReport:
    report = AlignmentReport(
        lane=1,
        database="clinic",
        taken_at=BEGUN,
        lsn=Lsn.parse("16/B3740000"),
        attempts=2,
        elapsed_s=0.003,
        unsettled=0,
        chunks=40,
    )
    return replace(report, **changes)


def replica(name: str, verdict: Verdict = Verdict.CONSISTENT, **changes: Any) -> ReplicaReport:
    alignments = (alignment(), alignment(lane=2, attempts=75, elapsed_s=1.4, unsettled=3))
    return replace(ReplicaReport(node=node(name), verdict=verdict, reason="", alignments=alignments), **changes)


def relation(name: str = "visit", verdict: Verdict = Verdict.CONSISTENT, **changes: Any) -> RelationReport:
    report = RelationReport(
        database="clinic",
        schema="public",
        name=name,
        kind=RelationKind.TABLE,
        verdict=verdict,
        rows=4_000_000,
        chunks=12,
        size_bytes=512 << 20,
        replicas=(
            RelationReplica(node="db2", verdict=Verdict.CONSISTENT),
            RelationReplica(node="db3", verdict=verdict),
        ),
    )
    return replace(report, **changes)


def divergence(kind: DifferenceKind = DifferenceKind.MISSING, **changes: Any) -> Divergence:
    found = Divergence(
        database="clinic",
        relation="public.visit",
        node="db3",
        kind=kind,
        ranges=(CtidRange(first_block=12, first_offset=3, last_block=12, last_offset=19),),
        count=17,
        capped=False,
        sqlstate=None,
        block=None,
        query="SELECT ctid, xmin, xmax, * FROM public.visit WHERE ctid >= '(12,3)' AND ctid <= '(12,19)';",
    )
    return replace(found, **changes)


def unreadable(**changes: Any) -> Divergence:
    """A page of a relation that one node cannot read."""
    found = divergence(
        DifferenceKind.UNREADABLE, relation='public."Notes"', ranges=(), count=1, sqlstate="XX001", block=7, query=""
    )
    return replace(found, **changes)


def not_checked(**changes: Any) -> NotChecked:
    entry = NotChecked(
        database="clinic",
        relation="public.secret_notes",
        node=None,
        code="row-security",
        reason="row-level security hides rows from this role",
        by_design=False,
        hint="ALTER ROLE replcheck BYPASSRLS;",
    )
    return replace(entry, **changes)


def unlogged(name: str) -> NotChecked:
    return not_checked(
        relation=f"public.{name}", code="unlogged", reason="unlogged: not replicated", by_design=True, hint=""
    )


def finding(outcome: Outcome = Outcome.PROVEN, **changes: Any) -> Finding:
    what = "work_mem is 4MB here and 64MB on the primary"
    return replace(Finding(code="setting", node="db2", what=what, outcome=outcome), **changes)


def index(name: str = "public.visit_pkey", broken: tuple[str, ...] = (), **changes: Any) -> IndexReport:
    reason = f"index {name} does not know the row at ctid (12,3)"
    nodes = tuple(
        IndexNode(node=node, verdict=Verdict.DIVERGED, reason=reason, sqlstate="XX001")
        if node in broken
        else IndexNode(node=node, verdict=Verdict.CONSISTENT)
        for node in ("db1", "db2", "db3")
    )
    report = IndexReport(
        database="clinic",
        relation="public.visit",
        name=name,
        verdict=Verdict.DIVERGED if broken else Verdict.CONSISTENT,
        size_bytes=90 << 20,
        nodes=nodes,
    )
    return replace(report, **changes)


def consistent(**changes: Any) -> AuditResult:
    """Two replicas, two relations, nothing wrong."""
    result = AuditResult(
        run_id="019535d9-3df7-79fb-b466-fa907fa17f9e",
        started_at=BEGUN,
        finished_at=BEGUN + timedelta(seconds=4.2),
        tool_version="0.1.0",
        encoding="exact/1",
        level="exact",
        cluster="clinic",
        scope=WHOLE,
        verdict=Verdict.CONSISTENT,
        primary=node("db1", NodeRole.PRIMARY),
        replicas=(replica("db2"), replica("db3")),
        odd_node=None,
        relations=(relation(), relation("patient", rows=1200, size_bytes=8192, chunks=1)),
        divergences=(),
        findings=(),
        not_checked=(),
        stopped="",
        rows=4_001_200,
        size_bytes=(512 << 20) + 8192,
    )
    return replace(result, **changes)


def diverged(**changes: Any) -> AuditResult:
    """One replica of two misses rows, and a relation of it cannot be read."""
    differing = relation(
        verdict=Verdict.DIVERGED,
        replicas=(
            RelationReplica(node="db2", verdict=Verdict.CONSISTENT),
            RelationReplica(node="db3", verdict=Verdict.DIVERGED, rows_differing=17, rows_in_flight=2),
        ),
    )
    result = consistent(
        verdict=Verdict.DIVERGED,
        replicas=(
            replica("db2"),
            replica("db3", Verdict.DIVERGED, reason="rows differ in 2 relations"),
        ),
        odd_node="db3",
        relations=(differing, relation("Notes", Verdict.DIVERGED), relation("patient", rows=1200)),
        divergences=(divergence(), unreadable()),
        findings=(
            finding(),
            finding(Outcome.REFUTED, code="checksum_failures", node="db3", what="2 data pages failed their checksum"),
        ),
        not_checked=tuple(unlogged(f"cache_{number}") for number in range(5)),
    )
    return replace(result, **changes)


def broken_index(**changes: Any) -> AuditResult:
    """Every row matches, but an index of one replica has lost an entry."""
    lost = divergence(
        DifferenceKind.INDEX,
        ranges=(CtidRange(first_block=12, first_offset=3, last_block=12, last_offset=3),),
        count=1,
        sqlstate="XX001",
        query="SELECT ctid, xmin, xmax, * FROM ONLY public.visit WHERE ctid = '(12,3)';",
        what="index public.visit_pkey does not know the row at ctid (12,3)",
    )
    result = consistent(
        verdict=Verdict.DIVERGED,
        scope=replace(WHOLE, indexes=True),
        replicas=(replica("db2"), replica("db3", Verdict.DIVERGED, reason="1 index is broken")),
        odd_node="db3",
        indexes=(index(broken=("db3",)), index("public.patient_pkey", relation="public.patient")),
        divergences=(lost,),
    )
    return replace(result, **changes)


def unchecked(**changes: Any) -> AuditResult:
    """One relation could not be looked at, for want of a privilege."""
    return consistent(verdict=Verdict.UNCHECKED, not_checked=(not_checked(), unlogged("cache")), **changes)


def inconclusive(**changes: Any) -> AuditResult:
    """Rows stayed in flight on one replica until the budget ended."""
    busy = replica("db3", Verdict.INCONCLUSIVE, reason="12 rows stayed in flight")
    in_flight = relation(
        verdict=Verdict.INCONCLUSIVE,
        replicas=(
            RelationReplica(node="db2", verdict=Verdict.CONSISTENT),
            RelationReplica(node="db3", verdict=Verdict.INCONCLUSIVE, rows_in_flight=12),
        ),
    )
    return consistent(
        verdict=Verdict.INCONCLUSIVE,
        replicas=(replica("db2"), busy),
        relations=(in_flight, relation("patient")),
        **changes,
    )


def planned_relation(name: str, size_bytes: int, **changes: Any) -> PlannedRelation:
    made = PlannedRelation(
        schema="public",
        name=name,
        kind=RelationKind.TABLE,
        size_bytes=size_bytes,
        blocks=-(-size_bytes // 8192),
        chunks=1,
        reading=Reading.WHOLE,
    )
    return replace(made, **changes)


def planned_node(name: str, role: NodeRole = NodeRole.STANDBY, **changes: Any) -> PlannedNode:
    made = PlannedNode(node=node(name, role), connections_needed=3, connections_free=94, max_snapshot_age_s=60.0)
    return replace(made, **changes)


def audit_plan(**changes: Any) -> AuditPlan:
    """Return a plan of two databases, one with more relations than are shown."""
    visit = planned_relation("visit", 48 << 30, chunks=490, reading=Reading.RANGES)
    patient = planned_relation("Patient", 900 << 20, reading=Reading.SCAN)
    small = tuple(planned_relation(f"small_{number:02}", (20 - number) * 8192) for number in range(12))
    catalog = planned_relation("pg_proc", 800 << 10, schema="pg_catalog", kind=RelationKind.CATALOG)
    databases = (
        PlannedDatabase(name="clinic", relations=(visit, patient, *small), sequences=("public.visit_id_seq",)),
        PlannedDatabase(name="postgres", relations=(catalog,), sequences=()),
    )
    made = AuditPlan(
        made_at=BEGUN,
        tool_version="1.0.0",
        encoding="exact/1",
        level="exact",
        cluster="clinic",
        scope=WHOLE,
        lanes=2,
        primary=planned_node("db1", NodeRole.PRIMARY),
        replicas=(planned_node("db2"), planned_node("db3", max_snapshot_age_s=5.0)),
        databases=databases,
        not_checked=(not_checked(), unlogged("session"), *(unlogged(f"cache_{number}") for number in range(4))),
        estimate=Estimate(seconds=262.4, rate=Rate(bytes_per_s=100_000_000.0)),
    )
    return replace(made, **changes)
