"""Invented weeks of a clinic's cluster, as the updates that a feed would hand over: for tests and pictures."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from replcheck.events import (
    Aligned,
    BackupChosen,
    BlocksProven,
    ChunkCompared,
    DatabasePlanned,
    DivergenceFound,
    Event,
    HeldStill,
    LayerFinished,
    ListedRelation,
    NodeObserved,
    ProblemFound,
    RelationFinished,
    RelationStarted,
    RowsDiffer,
    RunFinished,
    RunStarted,
    StageBegan,
    StageEnded,
    StageProgressed,
)
from replcheck.model.audit import CtidRange, DifferenceKind, Divergence, RelationKind, RelationReplica, RelationReport
from replcheck.model.control import Standing
from replcheck.model.copies import AuditProof, CopyStanding
from replcheck.model.drill import BackupKind, Blame, CopyFacts, LayerName, LayerReport, LayerState, Problem, Stage
from replcheck.model.live import (
    Archiver,
    ClusterEvent,
    ClusterView,
    EventKind,
    NodeState,
    NodeView,
    RecoveryPoint,
    Severity,
    Slot,
)
from replcheck.model.node import NodeReport, NodeRole
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.progress import ProvenBlocks, RelationState, without
from replcheck.model.run import RunRecord, RunStart
from replcheck.model.spans import WatchSpan
from replcheck.model.wal import Lsn
from replcheck.report.history import PastRun, RunState
from replcheck.tui.feed import (
    Asked,
    Claim,
    ClaimsTaken,
    EventsTaken,
    Link,
    LinkChanged,
    RunsRead,
    RunTold,
    SpansRead,
    StandingsTaken,
    Update,
    ViewTaken,
)

NOW = datetime(2026, 3, 14, 14, 41, 2, tzinfo=UTC)
SYSTEM = "7451234567890123456"
ASKED = Asked(
    running_copies=3, proven_copies=2, proof_age_s=86400.0, lag_bytes=64 << 20, lag_s=60.0, recovery_age_s=300.0
)
REPLICAS = ("db2", "db3")
TABLES = [
    "patient",
    "visit",
    "chart",
    "prescription",
    "invoice",
    "appointment",
    "lab_result",
    "allergy",
    "immunization",
    "note",
    "document",
    "consent",
    "insurer",
    "practitioner",
    "room",
    "device",
    "order_line",
    "payment",
    "referral",
    "vital_sign",
    "audit_trail",
    "message",
    "attachment",
]


def seconds(amount: float) -> timedelta:
    return timedelta(seconds=amount)


AUDIT_BEGAN = NOW - seconds(95)


def node(name: str, state: NodeState, at: datetime = NOW, **more) -> NodeView:
    primary = state is NodeState.PRIMARY
    facts: dict[str, Any] = {
        "since": at - timedelta(days=4, hours=3),
        "answered_at": at,
        "zone": f"rack-{'abc'[int(name[-1]) - 1]}",
        "host": f"10.0.0.{name[-1]}",
        "server_version_num": 180006,
        "system_identifier": SYSTEM,
        "started_at": at - timedelta(days=12),
        "timeline": 3,
        "lsn": Lsn.parse("5C/A3F01288"),
        "lag_bytes": None if primary else 0,
        "lag_s": None if primary else 0.0,
        "upstream": None if primary else "db1",
        "sync_state": {"db2": "sync", "db3": "async"}.get(name),
        "data_checksums": True,
        "checksum_failures": 0,
        "conflicts": 0,
        "elapsed_s": 0.0021,
    }
    if primary:
        facts["slots"] = tuple(
            Slot(name=slot, logical=False, active=True, retained_bytes=kept << 20, wal_status="reserved")
            for slot, kept in (("db2", 16), ("db3", 48))
        )
        facts["archiver"] = Archiver(
            mode="on",
            archived=18_240,
            last_archived="000000030000005C000000A2",
            last_archived_at=at - seconds(38),
            failed=0,
            last_failed=None,
            last_failed_at=None,
        )
    return NodeView(node=name, state=state, **(facts | more))


def view(at: datetime = NOW, nodes: Sequence[NodeView] | None = None, **more) -> ClusterView:
    nodes = nodes or (
        node("db1", NodeState.PRIMARY, at),
        node("db2", NodeState.STREAMING, at, lag_bytes=_lag(at, 0), lag_s=0.2),
        node("db3", NodeState.STREAMING, at, lag_bytes=_lag(at, 1), lag_s=0.9),
    )
    primaries = [one.node for one in nodes if one.state is NodeState.PRIMARY]
    facts: dict[str, Any] = {
        "watched_since": at - timedelta(hours=9),
        "system_identifier": SYSTEM,
        "primary": primaries[0] if len(primaries) == 1 else None,
        "recovery_point": RecoveryPoint(at=at - seconds(50), age_s=50.0),
        "split_brain": len(primaries) > 1,
    }
    return ClusterView(cluster="clinic", at=at, nodes=tuple(nodes), **(facts | more))


def _lag(at: datetime, which: int) -> int:
    beat = at.timestamp() / (17 + 5 * which)
    wave = max(0.0, math.sin(beat) + 0.6 * math.sin(beat * 3.1)) ** 2
    return int(wave * (900_000 if which == 0 else 14_000_000)) // 8 * 8


def quiet_minutes(until: datetime = NOW, minutes: int = 5) -> Iterator[Update]:
    for ago in range(minutes * 60, -1, -1):
        at = until - seconds(ago)
        yield ViewTaken(at=at, view=view(at))


def proof(name: str, at: datetime, verdict: Verdict = Verdict.CONSISTENT) -> AuditProof:
    return AuditProof(
        run_id="0195a1b2-3c4d-7e5f-8a6b-1c2d3e4f5a6b",
        proven_at=at,
        finished_at=at + seconds(840),
        node=name,
        primary="db1",
        verdict=verdict,
        whole=True,
        system_identifier=SYSTEM,
        timeline=3,
        level="exact",
    )


def standings(at: datetime = NOW) -> dict[str, CopyStanding]:
    found = {}
    for name, hours in (("db1", 4.2), ("db2", 4.2), ("db3", 4.2)):
        when = at - timedelta(hours=hours)
        held = proof("db2" if name == "db1" else name, when)
        found[name] = CopyStanding(node=name, proven=True, proof=held, age_s=hours * 3600, reason="")
    return found


def claims() -> tuple[Claim, ...]:
    met, at_risk, unchecked = Standing.MET, Standing.AT_RISK, Standing.UNCHECKED
    told = (
        ("copies", "At least two consistent copies at any moment", met, Standing.BREACHED, "3 run, 3 are proven",
         ("for 12min on 03-08 only one copy was proven",)),
        ("consistency", "Every copy is compared row by row once a day", met, met, "the oldest is 4h 12min old", ()),
        ("recovery-point", "Snapshots down to the last five minutes", met, met, "50s old, at most 3min 10s", ()),
        ("restore", "Backups are restored every week", at_risk, met, "last drill 6d ago",
         ("the next drill is due in 19h",)),
        ("failover", "Failure is detected and switched over automatically", Standing.WAIVED, Standing.NOT_ASKED, "",
         ("first exercise is booked",)),
        ("replacement", "A lost copy is recreated automatically", met, met, "recreated after 11min on 03-08", ()),
        ("placement", "The copies sit in independent racks", met, met, "3 racks, 3 hosts", ()),
        ("integrity", "Damage is found by checksums", met, met, "data checksums on, no failures", ()),
        ("evidence", "Every proof is signed and chained", unchecked, unchecked, "", ("no signing key is configured",)),
    )  # fmt: skip
    return tuple(
        Claim(name=name, sentence=sentence, now=now, window=window, measured=measured, problems=problems, as_of=NOW)
        for name, sentence, now, window, measured, problems in told
    )


def event(kind: EventKind, ago: float, name: str | None, what: str, severity: Severity, **more) -> ClusterEvent:
    return ClusterEvent(kind=kind, severity=severity, at=NOW - seconds(ago), node=name, what=what, **more)


def events() -> tuple[ClusterEvent, ...]:
    day = 86400.0
    info, warning, critical = Severity.INFO, Severity.WARNING, Severity.CRITICAL
    return (
        event(EventKind.LAG_BACK, 1_310, "db3", "lag of db3 is back under 64MB", info, seconds=95.0),
        event(EventKind.LAG_OVER, 1_405, "db3", "db3 is 71MB behind, over the limit of 64MB", warning),
        event(EventKind.RECOVERY_POINT_BACK, 9_800, None, "recovery point is back under 5min", info, seconds=190.0),
        event(EventKind.ARCHIVE_WORKING, 9_805, "db1", "archiving works again, after 6 failed attempts", info),
        event(EventKind.RECOVERY_POINT_OVER, 9_990, None, "recovery point is 5min old, over its limit", critical),
        event(EventKind.ARCHIVE_FAILING, 10_120, "db1", "archiving of 000000030000005C00000071 fails", warning),
        event(EventKind.PROVEN_BACK, 6 * day, None, "as many proven copies as asked again, after 12min", info),
        event(EventKind.COPY_RECREATED, 6 * day + 70, "db3", "db3 was recreated; a copy was missing for 11min",
              info, seconds=660.0),
        event(EventKind.STANDBY_LOST, 6 * day + 730, "db3", "db3 does not answer: connection refused", critical),
        event(EventKind.PROVEN_SHORT, 6 * day + 731, None, "1 proven copy, 2 are asked for", critical),
        event(EventKind.SWITCHED_OVER, 11 * day, "db1", "db1 took over from db2; nobody took writes for 7s", warning,
              seconds=7.0, timeline=3),
        event(EventKind.PROMOTED, 11 * day + 1, "db1", "db1 was promoted to timeline 3", warning, timeline=3),
        event(EventKind.PRIMARY_LOST, 11 * day + 7, "db2", "primary db2 does not answer: timeout", critical),
        event(EventKind.WATCH_BEGAN, 29 * day, None, "the watch began", info),
    )  # fmt: skip


def watched() -> SpansRead:
    since = NOW - timedelta(days=30)
    edges = ((0.0, 11.2), (11.4, 22.0), (22.05, 30.0))
    spans = tuple(
        WatchSpan(
            began_at=since + timedelta(days=begin + 0.6),
            ended_at=min(NOW, since + timedelta(days=end)),
            samples=1000,
            longest_gap_s=2.0,
            primary="db1",
            min_running_copies=3,
            max_recovery_age_s=190.0,
            recovery_unknown=False,
        )
        for begin, end in edges
    )
    return SpansRead(at=NOW, since=since, watch=spans)


def past_runs() -> tuple[PastRun, ...]:
    chance = random.Random(7)
    found = []
    for day in range(28, -1, -1):
        verdict, outcome, summary = (
            "consistent",
            Outcome.PROVEN,
            (
                "db2 and db3 are consistent copies of db1: every row of 154 relations in 2 databases was compared and"
                " matched"
            ),
        )
        if day == 6:
            verdict, outcome = "diverged", Outcome.REFUTED
            summary = "db3 is not a copy of db1: 3 rows differ in clinic.chart, and db3 stands alone against the others"
        if day in {13, 21}:
            verdict, outcome = "inconclusive", Outcome.PARTIAL
            summary = "db3 was not fully proven: 2 relations were being rewritten"
        began = NOW - timedelta(days=day, hours=4.2, seconds=chance.randrange(90))
        found.append(record("audit", began, 700 + chance.randrange(220) + 4 * (28 - day), outcome, verdict, summary))
        if day % 7 == 6:
            began += timedelta(hours=2)
            words = "backup nightly was restored, and every row of 154 relations matches the seal"
            found.append(record("drill", began, 1900 + chance.randrange(300), Outcome.PROVEN, "restored", words))
            seal = record(
                "seal", began - timedelta(hours=5), 130, Outcome.PROVEN, "sealed", "154 relations were sealed"
            )
            found.append(seal)
    lost = RunStart(
        run_id=run_id(NOW - timedelta(days=17, hours=1)),
        kind="audit",
        cluster="clinic",
        started_at=NOW - timedelta(days=17, hours=1),
        tool_version="0.1.0",
        argument_digest="00" * 32,
    )
    found.append(PastRun(run=lost, state=RunState.LOST))
    return tuple(sorted(found, key=lambda past: past.run.started_at, reverse=True))


def run_id(at: datetime) -> str:
    milliseconds = f"{int(at.timestamp() * 1000):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7e5f-8a6b-1c2d3e4f5a6b"


def record(kind: str, began: datetime, took_s: float, outcome: Outcome, verdict: str, summary: str) -> PastRun:
    run = RunRecord(
        run_id=run_id(began),
        kind=kind,
        cluster="clinic",
        started_at=began,
        tool_version="0.1.0",
        argument_digest="00" * 32,
        finished_at=began + seconds(took_s),
        outcome=outcome,
        verdict=verdict,
        exit_status=outcome.exit_status,
        summary=summary,
    )
    return PastRun(run=run, state=RunState.ENDED)


def healthy() -> list[Update]:
    return [
        LinkChanged(at=NOW - seconds(320), link=Link.SAMPLING),
        SpansRead(**{name: getattr(watched(), name) for name in ("at", "since", "watch", "nodes")}),
        *quiet_minutes(),
        StandingsTaken(at=NOW, standings=standings()),
        ClaimsTaken(at=NOW, claims=claims()),
        EventsTaken(at=NOW, events=events()),
        RunsRead(at=NOW, runs=past_runs()),
    ]


def degraded() -> list[Update]:
    """A standby is lost and the other one lags; the primary cannot archive."""
    nodes = (
        node("db1", NodeState.PRIMARY),
        node("db2", NodeState.STREAMING, lag_bytes=212 << 20, lag_s=44.0),
        node("db3", NodeState.LOST, since=NOW - seconds(123), answered_at=NOW - seconds(124),
             reason="connection refused", lag_bytes=None, lag_s=None),
    )  # fmt: skip
    point = RecoveryPoint(at=NOW - seconds(731), age_s=731.0, reason="archiving fails")
    now = view(nodes=nodes, recovery_point=point)
    lagging = [
        ViewTaken(at=NOW - seconds(ago), view=replace(
            now, at=NOW - seconds(ago),
            nodes=(nodes[0], replace(nodes[1], lag_bytes=(212 - ago) << 20), nodes[2]),
        ))
        for ago in range(123, -1, -1)
    ]  # fmt: skip
    held = standings()
    held["db3"] = replace(held["db3"], proven=False, reason="it was lost since it was proven")
    told = (
        event(
            EventKind.RECOVERY_POINT_OVER, 431, None, "recovery point is 5min old, over its limit", Severity.CRITICAL
        ),
        event(EventKind.STANDBY_LOST, 123, "db3", "standby db3 does not answer: connection refused", Severity.CRITICAL),
        event(EventKind.COPIES_SHORT, 123, None, "2 running copies, 3 are asked for", Severity.CRITICAL),
        event(EventKind.LAG_OVER, 60, "db2", "db2 is 152MB behind, over the limit of 64MB", Severity.WARNING),
    )
    now_claims = tuple(
        replace(claim, now=Standing.BREACHED, problems=("2 running copies, 3 are asked for",))
        if claim.name == "copies"
        else replace(claim, now=Standing.BREACHED, problems=("12min 11s old, at most 5min",))
        if claim.name == "recovery-point"
        else claim
        for claim in claims()
    )
    quiet = [update for update in healthy() if update.at < NOW - seconds(123) or not isinstance(update, ViewTaken)]
    return [
        *quiet,
        *lagging,
        StandingsTaken(at=NOW, standings=held),
        EventsTaken(at=NOW, events=told),
        ClaimsTaken(at=NOW, claims=now_claims),
    ]


def split_brain() -> list[Update]:
    nodes = (
        node("db1", NodeState.PRIMARY),
        node("db2", NodeState.PRIMARY, timeline=4, since=NOW - seconds(9)),
        node("db3", NodeState.STRAYED, reason="it follows timeline 4", lag_bytes=None),
    )
    return [*healthy(), ViewTaken(at=NOW, view=view(nodes=nodes, primary=None))]


def lost() -> list[Update]:
    return [
        *healthy(),
        LinkChanged(at=NOW, link=Link.LOST, what="history /var/lib/replcheck/clinic.db cannot be read: disk i/o error"),
    ]


def relations(count: int = 154) -> list[tuple[str, str, int]]:
    """Return databases, names and sizes: a few large ones first, as an audit takes them."""
    chance = random.Random(3)
    found = []
    for number in range(count):
        name = TABLES[number % len(TABLES)] + (f"_{number // len(TABLES)}" if number >= len(TABLES) else "")
        size = 8192 * max(1, int(160_000 / (number + 1) ** 1.3 * (0.7 + chance.random() * 0.6)))
        found.append(("records" if number % 9 else "billing", f"clinic.{name}", size))
    return found


def audit(
    *, began: datetime = AUDIT_BEGAN, share: float = 0.63, broken: str = "clinic.chart", count: int = 154
) -> list[Update]:
    """Return what an audit tells until `share` of its work is done; 1 is to its end."""
    return [RunTold(at=event.at, kind="audit", event=event) for event in audit_events(began, share, broken, count)]


def held_audit() -> list[Update]:
    """Return what an audit tells until it is paused in the middle of its work."""
    held = HeldStill(at=NOW - seconds(8), reason="paused")
    return [*audit(), RunTold(at=held.at, kind="audit", event=held)]


def observed(name: str, role: NodeRole) -> NodeReport:
    return NodeReport(
        name=name,
        role=role,
        server_version="18.6",
        server_version_num=180006,
        system_identifier=SYSTEM,
        timeline=3,
        lsn=Lsn.parse("5C/A3F01288"),
        lag_bytes=None if role is NodeRole.PRIMARY else 0,
        address=f"10.0.0.{name[-1]}:5432",
        upstream=None if role is NodeRole.PRIMARY else "db1",
    )


def audit_events(began: datetime, share: float, broken: str, count: int) -> Iterator[Event]:
    at, all_relations = began, relations(count)
    total = sum(size for _, _, size in all_relations)
    yield RunStarted(at=at, run_id=run_id(began), kind="audit", cluster="clinic")
    for name, role in (("db1", NodeRole.PRIMARY), ("db2", NodeRole.STANDBY), ("db3", NodeRole.STANDBY)):
        yield NodeObserved(at=at, node=observed(name, role))
    for database in ("records", "billing"):
        own = [size for where, _, size in all_relations if where == database]
        listed = tuple(
            ListedRelation(oid=number, relation=name, size_bytes=size)
            for number, (where, name, size) in enumerate(all_relations)
            if where == database
        )
        yield DatabasePlanned(at=at, database=database, relations=len(own), size_bytes=sum(own), oid=1, listed=listed)
        for lane in range(2):
            yield Aligned(
                at=at, lane=lane, database=database, replicas=REPLICAS, attempts=3, elapsed_s=0.02, unsettled=0
            )
    done = 0
    chance = random.Random(5)
    for number, (database, name, size) in enumerate(all_relations):
        yield RelationStarted(at=at, database=database, relation=name, size_bytes=size)
        blocks, step = size // 8192, 4096
        rows, chunks = 0, 0
        for first in range(0, blocks, step):
            last = min(blocks, first + step) - 1
            part = (last - first + 1) * 8192
            at += seconds(round(part / 16_000_000, 3))
            held: dict[str, Any] = {"lane": number % 2, "database": database, "relation": name, "elapsed_s": 0.4}
            if name == broken and first == step * 2:
                yield from _diverging(at, held, first)
            elif chance.random() < 0.12:
                differ: dict[str, Any] = {
                    "database": database,
                    "relation": name,
                    "node": "db3",
                    "differing": 0,
                    "in_flight": 2,
                }
                yield RowsDiffer(at=at, look=1, **differ)
                yield ChunkCompared(
                    at=at, first_block=first, last_block=last, rows=0, size_bytes=part,
                    verdict=Verdict.INCONCLUSIVE, **held,
                )  # fmt: skip
                if chance.random() < 0.35:
                    continue
            rows, chunks, done = rows + part // 130, chunks + 1, done + part
            yield ChunkCompared(
                at=at, first_block=first, last_block=last, rows=part // 130, size_bytes=part,
                verdict=Verdict.CONSISTENT, **held,
            )  # fmt: skip
            yield from _proven(at, number, first, last + 1, broken=name == broken)
            if done >= total * share:
                return
        yield RelationFinished(at=at, relation=report(database, name, size, rows, chunks, diverged=name == broken))
        if name == broken:
            yield DivergenceFound(at=at, divergence=divergence(database, name))
    outcome = Outcome.REFUTED if broken else Outcome.PROVEN
    summary = (
        f"db3 is not a copy of db1: 3 rows differ in {broken}, and db3 stands alone against the others"
        if broken
        else f"db2 and db3 are consistent copies of db1: every row of {count} relations was compared and matched"
    )
    yield RunFinished(at=at, run_id=run_id(began), outcome=outcome, summary=summary)


BROKEN_BLOCK = 8200


def divergence(database: str, name: str) -> Divergence:
    return Divergence(
        database=database,
        relation=name,
        node="db3",
        kind=DifferenceKind.CHANGED,
        ranges=(CtidRange(first_block=BROKEN_BLOCK, first_offset=4, last_block=BROKEN_BLOCK, last_offset=6),),
        count=3,
        capped=False,
        sqlstate=None,
        block=None,
        query=f'SELECT ctid, xmin, xmax, * FROM ONLY {name} WHERE ctid = ANY (\'{{"(8200,4)","(8200,6)"}}\');',
    )


def _proven(at: datetime, oid: int, first: int, end: int, *, broken: bool) -> Iterator[Event]:
    """Tell which blocks are proven, all but those whose rows differ on one replica."""
    state = RelationState(database=1, relation=oid, token=1, filenode=oid)
    whole = ((first, end),)
    beside = tuple(without(whole, [(BROKEN_BLOCK, BROKEN_BLOCK + 1)])) if broken else whole
    told = {whole: REPLICAS} if beside == whole else {beside: ("db3",), whole: ("db2",)}
    for ranges, replicas in told.items():
        proof = ProvenBlocks(state=state, replicas=replicas, ranges=ranges, rows=None, proven_at=at)
        yield BlocksProven(at=at, proof=proof)


def _diverging(at: datetime, held: dict[str, Any], first: int) -> Iterator[Event]:
    for look in (1, 2):
        yield RowsDiffer(
            at=at, database=held["database"], relation=held["relation"], node="db3", differing=3, in_flight=0, look=look
        )
        yield ChunkCompared(
            at=at, first_block=first, last_block=first + 511, rows=0, size_bytes=4 << 20,
            verdict=Verdict.INCONCLUSIVE, **held,
        )  # fmt: skip


def report(database: str, name: str, size: int, rows: int, chunks: int, *, diverged: bool = False) -> RelationReport:
    schema, _, table = name.partition(".")
    worse = Verdict.DIVERGED if diverged else Verdict.CONSISTENT
    return RelationReport(
        database=database,
        schema=schema,
        name=table,
        kind=RelationKind.TABLE,
        verdict=worse,
        rows=rows,
        chunks=chunks,
        size_bytes=size,
        replicas=(
            RelationReplica(node="db2", verdict=Verdict.CONSISTENT),
            RelationReplica(node="db3", verdict=worse, rows_differing=3 if diverged else 0),
        ),
    )


def drill(*, until: Stage | None = Stage.RECOVER) -> list[Update]:
    """Return what a drill tells until it is in a stage; None is to its end."""
    return [RunTold(at=event.at, kind="drill", event=event) for event in drill_events(until)]


def drill_events(until: Stage | None) -> Iterator[Event]:
    at = NOW - seconds(611)
    yield RunStarted(at=at, run_id=run_id(at), kind="drill", cluster="clinic")
    times = {
        Stage.LOCATE: 1.2, Stage.FETCH: 214.0, Stage.RESTORE: 122.0, Stage.RECOVER: 193.0, Stage.OPEN: 2.4,
        Stage.PROVE: 402.0, Stage.REMOVE: 3.1,
    }  # fmt: skip
    for stage, took in times.items():
        total = 48 << 30 if stage in {Stage.FETCH, Stage.RESTORE} else None
        yield StageBegan(at=at, stage=stage, total_bytes=total)
        if stage is until:
            yield StageProgressed(
                at=NOW, stage=stage, done_bytes=9 << 30, total_bytes=total, what="000000030000005C00000091"
            )
            return
        if stage is Stage.LOCATE:
            copy = CopyFacts(
                label="20260314-010003F", kind=BackupKind.PGBACKREST, format="repository", size_bytes=48 << 30,
                taken_at=NOW - timedelta(hours=13), major=18, timeline=3,
            )  # fmt: skip
            yield BackupChosen(at=at, backup="nightly", copy=copy)
        at += seconds(took)
        yield StageEnded(at=at, stage=stage, elapsed_s=took, size_bytes=total, ok=True)
        if stage is Stage.PROVE:
            yield from (LayerFinished(at=at, layer=layer) for layer in layers())
    yield RunFinished(
        at=at, run_id=run_id(NOW - seconds(611)), outcome=Outcome.PROVEN,
        summary="backup nightly was restored, and every row of 154 relations (48,311,204 rows) matches the seal;"
        " backup manifest, page checksums and amcheck passed; it could be used after 8min 51s",
    )  # fmt: skip


def failed_drill() -> list[Update]:
    """Return what a drill tells whose recovery ends at a WAL file that is missing from the archive."""
    missing = Problem(
        code="wal_missing",
        what="WAL file 000000030000005C00000091 is missing, while 000000030000005C00000092 is there",
        blame=Blame.BACKUP,
        hint="Look for it in a second archive, or on the primary; restores end before it.",
    )
    asked = {LayerName.SEAL, LayerName.CHECKSUMS, LayerName.AMCHECK}
    told = [
        LayerReport(
            name=name,
            state=LayerState.NOT_RUN,
            reason="the drill did not come so far" if name in asked else "not asked for",
            by_design=name not in asked,
        )
        for name in LayerName
    ]
    at = NOW - seconds(200)
    ended = [
        StageEnded(at=at, stage=Stage.RECOVER, elapsed_s=74.0, size_bytes=None, ok=False),
        ProblemFound(at=at, problem=missing),
        StageBegan(at=at, stage=Stage.REMOVE, total_bytes=None),
        StageEnded(at=at, stage=Stage.REMOVE, elapsed_s=3.1, size_bytes=None, ok=True),
        *(LayerFinished(at=at, layer=layer) for layer in told),
        RunFinished(
            at=at, run_id=run_id(NOW - seconds(611)), outcome=Outcome.REFUTED,
            summary=f"backup 20260314-010003F of nightly failed its drill: {missing.what}",
        ),
    ]  # fmt: skip
    return [*drill(), *(RunTold(at=event.at, kind="drill", event=event) for event in ended)]


def replay_over() -> list[Update]:
    """Return what a recording of two hours ago tells that has come to its end."""
    name, end = "night.jsonl", NOW - timedelta(hours=2)
    return [
        LinkChanged(at=end - seconds(300), link=Link.REPLAY, what=name),
        RunsRead(at=end - seconds(300), runs=(), problem="a recording has no history"),
        *quiet_minutes(end),
        EventsTaken(at=end, events=events()[2:6]),
        LinkChanged(at=end, link=Link.ENDED, what=name),
    ]


def layers() -> tuple[LayerReport, ...]:
    passed, not_run = LayerState.PASSED, LayerState.NOT_RUN
    return (
        LayerReport(name=LayerName.SEAL, state=passed, checked="154 relations, 48,311,204 rows", rows=48_311_204,
                    relations=154, elapsed_s=251.0),
        LayerReport(name=LayerName.PRIMARY, state=not_run, reason="not asked for", by_design=True),
        LayerReport(name=LayerName.MANIFEST, state=passed, checked="1,096 files", elapsed_s=31.0),
        LayerReport(name=LayerName.CHECKSUMS, state=passed, checked="6,201,344 pages of 1,077 files", elapsed_s=64.0),
        LayerReport(name=LayerName.AMCHECK, state=passed, checked="152 tables, 203 indexes", elapsed_s=49.0),
        LayerReport(name=LayerName.ASSERTIONS, state=passed, checked="4 assertions", elapsed_s=1.4),
        LayerReport(name=LayerName.COMPLETENESS, state=LayerState.INCONCLUSIVE,
                    reason="1 extension could not be asked for its version", checked="26 relations, 6 sequences"),
    )  # fmt: skip
