"""The summary of a period for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from replcheck.model.outcome import Verdict
from replcheck.model.units import format_duration
from replcheck.report.period import Period, Proofs
from replcheck.report.period_facts import PeriodFacts
from replcheck.report.period_lines import print_facts
from replcheck.report.style import Style, cell, heading, line, plain_table
from replcheck.report.verdict import counted, joined

_GAPS_SHOWN = 5
_RELATIONS_SHOWN = 20
_VERDICT_OF = {verdict.outcome: verdict for verdict in Verdict}


def print_period(
    period: Period, console: Console, style: Style, *, facts: PeriodFacts | None = None, verbose: bool = False
) -> None:
    """Print the summary; `verbose` lists every relation and gap.

    `facts` are what else is known of the period; None where it is one of several clusters.
    """
    _print_header(period, console, style)
    _print_others(period, console, style)
    if facts is not None:
        print_facts(facts, console, style)
    if not period.runs and not period.unread:
        return
    _print_gaps(period, console, style, verbose=verbose)
    if period.replicas:
        heading(console, "Replicas: verdicts of the audits")
        _print_proofs(period.replicas, console, style, clusters=len(period.clusters))
    _print_relations(period, console, style, verbose=verbose)
    if period.unread:
        heading(console, "Not counted above: reports that cannot be read or believed")
        for unread in period.unread:
            line(console, f"run {unread.run_id}: {unread.reason}")


def _print_header(period: Period, console: Console, style: Style) -> None:
    begin = period.since or period.first_run_at
    of = f" of {joined(period.clusters)}" if period.clusters else ""
    title = Text(f"replcheck runs{of}", style="bold")
    line(console, title, indent=0)
    line(console, f"{style.time(begin) if begin else 'the beginning'} to {style.time(period.until)}", indent=0)
    heading(console, "Audits")
    if not period.runs:
        line(console, "no audit began in this period")
        return
    told = [f"{count:,} {_VERDICT_OF[outcome].value}" for outcome, count in period.outcomes.items() if count]
    told += [f"{period.unended:,} did not end"] if period.unended else []
    told += [f"{period.running:,} without an end yet"] if period.running else []
    line(console, f"{counted(period.runs, 'audit')}: {', '.join(told)}")
    if period.failed:
        line(console, f"{counted(period.failed, 'audit')} failed before anything was reported")
    if period.limited:
        line(console, f"{counted(period.limited, 'proof was', 'proofs were')} of a part only, by --table or the like")
    if period.first_run_at and period.last_run_at:
        line(console, f"first {style.time(period.first_run_at)}, last {style.time(period.last_run_at)}")


def _print_others(period: Period, console: Console, style: Style) -> None:
    if not period.others:
        return
    heading(console, "Other runs")
    for others in period.others:
        told = [f"{count:,} {verdict}" for verdict, count in others.verdicts.items()]
        told += [f"{others.unended:,} without an end"] if others.unended else []
        line(console, f"{counted(others.runs, others.kind)}, last {style.time(others.last_run_at)}: {'; '.join(told)}")


def _print_gaps(period: Period, console: Console, style: Style, *, verbose: bool) -> None:
    heading(console, "Longest times without a new proof of everything")
    for cluster in period.clusters:
        gaps = [gap for gap in period.gaps if gap.cluster == cluster]
        where = f"{cluster}: " if len(period.clusters) > 1 else ""
        for gap in gaps if verbose else gaps[:_GAPS_SHOWN]:
            told = f"{format_duration(gap.elapsed_s)}, from {style.time(gap.since)} to {style.time(gap.until)}"
            line(console, f"{where}{told}")


def _print_relations(period: Period, console: Console, style: Style, *, verbose: bool) -> None:
    if not period.relations:
        return
    heading(console, "Relations: verdicts of the audits")
    worst_first = sorted(period.relations, key=_standing)
    lacking = [proofs for proofs in worst_first if not _always_consistent(proofs)]
    rest = len(period.relations) - len(lacking)
    if verbose:
        _print_proofs(worst_first, console, style, clusters=len(period.clusters))
        return
    if rest:
        noun = counted(rest, "relation on a replica was", "relations on replicas were")
        line(console, f"{noun} consistent in every audit that looked at {'it' if rest == 1 else 'them'}")
    if lacking:
        _print_proofs(lacking[:_RELATIONS_SHOWN], console, style, clusters=len(period.clusters))
    if len(lacking) > _RELATIONS_SHOWN:
        line(console, f"{len(lacking) - _RELATIONS_SHOWN:,} more, of which none stands worse: --verbose lists them")


def _standing(proofs: Proofs) -> tuple[int, ...]:
    """Return how bad it stands, worst first: by what was found last, then by what was ever found."""
    last = (Verdict.DIVERGED, Verdict.UNCHECKED, Verdict.INCONCLUSIVE, Verdict.CONSISTENT).index(proofs.last_verdict)
    return (last, -proofs.diverged, -proofs.unchecked, -proofs.inconclusive)


def _always_consistent(proofs: Proofs) -> bool:
    return not (proofs.inconclusive or proofs.diverged or proofs.unchecked)


def _print_proofs(shown: Sequence[Proofs], console: Console, style: Style, *, clusters: int) -> None:
    of_relations = shown[0].relation is not None
    table = plain_table(
        *(["cluster"] if clusters > 1 else []), *(["relation"] if of_relations else []), "replica", "verdicts", "last"
    )
    for proofs in shown:
        table.add_row(
            *([cell(proofs.cluster)] if clusters > 1 else []),
            *([cell(f"{proofs.database}.{proofs.relation}")] if of_relations else []),
            cell(proofs.node),
            cell(_counts(proofs)),
            style.verdict(proofs.last_verdict),
        )
    console.print(table)
    for proofs in shown:
        if not _always_consistent(proofs) or not of_relations:
            _print_last_proof(proofs, console, style)


def _counts(proofs: Proofs) -> str:
    found = ((verdict.value, getattr(proofs, verdict.value)) for verdict in Verdict)
    return ", ".join(f"{count:,} {verdict}" for verdict, count in found if count)


def _print_last_proof(proofs: Proofs, console: Console, style: Style) -> None:
    what = f"{proofs.database}.{proofs.relation} on {proofs.node}" if proofs.relation else proofs.node
    whole = "" if proofs.relation else " whole"
    if proofs.last_proven_at is None:
        line(console, f"{what} was never proven{whole}")
    elif proofs.first_proven_at is not None:
        first, last = style.time(proofs.first_proven_at), style.time(proofs.last_proven_at)
        line(console, f"{what} was proven{whole} first {first}, last {last}")
