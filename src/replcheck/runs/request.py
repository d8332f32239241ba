"""What an audit is asked for: flags over environment over file, checked before anything connects."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from replcheck.audit.options import AuditOptions, Level, Pacing
from replcheck.audit.pressure import PauseLimits
from replcheck.audit.scope import scope_of
from replcheck.errors import UsageError
from replcheck.model.audit import Scope
from replcheck.model.filters import RowFilter
from replcheck.model.names import printable
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.model.plain import to_plain
from replcheck.model.progress import Extent
from replcheck.model.run import UNNAMED_CLUSTER
from replcheck.postgres import dsn
from replcheck.runs.signing import UNSIGNED, Signing, signing_of
from replcheck.runs.targets import configured_targets

if TYPE_CHECKING:
    from replcheck.config.model import Configuration, PauseIf


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFlags:
    """What the caller gave; None means that the configuration, or the default, decides. Durations are seconds."""

    primary: str | None = None
    """A connection string, or the name of a configured node."""
    replicas: tuple[str, ...] = ()
    level: Level | None = None
    jobs: int | None = None
    databases: tuple[str, ...] | None = None
    tables: tuple[str, ...] | None = None
    excludes: tuple[str, ...] | None = None
    where: tuple[str, ...] | None = field(default=None, repr=False)
    """Filters as `PATTERN: EXPRESSION`; they may hold values of rows."""
    cross_check: float | None = None
    """Share of the chunks, 0 to 1."""
    catalogs: bool | None = None
    indexes: bool | None = None
    max_snapshot_age_s: float | None = None
    node_timeout_s: float | None = None
    pacing: Pacing | None = None
    pause_if: PauseLimits | None = None
    pause_file: Path | None = None
    fail_fast: bool = False
    time_budget_s: float | None = None
    resume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """One audit, ready to run."""

    cluster: str
    targets: tuple[NodeTarget, ...]
    options: AuditOptions
    resume: bool = False
    """Whether to go on with the newest run that had not come to its end."""
    pause_file: Path | None = None
    """The audit holds still while this file exists."""
    signing: Signing = UNSIGNED
    """What its record is made with."""

    @property
    def extent(self) -> Extent:
        """Return how much of the cluster is asked for."""
        return extent_of(scope_of(self.options))

    @property
    def argument_digest(self) -> str:
        """Return the SHA-256 of what was asked; of the nodes it covers the names, never a connection string.

        It covers the text of filters, which is kept nowhere: whoever guesses a filter can only confirm the guess.
        """
        names = [target.name for target in self.targets]
        asked = {"cluster": self.cluster, "nodes": names, "options": to_plain(self.options)}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def extent_of(scope: Scope) -> Extent:
    """Return how much of a cluster a scope asks for; whether indexes are checked is no matter of rows."""
    rows = replace(scope, indexes=False)
    digest = hashlib.sha256(json.dumps(to_plain(rows), sort_keys=True).encode()).hexdigest()
    return Extent(digest=digest, whole=rows.whole)


def is_node_name(text: str) -> bool:
    """Return whether --primary or --replica names a configured node; libpq reads no such word as a connection string.

    >>> is_node_name("db1"), is_node_name("host=db1"), is_node_name("postgresql://db1/app")
    (True, False, False)
    """
    return "=" not in text and "://" not in text


def audit_request(flags: AuditFlags, configuration: "Configuration | None") -> AuditRequest:
    """Return what to audit and how.

    Roles given by --primary and --replica are expectations; those of configured nodes are only observed. Raises
    UsageError or ConfigurationError where the nodes make no cluster, and never quotes a connection string.
    """
    targets = _flag_targets(flags, configuration) or configured_targets(configuration)
    if not targets:
        raise UsageError(
            "no cluster to audit",
            hint="Give --primary DSN and --replica DSN, or a configuration with --config FILE.",
        )
    return AuditRequest(
        cluster=configuration.cluster if configuration else UNNAMED_CLUSTER,
        targets=targets,
        options=_options(flags, configuration),
        resume=flags.resume,
        pause_file=flags.pause_file or _configured_pause_file(configuration),
        signing=signing_of(configuration),
    )


def pause_limits(given: Sequence[str]) -> PauseLimits | None:
    """Return the limits that --pause-if gives, None where it gives none; raise UsageError for one that is malformed.

    >>> pause_limits(["lag=64MB"]).lag_bytes
    67108864
    """
    if not given:
        return None
    from replcheck.config.model import PauseIf

    limits: dict[str, str | float] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in PauseIf.model_fields:
            raise UsageError(
                f'--pause-if "{printable(text)}" names no limit',
                hint=f"Write one of {', '.join(PauseIf.model_fields)}, such as lag=64MB.",
            )
        limits[name] = value.strip() if name == "lag" else _number(name, value)
    try:
        return _configured_limits(PauseIf.model_validate(limits))
    except ValueError as error:
        names = ", ".join(limits)
        raise UsageError(
            f"--pause-if {names} has no usable value", hint="Write for instance lag=64MB or active_clients=40."
        ) from error


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise UsageError(f"--pause-if {name} must be a number", hint="Write for instance active_clients=40.") from None
    return int(number) if number.is_integer() else number


def _configured_limits(limits: "PauseIf") -> PauseLimits:
    return PauseLimits(
        lag_bytes=limits.lag,
        active_clients=limits.active_clients,
        xmin_age=limits.xmin_age,
        checkpoints_per_min=limits.checkpoints_requested,
    )


def _configured_pause_file(configuration: "Configuration | None") -> Path | None:
    named = configuration.audit.pause_file if configuration else None
    return Path(named) if named else None


def _flag_targets(flags: AuditFlags, configuration: "Configuration | None") -> tuple[NodeTarget, ...]:
    if flags.primary is None and not flags.replicas:
        return ()
    if flags.primary is None:
        raise UsageError("--replica was given without --primary", hint="Name the primary with --primary DSN.")
    if not flags.replicas:
        raise UsageError("--primary was given without --replica", hint="Name each replica with --replica DSN.")
    given = [("primary", "--primary", flags.primary, NodeRole.PRIMARY)]
    for number, replica in enumerate(flags.replicas, start=1):
        given.append((f"replica{number}", f"--replica (number {number})", replica, NodeRole.STANDBY))
    targets = tuple(flag_target(*node, configuration) for node in given)
    _require_different([target.name for target in targets])
    return targets


def flag_target(name: str, flag: str, text: str, role: NodeRole, configuration: "Configuration | None") -> NodeTarget:
    """Return the node that a flag spells out or names; raise UsageError, without its text, where it does neither."""
    if not is_node_name(text):
        common = dsn.parse(configuration.connect, origin="connect") if configuration else {}
        return NodeTarget(name=name, dsn=dsn.inherit(dsn.parse(text, origin=flag), common), expected_role=role)
    configured = {target.name: target for target in configured_targets(configuration)}
    if text not in configured:
        known = f"The configured nodes are {', '.join(configured)}." if configured else ""
        hint = known or "Write a connection string such as host=db1, or name a configuration with --config."
        raise UsageError(f"{flag} names no configured node", hint=hint)
    target = configured[text]
    return NodeTarget(name=target.name, dsn=target.dsn, expected_role=role, zone=target.zone)


def _require_different(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f'node "{name}" is given twice', hint="Give each node once.")


def _filters(flags: AuditFlags, configuration: "Configuration | None") -> tuple[RowFilter, ...] | None:
    """Return the row filters, those of the flags where there are any; None for none."""
    configured = configuration.audit.where if configuration else {}
    if not flags.where and not configured:
        return None
    # Loaded here: the parser is large, and most audits have no filter.
    from replcheck.postgres.filters import filter_for, row_filter

    if flags.where:
        return tuple(row_filter(text, origin=f"--where (number {n})") for n, text in enumerate(flags.where, start=1))
    return tuple(filter_for(pattern, text, origin="audit.where") for pattern, text in configured.items())


def _options(flags: AuditFlags, configuration: "Configuration | None") -> AuditOptions:
    chosen: dict[str, object] = {}
    if configuration is not None:
        audit = configuration.audit
        chosen = {
            "level": Level(audit.level),
            "jobs": audit.jobs,
            "databases": audit.databases,
            "tables": audit.tables,
            "excludes": audit.exclude,
            "catalogs": audit.catalogs,
            "indexes": audit.indexes,
            "index_timeout_s": audit.index_timeout,
            "cross_check": audit.cross_check or 0.0,
            "max_snapshot_age_s": audit.max_snapshot_age,
            "node_timeout_s": audit.node_timeout,
            "replay_wait_s": audit.replay_wait,
            "settle_budget_s": audit.settle_budget,
            "pacing": Pacing(audit.pace),
            "pause_if": _configured_limits(audit.pause_if),
            "time_budget_s": audit.time_budget,
        }
    given = {
        "level": flags.level,
        "jobs": flags.jobs,
        "databases": flags.databases,
        "tables": flags.tables,
        "excludes": flags.excludes,
        "catalogs": flags.catalogs,
        "indexes": flags.indexes,
        "cross_check": flags.cross_check,
        "filters": _filters(flags, configuration),
        "max_snapshot_age_s": flags.max_snapshot_age_s,
        "node_timeout_s": flags.node_timeout_s,
        "pacing": flags.pacing,
        "pause_if": flags.pause_if,
        "fail_fast": flags.fail_fast,
        "time_budget_s": flags.time_budget_s,
    }
    chosen |= {option: value for option, value in given.items() if value is not None}
    asked_for_lanes = flags.jobs is not None or (
        configuration is not None and "jobs" in configuration.audit.model_fields_set
    )
    if chosen.get("pacing") is Pacing.GENTLE and not asked_for_lanes:
        chosen["jobs"] = 1
    return AuditOptions(**chosen)  # type: ignore[arg-type] # both tables above name AuditOptions' own fields
