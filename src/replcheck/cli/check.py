"""The options of `replcheck check`; what happens then is in `check_run`, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated

import typer

from replcheck.cli.arguments import CheckArguments
from replcheck.cli.completion import complete_control
from replcheck.cli.options import CheckFormat, Config, Output


def check(
    control: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", autocompletion=complete_control, help="Only this control; may be repeated."),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(metavar="WORK,...", help="Do this work first where it is due: audit, drill, or both."),
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Begin no more work after so long, such as 50min.")
    ] = None,
    stale_after: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="With --format nagios: how old the last look may be (15min)."),
    ] = None,
    config: Config = None,
    format: Annotated[  # noqa: A002 - the option's name
        CheckFormat, typer.Option(help="How it is written; nagios answers from the history, at once.")
    ] = CheckFormat.HUMAN,
    output: Output = None,
    metrics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write OpenMetrics there too, for a node exporter.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only the verdict, and only if not all is well.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every control, also where all is well.")] = False,
    no_store: Annotated[bool, typer.Option("--no-store", help="Keep no record of this check.")] = False,
) -> None:
    """Evaluate every control of the policy once: made for cron, silent when all is well.

    It rests on what the history holds of audits, drills and the watch, and on one look at the nodes.
    """
    from replcheck.cli.check_run import check_and_report

    arguments = CheckArguments(
        controls=tuple(control or ()),
        run=tuple(run or ()),
        time_budget=time_budget,
        stale_after=stale_after,
        config=config,
        format=format,
        output=output,
        metrics=metrics,
        quiet=quiet,
        verbose=verbose,
        no_store=no_store,
    )
    raise typer.Exit(int(check_and_report(arguments)))
