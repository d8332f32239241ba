"""The options of `replcheck lab`; what happens then is in `lab_run`, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated

import typer

from replcheck.cli.options import LoadKind
from replcheck.errors import UsageError

lab_app = typer.Typer(
    help="A playground: a real primary and its standbys on this machine, to write to, break and audit.",
    short_help="A real cluster on this machine to write to, break and audit.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


Name = Annotated[str, typer.Option(metavar="NAME", help="The cluster's name.")]
Dir = Annotated[
    Path | None, typer.Option("--dir", metavar="DIR", help="Where clusters live, instead of this user's usual folder.")
]
Database = Annotated[str, typer.Option(metavar="NAME", help="The database.")]
Seed = Annotated[int, typer.Option(help="Repeats the same choices.")]


@lab_app.command()
def up(
    standbys: Annotated[int, typer.Option(min=0, max=8, help="How many standbys.")] = 2,
    major: Annotated[
        int | None, typer.Option(metavar="VERSION", help="PostgreSQL's major version; the newest one found.")
    ] = None,
    checksums: Annotated[bool, typer.Option(help="Whether data pages carry checksums.")] = True,
    feedback: Annotated[bool, typer.Option(help="The standbys' hot_standby_feedback.")] = True,
    archive: Annotated[
        bool, typer.Option(help="Archive the WAL into the cluster's folder; it grows with what is written.")
    ] = False,
    patients: Annotated[
        int, typer.Option(min=0, help="Rows of the largest entity to begin with; 0 makes none.")
    ] = 2000,
    name: Name = "lab",
    directory: Dir = None,
) -> None:
    """Start a primary and its standbys, and say how to audit them."""
    from replcheck.cli import lab_run

    lab_run.up(
        lab_run.Place(directory, name),
        lab_run.Shape(
            standbys=standbys,
            major=major,
            checksums=checksums,
            feedback=feedback,
            archive=archive,
            patients=patients,
        ),
    )


@lab_app.command()
def status(
    name: Annotated[str | None, typer.Option(metavar="NAME", help="One cluster; all by default.")] = None,
    directory: Dir = None,
) -> None:
    """Show the clusters, their nodes, what writes to them and what was broken."""
    from replcheck.cli import lab_run

    lab_run.status(directory, name)


@lab_app.command()
def load(
    kind: Annotated[
        LoadKind, typer.Option(help="pgbench's own, or everything that trips checkers up.")
    ] = LoadKind.MIXED,
    rate: Annotated[float, typer.Option(min=0, help="Transactions per second; 0 is as many as possible.")] = 100,
    seconds: Annotated[float | None, typer.Option(min=0, help="How long; until interrupted by default.")] = None,
    writers: Annotated[int, typer.Option(min=1, max=50, help="Connections that write.")] = 4,
    seed: Seed = 0,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Note each acknowledged commit outside of the servers; see lab ledger.")
    ] = False,
    background: Annotated[bool, typer.Option("--background", help="Return at once and go on writing.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the load in the background.")] = False,
    database: Database = "postgres",
    name: Name = "lab",
    directory: Dir = None,
) -> None:
    """Write to the primary, steadily and reproducibly."""
    from replcheck.cli import lab_run

    place = lab_run.Place(directory, name)
    if stop:
        lab_run.stop_load(place)
        return
    work = lab_run.Load(
        kind=kind,
        rate=rate or None,
        seconds=seconds,
        writers=writers,
        seed=seed,
        database=database,
        ledger=ledger,
    )
    if background:
        lab_run.load_in_background(place, work)
    else:
        lab_run.load(place, work)


@lab_app.command("break")
def break_(
    fault: Annotated[str | None, typer.Argument(metavar="[FAULT]", help="What to do; see --list.")] = None,
    node: Annotated[str | None, typer.Option(metavar="NAME", help="To which node; the first standby.")] = None,
    database: Database = "postgres",
    relation: Annotated[
        str | None, typer.Option(metavar="SCHEMA.TABLE", help="To which table; one that no load writes to.")
    ] = None,
    seed: Seed = 0,
    list_: Annotated[bool, typer.Option("--list", help="List the faults and what each does.")] = False,
    name: Name = "lab",
    directory: Dir = None,
) -> None:
    """Do damage to one node, the way it happens in life."""
    from replcheck.cli import lab_run

    if list_:
        lab_run.list_faults()
        return
    if fault is None:
        raise UsageError("no fault was named", hint="List them with: replcheck lab break --list")
    lab_run.break_node(
        lab_run.Place(directory, name),
        lab_run.Damage(fault=fault, node=node, database=database, relation=relation, seed=seed),
    )


@lab_app.command()
def heal(
    node: Annotated[str | None, typer.Option(metavar="NAME", help="One node; all by default.")] = None,
    name: Name = "lab",
    directory: Dir = None,
) -> None:
    """Undo what was broken: resume, reconnect, start, or copy the node anew."""
    from replcheck.cli import lab_run

    lab_run.heal_nodes(lab_run.Place(directory, name), node)


@lab_app.command()
def failover(
    to: Annotated[str | None, typer.Option(metavar="NAME", help="Which standby; the most advanced one.")] = None,
    name: Name = "lab",
    directory: Dir = None,
) -> None:
    """Kill the primary and promote a standby; the others follow it."""
    from replcheck.cli import lab_run

    lab_run.take_over(lab_run.Place(directory, name), to, orderly=False)


@lab_app.command()
def switchover(
    to: Annotated[str | None, typer.Option(metavar="NAME", help="Which standby; the most advanced one.")] = None,
    name: Name = "lab",
    directory: Dir = None,
) -> None:
    """Stop the primary in an orderly way and promote a standby; all others follow it, the old primary too."""
    from replcheck.cli import lab_run

    lab_run.take_over(lab_run.Place(directory, name), to, orderly=True)


@lab_app.command()
def ledger(
    node: Annotated[str | None, typer.Option(metavar="NAME", help="Which node is asked; the primary.")] = None,
    database: Database = "postgres",
    name: Name = "lab",
    directory: Dir = None,
) -> None:
    """Say whether a node has lost a commit that was acknowledged while `lab load --ledger` wrote."""
    from replcheck.cli import lab_run

    lab_run.audit_ledger(lab_run.Place(directory, name), node, database)


@lab_app.command()
def down(
    name: Name = "lab",
    all_: Annotated[bool, typer.Option("--all", help="Remove every cluster of the folder.")] = False,
    directory: Dir = None,
) -> None:
    """Stop a cluster and remove everything of it, what a crash left too; nothing else is touched."""
    from replcheck.cli import lab_run

    lab_run.down(lab_run.Place(directory, name), everything=all_)
