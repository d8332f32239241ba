"""What each command was told, as its options were given: taken up by the module that does what was asked.

None and empty mean that the configuration decides. Connection strings are among them, so none shows what it holds.
"""

from dataclasses import dataclass
from pathlib import Path

from replcheck.audit.options import Level, Pacing
from replcheck.cli.options import CheckFormat, DumpForm, Format


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditArguments:
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

    def __repr__(self) -> str:
        return "AuditArguments()"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorArguments:
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

    def __repr__(self) -> str:
        return "DoctorArguments()"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealArguments:
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

    def __repr__(self) -> str:
        return "SealArguments()"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillArguments:
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

    def __repr__(self) -> str:
        return "DrillArguments()"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchArguments:
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

    def __repr__(self) -> str:
        return "WatchArguments()"


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
