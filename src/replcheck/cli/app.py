"""The Typer application: which commands there are, and the options that stand before them."""

from importlib import import_module
from importlib.util import find_spec
from typing import Annotated

import typer

from replcheck.cli.audit import audit
from replcheck.cli.check import check
from replcheck.cli.demo import demo
from replcheck.cli.doctor import doctor
from replcheck.cli.drill import drill
from replcheck.cli.history import history_app
from replcheck.cli.init import init
from replcheck.cli.report import report
from replcheck.cli.schema import schema
from replcheck.cli.seal import seal
from replcheck.cli.selftest import selftest
from replcheck.cli.watch import watch

_EPILOG = (
    "Exit status: 0 proven (consistent), 1 partial (inconclusive), 2 refuted (diverged), 3 unchecked, and every error."
)
_DRILL_EPILOG = (
    "Exit status: 0 restored and its rows proven, 1 restored but not every row compared, 2 refuted, 3 could not check."
)
_CHECK_EPILOG = "Exit status: 0 every control met, 1 at risk or waived, 2 breached, 3 unchecked, and every error."
_SEAL_EPILOG = "Exit status: 0 sealed, 1 sealed in part, 3 not sealed, and every error."

app = typer.Typer(
    name="replcheck",
    help="Prove that PostgreSQL replicas are copies, and that backups restore.",
    epilog=_EPILOG,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from replcheck.cli.version import version_text

        typer.echo(version_text())
        raise typer.Exit


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - read by its callback
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the versions and exit.")
    ] = False,
    debug: Annotated[  # noqa: ARG001 - taken out of the arguments before they come here
        bool, typer.Option("--debug", help="Show where an error came from; also REPLCHECK_DEBUG=1.")
    ] = False,
) -> None:
    """Prove that PostgreSQL replicas are copies, and that backups restore."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command(short_help="See a real cluster audited, broken and audited again.")(demo)
app.command(short_help="Prove that every replica is a copy of its primary.", epilog=_EPILOG)(audit)
app.command(short_help="Fix what the primary holds, so that a restore can be compared with it.", epilog=_SEAL_EPILOG)(
    seal
)
app.command(short_help="Prove that a backup restores, with the right rows.", epilog=_DRILL_EPILOG)(drill)
app.command(short_help="Watch a cluster live, and record what happens to it.")(watch)
app.command(short_help="Evaluate every control of the policy, for cron.", epilog=_CHECK_EPILOG)(check)
app.command(short_help="Write a configuration from what the servers tell.")(init)
app.command(short_help="Say what an audit needs and lacks on each node, and what it costs.")(doctor)
app.command(short_help="Plant every known difference and count those that are seen.", epilog=_EPILOG)(selftest)
app.add_typer(history_app, name="history")
app.command(short_help="Write the report of a past run again, or the sum of a period.")(report)
app.command(short_help="Print the JSON schemas of what replcheck writes and reads.")(schema)
if find_spec("replcheck.cli.lab") is not None:
    app.add_typer(import_module("replcheck.cli.lab").lab_app, name="lab")
