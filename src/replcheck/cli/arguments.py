"""What each command was told, as its options were given: taken up by the module that does what was asked.

None and empty mean that the configuration decides.
"""

from dataclasses import dataclass
from pathlib import Path

from replcheck.audit.options import Level, Pacing
from replcheck.cli.options import CheckFormat, DumpForm, Format


class _Unshown:
    """Shows none of what it holds: connection strings are among it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AuditArguments(_Unshown):
    """The options of `replcheck audit`."""

    primary: str | None
    replicas: tuple[str, ...]
    config: Path | None
    level: Level | None
    jobs: int | None
    databases: tuple[str, ...]
    tables: tuple[str, ...]
    excludes: tuple[str, ...]
    where: tuple[str, ...]
    cross_check: str | None
    catalogs: bool | None
    indexes: bool | None
    max_snapshot_age: str | None
    node_timeout: str | None
    pace: Pacing | None
    pause_if: tuple[str, ...]
    pause_file: Path | None
    fail_fast: bool
    time_budget: str | None
    resume: bool
    format: Format
    output: Path | None
    events: Path | None
    quiet: bool
    verbose: bool
    no_store: bool
    plan: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DoctorArguments(_Unshown):
    """The options of `replcheck doctor`."""

    primary: str | None
    replicas: tuple[str, ...]
    config: Path | None
    jobs: int | None
    databases: tuple[str, ...]
    tables: tuple[str, ...]
    excludes: tuple[str, ...]
    catalogs: bool | None
    format: Format
    output: Path | None
    quiet: bool
    verbose: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SealArguments(_Unshown):
    """The options of `replcheck seal`."""

    primary: str | None
    config: Path | None
    databases: tuple[str, ...]
    tables: tuple[str, ...]
    excludes: tuple[str, ...]
    catalogs: bool | None
    jobs: int | None
    max_age: str | None
    folder: Path | None
    dump: Path | None
    dump_format: DumpForm
    format: Format
    output: Path | None
    events: Path | None
    quiet: bool
    verbose: bool
    no_store: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DrillArguments(_Unshown):
    """The options of `replcheck drill`."""

    backup: str | None
    source: str | None
    wal: Path | None
    globals: Path | None
    copy: str | None
    every: bool
    target: str | None
    scratch: Path | None
    require: tuple[str, ...]
    layers: tuple[str, ...]
    primary: str | None
    keep: bool
    clean: bool
    config: Path | None
    format: Format
    output: Path | None
    events: Path | None
    quiet: bool
    verbose: bool
    no_store: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WatchArguments(_Unshown):
    """The options of `replcheck watch`."""

    primary: str | None
    replicas: tuple[str, ...]
    config: Path | None
    interval: str | None
    headless: bool
    plain: bool
    replay: Path | None
    record: Path | None
    scrub: str | None
    audits: bool | None
    events: Path | None
    store: Path | None
    no_store: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckArguments:
    """The options of `replcheck check`."""

    controls: tuple[str, ...]
    run: tuple[str, ...]
    time_budget: str | None
    stale_after: str | None
    config: Path | None
    format: CheckFormat
    output: Path | None
    metrics: Path | None
    quiet: bool
    verbose: bool
    no_store: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Which chain is meant, as it was asked."""

    config: Path | None
    store: Path | None
    cluster: str | None = None
