"""The use case of the screen's lamps: what the policy promises, whether it holds now, and whether it held all along.

A control that looks back over a window is evaluated twice from the same facts, once as if nobody had asked for the
window: what holds at this moment and what held over the time are two things to know.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from replcheck.check.evaluate import evaluate
from replcheck.check.policy import asked_names
from replcheck.config.model import Configuration, Policy
from replcheck.model.control import ControlResult, Standing
from replcheck.model.live import ClusterView
from replcheck.runs.check_facts import gather, last_view, open_store
from replcheck.runs.check_request import DEFAULT_STALE_S, CheckFlags, check_request

_STALE_AFTER = "60s"
"""How old the last sample may be from which the screen still tells how things are now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimFound:
    """One control that somebody asked for."""

    now: ControlResult
    over_time: ControlResult | None
    """None for a control that looks back over no window."""


def find_claims(
    configuration: Configuration, store: Path | None, view: ClusterView | None, now: datetime
) -> tuple[ClaimFound, ...]:
    """Return every control that is asked, from what the history holds and from the newest view.

    Raises ConfigurationError where a waiver's last day is past, and StoreError where the history cannot be read.
    """
    if not asked_names(configuration.policy):
        return ()
    request = check_request(CheckFlags(stale_after=_STALE_AFTER), configuration, now)
    reader = open_store(store)
    facts = gather(request, reader, None, view or last_view(request, reader, now), now)
    # A node that is lost for a minute stands where it stood: what it told of itself is as young as for a check.
    facts = replace(facts, stale_after_s=DEFAULT_STALE_S)
    whole = evaluate(request.policy, facts, configuration.waivers)
    at_once = evaluate(_without_windows(request.policy), facts, configuration.waivers)
    return tuple(_paired(request.policy, whole, at_once))


def _paired(
    policy: Policy, whole: tuple[ControlResult, ...], at_once: tuple[ControlResult, ...]
) -> Iterator[ClaimFound]:
    for over_time, now in zip(whole, at_once, strict=True):
        if now.standing is not Standing.NOT_ASKED:
            section = getattr(policy, now.name.value.replace("-", "_"))
            windowed = getattr(section, "window", None) is not None
            yield ClaimFound(now=now, over_time=over_time if windowed else None)


def _without_windows(policy: Policy) -> Policy:
    copies = policy.copies and policy.copies.model_copy(update={"window": None, "share": None, "warn": None})
    point = policy.recovery_point and policy.recovery_point.model_copy(update={"window": None})
    return policy.model_copy(update={"copies": copies, "recovery_point": point})
