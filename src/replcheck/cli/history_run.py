"""`replcheck history` and `replcheck report` from their options to their exit status: 0, or 3 where anything lacks."""

import difflib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console

from replcheck.cli.display import Display
from replcheck.cli.history import Ending
from replcheck.cli.next_drill import next_drill
from replcheck.cli.options import Format
from replcheck.cli.output import Draw, check_output, deliver, page
from replcheck.cli.stored import Source, find_source
from replcheck.drill.seals import seal_folder
from replcheck.errors import UsageError
from replcheck.model.audit import AuditResult
from replcheck.model.control import CheckResult
from replcheck.model.drill import DrillResult
from replcheck.model.names import printable
from replcheck.model.outcome import ExitStatus, Outcome
from replcheck.report.check_human import print_check, print_check_verdict
from replcheck.report.cluster_events import cluster_events_json, print_cluster_events
from replcheck.report.drill_human import print_drill, print_drill_briefly
from replcheck.report.evidence import with_evidence
from replcheck.report.history import history_json, print_history, print_run, run_json
from replcheck.report.human import print_audit, print_verdict
from replcheck.report.period_page import period_json, print_period
from replcheck.report.seal_stored import PastSeal, print_past_seal
from replcheck.report.style import Style
from replcheck.report.verdict import counted
from replcheck.runs.history import find_run, known_kinds, list_events, list_runs, moment_of, read_report, summarize
from replcheck.store import RunFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Which runs a list shows, as it was asked."""

    limit: int
    since: str | None
    endings: tuple[Ending, ...]
    kind: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """How a report is written, and where to."""

    format: Format
    output: Path | None
    quiet: bool
    verbose: bool


def list_history(config: Path | None, store: Path | None, listed: Listed, form: Format) -> ExitStatus:
    """Print the list of runs."""
    source, now = find_source(config, store), datetime.now(UTC)
    _require_kind(listed.kind, source.store)
    wanted = RunFilter(
        since=moment_of(listed.since, flag="--since", now=now, zone=source.zone) if listed.since else None,
        kind=listed.kind,
        outcomes=frozenset(Outcome(ending.value) for ending in listed.endings if ending is not Ending.UNENDED),
        unended=Ending.UNENDED in listed.endings,
    )
    found = list_runs(source.store, wanted, limit=listed.limit)

    def draw(console: Console, style: Style) -> None:
        print_history(found.runs, console, style, now=now)

    status = _printed(history_json(found.runs, store=str(source.store)) if form is Format.JSON else draw, source)
    for run_id in found.damaged:
        Display(quiet=True).note(f"warning: the record of run {run_id} is damaged and left out")
    return ExitStatus.UNCHECKED if found.damaged else status


def _require_kind(kind: str | None, store: Path) -> None:
    """Raise UsageError for a kind of runs that there is none of: an empty list would read as no such run."""
    known = sorted(known_kinds(store)) if kind is not None else []
    if kind is None or kind in known:
        return
    near = difflib.get_close_matches(kind.lower(), known, n=1, cutoff=0.5)
    raise UsageError(
        f'--kind "{printable(kind)}" is no kind of run',
        hint=f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}.",
    )


def show_events(
    config: Path | None, store: Path | None, since: str | None, until: str | None, limit: int, form: Format
) -> ExitStatus:
    """Print what happened while the cluster was watched; with a history named alone, of all clusters in it."""
    source, now = find_source(config, store), datetime.now(UTC)
    found, damaged = list_events(
        source.store,
        source.configuration.cluster if source.configuration else None,
        since=moment_of(since, flag="--since", now=now, zone=source.zone) if since else None,
        until=moment_of(until, flag="--until", now=now, zone=source.zone) if until else None,
        limit=limit,
    )

    def draw(console: Console, style: Style) -> None:
        print_cluster_events(found, console, style)

    text = cluster_events_json(found, store=str(source.store))
    status = _printed(text if form is Format.JSON else draw, source)
    if damaged:
        Display(quiet=True).note(f"warning: {counted(damaged, 'damaged event')} left out")
        return ExitStatus.UNCHECKED
    return status


def show_run(config: Path | None, store: Path | None, name: str, form: Format) -> ExitStatus:
    """Print the record of one run."""
    source, now = find_source(config, store), datetime.now(UTC)
    past = find_run(source.store, name)

    def draw(console: Console, style: Style) -> None:
        print_run(past, console, style, now=now)

    return _printed(run_json(past) if form is Format.JSON else draw, source)


def write_report(config: Path | None, store: Path | None, name: str, written: Written) -> ExitStatus:
    """Write the report of one run again, as its run did."""
    source = find_source(config, store)
    stored = read_report(source.store, name)

    def draw(console: Console, style: Style) -> None:
        print_stored(stored.result, console, style, source, quiet=written.quiet, verbose=written.verbose)

    check_output(written.output)
    document = stored.document
    if isinstance(document, dict):
        document = with_evidence(document, stored.evidence)
    text = json.dumps(document, indent=2) + "\n"
    return _printed(text if written.format is Format.JSON else draw, source, written.output)


def print_stored(
    result: AuditResult | DrillResult | PastSeal | CheckResult,
    console: Console,
    style: Style,
    source: Source,
    *,
    quiet: bool = False,
    verbose: bool = False,
) -> None:
    """Print the result of a past run as its command did."""
    match result:
        case PastSeal():
            follow = _follow(result, source)
            print_past_seal(result, console, style, follow=follow, quiet=quiet, verbose=verbose)
        case CheckResult() if quiet:
            print_check_verdict(result, console, style)
        case CheckResult():
            print_check(result, console, style, verbose=verbose)
        case DrillResult() if quiet:
            print_drill_briefly(result, console, style)
        case DrillResult():
            print_drill(result, console, style, verbose=verbose)
        case AuditResult() if quiet:
            print_verdict(result, console, style)
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


def write_period(
    config: Path | None, store: Path | None, run: str | None, since: str | None, until: str | None, written: Written
) -> ExitStatus:
    """Write the sum of a period; raise UsageError where neither a run nor a period was named, or both."""
    if run is not None:
        raise UsageError("a run and a period were named", hint="Give one of them: RUN, or --since and --until.")
    if since is None and until is None:
        raise UsageError(
            "no run was named",
            hint='Try "replcheck report latest", or a period such as "replcheck report --since 30d".',
        )
    source, now = find_source(config, store), datetime.now(UTC)
    begin = moment_of(since, flag="--since", now=now, zone=source.zone) if since else None
    end = moment_of(until, flag="--until", now=now, zone=source.zone) if until else None
    if begin is not None and begin >= (end or now):
        raise UsageError("the period ends before it begins", hint="Give --since the earlier time.")
    period = summarize(source.store, since=begin, until=end, now=now)

    def draw(console: Console, style: Style) -> None:
        print_period(period, console, style, verbose=written.verbose)

    check_output(written.output)
    status = _printed(period_json(period) if written.format is Format.JSON else draw, source, written.output)
    return ExitStatus.UNCHECKED if period.unread else status


def _printed(what: str | Draw, source: Source, output: Path | None = None) -> ExitStatus:
    """Deliver a text as it is, or what is drawn, as the place it goes to shows it."""

    def write(target: TextIO) -> str:
        return what if isinstance(what, str) else page(target, source.configuration, what)

    failure = deliver(write, output)
    if failure is not None:
        Display(quiet=True).note(f"error: cannot write the report: {failure}")
        return ExitStatus.UNCHECKED
    return ExitStatus.PROVEN
