"""`replcheck watch` from its options to a screen, or to lines: whichever it is, is loaded then, and nothing else.

On a terminal the screen comes first. The configuration, the servers and the history take three times as long to load as
the screen itself, and are loaded behind it; what keeps a watch from beginning ends it, and is told as ever.
"""

import gc
import os
import sys

from replcheck.cli.arguments import WatchArguments
from replcheck.cli.streams import to_stdout
from replcheck.errors import UsageError
from replcheck.model.outcome import ExitStatus


def start(arguments: WatchArguments) -> ExitStatus:
    """Watch as the options ask, until the user leaves; raise the error that keeps it from watching."""
    _require_sense(arguments)
    if not _on_screen(arguments):
        from replcheck.cli.watch_run import watch_and_tell

        return watch_and_tell(arguments)
    gc.disable()  # until the screen is there: most of what its library makes when it is loaded stays
    from replcheck.cli.watch_screen import show

    return show(arguments)


def _on_screen(arguments: WatchArguments) -> bool:
    """Return whether the screen is shown: on a terminal that can draw one, unless lines were asked for."""
    lines = arguments.headless or arguments.plain or to_stdout(arguments.events)
    return not lines and sys.stdout.isatty() and sys.stdin.isatty() and os.environ.get("TERM") not in {None, "dumb"}


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
