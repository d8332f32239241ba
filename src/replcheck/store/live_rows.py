"""Turns what was watched into rows of the history, and back; a row that cannot be read raises ValueError."""

from typing import Any

from sqlalchemy import Row

from replcheck.model.copies import AuditProof
from replcheck.model.live import ClusterEvent, NodeState
from replcheck.model.outcome import Verdict
from replcheck.model.plain import aware_moment, to_plain, utc_text
from replcheck.model.spans import NodeSpan, WatchSpan


def event_values(cluster: str, event: ClusterEvent) -> dict[str, Any]:
    """Return the row of an event."""
    return {
        "cluster": cluster,
        "at": utc_text(event.at),
        "kind": event.kind.value,
        "severity": event.severity.value,
        "node": event.node or "",
        "detail": event.detail,
        "document": to_plain(event),
    }


def node_span_values(cluster: str, span: NodeSpan, resolution_s: int) -> dict[str, Any]:
    """Return the row of a node's span."""
    return {
        "cluster": cluster,
        "resolution_s": resolution_s,
        "node": span.node,
        "began_at": utc_text(span.began_at),
        "ended_at": utc_text(span.ended_at),
        "samples": span.samples,
        "longest_gap_s": span.longest_gap_s,
        "state": span.state.value,
        "system_identifier": span.system_identifier,
        "timeline": span.timeline,
        "host": span.host,
        "max_lag_bytes": span.max_lag_bytes,
        "max_lag_s": span.max_lag_s,
        "replay_paused": span.replay_paused,
        "checksum_failures": span.checksum_failures,
        "data_checksums": span.data_checksums,
    }


def node_span(row: Row[Any]) -> NodeSpan:
    """Return the node's span of a row."""
    return NodeSpan(
        node=row.node,
        began_at=aware_moment(row.began_at),
        ended_at=aware_moment(row.ended_at),
        samples=row.samples,
        longest_gap_s=row.longest_gap_s,
        state=NodeState(row.state),
        system_identifier=row.system_identifier,
        timeline=row.timeline,
        host=row.host,
        max_lag_bytes=row.max_lag_bytes,
        max_lag_s=row.max_lag_s,
        replay_paused=row.replay_paused,
        checksum_failures=row.checksum_failures,
        data_checksums=row.data_checksums,
    )


def watch_span_values(cluster: str, span: WatchSpan, resolution_s: int) -> dict[str, Any]:
    """Return the row of a cluster's span."""
    return {
        "cluster": cluster,
        "resolution_s": resolution_s,
        "began_at": utc_text(span.began_at),
        "ended_at": utc_text(span.ended_at),
        "samples": span.samples,
        "longest_gap_s": span.longest_gap_s,
        "primary_node": span.primary,
        "min_running_copies": span.min_running_copies,
        "max_recovery_age_s": span.max_recovery_age_s,
        "recovery_unknown": span.recovery_unknown,
    }


def watch_span(row: Row[Any]) -> WatchSpan:
    """Return the cluster's span of a row."""
    return WatchSpan(
        began_at=aware_moment(row.began_at),
        ended_at=aware_moment(row.ended_at),
        samples=row.samples,
        longest_gap_s=row.longest_gap_s,
        primary=row.primary_node,
        min_running_copies=row.min_running_copies,
        max_recovery_age_s=row.max_recovery_age_s,
        recovery_unknown=row.recovery_unknown,
    )


def proof_values(proof: AuditProof) -> dict[str, Any]:
    """Return the row of what an audit said of a replica."""
    return {
        "run_id": proof.run_id,
        "node": proof.node,
        "proven_at": utc_text(proof.proven_at),
        "finished_at": utc_text(proof.finished_at),
        "primary_node": proof.primary,
        "verdict": proof.verdict.value,
        "whole": proof.whole,
        "system_identifier": proof.system_identifier,
        "timeline": proof.timeline,
        "level": proof.level,
        "outcome_summary": proof.outcome_summary,
        "scope_digest": proof.scope_digest,
    }


def audit_proof(row: Row[Any]) -> AuditProof:
    """Return what an audit said of a replica."""
    return AuditProof(
        run_id=row.run_id,
        proven_at=aware_moment(row.proven_at),
        finished_at=aware_moment(row.finished_at),
        node=row.node,
        primary=row.primary_node,
        verdict=Verdict(row.verdict),
        whole=row.whole,
        system_identifier=row.system_identifier,
        timeline=row.timeline,
        level=row.level,
        outcome_summary=row.outcome_summary,
        scope_digest=row.scope_digest,
    )
