"""`replcheck doctor` from its options to its exit status: 0 where nothing required is missing, else 3."""

import shlex
from functools import partial
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

from replcheck.cli.arguments import DoctorArguments
from replcheck.cli.display import Display
from replcheck.cli.nodes import configuration_for
from replcheck.cli.options import Format
from replcheck.cli.output import check_output, deliver, page
from replcheck.errors import ReplcheckError
from replcheck.model.doctor import DoctorResult
from replcheck.model.outcome import ExitStatus
from replcheck.postgres import dsn
from replcheck.report.doctor import doctor_json
from replcheck.report.doctor_human import print_doctor, print_readiness
from replcheck.report.style import Style
from replcheck.runs.doctor import run_doctor
from replcheck.runs.request import AuditFlags, audit_request, is_node_name

if TYPE_CHECKING:
    from replcheck.config.model import Configuration


def examine_and_report(arguments: DoctorArguments) -> ExitStatus:
    """Examine the nodes, print what was found and return the exit status; raise what kept it from beginning."""
    configuration = configuration_for(arguments.primary, arguments.replicas, arguments.config)
    request = audit_request(_flags(arguments), configuration)
    check_output(arguments.output)
    command, left_out = audit_command(arguments)
    display = Display(quiet=arguments.quiet)
    if left_out:
        display.note(f"note: the command at the end lacks {', '.join(left_out)}: add it again")
    result = run_doctor(request, command=command)
    trouble = deliver(partial(_rendered, result, arguments, configuration), arguments.output)
    if trouble is not None:
        raise ReplcheckError(f"cannot write the report: {trouble}")
    return display.heard(result.exit_status)


def audit_command(arguments: DoctorArguments) -> tuple[str, tuple[str, ...]]:
    """Return the audit of the same nodes and scope as it may be typed, and the words left out of it as secrets.

    Passwords belong in the password file; one that stands in a connection string is not repeated.
    """
    words = ["replcheck", "audit"]
    left_out: set[str] = set()
    for option, given in (("--primary", (arguments.primary,)), ("--replica", arguments.replicas)):
        for text in given:
            if text:
                told, dropped = (text, ()) if is_node_name(text) else dsn.tellable(text)
                words += [option, told]
                left_out.update(dropped)
    if arguments.config is not None:
        words += ["--config", str(arguments.config)]
    if arguments.jobs is not None:
        words += ["--jobs", str(arguments.jobs)]
    scope = (("--database", arguments.databases), ("--table", arguments.tables), ("--exclude", arguments.excludes))
    words += [word for option, patterns in scope for pattern in patterns for word in (option, pattern)]
    if arguments.catalogs is not None:
        words.append("--catalogs" if arguments.catalogs else "--no-catalogs")
    return shlex.join(words), tuple(sorted(left_out))


def _flags(arguments: DoctorArguments) -> AuditFlags:
    return AuditFlags(
        primary=arguments.primary,
        replicas=arguments.replicas,
        jobs=arguments.jobs,
        databases=arguments.databases or None,
        tables=arguments.tables or None,
        excludes=arguments.excludes or None,
        catalogs=arguments.catalogs,
    )


def _rendered(
    result: DoctorResult, arguments: DoctorArguments, configuration: "Configuration | None", target: TextIO
) -> str:
    if arguments.format is Format.JSON:
        return doctor_json(result)

    def draw(console: Console, style: Style) -> None:
        if arguments.quiet:
            print_readiness(result, console, style)
        else:
            print_doctor(result, console, style, verbose=arguments.verbose)

    return page(target, configuration, draw)
