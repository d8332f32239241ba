"""What was found of one control, before it is held against waivers and the clock: faults decide, numbers are told."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from replcheck.model.control import Measure, Standing
from replcheck.model.units import format_age, format_duration

_WORST_FIRST = (Standing.BREACHED, Standing.UNCHECKED, Standing.AT_RISK, Standing.MET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that keeps a control from being met."""

    standing: Standing
    """BREACHED, UNCHECKED or AT_RISK."""
    what: str
    """In one clause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One control as it was found."""

    measured: str
    limit: str
    faults: tuple[Fault, ...] = ()
    measures: tuple[Measure, ...] = ()
    runs: tuple[str, ...] = ()
    not_proven: tuple[str, ...] = ()
    as_of: datetime | None = None

    @property
    def standing(self) -> Standing:
        """Return the worst that any fault says; met where there is none."""
        return worst_standing(fault.standing for fault in self.faults)

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what the faults say, the worst first."""
        return tuple(
            dict.fromkeys(
                fault.what for fault in sorted(self.faults, key=lambda fault: _WORST_FIRST.index(fault.standing))
            )
        )


def worst_standing(standings: Iterable[Standing]) -> Standing:
    """Return the standing that wins; nothing at all is met.

    >>> worst_standing([Standing.MET, Standing.AT_RISK, Standing.UNCHECKED]).value
    'unchecked'
    """
    seen = set(standings)
    return next((standing for standing in _WORST_FIRST if standing in seen), Standing.MET)


def breached(what: str) -> Fault:
    """Return a fault that refutes the claim."""
    return Fault(standing=Standing.BREACHED, what=what)


def unchecked(what: str) -> Fault:
    """Return a fault that keeps the claim from being measured."""
    return Fault(standing=Standing.UNCHECKED, what=what)


def at_risk(what: str) -> Fault:
    """Return a fault that leaves the claim unrefuted and not fully proven."""
    return Fault(standing=Standing.AT_RISK, what=what)


def beyond(value: float, limit: float | None, warn: float | None, what: str) -> list[Fault]:
    """Return the fault of a value that must be at most `limit`, and at risk beyond `warn`; none where it is fine."""
    if limit is not None and value > limit:
        return [breached(f"{what} (limit {format_duration(limit)})")]
    if warn is not None and value > warn:
        return [at_risk(f"{what} (at risk from {format_duration(warn)} on)")]
    return []


def dated_ahead(age_s: float, what: str) -> list[Fault]:
    """Return the fault of something that is dated later than now, by a clock that was wrong; none where it is not.

    `age_s` is one of `Facts.age_s`, which takes off what clocks may differ by.
    """
    return [unchecked(f"{what} is {format_age(age_s)}")] if age_s < 0 else []


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them.

    >>> listed(["db1"]), listed(["db1", "db2", "db3"])
    ('db1', 'db1, db2 and db3')
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def percent(share: float) -> str:
    """Return a percentage for people, never rounded up: what is not all is never told as 100%.

    >>> percent(99.9999), percent(100.0), percent(99.5)
    ('99.999%', '100%', '99.5%')
    """
    return f"{math.floor(share * 1000) / 1000:g}%"


def oldest(moments: Iterable[datetime | None]) -> datetime | None:
    """Return the earliest of the moments that are known."""
    return min((moment for moment in moments if moment is not None), default=None)
