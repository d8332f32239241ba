"""The command line: arguments to a configuration, to a run, to a report, to an exit status.

Standard output carries data only. Nothing heavy is imported before a command needs it: `replcheck --help` must stay
quick.
"""

import os

# What other packages would add to every model costs a look into each of them, and none may touch a configuration.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from replcheck.cli.main import main

__all__ = ["main"]
