"""`replcheck report` from its options to its exit status: 0 where the report was written, else 3."""

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from replcheck.cli.answers import printed
from replcheck.cli.next_drill import next_drill
from replcheck.cli.options import ReportForm
from replcheck.cli.output import Draw, check_output, style_of
from replcheck.cli.stored import Source, find_source
from replcheck.drill.seals import seal_folder
from replcheck.errors import UsageError
from replcheck.model.audit import AuditResult
from replcheck.model.control import CheckResult
from replcheck.model.drill import DrillResult
from replcheck.model.outcome import ExitStatus
from replcheck.report.check_human import print_check, print_check_verdict
from replcheck.report.drill_human import print_drill, print_drill_briefly
from replcheck.report.evidence_document import with_evidence
from replcheck.report.human import print_audit, print_verdict
from replcheck.report.paper import Paper
from replcheck.report.period_document import period_json
from replcheck.report.period_page import print_period
from replcheck.report.seal_stored import PastSeal, print_past_seal
from replcheck.report.style import Style
from replcheck.runs.history import Reported, StoredReport, moment_of, read_report, summarize
from replcheck.runs.period import PeriodWanted, clusters_of, gather_period


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """How a report is written, and where to."""

    form: ReportForm
    output: Path | None
    quiet: bool
    verbose: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodGiven:
    """Which period was asked for, as it was written."""

    run: str | None
    since: str | None
    until: str | None
    cluster: str | None


def write_report(config: Path | None, store: Path | None, name: str, written: Written) -> ExitStatus:
    """Write the report of one run again, as its run did, or in another form."""
    if written.form is ReportForm.CLAIMS:
        raise UsageError(
            "promises are set beside the proofs of a period, not of one run",
            hint='Try "replcheck report --since 30d --format claims".',
        )
    source = find_source(config, store)
    stored = read_report(source.store, name)
    check_output(written.output)
    return printed(_run_in_form(stored, written, source), source, written.output)


def write_period(config: Path | None, store: Path | None, given: PeriodGiven, written: Written) -> ExitStatus:
    """Write the report of a period; raise UsageError where neither a run nor a period was named, or both."""
    source, now = find_source(config, store), datetime.now(UTC)
    wanted = _period_wanted(given, source, now)
    check_output(written.output)
    summed_only = written.form in {ReportForm.HUMAN, ReportForm.JSON} and _clusters(source, wanted) != 1
    with _without_collector():
        what, unread = _sum(source, wanted, written, now) if summed_only else _period(source, wanted, written, now)
    status = printed(what, source, written.output)
    return ExitStatus.UNCHECKED if unread else status


@contextmanager
def _without_collector() -> Iterator[None]:
    """Look for no cycles in the block: a period is read into many small facts, and none holds another in a ring."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _run_in_form(stored: StoredReport, written: Written, source: Source) -> str | Draw:
    result = stored.result

    def draw(console: Console, style: Style) -> None:
        print_stored(result, console, style, source, quiet=written.quiet, verbose=written.verbose)

    match written.form:
        case ReportForm.JSON:
            document = stored.document
            if isinstance(document, dict):
                document = with_evidence(document, stored.evidence)
            return json.dumps(document, indent=2) + "\n"
        case ReportForm.HTML | ReportForm.MARKDOWN:
            return _paper_text(_paper_of(result), written.form, style_of(source.configuration))
        case ReportForm.JUNIT:
            return _junit_of(result)
        case _:
            return draw


def _paper_of(result: Reported) -> Paper:
    from replcheck.report.papers.audit import audit_paper
    from replcheck.report.papers.check import check_paper
    from replcheck.report.papers.drill import drill_paper
    from replcheck.report.papers.seal import seal_paper

    match result:
        case CheckResult():
            return check_paper(result)
        case PastSeal():
            return seal_paper(result)
        case DrillResult():
            return drill_paper(result)
        case AuditResult():
            return audit_paper(result)


def _junit_of(result: Reported) -> str:
    from replcheck.report.junit import junit_text
    from replcheck.report.junit_runs import audit_junit, drill_junit, seal_junit

    match result:
        case CheckResult():
            return junit_text(result)
        case PastSeal():
            return seal_junit(result)
        case DrillResult():
            return drill_junit(result)
        case AuditResult():
            return audit_junit(result)


def _paper_text(paper: Paper, form: ReportForm, style: Style) -> str:
    if form is ReportForm.HTML:
        from replcheck.report.html.render import paper_html

        return paper_html(paper, style)
    from replcheck.report.markdown import paper_markdown

    return paper_markdown(paper, style)


def print_stored(
    result: Reported, console: Console, style: Style, source: Source, *, quiet: bool = False, verbose: bool = False
) -> None:
    """Print the result of a past run as its command did."""
    match result:
        case CheckResult() if quiet:
            print_check_verdict(result, console, style)
        case CheckResult():
            print_check(result, console, style, verbose=verbose)
        case PastSeal():
            follow = _follow(result, source)
            print_past_seal(result, console, style, follow=follow, quiet=quiet, verbose=verbose)
        case DrillResult() if quiet:
            print_drill_briefly(result, console, style)
        case DrillResult():
            print_drill(result, console, style, verbose=verbose)
        case AuditResult() if quiet:
            print_verdict(result, console, style, alone=True)
        case AuditResult():
            print_audit(result, console, style, verbose=verbose)


def _follow(seal: PastSeal, source: Source) -> str:
    here = source.configuration if source.configuration and source.configuration.cluster == seal.cluster else None
    return next_drill(
        seal.seal_id,
        Path(seal.file),
        dump=seal.dump.file if seal.dump is not None else None,
        configuration=here,
        config=source.config,
        folder=seal_folder(seal.cluster, here, os.environ),
    )


def _period_wanted(given: PeriodGiven, source: Source, now: datetime) -> PeriodWanted:
    if given.run is not None:
        raise UsageError("a run and a period were named", hint="Give one of them: RUN, or --since and --until.")
    if given.since is None and given.until is None:
        raise UsageError(
            "no run was named",
            hint='Try "replcheck report latest", or a period such as "replcheck report --since 30d".',
        )
    begin = moment_of(given.since, flag="--since", now=now, zone=source.zone) if given.since else None
    end = moment_of(given.until, flag="--until", now=now, zone=source.zone) if given.until else None
    if begin is not None and begin >= (end or now):
        raise UsageError("the period ends before it begins", hint="Give --since the earlier time.")
    return PeriodWanted(since=begin, until=end, cluster=given.cluster)


def _clusters(source: Source, wanted: PeriodWanted) -> int:
    """Return how many clusters a period is to be told of."""
    return 1 if wanted.cluster is not None else len(clusters_of(source.store))


def _sum(source: Source, wanted: PeriodWanted, written: Written, now: datetime) -> tuple[str | Draw, bool]:
    """Return the sum over the audits of all clusters of a history, and whether anything could not be read."""
    period = summarize(source.store, since=wanted.since, until=wanted.until, now=now)

    def draw(console: Console, style: Style) -> None:
        print_period(period, console, style, verbose=written.verbose)

    return period_json(period) if written.form is ReportForm.JSON else draw, bool(period.unread)


def _period(source: Source, wanted: PeriodWanted, written: Written, now: datetime) -> tuple[str | Draw, bool]:
    """Return the report of one cluster's period, and whether anything could not be read."""
    from replcheck.report.papers.period import period_paper
    from replcheck.report.papers.promises import claims_paper

    facts = gather_period(source.store, source.configuration, wanted, now=now)
    unread = bool(facts.audits.unread or facts.unread or facts.damaged_rows)
    style = style_of(source.configuration)
    match written.form:
        case ReportForm.HTML | ReportForm.MARKDOWN:
            return _paper_text(period_paper(facts, style.zone), written.form, style), unread
        case ReportForm.CLAIMS:
            return _paper_text(claims_paper(facts), ReportForm.MARKDOWN, style), unread
        case ReportForm.JUNIT:
            from replcheck.report.junit_runs import period_junit

            return period_junit(facts), unread
        case ReportForm.JSON:
            return period_json(facts.audits, facts), unread

    def draw(console: Console, style: Style) -> None:
        print_period(facts.audits, console, style, facts=facts, verbose=written.verbose)

    return draw, unread
