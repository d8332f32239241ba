"""What verifying a chain found, for people."""

from collections.abc import Sequence

from rich.console import Console

from replcheck.model.evidence import ChainReport
from replcheck.report.evidence_document import WORDS, VerifiedChain, evidence_sentence
from replcheck.report.style import Style, cell, line, plain_table


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
    if chain.in_history and report.anchored_at < report.last:
        again = f"ask again with {'the newest one as ' if report.anchored else ''}--head"
        told = "A history cannot tell whether its newest records were cut off: keep the head elsewhere,"
        line(console, f"{told} and {again}.")


def _unsigned(report: ChainReport) -> str:
    found = report.unsigned_records
    covered = report.unsigned - (found.count if found else 0)
    return f"not signed, {covered:,} of them vouched for from outside" if covered else "not signed"


def _signatures(report: ChainReport) -> str:
    told = [
        f"{number:,} {what}"
        for number, what in (
            (report.signed - report.attested, "with a verified signature"),
            (report.attested, "whose signature was verified when the next was made, as that one says"),
            (report.unverified, "signed, and not verified for lack of a key"),
            (report.unsigned, _unsigned(report)),
        )
        if number
    ]
    return ", ".join(told)
