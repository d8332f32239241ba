"""The options of `replcheck seal`; what happens then is in `seal_run`, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated

import typer

from replcheck.cli.arguments import SealArguments
from replcheck.cli.completion import complete_node
from replcheck.cli.options import Config, Databases, DumpForm, Format, Output, ReportFormat, Tables


def seal(
    primary: Annotated[
        str | None,
        typer.Option(
            metavar="DSN",
            autocompletion=complete_node,
            help="The primary: a libpq connection string, or a configured node's name; else it is found.",
        ),
    ] = None,
    config: Config = None,
    database: Databases = None,
    table: Tables = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Not these; named in the report.")
    ] = None,
    catalogs: Annotated[
        bool | None, typer.Option("--catalogs/--no-catalogs", help="Whether system catalogs are sealed (yes).")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=64, help="Connections that digest at the same time (2).")
    ] = None,
    max_age: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="How long the snapshot may hold back vacuum (2h)."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the manifest is kept; else beside the history.")
    ] = None,
    dump: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take a pg_dump of one database under the same snapshot.")
    ] = None,
    dump_format: Annotated[DumpForm, typer.Option(help="How the dump is written.")] = DumpForm.CUSTOM,
    format: ReportFormat = Format.HUMAN,  # noqa: A002 - the option's name
    output: Output = None,
    events: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what happens as JSON lines; - is standard output.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, and only the verdict.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List what is not sealed by design too.")] = False,
    no_store: Annotated[bool, typer.Option("--no-store", help="Keep no record of this run.")] = False,
) -> None:
    """Fix what the primary holds at a restore point, so that a later trial restore can be compared with it.

    Makes a restore point in the WAL and digests every row under one snapshot; never blocks a writer, but
    with --dump DDL waits for pg_dump. The role needs EXECUTE on pg_create_restore_point beside what an audit needs.
    """
    from replcheck.cli.seal_run import seal_and_report

    arguments = SealArguments(
        primary=primary,
        config=config,
        databases=tuple(database or ()),
        tables=tuple(table or ()),
        excludes=tuple(exclude or ()),
        catalogs=catalogs,
        jobs=jobs,
        max_age=max_age,
        folder=folder,
        dump=dump,
        dump_format=dump_format,
        format=format,
        output=output,
        events=events,
        quiet=quiet,
        verbose=verbose,
        no_store=no_store,
    )
    raise typer.Exit(int(seal_and_report(arguments)))
