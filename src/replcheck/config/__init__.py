"""Reads one TOML file into one frozen model; knows no servers, and keeps connection strings as they are written.

The model takes longer to load than most of replcheck: it comes with the first file that is read.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from replcheck.config.places import VARIABLE, find_file, lookup_places

if TYPE_CHECKING:
    from replcheck.config.model import Configuration

__all__ = ["VARIABLE", "find_file", "load", "look_over", "lookup_places"]


def load(path: Path) -> "Configuration":
    """Read one file; raise ConfigurationError naming the file and the line or the key's path."""
    from replcheck.config.files import read

    return read(path)


def look_over(path: Path) -> None:
    """Raise ConfigurationError for a file that cannot be read or is no TOML; quick, and no judgement of its keys."""
    from replcheck.config.parsing import parsed

    parsed(path)
