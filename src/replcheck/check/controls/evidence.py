"""The control `evidence`: the chain of evidence is whole and its signatures verify."""

from collections.abc import Iterator

from replcheck.check.facts import Facts
from replcheck.check.found import Fault, Found, at_risk, breached, oldest, unchecked
from replcheck.config.model import Control, Policy
from replcheck.model.control import Measure, Unit
from replcheck.model.evidence import EvidenceState, UnsignedRecords
from replcheck.model.outcome import Outcome

UNCOVERED = "that nobody changed what was seen of the nodes: no record covers samples and events"
"""Told by every control that rests on them."""
_NOT_PROVEN = (
    "that nobody who holds the key and the history rewrote both: only a head that was kept elsewhere shows that",
    "that what a record says was true: a run vouches for itself",
    "that nobody changed the history since all of it was last compared with its records, which a check does once a day",
    UNCOVERED,
)


def find_evidence(_policy: Policy, _asked: Control, facts: Facts) -> Found:
    """Return how many records there are, and whether their chain and signatures hold."""
    chain = facts.evidence
    return Found(
        measured=_measured(chain),
        limit="every record in its place, unchanged and signed",
        faults=tuple(_faults(chain, facts)),
        measures=(
            Measure(name="records", unit=Unit.COUNT, value=chain.records if chain else None),
            Measure(name="unsigned", unit=Unit.COUNT, value=_unsigned(chain), warn=0),
        ),
        not_proven=_NOT_PROVEN,
        as_of=oldest([chain.rested_at or chain.newest_at if chain else None]),
    )


def _faults(chain: EvidenceState | None, facts: Facts) -> Iterator[Fault]:
    if chain is None:
        yield unchecked(facts.history_problem or facts.evidence_problem)
    elif chain.problem:
        yield breached(chain.problem)
    elif not chain.records:
        yield unchecked("there is no record of evidence yet")
    elif chain.outcome is not Outcome.PROVEN:
        yield at_risk(_why_unvouched(chain))


def _why_unvouched(chain: EvidenceState) -> str:
    seen, found = chain.verified + chain.rested, chain.unsigned
    if chain.signed == 0 and not chain.rested:
        return f"none of {chain.records:,} records bears a signature that could be verified"
    if found is not None:
        told = f"{found.count:,} of {chain.records:,} records are not signed, {_where(found)}"
        return f"{told}: anybody who can write to the history could have made them"
    if seen < chain.records:
        return f"{seen:,} of {chain.records:,} records could be verified in the time that a check has"
    return chain.partial or "not every record could be verified"


def _where(found: UnsignedRecords) -> str:
    if found.behind_signed is not None:
        return f"record {found.behind_signed:,} the first behind a signed one"
    return f"record {found.first:,} the first" if found.count > 1 else f"record {found.first:,}"


def _unsigned(chain: EvidenceState | None) -> int | None:
    if chain is None:
        return None
    return chain.unsigned.count if chain.unsigned is not None else 0


def _measured(chain: EvidenceState | None) -> str:
    if chain is None:
        return "unknown"
    told = "broken" if chain.problem else "whole"
    signed = chain.verified + chain.rested - (_unsigned(chain) or 0) if chain.signed or chain.rested else 0
    return f"{chain.records:,} records, the chain is {told}, {signed:,} signed"
