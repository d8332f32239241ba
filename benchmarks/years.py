"""A history of a year as a cluster of three nodes would leave it, written in seconds: audits, drills, samples, checks.

Everything happens in it once that a report has to tell: times nobody watched, a divergence, a failed drill, runs that
were killed, a switch-over and a copy made anew. Nothing in it is random beyond a seed.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert

from replcheck.model.audit import (
    AlignmentReport,
    AuditResult,
    CtidRange,
    DifferenceKind,
    Divergence,
    RelationKind,
    RelationReplica,
    RelationReport,
    ReplicaReport,
    Scope,
)
from replcheck.model.control import Bound, CheckResult, ControlName, ControlResult, Measure, Standing, Unit
from replcheck.model.drill import (
    BackupKind,
    CopyFacts,
    DrillLimits,
    DrillResult,
    DrillVerdict,
    LayerName,
    LayerReport,
    LayerState,
    RowDifference,
    ScratchFacts,
    Stage,
    StageReport,
    Target,
    TargetKind,
)
from replcheck.model.live import ClusterEvent, EventKind, NodeState, Severity
from replcheck.model.names import qualified
from replcheck.model.node import NodeReport, NodeRole
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.plain import Plain, to_plain
from replcheck.model.run import RunRecord, RunStart, new_run_id
from replcheck.model.spans import NodeSpan, WatchSpan
from replcheck.model.wal import Lsn
from replcheck.report.check_document import check_document
from replcheck.report.check_words import check_sentence, check_verdict
from replcheck.report.document import audit_document
from replcheck.report.drill import drill_document
from replcheck.report.drill_words import drill_sentence
from replcheck.report.verdict import outcome_of, sentence, verdict_of
from replcheck.runs.parts import proofs_of
from replcheck.store.history import open_history, writing_engine
from replcheck.store.live_rows import event_values, node_span_values, proof_values, watch_span_values
from replcheck.store.live_tables import AUDIT_NODES, CLUSTER_EVENTS, NODE_SPANS, WATCH_SPANS
from replcheck.store.tables import RECORDS, RESULTS, RUNS

SYSTEM = "7412345678901234567"
NODES = ("db1", "db2", "db3")
UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
_VERSION = "0.1.0"
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_SPAN_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Year:
    """How long the history is, and how much is in it."""

    days: int = 365
    until: datetime = UNTIL
    cluster: str = "clinic"
    relations: int = 154
    check_every: timedelta = _HOUR
    names: Sequence[str] = ()
    """Names of the first relations, to see how a report copes with them."""

    @property
    def since(self) -> datetime:
        """Return when it begins."""
        return self.until - self.days * _DAY

    def at(self, share: float, hours: float = 0.0) -> datetime:
        """Return a moment of the year."""
        whole = (self.until - self.since) * share
        return (self.since + whole).replace(minute=0, second=0, microsecond=0) + timedelta(hours=hours)

    @property
    def failover(self) -> datetime:
        """Return when the first primary is lost."""
        return self.at(0.55, 0.4)

    @property
    def divergence(self) -> datetime:
        """Return from when on, for a day, the third node diverges."""
        return self.at(0.38).replace(hour=0)

    def gaps(self) -> list[tuple[datetime, datetime]]:
        """Return when nobody watches."""
        return [
            (self.at(0.25), self.at(0.25, min(50.0, self.days / 8))),
            (self.at(0.71), self.at(0.71, 3.0)),
            (self.at(0.9), self.at(0.9, 0.2)),
        ]


def write_year(path: Path, year: Year | None = None) -> None:
    """Write the history."""
    year = year or Year()
    open_history(path)
    rows: dict[Table, list[dict[str, Any]]] = {RUNS: [], RECORDS: [], RESULTS: [], AUDIT_NODES: []}
    chance = random.Random(1)
    for run, document, result in (*_audits(year), *_drills(year, chance), *_checks(year)):
        rows[RUNS].append({name: value for name, value in _plain(run).items() if name in RUNS.c})
        if isinstance(run, RunRecord):
            rows[RECORDS].append({name: value for name, value in _plain(run).items() if name in RECORDS.c})
        if document is not None:
            rows[RESULTS].append({"run_id": run.run_id, "document": document})
        if result is not None:
            rows[AUDIT_NODES] += [proof_values(proof) for proof in proofs_of(result)]
    resolution_s = round(_SPAN_S)
    rows[NODE_SPANS] = [node_span_values(year.cluster, span, resolution_s) for span in _node_spans(year, chance)]
    rows[WATCH_SPANS] = [watch_span_values(year.cluster, span, resolution_s) for span in _watch_spans(year, chance)]
    rows[CLUSTER_EVENTS] = [event_values(year.cluster, event) for event in _events(year)]
    with writing_engine(path, durable=False).begin() as connection:
        for table, values in rows.items():
            for first in range(0, len(values), 1000):
                connection.execute(insert(table), values[first : first + 1000])


_Run = tuple[RunStart, Plain, AuditResult | None]


def _plain(run: RunStart) -> dict[str, Any]:
    plain = to_plain(run)
    assert isinstance(plain, dict)  # noqa: S101 - a run is a dataclass
    return plain | {"failure": None}


def _record(year: Year, kind: str, begun: datetime, took: timedelta, outcome: Outcome, **told: str) -> RunRecord:
    return RunRecord(
        run_id=new_run_id(begun),
        kind=kind,
        cluster=year.cluster,
        started_at=begun,
        finished_at=begun + took,
        tool_version=_VERSION,
        argument_digest="0" * 64,
        outcome=outcome,
        exit_status=outcome.exit_status,
        verdict=told["verdict"],
        summary=told["summary"],
    )


def _audits(year: Year) -> Iterator[_Run]:
    for day in range(year.days):
        begun = year.since + day * _DAY + timedelta(hours=2, minutes=7)
        if day in {year.days // 5, year.days // 2}:
            killed = _record(year, "audit", begun, _HOUR, Outcome.UNCHECKED, verdict="", summary="")
            yield RunStart(**{name: getattr(killed, name) for name in RunStart.__dataclass_fields__}), None, None
            continue
        result = audit_of(year, begun, diverged=begun.date() == year.divergence.date())
        run = _record(
            year, "audit", begun, timedelta(minutes=41), outcome_of(result), verdict=verdict_of(result).value,
            summary=sentence(result),
        )  # fmt: skip
        result = replace(result, run_id=run.run_id)
        yield run, audit_document(result), result


def audit_of(year: Year, begun: datetime, *, diverged: bool = False) -> AuditResult:
    """Return an audit of the whole cluster, in which rows of the first relation may differ on the third node."""
    primary = "db1" if begun < year.failover else "db2"
    others = [name for name in NODES if name != primary]
    relations = [_relation(year, number, others, diverged=diverged and number == 0) for number in range(year.relations)]
    verdicts = dict.fromkeys(others, Verdict.CONSISTENT) | ({"db3": Verdict.DIVERGED} if diverged else {})
    found = [_divergence(relations[0])] if diverged else []
    return AuditResult(
        run_id="",
        started_at=begun,
        finished_at=begun + timedelta(minutes=41),
        tool_version=_VERSION,
        encoding="exact/1",
        level="exact",
        cluster=year.cluster,
        scope=Scope(databases=(), tables=(), excludes=(), catalogs=True),
        verdict=Verdict.DIVERGED if diverged else Verdict.CONSISTENT,
        primary=_node(primary, NodeRole.PRIMARY, None),
        replicas=tuple(
            ReplicaReport(
                node=_node(name, NodeRole.STANDBY, primary),
                verdict=verdicts[name],
                reason="1 row differs in 1 relation" if verdicts[name] is Verdict.DIVERGED else "",
                alignments=tuple(_alignment(lane, begun) for lane in range(1, 9)),
            )
            for name in others
        ),
        odd_node="db3" if diverged else None,
        relations=tuple(relations),
        divergences=tuple(found),
        findings=(),
        not_checked=(),
        stopped="",
        rows=sum(relation.rows or 0 for relation in relations),
        size_bytes=sum(relation.size_bytes for relation in relations),
    )


def _relation(year: Year, number: int, replicas: Sequence[str], *, diverged: bool) -> RelationReport:
    size = max(8192, (40 << 30) >> min(number, 25))
    name = year.names[number] if number < len(year.names) else ("visit", "chart", "patient", "dose")[number % 4]
    verdict = Verdict.DIVERGED if diverged else Verdict.CONSISTENT
    return RelationReport(
        database="clinic",
        schema="public",
        name=name if number < max(4, len(year.names)) else f"{name}_{number}",
        kind=RelationKind.TABLE,
        verdict=verdict,
        rows=size // 128,
        chunks=max(1, size >> 28),
        size_bytes=size,
        replicas=tuple(
            RelationReplica(node=node, verdict=verdict, rows_differing=1)
            if diverged and node == "db3"
            else RelationReplica(node=node, verdict=Verdict.CONSISTENT)
            for node in replicas
        ),
    )


def _divergence(relation: RelationReport) -> Divergence:
    return Divergence(
        database=relation.database,
        relation=qualified(relation.schema, relation.name),
        node="db3",
        kind=DifferenceKind.CHANGED,
        ranges=(CtidRange(first_block=111, first_offset=32, last_block=111, last_offset=32),),
        count=1,
        capped=False,
        sqlstate=None,
        block=None,
        query=f"SELECT ctid, * FROM ONLY {qualified(relation.schema, relation.name)} WHERE ctid = '(111,32)';",
    )


def _node(name: str, role: NodeRole, upstream: str | None) -> NodeReport:
    return NodeReport(
        name=name,
        role=role,
        server_version="18.6",
        server_version_num=180006,
        system_identifier=SYSTEM,
        timeline=1,
        lsn=Lsn.parse("16/B374D848"),
        lag_bytes=8192 if upstream else None,
        address=f"{name}.internal:5432",
        upstream=upstream,
    )


def _alignment(lane: int, at: datetime) -> AlignmentReport:
    return AlignmentReport(
        lane=lane,
        database="clinic",
        taken_at=at,
        lsn=Lsn.parse("16/B3740000"),
        attempts=1 + lane,
        elapsed_s=0.004 * lane,
        unsettled=0,
        chunks=40,
    )


def _drills(year: Year, chance: random.Random) -> Iterator[_Run]:
    for week, day in enumerate(range(3, year.days, 7)):
        begun = year.since + day * _DAY + timedelta(hours=4)
        result = drill_of(year, begun, scale=0.7 + 0.6 * chance.random(), failed=week == 22 or week == year.days // 14)
        took = result.finished_at - begun
        run = _record(
            year, "drill", begun, took, result.verdict.outcome, verdict=result.verdict.value,
            summary=drill_sentence(result),
        )  # fmt: skip
        result = replace(result, run_id=run.run_id)
        yield run, drill_document(result), None


def drill_of(year: Year, begun: datetime, *, scale: float = 1.0, failed: bool = False) -> DrillResult:
    """Return a drill of a nightly backup against a seal."""
    seconds = {
        Stage.LOCATE: 0.4, Stage.FETCH: 1510.0, Stage.RESTORE: 40.0, Stage.RECOVER: 612.0, Stage.OPEN: 2.2,
        Stage.PROVE: 1240.0, Stage.REMOVE: 9.0,
    }  # fmt: skip
    stages = tuple(StageReport(stage=stage, elapsed_s=spent * scale) for stage, spent in seconds.items())
    differences = (
        (
            RowDifference(
                database="clinic", relation="public.chart", kind="changed", count=1, first_block=68, last_block=68
            ),
        )
        if failed
        else ()
    )
    state = LayerState.FAILED if failed else LayerState.PASSED
    ran = {LayerName.SEAL: state, LayerName.MANIFEST: state, LayerName.CHECKSUMS: LayerState.PASSED}
    return DrillResult(
        run_id="",
        started_at=begun,
        finished_at=begun + timedelta(seconds=sum(stage.elapsed_s for stage in stages)),
        tool_version=_VERSION,
        cluster=year.cluster,
        backup="nightly",
        copy=CopyFacts(label=f"{begun:%Y%m%d}-0200F", kind=BackupKind.PGBACKREST, taken_at=begun - 2 * _HOUR, major=18),
        target=Target(kind=TargetKind.SEAL, text="seal:01a2", seal_id="01a2"),
        recovery=None,
        stages=stages,
        layers=tuple(_layer(name, ran.get(name), differences) for name in LayerName),
        problems=(),
        limits=DrillLimits(max_time_s=7200.0),
        recovery_point_age_s=None,
        scratch=ScratchFacts(where="/var/lib/replcheck/scratch", removed=True),
        verdict=DrillVerdict.FAILED if failed else DrillVerdict.RESTORED,
    )


def _layer(name: LayerName, state: LayerState | None, differences: tuple[RowDifference, ...]) -> LayerReport:
    if state is None:
        return LayerReport(name=name, state=LayerState.NOT_RUN, reason="not asked for", by_design=True)
    rows = 335_544_320 if name.compares_rows else None
    return LayerReport(
        name=name,
        state=state,
        checked="154 relations, 335,544,320 rows" if rows else "80GB in 9,204 files",
        rows=rows,
        differences=differences if name is LayerName.SEAL else (),
        elapsed_s=600.0,
    )


def _checks(year: Year) -> Iterator[_Run]:
    at = year.since + timedelta(minutes=5)
    while at < year.until:
        diverged = year.divergence <= at < year.divergence + _DAY
        controls = controls_of(at, diverged=diverged)
        outcome = Outcome.REFUTED if diverged else Outcome.PROVEN
        result = CheckResult(
            run_id="",
            cluster=year.cluster,
            started_at=at,
            finished_at=at + timedelta(seconds=0.4),
            tool_version=_VERSION,
            controls=controls,
            evidence_head=sha256(at.isoformat().encode()).hexdigest(),
        )
        run = _record(
            year, "check", at, timedelta(seconds=0.4), outcome, verdict=check_verdict(result).value,
            summary=check_sentence(result),
        )  # fmt: skip
        yield run, check_document(replace(result, run_id=run.run_id)), None
        at += year.check_every


def controls_of(at: datetime, *, diverged: bool = False) -> tuple[ControlResult, ...]:
    """Return what a check of the model user's promises found: three copies, two consistent, five minutes."""
    claims: dict[ControlName, tuple[str, str, str]] = {
        ControlName.COPIES: (
            "Three copies, at least two of them transactionally consistent at any given moment (ISO 27001:2005)",
            "3 running, 3 proven; enough 99.953% of the last 30d",
            "3 running, 2 proven, 99.9% of 30d",
        ),
        ControlName.CONSISTENCY: ("The last proof found no divergence", "the oldest proof is 9h old", "at most 24h"),
        ControlName.RECOVERY_POINT: (
            "Snapshots down to the last five minutes",
            "the archive reaches to 38s ago; the worst of 30d was 2min 11s",
            "at most 5min",
        ),
        ControlName.RESTORE: (
            "A backup is restored every week, within two hours",
            "nightly was restored 3d ago, in 38min",
            "every 7d, within 2h",
        ),
        ControlName.FAILOVER: (
            "Failure is detected and switched over automatically",
            "the last one took 41s, and no acknowledged commit was lost",
            "at most 1min",
        ),
        ControlName.REPLACEMENT: (
            "A lost copy is recreated automatically",
            "the last one was recreated after 25min, and proven",
            "at most 30min",
        ),
        ControlName.PLACEMENT: (
            "The copies sit in independent racks",
            "3 hosts observed, 3 zones declared",
            "distinct hosts and zones",
        ),
    }
    return tuple(_control(name, claims.get(name), at, diverged=diverged) for name in ControlName)


def _control(name: ControlName, told: tuple[str, str, str] | None, at: datetime, *, diverged: bool) -> ControlResult:
    if told is None:
        return ControlResult(name=name, standing=Standing.NOT_ASKED, claim="")
    claim, measured, limit = told
    bad = diverged and name is ControlName.CONSISTENCY
    measure = Measure(name="proof_age", unit=Unit.SECONDS, value=9 * 3600.0, bound=Bound.AT_MOST, limit=24 * 3600.0)
    return ControlResult(
        name=name,
        standing=Standing.BREACHED if bad else Standing.MET,
        claim=claim,
        measured="db3 diverged" if bad else measured,
        limit=limit,
        problems=("db3 diverged in 1 relation",) if bad else (),
        measures=(measure,) if name is ControlName.CONSISTENCY else (),
        runs=(new_run_id(at - 7 * _HOUR),) if name is not ControlName.PLACEMENT else (),
        not_proven=("racks are declared by the configuration, not observed",) if name is ControlName.PLACEMENT else (),
        as_of=at - 7 * _HOUR,
    )


def _hours(year: Year) -> Iterator[tuple[datetime, datetime]]:
    """Yield the hours of the year that were watched."""
    gaps = year.gaps()
    begin = year.since
    while begin < year.until:
        end = min(begin + timedelta(seconds=_SPAN_S), year.until)
        edges = [begin, *sorted(edge for gap in gaps for edge in gap if begin < edge < end), end]
        for first, last in pairwise(edges):
            if not any(began <= first and last <= ended for began, ended in gaps):
                yield first, last - timedelta(seconds=1)
        begin = end


def _node_spans(year: Year, chance: random.Random) -> Iterator[NodeSpan]:
    for first, last in _hours(year):
        for node in NODES:
            for began_at, ended_at, state in _states(year, node, first, last):
                standby = state is NodeState.STREAMING
                lag = 0.2 + 1.5 * chance.random() + (900.0 * chance.random() if chance.random() < 0.002 else 0.0)
                yield NodeSpan(
                    node=node,
                    began_at=began_at,
                    ended_at=ended_at,
                    samples=max(1, round((ended_at - began_at).total_seconds())),
                    longest_gap_s=1.0,
                    state=state,
                    system_identifier=SYSTEM,
                    timeline=1 if began_at < year.failover else 2,
                    host=f"{node}.internal",
                    max_lag_bytes=round(lag * 1e6) if standby else None,
                    max_lag_s=round(lag, 2) if standby else None,
                    replay_paused=False,
                    checksum_failures=0,
                    data_checksums=True,
                )


def _states(year: Year, node: str, first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime, NodeState]]:
    """Yield what a node is over an hour: the first primary is lost, made anew as a standby, and another one leads."""
    lost, led = year.failover, year.failover + timedelta(seconds=41)
    back = year.failover + timedelta(minutes=25)
    lives = {
        "db1": [
            (lost, NodeState.PRIMARY),
            (back, NodeState.LOST),
            (datetime.max.replace(tzinfo=UTC), NodeState.STREAMING),
        ],
        "db2": [(led, NodeState.STREAMING), (datetime.max.replace(tzinfo=UTC), NodeState.PRIMARY)],
        "db3": [(datetime.max.replace(tzinfo=UTC), NodeState.STREAMING)],
    }
    begin = first
    for until, state in lives[node]:
        end = min(last, until - timedelta(seconds=1))
        if begin <= end:
            yield begin, end, state
            begin = end + timedelta(seconds=1)


def _watch_spans(year: Year, chance: random.Random) -> Iterator[WatchSpan]:
    for number, (first, last) in enumerate(_hours(year)):
        busy = 40.0 + 30.0 * math.sin(number / 24 * 2 * math.pi)
        late = 520.0 if chance.random() < 0.0008 else 0.0
        yield WatchSpan(
            began_at=first,
            ended_at=last,
            samples=max(1, round((last - first).total_seconds())),
            longest_gap_s=1.0,
            primary="db1" if first < year.failover else "db2",
            min_running_copies=2 if first <= year.failover <= last else 3,
            max_recovery_age_s=round(busy + 30 * chance.random() + late, 1),
            recovery_unknown=False,
        )


def _events(year: Year) -> Iterator[ClusterEvent]:
    lost, led = year.failover, year.failover + timedelta(seconds=41)
    told: list[tuple[EventKind, Severity, datetime, str | None, str, float | None]] = [
        (EventKind.WATCH_BEGAN, Severity.INFO, year.since, None, "the watch began", None),
        (EventKind.PRIMARY_LOST, Severity.CRITICAL, lost, "db1", "the primary db1 does not answer", None),
        (EventKind.PROMOTED, Severity.WARNING, led, "db2", "db2 was promoted to timeline 2", None),
        (EventKind.SWITCHED_OVER, Severity.WARNING, led, "db2", "db2 takes writes instead of db1", 41.0),
        (
            EventKind.COPY_RECREATED,
            Severity.INFO,
            lost + timedelta(minutes=25),
            "db1",
            "db1 streams again, copied anew",
            1500.0,
        ),
    ]
    told += [
        (EventKind.LAG_OVER, Severity.WARNING, year.since + day * _DAY + 5 * _HOUR, "db3", "db3 is 10min behind", None)
        for day in range(4, year.days, 7)
    ]
    told += [
        (
            EventKind.WATCH_GAP,
            Severity.WARNING,
            ended_at,
            None,
            "nothing was watching",
            (ended_at - began_at).total_seconds(),
        )
        for began_at, ended_at in year.gaps()
    ]
    for kind, severity, at, node, what, seconds in sorted(told, key=lambda one: one[2]):
        yield ClusterEvent(kind=kind, severity=severity, at=at, node=node, what=what, seconds=seconds)
