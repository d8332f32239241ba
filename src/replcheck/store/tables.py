"""The tables of a history, portable between the databases that SQLAlchemy speaks to.

Times are UTC texts that sort, as JSON has them. A run without a record was killed before it could end.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

SCHEMA_VERSION = 6
"""Raised whenever a table changes; a history of a newer version is refused, an older one is brought up to date."""

METADATA = MetaData()

META = Table(
    "replcheck_meta",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

RUNS = Table(
    "runs",
    METADATA,
    Column("run_id", String(36), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("cluster", String(64), nullable=False),
    Column("started_at", String(32), nullable=False),
    Column("tool_version", String(32), nullable=False),
    Column("argument_digest", String(64), nullable=False),
    Index("runs_by_cluster", "cluster", "started_at"),
    Index("runs_by_kind", "cluster", "kind", "run_id"),
)

RECORDS = Table(
    "run_records",
    METADATA,
    Column("run_id", String(36), ForeignKey("runs.run_id"), primary_key=True),
    Column("finished_at", String(32), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("verdict", String(32), nullable=False),
    Column("exit_status", Integer, nullable=False),
    Column("summary", Text, nullable=False),
    Column("failure", JSON(none_as_null=True)),
)

PREMISES = Table(
    "proof_premises",
    METADATA,
    Column("run_id", String(36), ForeignKey("runs.run_id"), primary_key=True),
    Column("encoding", String(32), nullable=False),
    Column("system_identifier", String(32), nullable=False),
    Column("servers", JSON, nullable=False),
)
"""What the proofs of a run rest on; there is a row while the run can be gone on with."""

PRIMARIES = Table(
    "proof_primaries",
    METADATA,
    Column("run_id", String(36), ForeignKey("proof_premises.run_id", ondelete="CASCADE"), primary_key=True),
    Column("node", String(64), nullable=False),
    Column("timeline", Integer),
)
"""Which node such a run compared the others with; there is no row of a run of version 4 or older."""

CROSS_CHECKS = Table(
    "proof_cross_checks",
    METADATA,
    Column("run_id", String(36), ForeignKey("proof_premises.run_id", ondelete="CASCADE"), primary_key=True),
    Column("share", Float, nullable=False),
)
"""Which share of the chunks such a run compared in the client too; there is no row where it compared none."""

EXTENTS = Table(
    "proof_extents",
    METADATA,
    Column("run_id", String(36), ForeignKey("proof_premises.run_id", ondelete="CASCADE"), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("whole", Boolean, nullable=False),
)
"""How much of the cluster such a run was asked for."""

PROOFS = Table(
    "proven_blocks",
    METADATA,
    Column("proof_id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(36), ForeignKey("proof_premises.run_id", ondelete="CASCADE"), nullable=False),
    Column("database", BigInteger, nullable=False),
    Column("relation", BigInteger, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("filenode", BigInteger),
    Column("filter", String(64), nullable=False),
    Column("replicas", JSON, nullable=False),
    Column("ranges", JSON, nullable=False),
    Column("rows", BigInteger),
    Column("proven_at", String(32), nullable=False),
    Index("proven_blocks_by_run", "run_id"),
)

RESULTS = Table(
    "results",
    METADATA,
    Column("run_id", String(36), ForeignKey("runs.run_id"), primary_key=True),
    Column("document", JSON, nullable=False),
)
