"""The options of `replcheck evidence`; what happens then is in `evidence_run`, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated

import typer

from replcheck.cli.arguments import Chain
from replcheck.cli.completion import complete_run
from replcheck.cli.history import Config, FormatOption, Store
from replcheck.cli.options import Format

VERIFY_EPILOG = (
    "Exit status: 0 whole and vouched for, 1 nothing is wrong but not all is vouched for, 2 refuted, 3 cannot be read."
)

evidence_app = typer.Typer(
    help="Verify, export and annotate the chain of evidence that runs leave.",
    short_help="Verify, export and annotate the signed records of all runs.",
    invoke_without_command=True,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@evidence_app.callback()
def evidence(context: typer.Context) -> None:
    """Verify, export and annotate the chain of evidence that runs leave."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


Cluster = Annotated[str | None, typer.Option(metavar="NAME", help="Whose chain; needed where a history holds several.")]
PublicKeys = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="A public key to verify with; may be repeated. Else those of the configuration."),
]


@evidence_app.command(epilog=VERIFY_EPILOG)
def verify(
    file: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="An exported file; may be repeated, each follows the one before it."),
    ] = None,
    public_key: PublicKeys = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="SHA256", help="The SHA-256 of a record that was kept elsewhere: it must be there."),
    ] = None,
    reports: Annotated[
        bool, typer.Option("--reports", help="Compare the reports in the history with their records too.")
    ] = False,
    every_signature: Annotated[
        bool,
        typer.Option(
            "--every-signature", help="Rest on no record's word for an earlier one's signature; slow for long chains."
        ),
    ] = False,
    config: Config = None,
    store: Store = None,
    cluster: Cluster = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Find any record that was changed, removed, put in, reordered or cut off.

    Of an exported file it needs the file and the public key alone; without --file it verifies a history.
    """
    from replcheck.cli.evidence_run import Asked, verify_and_report

    asked = Asked(
        files=tuple(file or ()),
        keys=tuple(public_key or ()),
        head=head,
        reports=reports,
        every_signature=every_signature,
    )
    chain = Chain(config=config, store=store, cluster=cluster)
    raise typer.Exit(int(verify_and_report(chain, asked, format)))


@evidence_app.command()
def keys(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Where the private key goes; else output.signing_key."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Make none: show the id of the key that is there.")] = False,
    config: Config = None,
) -> None:
    """Make a pair of keys to sign evidence with, and show the id of the public one.

    The private key is readable by its owner alone; the public one lies beside it, as FILE.pub. Nothing is overwritten.
    """
    from replcheck.cli.evidence_run import make_keys

    raise typer.Exit(int(make_keys(config, file, show=show)))


@evidence_app.command()
def export(
    since: Annotated[
        str | None, typer.Option(metavar="DURATION|DATE", help="Only records that were made since then.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="DURATION|DATE", help="Only records made before then.")] = None,
    archive: Annotated[
        bool,
        typer.Option("--archive", help="Move the records made before --until there, under a signed checkpoint."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write them there instead of standard output.")
    ] = None,
    config: Config = None,
    store: Store = None,
    cluster: Cluster = None,
) -> None:
    """Write the records of a chain as one file, a record a line, which anybody can verify with the public key."""
    from replcheck.cli.evidence_run import Exporting, export_and_tell

    chain = Chain(config=config, store=store, cluster=cluster)
    asked = Exporting(since=since, until=until, archive=archive, output=output)
    raise typer.Exit(int(export_and_tell(chain, asked)))


@evidence_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An exported file.")],
    public_key: PublicKeys = None,
    config: Config = None,
    store: Store = None,
) -> None:
    """Take the records of an exported file into a history: a new one, or one that holds the beginning of the chain."""
    from replcheck.cli.evidence_run import import_and_tell

    raise typer.Exit(int(import_and_tell(Chain(config=config, store=store), file, tuple(public_key or ()))))


@evidence_app.command()
def note(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", autocompletion=complete_run, help="The run's id, the beginning of it, or latest."
        ),
    ] = None,
    record: Annotated[int | None, typer.Option(metavar="N", min=1, help="Instead, the record at this place.")] = None,
    reviewer: Annotated[str, typer.Option(metavar="NAME", help="Who says it.")] = "",
    text: Annotated[str, typer.Option(metavar="TEXT", help="What there is to say.")] = "",
    action: Annotated[str, typer.Option(metavar="TEXT", help="The corrective action that was taken.")] = "",
    config: Config = None,
    store: Store = None,
    cluster: Cluster = None,
) -> None:
    """Add a signed note to the record of a run. It is a record of its own, and changes none."""
    from replcheck.cli.evidence_run import Noted, add_and_tell

    chain = Chain(config=config, store=store, cluster=cluster)
    noted = Noted(run=run, record=record, reviewer=reviewer, text=text, action=action)
    raise typer.Exit(int(add_and_tell(chain, noted)))
