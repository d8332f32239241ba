"""Facts about a cluster of three nodes in which all is well, to be spoilt one at a time."""

from datetime import UTC, datetime, timedelta
from typing import Any

from replcheck.check.facts import ConfiguredBackup, ConfiguredNode, DrillFact, Facts
from replcheck.config.model import Policy
from replcheck.model.copies import AuditProof
from replcheck.model.drill import DrillVerdict, LayerState
from replcheck.model.evidence import EvidenceHead, EvidenceState
from replcheck.model.live import (
    ClusterEvent,
    ClusterView,
    EventKind,
    NodeState,
    NodeView,
    RecoveryPoint,
    Severity,
)
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.spans import NodeSpan, WatchSpan
from replcheck.model.wal import Lsn

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
CLUSTER = "7350000000000000001"
NODES = ("db1", "db2", "db3")
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

POLICY: dict[str, Any] = {
    "copies": {"running": 3, "proven": 2, "window": "1d", "share": 99.0, "claim": "Two copies at any moment"},
    "consistency": {"max_age": "24h", "warn": "18h"},
    "recovery-point": {"max_age": "5min", "warn": "4min", "window": "1d"},
    "restore": {"every": "7d", "max_time": "2h", "warn": "6d"},
    "failover": {"max_time": "60s", "exercised_every": "180d"},
    "replacement": {"max_time": "30min"},
    "placement": {"distinct": ["host", "zone"]},
    "integrity": {},
    "evidence": {},
}


def policy(**changes: Any) -> Policy:
    """Return a policy that asks for everything; a control given as None is not asked."""
    asked = POLICY | {name.replace("_", "-"): section for name, section in changes.items()}
    return Policy.model_validate({name: section for name, section in asked.items() if section is not None})


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def node(name: str, state: NodeState | None = None, **changes: Any) -> NodeView:
    primary = name == "db1"
    facts: dict[str, Any] = {
        "node": name,
        "state": state or (NodeState.PRIMARY if primary else NodeState.STREAMING),
        "since": ago(10 * DAY),
        "answered_at": NOW,
        "host": f"10.0.0.{name[-1]}",
        "system_identifier": CLUSTER,
        "timeline": 1,
        "lsn": Lsn(0x5000000),
        "lag_bytes": None if primary else 0,
        "lag_s": None if primary else 0.0,
        "data_checksums": True,
        "checksum_failures": 0,
    }
    return NodeView(**facts | changes)


def view(*nodes: NodeView, **changes: Any) -> ClusterView:
    held = {one.node: one for one in nodes}
    shown = tuple(held.get(name) or node(name) for name in NODES)
    facts: dict[str, Any] = {
        "cluster": "clinic",
        "at": NOW,
        "watched_since": NOW,
        "system_identifier": CLUSTER,
        "primary": next((one.node for one in shown if one.state is NodeState.PRIMARY), None),
        "nodes": shown,
        "recovery_point": RecoveryPoint(at=ago(30), age_s=30.0),
    }
    return ClusterView(**facts | changes)


def span(name: str, began_ago: float, ended_ago: float = 0, state: NodeState | None = None, **changes: Any) -> NodeSpan:
    primary = name == "db1"
    facts: dict[str, Any] = {
        "node": name,
        "began_at": ago(began_ago),
        "ended_at": ago(ended_ago),
        "samples": 10,
        "longest_gap_s": 1.0,
        "state": state or (NodeState.PRIMARY if primary else NodeState.STREAMING),
        "system_identifier": CLUSTER,
        "timeline": 1,
        "host": f"10.0.0.{name[-1]}",
        "max_lag_bytes": 0,
        "max_lag_s": 0.0,
        "replay_paused": False,
        "checksum_failures": 0,
        "data_checksums": True,
    }
    return NodeSpan(**facts | changes)


def watch(began_ago: float, ended_ago: float = 0, **changes: Any) -> WatchSpan:
    facts: dict[str, Any] = {
        "began_at": ago(began_ago),
        "ended_at": ago(ended_ago),
        "samples": 10,
        "longest_gap_s": 1.0,
        "primary": "db1",
        "min_running_copies": 3,
        "max_recovery_age_s": 60.0,
        "recovery_unknown": False,
    }
    return WatchSpan(**facts | changes)


def proof(
    name: str,
    began_ago: float,
    verdict: Verdict = Verdict.CONSISTENT,
    *,
    took: float = 60,
    whole: bool = True,
    primary: str = "db1",
    run_id: str = "",
    **changes: Any,
) -> AuditProof:
    facts: dict[str, Any] = {
        "run_id": run_id or f"audit-{began_ago:.0f}",
        "proven_at": ago(began_ago),
        "finished_at": ago(began_ago - took),
        "node": name,
        "primary": primary,
        "verdict": verdict,
        "whole": whole,
        "system_identifier": CLUSTER,
        "timeline": 1,
        "level": "exact",
    }
    return AuditProof(**facts | changes)


def drill(began_ago: float, verdict: DrillVerdict = DrillVerdict.RESTORED, **changes: Any) -> DrillFact:
    facts: dict[str, Any] = {
        "run_id": f"drill-{began_ago:.0f}",
        "backup": "nightly",
        "started_at": ago(began_ago),
        "finished_at": ago(began_ago - 100),
        "verdict": verdict,
        "copy": "base-1",
        "taken_at": ago(began_ago + HOUR),
        "problem": "" if verdict is DrillVerdict.RESTORED else "WAL is missing",
        "recovery_time_s": 80.0,
        "recovery_point_age_s": 20.0,
        "to_the_end": True,
        "replayed": Lsn(0x4000000),
        "timeline": 1,
        "manifest": LayerState.PASSED,
        "pages": LayerState.PASSED,
    }
    return DrillFact(**facts | changes)


def event(kind: EventKind, seen_ago: float, name: str | None = None, **changes: Any) -> ClusterEvent:
    facts: dict[str, Any] = {
        "kind": kind,
        "severity": Severity.INFO,
        "at": ago(seen_ago),
        "node": name,
        "what": kind.value,
    }
    return ClusterEvent(**facts | changes)


def switched_over(seen_ago: float, seconds: float = 12.0) -> tuple[ClusterEvent, ...]:
    """Return what is seen when db3 fails as the primary and db1 takes over."""
    began = ago(seen_ago + seconds)
    return (
        event(EventKind.PRIMARY_LOST, seen_ago + seconds - 1, "db3", began_at=began),
        event(EventKind.SWITCHED_OVER, seen_ago, "db1", began_at=began, seconds=seconds, detail="db3"),
        event(EventKind.COPY_RECREATED, seen_ago - 600, "db3", began_at=began, seconds=600 + seconds),
    )


HEAD = EvidenceHead(sequence=40, sha256="ab" * 32, signed=True, key_id="cd" * 32, recorded_at=NOW)
EVIDENCE = EvidenceState(
    records=40,
    verified=40,
    rested=0,
    problem="",
    head=HEAD,
    signed=40,
    unsigned=None,
    oldest_at=ago(90 * DAY),
    newest_at=NOW,
    outcome=Outcome.PROVEN,
)


def facts(**changes: Any) -> Facts:
    """Return facts of which nothing speaks against any control."""
    held: dict[str, Any] = {
        "now": NOW,
        "nodes": tuple(ConfiguredNode(name=name, zone=f"rack-{name}") for name in NODES),
        "backups": (ConfiguredBackup(name="nightly", manifest=True),),
        "view": view(),
        "spans": tuple(span(name, 3 * DAY) for name in NODES),
        "watch": (watch(3 * DAY),),
        "events": switched_over(5 * DAY),
        "proofs": tuple(
            proof(name, day * 20 * HOUR + HOUR) for day in (6, 5, 4, 3, 2, 1, 0) for name in ("db2", "db3")
        ),
        "drills": (drill(2 * DAY),),
        "evidence": EVIDENCE,
    }
    return Facts(**held | changes)
