"""`replcheck init` from its options to what it printed: 0 where an audit can run with the file, else 3."""

import io
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import typer

from replcheck.cli.display import Display
from replcheck.errors import Interrupted, ReplcheckError, UsageError
from replcheck.model.names import printable
from replcheck.model.outcome import ExitStatus
from replcheck.postgres import dsn
from replcheck.runs.discover import Words, without_place
from replcheck.runs.init import Ask, Initialized, InitRequest, initialize

_ADDRESSES = ("PGHOST", "PGHOSTADDR", "PGSERVICE")


@dataclass(frozen=True, slots=True, kw_only=True)
class InitArguments:
    """The options as they were given."""

    primary: str | None
    replicas: tuple[str, ...]
    cluster: str | None
    output: Path
    force: bool
    yes: bool

    def __repr__(self) -> str:
        return "InitArguments()"


def init_and_report(arguments: InitArguments) -> ExitStatus:
    """Write the configuration and say what to do next; raise ReplcheckError where nothing useful could be written."""
    display = Display(quiet=False)
    ask = None if arguments.yes or not _on_a_terminal() else _ask
    request = InitRequest(
        given=_given(arguments, ask), path=arguments.output, cluster=arguments.cluster, replace=arguments.force
    )
    written = initialize(request, ask=ask, tell=display.note)
    _show(written)
    if not written.complete:
        raise ReplcheckError(
            f"{written.path} is not complete: {_lack(written)}",
            hint="Complete it, or name each replica with --replica DSN and replace the file with --force.",
        )
    return display.heard(ExitStatus.PROVEN)


def _given(arguments: InitArguments, ask: Ask | None) -> tuple[tuple[str, Words], ...]:
    primary = arguments.primary
    if primary is None and not arguments.replicas:
        if ask is not None:
            primary = ask("Connection string of the primary, or of any node (no password)", "")
        elif not any(os.environ.get(variable) for variable in _ADDRESSES):
            raise UsageError("no server to ask", hint="Name the primary, or any node, with --primary DSN.")
    flagged = [("primary", "--primary", primary or "")] if primary is not None or not arguments.replicas else []
    for number, text in enumerate(arguments.replicas, start=1):
        flagged.append((f"replica{number}", f"--replica (number {number})", text))
    given: list[tuple[str, Words]] = []
    for name, flag, text in flagged:
        # What a replica's string leaves out is as in the first one.
        own = dsn.words_of(text, {} if given else os.environ, origin=flag)
        words = without_place(given[0][1]) | own if given else own
        hosts = dsn.single_hosts(words)
        given += [(name if number == 1 else f"{name}-{number}", host) for number, host in enumerate(hosts, start=1)]
    return tuple(given)


def _on_a_terminal() -> bool:
    try:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
    except (AttributeError, ValueError):
        # Closed before the program began.
        return False
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    return True


def _ask(question: str, default: str) -> str:
    """Ask on standard error, since standard output is for results."""
    sys.stderr.write(f"{question}{f' [{default}]' if default else ''}: ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        raise Interrupted("nobody answers", hint="Ask nothing with --yes.")
    return answer.strip() or default


def _show(written: Initialized) -> None:
    typer.echo(f"wrote {printable(str(written.path))}: cluster {written.cluster}")
    for name, role, address in written.nodes:
        typer.echo(f"  {name:12} {role.value:8} {printable(address)}")
    for name in written.missing:
        typer.echo(f"  {name:12} standby  address not known; in the file as a comment")
    if written.complete:
        config = shlex.quote(str(written.path))
        typer.echo("next:")
        for command in ("doctor", "audit --plan", "audit"):
            typer.echo(f"  replcheck {command} --config {config}")


def _lack(written: Initialized) -> str:
    return "no replica was found at an address" if written.missing else "no replica was found"
