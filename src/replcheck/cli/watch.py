"""The options of `replcheck watch`; what happens then is in `watch_start`, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated

import typer

from replcheck.cli.arguments import WatchArguments
from replcheck.cli.options import Config, Primary, Replicas


def watch(
    primary: Primary = None,
    replica: Replicas = None,
    config: Config = None,
    interval: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How often each node is asked, 0.1s to 60s (1s).")
    ] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="Record day and night without a screen, for a service manager.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print what happens as lines; so it is where no terminal is.")
    ] = False,
    scrub: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Prove everything over and over, each part once in this time."),
    ] = None,
    audits: Annotated[
        bool | None,
        typer.Option("--audits/--no-audits", help="Audit copies after a switch-over and when recreated (yes)."),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every sample to a new file, to be replayed.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show a recorded stream instead of a cluster.")
    ] = None,
    events: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what happens as JSON lines; - is standard output.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file of the history; else the configuration's.")
    ] = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="Keep nothing of what is seen.")] = False,
) -> None:
    """Watch a cluster live: copies, proofs, lag, recovery point, and what happens while nobody looks.

    Samples every node once a second, at a cost of less than 1 ms each, and records what it sees. Where a recorder is
    at work already, it is read instead.
    """
    from replcheck.cli.watch_start import start

    arguments = WatchArguments(
        primary=primary,
        replicas=tuple(replica or ()),
        config=config,
        interval=interval,
        headless=headless,
        plain=plain,
        replay=replay,
        record=record,
        scrub=scrub,
        audits=audits,
        events=events,
        store=store,
        no_store=no_store,
    )
    raise typer.Exit(int(start(arguments)))
