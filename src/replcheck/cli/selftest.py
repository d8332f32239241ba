"""The options of `replcheck selftest`; what happens then is in `selftest_run`, imported when it is needed."""

from pathlib import Path
from typing import Annotated

import typer

from replcheck.cli.options import Format


def selftest(
    major: Annotated[
        int | None, typer.Option(metavar="VERSION", help="PostgreSQL's major version; the newest one found.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer values of each type, and no node is stopped or promoted.")
    ] = False,
    format: Annotated[  # noqa: A002 - the option's name
        Format, typer.Option(help="How the report is written.")
    ] = Format.HUMAN,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the cluster running, broken as it is, as the lab's `selftest`.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where the servers live, instead of the lab's folder.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Sign its record with the key of this configuration; also REPLCHECK_CONFIG."),
    ] = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="Keep no record of this run.")] = False,
) -> None:
    """Plant every known difference in a cluster of its own, and count those that an audit sees.

    It ends with status 0 where all were seen and no healthy twin was accused, with 2 where one was missed or accused,
    and with 3 where it could not run.
    """
    from replcheck.cli.selftest_run import selftest_and_report

    raise typer.Exit(
        int(
            selftest_and_report(
                major=major,
                quick=quick,
                format_=format,
                keep=keep,
                directory=directory,
                config=config,
                no_store=no_store,
            )
        )
    )
