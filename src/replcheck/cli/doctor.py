"""The options of `replcheck doctor`; what happens then is in `doctor_run`, which is imported when it is needed."""

from typing import Annotated

import typer

from replcheck.cli.arguments import DoctorArguments
from replcheck.cli.options import (
    Catalogs,
    Config,
    Databases,
    Excludes,
    Format,
    Jobs,
    Output,
    Primary,
    Replicas,
    ReportFormat,
    Tables,
)


def doctor(
    primary: Primary = None,
    replica: Replicas = None,
    config: Config = None,
    jobs: Jobs = None,
    database: Databases = None,
    table: Tables = None,
    exclude: Excludes = None,
    catalogs: Catalogs = None,
    format: ReportFormat = Format.HUMAN,  # noqa: A002 - the option's name
    output: Output = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only whether an audit can be proven, and what to type next.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="List what is in order, and every database.")
    ] = False,
) -> None:
    """Say what an audit needs and lacks on each node, the SQL that grants it, and what it will cost; only reads.

    Options mean what they mean to audit. Ends with status 3 where something required is missing, else with 0.
    """
    from replcheck.cli.doctor_run import examine_and_report

    arguments = DoctorArguments(
        primary=primary,
        replicas=tuple(replica or ()),
        config=config,
        jobs=jobs,
        databases=tuple(database or ()),
        tables=tuple(table or ()),
        excludes=tuple(exclude or ()),
        catalogs=catalogs,
        format=format,
        output=output,
        quiet=quiet,
        verbose=verbose,
    )
    raise typer.Exit(int(examine_and_report(arguments)))
