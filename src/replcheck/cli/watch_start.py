"""`replcheck watch` from its options to a screen, or to lines: whichever it is, is loaded then, and nothing else.

On a terminal the screen comes first. What knows the configuration's keys, the servers and the history takes three times
as long to load as the screen itself, and is loaded behind it; what keeps a watch from beginning ends it, and is told as
ever. What is quick to see is looked at before: whether there is a cluster at all, and whether its file can be read.
"""

import gc
import os
import sys

from replcheck.cli.arguments import WatchArguments
from replcheck.cli.streams import to_stdout
from replcheck.config import VARIABLE, find_file, look_over
from replcheck.errors import UsageError
from replcheck.model.outcome import ExitStatus


def start(arguments: WatchArguments) -> ExitStatus:
    """Watch as the options ask, until the user leaves; raise the error that keeps it from watching."""
    _require_sense(arguments)
    _require_files(arguments)
    if not _on_screen(arguments):
        from replcheck.cli.watch_run import watch_and_tell

        return watch_and_tell(arguments)
    gc.disable()  # until the screen is there: most of what its library makes when it is loaded stays
    from replcheck.cli.watch_screen import show

    return show(arguments)


def _on_screen(arguments: WatchArguments) -> bool:
    """Return whether the screen is shown: on a terminal that can draw one, unless lines were asked for."""
    lines = arguments.headless or arguments.plain or to_stdout(arguments.events)
    # What draws the screen writes it to standard error.
    terminal = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    return not lines and terminal and os.environ.get("TERM") not in {None, "dumb"}


def _require_sense(arguments: WatchArguments) -> None:
    """Raise UsageError where two options contradict one another."""
    together = {
        "--headless and --plain": arguments.headless and arguments.plain,
        "--headless and --replay": arguments.headless and arguments.replay is not None,
        "--record and --replay": arguments.record is not None and arguments.replay is not None,
        "--replay and --primary": arguments.replay is not None and arguments.primary is not None,
        "--store and --no-store": arguments.store is not None and arguments.no_store,
    }
    for pair, given in together.items():
        if given:
            raise UsageError(f"{pair} were given", hint="Give one of them.")


def _require_files(arguments: WatchArguments) -> None:
    """Raise UsageError or ConfigurationError where no cluster is named, or its file or the recording is none."""
    named = arguments.config is not None or bool(os.environ.get(VARIABLE))
    if arguments.replay is not None:
        from replcheck.watch.replay import read_head

        read_head(arguments.replay)
    elif not named and (arguments.primary or arguments.replicas):
        return
    path = find_file(arguments.config, os.environ)
    if path is not None:
        look_over(path)
    elif arguments.replay is None:
        raise UsageError(
            "no cluster to watch",
            hint="Give --primary DSN and --replica DSN, or a configuration with --config FILE.",
        )
