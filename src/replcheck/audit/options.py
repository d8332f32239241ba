"""What may be chosen about an audit, with the defaults."""

from dataclasses import dataclass, field
from enum import Enum

from replcheck.audit.pressure import PauseLimits
from replcheck.model.filters import RowFilter


class Level(Enum):
    """How exactly rows are compared; see `digest` for what each hashes."""

    FAST = "fast"
    EXACT = "exact"
    STRONG = "strong"


class Pacing(Enum):
    """How much of its servers an audit takes."""

    GENTLE = "gentle"
    """One lane that rests nine times as long as it reads."""
    DEFAULT = "default"
    """Reads without rest, and holds still while a replica falls behind."""
    FULL = "full"
    """Reads without rest; only the limits that the user sets hold it."""

    @property
    def share(self) -> float:
        """Return the part of a lane's time in which it reads."""
        return 0.1 if self is Pacing.GENTLE else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """Options of one audit; every duration is in seconds."""

    level: Level = Level.EXACT
    jobs: int = 2
    """Lanes that work at the same time; each takes one connection per node."""
    databases: tuple[str, ...] = ()
    """Glob patterns of database names; empty means every database that accepts connections."""
    tables: tuple[str, ...] = ()
    """Glob patterns `relation`, `schema.relation` or `database.schema.relation`; empty means every relation."""
    excludes: tuple[str, ...] = ()
    """Glob patterns of the same form; what they match is listed as not checked by design."""
    filters: tuple[RowFilter, ...] = ()
    """Which rows of some relations are compared; of all others, every row is."""
    cross_check: float = 0.0
    """Share of the chunks, 0 to 1, that are streamed to the client and compared there too."""
    catalogs: bool = True
    """Whether the system catalogs are compared too."""
    indexes: bool = False
    """Whether B-tree indexes are checked against their tables on every node, once the rows were compared."""
    index_timeout_s: float = 3600.0
    """How long the check of one index may take, and so hold its snapshot."""
    max_snapshot_age_s: float = 60.0
    """How long one snapshot may be held open on the primary."""
    align_budget_s: float = 5.0
    """How long a lane chases an exact alignment before it settles for the closest one."""
    settle_budget_s: float = 60.0
    """How long rows may stay in flight, relations be redefined or chunks be put off before they are given up."""
    replay_wait_s: float = 30.0
    """How long to wait for a replica to replay the primary's position before it is called too far behind."""
    node_timeout_s: float = 30.0
    """How long to wait for a node that went away to come back."""
    chunk_target_s: float = 1.0
    """How long one chunk should take on the slowest node."""
    pacing: Pacing = Pacing.DEFAULT
    pause_if: PauseLimits = field(default_factory=PauseLimits)
    """When to hold still."""
    fail_fast: bool = False
    """Whether to end at the first divergence."""
    time_budget_s: float | None = None
    """How long the audit may take; what is not proven by then is inconclusive. None for as long as it takes."""
    max_rows_listed: int = 10_000
    """Differing rows listed per relation and replica; beyond it they are counted by chunk only."""
