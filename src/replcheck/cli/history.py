"""The options of `replcheck history`; what happens then is in `history_run`, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated

import typer

from replcheck.cli.completion import complete_kind, complete_run
from replcheck.cli.options import Ending, Format

history_app = typer.Typer(
    help="List past runs, newest first.",
    short_help="List past runs, and show one.",
    invoke_without_command=True,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


Config = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The cluster's configuration, which names its history.")
]
Store = Annotated[Path | None, typer.Option(metavar="FILE", help="The file of the history itself.")]
FormatOption = Annotated[Format, typer.Option(envvar="REPLCHECK_FORMAT", help="How it is written.")]


@history_app.callback()
def history(
    context: typer.Context,
    config: Config = None,
    store: Store = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most so many runs.")] = 20,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION|DATE", help="Runs that began so long ago at most, or since then.")
    ] = None,
    outcome: Annotated[list[Ending] | None, typer.Option(help="Only runs that ended so; may be repeated.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", autocompletion=complete_kind, help="Only audit, drill, seal or selftest."),
    ] = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """List past runs, newest first: when, how long, which cluster, and how each ended.

    A run that was killed did not end, and is listed as such.
    """
    if context.invoked_subcommand is not None:
        context.obj = (config, store)
        return
    from replcheck.cli.history_run import Listed, list_history

    listed = Listed(limit=limit, since=since, endings=tuple(outcome or ()), kind=kind)
    raise typer.Exit(int(list_history(config, store, listed, format)))


@history_app.command()
def events(
    context: typer.Context,
    config: Config = None,
    store: Store = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most so many events.")] = 50,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION|DATE", help="What happened so long ago at most, or since then.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="DURATION|DATE", help="What happened longer ago, or before then.")
    ] = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """List what happened to the cluster while it was watched, newest first."""
    from replcheck.cli.history_run import show_events

    outer_config, outer_store = context.obj or (None, None)
    raise typer.Exit(int(show_events(config or outer_config, store or outer_store, since, until, limit, format)))


@history_app.command()
def show(
    context: typer.Context,
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", autocompletion=complete_run, help="The run's id, the beginning of it, or latest."
        ),
    ],
    config: Config = None,
    store: Store = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Show the record of one run."""
    from replcheck.cli.history_run import show_run

    outer_config, outer_store = context.obj or (None, None)
    raise typer.Exit(int(show_run(config or outer_config, store or outer_store, run, format)))
