"""What may be chosen about a seal, with the defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from replcheck.audit.options import AuditOptions


class DumpFormat(Enum):
    """How pg_dump writes."""

    CUSTOM = "custom"
    DIRECTORY = "directory"
    TAR = "tar"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealOptions:
    """Options of one seal; every duration is in seconds."""

    jobs: int = 2
    """Connections that digest at the same time."""
    databases: tuple[str, ...] = ()
    """Glob patterns of database names; empty means every database that accepts connections."""
    tables: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    catalogs: bool = True
    max_age_s: float = 7200.0
    """How long the seal's snapshot may hold back vacuum."""
    fix_budget_s: float = 5.0
    """How long snapshots and restore points are made anew until they agree."""
    settle_s: float = 60.0
    """How long a lock may keep the seal out of a relation."""
    portable: bool = False
    """Whether relations are digested as a dump carries them too."""
    dump_file: Path | None = None
    """Where a dump is written under the same snapshot; None for no dump."""
    dump_format: DumpFormat = DumpFormat.CUSTOM
    programs: Mapping[str, str] = field(default_factory=dict)
    """Folders of programs by major version; those that are not named are looked for."""

    @property
    def carries_dumps(self) -> bool:
        """Return whether portable digests are needed."""
        return self.portable or self.dump_file is not None

    @property
    def scope(self) -> AuditOptions:
        """Return what is asked for in the terms of an audit."""
        return AuditOptions(
            jobs=self.jobs,
            databases=self.databases,
            tables=self.tables,
            excludes=self.excludes,
            catalogs=self.catalogs,
            max_snapshot_age_s=self.max_age_s,
        )
