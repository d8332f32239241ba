"""The options of `replcheck init`; what happens then is in `init_run`, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    primary: Annotated[
        str | None,
        typer.Option(metavar="DSN", help="The primary, or any node: a standby leads to its primary."),
    ] = None,
    replica: Annotated[
        list[str] | None,
        typer.Option(metavar="DSN", help="A replica that can't be found from the primary; once for each."),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="NAME", help="The cluster's name in reports and in the history.")
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")] = Path("replcheck.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file where there is one already.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing, on a terminal either.")] = False,
) -> None:
    """Write a commented configuration from what a cluster's servers tell; only reads on them.

    On a terminal it asks for what it could not find out. Passwords are never written: they belong in the password file.
    """
    from replcheck.cli.init_run import InitArguments, init_and_report

    arguments = InitArguments(
        primary=primary, replicas=tuple(replica or ()), cluster=cluster, output=output, force=force, yes=yes
    )
    raise typer.Exit(int(init_and_report(arguments)))
