"""The options of `replcheck audit`; what happens then is in `audit_run`, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated

import typer

from replcheck.audit.options import Level, Pacing
from replcheck.cli.arguments import AuditArguments
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


def audit(
    primary: Primary = None,
    replica: Replicas = None,
    config: Config = None,
    level: Annotated[
        Level | None,
        typer.Option(envvar="REPLCHECK_LEVEL", help="How exactly rows are compared (exact)."),
    ] = None,
    jobs: Jobs = None,
    database: Databases = None,
    table: Tables = None,
    exclude: Excludes = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="FILTER", help="Only these rows: 'RELATION: boolean expression'; once for each relation."),
    ] = None,
    cross_check: Annotated[
        str | None,
        typer.Option(metavar="N%", help="Stream this share of the chunks to this machine and compare it here too."),
    ] = None,
    catalogs: Catalogs = None,
    indexes: Annotated[
        bool | None,
        typer.Option(
            "--indexes/--no-indexes", help="Whether btree indexes are checked against their tables, by amcheck (no)."
        ),
    ] = None,
    max_snapshot_age: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            envvar="REPLCHECK_MAX_SNAPSHOT_AGE",
            help="How long one snapshot may hold back vacuum on the primary (60s).",
        ),
    ] = None,
    node_timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            envvar="REPLCHECK_NODE_TIMEOUT",
            help="How long to wait for a node that went away (30s).",
        ),
    ] = None,
    pace: Annotated[
        Pacing | None,
        typer.Option(envvar="REPLCHECK_PACE", help="How much of the servers to take (default)."),
    ] = None,
    pause_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT",
            help="Hold still beyond lag=64MB, active_clients=40, xmin_age=1000000, checkpoints_requested=2.",
        ),
    ] = None,
    pause_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Hold still while this file exists; also SIGUSR1, SIGUSR2, key p."),
    ] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="End at the first divergence.")] = False,
    time_budget: Annotated[
        str | None, typer.Option(metavar="DURATION", help="End then; what is not proven by then is inconclusive.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Build upon what audits that ended early have proven within a day.")
    ] = False,
    format: ReportFormat = Format.HUMAN,  # noqa: A002 - the option's name
    output: Output = None,
    events: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what happens as JSON lines; - is standard output.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, and only the verdict.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every relation and alignment.")] = False,
    no_store: Annotated[bool, typer.Option("--no-store", help="Keep no record of this run.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only show what an audit would read and need, and how long; reads no row.")
    ] = False,
) -> None:
    """Prove, row by row, that every replica is a consistent copy of its primary; only reads.

    Nodes come from the configuration, or from --primary and --replica. Passwords belong in the password file.
    """
    from replcheck.cli.audit_run import audit_and_report

    arguments = AuditArguments(
        primary=primary,
        replicas=tuple(replica or ()),
        config=config,
        level=level,
        jobs=jobs,
        databases=tuple(database or ()),
        tables=tuple(table or ()),
        excludes=tuple(exclude or ()),
        where=tuple(where or ()),
        cross_check=cross_check,
        catalogs=catalogs,
        indexes=indexes,
        max_snapshot_age=max_snapshot_age,
        node_timeout=node_timeout,
        pace=pace,
        pause_if=tuple(pause_if or ()),
        pause_file=pause_file,
        fail_fast=fail_fast,
        time_budget=time_budget,
        resume=resume,
        format=format,
        output=output,
        events=events,
        quiet=quiet,
        verbose=verbose,
        no_store=no_store,
        plan=plan,
    )
    raise typer.Exit(int(audit_and_report(arguments)))
