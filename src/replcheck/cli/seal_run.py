"""`replcheck seal` from its options to its exit status: request, run, report, record."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

from replcheck.cli.arguments import SealArguments
from replcheck.cli.display import Display
from replcheck.cli.next_drill import next_drill
from replcheck.cli.nodes import configuration_for
from replcheck.cli.options import Format
from replcheck.cli.output import check_output, deliver, events_to, page, require_one_reader
from replcheck.config import find_file
from replcheck.drill.seal_options import DumpFormat
from replcheck.drill.seals import seal_folder
from replcheck.errors import UsageError
from replcheck.model.evidence import EvidenceHead
from replcheck.model.outcome import ExitStatus, Outcome, worst
from replcheck.model.run import UNNAMED_CLUSTER
from replcheck.model.seal import SealResult
from replcheck.model.units import parse_duration
from replcheck.report.seal import print_seal, print_seal_verdict, seal_json
from replcheck.report.style import Style
from replcheck.runs.seal import FinishedSeal, SealFlags, run_seal, seal_request
from replcheck.store import default_path

if TYPE_CHECKING:
    from replcheck.config.model import Configuration


def seal_and_report(arguments: SealArguments) -> ExitStatus:
    """Make one seal, print its report and return the exit status; raise the error that kept it from a result."""
    configuration = configuration_for(arguments.primary, (), arguments.config)
    cluster = configuration.cluster if configuration else UNNAMED_CLUSTER
    folder = arguments.folder or seal_folder(cluster, configuration, os.environ)
    request = seal_request(_flags(arguments), configuration, folder)
    require_one_reader(arguments.events, arguments.output)
    check_output(arguments.output)
    display = Display(quiet=arguments.quiet)
    store = _store(arguments, configuration, cluster)
    with events_to(arguments.events) as sinks, display.progress() as progress:
        finished = run_seal(request, sinks=[progress, *sinks], store=store, tell=display.note)
    if finished.unrecorded:
        display.note(f"warning: this run is not recorded: {finished.unrecorded}")
    return _report(finished, arguments, configuration, display)


def _report(
    finished: FinishedSeal, arguments: SealArguments, configuration: "Configuration | None", display: Display
) -> ExitStatus:
    if finished.error is not None:
        raise finished.error
    assert finished.result is not None  # noqa: S101 - a run without an error has a result
    trouble = deliver(
        partial(_rendered, finished.result, finished.evidence, arguments, configuration), arguments.output
    )
    if trouble is not None:
        display.note(f"error: cannot write the report: {trouble}")
        return worst([finished.record.outcome, Outcome.UNCHECKED]).exit_status
    return finished.record.exit_status


def _flags(arguments: SealArguments) -> SealFlags:
    return SealFlags(
        primary=arguments.primary,
        databases=arguments.databases,
        tables=arguments.tables,
        excludes=arguments.excludes,
        catalogs=arguments.catalogs,
        jobs=arguments.jobs,
        max_age_s=_seconds(arguments.max_age),
        dump_file=arguments.dump,
        dump_format=DumpFormat(arguments.dump_format.value),
    )


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--max-age {error}") from error
    if seconds < 1:
        raise UsageError("--max-age must be at least 1s")
    return seconds


def _store(arguments: SealArguments, configuration: "Configuration | None", cluster: str) -> Path | None:
    if arguments.no_store:
        return None
    if configuration is not None and configuration.output.store is not None:
        return Path(configuration.output.store)
    return default_path(cluster, os.environ)


def _rendered(
    result: SealResult,
    evidence: EvidenceHead | None,
    arguments: SealArguments,
    configuration: "Configuration | None",
    target: TextIO,
) -> str:
    if arguments.format is Format.JSON:
        return seal_json(result, evidence)

    def draw(console: Console, style: Style) -> None:
        if arguments.quiet:
            print_seal_verdict(result, console, style)
        else:
            print_seal(
                result, console, style, follow=_follow(result, arguments, configuration), verbose=arguments.verbose
            )

    return page(target, configuration, draw)


def _follow(result: SealResult, arguments: SealArguments, configuration: "Configuration | None") -> str:
    manifest = result.seal.manifest
    return next_drill(
        manifest.seal_id,
        Path(result.seal.file),
        dump=manifest.dump.file if manifest.dump is not None else None,
        configuration=configuration,
        config=find_file(arguments.config, os.environ) if configuration is not None else None,
        folder=seal_folder(manifest.cluster, configuration, os.environ),
    )
