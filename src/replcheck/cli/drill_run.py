"""`replcheck drill` from its options to its exit status: request, runs, report, record.

The verdict is printed before anything is said of the history, and no failure to write turns into another verdict than
3, or 2 where a backup was refuted.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console

from replcheck.cli.arguments import DrillArguments
from replcheck.cli.display import Display
from replcheck.cli.options import Format
from replcheck.cli.output import check_output, deliver, events_to, page, require_one_reader
from replcheck.config import VARIABLE, find_file, load
from replcheck.config.model import Configuration, Scratch
from replcheck.errors import UsageError
from replcheck.model.drill import DrillVerdict
from replcheck.model.outcome import ExitStatus, Outcome, worst
from replcheck.report.drill import drill_document, drill_json, drills_json
from replcheck.report.drill_human import print_all_drills, print_drill, print_drill_briefly
from replcheck.report.evidence_document import with_evidence
from replcheck.report.style import Style
from replcheck.runs.drill import FinishedDrill, Parts, clean_up, run_drills
from replcheck.runs.drill_request import DrillFlags, DrillRequest, commands_of, drill_request, scratch_folder
from replcheck.store import default_path


def drill_and_report(arguments: DrillArguments, *, parts: Parts | None = None) -> ExitStatus:
    """Run the drills, print their reports and return the exit status; raise the error that kept all from a result."""
    configuration = _configuration(arguments)
    display = Display(quiet=arguments.quiet)
    if arguments.clean:
        return _clean(arguments, configuration, display)
    request = drill_request(_flags(arguments), configuration)
    require_one_reader(arguments.events, arguments.output)
    check_output(arguments.output)
    store = _history_file(arguments, configuration, request)
    if store is None and not arguments.no_store:
        display.note(
            "warning: no record of this run is kept: neither XDG_STATE_HOME nor HOME is set (or use --no-store)"
        )
    with events_to(arguments.events) as sinks, display.drill_progress() as progress:
        done = run_drills(request, sinks=[progress, *sinks], store=store, tell=display.note, parts=parts)
    return _report(done, request, arguments, configuration, display)


def _report(
    done: Sequence[FinishedDrill],
    request: DrillRequest,
    arguments: DrillArguments,
    configuration: Configuration | None,
    display: Display,
) -> ExitStatus:
    delivered = None
    if any(drill.result is not None for drill in done):
        delivered = deliver(lambda target: _rendered(done, request, arguments, configuration, target), arguments.output)
    for problem in dict.fromkeys(drill.unrecorded for drill in done if drill.unrecorded):
        display.note(f"warning: this run is not recorded: {problem}")
    failures = [drill.error for drill in done if drill.error is not None]
    if failures and len(failures) == len(done):
        raise failures[0]
    for error in failures:
        display.note(f"error: {error.message}")
    outcomes = [drill.record.outcome for drill in done]
    if delivered is not None:
        display.note(f"error: cannot write the report: {delivered}")
        outcomes.append(Outcome.UNCHECKED)
    return worst(outcomes).exit_status


def _rendered(
    done: Sequence[FinishedDrill],
    request: DrillRequest,
    arguments: DrillArguments,
    configuration: Configuration | None,
    target: TextIO,
) -> str:
    reported = [(drill.result, drill.evidence) for drill in done if drill.result is not None]
    results = [result for result, _ in reported]
    verdicts = [DrillVerdict(drill.record.verdict) for drill in done]
    if arguments.format is Format.JSON:
        if not request.every:
            return drill_json(*reported[0])
        return drills_json([with_evidence(drill_document(result), head) for result, head in reported], verdicts)

    def draw(console: Console, style: Style) -> None:
        for number, result in enumerate(results):
            if arguments.quiet:
                print_drill_briefly(result, console, style)
                continue
            if number:
                console.print()
            print_drill(result, console, style, verbose=arguments.verbose)
        if request.every:
            print_all_drills(verdicts, console, style)

    return page(target, configuration, draw)


def _require_only_clean(arguments: DrillArguments) -> None:
    """Raise UsageError where a drill was asked for beside the clean-up: it would not be done."""
    given = {
        "BACKUP": arguments.backup,
        "--from": arguments.source,
        "--target": arguments.target,
        "--all": arguments.every,
        "--keep": arguments.keep,
    }
    beside = next((name for name, value in given.items() if value), None)
    if beside is not None:
        raise UsageError(
            f"--clean and {beside} were given", hint="Clean up first, then drill: --clean does nothing else."
        )


def _clean(arguments: DrillArguments, configuration: Configuration | None, display: Display) -> ExitStatus:
    _require_only_clean(arguments)
    root = scratch_folder(arguments.scratch, configuration, os.environ)
    scratch = configuration.drill.scratch if configuration is not None else None
    scratch_dsn = scratch.dsn if isinstance(scratch, Scratch) else None
    cleaned = clean_up(root, scratch_dsn, commands=commands_of(configuration))
    places = f"{root} and on the server of scratch.dsn" if scratch_dsn is not None else str(root)
    told = [f"{what} was removed" for what in cleaned.removed]
    if not told and not cleaned.left:
        told = [f"nothing was left in {places}"]
    failure = deliver(lambda _: "".join(f"{text}\n" for text in told), None)
    for left in cleaned.left:
        display.note(f"error: {left}")
    return ExitStatus.PROVEN if failure is None and not cleaned.left else ExitStatus.UNCHECKED


def _configuration(arguments: DrillArguments) -> Configuration | None:
    """Return the configuration that is named or found.

    A backup that is spelled out is looked up in none by chance, but for its seal: seals lie where the cluster has them.
    """
    named = arguments.config is not None or bool(os.environ.get(VARIABLE))
    by_seal = arguments.target is not None and arguments.target.startswith("seal:")
    if arguments.source is not None and not named and not by_seal:
        return None
    path = find_file(arguments.config, os.environ)
    return load(path) if path else None


def _flags(arguments: DrillArguments) -> DrillFlags:
    return DrillFlags(
        backup=arguments.backup,
        source=arguments.source,
        wal=arguments.wal,
        globals=arguments.globals,
        copy=arguments.copy,
        every=arguments.every,
        target=arguments.target,
        scratch=arguments.scratch,
        require=arguments.require,
        layers=arguments.layers,
        primary=arguments.primary,
        keep=arguments.keep,
    )


def _history_file(arguments: DrillArguments, configuration: Configuration | None, request: DrillRequest) -> Path | None:
    if arguments.no_store:
        return None
    if configuration is not None and configuration.output.store is not None:
        return Path(configuration.output.store)
    return default_path(request.cluster, os.environ)
