"""The options of `replcheck doctor`; what happens then is in `doctor_run`, which is imported when it is needed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from replcheck.cli.audit import Format


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorArguments:
    """The options as they were given; None and empty mean that the configuration decides."""

    primary: str | None
    replicas: tuple[str, ...]
    config: Path | None
    jobs: int | None
    databases: tuple[str, ...]
    tables: tuple[str, ...]
    excludes: tuple[str, ...]
    catalogs: bool | None
    format: Format
    output: Path | None
    quiet: bool
    verbose: bool

    def __repr__(self) -> str:
        return "DoctorArguments()"


def doctor(
    primary: Annotated[
        str | None,
        typer.Option(metavar="DSN", help="The primary: a libpq connection string, or a configured node's name."),
    ] = None,
    replica: Annotated[
        list[str] | None, typer.Option(metavar="DSN", help="A replica, written alike; once for each.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The cluster's configuration; also REPLCHECK_CONFIG, ./replcheck.toml, ..."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=64, envvar="REPLCHECK_JOBS", help="Lanes of the audit to plan for (2)."),
    ] = None,
    database: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Only these databases; * and ? match.")
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only these: [[database.]schema.]relation; * and ? match."),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Not these, written alike.")] = None,
    catalogs: Annotated[
        bool | None, typer.Option("--catalogs/--no-catalogs", help="Whether system catalogs are to be compared (yes).")
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        Format, typer.Option(envvar="REPLCHECK_FORMAT", help="How the report is written.")
    ] = Format.HUMAN,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report there instead of standard output.")
    ] = None,
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
