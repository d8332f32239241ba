"""The options of `replcheck drill`; what happens then is in `drill_run`, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated

import typer

from replcheck.cli.arguments import DrillArguments
from replcheck.cli.completion import complete_backup, complete_layer, complete_node
from replcheck.cli.options import Config, Format, Output, ReportFormat


def drill(
    backup: Annotated[
        str | None,
        typer.Argument(metavar="BACKUP", autocompletion=complete_backup, help="Name of a configured backup."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="KIND:PATH",
            help="Instead, a backup that no configuration names: base:, snapshot:, dump: or pgbackrest:STANZA.",
        ),
    ] = None,
    wal: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The WAL archive of --from base: or snapshot:.")
    ] = None,
    globals: Annotated[  # noqa: A002 - the option's name
        Path | None,
        typer.Option(metavar="FILE", help="The roles of --from dump:, as pg_dumpall --globals-only writes them."),
    ] = None,
    copy: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Which of its backups: a folder, file or label; the newest.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Each of its backups in turn.")] = False,
    target: Annotated[
        str | None,
        typer.Option(metavar="TARGET", help="latest, a time, an LSN, a restore point's name, or seal:ID (latest)."),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(metavar="DIR", envvar="REPLCHECK_SCRATCH", help="Where the copy is restored, and removed again."),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER", autocompletion=complete_layer, help="Without this layer of proof, it is not proven."
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", autocompletion=complete_layer, help="Only these layers of proof."),
    ] = None,
    primary: Annotated[
        str | None,
        typer.Option(
            metavar="DSN", autocompletion=complete_node, help="Compare the rows with this running primary too."
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the copy running, and say how to connect.")] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Only remove what drills that were killed or kept left, and end.")
    ] = False,
    config: Config = None,
    format: ReportFormat = Format.HUMAN,  # noqa: A002 - the option's name
    output: Output = None,
    events: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what happens as JSON lines; - is standard output.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, and only the verdict.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every difference, with times.")] = False,
    no_store: Annotated[bool, typer.Option("--no-store", help="Keep no record of this run.")] = False,
) -> None:
    """Prove that a backup restores: bring it back in a scratch server, find the right rows, measure, remove it.

    The backup is only read. The scratch server listens on no network, connects to no upstream and no foreign
    server, and is removed whatever happens.
    """
    from replcheck.cli.drill_run import drill_and_report

    arguments = DrillArguments(
        backup=backup,
        source=source,
        wal=wal,
        globals=globals,
        copy=copy,
        every=every,
        target=target,
        scratch=scratch,
        require=tuple(require or ()),
        layers=tuple(layer or ()),
        primary=primary,
        keep=keep,
        clean=clean,
        config=config,
        format=format,
        output=output,
        events=events,
        quiet=quiet,
        verbose=verbose,
        no_store=no_store,
    )
    raise typer.Exit(int(drill_and_report(arguments)))
