"""What a check is asked for: flags over the configuration, checked before anything is looked at."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import SplitResult

from replcheck.check.due import KINDS, require_askable
from replcheck.check.facts import ConfiguredBackup, ConfiguredNode, LagLimits
from replcheck.check.policy import asked_names, require_policy, require_waivers_in_force, wanted_names
from replcheck.config.model import Configuration, Policy
from replcheck.errors import UsageError
from replcheck.model.control import ControlName
from replcheck.model.names import printable
from replcheck.model.units import parse_duration
from replcheck.watch.limits import WatchLimits

DEFAULT_STALE_S = 900.0
"""How old the last look may be from which an answer out of the history is still one of now."""
_MANIFESTS = frozenset({"base", "pgbackrest"})
"""Kinds of backups that carry checksums of their own."""
_ARCHIVES = frozenset({"base", "snapshot", "pgbackrest"})
"""Kinds of backups whose restore goes on through an archive of WAL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFlags:
    """What the caller gave; None and empty mean that the configuration, or the default, decides."""

    controls: tuple[str, ...] = ()
    """Names of the only controls to evaluate."""
    run: tuple[str, ...] = ()
    """Kinds of due work to do first."""
    time_budget: str | None = None
    stale_after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """One check, ready to be made."""

    cluster: str
    configuration: Configuration = field(repr=False)
    policy: Policy
    """All of it, whatever is wanted: a section may serve other controls than its own."""
    wanted: frozenset[ControlName]
    """The controls to evaluate, all of which are asked."""
    limits: WatchLimits
    left_out: tuple[str, ...]
    """What the configuration keeps out of audits, a clause each."""
    run: frozenset[str] = frozenset()
    time_budget_s: float | None = None
    stale_after_s: float = DEFAULT_STALE_S
    ping: SplitResult | None = field(default=None, repr=False)

    @property
    def argument_digest(self) -> str:
        """Return the SHA-256 of what was asked: names and limits, nothing that is secret."""
        asked: dict[str, object] = {
            "cluster": self.cluster,
            "nodes": list(self.configuration.nodes),
            "policy": self.policy.model_dump(mode="json", by_alias=True),
            "run": sorted(self.run),
            "time_budget": self.time_budget_s,
        }
        if self.is_limited:
            asked["controls"] = sorted(name.value for name in self.wanted)
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    @property
    def is_limited(self) -> bool:
        """Return whether only some of the controls are to be evaluated that the policy asks for."""
        return self.wanted != frozenset(asked_names(self.policy))

    @property
    def nodes(self) -> tuple[ConfiguredNode, ...]:
        """Return the nodes as controls know them."""
        return tuple(ConfiguredNode(name=name, zone=node.zone) for name, node in self.configuration.nodes.items())

    @property
    def scope_digest(self) -> str:
        """Return that of what the configuration has audits compare, where it keeps something out; else nothing.

        An audit of just that is a whole one, as its user sees it.
        """
        if not self.left_out:
            return ""
        from replcheck.runs.request import AuditFlags, audit_request  # large, and few checks need it

        return audit_request(AuditFlags(), self.configuration).extent.digest

    @property
    def backups(self) -> tuple[ConfiguredBackup, ...]:
        """Return the backups as controls know them."""
        return tuple(
            ConfiguredBackup(name=name, manifest=backup.kind in _MANIFESTS, archive=backup.kind in _ARCHIVES)
            for name, backup in self.configuration.backups.items()
        )

    @property
    def lag(self) -> LagLimits:
        """Return how far a standby may be behind."""
        return LagLimits(size_bytes=self.limits.lag_bytes, seconds=self.limits.lag_s)


def check_request(flags: CheckFlags, configuration: Configuration, now: datetime) -> CheckRequest:
    """Return what to check and how; raise UsageError or ConfigurationError where that makes no sense.

    A waiver whose last day is past is an error: nobody excuses that control any more. Whom to ping is left out: that is
    in the environment.
    """
    require_policy(configuration)
    policy = configuration.policy
    wanted = wanted_names(policy, flags.controls)
    require_waivers_in_force(configuration.waivers, now)
    kinds = _kinds(flags.run)
    require_askable(kinds, policy)
    return CheckRequest(
        cluster=configuration.cluster,
        configuration=configuration,
        policy=policy,
        wanted=wanted,
        limits=WatchLimits.of(configuration),
        left_out=_left_out(configuration),
        run=kinds,
        time_budget_s=_seconds("--time-budget", flags.time_budget),
        stale_after_s=_seconds("--stale-after", flags.stale_after) or DEFAULT_STALE_S,
    )


def waived_unasked(request: CheckRequest) -> tuple[str, ...]:
    """Return the waivers of controls that nobody asks for."""
    asked = {name.value for name in asked_names(request.configuration.policy)}
    return tuple(name for name in request.configuration.waivers if name not in asked)


def _kinds(given: tuple[str, ...]) -> frozenset[str]:
    words = [word.strip() for text in given for word in text.split(",") if word.strip()]
    for word in words:
        if word not in KINDS:
            raise UsageError(
                f'--run "{printable(word)}" names no work', hint=f"Write one or both of: {', '.join(KINDS)}."
            )
    return frozenset(words)


def _left_out(configuration: Configuration) -> tuple[str, ...]:
    audit = configuration.audit
    told = [
        f"{word} {', '.join(patterns)}"
        for word, patterns in (
            ("databases other than", audit.databases),
            ("relations other than", audit.tables),
            ("relations like", audit.exclude),
            ("rows that the filters leave out, of", tuple(audit.where)),
        )
        if patterns
    ]
    return tuple(told) if audit.catalogs else (*told, "system catalogs")


def _seconds(flag: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{flag} {error}") from error
    if seconds < 1:
        raise UsageError(f"{flag} must be at least 1s")
    return seconds
