"""From a table under `backups` to the source that reads it: the one place that knows every kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from replcheck.config.model import Backup, BaseBackup, Drill
from replcheck.drill.backups.base import BaseSource
from replcheck.drill.backups.source import BackupSource
from replcheck.drill.software import ProgramsFor, programs_finder
from replcheck.errors import DrillBlocked
from replcheck.postgres.programs import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What sources may need beside their own table."""

    drill: Drill
    account: Account | None
    """Whom scratch servers run as, None for the caller."""
    programs_for: ProgramsFor


_MAKERS: Mapping[type, Callable[[Any, Means], BackupSource]] = MappingProxyType(
    {
        BaseBackup: lambda config, means: BaseSource(config, programs_for=means.programs_for),
    }
)


def source_for(config: Backup, drill: Drill, *, account: Account | None) -> BackupSource:
    """Return the source of a table under `backups`; reads nothing yet."""
    make = _MAKERS.get(type(config))
    if make is None:
        raise DrillBlocked(f"backups of the kind {config.kind} cannot be restored yet", code="kind_unknown")
    return make(config, Means(drill=drill, account=account, programs_for=programs_finder(drill.programs, account)))
