"""The command line: arguments to a configuration, to a run, to a report, to an exit status.

Standard output carries data only. Nothing heavy is imported before a command needs it: `replcheck --help` must stay
quick.
"""

from replcheck.cli.main import main

__all__ = ["main"]
