"""`replcheck selftest` from its options to its exit status: the report is standard output, the steps standard error."""

import io
import os
import sys
from pathlib import Path

from rich.console import Console

from replcheck.cli.demo_run import forget_other_servers
from replcheck.cli.display import Display
from replcheck.cli.options import Format
from replcheck.config import VARIABLE, find_file, load
from replcheck.model.outcome import ExitStatus
from replcheck.model.selftest import SelftestResult
from replcheck.report.selftest import print_selftest, selftest_json
from replcheck.report.style import Style
from replcheck.runs.selftest import NAME, SelftestOptions, run_selftest
from replcheck.runs.signing import UNSIGNED, Signing, signing_of
from replcheck.store import default_path


def selftest_and_report(
    *,
    major: int | None,
    quick: bool,
    format_: Format,
    keep: bool,
    directory: Path | None,
    config: Path | None,
    no_store: bool,
) -> ExitStatus:
    """Run the self-test, print its report and return the exit status; raise the error that kept it from its end."""
    signing = _signing(config)
    forget_other_servers()
    display = Display(quiet=False)
    finished = run_selftest(
        SelftestOptions(major=major, root=directory, quick=quick, keep=keep),
        step=lambda what: display.note(f"selftest: {what}"),
        store=None if no_store else default_path(NAME, os.environ),
        signing=signing,
        tell=display.note,
    )
    try:
        sys.stdout.write(selftest_json(finished.result) if format_ is Format.JSON else _rendered(finished.result))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if finished.kept:
        down = f"replcheck lab down --name {finished.kept}"
        display.note(f"the cluster {finished.kept} still runs, broken as it is; remove it with: {down}")
    if finished.unrecorded:
        display.note(f"warning: this run is not recorded: {finished.unrecorded}")
    return display.heard(finished.record.exit_status)


def _signing(config: Path | None) -> Signing:
    """Return what a configuration that is named says; one that merely lies about is of another cluster."""
    if config is None and not os.environ.get(VARIABLE):
        return UNSIGNED
    path = find_file(config, os.environ)
    return signing_of(load(path)) if path else UNSIGNED


def _rendered(result: SelftestResult) -> str:
    like = Console(file=sys.stdout)
    page = io.StringIO()
    console = Console(
        file=page,
        force_terminal=like.is_terminal,
        color_system=None if like.no_color else like.color_system,  # type: ignore[arg-type]
        no_color=like.no_color,
        width=max(like.width, 80),
        highlight=False,
    )
    print_selftest(result, console, Style(ascii_only=not like.encoding.startswith("utf")))
    return "".join(f"{line.rstrip()}\n" for line in page.getvalue().splitlines())
