"""The options of `replcheck demo`; what happens then is in `demo_run`, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    major: Annotated[
        int | None, typer.Option(metavar="VERSION", help="PostgreSQL's major version; the newest one found.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the cluster running, its standby broken, as the lab's `demo`.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where the servers live, instead of the lab's folder.")
    ] = None,
) -> None:
    """Start a real primary and two standbys, audit them, break one, audit again, and remove it all.

    It ends with status 0 where the audits said exactly what they had to say, else with 3.
    """
    from replcheck.cli.demo_run import demo_and_tell

    raise typer.Exit(int(demo_and_tell(major=major, keep=keep, directory=directory)))
