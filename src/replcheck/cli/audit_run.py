"""`replcheck audit` from its options to its exit status: request, run, report, record.

The verdict is printed before anything is said of its record, and no failure to write turns into another verdict than
3, or 2 where a divergence was found.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

from replcheck.cli.arguments import AuditArguments
from replcheck.cli.display import Display
from replcheck.cli.keys import Keys
from replcheck.cli.nodes import configuration_for
from replcheck.cli.options import Format
from replcheck.cli.output import check_output, deliver, events_to, page, require_one_reader
from replcheck.errors import UsageError
from replcheck.model.audit import AuditResult
from replcheck.model.evidence import EvidenceHead
from replcheck.model.outcome import ExitStatus, Outcome, worst
from replcheck.model.units import parse_duration, parse_percent
from replcheck.report.document import audit_json
from replcheck.report.human import print_audit, print_verdict
from replcheck.report.style import Style
from replcheck.runs.audit import Auditor, FinishedAudit, run_audit
from replcheck.runs.request import AuditFlags, AuditRequest, audit_request, pause_limits
from replcheck.runs.sinks import Sink
from replcheck.store import default_path

if TYPE_CHECKING:
    from replcheck.config.model import Configuration


def audit_and_report(arguments: AuditArguments, *, auditor: Auditor | None = None) -> ExitStatus:
    """Run one audit, print its report and return the exit status; raise the error that kept it from a result."""
    configuration = configuration_for(arguments.primary, arguments.replicas, arguments.config)
    request = audit_request(_flags(arguments), configuration)
    require_one_reader(arguments.events, arguments.output)
    check_output(arguments.output)
    if arguments.plan:
        from replcheck.cli.plan_run import plan_and_report

        return plan_and_report(request, arguments, configuration, history_file(arguments, configuration, request))
    display = Display(quiet=arguments.quiet)
    store = history_file(arguments, configuration, request)
    if store is None and not arguments.no_store:
        display.note(
            "warning: no record of this run is kept: neither XDG_STATE_HOME nor HOME is set (or use --no-store)"
        )
    with events_to(arguments.events) as sinks:
        finished = _run(request, sinks, store, display, auditor)
    if finished.error is not None:
        _warn_unrecorded(finished, display)
        raise finished.error
    assert finished.result is not None  # noqa: S101 - a run without an error has a result
    render = partial(_rendered, finished.result, finished.evidence, arguments, configuration)
    delivered = deliver(render, arguments.output)
    _warn_unrecorded(finished, display)
    if delivered is not None:
        display.note(f"error: cannot write the report: {delivered}")
        return worst([finished.record.outcome, Outcome.UNCHECKED]).exit_status
    return display.heard(finished.record.exit_status)


def _flags(arguments: AuditArguments) -> AuditFlags:
    return AuditFlags(
        primary=arguments.primary,
        replicas=arguments.replicas,
        level=arguments.level,
        jobs=arguments.jobs,
        databases=arguments.databases or None,
        tables=arguments.tables or None,
        excludes=arguments.excludes or None,
        where=arguments.where or None,
        cross_check=_share("--cross-check", arguments.cross_check),
        catalogs=arguments.catalogs,
        indexes=arguments.indexes,
        max_snapshot_age_s=_seconds("--max-snapshot-age", arguments.max_snapshot_age, most=3600),
        node_timeout_s=_seconds("--node-timeout", arguments.node_timeout),
        pacing=arguments.pace,
        pause_if=pause_limits(arguments.pause_if),
        pause_file=arguments.pause_file,
        fail_fast=arguments.fail_fast,
        time_budget_s=_seconds("--time-budget", arguments.time_budget),
        resume=arguments.resume,
    )


def _seconds(flag: str, text: str | None, *, least: float = 1, most: float = float("inf")) -> float | None:
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{flag} {error}") from error
    if not least <= seconds <= most:
        bounds = f"at least {least:g}s" if most == float("inf") else f"between {least:g}s and {most:g}s"
        raise UsageError(f"{flag} must be {bounds}")
    return seconds


def _share(flag: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_percent(text)
    except ValueError as error:
        raise UsageError(f"{flag} {error}") from error


def history_file(
    arguments: AuditArguments, configuration: "Configuration | None", request: AuditRequest
) -> Path | None:
    """Return the file of the history; None where none is wanted or the environment names no place for it."""
    if arguments.no_store:
        if arguments.resume:
            raise UsageError("--resume needs the history of the run that it goes on with", hint="Leave out --no-store.")
        return None
    if configuration is not None and configuration.output.store is not None:
        return Path(configuration.output.store)
    return default_path(request.cluster, os.environ)


def _run(
    request: AuditRequest, sinks: Sequence[Sink], store: Path | None, display: Display, auditor: Auditor | None
) -> FinishedAudit:
    with display.progress() as progress:
        return run_audit(
            request,
            sinks=[progress, *sinks],
            store=store,
            tell=display.note,
            hands=Keys(wanted=display.live),
            auditor=auditor,
        )


def _rendered(
    result: AuditResult,
    evidence: EvidenceHead | None,
    arguments: AuditArguments,
    configuration: "Configuration | None",
    target: TextIO,
) -> str:
    if arguments.format is Format.JSON:
        return audit_json(result, evidence)

    def draw(console: Console, style: Style) -> None:
        if arguments.quiet:
            print_verdict(result, console, style, alone=True)
        else:
            print_audit(result, console, style, verbose=arguments.verbose)

    return page(target, configuration, draw)


def _warn_unrecorded(finished: FinishedAudit, display: Display) -> None:
    if finished.unrecorded:
        display.note(f"warning: this run is not recorded: {finished.unrecorded}")
