"""The options of `replcheck report`; what happens then is in `history_run`, which is imported when it is needed."""

from typing import Annotated

import typer

from replcheck.cli.completion import complete_run
from replcheck.cli.history import Config, FormatOption, Store
from replcheck.cli.options import Format, Output


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
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
    output: Output = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the verdict.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every relation and alignment.")] = False,
) -> None:
    """Write the report of one past run again, or the sum of a period.

    It judges nothing: the status is 0 where the report was written, whatever it says, else 3.
    """
    from replcheck.cli.history_run import Written, write_period, write_report

    written = Written(format=format, output=output, quiet=quiet, verbose=verbose)
    if run is None or since is not None or until is not None:
        raise typer.Exit(int(write_period(config, store, run, since, until, written)))
    raise typer.Exit(int(write_report(config, store, run, written)))
