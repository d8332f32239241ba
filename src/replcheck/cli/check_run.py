"""`replcheck check` from its options to its exit status: request, evaluation, reports, record.

A plugin's line is always printed, whatever goes wrong. What cannot be written turns into no other verdict than 3, or 2
where a control was breached. Where all is well nothing is printed, and little is loaded.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from replcheck.cli.arguments import CheckArguments
from replcheck.cli.options import CheckFormat
from replcheck.config import find_file, load
from replcheck.config.model import Configuration
from replcheck.errors import AlreadyRunning, ConfigurationError, ReplcheckError, UsageError
from replcheck.model.control import CheckResult
from replcheck.model.outcome import ExitStatus, Outcome, worst
from replcheck.report.check_document import check_json
from replcheck.runs.check import CheckParts, FinishedCheck, answer_from_history, run_check
from replcheck.runs.check_request import CheckFlags, CheckRequest, check_request
from replcheck.runs.files import write_atomically
from replcheck.runs.ping import Ping, ping_address
from replcheck.runs.records import now
from replcheck.store import default_path

if TYPE_CHECKING:
    from rich.console import Console

    from replcheck.report.style import Style

_NO_HOME = "no record of this check is kept: neither XDG_STATE_HOME nor HOME is set (or use --no-store)"


def check_and_report(arguments: CheckArguments, *, parts: CheckParts | None = None) -> ExitStatus:
    """Make one check, write its reports and return the exit status; raise the error that kept it from a result."""
    parts = parts or CheckParts()
    if arguments.format is CheckFormat.NAGIOS:
        return _answer(arguments, parts)
    configuration = _configuration(arguments)
    metrics = arguments.metrics or _path(configuration.output.metrics)
    store = _path(configuration.output.store) or default_path(configuration.cluster, os.environ)
    try:
        request = _request(arguments, configuration)
        _require_writable(arguments.output)
        if store is None and not arguments.no_store:
            _note(f"warning: {_NO_HOME}")
        finished = run_check(request, store=store, record=not arguments.no_store, tell=_note, parts=parts)
    except AlreadyRunning:
        raise  # the one that is at work tells the monitor how it ends
    except ReplcheckError as error:
        _ping_failure(configuration, error, parts)
        raise
    if finished.result is None:
        _warn_unrecorded(finished)
        raise finished.error or ReplcheckError("the check came to no result")
    trouble = [_written_metrics(finished, metrics), _reported(finished, arguments, configuration)]
    _warn_unrecorded(finished)
    for problem in filter(None, trouble):
        _note(f"error: {problem}")
    return worst([finished.record.outcome, *(Outcome.UNCHECKED for problem in trouble if problem)]).exit_status


def _configuration(arguments: CheckArguments) -> Configuration:
    path = find_file(arguments.config, os.environ)
    if path is None:
        raise ConfigurationError(
            "there is no configuration, and so no policy to check", hint="Name one with --config FILE."
        )
    return load(path)


def _request(arguments: CheckArguments, configuration: Configuration) -> CheckRequest:
    if arguments.stale_after is not None:
        raise UsageError(
            "--stale-after was given without --format nagios", hint="Any other check looks at the nodes itself."
        )
    flags = CheckFlags(controls=arguments.controls, run=arguments.run, time_budget=arguments.time_budget)
    request = check_request(flags, configuration, now())
    return replace(request, ping=ping_address(configuration.output.ping_env))


def _answer(arguments: CheckArguments, parts: CheckParts) -> ExitStatus:
    """Print a plugin's line from what the history holds: always one, whatever goes wrong."""
    from replcheck.report.plugin import plugin_error, plugin_line

    line, status = plugin_error("internal error"), ExitStatus.UNCHECKED
    try:
        for option, given in (("--run", arguments.run), ("--metrics", arguments.metrics)):
            if given:
                raise UsageError(f"{option} and --format nagios were given: that answers from the history alone")
        configuration = _configuration(arguments)
        store = _path(configuration.output.store) or default_path(configuration.cluster, os.environ)
        flags = CheckFlags(controls=arguments.controls, stale_after=arguments.stale_after)
        result = answer_from_history(check_request(flags, configuration, parts.clock()), store, parts.clock)
        line, status = plugin_line(result), result.outcome.exit_status
    except ReplcheckError as error:
        line = plugin_error(error.message)
    finally:
        problem = _delivered(lambda _: line, arguments.output)
    return _worst_of(status, problem)


def _worst_of(status: ExitStatus, problem: str | None) -> ExitStatus:
    """Return the status of a result that could not be delivered for a reason; as it is where there is none."""
    return ExitStatus.UNCHECKED if problem is not None and status is not ExitStatus.REFUTED else status


def _reported(finished: FinishedCheck, arguments: CheckArguments, configuration: Configuration) -> str | None:
    """Write the report where there is one to be written; return why it could not be."""
    result = _result(finished)
    if arguments.format is CheckFormat.JSON:
        return _delivered(lambda _: check_json(result, finished.evidence), arguments.output)
    if arguments.format is CheckFormat.JUNIT:
        from replcheck.report.junit import junit_text

        return _delivered(lambda _: junit_text(result, finished.evidence), arguments.output)
    if result.outcome is Outcome.PROVEN and not arguments.verbose and arguments.output is None:
        return None
    return _delivered(lambda target: _drawn(result, arguments, configuration, target), arguments.output)


def _drawn(result: CheckResult, arguments: CheckArguments, configuration: Configuration, target: TextIO) -> str:
    from replcheck.cli.output import page
    from replcheck.report.check_human import print_check, print_check_verdict

    def draw(console: "Console", style: "Style") -> None:
        if arguments.quiet:
            print_check_verdict(result, console, style)
        else:
            print_check(result, console, style, verbose=arguments.verbose)

    return page(target, configuration, draw)


def _delivered(render: Callable[[TextIO], str], output: Path | None) -> str | None:
    from replcheck.cli.output import deliver

    problem = deliver(render, output)
    return f"cannot write the report: {problem}" if problem is not None else None


def _result(finished: FinishedCheck) -> CheckResult:
    assert finished.result is not None  # noqa: S101 - a check without one has raised its error by now
    return finished.result


def _written_metrics(finished: FinishedCheck, path: Path | None) -> str | None:
    if path is None:
        return None
    from replcheck.report.metrics import metrics_text

    try:
        write_atomically(path, metrics_text(_result(finished), finished.evidence))
    except OSError as error:
        return f"cannot write the metrics to {path}: {(error.strerror or 'unknown error').lower()}"
    return None


def _require_writable(output: Path | None) -> None:
    if output is not None:
        from replcheck.cli.output import check_output

        check_output(output)


def _ping_failure(configuration: Configuration, error: ReplcheckError, parts: CheckParts) -> None:
    """Tell a monitor that there was no check; what keeps that from being told is no news beside the error."""
    try:
        address = ping_address(configuration.output.ping_env)
    except ConfigurationError:
        return
    Ping(address, _note, parts.patience).failure(error.message)


def _warn_unrecorded(finished: FinishedCheck) -> None:
    if finished.unrecorded:
        _note(f"warning: this check is not recorded: {finished.unrecorded}")


def _note(text: str) -> None:
    from replcheck.cli.display import Display

    Display(quiet=True).note(text)
    sys.stderr.flush()


def _path(text: str | None) -> Path | None:
    return Path(text) if text is not None else None
