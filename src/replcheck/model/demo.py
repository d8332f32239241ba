"""What happens in a demo, scene by scene, as plain data: the run says it, the report tells it.

Scenes hold positions, counts and names, never the content of a row.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from replcheck.model.audit import AuditResult
from replcheck.model.drill import DrillResult
from replcheck.model.seal import SealManifest


class Part(Enum):
    """A part of the story, in order."""

    CLUSTER = "cluster"
    WRITING = "writing"
    FIRST_AUDIT = "first audit"
    FAULT = "fault"
    SECOND_AUDIT = "second audit"
    NEW_COPY = "new copy"
    BACKUP = "backup"
    DRILL = "drill"
    DAMAGED_DRILL = "drill of a damaged backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoBegun:
    """The demo is about to start servers under `folder`; they stay at its end where `kept`."""

    folder: Path
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PartBegun:
    """A part begins; what follows may take seconds."""

    part: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStarted:
    """The servers run and the standbys stream."""

    version: str
    primary: str
    standbys: tuple[str, ...]
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingStarted:
    """The tables are there and are written to until the demo ends."""

    size_bytes: int
    connections: int
    per_second: float
    """Transactions finished per second, measured while no audit ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEnded:
    """One audit is over."""

    part: Part
    result: AuditResult
    took_s: float
    transactions: int
    """Transactions that the writers finished meanwhile."""
    usual_per_second: float
    """How many they finish per second while no audit runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultDone:
    """One row of one standby was changed behind the server's back."""

    node: str
    relation: str
    block: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsualChecksRead:
    """What those who do not compare rows can see of the broken node."""

    node: str
    relation: str
    state: str
    """As pg_stat_replication tells it; empty where the standby is not there."""
    lag_bytes: int
    checksum_failures: int
    rows: int
    primary_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLookedUp:
    """The query of the report was run on every node; the row differs on `odd` alone where the audit is right."""

    agreeing: tuple[str, ...]
    odd: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyMade:
    """The broken standby was copied anew and streams."""

    node: str
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupTaken:
    """The primary was backed up, and its WAL goes to an archive."""

    size_bytes: int
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SealMade:
    """The primary was sealed a while after its backup, and written to further."""

    seal: SealManifest
    took_s: float
    transactions_before: int
    """Finished between the backup and the seal."""
    transactions_after: int
    """Finished behind the seal, and archived too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupDamaged:
    """One bit of a copy of the backup was flipped."""

    file: str
    block: int
    relation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillEnded:
    """One trial restore is over."""

    part: Part
    result: DrillResult
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoEnded:
    """The demo is over, and its servers are gone unless `kept` names the cluster."""

    problems: tuple[str, ...]
    """What did not happen as it should have, a clause each; empty where every claim was shown to hold."""
    broken: str
    """The node that was broken; empty where it did not come to that."""
    healed: bool
    drilled: bool
    """Whether the backup was proven, and its damaged copy refuted."""
    took_s: float
    kept: str
    folder: Path
    """Where a kept cluster lies."""


Scene = (
    DemoBegun
    | PartBegun
    | ClusterStarted
    | WritingStarted
    | AuditEnded
    | FaultDone
    | UsualChecksRead
    | RowLookedUp
    | CopyMade
    | BackupTaken
    | SealMade
    | BackupDamaged
    | DrillEnded
    | DemoEnded
)
