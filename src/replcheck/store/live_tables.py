"""The tables of what was watched, and of what audits said in parts: columns to ask by, beside a record that stays.

Spans are thinned with age, parts of audits are dropped with age; runs, their records and their results never are.
"""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from replcheck.store.tables import METADATA

AUDIT_NODES = Table(
    "audit_nodes",
    METADATA,
    Column("run_id", String(36), ForeignKey("runs.run_id"), primary_key=True),
    Column("node", String(64), primary_key=True),
    Column("proven_at", String(32), nullable=False),
    Column("finished_at", String(32), nullable=False),
    Column("primary_node", String(64), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("system_identifier", String(32), nullable=False),
    Column("timeline", BigInteger),
    Column("level", String(16), nullable=False),
    Column("outcome_summary", Text, nullable=False),
    Column("scope_digest", String(64), nullable=False),
    Index("audit_nodes_by_end", "finished_at"),
    Index("audit_nodes_by_node", "node", "verdict", "finished_at"),
)
"""What an audit said of one replica; part of its record."""

RELATION_VERDICTS = Table(
    "relation_verdicts",
    METADATA,
    Column("verdict_id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(36), ForeignKey("runs.run_id"), nullable=False),
    Column("database", String(64), nullable=False),
    Column("relation", Text, nullable=False),
    Column("node", String(64), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("rows", BigInteger),
    Column("rows_differing", BigInteger, nullable=False),
    Column("rows_in_flight", BigInteger, nullable=False),
    Column("proven_since", String(32)),
    Index("relation_verdicts_by_run", "run_id"),
)
"""What an audit said of one relation on one replica."""

ALIGNMENTS = Table(
    "alignments",
    METADATA,
    Column("alignment_id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(36), ForeignKey("runs.run_id"), nullable=False),
    Column("node", String(64), nullable=False),
    Column("lane", Integer, nullable=False),
    Column("database", String(64), nullable=False),
    Column("taken_at", String(32), nullable=False),
    Column("lsn", String(32), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("elapsed_s", Float, nullable=False),
    Column("unsettled", Integer, nullable=False),
    Column("chunks", Integer, nullable=False),
    Index("alignments_by_run", "run_id"),
)
"""Under which alignments an audit proved what it proved."""

CLUSTER_EVENTS = Table(
    "cluster_events",
    METADATA,
    Column("event_id", Integer, primary_key=True, autoincrement=True),
    Column("cluster", String(64), nullable=False),
    Column("at", String(32), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("node", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("document", JSON, nullable=False),
    Index("cluster_events_once", "cluster", "at", "kind", "node", "detail", unique=True),
)
"""What happened to a cluster; `node` is empty where all of it is meant, `document` holds the whole event."""

NODE_SPANS = Table(
    "node_spans",
    METADATA,
    Column("span_id", Integer, primary_key=True, autoincrement=True),
    Column("cluster", String(64), nullable=False),
    Column("resolution_s", Integer, nullable=False),
    Column("node", String(64), nullable=False),
    Column("began_at", String(32), nullable=False),
    Column("ended_at", String(32), nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("longest_gap_s", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("system_identifier", String(32)),
    Column("timeline", BigInteger),
    Column("host", Text, nullable=False),
    Column("max_lag_bytes", BigInteger),
    Column("max_lag_s", Float),
    Column("replay_paused", Boolean, nullable=False),
    Column("checksum_failures", BigInteger),
    Column("data_checksums", Boolean),
    Index("node_spans_by_time", "cluster", "ended_at"),
    Index("node_spans_by_age", "cluster", "resolution_s", "ended_at"),
)
"""Samples of nodes, thinned out."""

WATCH_SPANS = Table(
    "watch_spans",
    METADATA,
    Column("span_id", Integer, primary_key=True, autoincrement=True),
    Column("cluster", String(64), nullable=False),
    Column("resolution_s", Integer, nullable=False),
    Column("began_at", String(32), nullable=False),
    Column("ended_at", String(32), nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("longest_gap_s", Float, nullable=False),
    Column("primary_node", String(64)),
    Column("min_running_copies", Integer, nullable=False),
    Column("max_recovery_age_s", Float),
    Column("recovery_unknown", Boolean, nullable=False),
    Index("watch_spans_by_time", "cluster", "ended_at"),
    Index("watch_spans_by_age", "cluster", "resolution_s", "ended_at"),
)
"""Samples of whole clusters, thinned out."""

LIVE_STATES = Table(
    "live_states",
    METADATA,
    Column("cluster", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("document", JSON, nullable=False),
)
"""What who watches must know again after a restart, by name."""

LIVE_VIEWS = Table(
    "live_views",
    METADATA,
    Column("cluster", String(64), primary_key=True),
    Column("written_at", String(32), nullable=False),
    Column("document", JSON, nullable=False),
)
"""The newest view of each cluster; when it was written tells whether anybody is watching."""
