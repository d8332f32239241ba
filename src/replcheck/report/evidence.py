"""The record of a run in its reports, and what verifying a chain found, for people and as JSON.

In the JSON of a run the key `evidence` names the run's own record. That record holds the SHA-256 of the very same JSON,
without this key: what is not there yet cannot be covered.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from replcheck.model.evidence import ChainReport, EvidenceHead
from replcheck.model.outcome import Outcome, worst
from replcheck.model.plain import Plain, plain_object, to_plain
from replcheck.report.style import Style, cell, line, plain_table
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


def print_evidence(chains: Sequence[VerifiedChain], console: Console, style: Style) -> None:
    """Print what was found; of a chain that is broken, the one line that says where."""
    for chain in chains:
        report = chain.report
        source = f"{chain.source}: " if len(chains) > 1 else ""
        word = style.outcome(report.outcome, WORDS[report.outcome].upper())
        line(console, word, f"  {source}{evidence_sentence(chain)}", indent=0)
        if not report.problem and report.records:
            _print_facts(chain, console, style)


def _print_facts(chain: VerifiedChain, console: Console, style: Style) -> None:
    report = chain.report
    table = plain_table("", "")
    table.show_header = False
    if report.oldest_at and report.newest_at:
        table.add_row("  made", cell(f"{style.time(report.oldest_at)} to {style.time(report.newest_at)}"))
    table.add_row("  signed", cell(_signatures(report)))
    for key_id in report.key_ids:
        table.add_row("  key", cell(key_id))
    if report.archived:
        table.add_row("  archived", cell(f"records 1 to {report.archived}, under a signed checkpoint"))
    if report.exported_at:
        table.add_row("  exported", cell(style.time(report.exported_at)))
    table.add_row("  head", cell(f"record {report.last}, SHA-256 {report.head}"))
    console.print(table)
    if chain.in_history and not report.anchored:
        line(console, "A history cannot tell whether its newest records were cut off: keep the head elsewhere,")
        line(console, "and ask again with --head.")


def _signatures(report: ChainReport) -> str:
    told = [
        f"{number:,} {what}"
        for number, what in (
            (report.signed - report.attested, "with a verified signature"),
            (report.attested, "whose signature was verified when the next was made, as that one says"),
            (report.unverified, "signed, and not verified for lack of a key"),
            (report.unsigned, "not signed"),
        )
        if number
    ]
    return ", ".join(told)


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
