"""A history as years of work leave it, made up, and the checks that are measured over it."""

import json
import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import commands
from benchmarks.commands import Ran
from replcheck.errors import LabError
from replcheck.lab.cluster import LabCluster
from replcheck.model.copies import AuditProof
from replcheck.model.drill import (
    BackupKind,
    CopyFacts,
    DrillLimits,
    DrillResult,
    DrillVerdict,
    LayerName,
    LayerReport,
    LayerState,
    Stage,
    StageReport,
    Target,
    TargetKind,
)
from replcheck.model.live import ClusterEvent, EventKind, NodeState, Severity
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.plain import to_plain
from replcheck.model.run import RunRecord, new_run_id
from replcheck.model.spans import NodeSpan, WatchSpan
from replcheck.report.drill import drill_document
from replcheck.store import open_history
from replcheck.store.history import record_values, run_values
from replcheck.store.live_rows import event_values, node_span_values, proof_values, watch_span_values

CLUSTER = "clinic"
_DAY_S = 86_400.0
_KINDS = ("audit", "check", "check", "audit", "check")
"""Of the runs, three an hour, over and over; each hundredth is a drill."""
_THINNED = ((1 / 24, 10.0), (1, 60.0), (31, 3600.0))
"""Up to which age in days samples lie in spans of how many seconds, as a recorder thins them."""
_POLICY = """
[policy]
copies = { running = 3, proven = 2, window = "30d", share = 90 }
consistency = { max_age = "24h" }
recovery-point = { max_age = "5min", window = "7d" }
restore = { every = "7d" }
failover = { max_time = "60s" }
replacement = { max_time = "30min" }
placement = { distinct = ["zone"] }
integrity = {}
"""


def make_history(path: Path, cluster: LabCluster, runs: int, *, now: datetime) -> dict[str, int]:
    """Make a history of so many runs of a cluster, the newest of them an hour old; return how many rows it has."""
    open_history(path)
    [(identifier,)] = cluster.primary.execute("select system_identifier::text from pg_control_system()")
    made = _Made(list(cluster.nodes), str(identifier), now)
    with sqlite3.connect(path) as database:
        counts = {table: _insert(database, table, rows) for table, rows in made.tables(runs)}
    database.close()
    return counts


def configuration(folder: Path, cluster: LabCluster, store: Path) -> Path:
    """Write a configuration that asks for every control but the evidence, and return its file."""
    path = folder / "replcheck.toml"
    nodes = "".join(
        f"{name} = {{ dsn = {json.dumps(cluster.audit_dsn(name))}, zone = {json.dumps(name)} }}\n"
        for name in cluster.nodes
    )
    backup = '[backups.nightly]\nkind = "dump"\npath = "/backups"\n'
    path.write_text(
        f'cluster = "{CLUSTER}"\n[nodes]\n{nodes}{backup}{_POLICY}[output]\nstore = {json.dumps(str(store))}\n'
    )
    return path


def check(config: Path, *more: str) -> Ran:
    """Check by the command; raise LabError where it says nothing of every control: such a figure means nothing."""
    ran = commands.run(commands.replcheck("check", "--config", str(config), *more))
    if ran.status not in (0, 1, 2, 3) or "8 controls" not in " ".join(ran.output.split()):
        raise LabError(f"the check ended with status {ran.status}: {ran.output[-500:]}")
    return ran


class _Made:
    def __init__(self, nodes: list[str], identifier: str, now: datetime) -> None:
        self._nodes, self._identifier, self._now = nodes, identifier, now
        self._random = random.Random(1)

    def tables(self, runs: int) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        records = [self._record(number) for number in range(runs)]
        yield "runs", (run_values(record) for record in records)
        yield "run_records", (record_values(record) for record in records)
        yield "results", (self._drilled(record) for record in records if record.kind == "drill")
        yield "audit_nodes", (row for record in records if record.kind == "audit" for row in self._proofs(record))
        yield "node_spans", (node_span_values(CLUSTER, span, 0) for name in self._nodes for span in self._spans(name))
        yield "watch_spans", (watch_span_values(CLUSTER, span, 0) for span in self._watch())
        yield "cluster_events", (event_values(CLUSTER, event) for event in self._events())

    def _record(self, number: int) -> RunRecord:
        began = self._now - timedelta(hours=1 + number / 3)
        kind = "drill" if number % 100 == 50 else _KINDS[number % len(_KINDS)]
        return RunRecord(
            run_id=new_run_id(began),
            kind=kind,
            cluster=CLUSTER,
            started_at=began,
            tool_version="0.1.0",
            argument_digest="0" * 64,
            finished_at=began + timedelta(seconds=40),
            outcome=Outcome.PROVEN,
            verdict={"audit": "consistent", "drill": "restored", "check": "met"}[kind],
            exit_status=Outcome.PROVEN.exit_status,
            summary="all of it was proven.",
        )

    def _drilled(self, record: RunRecord) -> dict[str, Any]:
        layers = [
            LayerReport(name=name, state=LayerState.PASSED, checked="12 relations", rows=1_000)
            for name in (LayerName.SEAL, LayerName.PRIMARY, LayerName.COMPLETENESS)
        ]
        result = DrillResult(
            run_id=record.run_id,
            started_at=record.started_at,
            finished_at=record.finished_at,
            tool_version=record.tool_version,
            cluster=CLUSTER,
            backup="nightly",
            copy=CopyFacts(label="nightly.dump", kind=BackupKind.DUMP, taken_at=record.started_at),
            target=Target(kind=TargetKind.LATEST, text="latest"),
            recovery=None,
            stages=(StageReport(stage=Stage.OPEN, elapsed_s=10.0),),
            layers=tuple(layers),
            problems=(),
            limits=DrillLimits(),
            recovery_point_age_s=None,
            scratch=None,
            verdict=DrillVerdict.RESTORED,
        )
        return {"run_id": record.run_id, "document": drill_document(result)}

    def _proofs(self, record: RunRecord) -> Iterator[dict[str, Any]]:
        for node in self._nodes[1:]:
            yield proof_values(
                AuditProof(
                    run_id=record.run_id,
                    proven_at=record.started_at,
                    finished_at=record.finished_at,
                    node=node,
                    primary=self._nodes[0],
                    verdict=Verdict.CONSISTENT,
                    whole=True,
                    system_identifier=self._identifier,
                    timeline=1,
                    level="exact",
                )
            )

    def _times(self) -> Iterator[tuple[datetime, datetime]]:
        youngest = self._now
        for days, length_s in _THINNED:
            oldest = self._now - timedelta(days=days)
            while youngest > oldest:
                began = youngest - timedelta(seconds=length_s)
                yield began, youngest - timedelta(seconds=1)
                youngest = began

    def _spans(self, name: str) -> Iterator[NodeSpan]:
        primary = name == self._nodes[0]
        for began, ended in self._times():
            yield NodeSpan(
                node=name,
                began_at=began,
                ended_at=ended,
                samples=10,
                longest_gap_s=1.0,
                state=NodeState.PRIMARY if primary else NodeState.STREAMING,
                system_identifier=self._identifier,
                timeline=1,
                host="/run",
                max_lag_bytes=self._random.randrange(1 << 20),
                max_lag_s=self._random.random(),
                replay_paused=False,
                checksum_failures=0,
                data_checksums=True,
            )

    def _watch(self) -> Iterator[WatchSpan]:
        for began, ended in self._times():
            yield WatchSpan(
                began_at=began,
                ended_at=ended,
                samples=10,
                longest_gap_s=1.0,
                primary=self._nodes[0],
                min_running_copies=len(self._nodes),
                max_recovery_age_s=self._random.random() * 100,
                recovery_unknown=False,
            )

    def _events(self) -> Iterator[ClusterEvent]:
        kinds = [EventKind.LAG_OVER, EventKind.LAG_BACK, EventKind.STANDBY_LOST, EventKind.NODE_BACK]
        for number in range(4_000):
            yield ClusterEvent(
                kind=kinds[number % 4],
                severity=Severity.WARNING,
                at=self._now - timedelta(hours=5 * (4_000 - number)),
                node=self._nodes[1],
                what="something happened",
                seconds=10.0,
            )


def _insert(database: sqlite3.Connection, table: str, rows: Iterator[dict[str, Any]]) -> int:
    given = [{name: _stored(value) for name, value in row.items()} for row in rows]
    names = list(given[0])
    places = ", ".join(f":{name}" for name in names)
    database.executemany(f"insert into {table} ({', '.join(names)}) values ({places})", given)
    return len(given)


def _stored(value: Any) -> Any:
    return json.dumps(to_plain(value)) if isinstance(value, dict) else value


def now() -> datetime:
    """Return the time, to be the newest of a history."""
    return datetime.now(UTC)
