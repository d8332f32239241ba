"""What a watch is asked for: the nodes, the limits and the extras, from flags over the configuration."""

from dataclasses import dataclass, replace

from replcheck.config.model import Configuration
from replcheck.errors import UsageError
from replcheck.model.node import NodeTarget
from replcheck.model.spans import GAP_S
from replcheck.model.units import format_duration, parse_duration
from replcheck.postgres import dsn
from replcheck.runs.request import AuditFlags, AuditRequest, audit_request
from replcheck.runs.scrub import LEAST_S
from replcheck.watch.limits import WatchLimits
from replcheck.watch.scene import Watched

_LEAST_INTERVAL_S, _MOST_INTERVAL_S = 0.1, 60.0
LONGEST_INTERVAL_S = GAP_S / 3
"""Nodes are asked no more rarely than this: with two samples late it is still no time in which nothing was watching."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFlags:
    """What the caller gave; None means that the configuration, or the default, decides."""

    primary: str | None = None
    replicas: tuple[str, ...] = ()
    interval: str | None = None
    scrub: str | None = None
    audits: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRequest:
    """One watch, ready to begin."""

    cluster: str
    targets: tuple[NodeTarget, ...]
    limits: WatchLimits
    interval_s: float
    audit: AuditRequest
    """How a copy is audited that is owed a proof; its nodes are those of the watch."""
    audits: bool
    """Whether copies are audited at once after a switch-over, and when they were recreated."""
    scrub_s: float | None
    """In which time all is proven over and over; None where that is not asked for."""
    notes: tuple[str, ...] = ()
    """In what it differs from what was asked, a line each."""

    @property
    def watched(self) -> tuple[Watched, ...]:
        """Return the nodes as the fold of samples knows them."""
        return tuple(
            Watched(name=target.name, zone=target.zone, hosts=frozenset(dsn.hosts(target.dsn)))
            for target in self.targets
        )


def live_request(flags: LiveFlags, configuration: Configuration | None) -> LiveRequest:
    """Return what to watch and how; raise UsageError or ConfigurationError where that makes no sense.

    Roles are observed: those that --primary and --replica name are where the watch begins, and may change.
    """
    audit = audit_request(AuditFlags(primary=flags.primary, replicas=flags.replicas), configuration)
    targets = tuple(replace(target, expected_role=None) for target in audit.targets)
    asked_s = _interval(flags, configuration)
    interval_s = min(asked_s, LONGEST_INTERVAL_S)
    limits = WatchLimits.of(configuration) if configuration else WatchLimits()
    return LiveRequest(
        cluster=audit.cluster,
        targets=targets,
        limits=limits.asked_every(interval_s),
        interval_s=interval_s,
        audit=replace(audit, targets=targets, resume=False),
        audits=True if flags.audits is None else flags.audits,
        scrub_s=_scrub(flags, configuration),
        notes=(_too_rare(asked_s),) if asked_s > LONGEST_INTERVAL_S else (),
    )


def _too_rare(asked_s: float) -> str:
    return (
        f"note: each node is asked every {format_duration(LONGEST_INTERVAL_S)}, and not every"
        f" {format_duration(asked_s)}: where samples are more than {format_duration(GAP_S)} apart nothing was watching,"
        " and no proof outlives that"
    )


def _interval(flags: LiveFlags, configuration: Configuration | None) -> float:
    if flags.interval is None:
        return configuration.watch.interval if configuration else 1.0
    seconds = _seconds("--interval", flags.interval)
    if not _LEAST_INTERVAL_S <= seconds <= _MOST_INTERVAL_S:
        raise UsageError(f"--interval must be between {_LEAST_INTERVAL_S:g}s and {_MOST_INTERVAL_S:g}s")
    return seconds


def _scrub(flags: LiveFlags, configuration: Configuration | None) -> float | None:
    if flags.scrub is None:
        return configuration.watch.scrub if configuration else None
    seconds = _seconds("--scrub", flags.scrub)
    if seconds < LEAST_S:
        raise UsageError(f"--scrub must be at least {LEAST_S:g}s")
    return seconds


def _seconds(flag: str, text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{flag} {error}") from error
