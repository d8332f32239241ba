"""The record of a run in its JSON, and what verifying a chain found, in words and as JSON.

In the JSON of a run the key `evidence` names the run's own record. That record holds the SHA-256 of the very same JSON,
without this key: what is not there yet cannot be covered.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from replcheck.model.evidence import ChainReport, EvidenceHead
from replcheck.model.outcome import Outcome, worst
from replcheck.model.plain import Plain, plain_object, to_plain
from replcheck.report.verdict import counted

SCHEMA = "replcheck/evidence/1"
WORDS = {
    Outcome.PROVEN: "whole",
    Outcome.PARTIAL: "unvouched",
    Outcome.REFUTED: "broken",
    Outcome.UNCHECKED: "empty",
}
"""A chain's words for the outcomes."""
_SHORT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedChain:
    """What was found, and where."""

    source: str
    """The file, or the history."""
    in_history: bool
    report: ChainReport


def with_evidence(document: dict[str, Plain], head: EvidenceHead | None) -> dict[str, Plain]:
    """Return the JSON of a run with the record that it has in its chain; null where it has none."""
    return document | {"evidence": to_plain(head)}


def outcome_of_chains(chains: Sequence[VerifiedChain]) -> Outcome:
    """Return the worst outcome."""
    return worst(chain.report.outcome for chain in chains)


def evidence_sentence(chain: VerifiedChain) -> str:
    """Return what was found in one sentence."""
    report = chain.report
    if report.problem:
        return f"{report.problem}."
    if not report.records:
        return f"{chain.source} holds no record."
    which = f"{counted(report.records, 'record')} of {report.cluster}, {report.first} to {report.last}"
    if report.outcome is Outcome.PROVEN:
        return f"{which}: none was changed, removed, put in or reordered{_as_to_the_end(chain)}."
    return f"{which}: nothing is wrong, but {_why_unvouched(report)}."


def evidence_json(chains: Sequence[VerifiedChain]) -> str:
    """Return what was found as text, in ASCII, with a line break at its end."""
    outcome = outcome_of_chains(chains)
    document: dict[str, Plain] = {
        "schema": SCHEMA,
        "kind": "evidence",
        "outcome": outcome.value,
        "verdict": WORDS[outcome],
        "exit_code": int(outcome.exit_status),
        "summary": _worst_sentence(chains, outcome),
        "chains": [_plain(chain) for chain in chains],
    }
    return json.dumps(document, indent=2) + "\n"


def _as_to_the_end(chain: VerifiedChain) -> str:
    return "" if chain.in_history and not chain.report.anchored else ", nor cut off"


def _why_unvouched(report: ChainReport) -> str:
    if report.vouched:
        return f"nothing vouches for those behind record {report.vouched}"
    if report.unverified:
        return "no signature was verified: a public key is needed, or the SHA-256 of the last record with --head"
    return "none is signed: whoever could write there could have written them all"


def _worst_sentence(chains: Sequence[VerifiedChain], outcome: Outcome) -> str:
    return next((evidence_sentence(chain) for chain in chains if chain.report.outcome is outcome), "nothing was found.")


def _plain(chain: VerifiedChain) -> dict[str, Plain]:
    report = chain.report
    plain = plain_object(report)
    del plain["earlier"]
    return {"source": chain.source, "outcome": report.outcome.value, **plain, "records": report.records}
