"""From which figures on something is an event, as the policy and the section `watch` of a configuration ask."""

from dataclasses import dataclass, replace
from typing import Self

from replcheck.config.model import Configuration

_STUCK_SAMPLES = 3
"""Samples in a row, at least, in which a standby received nothing before it counts as stuck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchLimits:
    """Limits of a watch; None where nothing is asked."""

    lag_bytes: int | None = None
    """WAL of the primary that a standby has not replayed."""
    lag_s: float | None = 60.0
    """How old what a standby shows may be, its `recovery_min_apply_delay` aside."""
    recovery_age_s: float | None = None
    """How old the newest archived commit may be."""
    copies: int | None = None
    """Running copies, the primary included."""
    proven: int | None = None
    """Proven copies, the primary included."""
    max_proof_age_s: float = 86_400.0
    """Beyond which a proof counts no more."""
    stuck_s: float = 10.0
    """How long a standby may receive nothing while the primary is ahead and still count as streaming.

    Of a watch that asks rarely `asked_every` makes it longer: what stands still between two samples may be chance.
    """

    @classmethod
    def of(cls, configuration: Configuration) -> Self:
        """Return the limits that a configuration asks for."""
        policy = configuration.policy
        age = policy.consistency.max_age if policy.consistency else cls().max_proof_age_s
        return cls(
            lag_bytes=configuration.watch.max_lag,
            lag_s=configuration.watch.max_lag_time,
            recovery_age_s=policy.recovery_point.max_age if policy.recovery_point else None,
            copies=policy.copies.running if policy.copies else None,
            proven=policy.copies.proven if policy.copies else None,
            max_proof_age_s=age,
        )

    def asked_every(self, interval_s: float) -> Self:
        """Return the limits of a watch that asks each node once in that time.

        >>> [WatchLimits().asked_every(interval_s).stuck_s for interval_s in (1.0, 20.0)]
        [10.0, 60.0]
        """
        return replace(self, stuck_s=max(self.stuck_s, _STUCK_SAMPLES * interval_s))
