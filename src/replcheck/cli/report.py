"""The options of `replcheck report`; what happens then is in `report_run`, which is imported when it is needed."""

from typing import Annotated

import typer

from replcheck.cli.completion import complete_run
from replcheck.cli.history import Config, Store
from replcheck.cli.options import Output, ReportForm


def report(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", autocompletion=complete_run, help="The run's id, the beginning of it, or latest."
        ),
    ] = None,
    config: Config = None,
    store: Store = None,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION|DATE", help="Instead of one run: all since then, together.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="DURATION|DATE", help="All that began before then, together.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of which cluster, where the history holds several.")
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        ReportForm,
        typer.Option(envvar="REPLCHECK_FORMAT", help="How it is written; claims sets promises beside proofs."),
    ] = ReportForm.HUMAN,
    output: Output = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the verdict.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every relation and alignment.")] = False,
) -> None:
    """Write the report of one past run again, or that of a period.

    It judges nothing: the status is 0 where the report was written, whatever it says, else 3.
    """
    from replcheck.cli.report_run import PeriodGiven, Written, write_period, write_report

    written = Written(form=format, output=output, quiet=quiet, verbose=verbose)
    if run is None or since is not None or until is not None or cluster is not None:
        given = PeriodGiven(run=run, since=since, until=until, cluster=cluster)
        raise typer.Exit(int(write_period(config, store, given, written)))
    raise typer.Exit(int(write_report(config, store, run, written)))
