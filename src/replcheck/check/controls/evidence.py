"""The control `evidence`: the chain of evidence is whole and its signatures verify."""

from collections.abc import Iterator

from replcheck.check.facts import Facts
from replcheck.check.found import Fault, Found, at_risk, breached, oldest, unchecked
from replcheck.config.model import Control, Policy
from replcheck.model.control import Measure, Unit
from replcheck.model.evidence import EvidenceState
from replcheck.model.outcome import Outcome

_NOT_PROVEN = (
    "that nobody who holds the key and the history rewrote both: only a head that was kept elsewhere shows that",
    "that what a record says was true: a run vouches for itself",
)


def find_evidence(_policy: Policy, _asked: Control, facts: Facts) -> Found:
    """Return how many records there are, and whether their chain and signatures hold."""
    chain = facts.evidence
    return Found(
        measured=_measured(chain),
        limit="every record in its place, unchanged and vouched for by a signature",
        faults=tuple(_faults(chain, facts)),
        measures=(
            Measure(name="records", unit=Unit.COUNT, value=chain.records if chain else None),
            Measure(name="unsigned", unit=Unit.COUNT, value=chain.unsigned if chain else None, warn=0),
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
    seen = chain.verified + chain.rested
    if seen < chain.records:
        return f"{seen:,} of {chain.records:,} records could be verified in the time that a check has"
    if chain.signed == 0 and not chain.rested:
        return f"none of {chain.records:,} records bears a signature that could be verified"
    return "the newest records bear no signature that could be verified"


def _measured(chain: EvidenceState | None) -> str:
    if chain is None:
        return "unknown"
    told = "broken" if chain.problem else "whole"
    return f"{chain.records:,} records, the chain is {told}, {chain.signed + chain.rested:,} vouched for by signatures"
