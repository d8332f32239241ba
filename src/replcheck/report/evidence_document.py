"""The record of a run in its JSON, and what verifying a chain found, in words and as JSON.

In the JSON of a run the key `evidence` names the run's own record. That record holds the SHA-256 of the very same JSON,
without this key: what is not there yet cannot be covered.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from replcheck.model.evidence import ChainReport, EvidenceHead, Places
from replcheck.model.outcome import Outcome, worst
from replcheck.model.plain import Plain, plain_object, to_plain
from replcheck.report.verdict import counted, joined

SCHEMA = "replcheck/evidence/1"
WORDS = {
    Outcome.PROVEN: "whole",
    Outcome.PARTIAL: "unvouched",
    Outcome.REFUTED: "broken",
    Outcome.UNCHECKED: "empty",
}
"""A chain's words for the outcomes."""
_MOST_NAMED = 5
"""Stretches of a chain that a sentence names."""
_MOST_LISTED = 100
"""Those that the JSON lists."""


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
    return f"{which}: nothing is wrong, but {_why_unvouched(report)}.{_intruder(report)}"


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
    """Return how far it is shown that no record was cut off; empty where it is not.

    A file's signed end tells of all that was exported. A head tells of its record and those before it, and of none that
    may have been made later.
    """
    report = chain.report
    if report.closed:
        return ", nor cut off"
    if not report.anchored:
        return ""
    told = f", nor cut off up to record {report.anchored_at}, that of --head"
    if report.anchored_at == report.last:
        return told
    return f"{told}; whether any was cut off behind record {report.last}, that head does not show"


def _why_unvouched(report: ChainReport) -> str:
    found = report.unsigned_records
    if report.unverified and report.covered:
        return f"nothing vouches for those behind record {report.covered}"
    if report.unverified:
        return "no signature was verified: a public key is needed, or the SHA-256 of the last record with --head"
    if found is None and report.partial:
        return report.partial
    if found is None:
        return f"nothing vouches for those behind record {report.vouched}"
    if found.count == report.records:
        told = "none is signed: whoever could write there could have written them all"
    else:
        told = f"{counted(found.count, 'is', 'are')} not signed ({places(report.unsigned_at)}): whoever could write"
        told = f"{told} there could have made {'it' if found.count == 1 else 'them'}"
    if report.vouched < found.first:
        return told
    return f"{told}; a later signature says only that nothing was changed since"


def _intruder(report: ChainReport) -> str:
    at = report.unsigned_behind
    if at is None:
        return ""
    return f" Record {at} stands behind signed ones: somebody ran without the key, or forged it."


def places(stretches: Places) -> str:
    """Return where records stand.

    >>> places(((1, 4), (6, 6))), places(tuple((n, n) for n in range(2, 20, 2)))
    ('1 to 4 and 6', '2, 4, 6, 8, 10 and 4 more stretches')
    """
    told = [f"{first}" if first == last else f"{first} to {last}" for first, last in stretches[:_MOST_NAMED]]
    more = len(stretches) - len(told)
    return joined([*told, *([f"{counted(more, 'more stretch', 'more stretches')}"] if more else [])])


def _worst_sentence(chains: Sequence[VerifiedChain], outcome: Outcome) -> str:
    return next((evidence_sentence(chain) for chain in chains if chain.report.outcome is outcome), "nothing was found.")


def _plain(chain: VerifiedChain) -> dict[str, Plain]:
    report = chain.report
    plain = plain_object(report)
    for name in ("earlier", "unsigned_at", "first_signed", "covered", "closed"):
        del plain[name]
    unsigned = report.unsigned_records
    found: dict[str, Plain] = {
        "anchored": report.anchored,
        "unvouched": unsigned.count if unsigned else 0,
        "unvouched_at": [list(stretch) for stretch in report.unsigned_at[:_MOST_LISTED]],
        "unsigned_behind": report.unsigned_behind,
    }
    return {"source": chain.source, "outcome": report.outcome.value, **plain, **found, "records": report.records}
