"""`replcheck audit --plan` from its request to its exit status: 0 where there is a plan, 3 where there can't be one."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

from replcheck.cli.arguments import AuditArguments
from replcheck.cli.display import Display
from replcheck.cli.options import Format
from replcheck.cli.output import deliver, page
from replcheck.errors import ReplcheckError, UsageError
from replcheck.model.outcome import ExitStatus
from replcheck.model.plan import AuditPlan
from replcheck.report.plan import print_estimate, print_plan
from replcheck.report.plan_document import plan_json
from replcheck.report.style import Style
from replcheck.runs.plan import plan_audit
from replcheck.runs.request import AuditRequest

if TYPE_CHECKING:
    from replcheck.config.model import Configuration


def plan_and_report(
    request: AuditRequest,
    arguments: AuditArguments,
    configuration: "Configuration | None",
    store: Path | None,
) -> ExitStatus:
    """Print what the audit of a request would do; raise the error that would keep it from beginning."""
    if arguments.events is not None:
        raise UsageError("--plan reads no row, so it has no events to write", hint="Leave out --events.")
    display = Display(quiet=arguments.quiet)
    plan = plan_audit(request, store=store, tell=display.note)
    trouble = deliver(partial(_rendered, plan, arguments, configuration), arguments.output)
    if trouble is not None:
        raise ReplcheckError(f"cannot write the plan: {trouble}")
    return display.heard(ExitStatus.PROVEN)


def _rendered(plan: AuditPlan, arguments: AuditArguments, configuration: "Configuration | None", target: TextIO) -> str:
    if arguments.format is Format.JSON:
        return plan_json(plan)

    def draw(console: Console, style: Style) -> None:
        if arguments.quiet:
            print_estimate(plan, console, style)
        else:
            print_plan(plan, console, style, verbose=arguments.verbose)

    return page(target, configuration, draw)
