"""What a policy asks, in the order in which controls are told: sections, claims in replcheck's words, and waivers."""

import difflib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from replcheck.config.model import Configuration, Control, Policy, Waiver
from replcheck.errors import ConfigurationError, UsageError
from replcheck.model.control import ControlName
from replcheck.model.names import printable

CLAIMS: Mapping[ControlName, str] = {
    ControlName.COPIES: "As many copies run, and are proven, as were promised",
    ControlName.CONSISTENCY: "The last proof of every replica found no divergence and is young enough",
    ControlName.RECOVERY_POINT: "A restore would lose no more than was promised",
    ControlName.RESTORE: "Every backup was restored recently, within its time",
    ControlName.FAILOVER: "The last failure of the primary was switched over in time, and the copies agree since",
    ControlName.REPLACEMENT: "The last lost copy was recreated in time, and proven",
    ControlName.PLACEMENT: "The copies stand apart from one another",
    ControlName.INTEGRITY: "Data checksums are on and none failed, and backups verify",
    ControlName.EVIDENCE: "The chain of evidence is whole and signed",
}
"""What each control claims where the policy does not say it in words of its own."""


def section_of(policy: Policy, name: ControlName) -> Control | None:
    """Return what is asked of a control; None where nothing is."""
    section: Control | None = getattr(policy, name.value.replace("-", "_"))
    return section


def asked_names(policy: Policy) -> tuple[ControlName, ...]:
    """Return the controls that are asked."""
    return tuple(name for name in ControlName if section_of(policy, name) is not None)


def wanted_names(policy: Policy, words: Iterable[str]) -> frozenset[ControlName]:
    """Return the named controls; all that are asked where none is named.

    Raises UsageError for a word that names no control, with the nearest one, and for one that nobody asked.
    """
    wanted = [control_named(word) for word in words]
    asked = asked_names(policy)
    for name in wanted:
        if name not in asked:
            raise UsageError(
                f'control "{name.value}" is not asked: the policy does not name it',
                hint=f"It asks for {', '.join(known.value for known in asked) or 'nothing'}.",
            )
    return frozenset(wanted or asked)


def control_named(word: str) -> ControlName:
    """Return the control of a name; raise UsageError, with the nearest one, where there is none."""
    known = [name.value for name in ControlName]
    if word in known:
        return ControlName(word)
    # Of short words half the letters meet by chance: what is meant begins alike, or hardly differs.
    alike = [name for name in known if name[0] == word[:1].lower()]
    near = difflib.get_close_matches(word, alike) or difflib.get_close_matches(word, known, cutoff=0.75)
    hint = f'Did you mean "{near[0]}"?' if near else f"There are: {', '.join(known)}."
    raise UsageError(f'"{printable(word)}" is no control', hint=hint)


def require_policy(configuration: Configuration) -> None:
    """Raise ConfigurationError where the policy asks nothing: there would be nothing to check."""
    if not asked_names(configuration.policy):
        raise ConfigurationError(
            "the configuration has no policy: nothing is asked", hint="Add a section [policy], such as copies = {}."
        )


def require_waivers_in_force(waivers: Mapping[str, Waiver], now: datetime) -> None:
    """Raise ConfigurationError for a waiver whose last day is past: nobody excuses that control any more."""
    today = now.astimezone(UTC).date()
    past = sorted((waiver.until, name) for name, waiver in waivers.items() if waiver.until < today)
    if past:
        until, name = past[0]
        more = f" (and {len(past) - 1} more)" if len(past) > 1 else ""
        raise ConfigurationError(
            f"waivers.{name} ended on {until.isoformat()}{more}",
            hint="Remove it, or have it decided anew with a later date.",
        )
